//! Rates: what a quota counts and whom it refuses, and how often anyone may try to unseal.

use std::time::Duration;

use kista::{
    gate::{
        Notes,
        Operation::{Delete, List, Read, Write},
    },
    quota::Standing,
};
use serde_json::{Value, json};

use crate::support::{Answer, Process, Site, TestVault};

const HERE: [u8; 4] = [192, 0, 2, 1];

async fn write(vault: &TestVault, path: &str, body: &str) -> u16 {
    vault.as_root(Write, path, body).await.status
}

async fn quota(vault: &TestVault, name: &str, body: &str) {
    let path = format!("sys/quotas/rate-limit/{name}");
    let answer = vault.as_root(Write, &path, body).await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

async fn data(vault: &TestVault, path: &str) -> Value {
    vault.as_root(Read, path, "").await.json()["data"].clone()
}

async fn ask(vault: &TestVault, path: &str) -> (Answer, Notes) {
    vault.call_from(HERE, Some(&vault.root), Read, path, "").await
}

/// How many of so many requests pass.
async fn passed(vault: &TestVault, path: &str, tries: usize) -> usize {
    let mut passed = 0;
    for _ in 0..tries {
        passed += usize::from(ask(vault, path).await.0.status != 429);
    }
    passed
}

#[tokio::test]
async fn a_quota_refuses_one_too_many_and_says_when_to_come_again() {
    let vault = TestVault::open().await;
    write(&vault, "plain/a", r#"{"v":1}"#).await;
    quota(&vault, "plain", r#"{"path":"plain/","rate":3,"interval":"1m"}"#).await;
    for _ in 0..3 {
        let (answer, notes) = ask(&vault, "plain/a").await;
        assert_eq!((answer.status, notes), (200, Notes::default()));
    }
    let (answer, notes) = ask(&vault, "plain/a").await;
    let text = "request path \"plain/a\": rate limit quota exceeded";
    assert_eq!((answer.status, answer.json()), (429, json!({"errors": [text]})));
    assert_eq!(notes, Notes { retry_after: Some(20), standing: None });
    // Others, and other mounts, are not concerned.
    assert_eq!(ask(&vault, "secret/data/a").await.0.status, 404);
    assert_eq!(vault.as_root(Read, "plain/a", "").await.status, 200);
    vault.clock.advance(Duration::from_secs(20));
    assert_eq!(passed(&vault, "plain/a", 5).await, 1);
}

#[tokio::test]
async fn what_is_left_is_told_where_the_configuration_says_so() {
    let vault = TestVault::open().await;
    quota(&vault, "plain", r#"{"path":"plain","rate":2,"interval":60}"#).await;
    let on = r#"{"enable_rate_limit_response_headers":true}"#;
    assert_eq!(write(&vault, "sys/quotas/config", on).await, 204);
    let left = |remaining, reset| Some(Standing { limit: 2, remaining, reset });
    let (answer, notes) = ask(&vault, "plain/a").await;
    assert_eq!((answer.status, notes.standing), (404, left(1, 30)));
    // Also with an answer of the gate itself.
    let (answer, notes) = vault.call_from(HERE, None, Read, "plain/a", "").await;
    assert_eq!((answer.status, notes.standing), (403, left(0, 60)));
    let (answer, notes) = ask(&vault, "plain/a").await;
    assert_eq!(answer.status, 429);
    assert_eq!(notes, Notes { retry_after: Some(30), standing: left(0, 60) });
    assert_eq!(ask(&vault, "secret/data/a").await.1, Notes::default());
}

#[tokio::test]
async fn bad_tokens_are_shed_before_they_are_looked_up() {
    let vault = TestVault::open().await;
    quota(&vault, "all", r#"{"rate":5,"interval":"1m"}"#).await;
    let mut refused = Vec::new();
    for _ in 0..8 {
        let bad = Some("hvs.unknown");
        refused.push(vault.call_from(HERE, bad, Read, "plain/a", "").await.0.status);
    }
    assert_eq!(refused, [403, 403, 403, 403, 403, 429, 429, 429]);
    // A good one comes from elsewhere, unhindered.
    assert_eq!(vault.as_root(Read, "plain/a", "").await.status, 404);
    // Nor is a use of a token with few of them counted for nothing.
    let body = r#"{"num_uses":1,"policies":["root"]}"#;
    let made = vault.as_root(Write, "auth/token/create", body).await.json();
    let once = made["auth"]["client_token"].as_str().unwrap();
    assert_eq!(vault.call_from(HERE, Some(once), Read, "plain/a", "").await.0.status, 429);
    assert_eq!(vault.call(Some(once), Read, "plain/a", "").await.status, 404);
}

#[tokio::test]
async fn exempt_paths_are_never_counted() {
    let vault = TestVault::open().await;
    quota(&vault, "all", r#"{"rate":4,"interval":"1h"}"#).await;
    assert_eq!(passed(&vault, "plain/a", 6).await, 4);
    for path in ["sys/health", "sys/seal-status"] {
        assert_eq!(passed(&vault, path, 20).await, 20, "{path}");
    }
    assert_eq!(passed(&vault, "sys/leader", 3).await, 0);
    let free = r#"{"rate_limit_exempt_paths":["plain/free"]}"#;
    assert_eq!(write(&vault, "sys/quotas/config", free).await, 204);
    assert_eq!(passed(&vault, "plain/free/x", 9).await, 9);
    assert_eq!(passed(&vault, "plain/freed", 9).await, 0);
    assert_eq!(passed(&vault, "sys/health", 9).await, 0);
    // A switch alone leaves the paths as they are.
    write(&vault, "sys/quotas/config", r#"{"enable_rate_limit_audit_logging":true}"#).await;
    assert_eq!(
        data(&vault, "sys/quotas/config").await,
        json!({
            "enable_rate_limit_audit_logging": true, "enable_rate_limit_response_headers": false,
            "rate_limit_exempt_paths": ["plain/free"],
        })
    );
}

#[tokio::test]
async fn the_most_specific_quota_counts_alone() {
    let vault = TestVault::open().await;
    quota(&vault, "mount", r#"{"path":"secret","rate":2,"interval":"1h"}"#).await;
    quota(&vault, "folder", r#"{"path":"secret/data/app/*","rate":3,"interval":"1h"}"#).await;
    quota(&vault, "one", r#"{"path":"secret/data/app/db","rate":4,"interval":"1h"}"#).await;
    quota(&vault, "login", r#"{"path":"auth/token/lookup-self","rate":5,"interval":"1h"}"#).await;
    // The last one, since it counts these writes too.
    quota(&vault, "all", r#"{"rate":1,"interval":"1h"}"#).await;
    for (path, rate) in [
        ("secret/data/app/db", 4),
        ("secret/data/app/web", 3),
        ("secret/data/other", 2),
        ("plain/a", 1),
        ("nowhere/a", 0),
        ("auth/token/lookup-self", 5),
        ("auth/token/accessors", 0),
    ] {
        assert_eq!(passed(&vault, path, 9).await, rate, "{path}");
    }
}

#[tokio::test]
async fn a_block_keeps_a_client_out_for_its_time() {
    let vault = TestVault::open().await;
    let body = r#"{"path":"plain/","rate":2,"interval":"1s","block_interval":"5m"}"#;
    quota(&vault, "plain", body).await;
    assert_eq!(passed(&vault, "plain/a", 3).await, 2);
    vault.clock.advance(Duration::from_secs(299));
    let (answer, notes) = ask(&vault, "plain/a").await;
    assert_eq!((answer.status, notes.retry_after), (429, Some(1)));
    vault.clock.advance(Duration::from_secs(1));
    assert_eq!(passed(&vault, "plain/a", 3).await, 2);
}

#[tokio::test]
async fn quotas_survive_a_seal_and_follow_their_mount() {
    let vault = TestVault::open().await;
    quota(&vault, "plain", r#"{"path":"plain/app","rate":2.5,"interval":"1h"}"#).await;
    quota(&vault, "sys", r#"{"path":"sys/mounts","rate":100}"#).await;
    vault.seal().await;
    assert_eq!(ask(&vault, "plain/app").await.0.status, 503);
    vault.unseal().await;
    assert_eq!(passed(&vault, "plain/app", 5).await, 2);
    assert_eq!(write(&vault, "sys/remount", r#"{"from":"plain","to":"moved"}"#).await, 200);
    let shown = json!({
        "name": "plain", "type": "rate-limit", "path": "moved/app", "role": "", "rate": 2.5,
        "interval": 3600, "block_interval": 0,
    });
    assert_eq!(data(&vault, "sys/quotas/rate-limit/plain").await, shown);
    assert_eq!(passed(&vault, "moved/app", 5).await, 0);
    assert_eq!(passed(&vault, "plain/app", 5).await, 5);
    // It goes with its mount, and another mount of the same path has none.
    assert_eq!(vault.as_root(Delete, "sys/mounts/moved", "").await.status, 204);
    assert_eq!(data(&vault, "sys/quotas/rate-limit").await, Value::Null);
    let listed = vault.as_root(List, "sys/quotas/rate-limit", "").await.json();
    assert_eq!(listed["data"]["keys"], json!(["sys"]));
    write(&vault, "sys/mounts/moved", r#"{"type":"kv"}"#).await;
    vault.seal().await;
    vault.unseal().await;
    assert_eq!(passed(&vault, "moved/app", 5).await, 5);
}

#[tokio::test]
async fn what_is_no_quota_is_refused_with_a_reason() {
    let vault = TestVault::open().await;
    quota(&vault, "plain", r#"{"path":"plain/","rate":2}"#).await;
    for (body, part) in [
        (r#"{"path":"plain/x"}"#, "'rate' is invalid"),
        (r#"{"path":"plain/x","rate":-1}"#, "'rate' is invalid"),
        (r#"{"path":"plain/x","rate":"NaN"}"#, "'rate' is invalid"),
        (r#"{"path":"plain/x","rate":"many"}"#, "expected a number"),
        (r#"{"path":"plain/x","rate":1,"interval":"soon"}"#, "invalid duration"),
        (r#"{"path":"plain/x","rate":1,"block_interval":-1}"#, "block_interval"),
        (r#"{"path":"absent/x","rate":1}"#, "invalid mount path"),
        (r#"{"path":"plain/","rate":1}"#, "exists under the name \\\"plain\\\""),
        (r#"{"path":"plain/x","rate":1,"role":"r"}"#, "not a valid auth method"),
        (r#"{"path":"auth/token/","rate":1,"role":"r"}"#, "leave 'role' out"),
        (r#"{"path":"plain/x","rate":1,"inheritable":true}"#, "namespaces"),
        (r#"{"rate":1,"inheritable":false}"#, "counts everything"),
        (r#"{"rate":1,"type":"lease-count"}"#, "rate-limit"),
    ] {
        let answer = vault.as_root(Write, "sys/quotas/rate-limit/x", body).await;
        assert!(answer.status == 400 && answer.text.contains(part), "{body}: {answer:?}");
    }
    assert_eq!(vault.as_root(Write, "sys/quotas/rate-limit/a b", "{}").await.status, 404);
    assert_eq!(vault.as_root(Read, "sys/quotas/rate-limit/x", "").await.status, 404);
    for _ in 0..2 {
        assert_eq!(vault.as_root(Delete, "sys/quotas/rate-limit/plain", "").await.status, 204);
    }
    assert_eq!(vault.as_root(List, "sys/quotas/rate-limit", "").await.status, 404);
}

#[tokio::test]
async fn unsealing_is_throttled_and_an_operator_passes() {
    let vault = TestVault::open().await;
    vault.seal().await;
    let body = r#"{"key":"00"}"#;
    let flood = [198, 51, 100, 7];
    let mut refused = 0;
    for _ in 0..100 {
        let (answer, notes) = vault.call_from(flood, None, Write, "sys/unseal", body).await;
        if answer.status == 429 {
            assert_eq!(notes.retry_after, Some(1), "{answer:?}");
            refused += 1;
        } else {
            assert_eq!(answer.status, 400, "{answer:?}");
        }
    }
    assert_eq!(refused, 40);
    // Init shows no share, but is work as well.
    let init = r#"{"secret_shares":1,"secret_threshold":1}"#;
    assert_eq!(vault.call_from(flood, None, Write, "sys/init", init).await.0.status, 429);
    // What tells the state is free.
    for path in ["sys/seal-status", "sys/init", "sys/health"] {
        let status = vault.call_from(flood, None, Read, path, "").await.0.status;
        assert!(matches!(status, 200 | 503), "{path}: {status}");
    }
    let share = json!({ "key": vault.share() }).to_string();
    let (answer, _) = vault.call_from(HERE, None, Write, "sys/unseal", &share).await;
    assert_eq!((answer.status, &answer.json()["sealed"]), (200, &json!(false)), "{answer:?}");
    vault.seal().await;
    // Many sources are counted together, and the machine itself is not among them.
    for host in 0..120 {
        let from = [203, 0, 113, host];
        for _ in 0..2 {
            vault.call_from(from, None, Write, "sys/unseal", body).await;
        }
    }
    let crowded = vault.call_from([192, 0, 2, 9], None, Write, "sys/unseal", &share).await;
    assert_eq!(crowded.0.status, 429);
    let answer = vault.call(None, Write, "sys/unseal", &share).await;
    assert_eq!((answer.status, &answer.json()["sealed"]), (200, &json!(false)), "{answer:?}");
}

#[tokio::test]
async fn one_passphrase_more_than_can_be_tried_comes_again_and_shares_pass() {
    let vault = TestVault::open().await;
    vault.seal().await;
    let mut tried: Vec<_> = (0..4).map(|_| vault.vault().stretching().unwrap()).collect();
    let guess = r#"{"passphrase":"guess"}"#;
    let (answer, notes) = vault.call_from(HERE, None, Write, "sys/unseal", guess).await;
    assert_eq!((answer.status, notes.retry_after), (429, Some(1)), "{answer:?}");
    tried.pop();
    let (answer, _) = vault.call_from(HERE, None, Write, "sys/unseal", guess).await;
    assert_eq!((answer.status, answer.json()), (400, json!({"errors": ["unseal failed"]})));
    tried.push(vault.vault().stretching().unwrap());
    let share = json!({ "key": vault.share() }).to_string();
    let (answer, _) = vault.call_from(HERE, None, Write, "sys/unseal", &share).await;
    assert_eq!((answer.status, &answer.json()["sealed"]), (200, &json!(false)), "{answer:?}");
    // With a token it is no other.
    let slot = r#"{"type":"passphrase","passphrase":"a better one than that"}"#;
    assert_eq!(vault.as_root(Write, "sys/slots", slot).await.status, 429);
    assert_eq!(tried.len(), 4);
}

/// Over HTTP: the headers, and lines in the audit file where the configuration says so.
#[test]
fn a_refusal_has_its_headers_and_is_audited_if_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let (process, kept) = Process::init(folder.path());
    let root = kept.root.as_str();
    let set = |path: &str, body: &str| process.call("POST", path, root, body).status;
    assert_eq!(
        set("sys/quotas/rate-limit/q", r#"{"path":"secret/","rate":1,"interval":"1h"}"#),
        204
    );
    let lines = || {
        let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
        text.lines().count()
    };
    assert_eq!(process.call("GET", "secret/data/a", root, "").status, 404);
    let before = lines();
    let (head, answer) = process.call_with_head("GET", "secret/data/a", root, "");
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(head.contains("retry-after: 3") && !head.contains("x-ratelimit"), "{head}");
    assert_eq!(lines(), before);
    let on =
        r#"{"enable_rate_limit_response_headers":true,"enable_rate_limit_audit_logging":true}"#;
    assert_eq!(set("sys/quotas/config", on), 204);
    let before = lines();
    let (head, answer) = process.call_with_head("GET", "secret/data/a", "hvs.unknown", "");
    assert_eq!(answer.status, 429, "{answer:?}");
    for header in ["retry-after: 3", "x-ratelimit-limit: 1", "x-ratelimit-remaining: 0"] {
        assert!(head.contains(header), "{header} in {head}");
    }
    assert_eq!(lines(), before + 2);
}

#[test]
fn quotas_are_set_shown_and_removed_by_command() {
    let site = Site::new();
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&site.ok(&[&["quota"], arguments, &["--json"]].concat())).unwrap()
    };
    assert_eq!(json(&["ls"]), json!({"quotas": []}));
    let set = ["set", "app", "--path", "secret/data/app/*", "--rate", "2.5", "--per", "1h"];
    assert_eq!(json(&set), json!({"name": "app"}));
    let shown = json!({
        "name": "app", "path": "secret/data/app/*", "rate": 2.5, "interval": 3600,
        "block_interval": 0,
    });
    assert_eq!(json(&["show", "app"]), shown);
    assert_eq!(json(&["ls"]), json!({"quotas": [shown]}));
    assert!(site.ok(&["quota", "ls"]).contains("2.5 in 1h"));

    site.put("other", r#"{"a":"b"}"#);
    site.put("app/db", r#"{"a":"b"}"#);
    site.ok(&["get", "secret/app/db"]);
    let said = site.fails(1, "rate limit quota exceeded", &["get", "secret/app/db"]);
    assert!(said.contains("kista quota ls"), "{said}");
    site.ok(&["get", "secret/other"]);

    let before = json(&["config"]);
    assert_eq!(before["rate_limit_exempt_paths"].as_array().unwrap().len(), 7);
    let after = json(&["config", "--headers", "on"]);
    assert_eq!(after["enable_rate_limit_response_headers"], true);
    assert_eq!(after["rate_limit_exempt_paths"], before["rate_limit_exempt_paths"]);
    let after = json(&["config", "--exempt", "secret/data/app"]);
    assert_eq!(after["enable_rate_limit_response_headers"], true);
    assert_eq!(after["rate_limit_exempt_paths"], json!(["secret/data/app"]));
    site.ok(&["get", "secret/app/db"]);
    assert_eq!(json(&["config", "--no-exempt"])["rate_limit_exempt_paths"], json!([]));

    site.ok(&["quota", "rm", "app"]);
    site.ok(&["quota", "rm", "app"]);
    site.fails(3, "there is no quota app", &["quota", "show", "app"]);
    site.fails(2, "--per", &["quota", "set", "a", "--rate", "1", "--per", "100ms"]);
    site.fails(1, "invalid mount path", &["quota", "set", "a", "--rate", "1", "--path", "no"]);
}

/// What is told to wait for a second or two waits, and is served.
#[test]
fn a_command_waits_as_long_as_it_is_told_to() {
    let site = Site::new();
    site.put("app", r#"{"a":"b"}"#);
    site.ok(&["quota", "set", "app", "--path", "secret/data/app", "--rate", "1", "--per", "2s"]);
    for _ in 0..3 {
        assert_eq!(site.ok(&["get", "secret/app#a"]).trim(), "b");
    }
}
