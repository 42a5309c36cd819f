use std::collections::{BTreeMap, BTreeSet};

use super::{is_long, life::Life, site::Anchors};
use crate::disk::Crash;

/// What a life ended everywhere has come to.
#[derive(Debug, Default)]
pub(super) struct Ends {
    points: usize,
    /// What was tried at the last of them, so that no seed repeats another.
    tried: BTreeSet<String>,
    disks: usize,
    /// How often what was under way was there as before, and as after.
    as_before: usize,
    as_after: usize,
    /// How often an opening told of what.
    notices: BTreeMap<String, usize>,
}

/// Ends a life at each operation, or in the short form at about `sample` of them, and opens every
/// disk that this may leave. The anchor lies on the same disk, or on another one that has kept all
/// of it, or on another one that has kept what was synced.
pub(super) async fn end_everywhere(name: &str, life: &mut Life, sample: usize) -> Ends {
    life.vanish().await;
    assert!(life.acts.iter().all(|act| act.is_acknowledged || act.after == 0), "{:?}", life.acts);
    let operations = life.simulator.operations();
    let mut ends = Ends::default();
    for (n, seed) in points(0, operations, sample) {
        if seed == 0 {
            ends.points += 1;
            ends.tried.clear();
        }
        if is_long() && seed == 0 && ends.points % 20 == 0 {
            println!("{name}: {n} of {operations} operations, {} disks opened", ends.disks);
        }
        let at = format!("{name}: after {n} of {operations} operations, in {:?}", life.act_at(n));
        ends.end_at(life, n, seed, &format!("{at}, seed {seed}")).await;
    }
    let Ends { points, disks, as_before, as_after, notices, .. } = &ends;
    println!(
        "{name}: {} acts, {operations} operations, {points} points, {disks} disks opened; \
         what was under way: {as_before} times as before, {as_after} times as after; told: {notices:?}",
        life.acts.len()
    );
    ends
}

/// Where to end something that took these operations, the last one included, and by which seeds.
pub(super) fn points(
    first: usize,
    last: usize,
    sample: usize,
) -> impl Iterator<Item = (usize, u64)> {
    let (stride, seeds) = if is_long() { (1, SEEDS) } else { ((last - first).div_ceil(sample), 1) };
    let places = (first..last).step_by(stride).chain([last]);
    places.flat_map(move |n| (0..seeds).map(move |seed| (n, seed)))
}

impl Ends {
    /// Whether anything that was under way was met; a sample need not meet it before and after.
    pub(super) fn have_met_acts(&self) -> bool {
        let (before, after) = (self.as_before > 0, self.as_after > 0);
        if is_long() { before && after } else { before || after }
    }

    async fn end_at(&mut self, life: &Life, n: usize, seed: u64, place: &str) {
        let crashes = life.simulator.crashes(n, seed);
        let crashes: Vec<_> =
            crashes.into_iter().map(|crash| (Anchors::on(&crash.disk), crash)).collect();
        for (number, (_, crash)) in crashes.iter().enumerate() {
            if !self.tried.insert(crash.what.clone()) {
                continue;
            }
            let elsewhere = put_anchor(&crashes, number);
            let place = format!("{place}: {}{elsewhere}", crash.what);
            let found = life.check(&crash.disk, n, &place).await;
            if number == 0 {
                life.check_audit_after_kill(&crash.disk, n, &place);
                let is_told = found.notices.iter().any(|notice| notice.starts_with("audit_"));
                let is_unfounded = is_told && life.is_first();
                assert!(!is_unfounded, "nothing is torn: {:?}\n{place}", found.notices);
            }
            self.as_before += found.as_before;
            self.as_after += found.as_after;
            for notice in found.notices {
                let word = notice.split(':').next().unwrap_or_default();
                *self.notices.entry(word.to_owned()).or_default() += 1;
            }
            self.disks += 1;
        }
    }
}

/// Puts the anchor beside what a crash has left of the rest, as a disk of its own may have kept it;
/// the first crash keeps everything, the second one what was synced. Tells of it.
fn put_anchor(crashes: &[(Anchors, Crash)], number: usize) -> &'static str {
    let disk = &crashes[number].1.disk;
    match number % 3 {
        0 => "",
        1 => {
            crashes[0].0.put(disk);
            "; the anchor is elsewhere, whole"
        }
        _ => {
            crashes[1].0.put(disk);
            "; the anchor is elsewhere, as it was synced"
        }
    }
}

/// Seeds of the random crashes at each point, in the long form.
const SEEDS: u64 = 2;
