//! SHA-256 (FIPS 180-4), HMAC-SHA-256 (FIPS 198-1) and comparison in constant time.

use std::fmt;

use hmac::{HmacReset, KeyInit, Mac as _};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::secret::{Algorithm, Key, Locked};

/// A 32-byte key of HMAC-SHA-256.
#[derive(Debug)]
pub enum HmacSha256 {}

impl Algorithm for HmacSha256 {
    const KEY_BYTES: usize = 32;
    const NAME: &'static str = "HMAC-SHA-256";
}

/// The digest of `parts`, one after the other. Join what varies in length with its length, or two
/// lists of parts may give one message.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Sha256::new();
    for part in parts {
        state.update(part);
    }
    state.finalize().into()
}

/// The digest of what comes piece by piece.
#[derive(Clone, Debug, Default)]
pub struct RunningSha256(Sha256);

impl RunningSha256 {
    /// Takes the next piece in.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all pieces so far.
    pub fn digest(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

/// HMAC-SHA-256 under one key, whose two key blocks are hashed once and kept.
pub struct Mac {
    keyed: Locked<HmacReset<Sha256>>,
}

impl Mac {
    /// Hashes the key's blocks.
    pub fn new(key: &Key<HmacSha256>) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let keyed =
            |bytes: &[u8]| HmacReset::new_from_slice(bytes).expect("any length is accepted");
        let keyed = Locked::build(|| key.expose(keyed));
        Self { keyed }
    }

    /// The tag of `parts`, one after the other; as for [`sha256`], lengths are the caller's to
    /// join.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut state = self.keyed.lend().clone();
        for part in parts {
            state.update(part);
        }
        // Not `finalize`, which moves the state: the place it moves from keeps the end of the
        // message, such as a token, and is never wiped.
        state.finalize_reset().into_bytes().into()
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mac").finish_non_exhaustive()
    }
}

/// Whether `a` and `b` are the same bytes, in time that depends on their lengths only.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    use super::*;
    use crate::crypto::vectors;

    const FORMAT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/format.json"));
    const RFC4231: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/rfc4231.json"));
    const WYCHEPROOF: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/wycheproof/hmac_sha256.json"
    ));

    #[test]
    fn tags_agree_with_the_rfc() {
        let file = vectors::parse(RFC4231);
        for test in vectors::list(&file["tests"]) {
            let expected = vectors::bytes(&test["tag"]);
            let tag = keyed(&vectors::bytes(&test["key"])).tag(&[&vectors::bytes(&test["data"])]);
            assert_eq!(tag[..expected.len()], expected, "{}", test["name"]);
        }
    }

    #[test]
    fn tags_agree_with_wycheproof() {
        let file = vectors::parse(WYCHEPROOF);
        for (group, test) in vectors::wycheproof(&file) {
            let length = usize::try_from(vectors::number(&group["tagSize"]) / 8).unwrap();
            let tag = keyed(&vectors::bytes(&test["key"])).tag(&[&vectors::bytes(&test["msg"])]);
            let holds = equal(&tag[..length], &vectors::bytes(&test["tag"]));
            assert_eq!(holds, vectors::is_valid(test), "{test}");
        }
    }

    #[test]
    fn nonces_elements_and_chains_agree_with_the_format() {
        let file = vectors::parse(FORMAT);

        let hedged = &file["hedged_nonce"];
        let aad = vectors::bytes(&hedged["aad"]);
        let parts = [
            vectors::bytes(&hedged["r"]),
            u32::try_from(aad.len()).unwrap().to_be_bytes().to_vec(),
            aad,
            vectors::bytes(&hedged["plaintext"]),
        ];
        let tag = Mac::new(&vectors::key(&hedged["key"])).tag(&parts.each_ref().map(Vec::as_slice));
        assert_eq!(tag[..24], vectors::bytes(&hedged["nonce"]));

        let mac = Mac::new(&vectors::key(&file["state"]["key"]));
        for case in vectors::list(&file["state"]["elements"]) {
            let key = vectors::bytes(&case["storage_key"]);
            let length = u32::try_from(key.len()).unwrap().to_be_bytes();
            let tag = mac.tag(&[&length, &key, &vectors::bytes(&case["record_header"])]);
            assert_eq!(tag, vectors::array(&case["element"]), "{}", case["name"]);
        }

        let journal = &file["journal"];
        let chain = sha256(&[
            b"kista/journal/1\0",
            &vectors::bytes(&journal["store_id"]),
            &vectors::bytes(&journal["before_sealed_head"]),
            &vectors::bytes(&journal["sealed_head"]),
        ]);
        assert_eq!(chain, vectors::array(&journal["chain"]));
    }

    #[test]
    fn sha256_agrees_with_the_standard() {
        // FIPS 180-4's example, in one part and in three.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for parts in [&[&b"abc"[..]][..], &[b"a", b"", b"bc"]] {
            assert_eq!(data_encoding::HEXLOWER.encode(&sha256(parts)), expected);
        }
    }

    #[test]
    fn the_hash_state_is_wiped_when_dropped() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<Sha256>();
    }

    #[test]
    fn a_tag_does_not_change_the_next() {
        let mac = keyed(&[7; 32]);
        let first = mac.tag(&[b"one"]);
        assert_ne!(mac.tag(&[b"two"]), first);
        assert_eq!(mac.tag(&[b"o", b"ne"]), first);
    }

    #[test]
    fn only_the_same_bytes_are_equal() {
        assert!(equal(b"", b""));
        assert!(equal(b"same", b"same"));
        assert!(!equal(b"same", b"some"));
        assert!(!equal(b"same", b"sam"));
    }

    /// HMAC fills a short key with zeros and hashes one longer than a block (FIPS 198-1 §4), so
    /// that vectors of other lengths have an equal key of 32 bytes.
    fn keyed(key: &[u8]) -> Mac {
        let mut bytes = [0; 32];
        if key.len() > 64 {
            bytes = sha256(&[key]);
        } else {
            bytes[..key.len()].copy_from_slice(key);
        }
        Mac::new(&Key::copy_of(&bytes).unwrap())
    }
}
