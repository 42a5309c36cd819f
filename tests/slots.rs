//! Slots and rekey on the wire, as the recordings of a peer have it.

use kista::gate::Operation::{self, Delete, Read, Write};
use serde_json::{Value, json};

use crate::support::{Answer, TestVault};

async fn ask(vault: &TestVault, operation: Operation, path: &str, body: Value) -> Answer {
    vault.as_root(operation, path, &body.to_string()).await
}

async fn ok(vault: &TestVault, operation: Operation, path: &str, body: Value) -> Value {
    let answer = ask(vault, operation, path, body).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

async fn refused(
    vault: &TestVault,
    operation: Operation,
    path: &str,
    body: Value,
    status: u16,
    text: &str,
) {
    let answer = ask(vault, operation, path, body).await;
    assert_eq!(answer.status, status, "{path}: {answer:?}");
    assert_eq!(answer.json(), json!({"errors": [text]}), "{path}");
}

#[tokio::test]
async fn rekey_is_as_recorded() {
    let vault = TestVault::open().await;
    let idle = json!({
        "backup": false, "n": 0, "nonce": "", "pgp_fingerprints": null, "progress": 0,
        "required": 1, "started": false, "t": 0, "verification_required": false,
    });
    assert_eq!(ok(&vault, Read, "sys/rekey/init", json!({})).await, idle);
    let share = vault.share();
    for (path, body, text) in [
        ("update", json!({"key": share, "nonce": "x"}), "no barrier rekey in progress"),
        (
            "init",
            json!({"secret_shares": 3, "secret_threshold": 5}),
            "invalid rekey seal configuration: threshold cannot be larger than shares",
        ),
        ("init", json!({}), "invalid rekey seal configuration: shares must be at least one"),
        (
            "init",
            json!({"secret_shares": 3, "secret_threshold": 1}),
            "invalid rekey seal configuration: threshold must be greater than one for multiple \
             shares",
        ),
        (
            "init",
            json!({"secret_shares": 3, "secret_threshold": 2, "backup": true}),
            "cannot request a backup of the new keys without providing PGP keys for encryption",
        ),
    ] {
        refused(&vault, Write, &format!("sys/rekey/{path}"), body, 400, text).await;
    }
    let three = json!({"secret_shares": 3, "secret_threshold": 2});
    let begun = ok(&vault, Write, "sys/rekey/init", three.clone()).await;
    let nonce = begun["nonce"].as_str().unwrap();
    let started = json!({
        "backup": false, "n": 3, "nonce": nonce, "pgp_fingerprints": null, "progress": 0,
        "required": 1, "started": true, "t": 2, "verification_required": false,
    });
    assert_eq!(begun, started);
    assert_eq!(ok(&vault, Read, "sys/rekey/init", json!({})).await, started);
    refused(&vault, Write, "sys/rekey/init", three.clone(), 400, "rekey already in progress").await;
    let update = "sys/rekey/update";
    let key = "'key' must be specified in request body as JSON";
    for (body, text) in [
        (json!({"key": share}), "incorrect nonce supplied"),
        (json!({"key": share, "nonce": "nosuch"}), "incorrect nonce supplied"),
        (json!({"nonce": nonce}), key),
        (json!({"key": "???", "nonce": nonce}), "'key' must be a valid hex or base64 string"),
        (
            json!({"key": "11".repeat(32), "nonce": nonce}),
            "rekey failed: what was given does not open this store; begin with the first again",
        ),
    ] {
        refused(&vault, Write, update, body, 400, text).await;
    }
    assert_eq!(ok(&vault, Read, "sys/rekey/init", json!({})).await, started);
    let done = ok(&vault, Write, update, json!({"key": share, "nonce": nonce})).await;
    assert_eq!(done["complete"], true);
    assert_eq!(done["nonce"], nonce);
    assert!(done.get("verification_nonce").is_none() && done.get("slots_dropped").is_none());
    let keys: Vec<_> = done["keys"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| key.len() == 66));
    let status = ok(&vault, Read, "sys/seal-status", json!({})).await;
    assert_eq!((&status["t"], &status["n"]), (&json!(2), &json!(3)));

    vault.seal().await;
    let unseal = |key: &str| json!({"key": key}).to_string();
    let old = vault.call(None, Write, "sys/unseal", &unseal(&share)).await;
    assert_eq!(old.status, 400, "{old:?}");
    vault.call(None, Write, "sys/unseal", &unseal(&keys[0])).await;
    let open = vault.call(None, Write, "sys/unseal", &unseal(&keys[2])).await;
    assert_eq!(open.json()["sealed"], false, "{open:?}");
    refused(&vault, Read, "sys/rekey/backup", json!({}), 400, "no backed-up keys found").await;
    assert_eq!(ask(&vault, Delete, "sys/rekey/backup", json!({})).await.status, 204);
    let recovery = "recovery rekeying not supported";
    refused(&vault, Read, "sys/rekey-recovery-key/init", json!({}), 400, recovery).await;

    let begun = ok(&vault, Write, "sys/rekey/init", three).await;
    let body = |key: &str| json!({"key": key, "nonce": begun["nonce"]});
    assert_eq!(ok(&vault, Write, update, body(&keys[0])).await["progress"], 1);
    let again = "given key has already been provided during this generation operation";
    refused(&vault, Write, update, body(&keys[0]), 400, again).await;
    assert_eq!(ask(&vault, Delete, "sys/rekey/init", json!({"nonce": "nosuch"})).await.status, 204);
    assert_eq!(ok(&vault, Read, "sys/rekey/init", json!({})).await["progress"], 1);
    for _ in 0..2 {
        assert_eq!(ask(&vault, Delete, "sys/rekey/init", json!({})).await.status, 204);
        assert_eq!(ok(&vault, Read, "sys/rekey/init", json!({})).await["started"], false);
    }
}

#[tokio::test]
async fn new_shares_are_not_in_force_before_they_are_given_back() {
    let vault = TestVault::open().await;
    let verify = "sys/rekey/verify";
    refused(&vault, Read, verify, json!({}), 400, "no rekey configuration found").await;
    let wish = json!({"secret_shares": 2, "secret_threshold": 2, "require_verification": true});
    let begun = ok(&vault, Write, "sys/rekey/init", wish).await;
    assert_eq!(begun["verification_required"], true);
    let body = json!({"key": vault.share(), "nonce": begun["nonce"]});
    let made = ok(&vault, Write, "sys/rekey/update", body.clone()).await;
    assert_eq!((&made["complete"], &made["verification_required"]), (&json!(true), &json!(true)));
    let nonce = text(&made["verification_nonce"]);
    let keys: Vec<_> = made["keys_base64"].as_array().unwrap().iter().map(text).collect();
    let waits = "this rekey waits for the new shares to be verified";
    refused(&vault, Write, "sys/rekey/update", body, 400, waits).await;
    let status = ok(&vault, Read, verify, json!({})).await;
    assert_eq!(status, json!({"n": 2, "nonce": nonce, "progress": 0, "started": true, "t": 2}));
    assert_eq!(ok(&vault, Read, "sys/seal-status", json!({})).await["n"], 1);
    let give = |key: &str, nonce: &str| json!({"key": key, "nonce": nonce});
    let wrong = "incorrect nonce supplied";
    refused(&vault, Write, verify, give(&keys[0], "nosuch"), 400, wrong).await;
    assert_eq!(ok(&vault, Write, verify, give(&keys[0], &nonce)).await["progress"], 1);
    let restarted = ok(&vault, Delete, verify, json!({"nonce": nonce})).await;
    assert_eq!(restarted["progress"], 0);
    let fresh = text(&restarted["nonce"]);
    assert_ne!(fresh, nonce);
    // Shares that combine to something else.
    let mut foreign = data_encoding::BASE64.decode(keys[1].as_bytes()).unwrap();
    foreign[0] ^= 1;
    ok(&vault, Write, verify, give(&keys[0], &fresh)).await;
    let foreign = give(&data_encoding::BASE64.encode(&foreign), &fresh);
    let answer = ask(&vault, Write, verify, foreign).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.text.contains("these are not the new shares"), "{answer:?}");
    assert_eq!(ok(&vault, Read, verify, json!({})).await["progress"], 0);
    assert_eq!(ok(&vault, Write, verify, give(&keys[1], &fresh)).await["progress"], 1);
    let done = ok(&vault, Write, verify, give(&keys[0], &fresh)).await;
    assert_eq!(done, json!({"complete": true, "nonce": fresh}));
    assert_eq!(ok(&vault, Read, "sys/seal-status", json!({})).await["n"], 2);
}

#[tokio::test]
async fn rotate_root_is_as_recorded() {
    let vault = TestVault::open().await;
    let init = "sys/rotate/root/init";
    let idle = json!({"n": 0, "required": 1, "started": false, "t": 0});
    assert_eq!(ok(&vault, Read, init, json!({})).await["data"], idle);
    let wish = json!({"secret_shares": 1, "secret_threshold": 1});
    let begun = ok(&vault, Write, init, wish).await["data"].take();
    let nonce = text(&begun["nonce"]);
    let started = json!({
        "n": 1, "nonce": nonce, "progress": 0, "required": 1, "started": true, "t": 1,
        "verification_nonce": "", "verification_required": false,
    });
    assert_eq!(begun, started);
    let body = json!({"key": vault.share(), "nonce": nonce});
    let done = ok(&vault, Write, "sys/rotate/root/update", body).await["data"].take();
    let key = text(&done["keys"][0]);
    assert_eq!(
        done,
        json!({
            "backup": false, "complete": true, "keys": [key], "keys_base64": done["keys_base64"],
            "nonce": nonce, "pgp_fingerprints": null, "verification_nonce": "",
            "verification_required": false,
        })
    );
    assert_eq!(key.len(), 64);
    assert_eq!(ask(&vault, Delete, init, json!({})).await.status, 204);
    let alone = ask(&vault, Write, "sys/rotate/root", json!({})).await;
    assert!(alone.status == 400 && alone.text.contains("kista operator rekey"), "{alone:?}");
}

#[tokio::test]
async fn slots_are_listed_added_and_dropped() {
    let vault = TestVault::open().await;
    let listed = ok(&vault, Read, "sys/slots", json!({})).await["data"].take();
    assert_eq!(listed["epoch"], 1);
    let first = &listed["slots"][0];
    assert_eq!((&first["type"], &first["human"]), (&json!("shares"), &json!(true)));
    assert_eq!((&first["threshold"], &first["shares"]), (&json!(1), &json!(1)));

    let wish = json!({"type": "passphrase", "passphrase": "correct horse"});
    let added = ok(&vault, Write, "sys/slots", wish).await["data"].take();
    let passphrase = text(&added["slot"]["id"]);
    assert!(added.get("keys").is_none(), "{added}");
    let key = data_encoding::BASE64.encode(&[7; 32]);
    let added = ok(&vault, Write, "sys/slots", json!({"type": "keyfile", "key": key})).await;
    let keyfile = text(&added["data"]["slot"]["id"]);
    for (wish, part) in [
        (json!({"type": "nosuch"}), "type must be shares, passphrase, keyfile"),
        (json!({"type": "passphrase", "passphrase": ""}), "the passphrase is empty"),
        (json!({"type": "passphrase", "passphrase": "a", "more": 1}), "not known here: more"),
        (json!({"type": "keyfile", "key": "AAAA"}), "32 bytes of a keyfile"),
        (json!({"type": "shares", "shares": 3, "threshold": 2}), "there are shares already"),
        (json!({"type": "systemd-credential", "name": "../x"}), "a credential's name is"),
        (json!({"type": "systemd-credential", "name": "x"}), "CREDENTIALS_DIRECTORY is not set"),
    ] {
        let answer = ask(&vault, Write, "sys/slots", wish).await;
        assert!(answer.status == 400 && answer.text.contains(part), "{answer:?}");
    }
    let plain = ask(&vault, Delete, &format!("sys/slots/{keyfile}"), json!({})).await;
    assert!(plain.status == 400 && plain.text.contains("stops honest use only"), "{plain:?}");
    let absent = ask(&vault, Delete, &format!("sys/slots/{}?", "0".repeat(32)), json!({})).await;
    assert_eq!(absent.status, 400);

    // A rekey that keeps the shares and the passphrase, and drops the keyfile.
    let keep = json!({"keep": [first["id"], passphrase]});
    let begun = ok(&vault, Write, "sys/rotate/root/init", keep).await["data"].take();
    assert_eq!((&begun["required"], &begun["n"]), (&json!(2), &json!(0)));
    assert_eq!(text(&begun["slots_dropped"][0]["id"]), keyfile);
    let busy = ask(&vault, Write, "sys/slots", json!({"type": "keyfile", "key": key})).await;
    assert!(busy.status == 400 && busy.text.contains("rekey cancel"), "{busy:?}");
    let update = "sys/rotate/root/update";
    let show = |name: &str, value: &str| json!({name: value, "nonce": begun["nonce"]});
    let wrong = ask(&vault, Write, update, show("passphrase", "wrong")).await;
    assert!(wrong.status == 400 && wrong.text.contains("rekey failed"), "{wrong:?}");
    let unwanted = ask(&vault, Write, update, show("keyfile", &key)).await;
    assert!(unwanted.status == 400 && unwanted.text.contains("no such secret"), "{unwanted:?}");
    let one = ok(&vault, Write, update, show("passphrase", "correct horse")).await;
    assert_eq!(one["data"]["progress"], 1);
    let done = ok(&vault, Write, update, show("key", &vault.share())).await["data"].take();
    assert_eq!((&done["complete"], &done["keys"]), (&json!(true), &json!([])));
    assert_eq!(text(&done["slots_dropped"][0]["id"]), keyfile);
    vault.seal().await;
    let by_passphrase = json!({"passphrase": "correct horse"}).to_string();
    let open = vault.call(None, Write, "sys/unseal", &by_passphrase).await;
    assert_eq!(open.json()["sealed"], false, "{open:?}");
    vault.seal().await;
    vault.unseal().await;
}

#[tokio::test]
async fn a_passphrase_replaces_lost_shares() {
    let vault = TestVault::open().await;
    let wish = json!({"type": "passphrase", "passphrase": "correct horse"});
    let added = ok(&vault, Write, "sys/slots", wish).await;
    let body = json!({
        "keep": [added["data"]["slot"]["id"]], "secret_shares": 1, "secret_threshold": 1,
    });
    let begun = ok(&vault, Write, "sys/rekey/init", body).await;
    assert_eq!(begun["required"], 1);
    let body = json!({"passphrase": "correct horse", "nonce": begun["nonce"]});
    let done = ok(&vault, Write, "sys/rekey/update", body).await;
    vault.seal().await;
    let old = json!({"key": vault.share()}).to_string();
    assert_eq!(vault.call(None, Write, "sys/unseal", &old).await.status, 400);
    let new = json!({"key": done["keys"][0]}).to_string();
    assert_eq!(vault.call(None, Write, "sys/unseal", &new).await.json()["sealed"], false);
}

#[tokio::test]
async fn a_rekey_that_cannot_be_is_refused_at_once() {
    let vault = TestVault::open().await;
    let listed = ok(&vault, Read, "sys/slots", json!({})).await;
    let shares = &listed["data"]["slots"][0]["id"];
    let key = data_encoding::BASE64.encode(&[7; 32]);
    let added = ok(&vault, Write, "sys/slots", json!({"type": "keyfile", "key": key})).await;
    let keyfile = &added["data"]["slot"]["id"];
    for (plan, part) in [
        (json!({"keep": ["00112233445566778899aabbccddeeff"]}), "there is no such slot"),
        (json!({"keep": ["zz"]}), "32 hexadecimal digits"),
        (json!({"keep": [shares], "drop": [shares]}), "kept and dropped at once"),
        (json!({"keep": [keyfile]}), "the secret of a slot that a person opens"),
        (json!({"keep": [shares], "require_verification": true}), "needs new shares"),
        (json!({"pgp_keys": ["x"], "secret_shares": 1}), "\\\"pgp_keys\\\" is not supported"),
    ] {
        let answer = ask(&vault, Write, "sys/rekey/init", plan).await;
        assert!(answer.status == 400 && answer.text.contains(part), "{part}: {answer:?}");
    }
    assert_eq!(ok(&vault, Read, "sys/rekey/init", json!({})).await["started"], false);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
