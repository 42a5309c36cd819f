//! `sys/verify`: at unseal, and on command.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use kista::gate::Operation;
use serde_json::Value;

use crate::support::{Process, TestVault};

async fn status(vault: &TestVault) -> Value {
    let answer = vault.as_root(Operation::Read, "sys/verify", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["data"].clone()
}

/// Waits until as many verifications have ended as make this true.
async fn ended(vault: &TestVault, is_it: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1_000 {
        let status = status(vault).await;
        if status["state"] == "idle" && is_it(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = status(vault).await;
    assert!(is_it(&status), "no verification ends: {status}");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_verified_at_unseal_and_on_command() {
    let vault = TestVault::open().await;
    let first = ended(&vault, |status| status["last"].is_object()).await;
    assert_eq!(first["last"]["result"], "good");
    assert_eq!(first["reads_checked"], true);
    assert_eq!(first["last"]["findings"], serde_json::json!([]));

    let body = format!(r#"{{"data":{{"a":"{}"}}}}"#, "x".repeat(20_000));
    let written = vault.as_root(Operation::Write, "secret/data/large", &body).await;
    assert_eq!(written.status, 200, "{written:?}");
    vault.clock.advance(Duration::from_secs(60));
    let asked = vault.as_root(Operation::Write, "sys/verify", "").await;
    assert_eq!(asked.status, 200, "{asked:?}");
    assert_ne!(asked.json()["data"]["state"], "idle");
    let started = |status: &Value| status["last"]["started"].clone();
    let second = ended(&vault, |status| started(status) != started(&first)).await;
    assert_eq!(second["last"]["result"], "good");
    let records = |status: &Value| status["last"]["records"].as_u64().unwrap();
    assert!(records(&second) > records(&first));
    assert_eq!(second["records_done"], second["records_total"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_seal_it_is_verified_again() {
    let vault = TestVault::open().await;
    let first = ended(&vault, |status| status["last"].is_object()).await;
    vault.seal().await;
    vault.clock.advance(Duration::from_secs(60));
    vault.unseal().await;
    let again = ended(&vault, |status| status["last"]["started"] != first["last"]["started"]).await;
    assert_eq!(again["last"]["result"], "good");
    let health = vault.call(None, Operation::Read, "sys/health", "").await.json();
    assert!(health["warnings"].is_null(), "{health}");
}

#[test]
fn the_command_waits_for_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let (process, kept) = Process::init(folder.path());
    let output = Command::new(env!("CARGO_BIN_EXE_kista"))
        .args(["operator", "verify", "--wait", "--json", "--address", &process.address()])
        .env_clear()
        .env("HOME", folder.path())
        .env("KISTA_TOKEN", &kept.root)
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("all is well"), "{errors}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["last"]["result"], "good");
    assert_eq!(printed["last"]["records"], printed["records_total"]);
}

/// `kista operator verify --data`, with a share or without.
fn examine(folder: &Path, share: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kista"));
    command.args(["operator", "verify", "--json", "--data"]).arg(folder.join("data"));
    if share.is_some() {
        command.arg("--shares");
    }
    command.env_clear().env("HOME", folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(share.unwrap_or_default().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn the_files_of_a_stopped_server_are_examined_and_their_damage_named() {
    let folder = tempfile::tempdir().unwrap();
    let (process, kept) = Process::init(folder.path());
    for n in 0..3 {
        let body = format!(r#"{{"data":{{"value":"{n}"}}}}"#);
        let answer = process.call("POST", &format!("secret/data/app/{n}"), &kept.root, &body);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    process.kill();
    let share = Some(kept.share.as_str());
    for share in [None, share] {
        let output = examine(folder.path(), share);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{errors}");
        let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(seen["damages"], serde_json::json!([]));
        assert_eq!(seen["records_opened"].is_u64(), share.is_some(), "{seen}");
    }

    let segment = folder.path().join("data/journal/0000000000000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    // Inside the last record of a secret, which another one follows.
    let last = bytes[..used].windows(4).rposition(|front| front == b"KJR1").unwrap();
    let before = bytes[..last].windows(4).rposition(|front| front == b"KJR1").unwrap();
    bytes[before + 300] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let output = examine(folder.path(), share);
    assert_eq!(output.status.code(), Some(10));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let damage = &seen["damages"][0];
    assert_eq!(damage["offset"], before);
    assert!(damage["file"].as_str().unwrap().ends_with("0000000000000001.seg"), "{seen}");
    assert!(damage["names"].to_string().contains("secret/"), "{seen}");
    assert_eq!(fs::read(&segment).unwrap(), bytes, "nothing was changed");
}
