//! Digests that a caller chooses by name (FIPS 180-4, FIPS 202), and HMAC over them (FIPS 198-1).
//! What the vault itself hashes is SHA-256, in `mac.rs`.

use hmac::{KeyInit, Mac, SimpleHmacReset};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use sha3::{
    Digest, Sha3_224, Sha3_256, Sha3_384, Sha3_512,
    digest::{FixedOutputReset, common::BlockSizeUser},
};

use super::mac;
use crate::secret::scrub_stack;

/// A hash function by the name it has on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-1 (FIPS 180-4 §6.1): for what older systems signed; collisions are known.
    Sha1,
    /// SHA-224 (FIPS 180-4 §6.3).
    Sha2_224,
    /// SHA-256 (FIPS 180-4 §6.2).
    Sha2_256,
    /// SHA-384 (FIPS 180-4 §6.5).
    Sha2_384,
    /// SHA-512 (FIPS 180-4 §6.4).
    Sha2_512,
    /// SHA3-224 (FIPS 202 §6.1).
    Sha3_224,
    /// SHA3-256 (FIPS 202 §6.1).
    Sha3_256,
    /// SHA3-384 (FIPS 202 §6.1).
    Sha3_384,
    /// SHA3-512 (FIPS 202 §6.1).
    Sha3_512,
}

impl Hash {
    /// All of them, in the order of their names' families.
    pub const ALL: [Self; 9] = [
        Self::Sha1,
        Self::Sha2_224,
        Self::Sha2_256,
        Self::Sha2_384,
        Self::Sha2_512,
        Self::Sha3_224,
        Self::Sha3_256,
        Self::Sha3_384,
        Self::Sha3_512,
    ];

    /// The hash that `word` names, such as `sha2-256`.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.word() == word)
    }

    /// Its name on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha2_224 => "sha2-224",
            Self::Sha2_256 => "sha2-256",
            Self::Sha2_384 => "sha2-384",
            Self::Sha2_512 => "sha2-512",
            Self::Sha3_224 => "sha3-224",
            Self::Sha3_256 => "sha3-256",
            Self::Sha3_384 => "sha3-384",
            Self::Sha3_512 => "sha3-512",
        }
    }

    /// Length of a digest in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha2_224 | Self::Sha3_224 => 28,
            Self::Sha2_256 | Self::Sha3_256 => 32,
            Self::Sha2_384 | Self::Sha3_384 => 48,
            Self::Sha2_512 | Self::Sha3_512 => 64,
        }
    }

    /// The digest of `message`.
    pub fn digest(self, message: &[u8]) -> Vec<u8> {
        self.digest_of(&[message])
    }

    /// The digest of `parts`, one after the other.
    pub(super) fn digest_of(self, parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha1 => digest::<Sha1>(parts),
            Self::Sha2_224 => digest::<Sha224>(parts),
            Self::Sha2_256 => digest::<Sha256>(parts),
            Self::Sha2_384 => digest::<Sha384>(parts),
            Self::Sha2_512 => digest::<Sha512>(parts),
            Self::Sha3_224 => digest::<Sha3_224>(parts),
            Self::Sha3_256 => digest::<Sha3_256>(parts),
            Self::Sha3_384 => digest::<Sha3_384>(parts),
            Self::Sha3_512 => digest::<Sha3_512>(parts),
        }
    }

    /// HMAC of `message` under `key`, which may have any length (FIPS 198-1 §4).
    pub fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        let tag = match self {
            Self::Sha1 => hmac::<Sha1>(key, message),
            Self::Sha2_224 => hmac::<Sha224>(key, message),
            Self::Sha2_256 => hmac::<Sha256>(key, message),
            Self::Sha2_384 => hmac::<Sha384>(key, message),
            Self::Sha2_512 => hmac::<Sha512>(key, message),
            Self::Sha3_224 => hmac::<Sha3_224>(key, message),
            Self::Sha3_256 => hmac::<Sha3_256>(key, message),
            Self::Sha3_384 => hmac::<Sha3_384>(key, message),
            Self::Sha3_512 => hmac::<Sha3_512>(key, message),
        };
        // The blocks made of the key lay in the frame below.
        scrub_stack();
        tag
    }

    /// Whether `tag` is the whole HMAC of `message` under `key`, in time that does not tell how
    /// much of it is right.
    pub fn verify_hmac(self, key: &[u8], message: &[u8], tag: &[u8]) -> bool {
        mac::equal(&self.hmac(key, message), tag)
    }
}

fn digest<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
    let mut state = D::new();
    for part in parts {
        state.update(part);
    }
    state.finalize().to_vec()
}

#[inline(never)]
fn hmac<D: Digest + FixedOutputReset + BlockSizeUser + Clone>(
    key: &[u8],
    message: &[u8],
) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut state = SimpleHmacReset::<D>::new_from_slice(key).expect("any length is accepted");
    state.update(message);
    state.finalize_reset().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;

    const TRANSIT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/transit/hash.json"));

    #[test]
    fn digests_agree_with_a_peer() {
        let file = vectors::parse(TRANSIT);
        for test in vectors::list(&file["hash"]) {
            let sum = named(test).digest(&vectors::bytes(&test["input"]));
            assert_eq!(sum, vectors::bytes(&test["sum"]), "{test}");
        }
        // No peer answers for this one: FIPS 180-4's own example, the digest of "abc".
        let sum = data_encoding::HEXLOWER.encode(&Hash::Sha1.digest(b"abc"));
        assert_eq!(sum, "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn tags_agree_with_a_peer() {
        let file = vectors::parse(TRANSIT);
        for test in vectors::list(&file["hmac"]) {
            let (key, input) = (vectors::bytes(&test["key"]), vectors::bytes(&test["input"]));
            let tag = vectors::bytes(&test["hmac"]);
            assert_eq!(named(test).hmac(&key, &input), tag, "{test}");
            assert!(named(test).verify_hmac(&key, &input, &tag));
        }
        for test in vectors::list(&file["verify"]) {
            let (key, input) = (vectors::bytes(&test["key"]), vectors::bytes(&test["input"]));
            let holds = named(test).verify_hmac(&key, &input, &vectors::bytes(&test["hmac"]));
            assert_eq!(holds, test["valid"].as_bool().unwrap(), "{test}");
        }
    }

    #[test]
    fn every_hash_is_among_the_vectors() {
        let file = vectors::parse(TRANSIT);
        for hash in Hash::ALL {
            let tested = |test: &&serde_json::Value| named(test) == hash;
            assert!(vectors::list(&file["hmac"]).iter().any(|test| tested(&test)));
        }
    }

    #[test]
    fn names_and_lengths_are_those_of_the_digests() {
        for hash in Hash::ALL {
            assert_eq!(Hash::of_word(hash.word()), Some(hash));
            assert_eq!(hash.digest(b"").len(), hash.bytes());
        }
        for other in ["", "sha256", "SHA2-256", "sha2-256 ", "md5", "none"] {
            assert_eq!(Hash::of_word(other), None, "{other}");
        }
    }

    #[test]
    fn a_tag_that_is_short_or_changed_is_refused() {
        let tag = Hash::Sha3_256.hmac(b"key", b"message");
        assert!(!Hash::Sha3_256.verify_hmac(b"key", b"message", &tag[1..]));
        assert!(!Hash::Sha3_256.verify_hmac(b"key", b"message", b""));
        for bit in 0..8 * tag.len() {
            let mut other = tag.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!Hash::Sha3_256.verify_hmac(b"key", b"message", &other));
        }
    }

    fn named(test: &serde_json::Value) -> Hash {
        Hash::of_word(test["algorithm"].as_str().unwrap()).unwrap()
    }
}
