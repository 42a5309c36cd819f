//! Mounts: changed, moved, shown, brought from version 1 to 2; and the one that every token has.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use kista::gate::Operation::{Delete, List, Read, Scan, Write};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::TestVault;

const UPGRADE: &str = r#"{"options":{"version":"2"}}"#;

async fn data(vault: &TestVault, path: &str) -> Value {
    let answer = vault.as_root(Read, path, "").await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()["data"].clone()
}

async fn write(vault: &TestVault, path: &str, body: &str) -> u16 {
    vault.as_root(Write, path, body).await.status
}

#[tokio::test]
async fn a_mount_is_tuned_and_keeps_what_is_not_named() {
    let vault = TestVault::open().await;
    let body = r#"{"default_lease_ttl":"30m","max_lease_ttl":7200,"description":"d"}"#;
    assert_eq!(write(&vault, "sys/mounts/plain/tune", body).await, 204);
    assert_eq!(
        write(&vault, "sys/mounts/plain/tune", r#"{"listing_visibility":"hidden"}"#).await,
        204
    );
    assert_eq!(
        data(&vault, "sys/mounts/plain/tune").await,
        json!({
            "default_lease_ttl": 1800, "max_lease_ttl": 7200, "description": "d",
            "force_no_cache": false, "listing_visibility": "hidden",
        })
    );
    // It counts at once, and after a seal.
    write(&vault, "plain/a", r#"{"v":1}"#).await;
    for _ in 0..2 {
        let read = vault.as_root(Read, "plain/a", "").await;
        assert_eq!(read.json()["lease_duration"], 1800);
        vault.seal().await;
        vault.unseal().await;
    }
    for (body, part) in [
        (r#"{"default_lease_ttl":"3h"}"#, "would be less than backend default"),
        (r#"{"default_lease_ttl":"soon"}"#, "duration"),
        (r#"{"listing_visibility":"perhaps"}"#, "invalid listing_visibility perhaps"),
        (r#"{"token_type":"batch"}"#, "only be modified on auth mounts"),
        (r#"{"options":{"version":"3"}}"#, "no version 3"),
    ] {
        let answer = vault.as_root(Write, "sys/mounts/plain/tune", body).await;
        assert_eq!((answer.status, answer.text.contains(part)), (400, true), "{answer:?}");
    }
    let absent = vault.as_root(Write, "sys/mounts/none/tune", "{}").await;
    assert_eq!(absent.status, 400);
    assert_eq!(vault.as_root(Read, "sys/mounts/none/tune", "").await.status, 400);
}

#[tokio::test]
async fn lists_without_effect_are_kept_and_said_to_be() {
    let vault = TestVault::open().await;
    let body = r#"{"audit_non_hmac_request_keys":["a"],"passthrough_request_headers":"X-A,X-B"}"#;
    let answer = vault.as_root(Write, "sys/mounts/plain/tune", body).await;
    assert_eq!((answer.status, answer.text.contains("without effect")), (200, true), "{answer:?}");
    let tuning = data(&vault, "sys/mounts/plain/tune").await;
    assert_eq!(tuning["audit_non_hmac_request_keys"], json!(["a"]));
    assert_eq!(tuning["passthrough_request_headers"], json!(["X-A", "X-B"]));
}

#[tokio::test]
async fn a_mount_moves_with_all_it_has() {
    let vault = TestVault::open().await;
    write(&vault, "plain/a", r#"{"v":1}"#).await;
    let moved = vault.as_root(Write, "sys/remount", r#"{"from":"plain","to":"team/kv/"}"#).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    let id = moved.json()["data"]["migration_id"].as_str().unwrap().to_owned();
    let status = data(&vault, &format!("sys/remount/status/{id}")).await;
    assert_eq!(
        status["migration_info"],
        json!({"source_mount": "plain/", "status": "success", "target_mount": "team/kv/"})
    );
    for _ in 0..2 {
        assert_eq!(data(&vault, "team/kv/a").await, json!({"v": 1}));
        assert_eq!(vault.as_root(Read, "plain/a", "").await.status, 404);
        vault.seal().await;
        vault.unseal().await;
    }
    for (from, to, part) in [
        ("none", "x", "no matching mount"),
        ("team/kv", "secret", "already in use"),
        ("team/kv", "secret/under", "already in use"),
        ("team/kv", "sys/x", "cannot remount to destination"),
        ("team/kv", "auth/x", "cannot remount to destination"),
        ("team/kv", "a*", "glob"),
        ("cubbyhole", "x", "cannot remount"),
        ("auth/token", "x", "cannot remount"),
        ("team/kv", "", "must be specified"),
    ] {
        let body = json!({"from": from, "to": to}).to_string();
        let answer = vault.as_root(Write, "sys/remount", &body).await;
        assert_eq!((answer.status, answer.text.contains(part)), (400, true), "{answer:?}");
    }
    assert_eq!(vault.as_root(Read, "sys/remount/status/none", "").await.status, 404);
}

#[tokio::test]
async fn secrets_of_version_1_become_first_versions() {
    let vault = TestVault::open().await;
    let large = "x".repeat(700_000);
    write(&vault, "plain/a", r#"{ "n":1.0 }"#).await;
    write(&vault, "plain/a/b", r#"{"deep":true}"#).await;
    write(&vault, "plain/large", &json!({"v": large}).to_string()).await;
    for n in 0..100 {
        write(&vault, &format!("plain/many/{n}"), &json!({"n": n}).to_string()).await;
    }
    let answer = vault.as_root(Write, "sys/mounts/plain/tune", UPGRADE).await;
    assert!(answer.text.contains("mount of version 2 now"), "{answer:?}");
    for _ in 0..2 {
        let read = vault.as_root(Read, "plain/data/a", "").await;
        assert!(read.text.contains(r#"{ "n":1.0 }"#), "{}", read.text);
        assert_eq!(read.json()["data"]["metadata"]["version"], 1);
        assert_eq!(data(&vault, "plain/data/large").await["data"]["v"], large);
        assert_eq!(data(&vault, "plain/data/a/b").await["data"], json!({"deep": true}));
        let found = vault.as_root(Scan, "plain/metadata/", "").await;
        assert_eq!(found.json()["data"]["keys"].as_array().unwrap().len(), 103);
        vault.seal().await;
        vault.unseal().await;
    }
    assert_eq!(write(&vault, "plain/data/a", r#"{"data":{"n":2},"options":{"cas":1}}"#).await, 200);
    let back =
        vault.as_root(Write, "sys/mounts/plain/tune", r#"{"options":{"version":"1"}}"#).await;
    assert_eq!(back.status, 400);
    assert!(back.text.contains("cannot downgrade mount from version 2"), "{back:?}");
    assert_eq!(data(&vault, "sys/mounts/plain").await["options"], json!({"version": "2"}));
}

#[tokio::test]
async fn what_version_1_left_goes_and_is_not_found_again() {
    let vault = TestVault::open().await;
    write(&vault, "plain/a", r#"{"v":1}"#).await;
    assert_eq!(write(&vault, "sys/mounts/plain/tune", UPGRADE).await, 200);
    vault.round().await;
    vault.seal().await;
    vault.unseal().await;
    assert_eq!(data(&vault, "plain/data/a").await["data"], json!({"v": 1}));
    assert_eq!(vault.names("plain/", &["secrets"]).await, 0);
}

/// While it is in use: no write is lost, none comes back, and no request is refused but those that
/// come to the old mount in the moment it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_mount_is_upgraded_under_its_writers() {
    let vault = Arc::new(TestVault::open().await);
    for n in 0..400 {
        write(&vault, &format!("plain/old/{n}"), &json!({"n": n}).to_string()).await;
    }
    let begun = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let (vault, begun) = (Arc::clone(&vault), Arc::clone(&begun));
        writers.spawn(async move {
            let mut last = BTreeMap::new();
            for n in 0_u64.. {
                begun.fetch_add(1, Ordering::Relaxed);
                let path = format!("old/{}", (n * 7 + writer) % 50 * 8 + writer);
                let answer = if n % 5 == 4 {
                    vault.as_root(Delete, &format!("plain/{path}"), "").await
                } else {
                    let body = json!({"by": writer, "n": n}).to_string();
                    vault.as_root(Write, &format!("plain/{path}"), &body).await
                };
                match answer.status {
                    204 if n % 5 == 4 => last.insert(path, None),
                    204 => last.insert(path, Some(json!({"by": writer, "n": n}))),
                    // Version 2 has no such path.
                    404 | 400 | 405 => break,
                    _ => panic!("{answer:?}"),
                };
            }
            last
        });
    }
    // Each has written a few, and goes on.
    while begun.load(Ordering::Relaxed) < 8 * 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(write(&vault, "sys/mounts/plain/tune", UPGRADE).await, 200);
    let mut written = 0;
    while let Some(last) = writers.join_next().await {
        for (path, expected) in last.unwrap() {
            written += 1;
            let read = vault.as_root(Read, &format!("plain/data/{path}"), "").await;
            match expected {
                Some(expected) => assert_eq!(read.json()["data"]["data"], expected, "{path}"),
                None => assert_eq!(read.status, 404, "{path}: {read:?}"),
            }
        }
    }
    assert!(written > 0);
}

#[tokio::test]
async fn each_token_has_a_cubbyhole_of_its_own_that_ends_with_it() {
    let vault = TestVault::open().await;
    let rule =
        r#"path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }"#;
    vault.policy("hole", rule).await;
    let token = vault.token(&["hole"]).await;
    let as_token = |operation, path: &'static str, body: &'static str| {
        vault.call(Some(&token), operation, path, body)
    };
    assert_eq!(write(&vault, "cubbyhole/x", r#"{"whose":"root"}"#).await, 204);
    assert_eq!(as_token(Read, "cubbyhole/x", "").await.status, 404);
    assert_eq!(as_token(Write, "cubbyhole/x", r#"{"ttl":"1h"}"#).await.status, 204);
    assert_eq!(as_token(Write, "cubbyhole/dir/y", r#"{"v":1}"#).await.status, 204);
    let read = as_token(Read, "cubbyhole/x", "").await;
    assert_eq!(
        (&read.json()["data"], &read.json()["lease_duration"]),
        (&json!({"ttl": "1h"}), &json!(0))
    );
    let listed = as_token(List, "cubbyhole", "").await;
    assert_eq!(listed.json()["data"]["keys"], json!(["dir/", "x"]));
    assert_eq!(as_token(Delete, "cubbyhole/x", "").await.status, 204);
    assert_eq!(as_token(Read, "cubbyhole/x", "").await.status, 404);
    assert_eq!(data(&vault, "cubbyhole/x").await, json!({"whose": "root"}));
    for (path, body) in
        [("cubbyhole/x", "{}"), ("cubbyhole", r#"{"a":1}"#), ("cubbyhole/x/", r#"{"a":1}"#)]
    {
        assert_eq!(write(&vault, path, body).await, 400, "{path}");
    }
    assert_eq!(vault.names("cubbyhole/", &[]).await, 2);
    assert_eq!(write(&vault, "auth/token/revoke", &json!({"token": token}).to_string()).await, 204);
    vault.round().await;
    assert_eq!(vault.names("cubbyhole/", &[]).await, 1);
}

#[tokio::test]
async fn the_cubbyhole_is_one_and_stays() {
    let vault = TestVault::open().await;
    let mount = data(&vault, "sys/mounts/cubbyhole").await;
    assert_eq!((&mount["type"], &mount["local"]), (&json!("cubbyhole"), &json!(true)));
    assert_eq!(vault.as_root(Delete, "sys/mounts/cubbyhole", "").await.status, 400);
    assert_eq!(
        write(&vault, "sys/mounts/cubbyhole/tune", r#"{"default_lease_ttl":"1h"}"#).await,
        400
    );
    let second = vault.as_root(Write, "sys/mounts/x", r#"{"type":"cubbyhole"}"#).await;
    assert!(second.text.contains("is not mountable"), "{second:?}");
}

#[tokio::test]
async fn callers_see_the_mounts_that_they_may_use_and_those_shown_to_all() {
    let vault = TestVault::open().await;
    vault.policy("reader", r#"path "secret/data/app/*" { capabilities = ["read"] }"#).await;
    let shown = async |token: &str| {
        let answer = vault.call(Some(token), Read, "sys/internal/ui/mounts", "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let data = answer.json()["data"].clone();
        let keys = |of: &str| data[of].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        (keys("secret"), keys("auth"))
    };
    let (secret, auth) = shown(&vault.root).await;
    assert_eq!(
        (secret.join(" "), auth.join(" ")),
        ("cubbyhole/ plain/ secret/ sys/".to_owned(), "token/".to_owned())
    );
    let reader = vault.token(&["reader"]).await;
    assert_eq!(shown(&reader).await.0, ["secret/"]);
    write(&vault, "sys/mounts/plain/tune", r#"{"listing_visibility":"unauth"}"#).await;
    assert_eq!(shown(&reader).await.0, ["plain/", "secret/"]);
    assert_eq!(data(&vault, "sys/auth").await["token/"]["type"], "token");
    assert_eq!(data(&vault, "sys/auth/token").await["config"]["token_type"], "default-service");
}
