//! Only `gate::admit` makes a permit, after it has asked the policy and written the line.

use kista::gate::Permit;

fn main() {
    let _permit = Permit {};
}
