//! Keys wrapped under keys: AES-256 key wrap with padding (RFC 5649, SP 800-38F §6.3), in which
//! keys are brought from elsewhere. What the vault wraps for itself is in `aead.rs`.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use zeroize::Zeroizing;

use super::OpenFailed;
use crate::secret::{SecretBytes, scrub_stack};

/// Wraps `key` under `kek` (RFC 5649 §4.1): up to 15 bytes longer, a multiple of 8.
///
/// # Panics
/// When there is no key, or one of 2 GiB; every caller's is a few bytes to a few KiB.
pub fn wrap(kek: &[u8; KEK_BYTES], key: &[u8]) -> Vec<u8> {
    let mut wrapped = vec![0; key.len() + 15];
    #[expect(clippy::expect_used, reason = "it refuses no bytes, and 2 GiB of them")]
    let length = keyed(kek).wrap_with_padding(key, &mut wrapped).expect("a key is neither").len();
    wrapped.truncate(length);
    scrub_stack();
    wrapped
}

/// Unwraps what [`wrap`] returned under the same `kek` (RFC 5649 §4.2).
///
/// # Errors
/// [`OpenFailed`] when the integrity check does not hold.
pub fn unwrap(kek: &[u8; KEK_BYTES], wrapped: &[u8]) -> Result<SecretBytes, OpenFailed> {
    // The check below is on bytes already decrypted: what is not a key is wiped here.
    let mut room = Zeroizing::new(vec![0; wrapped.len()]);
    let key =
        keyed(kek).unwrap_with_padding(wrapped, &mut room).map(|key| SecretBytes::copy_of(key));
    scrub_stack();
    key.map_err(|_| OpenFailed)
}

fn keyed(kek: &[u8; KEK_BYTES]) -> AesKek {
    #[expect(clippy::expect_used, reason = "the type has the cipher's length")]
    AesKek::new(&AES_256, kek).expect("the key has the cipher's length")
}

/// AES-256.
const KEK_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::{random, vectors};

    const WYCHEPROOF: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/wycheproof/aes_kwp.json"));

    #[test]
    fn the_wrap_agrees_with_wycheproof() {
        let file = vectors::parse(WYCHEPROOF);
        for (_, test) in vectors::wycheproof(&file) {
            let kek = vectors::array(&test["key"]);
            let (key, wrapped) = (vectors::bytes(&test["msg"]), vectors::bytes(&test["ct"]));
            let opened = unwrap(&kek, &wrapped);
            match test["result"].as_str().unwrap() {
                "invalid" => assert!(opened.is_err(), "{test}"),
                // Short keys, which some implementations refuse.
                "valid" | "acceptable" => {
                    assert!(opens_to(&opened, &key), "{test}");
                    assert_eq!(wrap(&kek, &key), wrapped, "{test}");
                }
                other => panic!("result {other}"),
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let kek = random::array();
        let wrapped = wrap(&kek, &[7; 33]);
        for bit in 0..8 * wrapped.len() {
            let mut other = wrapped.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(unwrap(&kek, &other).is_err());
        }
        for length in 0..wrapped.len() {
            assert!(unwrap(&kek, &wrapped[..length]).is_err());
        }
        assert!(unwrap(&random::array(), &wrapped).is_err());
    }

    proptest! {
        #[test]
        fn what_was_wrapped_unwraps(key in prop::collection::vec(any::<u8>(), 1..100)) {
            let kek = random::array();
            let wrapped = wrap(&kek, &key);
            prop_assert_eq!(wrapped.len() % 8, 0);
            prop_assert!(wrapped.len() <= key.len() + 15);
            prop_assert!(opens_to(&unwrap(&kek, &wrapped), &key));
        }
    }

    fn opens_to(opened: &Result<SecretBytes, OpenFailed>, key: &[u8]) -> bool {
        opened.as_ref().is_ok_and(|opened| opened.expose(|bytes| bytes == key))
    }
}
