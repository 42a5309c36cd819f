//! Secrets without versions.

use std::{sync::Arc, time::Duration};

use kista::gate::Operation::{Delete, List, Patch, Read, Scan, Write};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::TestVault;

#[tokio::test]
async fn a_write_replaces_the_whole_secret_and_its_text_comes_back() {
    let vault = TestVault::open().await;
    let text = r#"{ "big":12345678901234567890123, "one":1.0,"\u00e9":"\/","data":{"x":[1,null]}}"#;
    assert_eq!(vault.as_root(Write, "plain/app", r#"{"old":1}"#).await.status, 204);
    assert_eq!(vault.as_root(Write, "plain/app", text).await.status, 204);
    let read = vault.as_root(Read, "plain/app", "").await;
    assert_eq!(read.status, 200);
    assert!(read.text.contains(text), "{}", read.text);
    assert_eq!(read.json()["warnings"], json!(null));
    assert_eq!(vault.as_root(Delete, "plain/app", "").await.status, 204);
    assert_eq!(vault.as_root(Read, "plain/app", "").await.status, 404);
    assert_eq!(vault.as_root(Delete, "plain/app", "").await.status, 204);
}

#[tokio::test]
async fn large_secrets_come_back_whole_and_larger_ones_are_refused() {
    let vault = TestVault::open().await;
    let secret = |length: usize| format!(r#"{{"blob":"{}"}}"#, "x".repeat(length));
    assert_eq!(vault.as_root(Write, "plain/a", &secret(900_000)).await.status, 204);
    assert!(vault.as_root(Read, "plain/a", "").await.text.contains(&secret(900_000)));
    assert_eq!(vault.as_root(Write, "plain/a", &secret(1_100_000)).await.status, 413);
    assert_eq!(vault.as_root(Write, "plain/a", &secret(1)).await.status, 204);
    assert!(vault.as_root(Read, "plain/a", "").await.text.contains(&secret(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_writes_at_once_the_last_one_stays_whole() {
    let vault = Arc::new(TestVault::open().await);
    let mut writes = JoinSet::new();
    for number in 0..32_usize {
        let vault = Arc::clone(&vault);
        // Some of them lie in many parts.
        let body = format!(r#"{{"n":{number},"blob":"{}"}}"#, "x".repeat(number * 2_000));
        writes.spawn(async move {
            match number % 5 {
                4 => vault.as_root(Delete, "plain/a", "").await.status,
                _ => vault.as_root(Write, "plain/a", &body).await.status,
            }
        });
    }
    assert_eq!(writes.join_all().await, [204; 32]);
    let read = vault.as_root(Read, "plain/a", "").await;
    if read.status != 404 {
        let data = read.json()["data"].clone();
        let length = usize::try_from(data["n"].as_u64().unwrap()).unwrap() * 2_000;
        assert_eq!(data["blob"].as_str().unwrap().len(), length);
    }
}

#[tokio::test]
async fn lease_duration_is_the_secrets_or_the_mounts_or_the_servers() {
    let vault = TestVault::open().await;
    let mount = r#"{"type":"kv","options":{"version":"1"},"config":{"default_lease_ttl":"10m"}}"#;
    assert_eq!(vault.as_root(Write, "sys/mounts/short", mount).await.status, 204);
    for (path, body, seconds) in [
        ("plain/a", r#"{"v":1}"#, 768 * 3_600),
        ("plain/b", r#"{"ttl":"1h"}"#, 3_600),
        ("plain/c", r#"{"lease":90}"#, 90),
        ("plain/d", r#"{"ttl":"soon"}"#, 768 * 3_600),
        ("short/a", r#"{"v":1}"#, 600),
    ] {
        vault.as_root(Write, path, body).await;
        assert_eq!(vault.as_root(Read, path, "").await.json()["lease_duration"], seconds, "{path}");
    }
    let versioned = vault.as_root(Write, "secret/data/a", r#"{"data":{"ttl":"1h"}}"#).await;
    assert_eq!(versioned.json()["lease_duration"], 0);
}

#[tokio::test]
async fn names_are_listed_and_found_below() {
    let vault = TestVault::open().await;
    assert_eq!(vault.as_root(List, "plain", "").await.status, 404);
    for path in ["dir/one", "dir/sub", "dir/sub/two", "top"] {
        vault.as_root(Write, &format!("plain/{path}"), r#"{"v":1}"#).await;
    }
    for (operation, path, keys) in [
        (List, "plain", json!(["dir/", "top"])),
        (List, "plain/", json!(["dir/", "top"])),
        (List, "plain/dir", json!(["one", "sub", "sub/"])),
        (List, "plain/dir/", json!(["one", "sub", "sub/"])),
        (List, "plain/dir?after=one&limit=1", json!(["sub"])),
        (Scan, "plain/dir", json!(["one", "sub", "sub/two"])),
        (Scan, "plain/", json!(["dir/one", "dir/sub", "dir/sub/two", "top"])),
    ] {
        assert_eq!(vault.as_root(operation, path, "").await.json()["data"]["keys"], keys, "{path}");
    }
    assert_eq!(vault.as_root(Delete, "plain/dir/", "").await.status, 204);
    assert_eq!(vault.as_root(List, "plain/dir", "").await.status, 200);
    assert_eq!(vault.as_root(List, "plain/dir/one", "").await.status, 404);
}

#[tokio::test]
async fn what_is_no_secret_is_refused() {
    let vault = TestVault::open().await;
    for (operation, path, body, status) in [
        (Write, "plain/a", "{}", 400),
        (Write, "plain/a", "", 400),
        (Write, "plain/a", "[1]", 400),
        (Write, "plain/a", r#"{"a":1,"a":2}"#, 400),
        (Write, "plain/dir/", r#"{"v":1}"#, 400),
        (Write, "plain", r#"{"v":1}"#, 400),
        (Write, "plain/", r#"{"v":1}"#, 400),
        (Read, "plain", "", 404),
        (Read, "plain/", "", 404),
        (Read, "plain/a/", "", 404),
        (Delete, "plain/", "", 204),
        (Patch, "plain/a", r#"{"v":1}"#, 405),
    ] {
        let answer = vault.as_root(operation, path, body).await;
        assert_eq!(answer.status, status, "{operation:?} {path} {body}: {answer:?}");
    }
    let unknown = r#"{"type":"kv","options":{"version":"3"}}"#;
    assert_eq!(vault.as_root(Write, "sys/mounts/third", unknown).await.status, 400);
}

#[tokio::test]
async fn create_and_update_are_told_apart() {
    let vault = TestVault::open().await;
    vault.policy("creates", r#"path "plain/*" { capabilities = ["create"] }"#).await;
    let token = vault.token(&["creates"]).await;
    let write = || vault.call(Some(&token), Write, "plain/new", r#"{"v":1}"#);
    assert_eq!(write().await.status, 204);
    assert_eq!(write().await.status, 403);
    assert_eq!(vault.call(Some(&token), Read, "plain/new", "").await.status, 403);
}

#[tokio::test]
async fn secrets_outlive_a_seal_and_the_time() {
    let vault = TestVault::open().await;
    vault.as_root(Write, "plain/a", r#"{"ttl":"1s"}"#).await;
    vault.seal().await;
    vault.clock.advance(Duration::from_secs(3_600));
    vault.unseal().await;
    assert_eq!(vault.as_root(Read, "plain/a", "").await.json()["data"], json!({"ttl": "1s"}));
}
