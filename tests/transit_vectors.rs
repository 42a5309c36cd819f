//! What a peer has encrypted, signed and backed up, opened and checked through the API; and what it
//! refuses, refused.

#![expect(clippy::panic, reason = "plain code is clearer in tests and their helpers")]

use std::collections::BTreeMap;

use data_encoding::BASE64;
use kista::{
    crypto::{Hash, pem},
    gate::Operation::Read,
};
use serde_json::{Value, json};

use crate::support::{
    TestVault,
    transit::{done, vault, wrap, write},
};

/// OpenBao 2.6.2's answers.
fn vectors() -> Value {
    let text = include_str!("fixtures/transit/vectors.json");
    serde_json::from_str(text).unwrap()
}

fn list(value: &Value) -> &[Value] {
    let items = value.as_array().unwrap();
    assert!(!items.is_empty());
    items
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// Restores a symmetric key, or a derived Ed25519 one, from what a peer's export has told of it.
async fn restore_exported(vault: &TestVault, key: &Value) {
    let (config, versions) = (&key["config"], key["versions"].as_object().unwrap());
    let entry = |version: &Value| {
        let material = ["encryption_key", "signing_key", "hmac_key"];
        let material = material.iter().find_map(|name| version[*name].as_str()).unwrap();
        let converges = config["convergent_encryption"] == true;
        json!({
            "key": material, "hmac_key": version["hmac_key"], "time": "2026-01-02T03:04:05Z",
            "convergent_version": if converges { 3 } else { 0 }, "public_key": "",
        })
    };
    let entries: BTreeMap<String, Value> =
        versions.iter().map(|(number, one)| (number.clone(), entry(one))).collect();
    let mut archive = vec![json!({})];
    archive.extend((1..=entries.len()).map(|number| entries[&number.to_string()].clone()));
    let kind = match text(key, "type") {
        "aes256-gcm96" => 0,
        "ed25519" => 2,
        "chacha20-poly1305" => 5,
        "aes128-gcm96" => 8,
        "hmac" => 10,
        "xchacha20-poly1305" => 11,
        other => panic!("{other}"),
    };
    let backup = json!({
        "policy": {
            "name": key["name"], "type": kind, "keys": entries, "derived": config["derived"],
            "kdf": if config["kdf"] == "hmac-sha256-counter" { 0 } else { 1 },
            "convergent_encryption": config["convergent_encryption"] == true,
            "convergent_version": -1, "latest_version": entries.len(),
            "min_decryption_version": 1, "exportable": true, "allow_plaintext_backup": true,
            "key_size": config["key_size"].as_u64().unwrap_or(0),
        },
        "archived_keys": { "keys": archive },
    });
    let backup = BASE64.encode(backup.to_string().as_bytes());
    done(vault, "restore", &json!({ "backup": backup })).await;
}

/// Imports the versions of an asymmetric key from a peer's exports, and puts the keys of their
/// HMACs in by way of a backup.
async fn import_exported(vault: &TestVault, key: &Value) {
    let (name, versions) = (text(key, "name"), key["versions"].as_object().unwrap());
    for number in 1..=versions.len() {
        let version = &versions[&number.to_string()];
        let target = pkcs8(text(version, "signing_key"), text(key, "type"));
        let ciphertext = wrap(vault, Hash::Sha2_256, &target).await;
        let route = if number == 1 { "import" } else { "import_version" };
        let body = json!({
            "ciphertext": ciphertext, "type": key["type"], "exportable": true,
            "allow_plaintext_backup": true,
        });
        done(vault, &format!("keys/{name}/{route}"), &body).await;
    }
    let backup = vault.as_root(Read, &format!("transit/backup/{name}"), "").await.json();
    let backup = BASE64.decode(text(&backup["data"], "backup").as_bytes()).unwrap();
    let mut whole = String::from_utf8(backup).unwrap();
    let parsed: Value = serde_json::from_str(&quoted(&whole)).unwrap();
    for (number, version) in versions {
        let own = text(&parsed["policy"]["keys"][number], "hmac_key");
        whole = whole.replace(own, text(version, "hmac_key"));
    }
    let body = json!({ "backup": BASE64.encode(whole.as_bytes()), "force": true });
    done(vault, "restore", &body).await;
}

/// PKCS#8 of a key as the peer exports it.
fn pkcs8(exported: &str, kind: &str) -> Vec<u8> {
    use kista::crypto::{
        ec::{Curve, EcKey},
        ed25519::Ed25519Key,
    };
    if kind == "ed25519" {
        let bytes = BASE64.decode(exported.as_bytes()).unwrap();
        let seed = kista::secret::Key::copy_of(&bytes[..32]).unwrap();
        return Ed25519Key::from_seed(seed).to_pkcs8().expose(<[u8]>::to_vec);
    }
    let (label, der) = pem::decode(exported).unwrap();
    let der = der.expose(<[u8]>::to_vec);
    if label == "RSA PRIVATE KEY" {
        const VERSION_AND_RSA: [u8; 18] =
            [2, 1, 0, 0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        let inside = [VERSION_AND_RSA.to_vec(), tagged(4, &der)].concat();
        return tagged(0x30, &inside);
    }
    assert_eq!(label, "EC PRIVATE KEY");
    let curve = match kind {
        "ecdsa-p256" => Curve::P256,
        "ecdsa-p384" => Curve::P384,
        "ecdsa-p521" => Curve::P521,
        other => panic!("{other}"),
    };
    // SEC 1: a sequence of the version and the scalar in an octet string, then more.
    let start = der.windows(4).position(|four| four[..3] == [2, 1, 1] && four[3] == 4).unwrap();
    let length = usize::from(der[start + 4]);
    let scalar = &der[start + 5..start + 5 + length];
    EcKey::from_scalar(curve, scalar).unwrap().to_pkcs8().expose(<[u8]>::to_vec)
}

/// DER of a value of 256 bytes and more.
fn tagged(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[tag, 0x82], length.as_slice(), value].concat()
}

/// The members of a vector that a request takes over.
fn beside(vector: &Value) -> Value {
    let mut body = json!({});
    for name in ["context", "associated_data"] {
        if let Some(value) = vector.get(name) {
            body[name] = value.clone();
        }
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn ciphertexts_of_a_peer_open_and_convergent_ones_are_made_anew() {
    let (vault, vectors) = (vault().await, vectors());
    let (mut opened, mut made) = (0, 0);
    for key in list(&vectors["encryption"]) {
        restore_exported(&vault, key).await;
        let name = text(key, "name");
        for vector in list(&key["vectors"]) {
            let plaintext = &vectors["plaintexts"][text(vector, "plaintext")];
            let mut body = beside(vector);
            body["ciphertext"] = vector["ciphertext"].clone();
            let answer = done(&vault, &format!("decrypt/{name}"), &body).await;
            assert_eq!(&answer["plaintext"], plaintext, "{name} {vector}");
            opened += 1;
            if key["config"]["convergent_encryption"] == true
                && vector.get("associated_data").is_none()
            {
                let mut body = beside(vector);
                body["plaintext"] = plaintext.clone();
                body["key_version"] = vector["version"].clone();
                let answer = done(&vault, &format!("encrypt/{name}"), &body).await;
                assert_eq!(answer["ciphertext"], vector["ciphertext"], "{name}");
                made += 1;
            }
        }
    }
    for family in list(&vectors["convergent_with_associated_data"]) {
        let name = text(family, "key");
        let nonces: Vec<_> = {
            let mut nonces = Vec::new();
            for vector in list(&family["vectors"]) {
                let mut body = beside(vector);
                body["ciphertext"] = vector["ciphertext"].clone();
                let answer = done(&vault, &format!("decrypt/{name}"), &body).await;
                assert_eq!(answer["plaintext"], vectors["plaintexts"]["short"]);
                // The peer gives both one nonce, from which forgeries follow; here they differ.
                let mut body = beside(vector);
                body["plaintext"] = answer["plaintext"].clone();
                let answer = done(&vault, &format!("encrypt/{name}"), &body).await;
                let sealed = text(&answer, "ciphertext").rsplit(':').next().unwrap().to_owned();
                nonces.push(BASE64.decode(sealed.as_bytes()).unwrap()[..12].to_vec());
                opened += 1;
            }
            nonces
        };
        assert_ne!(nonces[0], nonces[1], "{name}");
    }
    assert!(opened > 300 && made >= 40, "{opened} opened, {made} made anew");
    let derived = &vectors["byok"]["imported_derived"];
    restore_exported(&vault, &{
        let mut key = derived.clone();
        key["type"] = json!("aes256-gcm96");
        key
    })
    .await;
    for vector in list(&derived["vectors"]) {
        let mut body = beside(vector);
        body["ciphertext"] = vector["ciphertext"].clone();
        let answer = done(&vault, "decrypt/imported-derived", &body).await;
        assert_eq!(&answer["plaintext"], &vectors["plaintexts"][text(vector, "plaintext")]);
    }
    for datakey in list(&vectors["datakeys"]).iter().filter(|datakey| datakey.get("key").is_some())
    {
        let mut body = beside(&datakey["request"]);
        body["ciphertext"] = datakey["data"]["ciphertext"].clone();
        let (status, answer) =
            write(&vault, &format!("decrypt/{}", text(datakey, "key")), &body).await;
        if status == 400 && text(datakey, "key").starts_with("rsa") {
            continue;
        }
        assert_eq!(status, 200, "{datakey} {answer}");
        if let Some(plaintext) = datakey["data"].get("plaintext") {
            assert_eq!(&answer["data"]["plaintext"], plaintext);
        }
    }
    refusals(&vault, &vectors["refusals"]).await;
}

/// Plays requests that a peer has refused. Where it answers 500 for the caller's mistake, Kista
/// answers 400 in words of its own.
async fn refusals(vault: &TestVault, refusals: &Value) {
    // Keys that the requests speak of beside those of the vectors.
    let old = json!({ "plaintext": "aGVsbG8=" });
    done(vault, "keys/old", &json!({})).await;
    let first = done(vault, "encrypt/old", &old).await;
    for _ in 0..2 {
        done(vault, "keys/old/rotate", &json!({})).await;
    }
    let mins = json!({ "min_decryption_version": 2, "min_encryption_version": 3 });
    done(vault, "keys/old/config", &mins).await;
    for refusal in list(refusals) {
        let request = &refusal["request"];
        let path = text(request, "path").strip_prefix("transit/").unwrap();
        let mut body = request["body"].clone();
        if matches!(path, "decrypt/old" | "rewrap/old") {
            body["ciphertext"] = first["ciphertext"].clone();
        }
        let (status, answer) = write(vault, path, &body).await;
        let expected = refusal["status"].as_u64().unwrap();
        if expected == 500 {
            assert_eq!(status, 400, "{refusal} {answer}");
        } else {
            assert_eq!(u64::from(status), expected, "{refusal} {answer}");
        }
        if expected == 400 {
            assert_eq!(answer["errors"], refusal["errors"], "{refusal}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_and_hmacs_of_a_peer_hold() {
    let (vault, vectors) = (vault().await, vectors());
    for key in list(&vectors["signing"]["keys"]) {
        if key["config"]["derived"] == true {
            restore_exported(&vault, key).await;
        } else {
            import_exported(&vault, key).await;
        }
    }
    let mut anew = 0;
    for vector in list(&vectors["signing"]["vectors"]) {
        let name = text(vector, "key");
        let mut body = vector["request"].clone();
        body.as_object_mut().unwrap().remove("key_version");
        let input = input_of(&vectors, &vector["request"]);
        body["input"] = input.clone();
        body["signature"] = vector["signature"].clone();
        let answer = done(&vault, &format!("verify/{name}"), &body).await;
        assert_eq!(answer["valid"], true, "{vector}");
        let is_fixed =
            name.starts_with("ed25519") || vector["request"]["signature_algorithm"] == "pkcs1v15";
        if is_fixed {
            let mut body = vector["request"].clone();
            body["input"] = input;
            body["key_version"] = vector["version"].clone();
            let (status, answer) = write(&vault, &format!("sign/{name}"), &body).await;
            if status == 200 {
                assert_eq!(answer["data"]["signature"], vector["signature"], "{vector}");
                anew += 1;
            } else {
                // What no safe implementation of RSA signs here: said so, not done otherwise.
                assert!(answer.to_string().contains("not supported"), "{answer}");
            }
        }
    }
    assert!(anew > 30, "{anew} signatures made anew");
    for case in list(&vectors["signing"]["verify"]) {
        let path = text(&case["request"], "path").strip_prefix("transit/").unwrap();
        if path.contains("aes") {
            continue;
        }
        let (status, answer) = write(&vault, path, &case["request"]["body"]).await;
        match case["status"].as_u64() {
            // A mistake that the peer counts as its own, or that it crashes at.
            Some(500) | None => assert_eq!(status, 400, "{case} {answer}"),
            Some(expected) => assert_eq!(u64::from(status), expected, "{case} {answer}"),
        }
        if let Some(valid) = case["data"].get("valid") {
            assert_eq!(&answer["data"]["valid"], valid, "{case}");
        }
    }
    for vector in list(&vectors["rsa_encryption"]) {
        if vector.get("ciphertext").is_none() {
            let path = text(&vector["request"], "path").strip_prefix("transit/").unwrap();
            let (status, _) = write(&vault, path, &vector["request"]["body"]).await;
            assert_eq!(status, 400, "{vector}");
            continue;
        }
        let body = json!({ "ciphertext": vector["ciphertext"] });
        let answer = done(&vault, &format!("decrypt/{}", text(vector, "key")), &body).await;
        assert_eq!(&answer["plaintext"], &vectors["plaintexts"][text(vector, "plaintext")]);
    }
    for key in list(&vectors["hmac"]["keys"]).iter().chain(list(&vectors["encryption"])) {
        restore_exported(&vault, key).await;
    }
    for vector in list(&vectors["hmac"]["vectors"]) {
        let (name, algorithm) = (text(vector, "key"), text(vector, "algorithm"));
        let input = &vectors["plaintexts"][text(vector, "input")];
        let body = json!({ "input": input, "key_version": vector["version"] });
        let answer = done(&vault, &format!("hmac/{name}/{algorithm}"), &body).await;
        assert_eq!(answer["hmac"], vector["hmac"], "{name} {algorithm}");
    }
    for case in list(&vectors["hmac"]["verify"]) {
        let path = text(&case["request"], "path").strip_prefix("transit/").unwrap();
        let (status, answer) = write(&vault, path, &case["request"]["body"]).await;
        match case["status"].as_u64() {
            // A mistake that the peer counts as its own, or that it crashes at.
            Some(500) | None => assert_eq!(status, 400, "{case} {answer}"),
            Some(expected) => assert_eq!(u64::from(status), expected, "{case} {answer}"),
        }
        if let Some(valid) = case["data"].get("valid") {
            assert_eq!(&answer["data"]["valid"], valid, "{case}");
        }
    }
}

/// The input of a signature: a name of the list, or the bytes themselves.
fn input_of(vectors: &Value, request: &Value) -> Value {
    let named = request["input"].as_str().and_then(|name| vectors["plaintexts"].get(name));
    named.unwrap_or(&request["input"]).clone()
}

#[tokio::test]
async fn hashes_are_those_of_a_peer() {
    let (vault, vectors) = (vault().await, vectors());
    for case in list(&vectors["hash"]) {
        let Some(name) = case.get("input").and_then(Value::as_str) else {
            let path = format!("hash/{}", text(case, "algorithm"));
            let (status, answer) = write(&vault, &path, &json!({ "input": "" })).await;
            assert_eq!((status, &answer["errors"]), (400, &case["errors"]));
            continue;
        };
        let body = json!({ "input": vectors["plaintexts"][name], "format": case["format"] });
        let answer = done(&vault, &format!("hash/{}", text(case, "algorithm")), &body).await;
        assert_eq!(answer["sum"], case["sum"], "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_imported_in_every_form_and_damaged_ones_are_not() {
    let (vault, vectors) = (vault().await, vectors());
    for (number, case) in list(&vectors["byok"]["import"]).iter().enumerate() {
        let hash = match text(case, "hash_function") {
            "SHA1" => Hash::Sha1,
            "SHA224" => Hash::Sha2_224,
            "SHA256" => Hash::Sha2_256,
            "SHA384" => Hash::Sha2_384,
            "SHA512" => Hash::Sha2_512,
            other => panic!("{other}"),
        };
        let target = BASE64.decode(text(case, "target").as_bytes()).unwrap();
        if hash == Hash::Sha2_224 {
            // No safe implementation of RSA has it here: refused in words.
            let body = json!({ "ciphertext": "AAAA", "hash_function": "SHA224" });
            let (status, answer) = write(&vault, "keys/none/import", &body).await;
            assert!(status == 400 && answer.to_string().contains("not supported"), "{answer}");
            continue;
        }
        let ciphertext = wrap(&vault, hash, &target).await;
        let body = json!({
            "ciphertext": ciphertext, "type": case["type"], "exportable": true,
            "hash_function": case["hash_function"],
        });
        let name = format!("imported-{number}");
        done(&vault, &format!("keys/{name}/import"), &body).await;
        let shown = vault.as_root(Read, &format!("transit/keys/{name}"), "").await.json();
        let wanted = &case["config"];
        for field in ["imported_key", "imported_key_allow_rotation", "derived", "type", "key_size"]
        {
            assert_eq!(shown["data"].get(field), wanted.get(field), "{field} of {name}");
        }
        if let Some(public) = wanted["keys"]["1"].get("public_key") {
            assert_eq!(&shown["data"]["keys"]["1"]["public_key"], public, "{name}");
        }
        // A changed bit anywhere is refused, whichever part it hits.
        let mut blob = BASE64.decode(text(&body, "ciphertext").as_bytes()).unwrap();
        for place in [0, 511, 512, blob.len() - 1] {
            blob[place] ^= 1;
            let mut damaged = body.clone();
            damaged["ciphertext"] = json!(BASE64.encode(&blob));
            let (status, _) = write(&vault, &format!("keys/bad-{number}/import"), &damaged).await;
            assert_eq!(status, 400, "byte {place} of {name}");
            blob[place] ^= 1;
        }
    }
    for case in list(&vectors["byok"]["refused"]) {
        let request = &case["request"];
        let path = text(request, "path").strip_prefix("transit/").unwrap();
        if path.ends_with("/rotate") || path.starts_with("byok-export") {
            continue;
        }
        let (status, answer) = write(&vault, path, &request["body"]).await;
        assert_eq!(status, 400, "{} {answer}", case["note"]);
    }
    let (status, _) = write(&vault, "keys/imported-0/rotate", &json!({})).await;
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_a_peer_are_restored_and_used() {
    let (vault, vectors) = (vault().await, vectors());
    for case in list(&vectors["backup"]["backups"]) {
        let name = format!("copy-of-{}", text(case, "key"));
        done(&vault, &format!("restore/{name}"), &json!({ "backup": case["backup"] })).await;
        let (again, _) =
            write(&vault, &format!("restore/{name}"), &json!({ "backup": case["backup"] })).await;
        assert_eq!(again, 400);
        check_sample(&vault, &vectors, &name, &case["sample"]).await;
        assert_same_but_for_info(&vault, &name, text(case, "backup")).await;
        done(&vault, &format!("keys/{name}/rotate"), &json!({})).await;
        check_sample(&vault, &vectors, &name, &case["sample"]).await;
        // Backed up here and restored again it is the same key.
        let backup = vault.as_root(Read, &format!("transit/backup/{name}"), "").await.json();
        let body = json!({ "backup": backup["data"]["backup"] });
        done(&vault, &format!("restore/{name}-again"), &body).await;
        check_sample(&vault, &vectors, &format!("{name}-again"), &case["sample"]).await;
    }
    for case in list(&vectors["backup"]["own"]) {
        done(&vault, "restore", &json!({ "backup": case["backup"] })).await;
        let path = format!("keys/{}/rotate", text(case, "key"));
        done(&vault, &path, &json!({})).await;
    }
    let trimmed = &vectors["backup"]["trimmed"];
    done(&vault, "restore", &json!({ "backup": trimmed["backup"] })).await;
    done(&vault, "keys/trimmed/config", &json!({ "min_decryption_version": 3 })).await;
    for ciphertext in trimmed["ciphertexts"].as_object().unwrap().values() {
        done(&vault, "decrypt/trimmed", &json!({ "ciphertext": ciphertext })).await;
    }
}

/// A key that was restored is backed up as it came: that is what the peer takes again.
async fn assert_same_but_for_info(vault: &TestVault, name: &str, backup: &str) {
    let parsed = |backup: &str| {
        let whole = String::from_utf8(BASE64.decode(backup.as_bytes()).unwrap()).unwrap();
        let mut whole: Value = serde_json::from_str(&quoted(&whole)).unwrap();
        for changed in ["name", "backup_info", "restore_info"] {
            assert!(
                whole["policy"].as_object_mut().unwrap().remove(changed).is_some(),
                "{changed}"
            );
        }
        whole
    };
    let own = vault.as_root(Read, &format!("transit/backup/{name}"), "").await.json();
    assert_eq!(parsed(text(&own["data"], "backup")), parsed(backup), "{name}");
}

async fn check_sample(vault: &TestVault, vectors: &Value, name: &str, sample: &Value) {
    let input = &vectors["plaintexts"][text(sample, "input")];
    let mut body = beside(sample);
    if let Some(ciphertext) = sample.get("ciphertext") {
        body["ciphertext"] = ciphertext.clone();
        let answer = done(vault, &format!("decrypt/{name}"), &body).await;
        assert_eq!(&answer["plaintext"], input, "{name}");
        return;
    }
    for proof in ["signature", "hmac"] {
        if let Some(value) = sample.get(proof) {
            body[proof] = value.clone();
        }
    }
    body["input"] = input.clone();
    let answer = done(vault, &format!("verify/{name}"), &body).await;
    assert_eq!(answer["valid"], true, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_that_lack_something_are_refused_whole() {
    let (vault, vectors) = (vault().await, vectors());
    let mut refused = 0;
    for number in [1, 3, 7, 8, 11, 14] {
        let backup = &vectors["backup"]["backups"][number]["backup"];
        let whole = BASE64.decode(backup.as_str().unwrap().as_bytes()).unwrap();
        let whole: Value =
            serde_json::from_str(&quoted(std::str::from_utf8(&whole).unwrap())).unwrap();
        for pointer in [
            "/policy",
            "/archived_keys",
            "/policy/keys",
            "/policy/type",
            "/policy/latest_version",
            "/policy/min_decryption_version",
            "/policy/keys/1",
            "/archived_keys/keys/1",
            "/policy/keys/1/key",
            "/archived_keys/keys/1/key",
            "/policy/keys/1/ec_d",
            "/policy/keys/1/ec_x",
            "/archived_keys/keys/1/ec_y",
            "/policy/keys/1/rsa_key",
            "/archived_keys/keys/1/rsa_key/N",
            "/archived_keys/keys/1/rsa_key/E",
            "/archived_keys/keys/1/rsa_key/D",
            "/archived_keys/keys/1/rsa_key/Primes/0",
        ] {
            let Some(broken) = without(&whole, pointer) else { continue };
            let body = json!({ "backup": BASE64.encode(unquoted(&broken.to_string()).as_bytes()) });
            let (status, answer) = write(&vault, "restore/broken", &body).await;
            assert_eq!(status, 400, "{number} without {pointer}: {answer}");
            refused += 1;
        }
    }
    assert!(refused > 60, "{refused}");
    let shown = vault.as_root(Read, "transit/keys/broken", "").await;
    assert_eq!(shown.status, 404, "nothing is left of a refused backup");
    for case in ["e30=", "bm8ganNvbg==", "!", ""] {
        let (status, _) = write(&vault, "restore/x", &json!({ "backup": case })).await;
        assert_eq!(status, 400, "{case}");
    }
}

/// Puts marks around the integers that no JSON value of ours can hold.
fn quoted(json: &str) -> String {
    let (mut out, mut digits, mut in_text) = (String::new(), String::new(), false);
    for one in json.chars() {
        if !in_text && one.is_ascii_digit() {
            digits.push(one);
            continue;
        }
        match digits.len() {
            0..18 => out.push_str(&digits),
            _ => out.push_str(&format!("\"int:{digits}\"")),
        }
        digits.clear();
        in_text ^= one == '"';
        out.push(one);
    }
    out
}

/// Takes the marks away again.
fn unquoted(json: &str) -> String {
    let mut parts = json.split("\"int:");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (digits, rest) = part.split_once('"').unwrap();
        out.push_str(digits);
        out.push_str(rest);
    }
    out
}

/// A copy without what a pointer names; None where that is nothing.
fn without(whole: &Value, pointer: &str) -> Option<Value> {
    let mut copy = whole.clone();
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match copy.pointer_mut(parent)? {
        Value::Object(members) => {
            let removed = members.remove(last)?;
            if removed.is_null() {
                return None;
            }
        }
        Value::Array(items) => {
            items.remove(last.parse().unwrap());
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    }
    Some(copy)
}
