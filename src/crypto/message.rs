//! The ciphers that the peers' clients know, over single messages: `nonce || ciphertext || tag`.
//!
//! Three of the four have nonces of 96 bits, which bear 2^32 random ones for each key (SP 800-38D
//! §8.3): who keeps such a key counts its uses. None commits to its key.

use std::fmt;

use aes_gcm::{
    Aes128Gcm, Aes256Gcm,
    aead::{AeadInOut, KeyInit},
};
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};

use super::aead::OpenFailed;
use crate::secret::SecretBytes;

/// Which cipher a message key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageAlgorithm {
    /// AES-128-GCM (SP 800-38D).
    Aes128Gcm,
    /// AES-256-GCM (SP 800-38D).
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439 §2.8).
    ChaCha20Poly1305,
    /// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha).
    XChaCha20Poly1305,
}

impl MessageAlgorithm {
    /// Length of a key in bytes.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 | Self::XChaCha20Poly1305 => 32,
        }
    }

    /// Length of a nonce in bytes.
    pub const fn nonce_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm | Self::ChaCha20Poly1305 => 12,
            Self::XChaCha20Poly1305 => 24,
        }
    }
}

/// One keyed cipher. Keep it for as long as its key: the key schedule is the dear part.
///
/// On the heap and wiped on drop, but not in locked pages: a mount may have thousands.
pub struct MessageCipher {
    keyed: Keyed,
    algorithm: MessageAlgorithm,
}

enum Keyed {
    Aes128Gcm(Box<Aes128Gcm>),
    Aes256Gcm(Box<Aes256Gcm>),
    ChaCha20Poly1305(Box<ChaCha20Poly1305>),
    XChaCha20Poly1305(Box<XChaCha20Poly1305>),
}

/// The same call on whichever cipher it is.
macro_rules! each {
    ($keyed:expr, $cipher:ident => $call:expr) => {
        match $keyed {
            Keyed::Aes128Gcm($cipher) => $call,
            Keyed::Aes256Gcm($cipher) => $call,
            Keyed::ChaCha20Poly1305($cipher) => $call,
            Keyed::XChaCha20Poly1305($cipher) => $call,
        }
    };
}

impl MessageCipher {
    /// Expands a key; None when its length is not the algorithm's.
    pub fn new(algorithm: MessageAlgorithm, key: &[u8]) -> Option<Self> {
        let keyed = match algorithm {
            MessageAlgorithm::Aes128Gcm => {
                Keyed::Aes128Gcm(Box::new(Aes128Gcm::new_from_slice(key).ok()?))
            }
            MessageAlgorithm::Aes256Gcm => {
                Keyed::Aes256Gcm(Box::new(Aes256Gcm::new_from_slice(key).ok()?))
            }
            MessageAlgorithm::ChaCha20Poly1305 => {
                Keyed::ChaCha20Poly1305(Box::new(ChaCha20Poly1305::new_from_slice(key).ok()?))
            }
            MessageAlgorithm::XChaCha20Poly1305 => {
                Keyed::XChaCha20Poly1305(Box::new(XChaCha20Poly1305::new_from_slice(key).ok()?))
            }
        };
        Some(Self { keyed, algorithm })
    }

    /// The cipher this key is used with.
    pub const fn algorithm(&self) -> MessageAlgorithm {
        self.algorithm
    }

    /// Encrypts into `nonce || ciphertext || tag`; None when the nonce's length is not the
    /// algorithm's.
    ///
    /// A nonce must not come twice under one key with different inputs.
    pub fn seal(&self, nonce: &[u8], aad: &[u8], plaintext: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = Vec::with_capacity(nonce.len() + plaintext.len() + TAG_BYTES);
        sealed.extend_from_slice(nonce);
        sealed.extend_from_slice(plaintext);
        let (nonce, message) = sealed.split_at_mut_checked(self.algorithm.nonce_bytes())?;
        let nonce: &[u8] = nonce;
        let tag = each!(&self.keyed, cipher => {
            cipher.encrypt_inout_detached(nonce.try_into().ok()?, aad, message.into()).ok()?
        });
        sealed.extend_from_slice(&tag);
        Some(sealed)
    }

    /// Opens `nonce || ciphertext || tag`.
    ///
    /// # Errors
    /// [`OpenFailed`] when it is too short or the tag does not hold; no plaintext byte leaves then.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<SecretBytes, OpenFailed> {
        let (nonce, rest) =
            sealed.split_at_checked(self.algorithm.nonce_bytes()).ok_or(OpenFailed)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(OpenFailed)?;
        let mut outcome = Err(OpenFailed);
        let plaintext = SecretBytes::build(ciphertext.len(), |buffer| {
            buffer.copy_from_slice(ciphertext);
            outcome = each!(&self.keyed, cipher => match nonce.try_into() {
                Ok(nonce) => cipher
                    .decrypt_inout_detached(nonce, aad, buffer.into(), tag.into())
                    .map_err(|_| OpenFailed),
                Err(_) => Err(OpenFailed),
            });
        });
        outcome.map(|()| plaintext)
    }
}

impl fmt::Debug for MessageCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageCipher({:?})", self.algorithm)
    }
}

/// Bytes of a tag, the same for all four.
pub const TAG_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [MessageAlgorithm; 4] = [
        MessageAlgorithm::Aes128Gcm,
        MessageAlgorithm::Aes256Gcm,
        MessageAlgorithm::ChaCha20Poly1305,
        MessageAlgorithm::XChaCha20Poly1305,
    ];

    #[test]
    fn a_message_comes_back_and_any_flipped_bit_is_refused() {
        for algorithm in ALL {
            let cipher = MessageCipher::new(algorithm, &vec![7; algorithm.key_bytes()]).unwrap();
            let nonce = vec![9; algorithm.nonce_bytes()];
            let sealed = cipher.seal(&nonce, b"aad", b"hello").unwrap();
            assert_eq!(sealed.len(), algorithm.nonce_bytes() + 5 + TAG_BYTES);
            assert!(cipher.open(b"aad", &sealed).unwrap().expose(|plain| plain == b"hello"));
            assert!(cipher.open(b"add", &sealed).is_err());
            for bit in 0..8 * sealed.len() {
                let mut other = sealed.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(cipher.open(b"aad", &other).is_err(), "{algorithm:?} bit {bit}");
            }
            for length in 0..sealed.len() {
                assert!(cipher.open(b"aad", &sealed[..length]).is_err());
            }
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        for algorithm in ALL {
            assert!(MessageCipher::new(algorithm, &[7; 31]).is_none());
            let cipher = MessageCipher::new(algorithm, &vec![7; algorithm.key_bytes()]).unwrap();
            assert!(cipher.seal(&[9; 11], b"", b"").is_none());
        }
    }
}
