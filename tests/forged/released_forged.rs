//! Only the gate makes an answer that may leave, after it has written the line.

use kista::gate::Released;

fn main() {
    let _answer = Released {
        status: 200,
        notes: Default::default(),
        body: Default::default(),
        is_of_useless_input: false,
    };
}
