//! Published vectors through the API: each key is imported as a caller would, and then opens or
//! verifies what the vectors hold. One test, since the pair that wraps keys is made once.

use std::collections::BTreeMap;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use kista::crypto::{Hash, pem};
use serde_json::{Value, json};

use crate::support::{
    TestVault,
    transit::{done, vault, wrap, write},
};

macro_rules! file {
    ($name:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!("vectors/", $name, ".json"))).unwrap()
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_valid_opens_and_verifies_and_nothing_else_does() {
    let mut api = Api { vault: vault().await, keys: 0 };
    let mut checked = Vec::new();
    for (kind, file) in [
        ("aes128-gcm96", file!("wycheproof/aes_128_gcm")),
        ("aes256-gcm96", file!("wycheproof/aes_gcm")),
        ("chacha20-poly1305", file!("wycheproof/chacha20_poly1305")),
        ("xchacha20-poly1305", file!("wycheproof/xchacha20_poly1305")),
    ] {
        checked.push(aead(&mut api, kind, &file).await);
    }
    checked.push(siv(&mut api, &file!("openssl_siv")).await);
    checked.push(siv_with_nonces(&mut api, &file!("wycheproof/aead_aes_siv_cmac")).await);
    for (hash, file) in [
        ("sha2-256", file!("wycheproof/hmac_sha256")),
        ("sha2-384", file!("wycheproof/hmac_sha384")),
        ("sha2-512", file!("wycheproof/hmac_sha512")),
        ("sha3-256", file!("wycheproof/hmac_sha3_256")),
        ("sha3-512", file!("wycheproof/hmac_sha3_512")),
    ] {
        checked.push(hmac(&mut api, hash, &file).await);
    }
    checked.push(ed25519(&mut api, &file!("wycheproof/ed25519")).await);
    for (kind, file) in [
        ("ecdsa-p256", file!("wycheproof/ecdsa_p256")),
        ("ecdsa-p384", file!("wycheproof/ecdsa_p384")),
        ("ecdsa-p521", file!("wycheproof/ecdsa_p521")),
    ] {
        checked.push(ecdsa(&mut api, kind, &file).await);
    }
    checked.push(rsa_signatures(&mut api, "pkcs1v15", &file!("wycheproof/rsa_pkcs1")).await);
    checked.push(rsa_signatures(&mut api, "pss", &file!("wycheproof/rsa_pss")).await);
    checked.push(rsa_oaep(&mut api, &file!("wycheproof/rsa_oaep")).await);
    assert_eq!(checked, CHECKED);
}

/// Tests that were run, in the order above.
const CHECKED: [usize; 18] =
    [67, 66, 316, 306, 84, 300, 168, 84, 87, 84, 87, 151, 428, 427, 325, 343, 257, 57];

/// A vault, and how many keys it was given.
struct Api {
    vault: TestVault,
    keys: usize,
}

impl Api {
    /// Imports a key; the name that it has then.
    async fn import(&mut self, body: Value) -> String {
        self.keys += 1;
        let name = format!("key-{}", self.keys);
        done(&self.vault, &format!("keys/{name}/import"), &body).await;
        name
    }

    async fn import_wrapped(&mut self, kind: &str, target: &[u8]) -> String {
        let ciphertext = wrap(&self.vault, Hash::Sha2_256, target).await;
        self.import(json!({ "type": kind, "ciphertext": ciphertext })).await
    }

    async fn import_public(&mut self, kind: &str, spki: &[u8]) -> String {
        self.import(json!({ "type": kind, "public_key": pem::encode("PUBLIC KEY", spki) })).await
    }

    /// What became of each item.
    async fn batch(&self, path: &str, mut body: Value, items: Vec<Value>) -> Vec<Value> {
        let asked = items.len();
        body["batch_input"] = json!(items);
        let (status, answer) = write(&self.vault, path, &body).await;
        let results = answer["data"]["batch_results"].as_array().cloned().unwrap_or_default();
        assert_eq!(results.len(), asked, "{path}: {status} {answer}");
        results
    }

    /// Decrypts what an item has as `sealed`, each of which must come to its `msg` when it is valid
    /// and be refused in one text when it is not.
    async fn check_opens(&self, name: &str, sealed: &[(Vec<u8>, &Value)]) -> usize {
        let item = |(sealed, test): &(Vec<u8>, &Value)| {
            let mut item = json!({ "ciphertext": framed(&BASE64.encode(sealed)) });
            if test.get("aad").is_some() {
                item["associated_data"] = json!(BASE64.encode(&bytes(&test["aad"])));
            }
            item
        };
        let items = sealed.iter().map(item).collect();
        let results = self.batch(&format!("decrypt/{name}"), json!({}), items).await;
        for ((_, test), result) in sealed.iter().zip(results) {
            if is_valid(test) {
                let expected = json!(BASE64.encode(&bytes(&test["msg"])));
                assert_eq!(result["plaintext"], expected, "{test} {result}");
            } else {
                assert_eq!(result["error"], REFUSED, "{test}");
            }
        }
        sealed.len()
    }

    /// Verifies the signatures of tests, of which the valid ones must hold and no other.
    async fn check_holds(&self, name: &str, scheme: Value, tests: &[Value], form: Form) -> usize {
        let item = |test: &Value| {
            let signature = bytes(&test["sig"]);
            let text = match form {
                Form::Base64 => BASE64.encode(&signature),
                Form::Jws => BASE64URL_NOPAD.encode(&signature),
            };
            json!({ "input": BASE64.encode(&bytes(&test["msg"])), "signature": framed(&text) })
        };
        let items = tests.iter().map(item).collect();
        let results = self.batch(&format!("verify/{name}"), scheme, items).await;
        for (test, result) in tests.iter().zip(results) {
            assert_eq!(result["valid"], is_valid(test), "{test} {result}");
        }
        tests.len()
    }
}

#[derive(Clone, Copy)]
enum Form {
    Base64,
    Jws,
}

/// Ciphertexts are nonce, ciphertext and tag.
async fn aead(api: &mut Api, kind: &str, file: &Value) -> usize {
    let mut checked = 0;
    for (key, tests) in by_key(file) {
        let name = api.import_wrapped(kind, &hex(&key)).await;
        let sealed: Vec<_> = tests
            .iter()
            .map(|test| {
                let parts = ["iv", "ct", "tag"].map(|part| bytes(&test[part]));
                (parts.concat(), *test)
            })
            .collect();
        checked += api.check_opens(&name, &sealed).await;
    }
    checked
}

/// Ciphertexts are the synthetic IV and the ciphertext; the same are made anew.
async fn siv(api: &mut Api, file: &Value) -> usize {
    let mut keys: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for test in list(&file["tests"]) {
        keys.entry(test["key"].as_str().unwrap()).or_default().push(test);
    }
    let mut checked = 0;
    for (key, tests) in keys {
        let name = api.import_wrapped("aes256-siv", &hex(key)).await;
        for test in tests {
            let sealed =
                framed(&BASE64.encode(&[bytes(&test["siv"]), bytes(&test["ct"])].concat()));
            let (aad, plaintext) =
                (BASE64.encode(&bytes(&test["aad"])), BASE64.encode(&bytes(&test["msg"])));
            let body = json!({ "ciphertext": sealed, "associated_data": aad });
            let opened = done(&api.vault, &format!("decrypt/{name}"), &body).await;
            assert_eq!(opened["plaintext"], plaintext, "{test}");
            let body = json!({ "plaintext": plaintext, "associated_data": aad });
            let again = done(&api.vault, &format!("encrypt/{name}"), &body).await;
            assert_eq!(again["ciphertext"], sealed, "{test}");
            checked += 1;
        }
    }
    checked
}

/// Wycheproof's have a nonce, which no request can give here: none may open without it.
async fn siv_with_nonces(api: &mut Api, file: &Value) -> usize {
    let mut checked = 0;
    for (key, tests) in by_key(file) {
        let name = api.import_wrapped("aes256-siv", &hex(&key)).await;
        let invalid: Vec<Value> = tests
            .iter()
            .map(|test| {
                let mut test = (*test).clone();
                test["result"] = json!("invalid");
                test
            })
            .collect();
        let sealed: Vec<_> = invalid
            .iter()
            .map(|test| ([bytes(&test["tag"]), bytes(&test["ct"])].concat(), test))
            .collect();
        checked += api.check_opens(&name, &sealed).await;
    }
    checked
}

/// Keys from 32 bytes; tags that are cut hold for nothing here.
async fn hmac(api: &mut Api, hash: &str, file: &Value) -> usize {
    let mut keys: BTreeMap<&str, Vec<(&Value, bool)>> = BTreeMap::new();
    for group in list(&file["groups"]) {
        let whole = bytes(&list(&file["groups"])[0]["tests"][0]["tag"]).len();
        for test in list(&group["tests"]) {
            let is_whole = bytes(&test["tag"]).len() == whole;
            let key = test["key"].as_str().unwrap();
            keys.entry(key).or_default().push((test, is_whole && is_valid(test)));
        }
    }
    let mut checked = 0;
    for (key, tests) in keys.into_iter().filter(|(key, _)| key.len() >= 64) {
        let name = api.import_wrapped("hmac", &hex(key)).await;
        let item = |(test, _): &(&Value, bool)| {
            json!({
                "input": BASE64.encode(&bytes(&test["msg"])),
                "hmac": framed(&BASE64.encode(&bytes(&test["tag"]))),
            })
        };
        let items = tests.iter().map(item).collect();
        let results = api.batch(&format!("verify/{name}/{hash}"), json!({}), items).await;
        for ((test, holds), result) in tests.iter().zip(results) {
            assert_eq!(result["valid"], *holds, "{test} {result}");
            checked += 1;
        }
    }
    checked
}

async fn ed25519(api: &mut Api, file: &Value) -> usize {
    let mut checked = 0;
    for group in list(&file["groups"]) {
        let public = BASE64.encode(&bytes(&group["pk"]));
        let name = api.import(json!({ "type": "ed25519", "public_key": public })).await;
        checked += api.check_holds(&name, json!({}), list(&group["tests"]), Form::Base64).await;
    }
    checked
}

async fn ecdsa(api: &mut Api, kind: &str, file: &Value) -> usize {
    let mut checked = 0;
    for group in list(&file["groups"]) {
        let name = api.import_public(kind, &bytes(&group["key"])).await;
        let (marshaling, form) = match group["form"].as_str().unwrap() {
            "fixed" => ("jws", Form::Jws),
            _ => ("asn1", Form::Base64),
        };
        let scheme = json!({ "hash_algorithm": group["hash"], "marshaling_algorithm": marshaling });
        checked += api.check_holds(&name, scheme, list(&group["tests"]), form).await;
    }
    checked
}

/// "Acceptable" leaves out a NULL that RFC 8017 §9.2 asks for: it does not hold here.
async fn rsa_signatures(api: &mut Api, padding: &str, file: &Value) -> usize {
    let mut checked = 0;
    for group in list(&file["groups"]) {
        let spki = bytes(&group["key"]);
        let name = api.import_public(rsa_kind(spki.len()), &spki).await;
        let mut scheme = json!({ "hash_algorithm": group["hash"], "signature_algorithm": padding });
        if padding == "pss" {
            scheme["salt_length"] = json!(group["salt"].to_string());
        }
        let mut tests = list(&group["tests"]).to_vec();
        if group["salt"] == 0 {
            // On the wire 0 means any length, as with the peers: what is wrong with nothing but its
            // salt's length holds.
            for test in &mut tests {
                if test["comment"].as_str().is_some_and(|text| text.starts_with("s_len changed")) {
                    test["result"] = json!("valid");
                }
            }
        }
        checked += api.check_holds(&name, scheme, &tests, Form::Base64).await;
    }
    checked
}

/// With SHA-256, which is what type `rsa-*` encrypts with.
async fn rsa_oaep(api: &mut Api, file: &Value) -> usize {
    let mut checked = 0;
    for group in list(&file["groups"]).iter().filter(|group| group["hash"] == "sha2-256") {
        let pkcs8 = bytes(&group["key"]);
        let name = api.import_wrapped(rsa_kind(pkcs8.len() / 4), &pkcs8).await;
        let tests = list(&group["tests"]);
        let sealed: Vec<_> = tests.iter().map(|test| (bytes(&test["ct"]), test)).collect();
        checked += api.check_opens(&name, &sealed).await;
    }
    checked
}

/// The type of a public key of so many bytes.
fn rsa_kind(spki: usize) -> &'static str {
    match spki {
        ..350 => "rsa-2048",
        350..500 => "rsa-3072",
        _ => "rsa-4096",
    }
}

fn by_key(file: &Value) -> BTreeMap<String, Vec<&Value>> {
    let mut keys: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for group in list(&file["groups"]) {
        for test in list(&group["tests"]) {
            keys.entry(test["key"].as_str().unwrap().to_owned()).or_default().push(test);
        }
    }
    keys
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn is_valid(test: &Value) -> bool {
    test["result"] == "valid"
}

fn framed(encoded: &str) -> String {
    format!("vault:v1:{encoded}")
}

fn bytes(value: &Value) -> Vec<u8> {
    hex(value.as_str().unwrap())
}

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// What every ciphertext is refused with that does not open.
const REFUSED: &str = "cipher: message authentication failed";
