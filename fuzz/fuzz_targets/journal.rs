//! Opening a journal: one record whose body is anything, in a segment that is otherwise in order.
//!
//! Input: flags, then the record's body. With the lowest flag the front and the chain value fit the
//! body, so that it is decoded; else they are of the body as it would be one byte shorter.
#![no_main]

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use kista::{
    crypto::mac::sha256,
    storage::{
        Change, CommitSeal, FolderLock, Generation, HeadAt, HeadPlace, HeadRefused, Options,
        SnapshotAt, SnapshotSeal, StaleTerm, Store, StoreId, Tally,
    },
};
use kista_fuzz::files;
use libfuzzer_sys::fuzz_target;

const STORE: StoreId = StoreId([7; 16]);
const HEADER_BYTES: usize = 512;

fn options() -> Options {
    Options { segment_bytes: 16 * 1024, ..Options::default() }
}

/// A folder with an empty store, and what its one segment holds.
struct Ground {
    _folder: tempfile::TempDir,
    lock: FolderLock,
    data: PathBuf,
    segment: PathBuf,
    empty: Vec<u8>,
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_owned();
    let lock = FolderLock::acquire(&data).expect("the folder is ours");
    drop(Store::create(&data, STORE, 1, options(), &lock).expect("an empty store"));
    let segment = files(&data, "seg").pop().expect("a store has a segment");
    let empty = fs::read(&segment).expect("the segment can be read");
    Ground { _folder: folder, lock, data, segment, empty }
});

/// Accepts every head: what it holds is the barrier's.
struct AnyHead;

impl CommitSeal for AnyHead {
    fn begin(&mut self, _: &SnapshotAt<'_>) -> Result<(), HeadRefused> {
        Ok(())
    }
    fn replay(&mut self, _: &HeadAt<'_>) -> Result<(), HeadRefused> {
        Ok(())
    }
    fn continues(&mut self, _: u64) {}
    fn is_absent(&self, _: &[u8]) -> bool {
        false
    }
    fn stage(&mut self, _: &[Change<'_>]) -> Result<(), StaleTerm> {
        Ok(())
    }
    fn head_len(&self) -> usize {
        0
    }
    fn seal(&mut self, _: &HeadPlace) -> Vec<u8> {
        Vec::new()
    }
    fn durable(&mut self, _: u64, _: [u8; 32]) {}
    fn snapshots(&self) -> Arc<dyn SnapshotSeal> {
        Arc::new(NoSnapshots)
    }
}

/// Nothing is compacted here.
struct NoSnapshots;

impl SnapshotSeal for NoSnapshots {
    fn tally(&self, _: &HeadAt<'_>) -> Result<Box<dyn Tally>, HeadRefused> {
        Err(HeadRefused("none are made"))
    }
    fn tally_snapshot(&self, _: &SnapshotAt<'_>) -> Result<Box<dyn Tally>, HeadRefused> {
        Err(HeadRefused("none are made"))
    }
}

/// The record that `body` makes (FORMAT.md, Journal).
fn record(segment: &[u8], body: &[u8], announced: usize) -> Vec<u8> {
    // Magic, store and generation stand before the segment's id.
    let id = &segment[32..40];
    let announced = u32::try_from(announced).expect("the fuzzer's inputs are small");
    let mut record =
        [b"KJR1".as_slice(), &announced.to_be_bytes(), &1u64.to_be_bytes(), id, &[0; 32], body]
            .concat();
    let chain = sha256(&[b"kista/journal/1\0", &STORE.0, &record]);
    record.extend_from_slice(&chain);
    record
}

fuzz_target!(|input: &[u8]| {
    let Some((flags, body)) = input.split_first() else { return };
    let ground = &*GROUND;
    let fits = flags & 1 == 1;
    let announced = if fits { body.len() } else { body.len().saturating_sub(1) };
    let record = record(&ground.empty, body, announced);
    let mut segment = ground.empty.clone();
    segment.resize(segment.len().max((HEADER_BYTES + record.len()).next_multiple_of(512)), 0);
    segment[HEADER_BYTES..][..record.len()].copy_from_slice(&record);
    fs::write(&ground.segment, &segment).expect("the segment can be written");

    if let Ok(store) = Store::open(&ground.data, options(), &ground.lock) {
        assert_eq!(store.store_id(), STORE);
        if let Ok(attached) = store.attach(Box::new(AnyHead), &[], Generation::Keep) {
            assert!(attached.seq <= 1);
            check_lists(&store);
        }
    }
    // The index is of this journal only.
    for entry in fs::read_dir(&ground.data).expect("the folder can be read") {
        let path = entry.expect("its entries too").path();
        if path.is_dir() && !ground.segment.starts_with(&path) {
            fs::remove_dir_all(path).expect("the index can be removed");
        }
    }
});

/// Whatever the record wrote can be listed and read.
fn check_lists(store: &Store) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let keys = store.list(&[], None, 1000).await.expect("an open store lists");
        assert!(keys.is_sorted());
        for key in keys {
            assert!(store.get(&key).await.expect("an open store reads").is_some());
        }
    });
    store.close().expect("an open store closes");
}
