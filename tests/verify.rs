//! `sys/verify`: at unseal, and on command.

use std::{process::Command, time::Duration};

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
