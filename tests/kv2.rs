//! Secrets with versions: what is patched, shown in part, and found below a folder.

use std::sync::Arc;

use kista::gate::Operation::{Delete, List, Patch, Read, Scan, Write};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, TestVault};

async fn put(vault: &TestVault, path: &str, data: &str) {
    let answer = vault
        .as_root(Write, &format!("secret/data/{path}"), &format!(r#"{{"data":{data}}}"#))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn patch(vault: &TestVault, path: &str, body: &str) -> Answer {
    vault.as_root(Patch, &format!("secret/data/{path}"), body).await
}

async fn data(vault: &TestVault, path: &str) -> Value {
    let answer = vault.as_root(Read, path, "").await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()["data"].clone()
}

/// The keys of a list, none when it is a 404.
async fn keys(vault: &TestVault, operation: kista::gate::Operation, path: &str) -> Vec<String> {
    let answer = vault.as_root(operation, path, "").await;
    if answer.status == 404 {
        return Vec::new();
    }
    serde_json::from_value(answer.json()["data"]["keys"].clone()).unwrap()
}

#[tokio::test]
async fn a_patch_makes_a_version_and_keeps_what_it_does_not_name() {
    let vault = TestVault::open().await;
    put(&vault, "a", r#"{"n":1.0,"b":{"c":2,"d":3},"l":[1,2],"gone":"x"}"#).await;
    let answer =
        patch(&vault, "a", r#"{"data":{"gone":null,"b":{"c":9},"l":[3],"new":1e2}}"#).await;
    assert_eq!((answer.status, &answer.json()["data"]["version"]), (200, &json!(2)), "{answer:?}");
    let read = vault.as_root(Read, "secret/data/a", "").await;
    assert!(
        read.text.contains(r#"{"n":1.0,"b":{"c":9,"d":3},"l":[3],"new":1e2}"#),
        "{}",
        read.text
    );
    let first = data(&vault, "secret/data/a?version=1").await;
    assert_eq!(first["data"]["gone"], "x");
}

#[tokio::test]
async fn a_value_that_lies_apart_is_patched_too() {
    let vault = TestVault::open().await;
    let long = "x".repeat(50_000);
    put(&vault, "a", &format!(r#"{{"long":"{long}"}}"#)).await;
    assert_eq!(patch(&vault, "a", r#"{"data":{"short":1}}"#).await.status, 200);
    assert_eq!(data(&vault, "secret/data/a").await["data"], json!({"long": long, "short": 1}));
    assert_eq!(patch(&vault, "a", r#"{"data":{"long":null}}"#).await.status, 200);
    assert_eq!(data(&vault, "secret/data/a").await["data"], json!({"short": 1}));
}

#[tokio::test]
async fn a_patch_that_comes_to_more_than_a_mebibyte_is_refused_and_changes_nothing() {
    let vault = TestVault::open().await;
    let half = "x".repeat(600 * 1024);
    put(&vault, "a", &format!(r#"{{"one":"{half}"}}"#)).await;
    let answer = patch(&vault, "a", &format!(r#"{{"data":{{"two":"{half}"}}}}"#)).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert_eq!(data(&vault, "secret/metadata/a").await["current_version"], 1);
}

#[tokio::test]
async fn there_must_be_something_to_patch() {
    let vault = TestVault::open().await;
    assert_eq!(patch(&vault, "none", r#"{"data":{"a":1}}"#).await.status, 404);
    vault.as_root(Write, "secret/metadata/noted", r#"{"max_versions":3}"#).await;
    assert_eq!(patch(&vault, "noted", r#"{"data":{"a":1}}"#).await.status, 404);
    put(&vault, "a", "{}").await;
    for body in ["{}", r#"{"x":1}"#, r#"{"data":null}"#, r#"{"data":[1]}"#, ""] {
        assert_eq!(patch(&vault, "a", body).await.status, 400, "{body}");
    }
    vault.as_root(Delete, "secret/data/a", "").await;
    let answer = patch(&vault, "a", r#"{"data":{"a":1}}"#).await;
    assert_eq!((answer.status, &answer.json()["data"]["version"]), (404, &json!(1)), "{answer:?}");
    assert_eq!(data(&vault, "secret/metadata/a").await["current_version"], 1);
}

#[tokio::test]
async fn a_patch_is_held_to_the_version_it_names() {
    let vault = TestVault::open().await;
    put(&vault, "a", r#"{"a":1}"#).await;
    for cas in ["0", "2", "-1"] {
        let body = format!(r#"{{"data":{{"b":2}},"options":{{"cas":{cas}}}}}"#);
        let answer = patch(&vault, "a", &body).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text.contains("check-and-set parameter did not match the current version"));
    }
    let right = r#"{"data":{"b":2},"options":{"cas":1}}"#;
    assert_eq!(patch(&vault, "a", right).await.status, 200);
    vault.as_root(Write, "secret/metadata/a", r#"{"cas_required":true}"#).await;
    let answer = patch(&vault, "a", r#"{"data":{"b":3}}"#).await;
    assert!(answer.text.contains("check-and-set parameter required for this call"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_patches_at_once_none_is_lost() {
    let vault = Arc::new(TestVault::open().await);
    put(&vault, "a", "{}").await;
    let mut patches = JoinSet::new();
    for number in 0..24 {
        let vault = Arc::clone(&vault);
        let body = format!(r#"{{"data":{{"k{number}":{number}}}}}"#);
        patches.spawn(async move { patch(&vault, "a", &body).await.status });
    }
    assert_eq!(patches.join_all().await, [200; 24]);
    let read = data(&vault, "secret/data/a").await;
    assert_eq!(read["metadata"]["version"], 25);
    assert_eq!(read["data"].as_object().unwrap().len(), 24);
}

#[tokio::test]
async fn subkeys_show_keys_and_no_values() {
    let vault = TestVault::open().await;
    put(&vault, "a", r#"{"a":"hunter2","b":{"c":{"d":1},"e":[]},"f":{},"g":null}"#).await;
    for (query, subkeys) in [
        ("", json!({"a": null, "b": {"c": {"d": null}, "e": null}, "f": null, "g": null})),
        ("?depth=0", json!({"a": null, "b": {"c": {"d": null}, "e": null}, "f": null, "g": null})),
        ("?depth=1", json!({"a": null, "b": null, "f": null, "g": null})),
        ("?depth=-1", json!({"a": null, "b": null, "f": null, "g": null})),
        (
            "?depth=2&version=1",
            json!({"a": null, "b": {"c": null, "e": null}, "f": null, "g": null}),
        ),
    ] {
        let shown = data(&vault, &format!("secret/subkeys/a{query}")).await;
        assert_eq!(shown["subkeys"], subkeys, "{query}");
        assert_eq!(shown["metadata"]["version"], 1);
    }
    for (path, status) in [("a?depth=x", 400), ("a?version=7", 404), ("none", 404)] {
        assert_eq!(vault.as_root(Read, &format!("secret/subkeys/{path}"), "").await.status, status);
    }
    vault.as_root(Delete, "secret/data/a", "").await;
    let gone = vault.as_root(Read, "secret/subkeys/a", "").await;
    assert_eq!((gone.status, &gone.json()["data"]["subkeys"]), (404, &Value::Null));
    assert_eq!(gone.json()["data"]["metadata"]["version"], 1, "{gone:?}");
}

#[tokio::test]
async fn metadata_is_patched_member_by_member() {
    let vault = TestVault::open().await;
    let patch = |body: &'static str| vault.as_root(Patch, "secret/metadata/a", body);
    assert_eq!(patch(r#"{"max_versions":2}"#).await.status, 404);
    let made = r#"{"max_versions":2,"cas_required":true,"delete_version_after":"1h",
        "custom_metadata":{"owner":"team-a","tier":"gold"}}"#;
    vault.as_root(Write, "secret/metadata/a", made).await;
    let changed = r#"{"custom_metadata":{"tier":null,"zone":"b"},"max_versions":7}"#;
    assert_eq!(patch(changed).await.status, 204);
    let shown = data(&vault, "secret/metadata/a").await;
    assert_eq!(shown["custom_metadata"], json!({"owner": "team-a", "zone": "b"}));
    assert_eq!((&shown["max_versions"], &shown["cas_required"]), (&json!(7), &json!(true)));
    assert_eq!(shown["delete_version_after"], "1h0m0s");
    let nulls = r#"{"max_versions":null,"cas_required":null,"delete_version_after":null}"#;
    assert_eq!(patch(nulls).await.status, 204);
    let shown = data(&vault, "secret/metadata/a").await;
    assert_eq!((&shown["max_versions"], &shown["cas_required"]), (&json!(0), &json!(false)));
    assert_eq!(shown["delete_version_after"], "0s");
    assert_eq!(shown["custom_metadata"], json!({"owner": "team-a", "zone": "b"}));
    assert_eq!(patch(r#"{"custom_metadata":null}"#).await.status, 204);
    assert_eq!(data(&vault, "secret/metadata/a").await["custom_metadata"], Value::Null);
    assert_eq!(patch("{}").await.status, 204);
    assert_eq!(patch(r#"{"max_versions":"x"}"#).await.status, 400);
    assert_eq!(patch(r#"{"custom_metadata":{"a":""}}"#).await.status, 400);
}

#[tokio::test]
async fn metadata_is_written_by_check_and_set() {
    let vault = TestVault::open().await;
    let write = |body| vault.as_root(Write, "secret/metadata/a", body);
    let refused = "metadata check-and-set parameter did not match the current version";
    assert_eq!(write(r#"{"max_versions":3,"metadata_cas":0}"#).await.status, 204);
    let answer = write(r#"{"max_versions":4,"metadata_cas":0}"#).await;
    assert_eq!((answer.status, answer.text.contains(refused)), (400, true), "{answer:?}");
    assert_eq!(write(r#"{"metadata_cas":1,"metadata_cas_required":true}"#).await.status, 204);
    let answer = write(r#"{"max_versions":4}"#).await;
    assert!(answer.text.contains("metadata check-and-set parameter required"), "{answer:?}");
    let patch = vault.as_root(Patch, "secret/metadata/a", r#"{"max_versions":4}"#).await;
    assert_eq!(patch.status, 400);
    let body = r#"{"max_versions":null,"metadata_cas":2}"#;
    assert_eq!(vault.as_root(Patch, "secret/metadata/a", body).await.status, 204);
    // Values have a count of their own.
    put(&vault, "a", r#"{"n":1}"#).await;
    let metadata = data(&vault, "secret/metadata/a").await;
    assert_eq!(metadata["current_metadata_version"], 3);
    assert_eq!(metadata["metadata_cas_required"], true);
    assert_eq!((&metadata["max_versions"], &metadata["current_version"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn a_mount_may_ask_for_check_and_set_of_metadata() {
    let vault = TestVault::open().await;
    let config = r#"{"metadata_cas_required":true}"#;
    assert_eq!(vault.as_root(Write, "secret/config", config).await.status, 204);
    assert_eq!(data(&vault, "secret/config").await["metadata_cas_required"], true);
    let write = |body| vault.as_root(Write, "secret/metadata/a", body);
    assert_eq!(write(r#"{"max_versions":3}"#).await.status, 400);
    assert_eq!(write(r#"{"max_versions":3,"metadata_cas":0}"#).await.status, 204);
}

#[tokio::test]
async fn a_scan_finds_what_lies_below_and_goes_on_where_a_page_ended() {
    let vault = TestVault::open().await;
    let all = ["b", "b/c", "b/c/d", "b/e", "b!", "c/x/y", "d"];
    for path in all {
        put(&vault, &format!("dir/{path}"), "{}").await;
    }
    put(&vault, "other", "{}").await;
    assert_eq!(keys(&vault, Scan, "secret/metadata/dir").await, all);
    assert_eq!(keys(&vault, Scan, "secret/metadata/dir/b/").await, ["c", "c/d", "e"]);
    assert_eq!(keys(&vault, Scan, "secret/metadata").await.len(), 8);
    assert_eq!(keys(&vault, Scan, "secret/metadata/none").await, [""; 0]);
    for limit in 1..=all.len() {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("secret/metadata/dir?limit={limit}&after={after}");
            let page = keys(&vault, Scan, &path).await;
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after.clone_from(last);
            found.extend(page);
        }
        assert_eq!(found, all, "{limit} for each page");
    }
    // What a page ended with may be gone by the next one.
    assert_eq!(
        keys(&vault, Scan, "secret/metadata/dir?after=b/c/zz").await,
        ["b/e", "b!", "c/x/y", "d"]
    );
}

#[tokio::test]
async fn a_detailed_list_tells_what_is_known_of_each_secret() {
    let vault = TestVault::open().await;
    for path in ["dir/a", "dir/b", "dir/b/c"] {
        put(&vault, path, "{}").await;
    }
    vault.as_root(Write, "secret/metadata/dir/b", r#"{"custom_metadata":{"owner":"x"}}"#).await;
    let shown = vault.as_root(List, "secret/detailed-metadata/dir", "").await.json();
    assert_eq!(shown["data"]["keys"], json!(["a", "b", "b/"]));
    let info = shown["data"]["key_info"].as_object().unwrap();
    assert_eq!(info.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(info["b"]["custom_metadata"], json!({"owner": "x"}));
    assert_eq!(info["a"]["versions"]["1"]["destroyed"], false);
    let shown =
        vault.as_root(Scan, "secret/detailed-metadata/dir?after=a&limit=2", "").await.json();
    assert_eq!(shown["data"]["keys"], json!(["b", "b/c"]));
    assert_eq!(shown["data"]["key_info"]["b/c"]["current_version"], 1);
    let root = vault.as_root(List, "secret/detailed-metadata", "").await.json();
    assert_eq!(root["data"], json!({"keys": ["dir/"], "key_info": {}}));
}

#[tokio::test]
async fn patch_and_scan_are_capabilities_of_their_own() {
    let vault = TestVault::open().await;
    put(&vault, "a/b", "{}").await;
    let all_but =
        r#"path "secret/*" { capabilities = ["create", "read", "update", "delete", "list"] }"#;
    vault.policy("all-but", all_but).await;
    vault.policy("these", r#"path "secret/*" { capabilities = ["patch", "scan"] }"#).await;
    let (others, these) = (vault.token(&["all-but"]).await, vault.token(&["these"]).await);
    for (operation, path, body) in [
        (Patch, "secret/data/a/b", r#"{"data":{"x":1}}"#),
        (Patch, "secret/metadata/a/b", r#"{"max_versions":3}"#),
        (Scan, "secret/metadata/a", ""),
        (Scan, "secret/detailed-metadata/a", ""),
    ] {
        assert_eq!(vault.call(Some(&others), operation, path, body).await.status, 403, "{path}");
        let answer = vault.call(Some(&these), operation, path, body).await;
        assert!(matches!(answer.status, 200 | 204), "{path}: {answer:?}");
    }
    assert_eq!(vault.call(Some(&these), Read, "secret/subkeys/a/b", "").await.status, 403);
}
