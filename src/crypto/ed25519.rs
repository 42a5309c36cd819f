//! Ed25519 keys of callers, and the forms in which they travel (RFC 8410). Signing itself is
//! `sign.rs`, as for the vault's own checkpoints.

use super::{
    Ed25519Seed, SigningKey,
    der::{self, InvalidKey, PrivateKeyInfo, Reader},
    random,
};
use crate::secret::{Algorithm, Key, SecretBytes};

/// A private Ed25519 key that can be given out again.
#[derive(Debug)]
pub struct Ed25519Key {
    seed: Key<Ed25519Seed>,
    signing: SigningKey,
}

impl Ed25519Key {
    /// Draws a key. Its seed is not locked in memory, since such keys are many.
    pub fn generate() -> Self {
        Self::from_seed(Key::build_common(random::fill))
    }

    /// The key of `seed` (RFC 8032 §5.1.5).
    pub fn from_seed(seed: Key<Ed25519Seed>) -> Self {
        let signing = SigningKey::from_seed(&seed);
        Self { seed, signing }
    }

    /// Reads PKCS#8 of either version (RFC 8410 §7).
    ///
    /// # Errors
    /// The [`InvalidKey`] that says what it is instead, or that the public key inside is another's.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, InvalidKey> {
        let info = PrivateKeyInfo::read(der)?;
        check_algorithm(info.algorithm)?;
        let read = || {
            let mut outer = Reader::new(info.key);
            let seed = outer.value(der::OCTET_STRING)?;
            outer.end().and_then(|()| Key::common_copy_of(seed).ok())
        };
        let seed = read().ok_or(InvalidKey::Form { expected: "an Ed25519 key of 32 bytes" })?;
        let key = Self::from_seed(seed);
        if info.public.is_some_and(|public| public != key.public()) {
            return Err(InvalidKey::Inconsistent);
        }
        Ok(key)
    }

    /// Writes PKCS#8 of version 1, which holds the seed alone.
    pub fn to_pkcs8(&self) -> SecretBytes {
        self.seed
            .expose(|seed| PrivateKeyInfo::write(ED25519, &der::value(der::OCTET_STRING, &[seed])))
    }

    /// What the key is made from.
    pub const fn seed(&self) -> &Key<Ed25519Seed> {
        &self.seed
    }

    /// The key that others verify with, by [`sign::verify`](super::sign::verify).
    pub fn public(&self) -> [u8; Ed25519Seed::KEY_BYTES] {
        self.signing.public_key()
    }

    /// Signs `message` (RFC 8032 §5.1.6).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message)
    }
}

/// Reads a public key from SubjectPublicKeyInfo (RFC 8410 §4).
///
/// # Errors
/// The [`InvalidKey`] that says what it is instead.
pub fn public_from_spki(der: &[u8]) -> Result<[u8; 32], InvalidKey> {
    let (algorithm, public) = der::read_public(der)?;
    check_algorithm(algorithm)?;
    let expected = "an Ed25519 public key of 32 bytes";
    public.try_into().map_err(|_| InvalidKey::Form { expected })
}

/// Writes a public key as SubjectPublicKeyInfo.
pub fn public_to_spki(public: &[u8; 32]) -> Vec<u8> {
    der::write_public(ED25519, public)
}

fn check_algorithm(algorithm: &[u8]) -> Result<(), InvalidKey> {
    let expected = "an Ed25519 key";
    if algorithm == ED25519 { Ok(()) } else { Err(InvalidKey::Kind { expected }) }
}

/// The content of the AlgorithmIdentifier: id-Ed25519 alone (RFC 8410 §3).
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::crypto::{kdf, sign, vectors};

    const TRANSIT_KEYS: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/transit/keys.json"));
    const TRANSIT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/transit/ed25519.json"));

    /// A peer signs the input itself whatever else is asked, and gives its key as seed || public.
    #[test]
    fn signatures_agree_with_a_peer() {
        let (keys, file) = (vectors::parse(TRANSIT_KEYS), vectors::parse(TRANSIT));
        for test in vectors::list(&file["signatures"]) {
            let stored = stored(&keys, test);
            let key = match test.get("context") {
                None => seeded(&stored[..32]),
                // Keys derived for a context: all 64 bytes go in, and a seed comes out.
                Some(context) => Ed25519Key::from_seed(Key::build(|seed| {
                    kdf::hkdf_sha256(&[], &stored, &vectors::bytes(context), seed);
                })),
            };
            let input = vectors::bytes(&test["input"]);
            let signature = vectors::array(&test["signature"]);
            assert_eq!(key.sign(&input), signature, "{test}");
            assert!(sign::verify(&key.public(), &input, &signature));
            if let Some(public) = test.get("public_key") {
                assert_eq!(key.public(), vectors::array(public), "{test}");
            }
        }
    }

    #[test]
    fn keys_are_written_as_a_peer_writes_them() {
        let keys = vectors::parse(TRANSIT_KEYS);
        for entry in ed25519_keys(&keys) {
            let exports = &entry["exports"];
            let pkcs8 = vectors::bytes(&exports["signing-key der"]["der"]);
            let key = Ed25519Key::from_pkcs8(&pkcs8).unwrap();
            assert!(key.to_pkcs8().expose(|der| der == pkcs8), "{}", entry["name"]);
            let spki = vectors::bytes(&exports["public-key der"]["der"]);
            assert_eq!(public_to_spki(&key.public()), spki, "{}", entry["name"]);
            assert_eq!(public_from_spki(&spki), Ok(key.public()));
            for version in vectors::list(&entry["versions"]) {
                let stored = vectors::bytes(&version["signing_key"]);
                assert_eq!(seeded(&stored[..32]).public()[..], stored[32..]);
            }
        }
    }

    #[test]
    fn a_public_key_inside_must_be_the_keys_own() {
        let (key, stranger) = (Ed25519Key::generate(), Ed25519Key::generate());
        // RFC 8410 §7's second form, of version 2.
        let with = |public: &[u8]| {
            let inner = key.seed().expose(|seed| der::value(der::OCTET_STRING, &[seed]));
            der::sequence(&[
                der::unsigned(&[1]),
                der::value(der::SEQUENCE, &[ED25519]),
                der::value(der::OCTET_STRING, &[&inner]),
                der::value(0x81, &[&[0], public]),
            ])
        };
        let read = Ed25519Key::from_pkcs8(&with(&key.public())).unwrap();
        assert_eq!(read.public(), key.public());
        let refused = Ed25519Key::from_pkcs8(&with(&stranger.public())).unwrap_err();
        assert_eq!(refused, InvalidKey::Inconsistent);
    }

    #[test]
    fn keys_of_another_kind_or_length_are_refused() {
        let x25519 = [0x06, 0x03, 0x2b, 0x65, 0x6e];
        let kind = InvalidKey::Kind { expected: "an Ed25519 key" };
        let other = PrivateKeyInfo::write(&x25519, &der::value(der::OCTET_STRING, &[&[7; 32]]));
        assert_eq!(other.expose(Ed25519Key::from_pkcs8).unwrap_err(), kind);
        let short = PrivateKeyInfo::write(ED25519, &der::value(der::OCTET_STRING, &[&[7; 31]]));
        assert!(short.expose(Ed25519Key::from_pkcs8).is_err());
        let bare = PrivateKeyInfo::write(ED25519, &[7; 32]);
        assert!(bare.expose(Ed25519Key::from_pkcs8).is_err());
        assert_eq!(public_from_spki(&der::write_public(&x25519, &[7; 32])), Err(kind));
        assert!(public_from_spki(&der::write_public(ED25519, &[7; 33])).is_err());
    }

    fn seeded(seed: &[u8]) -> Ed25519Key {
        Ed25519Key::from_seed(Key::copy_of(seed).unwrap())
    }

    fn ed25519_keys(keys: &Value) -> impl Iterator<Item = &Value> {
        vectors::list(&keys["keys"]).iter().filter(|key| key["type"] == "ed25519")
    }

    fn stored(keys: &Value, test: &Value) -> Vec<u8> {
        let entry = ed25519_keys(keys).find(|key| key["name"] == test["key"]).unwrap();
        let versions = vectors::list(&entry["versions"]);
        let version = versions.iter().find(|version| version["version"] == test["version"]);
        vectors::bytes(&version.unwrap()["signing_key"])
    }
}
