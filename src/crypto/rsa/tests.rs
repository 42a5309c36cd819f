use serde_json::Value;

use super::{
    super::{OpenFailed, keywrap, vectors},
    *,
};
use crate::secret::SecretBytes;

const TRANSIT_KEYS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/transit/keys.json"));
const TRANSIT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/transit/rsa.json"));
const BYOK: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/transit/byok.json"));
const PKCS1: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/wycheproof/rsa_pkcs1.json"));
const PSS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/wycheproof/rsa_pss.json"));
const OAEP: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/wycheproof/rsa_oaep.json"));

#[test]
fn pkcs1v15_agrees_with_wycheproof() {
    let file = vectors::parse(PKCS1);
    for (group, test) in vectors::wycheproof(&file) {
        let hash = hash(&group["hash"]);
        let holds = verify(group, test, RsaPadding::Pkcs1v15(Some(hash)), hash);
        // What is "acceptable" leaves out a NULL that RFC 8017 §9.2 asks for.
        assert_eq!(holds, test["result"] == "valid", "{test}");
    }
}

#[test]
fn pss_agrees_with_wycheproof() {
    let file = vectors::parse(PSS);
    for (group, test) in vectors::wycheproof(&file) {
        let hash = hash(&group["hash"]);
        let salt = SaltLength::Bytes(vectors::number(&group["salt"]).try_into().unwrap());
        let holds = verify(group, test, RsaPadding::Pss(hash, salt), hash);
        assert_eq!(holds, test["result"] == "valid", "{test}");
    }
}

#[test]
fn oaep_agrees_with_wycheproof() {
    let file = vectors::parse(OAEP);
    for (group, test) in vectors::wycheproof(&file) {
        let key = RsaKey::from_pkcs8(&vectors::bytes(&group["key"])).unwrap();
        let hash = OaepHash::of(hash(&group["hash"])).unwrap();
        let opened = key.decrypt_oaep(hash, &vectors::bytes(&test["ct"]));
        if test["result"] == "valid" {
            assert!(opens_to(&opened, &vectors::bytes(&test["msg"])), "{test}");
        } else {
            assert!(opened.is_err(), "{test}");
        }
    }
}

#[test]
fn verification_agrees_with_a_peer() {
    let (keys, file) = (Keys::read(), vectors::parse(TRANSIT));
    let tests = vectors::list(&file["signatures"]);
    for test in tests {
        let key = keys.of(test).public();
        let (padding, digest) = request(test);
        let signature = vectors::bytes(&test["signature"]);
        let valid = test["valid"].as_bool().unwrap();
        assert_eq!(key.verify(padding, &digest, &signature), valid, "{test}");
        if !valid {
            continue;
        }
        let mut other = digest.clone();
        other[0] ^= 1;
        assert!(!key.verify(padding, &other, &signature), "{test}");
        if let (RsaPadding::Pss(hash, _), Some(salt)) = (padding, test.get("salt_bytes")) {
            let salt = usize::try_from(vectors::number(salt)).unwrap();
            let with = |salt| key.verify(RsaPadding::Pss(hash, salt), &digest, &signature);
            assert!(with(SaltLength::Auto) && with(SaltLength::Bytes(salt)), "{test}");
            assert_eq!(with(SaltLength::Hash), salt == hash.bytes(), "{test}");
            assert!(!with(SaltLength::Bytes(salt + 1)), "{test}");
        }
    }
    for hash in Hash::ALL {
        for scheme in ["pss", "pkcs1v15"] {
            let tested = |test: &&Value| {
                test["hash_algorithm"] == hash.word() && test["signature_algorithm"] == scheme
            };
            assert!(tests.iter().any(|test| tested(&test)), "{hash:?} {scheme}");
        }
    }
}

/// PKCS#1 v1.5 has no chance in it; of PSS, the salt's length is told by the signature.
#[test]
fn signatures_are_those_of_a_peer() {
    let (keys, file) = (Keys::read(), vectors::parse(TRANSIT));
    for test in vectors::list(&file["signatures"]) {
        let key = keys.of(test);
        let (padding, digest) = request(test);
        let signed = key.sign(padding, &digest);
        let hash = match padding {
            RsaPadding::Pkcs1v15(hash) => hash,
            RsaPadding::Pss(hash, _) => Some(hash),
        };
        let Some(Hash::Sha2_256 | Hash::Sha2_384 | Hash::Sha2_512) = hash else {
            let with = hash.map_or("none", Hash::word);
            let named = |refused: Unsupported| refused.with == with;
            assert!(matches!(signed, Err(RsaSignError::Unsupported(refused)) if named(refused)));
            continue;
        };
        let signed = signed.unwrap();
        let Some(salt) = test.get("salt_bytes") else {
            assert!(key.public().verify(padding, &digest, &signed), "{test}");
            let same = signed == vectors::bytes(&test["signature"]);
            let is_pkcs1v15 = matches!(padding, RsaPadding::Pkcs1v15(_));
            assert_eq!(same, is_pkcs1v15 && test["valid"] == true, "{test}");
            continue;
        };
        let salt = SaltLength::Bytes(vectors::number(salt).try_into().unwrap());
        let exact = RsaPadding::Pss(hash.unwrap(), salt);
        assert!(key.public().verify(exact, &digest, &signed), "{test}");
        assert!(!key.public().verify(RsaPadding::Pkcs1v15(hash), &digest, &signed));
    }
}

#[test]
fn what_a_peer_encrypted_decrypts() {
    let (keys, file) = (Keys::read(), vectors::parse(TRANSIT));
    for test in vectors::list(&file["encryption"]) {
        let plaintext = vectors::bytes(&test["plaintext"]);
        let key = keys.of(test);
        let opened = key.decrypt_oaep(OaepHash::SHA2_256, &vectors::bytes(&test["ciphertext"]));
        assert!(opens_to(&opened, &plaintext), "{test}");
        let again = key.public().encrypt_oaep(OaepHash::SHA2_256, &plaintext).unwrap();
        assert!(opens_to(&key.decrypt_oaep(OaepHash::SHA2_256, &again), &plaintext));
    }
}

/// A key brought along: the head is RSA-OAEP of an AES key, under which the rest is wrapped.
#[test]
fn what_was_wrapped_for_a_peer_unwraps() {
    let file = vectors::parse(BYOK);
    let key = RsaKey::from_pkcs8(&vectors::bytes(&file["wrapping_key"])).unwrap();
    for test in vectors::list(&file["import"]) {
        let hash = match test["hash"].as_str().unwrap() {
            "SHA1" => Hash::Sha1,
            "SHA224" => Hash::Sha2_224,
            "SHA256" => Hash::Sha2_256,
            "SHA384" => Hash::Sha2_384,
            _ => Hash::Sha2_512,
        };
        let Ok(hash) = OaepHash::of(hash) else {
            assert_eq!(hash, Hash::Sha2_224);
            continue;
        };
        let wrapped = vectors::bytes(&test["wrapped"]);
        let (head, rest) = wrapped.split_at(key.public().n().len());
        let ephemeral = key.decrypt_oaep(hash, head);
        assert!(opens_to(&ephemeral, &vectors::bytes(&test["ephemeral"])), "{test}");
        let kek = ephemeral.unwrap().expose(|kek| kek.try_into().unwrap());
        assert!(opens_to(&keywrap::unwrap(&kek, rest), &vectors::bytes(&test["target"])));
    }
}

#[test]
fn keys_are_written_as_a_peer_writes_them() {
    let file = vectors::parse(TRANSIT_KEYS);
    for entry in vectors::list(&file["keys"]) {
        if !entry["type"].as_str().unwrap().starts_with("rsa-") {
            continue;
        }
        let exports = &entry["exports"];
        let pkcs8 = vectors::bytes(&exports["signing-key der"]["der"]);
        let key = RsaKey::from_pkcs8(&pkcs8).unwrap();
        assert!(key.to_pkcs8().expose(|der| der == pkcs8), "{}", entry["name"]);
        let pkcs1 = vectors::bytes(&exports["signing-key default"]["der"]);
        assert!(key.to_pkcs1().expose(|der| der == pkcs1), "{}", entry["name"]);
        let spki = vectors::bytes(&exports["public-key der"]["der"]);
        assert_eq!(key.public().to_spki(), spki, "{}", entry["name"]);
        assert_eq!(RsaPublic::from_spki(&spki).as_ref(), Ok(key.public()));
        assert_eq!(entry["type"], format!("rsa-{}", key.bits()));
    }
}

#[test]
fn a_new_key_signs_decrypts_and_is_read_back() {
    let key = RsaKey::generate(2048).unwrap();
    let again = key.to_pkcs8().expose(RsaKey::from_pkcs8).unwrap();
    assert_eq!(again.public(), key.public());
    assert_eq!((again.bits(), again.public().e()), (2048, &[1, 0, 1][..]));
    let ciphertext = key.public().encrypt_oaep(OaepHash::SHA2_256, b"text").unwrap();
    assert!(opens_to(&again.decrypt_oaep(OaepHash::SHA2_256, &ciphertext), b"text"));
    for bits in [0, 1024, 2047, 8192] {
        assert_eq!(RsaKey::generate(bits).unwrap_err(), InvalidKey::Bits { bits });
    }
}

#[test]
fn every_length_of_salt_that_fits_is_signed_with() {
    let keys = Keys::read();
    let key = keys.named("rsa-4096", 1);
    for (hash, longest) in [(Hash::Sha2_256, 478), (Hash::Sha2_384, 462), (Hash::Sha2_512, 446)] {
        let digest = hash.digest(b"message");
        let signed = |salt| key.sign(RsaPadding::Pss(hash, salt), &digest);
        let verifies = |salt, signature: &[u8]| {
            key.public().verify(RsaPadding::Pss(hash, salt), &digest, signature)
        };
        for length in [0, 1, 32, longest] {
            let signature = signed(SaltLength::Bytes(length)).unwrap();
            assert!(verifies(SaltLength::Bytes(length), &signature), "{length}");
            assert!(verifies(SaltLength::Auto, &signature), "{length}");
            assert!(!verifies(SaltLength::Bytes(length + 1), &signature), "{length}");
        }
        let automatic = signed(SaltLength::Auto).unwrap();
        assert!(verifies(SaltLength::Bytes(longest), &automatic));
        for given in [longest + 1, usize::MAX] {
            let refused = Err(RsaSignError::SaltLength { given, longest });
            assert_eq!(signed(SaltLength::Bytes(given)), refused);
        }
    }
}

#[test]
fn digests_of_another_length_are_not_signed() {
    let keys = Keys::read();
    let key = keys.named("rsa-2048", 1);
    for padding in [
        RsaPadding::Pkcs1v15(Some(Hash::Sha2_256)),
        RsaPadding::Pss(Hash::Sha2_256, SaltLength::Auto),
    ] {
        let refused = RsaSignError::DigestLength { hash: "sha2-256", given: 5, needed: 32 };
        assert_eq!(key.sign(padding, b"hello"), Err(refused));
        assert!(!key.public().verify(padding, b"hello", &[7; 256]));
    }
}

#[test]
fn any_changed_byte_of_a_signature_is_refused() {
    let keys = Keys::read();
    let key = keys.named("rsa-2048", 1);
    let digest = Hash::Sha2_256.digest(b"message");
    for padding in [
        RsaPadding::Pkcs1v15(Some(Hash::Sha2_256)),
        RsaPadding::Pss(Hash::Sha2_256, SaltLength::Auto),
    ] {
        let signature = key.sign(padding, &digest).unwrap();
        let verifies = |signature: &[u8]| key.public().verify(padding, &digest, signature);
        assert!(verifies(&signature));
        for place in 0..signature.len() {
            let mut other = signature.clone();
            other[place] ^= 1 << (place % 8);
            assert!(!verifies(&other), "{place}");
        }
        assert!(!verifies(&signature[1..]));
        assert!(!verifies(&[&[0], &signature[..]].concat()));
        assert!(!verifies(&[]));
        assert!(!verifies(&[0; 256]));
        // The same number but for the modulus, which does not fit or is not below it.
        assert!(!verifies(key.public().n()));
        assert!(!keys.named("rsa-2048", 2).public().verify(padding, &digest, &signature));
    }
}

#[test]
fn any_changed_byte_of_a_ciphertext_is_refused() {
    let keys = Keys::read();
    let key = keys.named("rsa-2048", 1);
    let ciphertext = key.public().encrypt_oaep(OaepHash::SHA2_256, &[7; 190]).unwrap();
    for place in (0..ciphertext.len()).step_by(7) {
        let mut other = ciphertext.clone();
        other[place] ^= 1 << (place % 8);
        assert!(key.decrypt_oaep(OaepHash::SHA2_256, &other).is_err(), "{place}");
    }
    let sha1 = OaepHash::of(Hash::Sha1).unwrap();
    assert!(key.decrypt_oaep(sha1, &ciphertext).is_err());
    assert!(key.decrypt_oaep(OaepHash::SHA2_256, &ciphertext[1..]).is_err());
    assert!(key.decrypt_oaep(OaepHash::SHA2_256, &[]).is_err());
    let refused = key.public().encrypt_oaep(OaepHash::SHA2_256, &[7; 191]);
    assert_eq!(refused, Err(TooLong { given: 191, longest: 190 }));
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let keys = Keys::read();
    let (key, other) = (keys.named("rsa-2048", 1), keys.named("rsa-2048", 2));
    let (own, strange) = (key.components(), other.components());
    let copy = |number: &SecretBytes| number.expose(SecretBytes::copy_of);
    let parts = || RsaComponents {
        n: own.n.clone(),
        e: own.e.clone(),
        d: copy(&own.d),
        p: copy(&own.p),
        q: copy(&own.q),
        dp: copy(&own.dp),
        dq: copy(&own.dq),
        qinv: copy(&own.qinv),
    };
    let again = RsaKey::from_components(parts()).unwrap();
    assert!(again.to_pkcs8().expose(|a| key.to_pkcs8().expose(|b| a == b)));
    let mixed = [
        RsaComponents { n: strange.n.clone(), ..parts() },
        RsaComponents { e: vec![1, 0, 3], ..parts() },
        RsaComponents { d: copy(&strange.d), ..parts() },
        RsaComponents { p: copy(&strange.p), ..parts() },
        RsaComponents { q: copy(&strange.q), ..parts() },
        RsaComponents { dp: copy(&strange.dp), ..parts() },
        RsaComponents { dq: copy(&strange.dq), ..parts() },
        RsaComponents { qinv: copy(&strange.qinv), ..parts() },
        RsaComponents { qinv: SecretBytes::copy_of(&[]), ..parts() },
    ];
    for components in mixed {
        assert_eq!(RsaKey::from_components(components).unwrap_err(), InvalidKey::Inconsistent);
    }
}

#[test]
fn moduli_and_exponents_that_are_not_supported_are_refused() {
    let keys = Keys::read();
    let n = keys.named("rsa-2048", 1).public().n();
    assert!(RsaPublic::new(&[&[0, 0], n].concat(), &[0, 1, 0, 1]).is_ok());
    assert!(RsaPublic::new(n, &[1, 0xff, 0xff, 0xff, 0xff]).is_ok());
    for e in [&[][..], &[3], &[0xff, 0xff], &[1, 0, 0], &[2, 0, 0, 0, 1]] {
        assert_eq!(RsaPublic::new(n, e), Err(InvalidKey::Exponent), "{e:x?}");
    }
    let mut even = n.to_vec();
    even[255] &= 0xfe;
    assert_eq!(RsaPublic::new(&even, &[1, 0, 1]), Err(InvalidKey::Inconsistent));
    assert_eq!(RsaPublic::new(&n[..255], &[1, 0, 1]).unwrap_err(), InvalidKey::Bits { bits: 2040 });
    let mut short = n.to_vec();
    short[0] &= 0x7f;
    short[0] |= 0x40;
    assert_eq!(RsaPublic::new(&short, &[1, 0, 1]), Err(InvalidKey::Bits { bits: 2047 }));
    assert_eq!(RsaPublic::new(&[], &[1, 0, 1]), Err(InvalidKey::Bits { bits: 0 }));
}

#[test]
fn nothing_prints_a_private_number() {
    let keys = Keys::read();
    let key = keys.named("rsa-2048", 1);
    assert_eq!(format!("{key:?}"), "RsaKey { bits: 2048, .. }");
    assert!(format!("{:?}", key.components()).contains("d: [secret], p: [secret]"));
}

/// The keys of a peer, each read once.
struct Keys(Vec<(String, u32, RsaKey)>);

impl Keys {
    fn read() -> Self {
        let file = vectors::parse(TRANSIT_KEYS);
        let mut keys = Vec::new();
        for entry in vectors::list(&file["keys"]) {
            let name = entry["name"].as_str().unwrap();
            if name.starts_with("rsa-") {
                for version in vectors::list(&entry["versions"]) {
                    let der = vectors::bytes(&version["signing_key"]);
                    let key = RsaKey::from_pkcs1(&der).unwrap();
                    let spki = vectors::bytes(&version["public_key"]);
                    assert_eq!(key.public().to_spki(), spki);
                    keys.push((name.to_owned(), vectors::number(&version["version"]), key));
                }
            }
        }
        Self(keys)
    }

    fn of(&self, test: &Value) -> &RsaKey {
        self.named(test["key"].as_str().unwrap(), vectors::number(&test["version"]))
    }

    fn named(&self, name: &str, version: u32) -> &RsaKey {
        let (_, _, key) =
            self.0.iter().find(|key| (key.0.as_str(), key.1) == (name, version)).unwrap();
        key
    }
}

/// What a test of a peer's signs, and how.
fn request(test: &Value) -> (RsaPadding, Vec<u8>) {
    let input = vectors::bytes(&test["input"]);
    let hash = match test.get("hash_algorithm") {
        Some(word) if word == "none" => return (RsaPadding::Pkcs1v15(None), input),
        Some(word) => hash(word),
        None => Hash::Sha2_256,
    };
    let digest = if test["prehashed"] == true { input } else { hash.digest(&input) };
    if test["signature_algorithm"] == "pkcs1v15" {
        return (RsaPadding::Pkcs1v15(Some(hash)), digest);
    }
    let salt = match test.get("salt_length").map(|salt| salt.as_str().unwrap()) {
        None | Some("auto" | "0") => SaltLength::Auto,
        Some("hash" | "-1") => SaltLength::Hash,
        Some(number) => SaltLength::Bytes(number.parse().unwrap()),
    };
    (RsaPadding::Pss(hash, salt), digest)
}

fn verify(group: &Value, test: &Value, padding: RsaPadding, hash: Hash) -> bool {
    let key = RsaPublic::from_spki(&vectors::bytes(&group["key"])).unwrap();
    let digest = hash.digest(&vectors::bytes(&test["msg"]));
    key.verify(padding, &digest, &vectors::bytes(&test["sig"]))
}

fn hash(word: &Value) -> Hash {
    Hash::of_word(word.as_str().unwrap()).unwrap()
}

fn opens_to(opened: &Result<SecretBytes, OpenFailed>, plaintext: &[u8]) -> bool {
    opened.as_ref().is_ok_and(|opened| opened.expose(|bytes| bytes == plaintext))
}
