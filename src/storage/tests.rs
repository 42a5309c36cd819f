//! What only whole stores show: crashes, damage, a lost index, failing disks.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    conformance::{self, Subject, attach, batch},
    fake::{ACTIVE_TERM, FakeSeal, HEAD_LEN, delete, key, put, record, record_under},
    memory::Faults,
    record::BLOCK,
    replay::{From, walk},
    *,
};
use crate::disk::{Disk, simulated};

/// Small enough that a test fills several.
const SEGMENT_BYTES: u64 = 4 * 1024;

/// A store in a folder.
struct InFolder {
    store: Option<Store>,
    lock: FolderLock,
    folder: TempDir,
}

impl InFolder {
    fn path(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn journal(&self) -> PathBuf {
        self.path().join("journal")
    }

    fn index(&self) -> PathBuf {
        self.path().join("index")
    }

    fn options() -> Options {
        Options { segment_bytes: SEGMENT_BYTES, ..Options::default() }
    }

    fn open(&self) -> Result<Store, OpenError> {
        Store::open(&self.path(), Self::options(), &self.lock)
    }

    /// Opens and attaches, and drops the store again.
    fn try_attach(&self, named: u64) -> Result<Attached, OpenError> {
        self.open()?.attach(
            Box::new(FakeSeal::default()),
            &NamedSeq(named).points(),
            Generation::Keep,
        )
    }

    /// Drops the store as a kill would.
    fn kill(&mut self) {
        self.store = None;
    }

    /// The segments, ascending.
    fn segments(&self) -> Vec<PathBuf> {
        segment::list(&Disk::real(), &self.journal())
            .unwrap()
            .into_iter()
            .map(|(_, path)| path)
            .collect()
    }

    /// Places of the records in the journal: segment, offset, sequence, length without padding.
    fn records(&self) -> Vec<(PathBuf, usize, u64, usize)> {
        let mut records = Vec::new();
        walk(&Disk::real(), &self.journal(), From::Holding(1), None, &mut |spot, record| {
            let length = record::record_len(record.writes.iter().copied(), HEAD_LEN);
            let offset = usize::try_from(spot.offset).unwrap();
            records.push((spot.file.into(), offset, record.place.seq, length));
            Ok(())
        })
        .unwrap();
        records
    }
}

impl Subject for InFolder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let lock = FolderLock::acquire(&path).unwrap();
        let store = Store::create(&path, StoreId([0xa5; 16]), 3, Self::options(), &lock).unwrap();
        let attached = attach(&store).unwrap();
        let expected = Attached {
            generation: 3,
            seq: 0,
            chain: [0; 32],
            cut: None,
            index_rebuilt: false,
            points: Vec::new(),
            damaged: Vec::new(),
        };
        assert_eq!(attached, expected);
        Self { store: Some(store), lock, folder }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn restarted(mut self, clean: bool) -> Self {
        if clean {
            self.store().close().unwrap();
        }
        self.kill();
        self.store = Some(self.open().unwrap());
        self
    }
}

struct InMemory {
    store: Store,
    faults: Faults,
}

impl Subject for InMemory {
    fn new() -> Self {
        let (store, faults) = Store::memory(StoreId([0xa5; 16]));
        attach(&store).unwrap();
        Self { store, faults }
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn restarted(self, clean: bool) -> Self {
        if clean {
            self.store.close().unwrap();
        }
        let (store, faults) = self.faults.reopen();
        Self { store, faults }
    }
}

/// A store on a simulated disk, whose folder lock is a real one.
struct InSimulation {
    store: Store,
    options: Options,
    lock: Arc<FolderLock>,
    _folder: Arc<TempDir>,
}

impl Subject for InSimulation {
    const REBUILDS: bool = true;

    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lock = Arc::new(FolderLock::acquire(folder.path()).unwrap());
        let options = Options { disk: simulated().0, ..InFolder::options() };
        let store =
            Store::create(Path::new("/data"), StoreId([0xa5; 16]), 3, options.clone(), &lock)
                .unwrap();
        attach(&store).unwrap();
        Self { store, options, lock, _folder: Arc::new(folder) }
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn restarted(self, clean: bool) -> Self {
        if clean {
            self.store.close().unwrap();
        }
        let Self { store, options, lock, _folder } = self;
        drop(store);
        let store = Store::open(Path::new("/data"), options.clone(), &lock).unwrap();
        Self { store, options, lock, _folder }
    }
}

conformance::conforms!(
    sled_conforms: InFolder,
    memory_conforms: InMemory,
    simulation_conforms: InSimulation
);

/// A folder with commits 1 to `commits`, each of one record under the key of its number, killed.
async fn killed_after(commits: u64) -> InFolder {
    let mut subject = InFolder::new();
    for n in 1..=commits {
        subject.store().commit(batch([put(&n.to_string(), n)])).await.unwrap();
    }
    subject.kill();
    subject
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

fn damage_of(error: OpenError) -> (PathBuf, u64, Damage) {
    let OpenError::Damaged { file, offset, what } = error else {
        panic!("not damage: {error:?}");
    };
    (file, offset, what)
}

// The end of the journal.

#[tokio::test]
async fn last_record_torn_at_any_byte_is_the_end_and_every_earlier_one_stays() {
    let subject = killed_after(5).await;
    let (file, offset, seq, length) = subject.records().pop().unwrap();
    let whole = fs::read(&file).unwrap();
    let padded = length.next_multiple_of(BLOCK);
    let end = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        walk(&Disk::real(), &subject.journal(), From::Holding(1), None, &mut |_, _| Ok(())).unwrap()
    };
    for torn in 0..=padded {
        let mut zeroed = whole.clone();
        zeroed[offset + torn..].fill(0);
        for bytes in [&zeroed[..], &whole[..offset + torn]] {
            let end = end(bytes);
            // Zeros from the first byte on look like nothing, zeros in the chain value may be the
            // chain value's own, and nothing but padding is missing from its end on.
            let kept = bytes.len() >= offset + length
                && bytes[..offset + length] == whole[..offset + length];
            assert_eq!(end.seq, if kept { seq } else { seq - 1 }, "torn at {torn}");
            assert_eq!(end.unfinished, !kept && torn > 0, "torn at {torn}");
        }
    }
}

#[tokio::test]
async fn torn_record_is_cut_and_reported_once() {
    let subject = killed_after(5).await;
    let (file, offset, seq, length) = subject.records().pop().unwrap();
    change(&file, |bytes| bytes[offset + length - 1] ^= 1);
    fs::remove_dir_all(subject.index()).unwrap();

    let attached = subject.try_attach(seq - 1).unwrap();
    assert_eq!((attached.seq, attached.cut), (seq - 1, Some(seq)));
    assert!(fs::read(&file).unwrap()[offset..].iter().all(|&byte| byte == 0));

    let store = subject.open().unwrap();
    let attached = attach(&store).unwrap();
    assert_eq!((attached.seq, attached.cut), (seq - 1, None));
    assert_eq!(store.get(&key("4")).await.unwrap(), Some(record(4)));
    assert_eq!(store.get(&key("5")).await.unwrap(), None);
    assert_eq!(store.commit(batch([put("5", 50)])).await.unwrap(), seq);
}

#[tokio::test]
async fn torn_record_that_the_index_names_is_damage() {
    let subject = killed_after(5).await;
    let (file, offset, seq, _) = subject.records().pop().unwrap();
    for flip in [true, false] {
        change(&file, |bytes| {
            bytes[offset] ^= 1;
            // Gone altogether is no plain end either.
            if !flip {
                bytes[offset..].fill(0);
            }
        });
        subject.open().unwrap();
        let (found, at, what) = damage_of(subject.try_attach(0).unwrap_err());
        assert_eq!((found, at), (file.clone(), offset as u64));
        let evidence = Evidence::Indexed { seq };
        assert_eq!(what, Damage::Record { seq, evidence });
    }
}

#[tokio::test]
async fn torn_record_that_an_anchor_names_is_damage() {
    let subject = killed_after(5).await;
    let (file, offset, seq, _) = subject.records().pop().unwrap();
    change(&file, |bytes| bytes[offset + 100] ^= 1);
    fs::remove_dir_all(subject.index()).unwrap();
    let (found, at, what) = damage_of(subject.try_attach(seq).unwrap_err());
    assert_eq!((found, at), (file.clone(), offset as u64));
    assert_eq!(what, Damage::Record { seq, evidence: Evidence::Named { seq } });
    assert_ne!(fs::read(&file).unwrap()[offset], 0, "nothing was cut");
    assert!(subject.try_attach(seq - 1).is_ok());
}

#[tokio::test]
async fn any_flipped_bit_of_an_earlier_record_is_damage_there() {
    let subject = killed_after(9).await;
    let records = subject.records();
    assert!(subject.segments().len() > 1);
    let (last_file, ..) = records.last().unwrap().clone();
    // One in an earlier segment, and one in the last that is not the last.
    let earlier = records.iter().find(|record| record.0 != last_file).unwrap();
    let in_last = records.iter().find(|record| record.0 == last_file).unwrap();
    for (file, offset, seq, length) in [earlier, in_last] {
        let whole = fs::read(file).unwrap();
        for at in *offset..offset + length.next_multiple_of(BLOCK) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(file, bytes).unwrap();
            let (found, place, what) = damage_of(subject.open().unwrap_err());
            assert_eq!((&found, place), (file, *offset as u64), "byte {at}");
            let Damage::Record { seq: missing, evidence } = what else { panic!("{what:?}") };
            assert_eq!(missing, *seq);
            assert_eq!(evidence == Evidence::SegmentFollows, *file != last_file);
        }
        fs::write(file, whole).unwrap();
    }
    subject.try_attach(9).unwrap();
}

#[tokio::test]
async fn any_flipped_bit_of_a_segment_header_is_damage() {
    let subject = killed_after(9).await;
    for file in subject.segments() {
        let whole = fs::read(&file).unwrap();
        for at in 0..BLOCK {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&file, bytes).unwrap();
            let damage = damage_of(subject.open().unwrap_err());
            assert_eq!(damage, (file.clone(), 0, Damage::SegmentHeader));
        }
        fs::write(&file, whole).unwrap();
    }
}

#[tokio::test]
async fn removed_reordered_and_doubled_records_are_damage() {
    let subject = killed_after(3).await;
    let records = subject.records();
    let (file, first, ..) = records[0].clone();
    let (second, third) = (records[1].1, records[2].1);
    assert_eq!((second - first, third - second), (BLOCK, BLOCK));
    let whole = fs::read(&file).unwrap();
    type Edit<'e> = &'e dyn Fn(&mut Vec<u8>);
    let removed: Edit<'_> = &|bytes| bytes.copy_within(third..third + BLOCK, second);
    let blanked: Edit<'_> = &|bytes| bytes[second..third].fill(0);
    let swapped: Edit<'_> = &|bytes| {
        bytes.copy_within(third..third + BLOCK, second);
        bytes[third..third + BLOCK].copy_from_slice(&whole[second..third]);
    };
    let doubled: Edit<'_> = &|bytes| bytes.copy_within(third..third + BLOCK, third + BLOCK);
    for (edit, offset) in
        [(removed, second), (blanked, second), (swapped, second), (doubled, third + BLOCK)]
    {
        let mut bytes = whole.clone();
        edit(&mut bytes);
        fs::write(&file, bytes).unwrap();
        let (found, at, _) = damage_of(subject.open().unwrap_err());
        assert_eq!((found, at), (file.clone(), offset as u64));
    }
}

#[tokio::test]
async fn record_of_another_segment_id_is_not_read() {
    // A recycled segment: behind its end stand whole records, linked even, of its former life.
    let subject = killed_after(3).await;
    let (file, offset, seq, _) = subject.records().pop().unwrap();
    let former = fs::read(&file).unwrap()[offset..offset + BLOCK].to_vec();
    let mut left_over = former.clone();
    left_over[16..24].fill(0x66);
    change(&file, |bytes| {
        bytes[offset..offset + BLOCK].fill(0);
        bytes[offset + BLOCK..offset + 2 * BLOCK].copy_from_slice(&left_over);
    });
    let end = walk(&Disk::real(), &subject.journal(), From::Holding(1), None, &mut |_, _| Ok(()))
        .unwrap();
    assert_eq!((end.seq, end.unfinished, end.offset), (seq - 1, false, offset as u64));
}

#[tokio::test]
async fn missing_segments_are_damage() {
    let subject = killed_after(20).await;
    let segments = subject.segments();
    assert!(segments.len() >= 3);
    let hidden = subject.path().join("hidden");
    for (n, file) in segments.iter().enumerate() {
        fs::rename(file, &hidden).unwrap();
        if n + 1 < segments.len() {
            damage_of(subject.open().unwrap_err());
        } else {
            // The last one: what is left is a whole journal, but the index knows better.
            subject.open().unwrap();
            let (_, _, what) = damage_of(subject.try_attach(0).unwrap_err());
            assert!(matches!(what, Damage::Record { evidence: Evidence::Indexed { .. }, .. }));
        }
        fs::rename(&hidden, file).unwrap();
    }
    subject.try_attach(20).unwrap();
}

#[tokio::test]
async fn segment_of_another_store_is_damage() {
    let (subject, other) = (killed_after(20).await, killed_after(20).await);
    let (mine, foreign) = (subject.segments(), other.segments());
    fs::copy(&foreign[1], &mine[1]).unwrap();
    let (file, _, what) = damage_of(subject.open().unwrap_err());
    assert_eq!((&file, what), (&mine[1], Damage::SegmentOrder));
    change(&mine[1], |bytes| {
        let mut header = segment::Header::decode(&bytes[..BLOCK]).unwrap();
        header.store_id = StoreId([1; 16]);
        bytes[..BLOCK].copy_from_slice(&header.encode());
    });
    let (file, _, what) = damage_of(subject.open().unwrap_err());
    assert_eq!((&file, what), (&mine[1], Damage::ForeignSegment));
}

#[tokio::test]
async fn journal_rewritten_without_the_key_is_refused_at_attach() {
    let mut subject = InFolder::new();
    subject.store().commit(batch([put("a", 1)])).await.unwrap();
    subject.kill();
    // Structure and chain hold, the head is sealed under another key.
    let sealed_elsewhere = FakeSeal::with_key(1);
    let refused = subject.open().unwrap().attach(Box::new(sealed_elsewhere), &[], Generation::Keep);
    let Err(OpenError::HeadRefused { file, offset, seq, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((file, offset, seq), (subject.segments()[0].clone(), BLOCK as u64, 1));
    // Another seal may try again with the same store.
    let store = subject.open().unwrap();
    assert!(store.attach(Box::new(FakeSeal::with_key(1)), &[], Generation::Keep).is_err());
    attach(&store).unwrap();
}

#[tokio::test]
async fn record_longer_than_a_segment_gets_one_of_its_own() {
    let mut subject = InFolder::new();
    let large = |n| Write {
        key: key(&format!("large {n}")),
        record: Some(record_under(ACTIVE_TERM, n, 8_192)),
    };
    subject.store().commit(batch([put("a", 1)])).await.unwrap();
    subject.store().commit(batch([large(1), large(2)])).await.unwrap();
    subject.store().commit(batch([put("b", 2)])).await.unwrap();
    subject.kill();
    let lengths: Vec<u64> =
        subject.segments().iter().map(|file| fs::metadata(file).unwrap().len()).collect();
    assert_eq!(lengths.len(), 3);
    assert_eq!((lengths[0], lengths[2]), (SEGMENT_BYTES, SEGMENT_BYTES));
    assert!(lengths[1] > 16_384);
    subject.try_attach(3).unwrap();
}

// The index.

#[tokio::test]
async fn index_that_is_gone_is_rebuilt() {
    let subject = killed_after(30).await;
    fs::remove_dir_all(subject.index()).unwrap();
    let store = subject.open().unwrap();
    let attached = attach(&store).unwrap();
    assert_eq!((attached.seq, attached.index_rebuilt), (30, true));
    for n in 1..=30 {
        assert_eq!(store.get(&key(&n.to_string())).await.unwrap(), Some(record(n)));
    }
}

#[tokio::test]
async fn index_that_does_not_open_is_set_aside_and_rebuilt() {
    let subject = killed_after(10).await;
    for wreck in [
        // Its configuration, its log, and something that is not sled at all.
        &(|index: &Path| fs::write(index.join("conf"), b"no configuration").unwrap())
            as &dyn Fn(&Path),
        &|index| change(&index.join("db"), |bytes| bytes.fill(0xff)),
        &|index| {
            fs::remove_dir_all(index).unwrap();
            fs::write(index, b"a file").unwrap();
        },
    ] {
        wreck(&subject.index());
        let store = subject.open().unwrap();
        let attached = attach(&store).unwrap();
        assert_eq!((attached.seq, attached.index_rebuilt), (10, true));
        assert!(subject.path().join("index.broken").exists());
        for n in 1..=10 {
            assert_eq!(store.get(&key(&n.to_string())).await.unwrap(), Some(record(n)));
        }
    }
}

#[tokio::test]
async fn index_that_is_behind_gets_what_follows() {
    let mut subject = killed_after(10).await;
    let behind = subject.path().join("behind");
    copy_folder(&subject.index(), &behind);
    subject.store = Some(subject.open().unwrap());
    attach(subject.store()).unwrap();
    let writes = [delete("1"), put("2", 20), put("new", 11)];
    for write in writes {
        subject.store().commit(batch([write])).await.unwrap();
    }
    subject.kill();
    fs::remove_dir_all(subject.index()).unwrap();
    fs::rename(&behind, subject.index()).unwrap();

    let store = subject.open().unwrap();
    let attached = attach(&store).unwrap();
    assert_eq!((attached.seq, attached.index_rebuilt), (13, false));
    assert_eq!(store.get(&key("1")).await.unwrap(), None);
    assert_eq!(store.get(&key("2")).await.unwrap(), Some(record(20)));
    assert_eq!(store.get(&key("3")).await.unwrap(), Some(record(3)));
    assert_eq!(store.get(&key("new")).await.unwrap(), Some(record(11)));
}

#[tokio::test]
async fn index_of_another_store_is_rebuilt() {
    let (subject, mut other) = (killed_after(10).await, InFolder::new());
    other.store().commit(batch([put("foreign", 1)])).await.unwrap();
    other.kill();
    fs::remove_dir_all(subject.index()).unwrap();
    copy_folder(&other.index(), &subject.index());
    let store = subject.open().unwrap();
    assert!(attach(&store).unwrap().index_rebuilt);
    assert_eq!(store.get(&key("foreign")).await.unwrap(), None);
    assert_eq!(store.list(&[], None, 99).await.unwrap().len(), 10);
}

#[test]
fn a_read_beside_commits_brings_no_old_record_back() {
    const KEYS: u64 = 60;
    let folder = tempfile::tempdir().unwrap();
    // Room for some of the records, so that reads put others there.
    let index = sled::Index::open(folder.path(), 8 << 10).unwrap();
    let commit = |round: u64, n: u64| {
        let record = [round.to_be_bytes(); 12].concat();
        index.apply([(&n.to_be_bytes()[..], Some(record.as_slice()))].into_iter(), None).unwrap();
    };
    let round_of = |record: &[u8]| u64::from_be_bytes(*record.first_chunk().unwrap());
    let read = |n: u64| index.read(&n.to_be_bytes(), round_of).unwrap();
    (0..KEYS).for_each(|n| commit(0, n));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for from in 0..2 {
            let (read, over) = (&read, &over);
            scope.spawn(move || {
                let turns = (from..).step_by(7).take_while(|_| !over.load(Ordering::Relaxed));
                turns.for_each(|n| assert!(read(n % KEYS).is_some()));
            });
        }
        let stale = (1..300).find_map(|round| {
            (0..KEYS).for_each(|n| commit(round, n));
            (0..KEYS).find(|&n| read(n) != Some(round))
        });
        over.store(true, Ordering::Relaxed);
        assert_eq!(stale, None);
    });
}

#[test]
fn index_full_of_the_largest_records_keeps_no_blob_files() {
    // Keys that differ everywhere, in their second half, and in their last bytes only: sled keeps
    // what the keys of a page share once, and cuts the keys that lead to it.
    let differs_from = [1, MAX_KEY_BYTES / 2, MAX_KEY_BYTES - 64];
    for shared in differs_from {
        let folder = tempfile::tempdir().unwrap();
        let index = sled::Index::open(folder.path(), 64 << 20).unwrap();
        for round in 0..3 {
            for n in 0..300 {
                let mut key = vec![0x10];
                while key.len() < MAX_KEY_BYTES {
                    let part = if key.len() < shared { n / 10 } else { n };
                    key.extend_from_slice(&record_under(ACTIVE_TERM, part, 48)[16..]);
                }
                key.truncate(MAX_KEY_BYTES);
                let seq = round * 300 + n + 1;
                let record = record_under(ACTIVE_TERM, seq, MAX_RECORD_BYTES);
                let writes = [(key.as_slice(), Some(record.as_slice()))];
                index.apply(writes.into_iter(), Some((seq, &[0; 214]))).unwrap();
            }
        }
        index.flush().unwrap();
        drop(index);
        let blobs = fs::read_dir(folder.path().join("blobs")).unwrap().count();
        assert_eq!(blobs, 0, "keys that differ from byte {shared} on");
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

// Snapshots.

/// Where the files of a folder stand, in their order.
fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn attaching_begins_behind_the_newest_snapshot() {
    let mut subject = InFolder::new();
    for n in 1..=20 {
        subject.store().commit(batch([put(&n.to_string(), n)])).await.unwrap();
        if n % 6 == 0 {
            subject.store().compact(Erase::No, |_| {}).unwrap();
        }
    }
    subject.kill();
    // Each compaction leaves a head behind its snapshot: 18 commits and two heads.
    let snapshots = names_in(&subject.path().join("snapshots"));
    assert_eq!(snapshots, ["000000000000000d.snap", "0000000000000014.snap"]);
    assert_eq!(names_in(&subject.journal())[0], "000000000000000e.seg");
    let seal = FakeSeal::default();
    let told = seal.told.clone();
    let store = subject.open().unwrap();
    let attached = store.attach(Box::new(seal), &[], Generation::Keep).unwrap();
    assert_eq!(*told.replayed.lock().unwrap(), [0x14, 0x15, 0x16, 0x17]);
    assert!(!attached.index_rebuilt);
    // And the index comes from it, too.
    drop(store);
    fs::remove_dir_all(subject.index()).unwrap();
    let store = subject.open().unwrap();
    assert!(attach(&store).unwrap().index_rebuilt);
    for n in 1..=20 {
        assert_eq!(store.get(&key(&n.to_string())).await.unwrap(), Some(record(n)));
    }
}

#[tokio::test]
async fn index_behind_the_snapshot_is_rebuilt() {
    let mut subject = killed_after(10).await;
    let behind = subject.path().join("behind");
    copy_folder(&subject.index(), &behind);
    subject.store = Some(subject.open().unwrap());
    attach(subject.store()).unwrap();
    subject.store().commit(batch([delete("1"), put("new", 11)])).await.unwrap();
    subject.store().compact(Erase::No, |_| {}).unwrap();
    subject.kill();
    fs::remove_dir_all(subject.index()).unwrap();
    fs::rename(&behind, subject.index()).unwrap();
    let store = subject.open().unwrap();
    assert!(attach(&store).unwrap().index_rebuilt);
    assert_eq!(store.get(&key("1")).await.unwrap(), None);
    assert_eq!(store.get(&key("new")).await.unwrap(), Some(record(11)));
    assert_eq!(store.list(&[], None, 99).await.unwrap().len(), 10);
}

#[tokio::test]
async fn erasure_leaves_one_snapshot_a_new_index_and_nothing_deleted() {
    let mut subject = killed_after(10).await;
    // An index that was set aside, and one that was not finished.
    copy_folder(&subject.index(), &subject.path().join("index.broken"));
    copy_folder(&subject.index(), &subject.path().join("index.2"));
    fs::write(subject.path().join("index.2/conf"), b"no configuration").unwrap();
    subject.store = Some(subject.open().unwrap());
    attach(subject.store()).unwrap();
    let compacted = subject.store().compact(Erase::No, |_| {}).unwrap();
    assert_eq!((compacted.records, compacted.index_rebuilt), (10, false));
    subject.store().commit(batch([delete("3"), put("4", 40)])).await.unwrap();
    let mut stages = Vec::new();
    let erased = subject.store().compact(Erase::Yes, |progress| stages.push(progress.stage));
    assert!(erased.unwrap().index_rebuilt);
    assert!(stages.contains(&Stage::Deleting));
    let usage = subject.store().usage().unwrap();
    assert!(usage.index_bytes > 0 && usage.live_bytes == usage.snapshot_bytes);
    assert_eq!(subject.store().get(&key("4")).await.unwrap(), Some(record(40)));
    subject.kill();
    let folders = names_in(&subject.path());
    assert_eq!(folders, ["index.2", "journal", "lock", "snapshots"]);
    assert_eq!(names_in(&subject.path().join("snapshots")).len(), 1);
    let mut all = Vec::new();
    for folder in ["index.2", "journal", "snapshots"] {
        for name in names_in(&subject.path().join(folder)) {
            all.extend(fs::read(subject.path().join(folder).join(name)).unwrap_or_default());
        }
    }
    let holds = |n| all.windows(112).any(|window| window == record(n));
    assert!(holds(40) && holds(5) && !holds(3) && !holds(4));
    let attached = subject.try_attach(0).unwrap();
    assert!(!attached.index_rebuilt);
}

#[tokio::test]
async fn long_journal_is_compacted_by_itself() {
    let subject = InFolder::new();
    let Medium::Folder(folder) = &subject.store().inner.medium else { panic!("no folder") };
    let options = Options { compact_above_bytes: 16 * 1024, ..folder.options.clone() };
    let mut subject = subject;
    subject.kill();
    let store = Store::open(&subject.path(), options, &subject.lock).unwrap();
    attach(&store).unwrap();
    let snapshots = subject.path().join("snapshots");
    let mut commits = 0;
    while names_in(&snapshots).iter().all(|name| !name.ends_with(".snap")) {
        commits += 1;
        store.commit(batch([put(&(commits % 7).to_string(), commits)])).await.unwrap();
        assert!(commits < 5_000, "nothing has been compacted");
    }
    assert!(commits >= 32, "16 KiB are 32 commits");
    store.close().unwrap();
    drop(store);
    subject.try_attach(commits).unwrap();
}

#[tokio::test]
async fn points_are_there_or_others_or_unknown() {
    let mut subject = InFolder::new();
    let seal = FakeSeal::default();
    let durable = Arc::clone(&seal.told.durable);
    subject = subject.restarted(false);
    subject.store().attach(Box::new(seal), &[], Generation::Keep).unwrap();
    for n in 1..=12 {
        subject.store().commit(batch([put(&n.to_string(), n)])).await.unwrap();
        if n % 4 == 0 {
            subject.store().compact(Erase::No, |_| {}).unwrap();
        }
    }
    subject.kill();
    let chains = durable.lock().unwrap().clone();
    let standing = |seq: u64, chain| {
        let points = [Point { seq, chain }];
        let store = subject.open().unwrap();
        store.attach(Box::new(FakeSeal::default()), &points, Generation::Keep).unwrap().points
    };
    // Two snapshots stand at 9 and 14; the segments reach back to 10.
    for (seq, chain) in chains {
        let known = seq > 9;
        let equal = if known { Standing::Equal } else { Standing::Unknown };
        let differs = if known { Standing::Differs } else { Standing::Unknown };
        assert_eq!(standing(seq, Some(chain)), [equal], "{seq}");
        assert_eq!(standing(seq, None), [equal], "{seq}");
        assert_eq!(standing(seq, Some([9; 32])), [differs], "{seq}");
    }
    assert_eq!(standing(0, Some([0; 32])), [Standing::Unknown]);
    assert!(subject.try_attach(99).is_err());
}

#[tokio::test]
async fn next_generation_goes_on_in_a_segment_of_its_own_and_none_goes_back() {
    let mut subject = killed_after(3).await;
    let seal = FakeSeal::default();
    let told = seal.told.clone();
    subject.store = Some(subject.open().unwrap());
    let attached = subject.store().attach(Box::new(seal), &[], Generation::Next).unwrap();
    assert_eq!((attached.generation, subject.store().generation()), (4, 4));
    assert_eq!(told.generation.load(Ordering::Relaxed), 4);
    subject.store().commit(batch([put("4", 4)])).await.unwrap();
    subject.kill();
    assert_eq!(subject.open().unwrap().generation(), 4);
    assert_eq!(subject.try_attach(4).unwrap().generation, 4);
    let segments = subject.segments();
    assert_eq!(segments.len(), 2);
    change(&segments[1], |bytes| {
        let mut header = segment::Header::decode(&bytes[..BLOCK]).unwrap();
        header.generation = 2;
        bytes[..BLOCK].copy_from_slice(&header.encode());
    });
    let (file, _, what) = damage_of(subject.open().unwrap_err());
    assert_eq!((&file, what), (&segments[1], Damage::ForeignSegment));
}

// The folder.

#[test]
fn creating_twice_and_opening_nothing_are_refused() {
    let subject = InFolder::new();
    let again =
        Store::create(&subject.path(), StoreId([1; 16]), 1, InFolder::options(), &subject.lock);
    assert!(matches!(again, Err(OpenError::Exists { .. })));
    let empty = tempfile::tempdir().unwrap();
    let lock = FolderLock::acquire(empty.path()).unwrap();
    let nothing = Store::open(empty.path(), InFolder::options(), &lock);
    assert!(matches!(nothing, Err(OpenError::NoStore { .. })), "{nothing:?}");
}

#[test]
fn store_remembers_its_name_and_generation() {
    let subject = InFolder::new().restarted(false);
    assert_eq!(subject.store().store_id(), StoreId([0xa5; 16]));
    assert_eq!(subject.store().generation(), 3);
    assert_eq!(subject.store().store_id().to_string(), "a5".repeat(16));
}

#[tokio::test]
async fn folders_and_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let subject = killed_after(9).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&subject.journal()), 0o700);
    assert_eq!(mode(&subject.index()), 0o700);
    assert!(subject.segments().iter().all(|file| mode(file) == 0o600));
}

// Failing disks.

#[tokio::test]
async fn failed_append_or_sync_is_never_acknowledged_and_ends_writing() {
    for fail in [Faults::fail_appends, Faults::fail_syncs] {
        let subject = InMemory::new();
        let store = subject.store();
        store.commit(batch([put("a", 1)])).await.unwrap();
        fail(&subject.faults);
        for _ in 0..2 {
            let failed = store.commit(batch([put("a", 2)])).await;
            assert!(matches!(failed, Err(CommitError::Failed(_))));
        }
        assert_eq!(store.get(&key("a")).await.unwrap(), Some(record(1)));
        assert!(matches!(store.close(), Err(CommitError::Failed(_))));
        let (store, _) = subject.faults.reopen();
        assert_eq!(attach(&store).unwrap().seq, 1);
        assert_eq!(store.get(&key("a")).await.unwrap(), Some(record(1)));
    }
}

#[tokio::test]
async fn full_disk_is_never_acknowledged_and_ends_writing() {
    let subject = InFolder::new().restarted(false);
    let end = walk(&Disk::real(), &subject.journal(), From::Holding(1), None, &mut |_, _| Ok(()))
        .unwrap();
    // Every write to this device fails as on a full disk.
    let full = replay::End { file: "/dev/full".into(), ..end };
    let platter = Arc::new(memory::Platter::default());
    let committer = Committer::start(committer::Start {
        store_id: subject.store().store_id(),
        index: Arc::new(ArcSwap::from_pointee(Backend::Memory(Arc::clone(&platter)))),
        log: committer::Log::Segments(
            Writer::open(&Disk::real(), &subject.journal(), &full, SEGMENT_BYTES).unwrap(),
        ),
        seal: Box::new(FakeSeal::default()),
        seq: 0,
        chain: [0; 32],
        figures: Arc::default(),
        folder: None,
        compaction: None,
        failed: None,
    })
    .unwrap();
    for _ in 0..2 {
        let answer = committer.submitter().submit(batch([put("a", 1)]), 112).await.unwrap();
        let Err(CommitError::Failed(cause)) = answer else { panic!("{answer:?}") };
        let WriteError::Journal { file, offset, source } = &*cause else { panic!("{cause:?}") };
        assert_eq!((file.as_path(), *offset), (Path::new("/dev/full"), BLOCK as u64));
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(platter.read(&key("a"), |_| ()).unwrap(), None);
    assert!(committer.close().is_err());
}

#[tokio::test]
async fn failed_read_fails_its_commit_only() {
    let subject = InMemory::new();
    subject.faults.fail_reads(true);
    assert!(matches!(subject.store.get(&key("a")).await, Err(ReadError::Index(_))));
    let refused = subject.store.commit(batch([put("a", 1)])).await;
    assert!(matches!(refused, Err(CommitError::Index(_))));
    subject.faults.fail_reads(false);
    subject.store.commit(batch([put("a", 1)])).await.unwrap();
}

#[tokio::test]
async fn conflict_comes_on_command() {
    let subject = InMemory::new();
    subject.faults.conflict_next();
    let lost = subject.store.commit(batch([put("a", 1)])).await;
    assert!(matches!(lost, Err(CommitError::Conflict)));
    subject.store.commit(batch([put("a", 1)])).await.unwrap();
}

#[tokio::test]
async fn tampering_reaches_the_index_only() {
    let subject = InMemory::new();
    subject.store.commit(batch([put("a", 1)])).await.unwrap();
    subject.faults.tamper(&key("a"), Some(&record(2)));
    assert_eq!(subject.store.get(&key("a")).await.unwrap(), Some(record(2)));
    let (store, _) = subject.faults.reopen();
    attach(&store).unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap(), Some(record(1)));
}

#[tokio::test]
async fn seal_that_lies_about_its_length_ends_writing() {
    let (store, _faults) = Store::memory(StoreId([0; 16]));
    let mut seal = FakeSeal::default();
    seal.lies_about_length = true;
    store.attach(Box::new(seal), &[], Generation::Keep).unwrap();
    let failed = store.commit(batch([put("a", 1)])).await;
    assert!(matches!(failed, Err(CommitError::Failed(_))));
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
}

#[tokio::test]
async fn seal_that_panics_answers_everyone() {
    let (store, faults) = Store::memory(StoreId([0; 16]));
    store.attach(Box::new(FakeSeal::default()), &[], Generation::Keep).unwrap();
    store.commit(batch([put("a", 1)])).await.unwrap();
    // The fake seal panics when an old header surprises it.
    faults.tamper(&key("a"), None);
    for _ in 0..2 {
        let failed = store.commit(batch([put("a", 2)])).await;
        assert!(matches!(failed, Err(CommitError::Failed(_))), "{failed:?}");
    }
    assert!(matches!(store.close(), Err(CommitError::Failed(_))));
}

#[tokio::test]
async fn seal_hears_of_each_record_once_it_is_durable() {
    let (store, faults) = Store::memory(StoreId([0; 16]));
    let seal = FakeSeal::default();
    let told = seal.told.clone();
    store.attach(Box::new(seal), &[], Generation::Keep).unwrap();
    store.commit(batch([put("a", 1), put("b", 1)])).await.unwrap();
    store.commit(batch([put("a", 2)])).await.unwrap();
    let seqs: Vec<u64> = told.durable.lock().unwrap().iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [1, 2]);
    let chain = told.durable.lock().unwrap()[1].1;

    let (store, _) = faults.reopen();
    let seal = FakeSeal::default();
    let told = seal.told.clone();
    assert_eq!(
        store.attach(Box::new(seal), &NamedSeq(2).points(), Generation::Keep).unwrap().chain,
        chain
    );
    assert_eq!(*told.replayed.lock().unwrap(), [1, 2]);
}

// Anything, in any order.

#[derive(Clone, Debug)]
enum Act {
    /// Puts and deletes of one batch: key number, record number or none.
    Commit(Vec<(u8, Option<u64>)>),
    /// Writes only if the first key is as the model says, or is not.
    CommitIf {
        holds: bool,
        key: u8,
        put: u64,
    },
    Restart {
        clean: bool,
    },
    LoseIndex,
}

fn act() -> impl Strategy<Value = Act> {
    let write = (0..12_u8, proptest::option::weighted(0.7, any::<u64>()));
    prop_oneof![
        8 => proptest::collection::vec(write, 0..6).prop_map(Act::Commit),
        4 => (any::<bool>(), 0..12_u8, any::<u64>())
            .prop_map(|(holds, key, put)| Act::CommitIf { holds, key, put }),
        1 => any::<bool>().prop_map(|clean| Act::Restart { clean }),
        1 => Just(Act::LoseIndex),
    ]
}

/// What the store must hold.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn write_of((name, record_number): (u8, Option<u64>)) -> Write {
    let length = |n: u64| 64 + (n % 3_000) as usize;
    let record = record_number.map(|n| record_under(ACTIVE_TERM, n, length(n)));
    Write { key: key(&format!("{name:02}")), record }
}

fn apply(model: &mut Model, write: &Write) {
    match &write.record {
        Some(record) => drop(model.insert(write.key.clone(), record.clone())),
        None => drop(model.remove(&write.key)),
    }
}

async fn act_on(subject: InFolder, model: &mut Model, act: Act) -> InFolder {
    match act {
        Act::Commit(writes) => {
            let batch = batch(writes.into_iter().map(write_of).collect::<Vec<_>>());
            batch.writes.iter().for_each(|write| apply(model, write));
            subject.store().commit(batch).await.unwrap();
            subject
        }
        Act::CommitIf { holds, key, put } => {
            let write = write_of((key, Some(put)));
            let present = model.get(&write.key).map(|record| RecordHeader::of(record).unwrap());
            let precondition = match (present, holds) {
                (Some(header), true) => Precondition::Header(write.key.clone(), header),
                (Some(_), false) | (None, true) => Precondition::Absent(write.key.clone()),
                (None, false) => {
                    Precondition::Header(write.key.clone(), RecordHeader::of(&record(0)).unwrap())
                }
            };
            let batch = Batch { preconditions: vec![precondition], writes: vec![write.clone()] };
            let outcome = subject.store().commit(batch).await;
            assert_eq!(outcome.is_ok(), holds, "{outcome:?}");
            if holds {
                apply(model, &write);
            }
            subject
        }
        Act::Restart { clean } => {
            let subject = subject.restarted(clean);
            attach(subject.store()).unwrap();
            subject
        }
        Act::LoseIndex => {
            let mut subject = subject;
            subject.kill();
            fs::remove_dir_all(subject.index()).unwrap();
            subject.store = Some(subject.open().unwrap());
            attach(subject.store()).unwrap();
            subject
        }
    }
}

async fn check(store: &Store, model: &Model) {
    let keys: Vec<Vec<u8>> = model.keys().cloned().collect();
    assert_eq!(store.list(&[], None, 99).await.unwrap(), keys);
    for (key, record) in model {
        assert_eq!(store.get(key).await.unwrap().as_ref(), Some(record));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_history_reads_as_its_model(acts in proptest::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut subject = InFolder::new();
            let mut model = Model::new();
            for act in acts {
                subject = act_on(subject, &mut model, act).await;
                check(subject.store(), &model).await;
            }
        });
    }
}
