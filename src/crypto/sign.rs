//! Ed25519 (RFC 8032 §5.1): deterministic signatures of audit checkpoints.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::secret::{Algorithm, Key};

/// A 32-byte seed of an Ed25519 key pair (the private key of RFC 8032 §5.1.5).
#[derive(Debug)]
pub enum Ed25519Seed {}

impl Algorithm for Ed25519Seed {
    const KEY_BYTES: usize = 32;
    const NAME: &'static str = "Ed25519";
}

/// A private Ed25519 key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// Computes the pair of `seed`.
    pub fn from_seed(seed: &Key<Ed25519Seed>) -> Self {
        #[expect(clippy::expect_used, reason = "every 32 bytes are a seed, RFC 8032 §5.1.5")]
        let pair = seed.expose(|bytes| {
            Ed25519KeyPair::from_seed_unchecked(bytes).expect("32 bytes are a seed")
        });
        Self { pair }
    }

    /// Signs `message` (RFC 8032 §5.1.6).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }

    /// The key that others verify with.
    pub fn public_key(&self) -> [u8; 32] {
        let mut public = [0; 32];
        public.copy_from_slice(self.pair.public_key().as_ref());
        public
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

/// Whether `signature` is `public`'s of `message` (RFC 8032 §5.1.7, non-canonical S refused).
pub fn verify(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}
