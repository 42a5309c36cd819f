//! A secret has no text.

use kista::secret::SecretString;

fn main() {
    let secret = SecretString::copy_of("hunter2");
    println!("{secret}");
}
