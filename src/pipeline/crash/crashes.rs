use std::time::Duration;

use serde_json::{Value, json};

use super::{
    is_long,
    life::{ABSENT, Group, Life, OPEN, Thing},
};
use crate::gate::Operation::{Delete, Read, Write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_at_any_operation_all_that_was_acknowledged_is_there() {
    let mut life = Life::begin();
    live(&mut life).await;
    life.vanish().await;
    assert!(life.acts.iter().all(|act| act.is_acknowledged), "{:?}", life.acts);

    let operations = life.simulator.operations();
    let (stride, seeds) = if is_long() { (1, 4) } else { (operations.div_ceil(SAMPLE), 1) };
    let (mut points, mut disks, mut old, mut new) = (0, 0, 0, 0);
    for n in (0..=operations).step_by(stride) {
        points += 1;
        if is_long() && points % 20 == 0 {
            println!("{n} of {operations} operations, {disks} disks opened");
        }
        for seed in 0..seeds {
            for crash in life.simulator.crashes(n, seed) {
                let place = format!(
                    "after {n} of {operations} operations, in {:?}, seed {seed}: {}",
                    life.act_at(n),
                    crash.what
                );
                let found = life.check(&crash.disk, n, &place).await;
                (old, new) = (old + found.0, new + found.1);
                disks += 1;
            }
        }
    }
    println!(
        "{} acts, {operations} operations, {points} points, {disks} disks opened; \
         what was under way: {old} times as before, {new} times as after",
        life.acts.len()
    );
    // Else no crash has met anything that was under way.
    assert!(old > 0 && new > 0, "{old} {new}");
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
    policies_and_tokens(life).await;
    compact(life, "secret/while/compacting").await;
    // A clean end, and a new process.
    life.seal().await;
    assert!(life.unseal().await);
    life.put("other/b", 1, "before").await;
    assert!(life.start().await && life.unseal().await);
    life.put("other/b", 2, "after").await;
    unmount(life, "other", &["other/b"]).await;
    mount(life, "other").await;
    life.put("other/b", 1, "another").await;
    rotate(life).await;
    life.put("secret/a/0", 3, "under the new term").await;
    let old = life.share.clone();
    life.rekey().await;
    assert_ne!(life.share, old);
    life.put("secret/a/0", 4, "after the rekey").await;
    assert!(life.start().await && life.unseal().await);
    // Enough for another segment.
    for n in 0..6 {
        life.put(&format!("secret/fill/{n}"), 1, &"-".repeat(6_000)).await;
    }
    compact(life, "secret/while/compacting-again").await;
    life.seal().await;
}

/// A new snapshot in place of the one before and the journal behind it, and a write meanwhile.
async fn compact(life: &mut Life, written: &str) {
    let before = life.simulator.operations();
    let begun = life.running().call(&life.root, Write, "sys/compact", "").await;
    assert_eq!(begun.status, 200, "{begun:?}");
    life.put(written, 1, "meanwhile").await;
    for _ in 0..5_000 {
        let status = life.running().call(&life.root, Read, "sys/compact", "").await;
        let data = &status.body["data"];
        if data["state"] == "idle" {
            assert_eq!(data["last"]["result"], "done", "{status:?}");
            life.note("compact", before, true, Vec::new());
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the compaction does not end");
}

/// A new term, until every record is under it and the old one is gone from every file.
async fn rotate(life: &mut Life) {
    let before = life.simulator.operations();
    let answer = life.running().call(&life.root, Write, "sys/rotate", "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
    for _ in 0..5_000 {
        let status = life.running().call(&life.root, Read, "sys/rotate/status", "").await;
        if status.body["data"]["step"] == "idle" {
            life.note("rotate", before, true, Vec::new());
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
    life.ask(Write, "secret/destroy/a/2", json!({"versions": [1]}), secret("1:gone")).await;
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

/// What was mounted and what was in it go together.
async fn unmount(life: &mut Life, path: &str, secrets: &[&str]) {
    let mut group = vec![(Thing::Mount(format!("{path}/")), ABSENT.to_owned())];
    group.extend(secrets.iter().map(|s| (Thing::Secret((*s).to_owned()), ABSENT.to_owned())));
    life.ask(Delete, &format!("sys/mounts/{path}"), Value::Null, vec![group]).await;
}

/// Points that the short form looks at, about.
const SAMPLE: usize = 40;
