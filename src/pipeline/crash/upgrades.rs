use std::time::Duration;

use serde_json::{Value, json};

use super::{ends::points, life::Life, site::Running};
use crate::gate::Operation::{Delete, Read, Write};

/// What is there when the upgrade is begun, one of them in chunks, one written twice, one gone.
const SECRETS: [(&str, usize); 4] = [("a", 10), ("a/below", 20), ("long", 20_000), ("twice", 30)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_a_mount_is_of_version_1_or_2_with_every_secret() {
    let mut life = Life::begin();
    assert!(life.start().await && life.init().await && life.unseal().await);
    life.ask(Write, "sys/mounts/old", json!({"type": "kv"}), Vec::new()).await;
    for (path, length) in SECRETS {
        life.ask(Write, &format!("old/{path}"), secret(length + 1), Vec::new()).await;
        life.ask(Write, &format!("old/{path}"), secret(length), Vec::new()).await;
    }
    life.ask(Write, "old/gone", secret(5), Vec::new()).await;
    life.ask(Delete, "old/gone", Value::Null, Vec::new()).await;
    let before = life.simulator.operations();
    let tuning = json!({"options": {"version": "2"}});
    life.ask(Write, "sys/mounts/old/tune", tuning, Vec::new()).await;
    let between = life.simulator.operations();
    clear(life.running()).await;
    life.vanish().await;
    let operations = life.simulator.operations();
    let (mut disks, mut first, mut second) = (0, 0, 0);
    for (n, seed) in points(before, operations, SAMPLE) {
        for crash in life.simulator.crashes(n, seed) {
            let place = format!("after {n} of {operations} operations: {}", crash.what);
            let running = life.site.start(&crash.disk).expect(&place);
            assert!(running.unseal(&life.share).await, "{place}");
            if is_whole(&running, &life.root, 2, &place).await {
                second += 1;
            } else {
                assert!(n < between, "the upgrade is undone\n{place}");
                assert!(is_whole(&running, &life.root, 1, &place).await, "{place}");
                first += 1;
            }
            upgrade(&running, &life).await;
            clear(&running).await;
            // Where it had not begun it is version 1 still, and nothing of version 2 is there.
            let is_second = is_whole(&running, &life.root, 2, &place).await;
            assert!(is_second || is_whole(&running, &life.root, 1, &place).await, "{place}");
            running.vanish().await;
            disks += 1;
        }
    }
    println!(
        "upgrade: {} operations, {disks} disks opened: {first} times version 1, {second} times version 2",
        operations - before
    );
    assert!(first > 0 && second > 0);
}

fn secret(length: usize) -> Value {
    json!({"v": "x".repeat(length)})
}

/// Does what the background does with an upgrade that has begun.
async fn upgrade(running: &Running, life: &Life) {
    let open = running.kista.vault().unsealed().unwrap();
    let is_done = open.mounts.upgrade(life.site.now(), Duration::from_secs(600)).await.unwrap();
    assert!(is_done);
}

/// Does what the background does with what version 1 has left.
async fn clear(running: &Running) {
    let open = running.kista.vault().unsealed().unwrap();
    open.mounts.sweep(open.ground.clock.now()).await.unwrap();
}

/// Whether the mount is of this version; then every secret must be there as it was, and none
/// besides.
async fn is_whole(running: &Running, root: &str, version: usize, place: &str) -> bool {
    let mount = running.call(root, Read, "sys/mounts/old", "").await;
    let is_second = mount.body["data"]["options"]["version"] == "2";
    if is_second != (version == 2) {
        return false;
    }
    for (path, length) in SECRETS {
        let (path, value) = match version {
            1 => (format!("old/{path}"), "/data"),
            _ => (format!("old/data/{path}"), "/data/data"),
        };
        let read = running.call(root, Read, &path, "").await;
        assert_eq!(read.body.pointer(value), Some(&secret(length)), "{path}: {read:?}\n{place}");
    }
    let gone = if version == 1 { "old/gone" } else { "old/data/gone" };
    assert_eq!(running.call(root, Read, gone, "").await.status, 404, "{place}");
    true
}

/// Points that the short form looks at, about.
const SAMPLE: usize = 12;
