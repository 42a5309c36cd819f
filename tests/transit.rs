//! The transit engine's behaviour through the API: what of it peers do not have, and what they do
//! otherwise.

use std::time::Duration;

use data_encoding::BASE64;
use kista::{
    crypto::Hash,
    gate::Operation::{Delete, List, Read, Write},
};
use serde_json::{Value, json};

use crate::support::{
    TestVault,
    transit::{done, vault, wrap, write},
};

async fn read(vault: &TestVault, path: &str) -> Value {
    let answer = vault.as_root(Read, &format!("transit/{path}"), "").await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()["data"].clone()
}

/// The only error of a write that is refused.
async fn refused(vault: &TestVault, path: &str, body: &Value) -> String {
    let (status, answer) = write(vault, path, body).await;
    assert_eq!(status, 400, "{path} {body}: {answer}");
    assert_eq!(answer["errors"].as_array().map(Vec::len), Some(1), "{answer}");
    answer["errors"][0].as_str().unwrap().to_owned()
}

async fn create(vault: &TestVault, name: &str, body: Value) {
    done(vault, &format!("keys/{name}"), &body).await;
}

async fn rotate(vault: &TestVault, name: &str) {
    done(vault, &format!("keys/{name}/rotate"), &json!({})).await;
}

async fn configure(vault: &TestVault, name: &str, body: Value) {
    done(vault, &format!("keys/{name}/config"), &body).await;
}

/// A ciphertext of a text, with what goes beside it.
async fn encrypt(vault: &TestVault, name: &str, plaintext: &str, mut body: Value) -> String {
    body["plaintext"] = json!(base64(plaintext));
    let answer = done(vault, &format!("encrypt/{name}"), &body).await;
    answer["ciphertext"].as_str().unwrap().to_owned()
}

async fn decrypt(vault: &TestVault, name: &str, ciphertext: &str, mut body: Value) -> String {
    body["ciphertext"] = json!(ciphertext);
    let answer = done(vault, &format!("decrypt/{name}"), &body).await;
    let plaintext = BASE64.decode(answer["plaintext"].as_str().unwrap().as_bytes()).unwrap();
    String::from_utf8(plaintext).unwrap()
}

/// The words with which a ciphertext is refused.
async fn not_decrypted(vault: &TestVault, name: &str, ciphertext: &str, mut body: Value) -> String {
    body["ciphertext"] = json!(ciphertext);
    refused(vault, &format!("decrypt/{name}"), &body).await
}

fn base64(text: &str) -> String {
    BASE64.encode(text.as_bytes())
}

fn sealed(ciphertext: &str) -> Vec<u8> {
    BASE64.decode(ciphertext.rsplit(':').next().unwrap().as_bytes()).unwrap()
}

const FAILED: &str = "cipher: message authentication failed";
const TOO_OLD: &str = "ciphertext or signature version is disallowed by policy (too old)";

#[tokio::test]
async fn an_absent_key_is_made_for_who_may_create_it() {
    let vault = vault().await;
    create(&vault, "there", json!({})).await;
    let update = r#"path "transit/encrypt/*" { capabilities = ["update"] }"#;
    let both = r#"path "transit/encrypt/*" { capabilities = ["create", "update"] }"#;
    vault.policy("update", update).await;
    vault.policy("both", both).await;
    let (update, both) = (vault.token(&["update"]).await, vault.token(&["both"]).await);
    let body = json!({ "plaintext": base64("a") }).to_string();
    for (token, name, status) in
        [(&update, "there", 200), (&update, "new", 403), (&both, "new", 200), (&update, "new", 200)]
    {
        let answer =
            vault.call(Some(token), Write, &format!("transit/encrypt/{name}"), &body).await;
        assert_eq!(answer.status, status, "{name} {answer:?}");
    }
    let made = read(&vault, "keys/new").await;
    assert_eq!((&made["type"], &made["derived"]), (&json!("aes256-gcm96"), &json!(false)));
}

#[tokio::test]
async fn the_first_request_says_what_is_made() {
    let vault = vault().await;
    let context = json!({ "context": base64("c") });
    encrypt(&vault, "derived", "a", context.clone()).await;
    assert_eq!(read(&vault, "keys/derived").await["derived"], true);
    let mut body = context.clone();
    body["convergent_encryption"] = json!(true);
    body["type"] = json!("chacha20-poly1305");
    encrypt(&vault, "convergent", "a", body).await;
    let made = read(&vault, "keys/convergent").await;
    assert_eq!(made["convergent_encryption"], true);
    assert_eq!(made["type"], "chacha20-poly1305");
    let plaintext = base64("a");
    let error = refused(
        &vault,
        "encrypt/none",
        &json!({ "plaintext": plaintext, "convergent_encryption": true }),
    )
    .await;
    assert_eq!(error, "convergent encryption requires derivation to be enabled");
    let body = json!({ "plaintext": plaintext, "type": "ed25519" });
    let error = refused(&vault, "encrypt/none", &body).await;
    assert_eq!(error, "message encryption not supported for key type ed25519");
    done(&vault, "config/keys", &json!({ "disable_upsert": true })).await;
    assert_eq!(read(&vault, "config/keys").await["disable_upsert"], true);
    let error = refused(&vault, "encrypt/none", &json!({ "plaintext": plaintext })).await;
    assert_eq!(error, "encryption key not found");
    assert_eq!(vault.as_root(Read, "transit/keys/none", "").await.status, 404);
    // Nothing else makes keys.
    done(&vault, "config/keys", &json!({ "disable_upsert": false })).await;
    let body = json!({ "ciphertext": "vault:v1:AAAA", "input": plaintext });
    for path in ["decrypt/none", "rewrap/none", "datakey/wrapped/none", "hmac/none", "sign/none"] {
        assert!(refused(&vault, path, &body).await.contains("not found"), "{path}");
    }
    assert_eq!(vault.as_root(Read, "transit/keys/none", "").await.status, 404);
}

#[tokio::test]
async fn equal_inputs_converge_and_no_nonce_comes_twice_for_two_associated_data() {
    let vault = vault().await;
    for kind in ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"] {
        create(
            &vault,
            kind,
            json!({ "type": kind, "derived": true, "convergent_encryption": true }),
        )
        .await;
        let nonce_bytes = if kind.starts_with('x') { 24 } else { 12 };
        let with = |aad: &str| json!({ "context": base64("c"), "associated_data": base64(aad) });
        let mut nonces = Vec::new();
        for aad in ["", "one", "two"] {
            let first = encrypt(&vault, kind, "same", with(aad)).await;
            assert_eq!(first, encrypt(&vault, kind, "same", with(aad)).await, "{kind} {aad}");
            assert_eq!(decrypt(&vault, kind, &first, with(aad)).await, "same");
            nonces.push(sealed(&first)[..nonce_bytes].to_vec());
        }
        nonces.sort();
        nonces.dedup();
        assert_eq!(nonces.len(), 3, "{kind}");
        let other = json!({ "context": base64("d") });
        let context = json!({ "context": base64("c") });
        assert_ne!(
            encrypt(&vault, kind, "same", other).await,
            encrypt(&vault, kind, "same", context).await
        );
    }
}

#[tokio::test]
async fn rewrap_takes_what_was_beside_and_tells_whether_anything_changed() {
    let vault = vault().await;
    create(&vault, "k", json!({ "derived": true })).await;
    let beside = json!({ "context": base64("c"), "associated_data": base64("row 1") });
    let first = encrypt(&vault, "k", "a", beside.clone()).await;
    let mut body = beside.clone();
    body["ciphertext"] = json!(first);
    let same = done(&vault, "rewrap/k", &body).await;
    assert_eq!((&same["changed"], &same["key_version"]), (&json!(false), &json!(1)));
    rotate(&vault, "k").await;
    let new = done(&vault, "rewrap/k", &body).await;
    assert_eq!((&new["changed"], &new["key_version"]), (&json!(true), &json!(2)));
    let ciphertext = new["ciphertext"].as_str().unwrap();
    assert!(ciphertext.starts_with("vault:v2:"));
    assert_eq!(decrypt(&vault, "k", ciphertext, beside.clone()).await, "a");
    body["key_version"] = json!(1);
    assert_eq!(done(&vault, "rewrap/k", &body).await["changed"], false);
    // Without what was beside nothing is opened, and so nothing written.
    let context = json!({ "ciphertext": first, "context": base64("c") });
    assert_eq!(refused(&vault, "rewrap/k", &context).await, FAILED);
    let aad = json!({ "ciphertext": first, "associated_data": base64("row 1") });
    assert!(refused(&vault, "rewrap/k", &aad).await.starts_with("missing 'context'"));
    let batch = json!({ "batch_input": [
        { "ciphertext": first, "context": base64("c"), "associated_data": base64("row 1") },
        { "ciphertext": first, "context": base64("c"), "associated_data": base64("row 2") },
    ] });
    let (status, answer) = write(&vault, "rewrap/k", &batch).await;
    let results = &answer["data"]["batch_results"];
    assert_eq!(status, 200);
    assert_eq!((&results[0]["changed"], &results[1]["error"]), (&json!(true), &json!(FAILED)));
}

#[tokio::test]
async fn a_nonce_that_is_given_changes_nothing() {
    let vault = vault().await;
    let nonce = BASE64.encode(&[7; 12]);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let body = json!({ "plaintext": base64("a"), "nonce": nonce });
        let (status, answer) = write(&vault, "encrypt/k", &body).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer["warnings"][0].as_str().unwrap().ends_with("parameters: [nonce]"));
        let ciphertext = answer["data"]["ciphertext"].as_str().unwrap().to_owned();
        assert_eq!(decrypt(&vault, "k", &ciphertext, json!({ "nonce": "" })).await, "a");
        seen.push(sealed(&ciphertext)[..12].to_vec());
    }
    assert_ne!(seen[0], seen[1]);
    assert!(!seen.contains(&vec![7; 12]));
}

#[tokio::test]
async fn a_committing_ciphertext_opens_under_its_key_version_and_associated_data_alone() {
    let vault = vault().await;
    let (kind, beside) = ("aes256-gcm-committing", json!({ "associated_data": base64("row 1") }));
    create(&vault, "one", json!({ "type": kind })).await;
    create(&vault, "two", json!({ "type": kind })).await;
    let sealed = encrypt(&vault, "one", "a", beside.clone()).await;
    rotate(&vault, "one").await;
    assert_eq!(decrypt(&vault, "one", &sealed, beside.clone()).await, "a");
    assert_eq!(not_decrypted(&vault, "two", &sealed, beside.clone()).await, FAILED);
    let other = json!({ "associated_data": base64("row 2") });
    assert_eq!(not_decrypted(&vault, "one", &sealed, other).await, FAILED);
    assert_eq!(not_decrypted(&vault, "one", &sealed, json!({})).await, FAILED);
    // The same key material as another version.
    let target = [9; 32];
    for version in 1..=2 {
        let ciphertext = wrap(&vault, Hash::Sha2_256, &target).await;
        let route = if version == 1 { "import" } else { "import_version" };
        let body = json!({ "type": kind, "ciphertext": ciphertext });
        done(&vault, &format!("keys/twice/{route}"), &body).await;
    }
    let body = json!({ "associated_data": base64("row 1"), "key_version": 1 });
    let first = encrypt(&vault, "twice", "a", body).await;
    let moved = first.replacen("v1", "v2", 1);
    assert_eq!(decrypt(&vault, "twice", &first, beside.clone()).await, "a");
    assert_eq!(not_decrypted(&vault, "twice", &moved, beside).await, FAILED);
}

#[tokio::test]
async fn a_softly_deleted_key_does_nothing_until_it_is_taken_back() {
    let vault = vault().await;
    create(&vault, "k", json!({ "exportable": true, "allow_plaintext_backup": true })).await;
    let sealed = encrypt(&vault, "k", "a", json!({})).await;
    let answer = vault.as_root(Delete, "transit/keys/k/soft-delete", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for _ in 0..2 {
        assert_eq!(read(&vault, "keys/k").await["soft_deleted"], true);
        let body = json!({ "ciphertext": sealed, "plaintext": "", "input": "" });
        for path in [
            "encrypt/k",
            "decrypt/k",
            "rewrap/k",
            "describe/k",
            "datakey/plaintext/k",
            "hmac/k",
            "keys/k/rotate",
        ] {
            let error = refused(&vault, path, &body).await;
            assert_eq!(error, "refusing to use soft-deleted key", "{path}");
        }
        for path in ["transit/export/encryption-key/k", "transit/backup/k"] {
            assert_eq!(vault.as_root(Read, path, "").await.status, 400, "{path}");
        }
        vault.seal().await;
        vault.unseal().await;
    }
    done(&vault, "keys/k/soft-delete-restore", &json!({})).await;
    assert_eq!(decrypt(&vault, "k", &sealed, json!({})).await, "a");
}

#[tokio::test]
async fn trimmed_versions_are_gone_for_good() {
    let vault = vault().await;
    create(&vault, "k", json!({ "exportable": true, "allow_plaintext_backup": true })).await;
    let mut sealed = Vec::new();
    for _ in 0..3 {
        sealed.push(encrypt(&vault, "k", "a", json!({})).await);
        rotate(&vault, "k").await;
    }
    let trim = |version: i64| json!({ "min_available_version": version });
    let error = refused(&vault, "keys/k/trim", &trim(3)).await;
    assert!(error.contains("when minimum encryption version is not set"), "{error}");
    configure(&vault, "k", json!({ "min_decryption_version": 3, "min_encryption_version": 3 }))
        .await;
    let error = refused(&vault, "keys/k/trim", &trim(4)).await;
    assert!(error.contains("cannot be greater"), "{error}");
    done(&vault, "keys/k/trim", &trim(3)).await;
    let error = refused(&vault, "keys/k/trim", &trim(2)).await;
    assert_eq!(error, "minimum available version cannot be decremented");
    for _ in 0..2 {
        let error = refused(&vault, "keys/k/config", &json!({ "min_decryption_version": 1 })).await;
        assert!(error.contains("versions below 3 were trimmed"), "{error}");
        assert_eq!(not_decrypted(&vault, "k", &sealed[1], json!({})).await, TOO_OLD);
        assert_eq!(decrypt(&vault, "k", &sealed[2], json!({})).await, "a");
        assert_eq!(read(&vault, "keys/k").await["min_available_version"], 3);
        let backup = read(&vault, "backup/k").await;
        let backup = BASE64.decode(backup["backup"].as_str().unwrap().as_bytes()).unwrap();
        let backup: Value = serde_json::from_slice(&backup).unwrap();
        assert_eq!(backup["archived_keys"]["keys"].as_array().unwrap().len(), 2);
        vault.seal().await;
        vault.unseal().await;
    }
}

#[tokio::test]
async fn lowest_versions_shut_what_is_below_them_and_warn_while_it_is_used() {
    let vault = vault().await;
    create(&vault, "k", json!({})).await;
    let sealed = encrypt(&vault, "k", "a", json!({})).await;
    rotate(&vault, "k").await;
    rotate(&vault, "k").await;
    configure(&vault, "k", json!({ "min_encryption_version": 2 })).await;
    let body = |version: i64| json!({ "plaintext": "", "key_version": version });
    assert_eq!(
        refused(&vault, "encrypt/k", &body(1)).await,
        "requested version for encryption is less than the minimum encryption key version"
    );
    assert_eq!(done(&vault, "encrypt/k", &body(2)).await["key_version"], 2);
    assert_eq!(
        refused(&vault, "encrypt/k", &body(4)).await,
        "requested version for encryption is higher than the latest key version"
    );
    let (_, answer) = write(&vault, "keys/k/config", &json!({ "min_decryption_version": 2 })).await;
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("version 1 was in use until 2026-01-01T00:00:00Z: 1 encryptions"));
    assert_eq!(not_decrypted(&vault, "k", &sealed, json!({})).await, TOO_OLD);
    let described = done(&vault, "describe/k", &json!({ "ciphertext": sealed })).await;
    assert_eq!(
        described,
        json!({
            "key_version": 1, "type": "aes256-gcm96", "is_current": false, "is_readable": false,
        })
    );
    let error = refused(&vault, "keys/k/config", &json!({ "min_decryption_version": 3 })).await;
    assert!(error.contains("must be greater than or equal"), "{error}");
    let error = refused(&vault, "keys/k/config", &json!({ "min_decryption_version": 9 })).await;
    assert!(error.contains("latest key version is 3"), "{error}");
    // Nothing is destroyed by it.
    let (_, answer) = write(&vault, "keys/k/config", &json!({ "min_decryption_version": 1 })).await;
    assert_eq!(answer["warnings"], Value::Null);
    assert_eq!(decrypt(&vault, "k", &sealed, json!({})).await, "a");
}

/// A backup, and the same put under another name with something changed.
async fn backup(vault: &TestVault, name: &str) -> Value {
    let backup = read(vault, &format!("backup/{name}")).await;
    serde_json::from_slice(&BASE64.decode(backup["backup"].as_str().unwrap().as_bytes()).unwrap())
        .unwrap()
}

fn restore_body(backup: &Value) -> Value {
    json!({ "backup": BASE64.encode(backup.to_string().as_bytes()) })
}

#[tokio::test]
async fn what_could_not_be_read_again_is_not_made() {
    let vault = vault().await;
    for (name, kind) in [("k", "aes256-gcm96"), ("pair", "ed25519")] {
        create(&vault, name, json!({ "type": kind })).await;
        rotate(&vault, name).await;
        configure(&vault, name, json!({ "min_decryption_version": 2 })).await;
    }
    let old = json!({ "plaintext": "", "input": "", "key_version": 1 });
    for path in ["encrypt/k", "hmac/k", "sign/pair"] {
        let error = refused(&vault, path, &old).await;
        assert!(error.contains("less than the minimum") || error.contains("too old"), "{error}");
    }
}

#[tokio::test]
async fn key_material_leaves_only_where_its_key_was_made_exportable() {
    let vault = vault().await;
    create(&vault, "to", json!({ "type": "rsa-2048" })).await;
    create(&vault, "k", json!({})).await;
    let ways = ["export/encryption-key/k", "export/hmac-key/k", "backup/k", "byok-export/to/k"];
    let answers = async || {
        let mut statuses = Vec::new();
        for way in ways {
            statuses.push(vault.as_root(Read, &format!("transit/{way}"), "").await.status);
        }
        statuses
    };
    assert_eq!(answers().await, [400, 400, 400, 400]);
    configure(&vault, "k", json!({ "exportable": true })).await;
    assert_eq!(answers().await, [200, 200, 400, 200]);
    configure(&vault, "k", json!({ "allow_plaintext_backup": true })).await;
    assert_eq!(answers().await, [200, 200, 200, 200]);
    // Whoever holds it already would only seem to have lost it.
    write(&vault, "keys/k/config", &json!({ "exportable": false })).await;
    assert_eq!(read(&vault, "keys/k").await["exportable"], true);
}

#[tokio::test]
async fn a_batch_has_its_limits_and_its_items_their_own_context() {
    let vault = vault().await;
    create(&vault, "k", json!({})).await;
    create(&vault, "rsa", json!({ "type": "rsa-2048" })).await;
    let items = |count: usize| json!({ "batch_input": vec![json!({ "input": "" }); count] });
    let error = refused(&vault, "hmac/k", &items(10_001)).await;
    assert!(error.contains("10001 items and may have 10000"), "{error}");
    assert_eq!(write(&vault, "hmac/k", &items(10_000)).await.0, 200);
    let error = refused(&vault, "sign/rsa", &items(1_001)).await;
    assert!(error.contains("may have 1000"), "{error}");

    let beside = json!({
        "associated_data": base64("row"), "batch_input": [{ "plaintext": base64("a") }],
    });
    let (status, answer) = write(&vault, "encrypt/k", &beside).await;
    assert_eq!(status, 200);
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("associated_data beside batch_input has no effect"), "{warning}");
    let sealed = answer["data"]["batch_results"][0]["ciphertext"].as_str().unwrap();
    assert_eq!(decrypt(&vault, "k", sealed, json!({})).await, "a");
}

#[tokio::test]
async fn nothing_is_derived_from_a_public_half() {
    let vault = vault().await;
    let public = BASE64.encode(&[9; 32]);
    let body = json!({ "type": "ed25519", "derived": true, "public_key": public });
    let error = refused(&vault, "keys/k/import", &body).await;
    assert!(error.contains("needs its private half"), "{error}");

    let open = json!({ "type": "ed25519", "exportable": true, "allow_plaintext_backup": true });
    let mut derived = open.clone();
    derived["derived"] = json!(true);
    create(&vault, "derived", derived).await;
    let mut whole = backup(&vault, "derived").await;
    for place in ["/policy/keys/1", "/archived_keys/keys/1"] {
        let entry = whole.pointer_mut(place).unwrap();
        entry["public_key"] = json!(public);
        entry["key"] = Value::Null;
    }
    assert!(refused(&vault, "restore/again", &restore_body(&whole)).await.contains("has no key"));
}

#[tokio::test]
async fn many_versions_go_at_once_and_many_come_back() {
    let vault = vault().await;
    create(&vault, "k", json!({ "exportable": true, "allow_plaintext_backup": true })).await;
    for _ in 0..160 {
        rotate(&vault, "k").await;
    }
    let sealed = encrypt(&vault, "k", "a", json!({ "key_version": 150 })).await;
    let whole = backup(&vault, "k").await;
    let body = json!({ "min_decryption_version": 150, "min_encryption_version": 150 });
    configure(&vault, "k", body).await;
    let trimmed = done(&vault, "keys/k/trim", &json!({ "min_available_version": 150 })).await;
    assert_eq!(trimmed["min_available_version"], 150);
    assert_eq!(trimmed["keys"].as_object().unwrap().len(), 12);
    done(&vault, "restore/again", &restore_body(&whole)).await;
    for _ in 0..2 {
        assert_eq!(decrypt(&vault, "k", &sealed, json!({})).await, "a");
        assert_eq!(decrypt(&vault, "again", &sealed, json!({})).await, "a");
        assert_eq!(read(&vault, "keys/again").await["keys"].as_object().unwrap().len(), 161);
        vault.seal().await;
        vault.unseal().await;
    }
}

#[tokio::test]
async fn what_a_backup_holds_is_restored_and_a_key_of_zeros_is_not() {
    let vault = vault().await;
    let imported = |more: Value| {
        let mut body = json!({
            "exportable": true, "allow_plaintext_backup": true, "allow_rotation": true,
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    // Rotated behind a public half, and HMAC keys of two lengths.
    let public = json!({ "type": "ed25519", "public_key": BASE64.encode(&[9; 32]) });
    done(&vault, "keys/pair/import", &imported(public)).await;
    rotate(&vault, "pair").await;
    let key = |bytes: usize| vec![5; bytes];
    let short = wrap(&vault, Hash::Sha2_256, &key(32)).await;
    let long = wrap(&vault, Hash::Sha2_256, &key(64)).await;
    let body = imported(json!({ "type": "hmac", "ciphertext": short }));
    done(&vault, "keys/mac/import", &body).await;
    done(&vault, "keys/mac/import_version", &json!({ "ciphertext": long })).await;
    let body = json!({ "min_decryption_version": 2, "min_encryption_version": 2 });
    configure(&vault, "mac", body).await;
    done(&vault, "keys/mac/trim", &json!({ "min_available_version": 2 })).await;
    for name in ["pair", "mac"] {
        let whole = backup(&vault, name).await;
        done(&vault, &format!("restore/again-{name}"), &restore_body(&whole)).await;
    }

    let derived = json!({
        "type": "aes256-gcm96", "derived": true, "convergent_encryption": true,
        "exportable": true, "allow_plaintext_backup": true,
    });
    create(&vault, "same", derived.clone()).await;
    let mut siv = derived;
    siv["type"] = json!("aes256-siv");
    siv["convergent_encryption"] = json!(false);
    create(&vault, "siv", siv).await;
    for name in ["same", "siv"] {
        let mut whole = backup(&vault, name).await;
        whole["policy"].as_object_mut().unwrap().remove("kdf");
        let error = refused(&vault, "restore/zeros", &restore_body(&whole)).await;
        assert!(error.contains("kdf 0 makes no keys"), "{error}");
    }
}

#[tokio::test]
async fn one_bad_item_does_not_spoil_the_others() {
    let vault = vault().await;
    let good = encrypt(&vault, "k", "a", json!({})).await;
    let items = json!([
        { "ciphertext": good, "reference": "first" },
        { "ciphertext": "vault:v1:AAAA", "reference": "second" },
        { "ciphertext": "", "reference": "third" },
    ]);
    for (asked, status) in [(Value::Null, 400), (json!(207), 207), (json!(200), 200)] {
        let mut body = json!({ "batch_input": items });
        if !asked.is_null() {
            body["partial_failure_response_code"] = asked;
        }
        let (got, answer) = write(&vault, "decrypt/k", &body).await;
        assert_eq!(got, status, "{answer}");
        let results = &answer["data"]["batch_results"];
        assert_eq!(
            results[0],
            json!({ "plaintext": base64("a"), "reference": "first" }),
            "{answer}"
        );
        assert_eq!(
            (&results[1]["plaintext"], &results[1]["reference"]),
            (&json!(""), &json!("second"))
        );
        assert_eq!(results[2]["error"], "missing ciphertext to decrypt");
    }
    // With not one that is good the code for partial failures does not apply.
    let body = json!({
        "batch_input": [{ "ciphertext": "vault:v1:AAAA" }], "partial_failure_response_code": 207,
    });
    assert_eq!(write(&vault, "decrypt/k", &body).await.0, 400);
    assert_eq!(
        refused(&vault, "decrypt/k", &json!({ "batch_input": [] })).await,
        "missing batch input to process"
    );
    // An item without a plaintext is a mistake in the request: no item is looked at.
    let body = json!({ "batch_input": [{ "plaintext": "" }, {}] });
    assert!(refused(&vault, "encrypt/k", &body).await.contains("missing plaintext"));
}

#[tokio::test]
async fn a_period_ends_in_a_new_version() {
    let vault = vault().await;
    assert!(
        refused(&vault, "keys/k", &json!({ "auto_rotate_period": "59m" }))
            .await
            .contains("at least an hour")
    );
    create(&vault, "k", json!({ "auto_rotate_period": "24h" })).await;
    create(&vault, "never", json!({})).await;
    let latest =
        async |name: &str| read(&vault, &format!("keys/{name}")).await["latest_version"].clone();
    let day = Duration::from_secs(24 * 3600);
    for (passed, expected) in
        [(day - Duration::from_secs(1), 1), (Duration::from_secs(1), 2), (day / 2, 2), (day / 2, 3)]
    {
        vault.clock.advance(passed);
        vault.round().await;
        vault.round().await;
        assert_eq!(latest("k").await, expected);
    }
    assert_eq!(latest("never").await, 1);
    // The plan is kept over a seal, and ends with the period.
    vault.seal().await;
    vault.unseal().await;
    vault.clock.advance(day);
    vault.round().await;
    assert_eq!(latest("k").await, 4);
    configure(&vault, "k", json!({ "auto_rotate_period": 0 })).await;
    vault.clock.advance(day);
    vault.round().await;
    assert_eq!(latest("k").await, 4);
}

#[tokio::test]
async fn uses_are_counted_and_there_after_a_seal() {
    let vault = vault().await;
    create(&vault, "k", json!({})).await;
    let sealed = encrypt(&vault, "k", "a", json!({})).await;
    rotate(&vault, "k").await;
    vault.clock.advance(Duration::from_secs(60));
    let items = vec![json!({ "plaintext": "" }); 100];
    done(&vault, "encrypt/k", &json!({ "batch_input": items })).await;
    for _ in 0..3 {
        decrypt(&vault, "k", &sealed, json!({})).await;
    }
    done(&vault, "datakey/wrapped/k", &json!({})).await;
    done(&vault, "rewrap/k", &json!({ "ciphertext": sealed })).await;
    not_decrypted(&vault, "k", "vault:v2:AAAA", json!({})).await;
    let block = 1 << 20;
    let expected = json!({
        "latest_version": 2,
        "versions": {
            "1": {
                "encryptions": 1, "decryptions": 4, "last_used": "2026-01-01T00:01:00Z",
                "nonces_reserved": block,
            },
            "2": {
                "encryptions": 102, "decryptions": 0, "last_used": "2026-01-01T00:01:00Z",
                "nonces_reserved": block,
            },
        },
    });
    assert_eq!(read(&vault, "keys/k/usage").await, expected);
    vault.round().await;
    vault.seal().await;
    vault.unseal().await;
    assert_eq!(read(&vault, "keys/k/usage").await, expected);
}

#[tokio::test]
async fn nonces_are_reserved_in_blocks_that_a_seal_never_gives_back() {
    let vault = vault().await;
    for (name, kind) in [("short", "aes128-gcm96"), ("long", "xchacha20-poly1305")] {
        create(&vault, name, json!({ "type": kind })).await;
    }
    create(&vault, "derived", json!({ "derived": true, "convergent_encryption": true })).await;
    let block = 1_u64 << 20;
    let reserved = async |name: &str| {
        read(&vault, &format!("keys/{name}/usage")).await["versions"]["1"]["nonces_reserved"]
            .clone()
    };
    assert_eq!(reserved("short").await, 0);
    for lives in 1..=3 {
        for _ in 0..5 {
            encrypt(&vault, "short", "a", json!({})).await;
        }
        assert_eq!(reserved("short").await, lives * block);
        vault.seal().await;
        vault.unseal().await;
        assert_eq!(reserved("short").await, lives * block);
    }
    // Nonces of 192 bits, and those that come from what is encrypted, are not counted.
    encrypt(&vault, "long", "a", json!({})).await;
    encrypt(&vault, "derived", "a", json!({ "context": base64("c") })).await;
    assert_eq!((reserved("long").await, reserved("derived").await), (Value::Null, Value::Null));
}

#[tokio::test]
async fn keys_stay_with_their_mount_and_go_with_it() {
    let vault = vault().await;
    let sealed = encrypt(&vault, "k", "a", json!({})).await;
    let tuned = vault.as_root(Write, "sys/mounts/transit/tune", r#"{"max_lease_ttl":"2h"}"#).await;
    assert_eq!(tuned.status, 204, "{tuned:?}");
    assert_eq!(decrypt(&vault, "k", &sealed, json!({})).await, "a");
    for (from, to) in [("transit", "other/place"), ("other/place", "transit")] {
        let body = json!({ "from": from, "to": to }).to_string();
        let moved = vault.as_root(Write, "sys/remount", &body).await;
        assert_eq!(moved.status, 200, "{moved:?}");
        let body = json!({ "ciphertext": sealed }).to_string();
        for _ in 0..2 {
            let answer = vault.as_root(Write, &format!("{to}/decrypt/k"), &body).await;
            assert_eq!(answer.json()["data"]["plaintext"], base64("a"), "{answer:?}");
            vault.seal().await;
            vault.unseal().await;
        }
    }
    assert_eq!(vault.as_root(Delete, "sys/mounts/transit", "").await.status, 204);
    let again = vault.as_root(Write, "sys/mounts/transit", r#"{"type":"transit"}"#).await;
    assert_eq!(again.status, 204, "{again:?}");
    assert_eq!(not_decrypted(&vault, "k", &sealed, json!({})).await, "encryption key not found");
    encrypt(&vault, "k", "b", json!({})).await;
    assert_eq!(not_decrypted(&vault, "k", &sealed, json!({})).await, FAILED);
}

#[tokio::test]
async fn a_removed_key_is_gone_and_its_name_is_free() {
    let vault = vault().await;
    let sealed = encrypt(&vault, "k", "a", json!({})).await;
    let answer = vault.as_root(Delete, "transit/keys/k", "").await;
    assert!(answer.text.contains("deletion is not allowed for this key"), "{answer:?}");
    configure(&vault, "k", json!({ "deletion_allowed": true })).await;
    assert_eq!(vault.as_root(Delete, "transit/keys/k", "").await.status, 204);
    for folder in ["keys", "versions", "uses", "rotations", "removed"] {
        assert_eq!(vault.names("transit/", &[folder]).await, 0, "{folder}");
    }
    assert_eq!(not_decrypted(&vault, "k", &sealed, json!({})).await, "encryption key not found");
    encrypt(&vault, "k", "b", json!({})).await;
    assert_eq!(not_decrypted(&vault, "k", &sealed, json!({})).await, FAILED);
}

#[tokio::test]
async fn fewer_keys_may_be_kept_in_memory_and_none_is_lost_by_it() {
    let vault = vault().await;
    for size in [-1, 1, 9] {
        assert_eq!(
            refused(&vault, "cache-config", &json!({ "size": size })).await,
            "size must be 0 or a value greater or equal to 10"
        );
    }
    assert_eq!(read(&vault, "cache-config").await["size"], 0);
    done(&vault, "cache-config", &json!({ "size": 10 })).await;
    for _ in 0..2 {
        assert_eq!(read(&vault, "cache-config").await["size"], 10);
        vault.seal().await;
        vault.unseal().await;
    }
    let mut sealed = Vec::new();
    for number in 0..25 {
        sealed.push(encrypt(&vault, &format!("k{number}"), "a", json!({})).await);
    }
    for (number, ciphertext) in sealed.iter().enumerate() {
        assert_eq!(decrypt(&vault, &format!("k{number}"), ciphertext, json!({})).await, "a");
    }
    vault.round().await;
    // What is let go of to make room was counted all the same.
    for number in 0..25 {
        let usage = read(&vault, &format!("keys/k{number}/usage")).await;
        let version = &usage["versions"]["1"];
        assert_eq!(
            (&version["encryptions"], &version["decryptions"]),
            (&json!(1), &json!(1)),
            "{number}"
        );
    }
}

#[tokio::test]
async fn what_is_no_name_makes_no_key() {
    let vault = vault().await;
    for name in ["-a", "a-", ".a", "a.", "a b", "a+b", "ä", "a*", "a/b"] {
        for (path, body) in [
            (format!("keys/{name}"), json!({})),
            (format!("encrypt/{name}"), json!({ "plaintext": "" })),
            (format!("keys/{name}/import"), json!({ "ciphertext": "AAAA" })),
        ] {
            let (status, answer) = write(&vault, &path, &body).await;
            assert!(matches!(status, 400 | 404), "{path}: {status} {answer}");
        }
    }
    assert_eq!(vault.as_root(List, "transit/keys", "").await.status, 404);
    for name in ["a", "_", "A-9", "a.b_c"] {
        create(&vault, name, json!({})).await;
    }
    let listed = vault.as_root(List, "transit/keys", "").await.json();
    assert_eq!(listed["data"]["keys"], json!(["A-9", "_", "a", "a.b_c"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_does_not_open_is_refused_in_one_text() {
    let vault = vault().await;
    for (kind, derived) in [
        ("aes128-gcm96", false),
        ("aes256-gcm96", false),
        ("aes256-gcm96", true),
        ("chacha20-poly1305", false),
        ("xchacha20-poly1305", true),
        ("aes256-gcm-committing", false),
        ("aes256-gcm-committing", true),
        ("aes256-siv", false),
        ("rsa-2048", false),
    ] {
        let names = [format!("{kind}-{derived}"), format!("{kind}-{derived}-other")];
        for name in &names {
            create(&vault, name, json!({ "type": kind, "derived": derived })).await;
        }
        let name = &names[0];
        let mut beside = json!({});
        if derived {
            beside["context"] = json!(base64("c"));
        }
        if kind != "rsa-2048" {
            beside["associated_data"] = json!(base64("row 1"));
        }
        let ciphertext = encrypt(&vault, name, "a", beside.clone()).await;
        assert_eq!(decrypt(&vault, name, &ciphertext, beside.clone()).await, "a");
        assert_eq!(not_decrypted(&vault, &names[1], &ciphertext, beside.clone()).await, FAILED);
        let bytes = sealed(&ciphertext);
        for place in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            let damaged = format!("vault:v1:{}", BASE64.encode(&damaged));
            assert_eq!(not_decrypted(&vault, name, &damaged, beside.clone()).await, FAILED);
        }
        for (field, value) in [("context", "d"), ("associated_data", "row 2")] {
            if beside.get(field).is_some() {
                let mut other = beside.clone();
                other[field] = json!(base64(value));
                assert_eq!(not_decrypted(&vault, name, &ciphertext, other).await, FAILED, "{kind}");
            }
        }
    }
    // What was not even written by an encryption, by its form.
    let name = "aes256-gcm96-false";
    for (ciphertext, text) in [
        ("hello", "invalid ciphertext: no prefix"),
        ("vault:v1", "invalid ciphertext: wrong number of fields"),
        ("vault:vx:AAAA", "invalid ciphertext: version number could not be decoded"),
        ("vault:v1:*", "invalid ciphertext: could not decode base64"),
        ("vault:v2:AAAA", "invalid ciphertext: version is too new"),
        ("vault:v-1:AAAA", TOO_OLD),
        ("vault:v1:AAAA", "invalid ciphertext length"),
    ] {
        assert_eq!(not_decrypted(&vault, name, ciphertext, json!({})).await, text, "{ciphertext}");
    }
}

#[tokio::test]
async fn nothing_is_done_while_sealed() {
    let vault = vault().await;
    let sealed = encrypt(&vault, "k", "a", json!({})).await;
    vault.seal().await;
    let body = json!({ "plaintext": "", "ciphertext": sealed, "input": "" }).to_string();
    for path in ["encrypt/k", "decrypt/k", "rewrap/k", "hmac/k", "keys/k/rotate", "random", "hash"]
    {
        let answer = vault.as_root(Write, &format!("transit/{path}"), &body).await;
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
    }
    assert_eq!(vault.as_root(Read, "transit/keys/k", "").await.status, 503);
    vault.unseal().await;
    assert_eq!(decrypt(&vault, "k", &sealed, json!({})).await, "a");
}
