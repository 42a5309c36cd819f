use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::crypto::{Hash, vectors};

const TRANSIT_KEYS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/transit/keys.json"));
const TRANSIT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/transit/ecdsa.json"));
const WYCHEPROOF: [&str; 3] = [
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/wycheproof/ecdsa_p256.json")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/wycheproof/ecdsa_p384.json")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/wycheproof/ecdsa_p521.json")),
];

#[test]
fn verification_agrees_with_wycheproof() {
    for file in WYCHEPROOF {
        let file = vectors::parse(file);
        for (group, test) in vectors::wycheproof(&file) {
            let key = EcPublic::from_spki(&vectors::bytes(&group["key"])).unwrap();
            let digest = hash(&group["hash"]).digest(&vectors::bytes(&test["msg"]));
            let signature = vectors::bytes(&test["sig"]);
            let fixed = match group["form"].as_str().unwrap() {
                "der" => key.curve().signature_from_der(&signature).ok(),
                _ => Some(signature),
            };
            let holds = fixed.is_some_and(|fixed| key.verify_digest(&digest, &fixed));
            assert_eq!(holds, vectors::is_valid(test), "{} {test}", file["algorithm"]);
        }
    }
}

#[test]
fn verification_agrees_with_a_peer() {
    let (keys, file) = (vectors::parse(TRANSIT_KEYS), vectors::parse(TRANSIT));
    let tests = vectors::list(&file["signatures"]);
    for test in tests {
        let key = key_of(&keys, test);
        let signature = fixed(test, key.curve());
        let holds = key.public().verify_digest(&digest(test), &signature);
        assert_eq!(holds, test["valid"].as_bool().unwrap(), "{test}");
    }
    for curve in Curve::ALL {
        let on = |test: &&Value| key_of(&keys, test).curve() == curve;
        for hash in Hash::ALL.map(Hash::word) {
            assert!(tests.iter().filter(on).any(|test| test["hash_algorithm"] == hash));
        }
    }
}

#[test]
fn keys_are_written_as_a_peer_writes_them() {
    let keys = vectors::parse(TRANSIT_KEYS);
    for entry in ec_keys(&keys) {
        let exports = &entry["exports"];
        let pkcs8 = vectors::bytes(&exports["signing-key der"]["der"]);
        let key = EcKey::from_pkcs8(&pkcs8).unwrap();
        assert!(key.to_pkcs8().expose(|der| der == pkcs8), "{}", entry["name"]);
        let sec1 = vectors::bytes(&exports["signing-key default"]["der"]);
        assert!(key.to_sec1().expose(|der| der == sec1), "{}", entry["name"]);
        let spki = vectors::bytes(&exports["public-key der"]["der"]);
        assert_eq!(key.public().to_spki(), spki, "{}", entry["name"]);
        assert_eq!(EcPublic::from_spki(&spki).as_ref(), Ok(key.public()));
        for version in vectors::list(&entry["versions"]) {
            let key = EcKey::from_sec1(key.curve(), &vectors::bytes(&version["signing_key"]));
            let spki = vectors::bytes(&version["public_key"]);
            assert_eq!(key.unwrap().public().to_spki(), spki);
        }
    }
}

#[test]
fn parts_of_a_key_make_the_key_again() {
    for curve in Curve::ALL {
        let key = EcKey::generate(curve);
        let again = key.scalar().expose(|scalar| EcKey::from_scalar(curve, scalar)).unwrap();
        assert_eq!(again.public(), key.public());
        let (x, y) = key.public().point();
        assert_eq!(EcPublic::from_point(curve, x, y).as_ref(), Ok(key.public()));
        let again = key.to_pkcs8().expose(EcKey::from_pkcs8).unwrap();
        assert!(again.to_sec1().expose(|a| key.to_sec1().expose(|b| a == b)));
        assert_eq!(EcPublic::from_spki(&key.public().to_spki()).as_ref(), Ok(key.public()));
    }
}

#[test]
fn numbers_may_come_without_their_leading_zeros() {
    let one = EcKey::from_scalar(Curve::P384, &[1]).unwrap();
    assert_eq!(one.scalar().len(), 48);
    let padded = [&[0; 60][..], &[1]].concat();
    assert_eq!(EcKey::from_scalar(Curve::P384, &padded).unwrap().public(), one.public());
}

#[test]
fn private_numbers_out_of_range_are_refused() {
    // FIPS 186-5's order of P-256, from SP 800-186 §3.2.1.3.
    let order = data_encoding::HEXLOWER
        .decode(b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")
        .unwrap();
    let out_of_range = InvalidKey::OutOfRange { curve: "P-256" };
    for scalar in [&order[..], &[0; 32], &[], &[1; 33], &[0xff; 32]] {
        let refused = EcKey::from_scalar(Curve::P256, scalar).unwrap_err();
        assert_eq!(refused, out_of_range);
    }
    let mut below = order;
    below[31] -= 1;
    assert!(EcKey::from_scalar(Curve::P256, &below).is_ok());
}

#[test]
fn points_off_the_curve_are_refused() {
    for curve in Curve::ALL {
        let key = EcKey::generate(curve);
        let (x, y) = key.public().point();
        let mut other = y.to_vec();
        other[curve.bytes() - 1] ^= 1;
        let off_curve = Err(InvalidKey::OffCurve { curve: curve.word() });
        assert_eq!(EcPublic::from_point(curve, x, &other), off_curve);
        assert_eq!(EcPublic::from_point(curve, &[], &[]), off_curve);
        assert_eq!(EcPublic::from_point(curve, &[0xff; 67], y), off_curve);
        let mut spki = key.public().to_spki();
        *spki.last_mut().unwrap() ^= 1;
        assert_eq!(EcPublic::from_spki(&spki), off_curve);
    }
}

#[test]
fn keys_of_other_kinds_and_with_contradictions_are_refused() {
    let (key, stranger) = (EcKey::generate(Curve::P256), EcKey::generate(Curve::P256));
    let contradiction = key.scalar().expose(|scalar| {
        let public = der::value(der::BIT_STRING, &[&[0], &stranger.public.point]);
        let parts = [
            der::unsigned(&[1]),
            der::value(der::OCTET_STRING, &[scalar]),
            der::value(der::CONTEXT_1, &[&public]),
        ];
        PrivateKeyInfo::write(&Curve::P256.algorithm(), &der::sequence(&parts))
    });
    let refused = contradiction.expose(EcKey::from_pkcs8).unwrap_err();
    assert_eq!(refused, InvalidKey::Inconsistent);
    let other_curve = PrivateKeyInfo::write(
        &Curve::P256.algorithm(),
        &EcKey::generate(Curve::P384)
            .sec1(&der::value(der::CONTEXT_0, &[Curve::P384.identifier()])),
    );
    assert!(other_curve.expose(EcKey::from_pkcs8).is_err());
    let bare = PrivateKeyInfo::write(&[0x06, 0x03, 0x2b, 0x65, 0x70], &[7; 32]);
    let refused = bare.expose(EcKey::from_pkcs8).unwrap_err();
    assert_eq!(refused, InvalidKey::Kind { expected: "a key on P-256, P-384 or P-521" });
    let refused = key.to_sec1().expose(EcKey::from_pkcs8).unwrap_err();
    assert_eq!(refused, InvalidKey::Form { expected: "a PKCS#8 private key in DER" });
}

#[test]
fn a_private_key_without_its_public_key_is_read() {
    let key = EcKey::generate(Curve::P521);
    let bare = key.scalar().expose(|scalar| {
        let parts = [der::unsigned(&[1]), der::value(der::OCTET_STRING, &[scalar])];
        PrivateKeyInfo::write(&Curve::P521.algorithm(), &der::sequence(&parts))
    });
    assert_eq!(bare.expose(EcKey::from_pkcs8).unwrap().public(), key.public());
}

#[test]
fn any_flipped_bit_is_refused() {
    for curve in Curve::ALL {
        let key = EcKey::generate(curve);
        let digest = Hash::Sha2_256.digest(b"message");
        let signature = key.sign_digest(&digest);
        assert_eq!(signature.len(), 2 * curve.bytes());
        assert!(key.public().verify_digest(&digest, &signature));
        for byte in 0..signature.len() {
            let mut other = signature.clone();
            other[byte] ^= 1 << (byte % 8);
            assert!(!key.public().verify_digest(&digest, &other));
        }
        let mut other = digest.clone();
        other[31] ^= 1;
        assert!(!key.public().verify_digest(&other, &signature));
        assert!(!EcKey::generate(curve).public().verify_digest(&digest, &signature));
        assert!(!key.public().verify_digest(&digest, &signature[1..]));
    }
}

#[test]
fn two_signatures_of_one_digest_differ() {
    let key = EcKey::generate(Curve::P256);
    assert_ne!(key.sign_digest(&[7; 32]), key.sign_digest(&[7; 32]));
}

/// With r = (uQ).x and s = r / u, which needs no private key, a signature of zero.
#[test]
fn signatures_of_nothing_and_of_zero_do_not_hold() {
    let key = EcKey::generate(Curve::P256);
    let (x, _) = key.public().point();
    let forged = [x, x].concat();
    assert!(verify::<NistP256>(&key.public.point, &[0; 32], &forged));
    for digest in [&[][..], &[0], &[0; 32], &[0; 64]] {
        assert!(!key.public().verify_digest(digest, &forged));
    }
}

#[test]
fn of_long_digests_the_leftmost_bits_count() {
    for curve in Curve::ALL {
        let key = EcKey::generate(curve);
        let mut digest = vec![0xa5; 80];
        let signature = key.sign_digest(&digest);
        digest[curve.bytes()] ^= 0xff;
        assert!(key.public().verify_digest(&digest, &signature));
        // P-521 counts one bit of its last byte.
        let last = &mut digest[curve.bytes() - 1];
        *last ^= 1;
        assert_eq!(key.public().verify_digest(&digest, &signature), curve == Curve::P521);
        digest[curve.bytes() - 1] ^= 0x81;
        assert!(!key.public().verify_digest(&digest, &signature));
    }
    assert_eq!(Curve::P521.number_of(&[0xff; 67]), [&[0x01][..], &[0xff; 65]].concat());
}

#[test]
fn what_is_wrong_with_a_der_signature_is_told() {
    let signature = Curve::P256.signature_to_der(&[0x81; 64]).unwrap();
    assert_eq!(signature[..4], [0x30, 70, 0x02, 33]);
    assert_eq!(Curve::P256.signature_from_der(&signature).unwrap(), [0x81; 64]);
    let longer = [&signature[..], &[0]].concat();
    let refused = Curve::P256.signature_from_der(&longer);
    assert_eq!(refused, Err(InvalidSignature::ExtraData));
    let refused = Curve::P256.signature_from_der(&signature[..71]);
    assert_eq!(refused, Err(InvalidSignature::Form));
    let wide = Curve::P384.signature_to_der(&[0x81; 96]).unwrap();
    assert_eq!(Curve::P256.signature_from_der(&wide), Err(InvalidSignature::OutOfRange));
    assert_eq!(Curve::P256.signature_to_der(&[1; 63]), None);
    assert_eq!(Curve::P256.signature_to_der(&[1; 65]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_was_signed_verifies(
        digest in prop::collection::vec(1_u8.., 1..100),
        n in 0..3_usize,
    ) {
        let key = EcKey::generate(Curve::ALL[n]);
        let signature = key.sign_digest(&digest);
        prop_assert!(key.public().verify_digest(&digest, &signature));
        let der = key.curve().signature_to_der(&signature).unwrap();
        prop_assert_eq!(key.curve().signature_from_der(&der), Ok(signature));
    }
}

fn hash(word: &Value) -> Hash {
    Hash::of_word(word.as_str().unwrap()).unwrap()
}

fn ec_keys(keys: &Value) -> impl Iterator<Item = &Value> {
    let is_ec = |key: &&Value| key["type"].as_str().unwrap().starts_with("ecdsa-");
    vectors::list(&keys["keys"]).iter().filter(is_ec)
}

fn key_of(keys: &Value, test: &Value) -> EcKey {
    let entry = ec_keys(keys).find(|key| key["name"] == test["key"]).unwrap();
    let versions = vectors::list(&entry["versions"]);
    let version = versions.iter().find(|version| version["version"] == test["version"]);
    let curve = match entry["type"].as_str().unwrap() {
        "ecdsa-p256" => Curve::P256,
        "ecdsa-p384" => Curve::P384,
        _ => Curve::P521,
    };
    EcKey::from_sec1(curve, &vectors::bytes(&version.unwrap()["signing_key"])).unwrap()
}

fn digest(test: &Value) -> Vec<u8> {
    let input = vectors::bytes(&test["input"]);
    if test["prehashed"] == true {
        return input;
    }
    let named = test.get("hash_algorithm").map_or(Hash::Sha2_256, hash);
    named.digest(&input)
}

fn fixed(test: &Value, curve: Curve) -> Vec<u8> {
    let signature = vectors::bytes(&test["signature"]);
    if test["marshaling_algorithm"] == "jws" {
        return signature;
    }
    curve.signature_from_der(&signature).unwrap()
}
