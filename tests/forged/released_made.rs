//! The gate's own makers are not for others.

use kista::gate::{RawReply, Released};

fn main() {
    let _answer = Released::of_reply("id", &RawReply::empty(), None);
}
