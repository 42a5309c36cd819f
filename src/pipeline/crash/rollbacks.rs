use serde_json::json;

use super::{
    ends::end_everywhere,
    life::{ABSENT, Life, OPEN, Thing},
    site::Anchors,
};
use crate::gate::Operation::Write;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_a_rollback_is_still_shown_or_was_accepted() {
    let mut now = Life::begin();
    assert!(now.start().await && now.init().await && now.unseal().await);
    let mount = vec![(Thing::Mount("secret/".to_owned()), OPEN.to_owned())];
    let body = json!({"type": "kv", "options": {"version": "2"}});
    now.ask(Write, "sys/mounts/secret", body, vec![mount]).await;
    now.put("secret/old", 1, "kept").await;
    now.let_a_second_pass().await;
    let (then, (disk, _)) = (now.simulator.operations(), now.disk.copy());
    now.put("secret/old", 2, "lost").await;
    now.put("secret/new", 1, "lost").await;
    now.let_a_second_pass().await;
    now.vanish().await;

    // The store of then, beside the anchor of now.
    Anchors::on(&now.disk).put(&disk);
    let older = vec![
        (Thing::Rollback, OPEN.to_owned()),
        (Thing::Secret("secret/new".to_owned()), ABSENT.to_owned()),
    ];
    let mut life = now.goes_on_from(then, now.site.clone(), disk.copy(), older);
    assert!(life.start().await && !life.running().unseal(&life.share).await);
    assert!(life.accept_rollback().await);
    life.put("secret/new", 1, "of the next generation").await;
    life.let_a_second_pass().await;
    life.put("secret/old", 2, "of the next generation").await;
    life.seal().await;
    assert!(life.unseal().await, "an accepted rollback is shown again");
    life.seal().await;
    let ends = end_everywhere("an accepted rollback", &mut life, SAMPLE).await;
    assert!(ends.have_met_acts(), "{ends:?}");
}

/// Points that the short form looks at, about.
const SAMPLE: usize = 15;
