//! Crashes, faults and damage at every place, on a simulated disk.
//!
//! The default form is short. `KISTA_CRASH_OPS` sets how many commits a crash run makes (default
//! 40), `KISTA_DAMAGE_STEP` at which step bytes are flipped and files cut (1 for each byte).

use std::path::PathBuf;

use std::collections::BTreeMap;

use super::{
    conformance::{batch, everything},
    fake::{FakeSeal, delete, put},
    *,
};
use crate::disk::{Disk, Fault, Simulator, simulated};

const DATA: &str = "/data";

/// What a store holds.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// The real lock that simulated stores share: it proves nothing of them.
fn lock() -> (tempfile::TempDir, FolderLock) {
    let folder = tempfile::tempdir().unwrap();
    let lock = FolderLock::acquire(folder.path()).unwrap();
    (folder, lock)
}

/// Small segments, and so little memory for keys that compaction takes several steps.
fn options(disk: &Disk) -> Options {
    Options {
        disk: disk.clone(),
        segment_bytes: 3 * 1024,
        reserve_bytes: 0,
        table_bytes: 600,
        ..Options::default()
    }
}

/// A new store, in a folder that is durable.
fn create(disk: &Disk, lock: &FolderLock) -> Store {
    disk.create_dir_all(Path::new(DATA)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let store = Store::create(Path::new(DATA), StoreId([0xa5; 16]), 1, options(disk), lock);
    let store = store.unwrap();
    attach(&store, &[]).unwrap();
    store
}

fn attach(store: &Store, points: &[Point]) -> Result<Attached, OpenError> {
    store.attach(Box::new(FakeSeal::default()), points, Generation::Keep)
}

fn open(disk: &Disk, lock: &FolderLock, points: &[Point]) -> Result<(Store, Attached), OpenError> {
    let store = Store::open(Path::new(DATA), options(disk), lock)?;
    let attached = attach(&store, points)?;
    Ok((store, attached))
}

fn contents(runtime: &tokio::runtime::Runtime, store: &Store) -> Model {
    runtime.block_on(everything(store)).into_iter().collect()
}

/// What a run does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Commit,
    Compact(Erase),
    /// Closes or drops the store, and opens it again.
    Restart {
        clean: bool,
    },
}

/// A fixed history with all that can happen in it.
fn steps(commits: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for n in 1..=commits {
        steps.push(Step::Commit);
        match n % 20 {
            7 => steps.push(Step::Compact(Erase::No)),
            11 => steps.push(Step::Restart { clean: true }),
            13 => steps.push(Step::Compact(Erase::No)),
            16 => steps.push(Step::Restart { clean: false }),
            19 => steps.push(Step::Compact(Erase::Yes)),
            _ => {}
        }
    }
    steps
}

/// The writes of the n-th commit: puts, replaced and deleted ones, sometimes more than a segment.
fn writes_of(n: usize) -> Vec<Write> {
    let name = |of: usize| format!("{:02}", of % 9);
    let number = n as u64;
    let mut writes = vec![put(&name(n), number), put(&name(n * 4), number + 1_000)];
    if n.is_multiple_of(3) {
        writes.push(delete(&name(n / 3)));
    }
    if n.is_multiple_of(15) {
        writes.extend((0..20).map(|of| put(&format!("many {of}"), number)));
    }
    if n % 15 == 1 {
        writes.extend((0..20).map(|of| delete(&format!("many {of}"))));
    }
    writes
}

fn apply(model: &mut Model, writes: &[Write]) {
    for Write { key, record } in writes {
        match record {
            Some(record) => drop(model.insert(key.clone(), record.clone())),
            None => drop(model.remove(key)),
        }
    }
}

/// What is known of a store at a place of its disk's log.
struct Known {
    /// Operations that there had been.
    operations: usize,
    /// What it holds at least: everything that was answered.
    held: Model,
    /// What it holds if the commit under way arrives.
    coming: Model,
}

/// Runs a history and says what is known at each place.
fn run(disk: &Disk, simulator: &Simulator, lock: &FolderLock, commits: usize) -> Vec<Known> {
    let runtime = runtime();
    let mut store = create(disk, lock);
    let mut model = Model::new();
    let mut known = Vec::new();
    let mut tell = |held: &Model, coming: &Model| {
        let (held, coming) = (held.clone(), coming.clone());
        known.push(Known { operations: simulator.operations(), held, coming });
    };
    tell(&model, &model);
    let mut n = 0;
    for step in steps(commits) {
        match step {
            Step::Commit => {
                let (before, writes) = (model.clone(), writes_of(n));
                apply(&mut model, &writes);
                tell(&before, &model);
                runtime.block_on(store.commit(batch(writes))).unwrap();
                tell(&model, &model);
                n += 1;
            }
            Step::Compact(erase) => drop(store.compact(erase, |_| {}).unwrap()),
            Step::Restart { clean } => {
                if clean {
                    store.close().unwrap();
                }
                drop(store);
                store = open(disk, lock, &[]).unwrap().0;
                assert_eq!(contents(&runtime, &store), model);
            }
        }
    }
    store.close().unwrap();
    tell(&model, &model);
    known
}

#[test]
fn a_crash_at_any_operation_leaves_all_that_was_answered() {
    let (_folder, lock) = lock();
    let (disk, simulator) = simulated();
    let known = run(&disk, &simulator, &lock, setting("KISTA_CRASH_OPS", 40));
    let runtime = runtime();
    let created = known[0].operations;
    let (mut crashes, mut cut) = (0_u64, 0);
    for after in 0..=simulator.operations() {
        let now = known.partition_point(|known| known.operations <= after).checked_sub(1);
        for crash in simulator.crashes(after, 7) {
            crashes += 1;
            let place = || format!("after operation {after}, {}", crash.what);
            let opened = open(&crash.disk, &lock, &[]);
            let Some(now) = now else {
                check_unfinished_creation(&crash.disk, &lock, opened, &place());
                continue;
            };
            let (store, attached) = opened.unwrap_or_else(|error| panic!("{}: {error}", place()));
            assert_eq!(attached.damaged, Vec::<String>::new(), "{}", place());
            cut += u64::from(attached.cut.is_some());
            let found = contents(&runtime, &store);
            let Known { held, coming, .. } = &known[now];
            assert!(&found == held || &found == coming, "{}: {found:?}", place());
            // Now and then: it goes on from there, and compacts what the crash has left.
            if crashes.is_multiple_of(31) {
                go_on(&runtime, store, &crash.disk, &lock, found);
            }
        }
    }
    assert!(created > 5 && crashes > 1_000 && cut > 10, "{crashes} crashes, {cut} cut");
}

/// A creation that a crash has cut short is a store, or none yet and can be begun again.
fn check_unfinished_creation(
    disk: &Disk,
    lock: &FolderLock,
    opened: Result<(Store, Attached), OpenError>,
    place: &str,
) {
    match opened {
        Ok(_) => {}
        Err(OpenError::NoStore { .. }) => {
            Store::create(Path::new(DATA), StoreId([1; 16]), 1, options(disk), lock).unwrap();
            open(disk, lock, &[]).unwrap();
        }
        Err(error) => panic!("{place}: {error}"),
    }
}

fn go_on(
    runtime: &tokio::runtime::Runtime,
    store: Store,
    disk: &Disk,
    lock: &FolderLock,
    mut model: Model,
) {
    let writes = vec![put("after the crash", 1), delete("03")];
    apply(&mut model, &writes);
    runtime.block_on(store.commit(batch(writes))).unwrap();
    store.compact(Erase::Yes, |_| {}).unwrap();
    drop(store);
    let (store, _) = open(disk, lock, &[]).unwrap();
    assert_eq!(contents(runtime, &store), model);
    let left = disk.read_dir(&Path::new(DATA).join("snapshots")).unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn no_call_that_fails_is_taken_for_one_that_did_not() {
    let commits = 22;
    let calls = {
        let (_folder, lock) = lock();
        let (disk, simulator) = simulated();
        run(&disk, &simulator, &lock, commits);
        simulator.calls()
    };
    let step = setting("KISTA_FAULT_STEP", 13);
    let faults = [Fault::Eio, Fault::Enospc, Fault::SyncFails, Fault::ShortWrite, Fault::Eintr];
    let mut failed = 0;
    for (offset, fault) in faults.into_iter().enumerate() {
        for nth in (1 + offset as u64..=calls).step_by(step) {
            failed += u64::from(run_with_fault(commits, nth, fault));
        }
    }
    assert!(failed > 8, "only {failed} runs had a failed commit");
}

/// Runs a history with one fault in it; whether a commit failed.
fn run_with_fault(commits: usize, nth: u64, fault: Fault) -> bool {
    let (_folder, lock) = lock();
    let (disk, simulator) = simulated();
    let runtime = runtime();
    let mut store = create(&disk, &lock);
    simulator.fail(nth.saturating_sub(simulator.calls()).max(1), fault);
    let is_harmless = matches!(fault, Fault::ShortWrite | Fault::Eintr);
    // What was answered, and what that may be with any of the commits that were not.
    let (mut held, mut possible) = (Model::new(), vec![Model::new()]);
    let (mut failed, mut ever_failed, mut n) = (false, false, 0);
    for step in steps(commits) {
        match step {
            Step::Commit => {
                let writes = writes_of(n);
                n += 1;
                match runtime.block_on(store.commit(batch(writes.clone()))) {
                    Ok(_) => {
                        assert!(!failed, "{fault:?} at {nth}: writing goes on after it has failed");
                        apply(&mut held, &writes);
                        possible = vec![held.clone()];
                    }
                    // Nothing was written, and nothing has to be opened again.
                    Err(CommitError::NoSpace { .. }) => assert_eq!(fault, Fault::Enospc),
                    Err(CommitError::Failed(_)) => {
                        assert!(!is_harmless, "{fault:?} at {nth}");
                        if !failed {
                            let mut with = held.clone();
                            apply(&mut with, &writes);
                            possible.push(with);
                        }
                        (failed, ever_failed) = (true, true);
                    }
                    Err(error) => panic!("{fault:?} at {nth}: {error}"),
                }
            }
            Step::Compact(erase) => {
                let compacted = store.compact(erase, |_| {});
                assert!(compacted.is_ok() || !is_harmless, "{fault:?} at {nth}: {compacted:?}");
                // Beginning a segment is writing, too.
                failed |= matches!(compacted, Err(CompactError::Failed(_)));
            }
            Step::Restart { clean } => {
                if clean {
                    // The fault may strike here too.
                    drop(store.close());
                }
                drop(store);
                // A second try must do: the fault is over.
                let opened = open(&disk, &lock, &[]).or_else(|_| open(&disk, &lock, &[]));
                store = opened.unwrap().0;
                held = contents(&runtime, &store);
                assert!(possible.contains(&held), "{fault:?} at {nth}");
                possible = vec![held.clone()];
                failed = false;
            }
        }
    }
    drop(store);
    simulator.heal();
    for crash in simulator.crashes(simulator.operations(), nth) {
        let (store, _) = open(&crash.disk, &lock, &[]).unwrap();
        let found = contents(&runtime, &store);
        assert!(possible.contains(&found), "{fault:?} at {nth}: {}", crash.what);
    }
    ever_failed
}

/// A small store with two generations, killed: its disk, and what it holds.
fn small_store(lock: &FolderLock) -> (Simulator, Model, u64) {
    let (disk, simulator) = simulated();
    let runtime = runtime();
    let mut store = create(&disk, lock);
    let mut model = Model::new();
    let mut newest = 0;
    for n in 0..13 {
        let writes = writes_of(n + 2);
        apply(&mut model, &writes);
        newest = runtime.block_on(store.commit(batch(writes))).unwrap();
        if n % 5 == 3 {
            store.compact(Erase::No, |_| {}).unwrap();
        }
        if n == 6 {
            store.close().unwrap();
            drop(store);
            store = open(&disk, lock, &[]).unwrap().0;
        }
    }
    drop(store);
    (simulator, model, newest)
}

/// The same disk once more, to be damaged.
fn copy(simulator: &Simulator) -> Disk {
    simulator.crashes(simulator.operations(), 0).swap_remove(0).disk
}

fn files(disk: &Disk) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["journal", "snapshots"] {
        let folder = Path::new(DATA).join(folder);
        let mut names = disk.read_dir(&folder).unwrap();
        names.sort();
        files.extend(names.into_iter().map(|name| folder.join(name)));
    }
    files
}

/// What a damaged store came to.
#[derive(Debug, Default)]
struct Outcomes {
    /// It opens with everything, and says nothing: the byte means nothing there, or is of the
    /// generation before.
    harmless: u32,
    /// It opens with everything, and says that a snapshot is damaged.
    mended: u32,
    /// It does not open, and names a file.
    named: u32,
}

impl Outcomes {
    fn judge(&mut self, disk: &Disk, lock: &FolderLock, model: &Model, newest: u64, place: &str) {
        let points = [Point { seq: newest, chain: None }];
        match open(disk, lock, &points) {
            Ok((store, attached)) => {
                // Behind the last record, where a torn one might stand that was never answered.
                assert!(attached.cut.is_none_or(|cut| cut == newest + 1), "{place}");
                assert_eq!(&contents(&runtime(), &store), model, "{place}");
                let is_told = !attached.damaged.is_empty();
                *(if is_told { &mut self.mended } else { &mut self.harmless }) += 1;
            }
            Err(OpenError::Damaged { .. } | OpenError::HeadRefused { .. }) => self.named += 1,
            Err(error) => panic!("{place}: {error}"),
        }
    }
}

#[test]
fn any_flipped_byte_is_found_or_means_nothing() {
    let (_folder, lock) = lock();
    let (simulator, model, newest) = small_store(&lock);
    let step = setting("KISTA_DAMAGE_STEP", 13);
    let mut outcomes = Outcomes::default();
    let whole = copy(&simulator);
    for (n, path) in files(&whole).into_iter().enumerate() {
        let length = usize::try_from(whole.open(&path).unwrap().len().unwrap()).unwrap();
        for at in (n % step..length).step_by(step) {
            let disk = copy(&simulator);
            let file = disk.open_rw(&path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at as u64).unwrap();
            file.write_all_at(&[byte[0] ^ (1 << (at % 8))], at as u64).unwrap();
            let place = format!("byte {at} of {}", path.display());
            outcomes.judge(&disk, &lock, &model, newest, &place);
        }
    }
    println!("{outcomes:?}");
    let Outcomes { harmless, mended, named } = outcomes;
    assert!(harmless > 100 && mended > 10 && named > 100, "{outcomes:?}");
}

#[test]
fn a_file_cut_at_any_length_or_gone_is_found_or_not_needed() {
    let (_folder, lock) = lock();
    let (simulator, model, newest) = small_store(&lock);
    let step = setting("KISTA_DAMAGE_STEP", 13);
    let mut outcomes = Outcomes::default();
    let whole = copy(&simulator);
    for path in files(&whole) {
        let length = whole.open(&path).unwrap().len().unwrap();
        for at in (0..length).step_by(step) {
            let disk = copy(&simulator);
            disk.open_rw(&path).unwrap().set_len(at).unwrap();
            let place = format!("{} cut to {at}", path.display());
            outcomes.judge(&disk, &lock, &model, newest, &place);
        }
        let disk = copy(&simulator);
        disk.remove_file(&path).unwrap();
        outcomes.judge(&disk, &lock, &model, newest, &format!("{} removed", path.display()));
    }
    println!("{outcomes:?}");
    let Outcomes { harmless, mended, named } = outcomes;
    assert!(harmless > 100 && mended > 10 && named > 100, "{outcomes:?}");
}

#[test]
fn damage_in_any_snapshot_shows_when_it_is_compacted_or_read() {
    let (_folder, lock) = lock();
    let (simulator, model, _) = small_store(&lock);
    let snapshots = |disk: &Disk| {
        let files = files(disk).into_iter();
        files.filter(|file| file.extension().is_some_and(|of| of == "snap")).collect::<Vec<_>>()
    };
    let newest = snapshots(&copy(&simulator)).pop().unwrap();
    let length = copy(&simulator).open(&newest).unwrap().len().unwrap();
    for at in (0..length).step_by(setting("KISTA_DAMAGE_STEP", 13)) {
        let disk = copy(&simulator);
        let (store, _) = open(&disk, &lock, &[]).unwrap();
        let file = disk.open_rw(&newest).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        // It is made from the generation before instead.
        store.compact(Erase::Yes, |_| {}).unwrap();
        drop(store);
        let (store, attached) = open(&disk, &lock, &[]).unwrap();
        assert_eq!(contents(&runtime(), &store), model, "byte {at}");
        assert!(attached.damaged.is_empty());
        drop(store);
        // Now there is no other: it must not open.
        let only = snapshots(&disk);
        assert_eq!(only.len(), 1);
        let file = disk.open_rw(&only[0]).unwrap();
        if at < file.len().unwrap() {
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            let refused = open(&disk, &lock, &[]).unwrap_err().to_string();
            assert!(refused.contains(".snap"), "byte {at}: {refused}");
        }
    }
}

#[test]
fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_space() {
    let (_folder, lock) = lock();
    let (disk, simulator) = simulated();
    let reserve = 8 * 1024;
    let options = Options { reserve_bytes: reserve, ..options(&disk) };
    let store = Store::create(Path::new(DATA), StoreId([0xa5; 16]), 1, options, &lock).unwrap();
    attach(&store, &[]).unwrap();
    let runtime = runtime();
    let commit = |n| runtime.block_on(store.commit(batch([put("a", n)])));
    commit(1).unwrap();
    let used = simulator.used_bytes();
    for (capacity, fits) in [
        (used + reserve - 1, false),
        (used + reserve, true),
        (used, false),
        (used - 1, false),
        (u64::MAX, true),
    ] {
        simulator.set_capacity(capacity);
        let answer = commit(capacity);
        assert_eq!(answer.is_ok(), fits, "{capacity}: {answer:?}");
        assert!(fits || matches!(answer, Err(CommitError::NoSpace { .. })), "{answer:?}");
        assert!(runtime.block_on(store.get(&fake::key("a"))).unwrap().is_some());
        assert_eq!(store.is_space_low(), capacity != u64::MAX);
    }
    // There is space for the record, and none for the segment that it needs.
    simulator.set_capacity(simulator.used_bytes() + reserve + 1_024);
    let refused = (0..20).map(commit).find(Result::is_err);
    assert!(matches!(refused, Some(Err(CommitError::NoSpace { .. }))), "{refused:?}");
    let refused = store.compact(Erase::No, |_| {});
    assert!(matches!(refused, Err(CompactError::NoSpace { .. })), "{refused:?}");
    simulator.set_capacity(u64::MAX);
    commit(99).unwrap();
    store.compact(Erase::Yes, |_| {}).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!(usage.journal_bytes + usage.snapshot_bytes, simulator.used_bytes());
    drop(store);
    let (store, _) = open(&disk, &lock, &[]).unwrap();
    let found = runtime.block_on(store.get(&fake::key("a"))).unwrap();
    assert_eq!(found, Some(fake::record(99)));
}

#[test]
fn what_is_deleted_is_in_no_file_after_erasure() {
    let (_folder, lock) = lock();
    let (disk, _) = simulated();
    let store = create(&disk, &lock);
    let runtime = runtime();
    for n in 0..40 {
        runtime.block_on(store.commit(batch([put("destroyed", n), put("kept", n)]))).unwrap();
        if n % 9 == 8 {
            store.compact(Erase::No, |_| {}).unwrap();
        }
    }
    runtime.block_on(store.commit(batch([delete("destroyed")]))).unwrap();
    let holds = |n| {
        let sought = fake::record(n);
        let found = files(&disk).into_iter().filter(|file| {
            let bytes = disk.read(file, 1_000_000).unwrap();
            bytes.windows(sought.len()).any(|window| window == sought)
        });
        found.count()
    };
    assert!((0..40).any(|n| holds(n) > 0));
    store.compact(Erase::Yes, |_| {}).unwrap();
    assert!((0..39).all(|n| holds(n) == 0));
    assert_eq!(holds(39), 1);
}
