//! Ciphertexts of transit against fixed keys of every type: whatever does not open is refused in a
//! text of the list, and one changed bit keeps what was encrypted here from opening.
//!
//! Input: a byte that picks the key, one that picks what the rest is (the text of a ciphertext, the
//! bytes behind `vault:v1:`, or two bytes that say which bit to change and a plaintext).
#![no_main]

use std::sync::LazyLock;

use data_encoding::BASE64;
use kista_fuzz::Transit;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// Types as backups number them, with the lengths of their keys.
const KEYS: [(u8, usize); 6] = [(0, 32), (5, 32), (8, 16), (11, 32), (64, 32), (65, 64)];

/// Beyond those above, one of RSA.
const RSA: &str = "rsa";

static TRANSIT: LazyLock<Transit> = LazyLock::new(|| {
    let transit = Transit::new();
    for (kind, length) in KEYS {
        let entry = json!({
            "key": BASE64.encode(&vec![kind; length]), "hmac_key": BASE64.encode(&[7; 32]),
            "time": "2026-01-02T03:04:05Z",
        });
        let backup = json!({
            "policy": {
                "name": kind.to_string(), "type": kind, "keys": {"1": entry}, "kdf": 1,
                "latest_version": 1, "min_decryption_version": 1,
            },
            "archived_keys": {"keys": [{}, entry]},
        });
        let backup = BASE64.encode(backup.to_string().as_bytes());
        let (status, answer) = transit.write("restore", &json!({"backup": backup}));
        assert_eq!(status, 204, "{answer}");
    }
    assert_eq!(transit.write("keys/rsa", &json!({"type": "rsa-2048"})).0, 200);
    transit
});

fuzz_target!(init: { LazyLock::force(&TRANSIT); }, |input: &[u8]| {
    let [key, form, rest @ ..] = input else { return };
    let key = KEYS.get(usize::from(*key) % (KEYS.len() + 1));
    let key = key.map_or_else(|| RSA.to_owned(), |(kind, _)| kind.to_string());
    let aad = if key == RSA { Value::Null } else { json!(BASE64.encode(b"row 1")) };
    match (form % 3, rest) {
        (0, text) => {
            let Ok(text) = std::str::from_utf8(text) else { return };
            decrypt(&key, text, &aad);
        }
        (1, bytes) => {
            decrypt(&key, &format!("vault:v1:{}", BASE64.encode(bytes)), &aad);
        }
        (_, [high, low, plaintext @ ..]) => {
            changed(&key, u16::from_be_bytes([*high, *low]).into(), plaintext, &aad);
        }
        (_, _) => {}
    }
});

/// What opens is described as readable and rewrapped; the rest is refused in a known text.
fn decrypt(key: &str, ciphertext: &str, aad: &Value) -> Option<Value> {
    let body = json!({"ciphertext": ciphertext, "associated_data": aad});
    let (status, answer) = TRANSIT.write(&format!("decrypt/{key}"), &body);
    if status == 200 {
        assert_eq!(TRANSIT.write(&format!("rewrap/{key}"), &body).0, 200);
        let (_, described) = TRANSIT.write(&format!("describe/{key}"), &body);
        assert_eq!(described["data"]["is_readable"], true);
        return Some(answer["data"]["plaintext"].clone());
    }
    let text = answer["errors"][0].as_str().expect("an error has a text");
    assert!(REFUSALS.contains(&text), "{text}");
    None
}

/// Encrypts, and changes a bit.
fn changed(key: &str, bit: usize, plaintext: &[u8], aad: &Value) {
    let body = json!({"plaintext": BASE64.encode(plaintext), "associated_data": aad});
    let (status, answer) = TRANSIT.write(&format!("encrypt/{key}"), &body);
    if status != 200 {
        assert!(key == RSA && plaintext.len() > 190, "{answer}");
        return;
    }
    let text = answer["data"]["ciphertext"].as_str().expect("a ciphertext");
    assert_eq!(decrypt(key, text, aad), Some(body["plaintext"].clone()));
    let encoded = text.strip_prefix("vault:v1:").expect("of the only version");
    let mut bytes = BASE64.decode(encoded.as_bytes()).expect("base64");
    let bit = bit % (8 * bytes.len());
    bytes[bit / 8] ^= 1 << (bit % 8);
    assert_eq!(decrypt(key, &format!("vault:v1:{}", BASE64.encode(&bytes)), aad), None);
}

const REFUSALS: [&str; 9] = [
    "cipher: message authentication failed",
    "invalid ciphertext length",
    "invalid ciphertext: no prefix",
    "invalid ciphertext: wrong number of fields",
    "invalid ciphertext: version number could not be decoded",
    "invalid ciphertext: could not decode base64",
    "invalid ciphertext: version is too new",
    "ciphertext or signature version is disallowed by policy (too old)",
    "missing ciphertext to decrypt",
];
