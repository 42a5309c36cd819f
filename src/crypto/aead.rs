//! Authenticated encryption with 192-bit nonces, so that random nonces need no counting
//! (security.md 4.3). Neither cipher commits to its key; format.md 2 says where that matters.

use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use chacha20poly1305::XChaCha20Poly1305;
use xaes_256_gcm::Xaes256Gcm;

use crate::secret::{Algorithm, Key, SecretBytes};

/// A 32-byte AEAD key whose [`Cipher`] is named beside it.
#[derive(Debug)]
pub enum Aead256 {}

impl Algorithm for Aead256 {
    const KEY_BYTES: usize = 32;
    const NAME: &'static str = "AEAD-256";
}

/// The ciphers of records, heads and wraps, with their codes on disk (format.md 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cipher {
    /// C2SP XAES-256-GCM (SP 800-108r1 over SP 800-38D); the default.
    Xaes256Gcm = 1,
    /// draft-irtf-cfrg-xchacha, for machines without AES instructions.
    XChaCha20Poly1305 = 2,
}

impl Cipher {
    /// The cipher's byte in a header.
    pub const fn code(self) -> u8 {
        match self {
            Self::Xaes256Gcm => 1,
            Self::XChaCha20Poly1305 => 2,
        }
    }

    /// The cipher that a header's byte names.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Xaes256Gcm),
            2 => Some(Self::XChaCha20Poly1305),
            _ => None,
        }
    }
}

/// The ciphertext does not open here: another key, nonce or associated data, or changed bytes.
///
/// One variant without a cause, so that no wording tells which (format.md 2.8, style.md 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext does not open: wrong key or place, or damaged")]
pub struct OpenFailed;

/// One keyed cipher. Keep it for as long as its key: the key schedule is the dear part.
pub struct Sealer {
    keyed: Keyed,
}

/// Boxed, so that moving a sealer leaves no key schedule behind on the stack.
enum Keyed {
    Xaes256Gcm(Box<Xaes256Gcm>),
    XChaCha20Poly1305(Box<XChaCha20Poly1305>),
}

impl Sealer {
    /// Expands `key` for `cipher`.
    pub fn new(cipher: Cipher, key: &Key<Aead256>) -> Self {
        let keyed = key.expose(|bytes| match cipher {
            Cipher::Xaes256Gcm => Keyed::Xaes256Gcm(Box::new(expanded(bytes))),
            Cipher::XChaCha20Poly1305 => Keyed::XChaCha20Poly1305(Box::new(expanded(bytes))),
        });
        Self { keyed }
    }

    /// The cipher this key is used with.
    pub const fn cipher(&self) -> Cipher {
        match self.keyed {
            Keyed::Xaes256Gcm(_) => Cipher::Xaes256Gcm,
            Keyed::XChaCha20Poly1305(_) => Cipher::XChaCha20Poly1305,
        }
    }

    /// Encrypts `plaintext` and returns ciphertext || tag, 16 bytes longer.
    ///
    /// A nonce must not come twice under one key with different inputs: draw or hedge it
    /// (format.md 2.3).
    ///
    /// # Panics
    /// When plaintext or associated data exceed 64 GiB (SP 800-38D §5.2.1.1), which no caller has.
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(plaintext.len() + TAG_BYTES);
        sealed.extend_from_slice(plaintext);
        let tag = match &self.keyed {
            Keyed::Xaes256Gcm(cipher) => {
                cipher.encrypt_inout_detached(nonce.into(), aad, sealed.as_mut_slice().into())
            }
            Keyed::XChaCha20Poly1305(cipher) => {
                cipher.encrypt_inout_detached(nonce.into(), aad, sealed.as_mut_slice().into())
            }
        };
        #[expect(clippy::expect_used, reason = "the ciphers refuse lengths over 64 GiB only")]
        let tag = tag.expect("no message reaches 64 GiB");
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Opens ciphertext || tag.
    ///
    /// # Errors
    /// [`OpenFailed`] when the tag does not hold; no plaintext byte leaves then.
    pub fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        ciphertext_and_tag: &[u8],
    ) -> Result<SecretBytes, OpenFailed> {
        let (ciphertext, tag) =
            ciphertext_and_tag.split_last_chunk::<TAG_BYTES>().ok_or(OpenFailed)?;
        let mut outcome = Ok(());
        let plaintext = SecretBytes::build(ciphertext.len(), |buffer| {
            buffer.copy_from_slice(ciphertext);
            outcome = match &self.keyed {
                Keyed::Xaes256Gcm(cipher) => {
                    cipher.decrypt_inout_detached(nonce.into(), aad, buffer.into(), tag.into())
                }
                Keyed::XChaCha20Poly1305(cipher) => {
                    cipher.decrypt_inout_detached(nonce.into(), aad, buffer.into(), tag.into())
                }
            };
        });
        outcome.map(|()| plaintext).map_err(|_| OpenFailed)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("cipher", &self.cipher()).finish_non_exhaustive()
    }
}

fn expanded<C: KeyInit>(key: &[u8]) -> C {
    #[expect(clippy::expect_used, reason = "Key<Aead256> always holds 32 bytes")]
    C::new_from_slice(key).expect("the key has the cipher's length")
}

/// Both ciphers extend the nonce to 192 bits.
const NONCE_BYTES: usize = 24;
/// Both ciphers have full 128-bit tags (SP 800-38D §5.2.1.2, RFC 8439 §2.8).
const TAG_BYTES: usize = 16;
