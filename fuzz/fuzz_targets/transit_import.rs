//! Keys that are brought to transit: what is imported works, the rest is refused.
//!
//! Input: a byte that picks the type, one that picks what the rest is (the whole blob, the part
//! that AES-KWP has wrapped, or the key material inside it).
#![no_main]

use std::sync::LazyLock;

use data_encoding::BASE64;
use kista::crypto::{Hash, OaepHash, RsaPublic, keywrap, pem};
use kista_fuzz::Transit;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const KINDS: [&str; 14] = [
    "aes128-gcm96",
    "aes256-gcm96",
    "chacha20-poly1305",
    "xchacha20-poly1305",
    "aes256-gcm-committing",
    "aes256-siv",
    "ed25519",
    "ecdsa-p256",
    "ecdsa-p384",
    "ecdsa-p521",
    "rsa-2048",
    "rsa-3072",
    "rsa-4096",
    "hmac",
];

const EPHEMERAL: [u8; 32] = [7; 32];

/// A vault, and the ephemeral key wrapped for it.
static GROUND: LazyLock<(Transit, Vec<u8>)> = LazyLock::new(|| {
    let transit = Transit::new();
    let answer = transit.read("wrapping_key");
    let text = answer["data"]["public_key"].as_str().expect("a public key");
    let (_, spki) = pem::decode(text).expect("PEM");
    let public = spki.expose(RsaPublic::from_spki).expect("an RSA key");
    let hash = OaepHash::of(Hash::Sha2_256).expect("OAEP has it");
    let head = public.encrypt_oaep(hash, &EPHEMERAL).expect("32 bytes fit");
    (transit, head)
});

fuzz_target!(init: { LazyLock::force(&GROUND); }, |input: &[u8]| {
    let [kind, form, rest @ ..] = input else { return };
    let kind = KINDS[usize::from(*kind) % KINDS.len()];
    let (transit, head) = &*GROUND;
    let blob = match form % 3 {
        0 => rest.to_vec(),
        1 => [head, rest].concat(),
        _ if rest.is_empty() => return,
        _ => [head.as_slice(), &keywrap::wrap(&EPHEMERAL, rest)].concat(),
    };
    let body = json!({"type": kind, "ciphertext": BASE64.encode(&blob), "exportable": true});
    if transit.write("keys/k/import", &body).0 == 400 {
        return;
    }
    let path = match kind {
        "hmac" => "hmac/k",
        "ed25519" | "ecdsa-p256" | "ecdsa-p384" | "ecdsa-p521" => "sign/k",
        _ => "encrypt/k",
    };
    let (status, answer) = transit.write(path, &json!({"plaintext": "AAAA", "input": "AAAA"}));
    assert_eq!(status, 200, "{kind}: {answer}");
    transit.write("keys/k/config", &json!({"deletion_allowed": true}));
    transit.delete("keys/k");
});
