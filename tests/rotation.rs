//! Rotation, asked for over the wire, with the vault at work.

use std::time::Duration;

use kista::gate::Operation::{Read, Write};
use serde_json::{Value, json};

use crate::support::TestVault;

async fn status(vault: &TestVault) -> Value {
    vault.as_root(Read, "sys/rotate/status", "").await.json()["data"].clone()
}

async fn rotate(vault: &TestVault) {
    let answer = vault.as_root(Write, "sys/rotate", "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

async fn put(vault: &TestVault, path: &str, value: &str) {
    let body = json!({"data": {"value": value}}).to_string();
    let answer = vault.as_root(Write, &format!("secret/data/{path}"), &body).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
}

async fn read(vault: &TestVault, path: &str) -> Value {
    let answer = vault.as_root(Read, &format!("secret/data/{path}"), "").await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()["data"]["data"]["value"].clone()
}

/// Waits until the rotation stands at one of these steps.
async fn until(vault: &TestVault, steps: &[&str]) -> Value {
    for _ in 0..1_000 {
        let status = status(vault).await;
        assert_eq!(status.get("error"), None, "{status}");
        if steps.iter().any(|step| status["step"] == *step) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(vault).await, json!(steps), "the rotation does not come there");
    Value::Null
}

#[tokio::test]
async fn each_rotation_makes_a_term() {
    let vault = TestVault::open().await;
    let key_status = async || vault.as_root(Read, "sys/key-status", "").await.json();
    let before = key_status().await;
    assert_eq!((&before["term"], &before["data"]["term"]), (&json!(1), &json!(1)));
    assert!(before["data"]["encryptions"].as_u64() > Some(0));
    assert_eq!(before["data"]["install_time"], "2026-01-01T00:00:00Z");
    rotate(&vault).await;
    rotate(&vault).await;
    assert_eq!(key_status().await["data"]["term"], 3);
    let answer = vault.as_root(Write, "sys/rotate/keyring", "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(key_status().await["data"]["term"], 4);
    assert_eq!(vault.as_root(Read, "sys/rotate", "").await.status, 405);
}

#[tokio::test]
async fn the_schedule_is_kept_within_its_bounds() {
    let vault = TestVault::open().await;
    let read = async || {
        let answer = vault.as_root(Read, "sys/rotate/config", "").await;
        answer.json()["data"].clone()
    };
    let initial = json!({"enabled": true, "interval": 0, "max_operations": 3_865_470_566_u64});
    assert_eq!(read().await, initial);
    let body = r#"{"max_operations": "2000000", "interval": "48h"}"#;
    assert_eq!(vault.as_root(Write, "sys/rotate/config", body).await.status, 204);
    let written = json!({"enabled": true, "interval": "48h0m0s", "max_operations": 2_000_000});
    assert_eq!(read().await, written);
    for (body, text) in [
        (r#"{"max_operations": 5}"#, "max_operations must be in the range [1000000,3865470566]"),
        (
            r#"{"max_operations": 99999999999}"#,
            "max_operations must be in the range [1000000,3865470566]",
        ),
        (r#"{"interval": "1h"}"#, "interval must be greater or equal to 24h0m0s"),
        (
            r#"{"interval": "soon"}"#,
            "Field validation failed: error converting input for field \"interval\": time: invalid \
             duration \"soon\"",
        ),
    ] {
        let answer = vault.as_root(Write, "sys/rotate/config", body).await;
        assert_eq!((answer.status, answer.json()), (400, json!({"errors": [text]})), "{body}");
    }
    assert_eq!(read().await, written);
}

#[tokio::test]
async fn a_term_that_is_old_enough_is_followed_by_another() {
    let vault = TestVault::open().await;
    let body = r#"{"interval": "24h"}"#;
    assert_eq!(vault.as_root(Write, "sys/rotate/config", body).await.status, 204);
    assert_eq!(status(&vault).await["term"], 1);
    vault.clock.advance(Duration::from_secs(24 * 3600));
    for _ in 0..500 {
        if status(&vault).await["term"] == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(&vault).await["term"], 2);
}

#[tokio::test]
async fn writers_lose_nothing_while_records_are_sealed_again() {
    let vault = TestVault::open().await;
    let long = "x".repeat(40_000);
    for n in 0..200 {
        put(&vault, &format!("still/{n}"), &format!("still {n}")).await;
    }
    put(&vault, "long", &long).await;
    let writer = async |writer: usize| {
        for round in 0..20 {
            put(&vault, &format!("moving/{writer}"), &format!("{writer} {round}")).await;
            put(&vault, &format!("still/{}", writer * 10), &format!("moved {round}")).await;
        }
    };
    let writers = async {
        tokio::join!(
            writer(0),
            writer(1),
            writer(2),
            writer(3),
            writer(4),
            writer(5),
            writer(6),
            writer(7),
        );
    };
    tokio::join!(writers, rotate(&vault));
    rotate(&vault).await;
    let done = until(&vault, &["erase", "conclude", "idle"]).await;
    assert_eq!((&done["term"], &done["records_left"]), (&json!(3), &json!(0)));
    for n in 0..200 {
        let expected =
            if n % 10 == 0 && n < 80 { "moved 19".to_owned() } else { format!("still {n}") };
        assert_eq!(read(&vault, &format!("still/{n}")).await, expected);
    }
    for writer in 0..8 {
        assert_eq!(read(&vault, &format!("moving/{writer}")).await, format!("{writer} 19"));
    }
    assert_eq!(read(&vault, "long").await, long);
    vault.seal().await;
    vault.unseal().await;
    assert_eq!(read(&vault, "long").await, long);
    assert_eq!(status(&vault).await["term"], 3);
}
