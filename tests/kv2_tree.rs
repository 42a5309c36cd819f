//! Secrets with their history, and folders of them, copied, moved and removed by one call.

use std::{sync::Arc, time::Duration};

use kista::{
    clock::Clock,
    gate::Operation::{Delete, Read, Scan, Write},
};
use serde_json::{Value, json};

use crate::support::{Answer, TestVault};

async fn put(vault: &TestVault, path: &str, value: &str) {
    let body = json!({"data": {"v": value}}).to_string();
    let answer = vault.as_root(Write, &format!("secret/data/{path}"), &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn tree(vault: &TestVault, act: &str, path: &str, body: Value) -> Answer {
    vault.as_root(Write, &format!("secret/tree/{act}/{path}"), &body.to_string()).await
}

fn done(answer: &Answer) -> (u64, u64, bool) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let data = &answer.json()["data"];
    let count = |name: &str| data[name].as_u64().unwrap();
    (count("secrets"), count("skipped"), data["finished"].as_bool().unwrap())
}

async fn value(vault: &TestVault, path: &str) -> Value {
    vault.as_root(Read, &format!("secret/data/{path}"), "").await.json()["data"]["data"]["v"]
        .clone()
}

async fn names(vault: &TestVault, folder: &str) -> Vec<String> {
    let answer = vault.as_root(Scan, &format!("secret/metadata/{folder}"), "").await;
    serde_json::from_value(answer.json()["data"]["keys"].clone()).unwrap_or_default()
}

#[tokio::test]
async fn a_secret_moves_with_its_whole_history() {
    let vault = TestVault::open().await;
    let long = "x".repeat(600_000);
    for value in ["one", &long, "three"] {
        put(&vault, "a", value).await;
    }
    vault.as_root(Write, "secret/delete/a", r#"{"versions":[1]}"#).await;
    vault.as_root(Write, "secret/metadata/a", r#"{"custom_metadata":{"own":"us"}}"#).await;
    let before = vault.as_root(Read, "secret/metadata/a", "").await.json()["data"].clone();
    assert_eq!(done(&tree(&vault, "move", "a", json!({"to": "deep/b"})).await), (1, 0, true));
    assert_eq!(vault.as_root(Read, "secret/metadata/a", "").await.status, 404);
    let after = vault.as_root(Read, "secret/metadata/deep/b", "").await.json()["data"].clone();
    assert_eq!(before, after);
    assert_eq!(value(&vault, "deep/b").await, "three");
    assert_eq!(value(&vault, "deep/b?version=2").await, long.as_str());
    vault.as_root(Write, "secret/undelete/deep/b", r#"{"versions":[1]}"#).await;
    assert_eq!(value(&vault, "deep/b?version=1").await, "one");
}

#[tokio::test]
async fn a_copy_is_another_secret_from_then_on() {
    let vault = TestVault::open().await;
    let long = "x".repeat(900_000);
    // More than one commit carries.
    for value in ["one", &long, &long.replace('x', "y"), "four"] {
        put(&vault, "a", value).await;
    }
    assert_eq!(done(&tree(&vault, "copy", "a", json!({"to": "b"})).await), (1, 0, true));
    assert_eq!(vault.names("secret/", &["copies"]).await, 0);
    put(&vault, "b", "five").await;
    vault.as_root(Write, "secret/destroy/a", r#"{"versions":[2]}"#).await;
    assert_eq!(value(&vault, "b?version=2").await, long.as_str());
    assert_eq!(value(&vault, "b?version=1").await, "one");
    assert_eq!(value(&vault, "b").await, "five");
    assert_eq!(value(&vault, "a").await, "four");
    vault.as_root(Delete, "secret/metadata/a", "").await;
    assert_eq!(value(&vault, "b?version=3").await, long.replace('x', "y"));
}

#[tokio::test]
async fn a_copy_that_broke_off_leaves_nothing_for_long() {
    let vault = TestVault::open().await;
    put(&vault, "a", "kept").await;
    let begun = vault.clock.now().millis().to_be_bytes();
    vault.leave("secret/", &["copies", "one"], &begun).await;
    vault.leave("secret/", &["values", "one", "1"], b"value").await;
    // It may be under way still.
    vault.round().await;
    assert_eq!(vault.names("secret/", &["values"]).await, 1);
    vault.clock.advance(Duration::from_secs(3_601));
    vault.round().await;
    assert_eq!(vault.names("secret/", &["copies"]).await, 0);
    assert_eq!(vault.names("secret/", &["values"]).await, 0);
    assert_eq!(value(&vault, "a").await, "kept");
}

#[tokio::test]
async fn more_versions_than_a_commit_carries_are_copied() {
    let vault = TestVault::open().await;
    vault.as_root(Write, "secret/metadata/a", r#"{"max_versions":200}"#).await;
    for n in 0..150 {
        put(&vault, "a", &n.to_string()).await;
    }
    assert_eq!(done(&tree(&vault, "copy", "a", json!({"to": "b"})).await), (1, 0, true));
    for n in [1, 75, 149, 150] {
        assert_eq!(value(&vault, &format!("b?version={n}")).await, (n - 1).to_string());
    }
    assert_eq!(vault.names("secret/", &["copies"]).await, 0);
    assert_eq!(done(&tree(&vault, "destroy", "b", json!({})).await), (1, 0, true));
    vault.round().await;
    assert_eq!(vault.names("secret/", &["values"]).await, 1);
}

#[tokio::test]
async fn a_folder_goes_with_all_below_it() {
    let vault = TestVault::open().await;
    let paths: Vec<_> = (0..200).map(|n| format!("{}/{n}", n % 7)).collect();
    for path in &paths {
        put(&vault, &format!("app/{path}"), path).await;
    }
    put(&vault, "application", "another").await;
    assert_eq!(done(&tree(&vault, "copy", "app/", json!({"to": "spare/"})).await), (200, 0, true));
    assert_eq!(
        done(&tree(&vault, "move", "app/", json!({"to": "new/place/"})).await),
        (200, 0, true)
    );
    assert!(names(&vault, "app").await.is_empty());
    for folder in ["spare", "new/place"] {
        for path in &paths {
            assert_eq!(value(&vault, &format!("{folder}/{path}")).await, path.as_str());
        }
    }
    assert_eq!(done(&tree(&vault, "delete", "spare/", json!({})).await), (200, 0, true));
    assert_eq!(vault.as_root(Read, "secret/data/spare/0/0", "").await.status, 404);
    vault.as_root(Write, "secret/undelete/spare/0/0", r#"{"versions":[1]}"#).await;
    assert_eq!(value(&vault, "spare/0/0").await, "0/0");
    assert_eq!(done(&tree(&vault, "destroy", "spare/", json!({})).await), (200, 0, true));
    assert!(names(&vault, "spare").await.is_empty());
    assert_eq!(names(&vault, "").await.len(), 201);
}

#[tokio::test]
async fn what_is_there_already_stops_all_or_is_passed_over() {
    let vault = TestVault::open().await;
    for path in ["from/a", "from/b", "from/c", "to/b"] {
        put(&vault, path, path).await;
    }
    let answer = tree(&vault, "move", "from/", json!({"to": "to/"})).await;
    assert_eq!((answer.status, answer.text.contains("to/b")), (400, true), "{answer:?}");
    assert_eq!(names(&vault, "from").await.len(), 3);
    let body = json!({"to": "to/", "existing": "skip"});
    assert_eq!(done(&tree(&vault, "move", "from/", body).await), (2, 1, true));
    assert_eq!(names(&vault, "from").await, ["b"]);
    assert_eq!(value(&vault, "to/b").await, "to/b");
}

#[tokio::test]
async fn a_call_goes_on_behind_the_last_one() {
    let vault = TestVault::open().await;
    for path in ["a", "b/c", "b/d", "e"] {
        put(&vault, &format!("from/{path}"), path).await;
    }
    let body = json!({"to": "to/", "after": "b/c"});
    assert_eq!(done(&tree(&vault, "copy", "from/", body).await), (2, 0, true));
    assert_eq!(names(&vault, "to").await, ["b/d", "e"]);
    let body = json!({"to": "to/", "after": "e"});
    assert_eq!(done(&tree(&vault, "copy", "from/", body).await), (0, 0, true));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let vault = TestVault::open().await;
    put(&vault, "a/b", "x").await;
    for (path, body, part) in [
        ("a/b", json!({}), "'to' must be"),
        ("a/b", json!({"to": "c/"}), "both end in a slash"),
        ("a/", json!({"to": "c"}), "both end in a slash"),
        ("a/", json!({"to": "a/b/"}), "neither may lie in the other"),
        ("a/", json!({"to": ""}), "neither may lie in the other"),
        ("a/b", json!({"to": "a/b"}), "neither may lie in the other"),
        ("a/", json!({"to": "c//d/"}), "empty segment"),
        ("a/b", json!({"to": "c", "existing": "replace"}), "'existing' is"),
        ("a/b", json!({"to": "../c"}), "relative"),
    ] {
        let answer = tree(&vault, "move", path, body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert!(answer.text.contains(part) || part == "relative", "{body}: {answer:?}");
    }
    assert_eq!(tree(&vault, "move", "none", json!({"to": "c"})).await.status, 404);
    assert_eq!(tree(&vault, "destroy", "none/", json!({})).await.status, 404);
    assert_eq!(names(&vault, "").await, ["a/b"]);
}

/// One secret that the caller may not read, delete or write where it would go: nothing happens to
/// any.
#[tokio::test]
async fn rights_are_those_of_each_secret() {
    let vault = TestVault::open().await;
    for path in ["app/a", "app/b", "app/z"] {
        put(&vault, path, path).await;
    }
    let all = r#"capabilities = ["create", "read", "update", "delete", "list"]"#;
    let grant = |path: &str| format!("path \"secret/{path}\" {{ {all} }}\n");
    let refuse = |path: &str| format!("path \"secret/{path}\" {{ capabilities = [\"deny\"] }}\n");
    let whole: String =
        ["data/app/*", "metadata/app/*", "data/new/*", "metadata/new/*"].map(grant).concat();
    let acts = [
        ("copy", json!({"to": "new/"})),
        ("move", json!({"to": "new/"})),
        ("delete", json!({})),
        ("destroy", json!({})),
    ];
    let denied_by = |act: &str| match act {
        "copy" => {
            vec!["data/app/z", "metadata/app/z", "data/new/z", "metadata/new/z", "metadata/app/"]
        }
        "move" => vec!["data/app/z", "metadata/app/z", "data/new/z", "metadata/new/z"],
        "delete" => vec!["data/app/z"],
        _ => vec!["metadata/app/z"],
    };
    for (act, body) in &acts {
        for path in denied_by(act) {
            vault.policy("part", &format!("{whole}{}", refuse(path))).await;
            let token = vault.token(&["part"]).await;
            let call = format!("secret/tree/{act}/app/");
            let answer = vault.call(Some(&token), Write, &call, &body.to_string()).await;
            assert_eq!(answer.status, 403, "{act} without {path}: {answer:?}");
            assert_eq!(
                names(&vault, "").await,
                ["app/a", "app/b", "app/z"],
                "{act} without {path}"
            );
            assert_eq!(value(&vault, "app/a").await, "app/a");
        }
    }
    // No rights on the folder, or on the secret: absent and forbidden look the same.
    vault.policy("nothing", &grant("data/other/*")).await;
    let token = vault.token(&["nothing"]).await;
    for path in ["app/", "none/", "app/a", "none"] {
        let call = format!("secret/tree/destroy/{path}");
        assert_eq!(vault.call(Some(&token), Write, &call, "{}").await.status, 403, "{path}");
    }
    vault.policy("whole", &whole).await;
    let token = vault.token(&["whole"]).await;
    for (act, body) in &acts {
        let path = if *act == "move" || *act == "copy" { "app/" } else { "new/" };
        let body = if *act == "move" { json!({"to": "new/moved/"}) } else { body.clone() };
        let answer = vault
            .call(Some(&token), Write, &format!("secret/tree/{act}/{path}"), &body.to_string())
            .await;
        assert_eq!(answer.status, 200, "{act}: {answer:?}");
    }
}

/// Writers and two movers at once: each secret is in one place, with the last value that was
/// acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_written_to_moves_and_loses_nothing() {
    let vault = Arc::new(TestVault::open().await);
    for n in 0..100 {
        put(&vault, &format!("from/{n}"), "old").await;
    }
    let writer = tokio::spawn({
        let vault = Arc::clone(&vault);
        async move {
            let mut written = Vec::new();
            for n in 0..100 {
                let (path, body) = (
                    format!("secret/data/from/{n}"),
                    r#"{"data":{"v":"new"},"options":{"cas":1}}"#,
                );
                if vault.as_root(Write, &path, body).await.status == 200 {
                    written.push(n);
                }
            }
            written
        }
    });
    let body = json!({"to": "to/", "existing": "skip"});
    let (one, other) = tokio::join!(
        tree(&vault, "move", "from/", body.clone()),
        tree(&vault, "move", "from/", body)
    );
    let written = writer.await.unwrap();
    for answer in [one, other] {
        assert!(matches!(answer.status, 200 | 400 | 404), "{answer:?}");
    }
    let left = names(&vault, "from").await.len();
    assert_eq!(left + names(&vault, "to").await.len(), 100);
    for n in 0..100 {
        let moved = value(&vault, &format!("to/{n}")).await;
        let found = if moved.is_null() { value(&vault, &format!("from/{n}")).await } else { moved };
        assert_eq!(found, if written.contains(&n) { "new" } else { "old" }, "{n}");
    }
}
