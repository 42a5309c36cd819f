//! A secret has one owner, who wipes it.

use kista::secret::SecretBytes;

fn main() {
    let secret = SecretBytes::copy_of(b"hunter2");
    let _twin = secret.clone();
}
