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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{random, vectors};

    const RFC8032: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/rfc8032.json"));
    const WYCHEPROOF: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/wycheproof/ed25519.json"));

    #[test]
    fn signatures_agree_with_the_rfc() {
        let file = vectors::parse(RFC8032);
        for test in vectors::list(&file["tests"]) {
            let key = SigningKey::from_seed(&vectors::key(&test["seed"]));
            let message = vectors::bytes(&test["message"]);
            let signature = vectors::array(&test["signature"]);
            assert_eq!(key.public_key(), vectors::array(&test["public_key"]), "{}", test["name"]);
            assert_eq!(key.sign(&message), signature, "{}", test["name"]);
            assert!(verify(&key.public_key(), &message, &signature));
        }
    }

    #[test]
    fn verification_agrees_with_wycheproof() {
        let file = vectors::parse(WYCHEPROOF);
        for (group, test) in vectors::wycheproof(&file) {
            let signature = vectors::bytes(&test["sig"]);
            // Another length than 64 does not even reach `verify`.
            let holds = <[u8; 64]>::try_from(signature).is_ok_and(|signature| {
                verify(&vectors::array(&group["pk"]), &vectors::bytes(&test["msg"]), &signature)
            });
            assert_eq!(holds, vectors::is_valid(test), "{test}");
        }
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let key = SigningKey::from_seed(&random::key());
        let signature = key.sign(b"message");
        assert!(verify(&key.public_key(), b"message", &signature));
        for bit in 0..8 * signature.len() {
            let mut other = signature;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(&key.public_key(), b"message", &other));
        }
        assert!(!verify(&key.public_key(), b"massage", &signature));
        let stranger = SigningKey::from_seed(&random::key());
        assert!(!verify(&stranger.public_key(), b"message", &signature));
    }
}
