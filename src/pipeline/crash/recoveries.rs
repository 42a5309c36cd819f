use serde_json::{Value, json};

use super::{
    ends::end_everywhere,
    is_long,
    life::{Life, OPEN, Thing},
};
use crate::{
    disk::Crash,
    gate::Operation::{Read, Write},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_it_recovers_from_one_loses_no_more() {
    let mut first = Life::begin();
    assert!(first.start().await && first.init().await && first.unseal().await);
    let mount = vec![(Thing::Mount("secret/".to_owned()), OPEN.to_owned())];
    let body = json!({"type": "kv", "options": {"version": "2"}});
    first.ask(Write, "sys/mounts/secret", body, vec![mount]).await;
    first.put("secret/a", 1, "before").await;
    first.let_a_second_pass().await;
    // Lines of the audit file that nothing syncs, and then a commit.
    for _ in 0..3 {
        first.ask(Read, "secret/data/a", Value::Null, Vec::new()).await;
    }
    let reads = first.simulator.operations();
    first.put("secret/a", 2, "under way").await;
    first.vanish().await;

    let mut recovered = 0;
    for n in [reads, reads + 2] {
        for crash in some(first.simulator.crashes(n, 1)) {
            let name = format!("recovery {recovered}, after {n} operations");
            let world = (crash.disk, crash.simulator);
            let mut life = first.goes_on_from(n, first.site.clone(), world, Vec::new());
            assert!(life.start().await && life.unseal().await, "{name}");
            life.put("secret/b", 1, "after").await;
            life.let_a_second_pass().await;
            life.put("secret/b", 2, "after").await;
            end_everywhere(&name, &mut life, SAMPLE).await;
            recovered += 1;
        }
    }
    assert!(recovered > 0);
}

/// A few of many crashes, those that keep most and least among them.
fn some(crashes: Vec<Crash>) -> impl Iterator<Item = Crash> {
    let most = if is_long() { 6 } else { 2 };
    let step = crashes.len().div_ceil(most);
    crashes.into_iter().skip(1).step_by(step)
}

/// Points that the short form looks at, about.
const SAMPLE: usize = 5;
