use serde_json::json;

use super::{
    is_long,
    life::{ABSENT, Life, OPEN, Thing},
};
use crate::{
    disk::Fault,
    gate::Operation::{Delete, Write},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_the_disk_that_fails_loses_nothing_that_was_acknowledged() {
    let mut clean = Life::begin();
    live_shortly(&mut clean).await;
    clean.vanish().await;
    assert!(clean.acts.iter().all(|act| act.is_acknowledged), "{:?}", clean.acts);
    let calls = clean.simulator.calls();
    let stride = if is_long() { 1 } else { calls.div_ceil(SAMPLE) };
    let (mut lives, mut refused, mut disks) = (0, 0, 0);
    for (number, fault) in FAULTS.into_iter().enumerate() {
        // Each kind begins elsewhere, so that a sample sees more of the life.
        let first = 1 + number as u64 * stride / FAULTS.len() as u64;
        for nth in (first..=calls).step_by(usize::try_from(stride).unwrap()) {
            let mut life = Life::begin();
            life.simulator.fail(nth, fault);
            live_shortly(&mut life).await;
            let place = format!("{fault:?} at call {nth} of {calls}: {:?}", life.acts);
            refused += usize::from(life.acts.iter().any(|act| !act.is_acknowledged));
            if matches!(fault, Fault::ShortWrite | Fault::Eintr) {
                let is_done = life.acts.iter().all(|act| act.is_acknowledged);
                assert!(is_done, "what is no error was taken for one\n{place}");
            }
            life.still_reads(&place).await;
            lives += 1;
            if is_long() && lives % 50 == 0 {
                println!("{lives} lives, {disks} disks opened");
            }
            disks += check_crashes_at_its_end(&mut life, &place).await;
        }
    }
    println!(
        "{lives} lives of {calls} calls, {refused} with something refused, {disks} disks opened"
    );
    assert!(refused > 0, "no fault has met anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_writes_are_refused_reads_go_on_and_space_brings_writes_back() {
    let mut life = Life::begin();
    assert!(life.start().await && life.init().await && life.unseal().await);
    mount(&mut life).await;
    assert_eq!(life.put("secret/before", 1, "kept").await, 200);
    // Less than what is kept in reserve, on which the audit file lives meanwhile.
    life.simulator.set_capacity(life.simulator.used_bytes() + (1 << 20));
    for n in 0..20 {
        let path = format!("secret/during/{n}");
        assert_eq!(life.put(&path, 1, "refused").await, 507, "{:?}", life.acts.last());
        life.still_reads("while the disk is full").await;
    }
    life.simulator.set_capacity(u64::MAX);
    assert_eq!(life.put("secret/after", 1, "kept").await, 200, "{:?}", life.acts.last());
    check_crashes_at_its_end(&mut life, "after the disk was full").await;
}

/// Ends the process and opens what that may leave; gives the number of disks.
async fn check_crashes_at_its_end(life: &mut Life, place: &str) -> usize {
    life.vanish().await;
    life.simulator.heal();
    let operations = life.simulator.operations();
    let mut crashes = life.simulator.crashes(operations, 1);
    if !is_long() {
        crashes.truncate(3);
    }
    let disks = crashes.len();
    for crash in crashes {
        life.check(&crash.disk, operations, &format!("{}\n{place}", crash.what)).await;
    }
    disks
}

/// A little of everything, in which nothing stands on what was done to the same thing before: a
/// step that failed leaves the others as they would be.
async fn live_shortly(life: &mut Life) {
    // A fault may meet the first attempt at each of these; the second has none to meet.
    if !life.start().await && !life.start().await {
        return;
    }
    if !life.init().await {
        return;
    }
    if !life.unseal().await && !life.unseal().await {
        return;
    }
    mount(life).await;
    life.put("secret/one", 1, "value").await;
    life.put("secret/long", 1, &"=".repeat(20_000)).await;
    let together: Vec<_> = (0..4).map(|n| format!("secret/together/{n}")).collect();
    life.put_together(&together, "at once").await;
    life.put_policy("reads", "path \"a\" { capabilities = [\"read\"] }").await;
    let token = life.make_token(None).await;
    life.put("secret/kept", 1, "value").await;
    if !token.is_empty() {
        let group = vec![(Thing::Token(token.clone()), ABSENT.to_owned())];
        life.ask(Write, "auth/token/revoke", json!({"token": token}), vec![group]).await;
    }
    life.put_policy("late", "path \"b\" { capabilities = [\"read\"] }").await;
    life.ask(Delete, "sys/policies/acl/none", json!(null), Vec::new()).await;
    for n in 0..5 {
        life.put(&format!("secret/fill/{n}"), 1, &"-".repeat(6_000)).await;
    }
}

async fn mount(life: &mut Life) {
    let group = vec![(Thing::Mount("secret/".to_owned()), OPEN.to_owned())];
    let body = json!({"type": "kv", "options": {"version": "2"}});
    life.ask(Write, "sys/mounts/secret", body, vec![group]).await;
}

const FAULTS: [Fault; 5] =
    [Fault::Eio, Fault::Enospc, Fault::ShortWrite, Fault::Eintr, Fault::SyncFails];
/// Calls that the short form lets fail in each way, about.
const SAMPLE: u64 = 9;
