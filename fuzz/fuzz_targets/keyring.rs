//! The keyring as the seal file holds it: what is decoded encodes to the same bytes.
#![no_main]

use kista::{barrier::Keyring, secret::SecretBytes, storage::StoreId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The store's id stands in the keyring; the first bytes say which store is asked for.
    let Some((store_id, encoded)) = bytes.split_first_chunk::<16>() else { return };
    if let Ok(keyring) = Keyring::decode(&StoreId(*store_id), &SecretBytes::copy_of(encoded)) {
        keyring.encode().expose(|again| assert_eq!(again, encoded));
    }
});
