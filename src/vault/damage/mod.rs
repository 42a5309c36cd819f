//! Damage to a small store, byte by byte: never a wrong answer, never a panic, never a loss that
//! nothing tells of.
//!
//! A store is made by a real barrier on a simulated disk, with segments so small that it has
//! several. Each case changes a copy of its files, opens it and reads everything. The short form
//! runs in `cargo test`; `just damage` runs the long one and prints the counts that
//! docs/RELIABILITY.md keeps.
//!
//! - `store.rs`: the store, and what comes of opening a changed copy
//! - `anchored.rs`: a whole vault, and what comes of a changed anchor or audit checkpoint
//! - `cases.rs`: the changes

mod anchored;
mod cases;
mod store;

pub(crate) use cases::Form;
pub(crate) use store::{FOLDER, Made, Verdict, time};

use std::{
    collections::BTreeMap,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Instant,
};

use anchored::{ANCHOR, Anchored, CHECKPOINT, World};
use cases::Change;
use store::{Files, Witness};

/// What came of many cases, by kind of change and verdict.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<(String, Verdict), u64>);

impl Counts {
    /// Opens a copy with this change in it, and fails on what must never be.
    fn run(
        &mut self,
        kind: &str,
        witness: Witness,
        change: &Change,
        files: &Files,
        open: impl Fn(Files) -> Outcome,
    ) {
        let changed = change.apply(files);
        let is_spare = files.differs_in_spares(&changed);
        let verdict = tried(kind, change, || open(changed));
        assert!(
            is_spare || change.may_be(verdict, witness),
            "{kind}, {change:?}: {verdict:?}, where the byte means something"
        );
        self.note(if is_spare { format!("{kind}, spare") } else { kind.to_owned() }, verdict);
    }

    pub(crate) fn note(&mut self, kind: String, verdict: Verdict) {
        *self.0.entry((kind, verdict)).or_default() += 1;
    }

    pub(crate) fn print(&self, begun: Instant) {
        for ((kind, verdict), count) in &self.0 {
            println!("{kind:<48} {:<28} {count:>8}", verdict.text());
        }
        let all = self.0.values().sum::<u64>();
        println!("{:<48} {:<28} {all:>8}   in {:?}", "all", "", begun.elapsed());
    }
}

/// A verdict, or what went wrong in a way that must never be.
type Outcome = Result<Verdict, String>;

/// Opens a changed copy, and fails on what must never be, a panic included.
fn tried(kind: &str, change: &Change, open: impl FnOnce() -> Outcome) -> Verdict {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(wrong)) => panic!("{kind}, {change:?}: {wrong}"),
        Err(_) => panic!("{kind}, {change:?}: it panics"),
    }
}

pub(crate) fn form() -> Form {
    if env::var_os("KISTA_DAMAGE_LONG").is_some() { Form::Long } else { Form::Short }
}

fn kind_of(file: &Path) -> &'static str {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("seg") => "journal",
        Some("snap") => "snapshot",
        Some("0" | "1") => "seal file",
        _ => "other",
    }
}

#[test]
fn any_changed_byte_of_the_store_is_an_error_or_means_nothing() {
    let (mut counts, begun) = (Counts::default(), Instant::now());
    for made in [Made::closed(form()), Made::killed(form())] {
        for file in made.files.names() {
            // The two differ at their ends only.
            if form() == Form::Short && made.end == "closed" && !made.is_last(&file) {
                continue;
            }
            for change in cases::flips(&made.files, &file, form()) {
                // What is kept for the worst only is not read: the short form takes a sample.
                if made.files.is_spare(&file) && !change.is_in_sample(form()) {
                    continue;
                }
                let kind = format!("{}: byte changed ({})", kind_of(&file), made.end);
                let open = |files| made.open(files, Witness::Newest);
                counts.run(&kind, Witness::Newest, &change, &made.files, open);
                // Without one who knows the newest commit, its record may look torn.
                if made.is_last(&file) && change.is_tried_twice(form()) {
                    let kind = format!("{kind}, no witness");
                    let open = |files| made.open(files, Witness::None);
                    counts.run(&kind, Witness::None, &change, &made.files, open);
                }
            }
        }
    }
    counts.print(begun);
}

#[test]
fn a_file_cut_short_or_gone_is_an_error_or_loses_nothing() {
    let (mut counts, begun) = (Counts::default(), Instant::now());
    for made in [Made::closed(form()), Made::killed(form())] {
        for file in made.files.names() {
            for change in cases::truncations(&made.files, &file, form()) {
                let kind = format!("{}: cut short ({})", kind_of(&file), made.end);
                let open = |files| made.open(files, Witness::Newest);
                counts.run(&kind, Witness::Newest, &change, &made.files, open);
            }
            let change = Change::Delete { file: file.clone() };
            let kind = format!("{}: deleted ({})", kind_of(&file), made.end);
            let open = |files| made.open(files, Witness::Newest);
            counts.run(&kind, Witness::Newest, &change, &made.files, open);
        }
    }
    counts.print(begun);
}

#[test]
fn an_examination_finds_every_changed_byte_where_it_is() {
    let begun = Instant::now();
    let mut found = 0_u64;
    let made = Made::killed(form());
    assert_eq!(made.examine(&made.files), [], "nothing is wrong with the store itself");
    for file in made.files.names() {
        for change in cases::flips(&made.files, &file, form()) {
            if !change.is_tried_twice(form()) {
                continue;
            }
            let damages = made.examine(&change.apply(&made.files));
            // What lies between its checksums is all that a snapshot can say of a changed byte.
            let is_there = |place: u64| kind_of(&file) == "snapshot" || change.is_behind(place);
            let is_placed =
                damages.iter().any(|place| place.file == file && is_there(place.offset));
            assert!(is_placed, "{change:?}: {damages:?}");
            found += 1;
        }
        let gone = Change::Delete { file: file.clone() };
        let damages = made.examine(&gone.apply(&made.files));
        // Nothing in the folder but the index, which is not read, tells of the journal's end.
        let may_be_gone = made.is_last(&file) || kind_of(&file) == "snapshot";
        assert!(!damages.is_empty() || may_be_gone, "{gone:?}");
    }
    let rearranged = cases::rearranged(&made, &Made::killed(form()));
    for change in rearranged.iter().filter(|change| change.label() != cases::LAST_LEFT_OUT) {
        assert!(!made.examine(&change.apply(&made.files)).is_empty(), "{change:?}");
        found += 1;
    }
    println!("{:<48} {:<28} {found:>8}   in {:?}", "examined", "found", begun.elapsed());
}

#[test]
fn commits_moved_copied_left_out_or_of_another_store_are_refused() {
    let (mut counts, begun) = (Counts::default(), Instant::now());
    let (made, other) = (Made::closed(form()), Made::closed(form()));
    for change in cases::rearranged(&made, &other) {
        let kind = format!("journal: {}", change.label());
        let open = |files| made.open(files, Witness::Newest);
        counts.run(&kind, Witness::Newest, &change, &made.files, open);
    }
    counts.print(begun);
}

#[test]
fn a_damaged_copy_of_the_seal_file_is_mended_and_two_are_named() {
    let (mut counts, begun) = (Counts::default(), Instant::now());
    let made = Made::sealed(form());
    let names = made.files.names();
    for file in &names {
        for change in cases::flips(&made.files, file, form()) {
            counts.run("seal file: byte changed", Witness::Newest, &change, &made.files, |files| {
                made.unseal(files)
            });
        }
        for change in cases::truncations(&made.files, file, form()) {
            counts.run("seal file: cut short", Witness::Newest, &change, &made.files, |files| {
                made.unseal(files)
            });
        }
        let change = Change::Delete { file: file.clone() };
        counts.run("seal file: deleted", Witness::Newest, &change, &made.files, |files| {
            made.unseal(files)
        });
    }
    for change in cases::flips(&made.files, &names[0], form()) {
        let both = change.also_in(&names[1]);
        counts.run("seal file: both copies", Witness::Newest, &both, &made.files, |files| {
            made.unseal(files)
        });
    }
    counts.print(begun);
}

#[test]
fn a_damaged_anchor_or_checkpoint_is_told_raises_no_false_alarm_and_hides_no_rollback() {
    let (mut counts, begun) = (Counts::default(), Instant::now());
    let (made, other) = (Anchored::make(), Anchored::make());
    let kept = made.kept();
    let mut changes = anchored::replaced(&made, &other);
    for path in [ANCHOR, CHECKPOINT] {
        let file = Path::new(path);
        changes.extend(cases::flips(&kept, file, form()));
        changes.extend(cases::truncations(&kept, file, form()));
        changes.extend(anchored::both_blocks(&kept, path, form()));
    }
    for change in changes {
        let is_anchor = !format!("{change:?}").contains(CHECKPOINT);
        let (file, rolled_back) = match is_anchor {
            true => ("anchor", World::RolledBack),
            false => ("checkpoint", World::AnchorToo),
        };
        for world in [World::Honest, rolled_back] {
            if change.is_in_sample_of(world == World::Honest, form()) {
                let kind = format!("{file}: {} ({world:?})", change.label());
                let verdict = tried(&kind, &change, || made.open(world, &change));
                counts.note(kind, verdict);
            }
        }
        let is_put_back = change.label() == anchored::PUT_BACK;
        if is_anchor && !is_put_back && change.is_in_sample(form()) {
            let kind = format!("anchor: {} (required)", change.label());
            let verdict = tried(&kind, &change, || made.open_required(&change));
            counts.note(kind, verdict);
        }
    }
    counts.print(begun);
}
