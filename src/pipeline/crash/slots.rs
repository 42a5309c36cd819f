use serde_json::json;

use super::{
    ends::end_everywhere,
    life::{Life, OPEN, Thing},
};
use crate::gate::Operation::Write;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_each_slot_is_there_or_gone_and_another_way_in_is_left() {
    let mut life = Life::begin();
    assert!(life.start().await && life.init().await && life.unseal().await);
    let mount = vec![(Thing::Mount("secret/".to_owned()), OPEN.to_owned())];
    let body = json!({"type": "kv", "options": {"version": "2"}});
    life.ask(Write, "sys/mounts/secret", body, vec![mount]).await;
    let first = life.add_keyfile(1).await;
    life.put("secret/a", 1, "between").await;
    let second = life.add_keyfile(2).await;
    life.drop_slot(&first).await;
    let third = life.add_keyfile(3).await;
    // Under a new root key, which those two never see.
    life.rekey(&[&second, &third]).await;
    life.put("secret/a", 2, "after").await;
    let fourth = life.add_keyfile(4).await;
    life.let_a_second_pass().await;
    assert!(life.start().await && life.unseal().await);
    life.drop_slot(&fourth).await;
    life.seal().await;
    let ends = end_everywhere("slots", &mut life, SAMPLE).await;
    assert!(ends.have_met_acts(), "{ends:?}");
}

/// Points that the short form looks at, about.
const SAMPLE: usize = 15;
