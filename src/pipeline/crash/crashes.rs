use std::time::Duration;

use serde_json::{Value, json};

use super::{
    ends::end_everywhere,
    life::{ABSENT, Group, Life, OPEN, Thing},
};
use crate::{
    gate::Operation::{Delete, Read, Write},
    jobs,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_at_any_operation_all_that_was_acknowledged_is_there() {
    let mut life = Life::begin();
    live(&mut life).await;
    let ends = end_everywhere("everything", &mut life, SAMPLE).await;
    assert!(ends.have_met_acts(), "{ends:?}");
}

/// Everything that a vault does, from nothing.
async fn live(life: &mut Life) {
    assert!(life.start().await);
    assert!(life.init().await && life.unseal().await);
    mount(life, "secret").await;
    mount(life, "other").await;
    for n in 0..4 {
        life.put(&format!("secret/a/{n}"), 1, "first").await;
    }
    life.put("secret/a/0", 2, "second").await;
    // In chunks, then shorter, then whole again.
    for (version, length) in [(1, 20_000), (2, 10), (3, 9_000)] {
        life.put("secret/long", version, &"=".repeat(length)).await;
    }
    let together: Vec<_> = (0..8).map(|n| format!("secret/together/{n}")).collect();
    life.put_together(&together, "at once").await;
    life.remove("secret/a/1").await;
    life.put("secret/a/1", 1, "again").await;
    delete_and_destroy(life).await;
    life.let_a_second_pass().await;
    policies_and_tokens(life).await;
    life.let_a_second_pass().await;
    life.compact("secret/while/compacting").await;
    // A clean end, and a new process.
    life.seal().await;
    assert!(life.unseal().await);
    life.put("other/b", 1, "before").await;
    assert!(life.start().await && life.unseal().await);
    life.put("other/b", 2, "after").await;
    unmount(life, "other", &["other/b"]).await;
    mount(life, "other").await;
    life.put("other/b", 1, "another").await;
    rotate(life, "sys/rotate").await;
    life.put("secret/a/0", 3, "under the new term").await;
    rotate(life, "sys/rotate/names").await;
    life.put("secret/a/1", 2, "under the new names").await;
    life.let_a_second_pass().await;
    let old = life.share.clone();
    life.rekey(&[]).await;
    assert_ne!(life.share, old);
    life.put("secret/a/0", 4, "after the rekey").await;
    assert!(life.start().await && life.unseal().await);
    // Enough for another segment.
    for n in 0..6 {
        life.put(&format!("secret/fill/{n}"), 1, &"-".repeat(6_000)).await;
    }
    life.compact("secret/while/compacting-again").await;
    life.seal().await;
}

/// A new term, or a new key of names, until every record is under it and the old one is gone from
/// every file.
async fn rotate(life: &mut Life, path: &str) {
    let before = life.simulator.operations();
    let answer = life.running().call(&life.root, Write, path, "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
    for _ in 0..5_000 {
        let status = life.running().call(&life.root, Read, "sys/rotate/status", "").await;
        let status = &status.body["data"];
        if status["step"] == "idle" && status["names"]["step"] == "idle" {
            // What waited to be erased went with the old key.
            life.note(path, before, true, vec![vec![(Thing::Erasure, ABSENT.to_owned())]]);
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the rotation does not end");
}

async fn delete_and_destroy(life: &mut Life) {
    let secret = |state: &str| -> Vec<Group> {
        vec![vec![(Thing::Secret("secret/a/2".to_owned()), state.to_owned())]]
    };
    life.ask(Delete, "secret/data/a/2", Value::Null, secret("1:gone")).await;
    life.ask(Write, "secret/undelete/a/2", json!({"versions": [1]}), secret("1:first")).await;
    let mut groups = secret("1:gone");
    groups.push(vec![(Thing::Erasure, OPEN.to_owned())]);
    life.ask(Write, "secret/destroy/a/2", json!({"versions": [1]}), groups).await;
    life.dooms();
}

async fn policies_and_tokens(life: &mut Life) {
    let rule = |word: &str| format!("path \"{word}\" {{ capabilities = [\"read\"] }}");
    life.put_policy("one", &rule("a")).await;
    life.put_policy("one", &rule("b")).await;
    life.put_policy("two", &rule("c")).await;
    let group = vec![(Thing::Policy("two".to_owned()), ABSENT.to_owned())];
    life.ask(Delete, "sys/policies/acl/two", Value::Null, vec![group]).await;

    let parent = life.make_token(None).await;
    let child = life.make_token(Some(&parent)).await;
    let grandchild = life.make_token(Some(&child)).await;
    let alone = life.make_token(None).await;
    let gone = |tokens: &[&String]| -> Vec<Group> {
        vec![
            tokens
                .iter()
                .map(|token| (Thing::Token((*token).clone()), ABSENT.to_owned()))
                .collect(),
        ]
    };
    let all = gone(&[&parent, &child, &grandchild]);
    life.ask(Write, "auth/token/revoke", json!({"token": parent}), all).await;
    life.ask(Write, "auth/token/revoke", json!({"token": alone}), gone(&[&alone])).await;
}

async fn mount(life: &mut Life, path: &str) {
    let group = vec![(Thing::Mount(format!("{path}/")), OPEN.to_owned())];
    let body = json!({"type": "kv", "options": {"version": "2"}});
    life.ask(Write, &format!("sys/mounts/{path}"), body, vec![group]).await;
}

/// What was mounted and what was in it go together. What lay there is swept then, and waits to be
/// erased.
async fn unmount(life: &mut Life, path: &str, secrets: &[&str]) {
    let before = life.simulator.operations();
    let mut group = vec![(Thing::Mount(format!("{path}/")), ABSENT.to_owned())];
    group.extend(secrets.iter().map(|s| (Thing::Secret((*s).to_owned()), ABSENT.to_owned())));
    life.ask(Delete, &format!("sys/mounts/{path}"), Value::Null, vec![group]).await;
    // The job's own round may come at any time.
    let open = life.running().kista.vault().unsealed().unwrap();
    jobs::round(&open).await;
    life.note("sweep", before, true, vec![vec![(Thing::Erasure, OPEN.to_owned())]]);
}

/// Points that the short form looks at, about.
const SAMPLE: usize = 20;
