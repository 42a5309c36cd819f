//! Secrets are compared in constant time, by `crypto::mac::equal`.

use kista::secret::SecretBytes;

fn main() {
    let secret = SecretBytes::copy_of(b"hunter2");
    let _same = secret == SecretBytes::copy_of(b"hunter2");
}
