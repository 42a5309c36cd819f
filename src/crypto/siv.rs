//! Deterministic authenticated encryption for names: equal inputs give equal outputs, and that is
//! all a reader learns (RFC 5297).

use std::fmt;

use aes_siv::{KeyInit, siv::Aes256Siv};

use super::aead::OpenFailed;
use crate::secret::{Algorithm, Key, SecretBytes, scrub_stack};

/// A 64-byte key of AEAD_AES_SIV_CMAC_512: 32 bytes for the MAC, 32 for CTR (RFC 5297 §6.3).
#[derive(Debug)]
pub enum AesSiv512 {}

impl Algorithm for AesSiv512 {
    const KEY_BYTES: usize = 64;
    const NAME: &'static str = "AES-256-SIV";
}

/// AES-256-SIV under one key, with one associated-data component.
pub struct Siv {
    key: Key<AesSiv512>,
}

impl Siv {
    /// Copies `key`.
    pub fn new(key: &Key<AesSiv512>) -> Self {
        Self { key: key.copy() }
    }

    /// Encrypts `plaintext` with S2V over `ad` and the plaintext (RFC 5297 §2.6); returns the
    /// synthetic IV, which is also the tag, and a ciphertext of the plaintext's length.
    pub fn seal(&self, ad: &[u8], plaintext: &[u8]) -> ([u8; IV_BYTES], Vec<u8>) {
        let sealed = self.seal_below(ad, plaintext);
        // The cipher holds its key plain and is moved when it is made.
        scrub_stack();
        sealed
    }

    #[inline(never)]
    fn seal_below(&self, ad: &[u8], plaintext: &[u8]) -> ([u8; IV_BYTES], Vec<u8>) {
        let mut ciphertext = plaintext.to_vec();
        let iv = self.cipher().encrypt_inout_detached([ad], ciphertext.as_mut_slice().into());
        #[expect(clippy::expect_used, reason = "only more than 126 headers are refused")]
        let iv = iv.expect("one header is within the limit");
        (iv.into(), ciphertext)
    }

    /// Opens what [`seal`](Self::seal) returned for the same `ad` (RFC 5297 §2.7).
    ///
    /// # Errors
    /// [`OpenFailed`] when the synthetic IV does not hold; no plaintext byte leaves then.
    pub fn open(
        &self,
        ad: &[u8],
        siv: &[u8; IV_BYTES],
        ciphertext: &[u8],
    ) -> Result<SecretBytes, OpenFailed> {
        let opened = self.open_below(ad, siv, ciphertext);
        scrub_stack();
        opened
    }

    #[inline(never)]
    fn open_below(
        &self,
        ad: &[u8],
        siv: &[u8; IV_BYTES],
        ciphertext: &[u8],
    ) -> Result<SecretBytes, OpenFailed> {
        let mut outcome = Ok(());
        let plaintext = SecretBytes::build(ciphertext.len(), |buffer| {
            buffer.copy_from_slice(ciphertext);
            outcome = self.cipher().decrypt_inout_detached([ad], buffer.into(), siv.into());
        });
        outcome.map(|()| plaintext).map_err(|_| OpenFailed)
    }

    /// A fresh instance for each call: the crate's keeps its CMAC state behind `&mut`, and a shared
    /// one needs a lock to save little (1.0 against 0.8 us a name, since CTR expands its key
    /// anyway).
    fn cipher(&self) -> Aes256Siv {
        #[expect(clippy::expect_used, reason = "Key<AesSiv512> always holds 64 bytes")]
        self.key.expose(|bytes| {
            Aes256Siv::new_from_slice(bytes).expect("the key has the cipher's length")
        })
    }
}

impl fmt::Debug for Siv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Siv").finish_non_exhaustive()
    }
}

/// The synthetic IV is one AES block (RFC 5297 §2.6).
const IV_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use aes_siv::siv::Aes128Siv;
    use proptest::prelude::*;
    use zeroize::ZeroizeOnDrop;

    use super::*;
    use crate::crypto::{random, vectors};

    const FORMAT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/format.json"));
    const RFC5297: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/rfc5297.json"));
    const WYCHEPROOF: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/wycheproof/aead_aes_siv_cmac.json"
    ));

    #[test]
    fn names_agree_with_the_format() {
        let names = &vectors::parse(FORMAT)["names"];
        let siv = Siv::new(&vectors::key(&names["key"]));
        for segment in vectors::list(&names["segments"]) {
            let parent = vectors::bytes(&segment["parent"]);
            let padded = vectors::bytes(&segment["padded"]);
            let (iv, ciphertext) = siv.seal(&parent, &padded);
            assert_eq!(iv, vectors::array(&segment["siv"]), "{segment}");
            assert_eq!(ciphertext, vectors::bytes(&segment["ciphertext"]), "{segment}");
            assert!(opens_to(&siv.open(&parent, &iv, &ciphertext), &padded));
        }
    }

    /// With 256-bit keys, which the RFC's vectors have; the code is the same for both.
    #[test]
    fn the_mode_agrees_with_the_rfc() {
        let file = vectors::parse(RFC5297);
        for test in vectors::list(&file["tests"]) {
            let mut siv = Aes128Siv::new_from_slice(&vectors::bytes(&test["key"])).unwrap();
            let ad: Vec<_> = vectors::list(&test["ad"]).iter().map(vectors::bytes).collect();
            let mut buffer = vectors::bytes(&test["plaintext"]);
            let iv = siv.encrypt_inout_detached(&ad, buffer.as_mut_slice().into()).unwrap();
            assert_eq!(iv.as_slice(), vectors::bytes(&test["siv"]), "{}", test["name"]);
            assert_eq!(buffer, vectors::bytes(&test["ciphertext"]), "{}", test["name"]);
        }
    }

    /// The nonce is the last component of associated data (RFC 5297 §3).
    #[test]
    fn the_cipher_agrees_with_wycheproof() {
        let file = vectors::parse(WYCHEPROOF);
        for (_, test) in vectors::wycheproof(&file) {
            let siv = Siv::new(&vectors::key(&test["key"]));
            let ad = [vectors::bytes(&test["aad"]), vectors::bytes(&test["iv"])];
            let tag: [u8; IV_BYTES] = vectors::array(&test["tag"]);
            let mut buffer = vectors::bytes(&test["ct"]);
            let opened =
                siv.cipher().decrypt_inout_detached(&ad, buffer.as_mut_slice().into(), &tag.into());
            assert_eq!(opened.is_ok(), vectors::is_valid(test), "{test}");
            if opened.is_ok() {
                assert_eq!(buffer, vectors::bytes(&test["msg"]), "{test}");
                let again = siv.cipher().encrypt_inout_detached(&ad, buffer.as_mut_slice().into());
                assert_eq!(again.unwrap().as_slice(), tag, "{test}");
                assert_eq!(buffer, vectors::bytes(&test["ct"]), "{test}");
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let siv = Siv::new(&random::key());
        let (iv, ciphertext) = siv.seal(b"parent", b"some name");
        for bit in 0..8 * IV_BYTES {
            let mut other = iv;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(siv.open(b"parent", &other, &ciphertext).is_err());
        }
        for bit in 0..8 * ciphertext.len() {
            let mut other = ciphertext.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(siv.open(b"parent", &iv, &other).is_err());
        }
        assert!(siv.open(b"Parent", &iv, &ciphertext).is_err());
        assert!(siv.open(b"parent", &iv, &ciphertext[1..]).is_err());
        assert!(Siv::new(&random::key()).open(b"parent", &iv, &ciphertext).is_err());
    }

    #[test]
    fn the_cipher_is_wiped_when_dropped() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<Aes256Siv>();
    }

    #[test]
    fn equal_inputs_give_equal_outputs_and_another_parent_others() {
        let siv = Siv::new(&random::key());
        assert_eq!(siv.seal(b"parent", b"name"), siv.seal(b"parent", b"name"));
        assert_ne!(siv.seal(b"parent", b"name"), siv.seal(b"other", b"name"));
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(ad: Vec<u8>, plaintext: Vec<u8>) {
            let siv = Siv::new(&random::key());
            let (iv, ciphertext) = siv.seal(&ad, &plaintext);
            prop_assert_eq!(ciphertext.len(), plaintext.len());
            prop_assert!(opens_to(&siv.open(&ad, &iv, &ciphertext), &plaintext));
        }
    }

    fn opens_to(opened: &Result<SecretBytes, OpenFailed>, plaintext: &[u8]) -> bool {
        opened.as_ref().is_ok_and(|opened| opened.expose(|bytes| bytes == plaintext))
    }
}
