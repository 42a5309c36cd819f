//! A key enters its own algorithm only.

use kista::{
    crypto::{mac::Mac, random, AesSiv512},
    secret::Key,
};

fn main() {
    let key: Key<AesSiv512> = random::key();
    let _mac = Mac::new(&key);
}
