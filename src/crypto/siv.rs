//! Deterministic authenticated encryption for names: equal inputs give equal outputs, and that is
//! all a reader learns (RFC 5297).

use std::fmt;

use aes_siv::{KeyInit, siv::Aes256Siv};

use super::aead::OpenFailed;
use crate::secret::{Algorithm, Key, SecretBytes};

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
        Self { key: Key::build(|copy| key.expose(|bytes| copy.copy_from_slice(bytes))) }
    }

    /// Encrypts `plaintext` with S2V over `ad` and the plaintext (RFC 5297 §2.6); returns the
    /// synthetic IV, which is also the tag, and a ciphertext of the plaintext's length.
    pub fn seal(&self, ad: &[u8], plaintext: &[u8]) -> ([u8; IV_BYTES], Vec<u8>) {
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
        let mut outcome = Ok(());
        let plaintext = SecretBytes::build(ciphertext.len(), |buffer| {
            buffer.copy_from_slice(ciphertext);
            outcome = self.cipher().decrypt_inout_detached([ad], buffer.into(), siv.into());
        });
        outcome.map(|()| plaintext).map_err(|_| OpenFailed)
    }

    /// A fresh instance for each call: the crate's keeps its CMAC state behind `&mut`, and expanding
    /// the key is cheaper than sharing one under a lock.
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
