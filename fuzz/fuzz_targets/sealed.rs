//! What lies on the disk under the keys of a store, and was changed there: snapshots, segments with
//! their heads and records, backups, anchors, checkpoints, records of the index. Nothing of it opens
//! but what was written.
//!
//! Input: a byte that picks one of these, a change (which, and three bytes that say where), and bytes
//! that are written over that place.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use kista::{
    audit::SignedCheckpoint,
    backup::{self, SealCopy},
    barrier::{Barrier, Batch, Inspector, Keyring, MountView, Position, SpaceId},
    clock::{SystemClock, Timestamp},
    crypto::{HmacSha256, Mac, mac::sha256},
    disk::Disk,
    gate::Operation,
    seal::{Anchor, AnchorFile, CheckpointFile},
    secret::{Key, SecretBytes},
    storage::{self, Erase, Examined, NamedSeq, Options, Store, StoreId, memory::Faults},
};
use kista_fuzz::{Server, change, files};
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tokio::runtime::Runtime;

/// A store of a snapshot and some segments, closed, with its keys.
struct Ground {
    folder: tempfile::TempDir,
    data: PathBuf,
    store_id: StoreId,
    keyring: SecretBytes,
    snapshot: (PathBuf, Vec<u8>),
    segment: (PathBuf, Vec<u8>),
    /// What stands in the segment, without the zeros behind it.
    used: usize,
    whole: (Examined, u64),
    backup: Vec<u8>,
}

/// A barrier over memory, with two values of one space.
struct Memory {
    runtime: Runtime,
    faults: Faults,
    view: MountView,
    /// The keys of storage and the records there: a short value, a long one and its chunks.
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let server = Server::new();
    server.done(Operation::Write, "sys/mounts/kv", &json!({"type": "kv"}));
    let fill = |from: u32| {
        for n in from..from + 4 {
            // The last one is cut into chunks.
            let value = "v".repeat(if n % 4 == 3 { 9_000 } else { 20 });
            server.done(Operation::Write, &format!("kv/{n}"), &json!({"value": value}));
        }
    };
    fill(0);
    let open = server.kista().vault().unsealed().expect("it is open");
    open.ground.barrier.compact(Erase::Yes, |_| {}).expect("it is compacted");
    fill(2);
    let keyring = open.ground.barrier.keyring();
    let (store_id, keyring) = (keyring.store_id(), keyring.encode());
    drop(open);
    let folder = server.close();
    let data = folder.path().join("data");
    let mut backup = Vec::new();
    let now = Timestamp::from_millis(1_767_225_600_000);
    backup::create(&Disk::real(), &data, SealCopy::Included, now, &mut backup, &mut |_, _| {})
        .expect("a backup");
    let read = |extension| {
        let path = files(&data, extension).pop().expect("the store has one");
        let bytes = fs::read(&path).expect("it can be read");
        (path, bytes)
    };
    let (snapshot, segment) = (read("snap"), read("seg"));
    let used = segment.1.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut ground = Ground {
        folder,
        data,
        store_id,
        keyring,
        snapshot,
        segment,
        used,
        whole: (Examined::default(), 0),
        backup,
    };
    ground.whole = ground.examine().expect("as it was written");
    assert!(ground.whole.0.damages.is_empty() && ground.whole.0.entries > 0);
    ground
});

impl Ground {
    /// Reads all files with the keys; what was seen, and how many records opened.
    fn examine(&self) -> Option<(Examined, u64)> {
        let keyring = Keyring::decode(&self.store_id, &self.keyring).expect("the store's own");
        let mut inspector = Inspector::new(keyring).expect("usable");
        let options = Options::default();
        let seen = storage::examine(&self.data, &options, &mut inspector, &mut |_, _| {}).ok()?;
        Some((seen, inspector.records()))
    }

    /// Examines with other bytes in the place of a file.
    fn examine_with(&self, file: &(PathBuf, Vec<u8>), changed: &[u8]) -> Option<(Examined, u64)> {
        fs::write(&file.0, changed).expect("the folder can be written to");
        let seen = self.examine();
        fs::write(&file.0, &file.1).expect("the folder can be written to");
        seen
    }
}

thread_local! {
    static MEMORY: Memory = Memory::new();
}

const SPACE: SpaceId = SpaceId([0x6b; 16]);
const VALUES: [(&str, usize); 2] = [("short", 40), ("long", 9_000)];

impl Memory {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let keyring = Keyring::generate(Timestamp::from_millis(1_767_225_600_000));
        let (store, faults) = Store::memory(keyring.store_id());
        let clock = std::sync::Arc::new(SystemClock);
        let (barrier, _) =
            Barrier::open(store.clone(), keyring, 1, NamedSeq(0), clock).expect("an empty store");
        let view = barrier.view(SPACE);
        let records = runtime.block_on(async {
            let mut batch = Batch::default();
            for (name, length) in VALUES {
                batch.put(&view, &[name], &vec![b'v'; length]);
            }
            view.commit(batch).await.expect("memory");
            let mut records = Vec::new();
            for key in store.list(&[], None, 100).await.expect("memory") {
                let record = store.get(&key).await.expect("memory").expect("listed");
                records.push((key, record));
            }
            records
        });
        Self { runtime, faults, view, records }
    }

    /// Puts a record in the place of one; no value reads as another then.
    fn read_with(&self, key: &[u8], record: Option<&[u8]>) {
        self.faults.tamper(key, record);
        for (name, length) in VALUES {
            let read = self.runtime.block_on(self.view.get(&[name]));
            if let Ok(Some(stored)) = read {
                assert!(stored.value.expose(|value| value == vec![b'v'; length]), "{name}");
            }
        }
    }
}

fuzz_target!(init: { LazyLock::force(&GROUND); }, |input: &[u8]| {
    let [which, how, a, b, c, over @ ..] = input else { return };
    let place = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
    let ground = &*GROUND;
    match which % 6 {
        0 => snapshot(*how, place, over),
        1 => segment(*how, place, over),
        2 => backup_file(*how, place, over),
        3 => pair(*how, place, over, ANCHOR, |mac, path| {
            let file = AnchorFile::new(Disk::real(), path, mac, ground.store_id);
            (file.write(&ANCHOR), file.read().ok())
        }),
        4 => pair(*how, place, over, CHECKPOINT, |mac, path| {
            let file = CheckpointFile::new(Disk::real(), path, mac, ground.store_id);
            (file.write(&CHECKPOINT), file.read().ok())
        }),
        _ => MEMORY.with(|memory| record(memory, *how, place, over)),
    }
});

/// A change, and bytes written over the place of it; None when nothing has changed.
fn changed(bytes: &[u8], how: u8, place: usize, over: &[u8]) -> Option<Vec<u8>> {
    let mut changed = change(bytes, how, place, 64)?.0;
    let at = place % bytes.len();
    if at < changed.len() {
        let end = (at + over.len()).min(changed.len());
        changed[at..end].copy_from_slice(&over[..end - at]);
    }
    (changed != bytes).then_some(changed)
}

/// Front (magic, store, generation, sequence, chain) of a snapshot; marker, number of entries and
/// checksum behind the entries; the length of the head at the end (FORMAT.md 7).
fn snapshot(how: u8, place: usize, over: &[u8]) {
    let file = &GROUND.snapshot;
    let Some(mut bytes) = changed(&file.1, how, place, over) else { return };
    // Every other one gets the checksum that fits, so that the head is what finds it.
    if how & 4 != 0 && bytes.len() == file.1.len() {
        let head = file.1.last_chunk().map_or(0, |length| u32::from_be_bytes(*length));
        let sum = bytes.len() - 4 - usize::try_from(head).expect("a short head") - 32;
        let digest = sha256(&[&bytes[..sum]]);
        bytes[sum..sum + 32].copy_from_slice(&digest);
        if bytes == file.1 {
            return;
        }
    }
    if let Some((seen, _)) = GROUND.examine_with(file, &bytes) {
        assert!(!seen.damages.is_empty(), "a changed snapshot is whole");
    }
}

fn segment(how: u8, place: usize, over: &[u8]) {
    let file = &GROUND.segment;
    let place = place % GROUND.used;
    let Some(bytes) = changed(&file.1, how, place, over) else { return };
    let Some((seen, records)) = GROUND.examine_with(file, &bytes) else { return };
    let (whole, all) = &GROUND.whole;
    assert!(records <= *all || !seen.damages.is_empty());
    if seen.damages.is_empty() && bytes.get(..GROUND.used) != file.1.get(..GROUND.used) {
        // The newest commits are gone, as if they had never been answered; what anchors are for.
        assert!(seen.seq < whole.seq, "a changed commit is whole");
    }
}

fn backup_file(how: u8, place: usize, over: &[u8]) {
    let ground = &*GROUND;
    let Some(mut bytes) = changed(&ground.backup, how, place, over) else { return };
    assert!(backup::check(bytes.as_slice(), &mut |_| {}).is_err(), "a changed backup is whole");
    if how & 4 == 0 || bytes.len() < 32 {
        return;
    }
    // With the checksum that fits, what comes out is read as the store it is.
    let end = bytes.len() - 32;
    let digest = sha256(&[&bytes[..end]]);
    bytes[end..].copy_from_slice(&digest);
    let seen = backup::look(bytes.as_slice());
    if backup::check(bytes.as_slice(), &mut |_| {}).is_ok() {
        assert!(seen.is_ok_and(|summary| summary.terms.is_sorted()));
        let folder = ground.folder.path().join("restored");
        let mut none = |_| {};
        if backup::restore(&Disk::real(), bytes.as_slice(), &folder, None, &mut none).is_ok() {
            fs::remove_dir_all(&folder).expect("it was just made");
        }
    }
}

const POSITION: Position = Position { generation: 2, seq: 7, chain: [5; 32] };
const ANCHOR: Anchor =
    Anchor { position: POSITION, seal_epoch: 3, time: Timestamp::from_millis(1_767_225_600_000) };
const CHECKPOINT: SignedCheckpoint = SignedCheckpoint {
    device_id: [1; 16],
    n: 2,
    previous: [3; 32],
    hash: [4; 32],
    position: POSITION,
    time_ms: 8,
    signature: [9; 64],
};

/// A file of two blocks: whatever is done to it, it says what was written or nothing.
fn pair<B: PartialEq + std::fmt::Debug>(
    how: u8,
    place: usize,
    over: &[u8],
    written: B,
    use_it: impl Fn(Mac, PathBuf) -> (std::io::Result<()>, Option<B>),
) {
    let path = GROUND.folder.path().join("pair");
    let mac = || Mac::new(&Key::<HmacSha256>::build(|key| key.fill(1)));
    let other = || Mac::new(&Key::<HmacSha256>::build(|key| key.fill(2)));
    if path.exists() {
        fs::remove_file(&path).expect("it is ours");
    }
    let (made, read) = use_it(mac(), path.clone());
    made.expect("a new file");
    assert_eq!(read.as_ref(), Some(&written));
    let whole = fs::read(&path).expect("it was just written");
    let Some(bytes) = changed(&whole, how, place, over) else { return };
    fs::write(&path, &bytes).expect("the folder can be written to");
    // Written again, it is whole, unless the file is something else by now and is left alone.
    let (made, read) = use_it(mac(), path.clone());
    if made.is_ok() {
        assert_eq!(read, Some(written));
    }
    fs::write(&path, &bytes).expect("the folder can be written to");
    let (made, _) = use_it(other(), path.clone());
    if made.is_err() {
        assert_eq!(fs::read(&path).expect("it is there"), bytes, "another file was written over");
    }
}

fn record(memory: &Memory, how: u8, place: usize, over: &[u8]) {
    let (key, whole) = &memory.records[place % memory.records.len()];
    let other = &memory.records[usize::from(how) % memory.records.len()].1;
    match changed(whole, how, place / memory.records.len(), over) {
        Some(record) => memory.read_with(key, Some(&record)),
        None => memory.read_with(key, None),
    }
    memory.read_with(key, Some(over));
    memory.read_with(key, Some(other));
    memory.faults.tamper(key, Some(whole));
    for (name, _) in VALUES {
        let read = memory.runtime.block_on(memory.view.get(&[name]));
        assert!(matches!(read, Ok(Some(_))), "as it was written");
    }
}
