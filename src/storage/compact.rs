use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, TryLockError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::{
    Backend, CompactError, OpenError, SnapshotSeal, StoreId,
    attach::{self, Failed, Folder},
    committer::{Start, WeakSubmit},
    replay::Base,
    segment,
    snapshot::{self, Snapshot, Writer},
    table::Table,
    usage::Figures,
};
use crate::disk::if_there;

/// The keys of the journal's part that is merged at once take this much memory; a longer journal
/// is merged in several steps.
pub(super) const TABLE_BYTES: usize = 48 * 1024 * 1024;
/// After so many bytes compaction rests for twice as long as it has worked, so that clients hardly
/// notice it…
const REST_AFTER_BYTES: usize = 128 * 1024;
/// … as if it had worked no longer than this.
const LONGEST_REST: Duration = Duration::from_millis(20);
/// The index is built anew when it takes this many times what is in it…
const BLOATED: u64 = 4;
/// … and more than this.
const BLOATED_BYTES: u64 = 64 * 1024 * 1024;
/// How long a failed compaction is not tried again by itself.
const RETRY: Duration = Duration::from_secs(60);

/// Whether deleted records may stay in older files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erase {
    /// The generation before stays until the next compaction, in case the new one is damaged.
    No,
    /// Nothing older stays: no snapshot, no segment, no index.
    Yes,
}

/// What compaction is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reads the journal.
    Reading,
    /// Writes the new snapshot.
    Writing,
    /// Reads it back.
    Checking,
    /// Is about to delete what the new snapshot replaces.
    Deleting,
    /// Builds a new index.
    Indexing,
}

/// How far a compaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// Bytes done in it.
    pub done: u64,
    /// Bytes that there are to do in it, about.
    pub total: u64,
}

/// What a compaction has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Sequence of the new snapshot; 0 when there was nothing to compact.
    pub seq: u64,
    /// Records in it.
    pub records: u64,
    /// Its length in bytes.
    pub snapshot_bytes: u64,
    /// Whether the index was built anew.
    pub index_rebuilt: bool,
}

/// What compaction works on. The one who opened the store and the thread in the background share
/// it; it holds no way in that would keep the committer alive.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) folder: Folder,
    pub(super) store_id: StoreId,
    pub(super) snapshots: Snapshots,
    pub(super) before_deleting: OnceLock<BeforeDeleting>,
    pub(super) index: Arc<ArcSwap<Backend>>,
    pub(super) figures: Arc<Figures>,
    pub(super) committer: WeakSubmit,
    /// One compaction at a time.
    pub(super) one: Mutex<()>,
    pub(super) stop: AtomicBool,
}

/// The seal of snapshots, which shows nothing of itself.
#[derive(Clone)]
pub(super) struct Snapshots(pub(super) Arc<dyn SnapshotSeal>);

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snapshots")
    }
}

/// What is called before a compaction deletes anything, on its thread; commits go on meanwhile.
pub(super) struct BeforeDeleting(pub(super) Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for BeforeDeleting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BeforeDeleting")
    }
}

/// Hears how far a compaction is.
pub(super) type Hear<'h> = dyn FnMut(Progress) + 'h;

impl Ground {
    /// Compacts the store.
    pub(super) fn compact(
        &self,
        erase: Erase,
        hear: &mut Hear<'_>,
    ) -> Result<Compacted, CompactError> {
        let _one = self.alone()?;
        self.compact_alone(erase, hear)
    }

    /// Builds a new index from the newest snapshot and the journal, and serves from it.
    pub(super) fn rebuild_index(&self) -> Result<(), CompactError> {
        let _one = self.alone()?;
        if !self.folder.disk().is_real() {
            return Ok(());
        }
        self.over_bases(&mut |snapshot| self.renew_index(snapshot, &mut |_| {}))
    }

    /// Compacts whenever the committer calls, until it is gone.
    pub(super) fn compact_when_called(&self, calls: &mpsc::Receiver<()>) {
        let mut rest: Option<Instant> = None;
        while calls.recv().is_ok() {
            if rest.is_some_and(|until| Instant::now() < until)
                || !self.figures.is_due(&self.folder.options)
            {
                continue;
            }
            rest = match self.compact(Erase::No, &mut |_| {}) {
                Ok(_) => None,
                Err(CompactError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "the store could not be compacted; it is tried again");
                    Some(Instant::now() + RETRY)
                }
            };
        }
    }

    /// Has a running compaction give up, and waits until it has.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.one.lock());
    }

    fn alone(&self) -> Result<MutexGuard<'_, ()>, CompactError> {
        match self.one.try_lock() {
            Ok(one) => Ok(one),
            // It guards nothing that could be half done.
            Err(TryLockError::Poisoned(one)) => Ok(one.into_inner()),
            Err(TryLockError::WouldBlock) => Err(CompactError::Running),
        }
    }

    fn compact_alone(&self, erase: Erase, hear: &mut Hear<'_>) -> Result<Compacted, CompactError> {
        let folder = self.folder.snapshots();
        let disk = self.folder.disk();
        let prepare = || {
            disk.create_dir_all(&folder)?;
            disk.sync_dir(&self.folder.path)?;
            snapshot::remove_leftovers(disk, &folder)
        };
        prepare().map_err(|source| CompactError::Io { file: folder.clone(), source })?;
        while !self.ask(Start::is_segment_ready)? {
            self.check_stop()?;
            thread::sleep(LONGEST_REST);
        }
        let Some(goal) = self.ask(Start::roll)?? else {
            return Ok(Compacted::default());
        };
        let (new, before) = self.over_bases(&mut |base| {
            let new = self.merge(base, goal, hear)?;
            Ok((new, base.map_or_else(Base::default, |base| base.base)))
        })?;
        self.figures.compacted(goal.counted, new.bytes);
        self.delete(&new, before, erase, hear)?;
        let index_rebuilt = disk.is_real() && self.is_index_due(&new, erase)?;
        if index_rebuilt {
            let renewed = self.renew_index(Some(&new), hear);
            renewed.map_err(Unmade::into_error)?;
        }
        let Snapshot { base, records, bytes, .. } = new;
        Ok(Compacted { seq: base.seq, records, snapshot_bytes: bytes, index_rebuilt })
    }

    /// Tries the snapshots from the newest on, then the journal's begin.
    fn over_bases<T>(
        &self,
        attempt: &mut dyn FnMut(Option<&Snapshot>) -> Result<T, Unmade>,
    ) -> Result<T, CompactError> {
        let mut first = None;
        for (seq, path) in self.folder.bases()? {
            let snapshot = attach::usable(&self.folder, seq, &path);
            let made = match snapshot {
                Ok(snapshot) => attempt(Some(&snapshot)),
                Err(error) => Err(Unmade::Base(error.into())),
            };
            match made {
                Err(Unmade::Base(error)) => {
                    tracing::warn!(%error, "a snapshot is damaged; the one before it is taken");
                    first.get_or_insert(error);
                }
                Err(Unmade::Other(error)) => return Err(error),
                Ok(made) => return Ok(made),
            }
        }
        attempt(None).map_err(|unmade| match (unmade, first) {
            // Without the journal's begin it is the damaged snapshot that is to blame.
            (Unmade::Other(CompactError::Unreadable(_)), Some(first)) => first,
            (unmade, _) => unmade.into_error(),
        })
    }

    /// Merges a snapshot with the journal behind it, in as many steps as memory asks for, and
    /// returns the new snapshot, in its place and read back.
    fn merge(
        &self,
        base: Option<&Snapshot>,
        goal: Goal,
        hear: &mut Hear<'_>,
    ) -> Result<Snapshot, Unmade> {
        let (disk, folder) = (self.folder.disk(), self.folder.snapshots());
        let cannot = |source| CompactError::Io { file: folder.clone(), source };
        let mut pace = Pace::new(self);
        let mut step: Option<Snapshot> = None;
        for number in 0_u32.. {
            let from = step.as_ref().or(base);
            let before = from.map_or_else(Base::default, |from| from.base);
            let mut read = 0;
            let table = Table::gather(
                &self.folder,
                before,
                goal.seq,
                self.folder.options.table_bytes,
                &mut |bytes| {
                    read += bytes as u64;
                    let total = goal.counted.0.max(read);
                    pace.took(bytes, hear, Progress { stage: Stage::Reading, done: read, total })
                },
            )?;
            let finished = self.write(number, from, &table, &mut pace, hear)?;
            if table.base.seq == goal.seq {
                let path = finished.install(disk, &folder, goal.seq).map_err(cannot)?;
                let checked = self.check(&path, goal.seq, &mut pace, hear);
                if checked.is_err() {
                    // What cannot be read back is worth less than what it would have replaced.
                    disk.remove_file(&path).map_err(cannot)?;
                    disk.sync_dir(&folder).map_err(cannot)?;
                }
                snapshot::remove_leftovers(disk, &folder).map_err(cannot)?;
                return checked.map_err(Unmade::Other);
            }
            step = Some(Snapshot::open(disk, &finished.path).map_err(CompactError::from)?);
        }
        Err(Unmade::Other(CompactError::Closed))
    }

    /// Writes the state that a table leads to, and checks that it is what was committed.
    fn write(
        &self,
        number: u32,
        from: Option<&Snapshot>,
        table: &Table,
        pace: &mut Pace<'_>,
        hear: &mut Hear<'_>,
    ) -> Result<snapshot::Finished, Unmade> {
        let (disk, folder) = (self.folder.disk(), self.folder.snapshots());
        let total = table.put_bytes() + from.map_or(0, |from| from.bytes);
        self.check_space(total)?;
        let not_the_state = |reason| CompactError::NotTheState { seq: table.base.seq, reason };
        let head = table.head().ok_or(CompactError::Closed)?;
        let mut tally = self.snapshots.0.tally(&head).map_err(not_the_state)?;
        let cannot = |source| CompactError::Io { file: folder.clone(), source };
        let mut writer =
            Writer::create(disk, &folder, number, self.store_id, table.base).map_err(cannot)?;
        let mut done = 0;
        let mut emit = |key: &[u8], record: &[u8]| -> Result<(), CompactError> {
            if let Some(header) = super::RecordHeader::of(record) {
                tally.add(key, &header);
            }
            writer.add(key, record).map_err(cannot)?;
            let bytes = 8 + key.len() + record.len();
            done += bytes as u64;
            pace.took(bytes, hear, Progress { stage: Stage::Writing, done, total })
        };
        let mut old = match from {
            Some(from) => Some(from.entries(disk).map_err(base_damaged)?),
            None => None,
        };
        let mut records = table.records(disk);
        let mut has_old = advance(&mut old)?;
        for (key, put) in table.writes() {
            while let Some(entries) = old.as_ref().filter(|old| has_old && old.entry().0 < key) {
                emit(entries.entry().0, entries.entry().1)?;
                has_old = advance(&mut old)?;
            }
            if old.as_ref().is_some_and(|old| has_old && old.entry().0 == key) {
                has_old = advance(&mut old)?;
            }
            if let Some(put) = put {
                emit(key, records.read(put)?)?;
            }
        }
        while let Some(entries) = old.as_ref().filter(|_| has_old) {
            emit(entries.entry().0, entries.entry().1)?;
            has_old = advance(&mut old)?;
        }
        // It is the base that is wrong: the chain vouches for the rest.
        tally.check().map_err(not_the_state).map_err(Unmade::Base)?;
        Ok(writer.finish(|digest| tally.seal(digest)).map_err(cannot)?)
    }

    /// Reads a new snapshot back.
    fn check(
        &self,
        path: &Path,
        seq: u64,
        pace: &mut Pace<'_>,
        hear: &mut Hear<'_>,
    ) -> Result<Snapshot, CompactError> {
        let disk = self.folder.disk();
        let new = attach::usable(&self.folder, seq, path)?;
        let refused = |reason| CompactError::NotTheState { seq, reason };
        let mut tally = self.snapshots.0.tally_snapshot(&new.at()).map_err(refused)?;
        let mut entries = new.entries(disk)?;
        while entries.advance()? {
            let (key, record) = entries.entry();
            if let Some(header) = entries.header() {
                tally.add(key, &header);
            }
            let bytes = key.len() + record.len();
            let (done, total) = (entries.offset(), new.bytes);
            pace.took(bytes, hear, Progress { stage: Stage::Checking, done, total })?;
        }
        tally.check().map_err(refused)?;
        Ok(new)
    }

    /// Deletes what the new snapshot replaces: all but the generation that it was made from, or
    /// that too.
    fn delete(
        &self,
        new: &Snapshot,
        before: Base,
        erase: Erase,
        hear: &mut Hear<'_>,
    ) -> Result<(), CompactError> {
        hear(Progress { stage: Stage::Deleting, done: 0, total: 0 });
        if let Some(BeforeDeleting(call)) = self.before_deleting.get() {
            call();
            // A store that is closing takes no commits, so that the call may have come to nothing.
            self.check_stop()?;
        }
        // With the segments goes what an index that lost its newest writes could catch up from.
        self.index.load().write_out().map_err(CompactError::Index)?;
        let kept = match erase {
            Erase::No => before.seq,
            Erase::Yes => new.base.seq,
        };
        let disk = self.folder.disk();
        let (snapshots, journal) = (self.folder.snapshots(), self.folder.journal());
        let cannot = |file: &PathBuf, source| CompactError::Io { file: file.clone(), source };
        // The snapshot goes before the segments that it needs.
        let mut stale = Vec::new();
        for (seq, path) in self.folder.bases()? {
            if seq != new.base.seq && seq != kept {
                stale.push(path);
            }
        }
        remove(&self.folder, &snapshots, stale)?;
        let segments = segment::list(disk, &journal).map_err(|source| cannot(&journal, source))?;
        let behind = segments.iter().skip(1).map(|(first_seq, _)| *first_seq);
        let stale = segments
            .iter()
            .zip(behind)
            .filter(|(_, behind)| *behind <= kept + 1)
            .map(|((_, path), _)| path.clone());
        remove(&self.folder, &journal, stale.collect())
    }

    fn is_index_due(&self, new: &Snapshot, erase: Erase) -> Result<bool, CompactError> {
        let bytes = self.index.load().bytes().map_err(CompactError::Index)?;
        let is_bloated = bytes > (BLOATED * new.bytes).max(BLOATED_BYTES);
        Ok(erase == Erase::Yes || is_bloated)
    }

    /// Asks the committer's thread for something, between two groups of commits.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Start) -> R + Send + 'static,
    ) -> Result<R, CompactError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let asked = self.committer.between(Box::new(move |state: &mut Start| {
            drop(answer.send(question(state)));
        }));
        if asked {
            answered.recv().map_err(|_| CompactError::Closed)
        } else {
            Err(CompactError::Closed)
        }
    }

    fn check_space(&self, needed: u64) -> Result<(), CompactError> {
        let folder = &self.folder.path;
        let free = self.folder.disk().free_bytes(folder);
        let free = free.map_err(|source| CompactError::Io { file: folder.clone(), source })?;
        let needed = needed + self.folder.options.reserve_bytes;
        if free < needed { Err(CompactError::NoSpace { free, needed }) } else { Ok(()) }
    }

    pub(super) fn check_stop(&self) -> Result<(), CompactError> {
        if self.stop.load(Ordering::Relaxed) { Err(CompactError::Closed) } else { Ok(()) }
    }
}

/// What the committer answers when a compaction begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    /// The last sequence before the new segment.
    pub(super) seq: u64,
    /// What stands behind the newest snapshot up to there.
    pub(super) counted: (u64, u64),
}

/// Why something could not be made from a snapshot.
pub(super) enum Unmade {
    /// The snapshot is damaged; one before it may do.
    Base(CompactError),
    Other(CompactError),
}

impl Unmade {
    fn into_error(self) -> CompactError {
        match self {
            Self::Base(error) | Self::Other(error) => error,
        }
    }
}

impl From<CompactError> for Unmade {
    fn from(error: CompactError) -> Self {
        Self::Other(error)
    }
}

impl From<OpenError> for Unmade {
    fn from(error: OpenError) -> Self {
        Self::Other(if let OpenError::Index(error) = error {
            CompactError::Index(error)
        } else if matches!(error, OpenError::Closed) {
            CompactError::Closed
        } else {
            CompactError::Unreadable(error)
        })
    }
}

impl From<Failed> for Unmade {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Snapshot(error) => Self::Base(error.into()),
            Failed::Other(error) => error.into(),
        }
    }
}

fn base_damaged(error: OpenError) -> Unmade {
    Unmade::Base(error.into())
}

fn advance(entries: &mut Option<snapshot::Entries<'_>>) -> Result<bool, Unmade> {
    match entries {
        Some(entries) => entries.advance().map_err(base_damaged),
        None => Ok(false),
    }
}

/// Removes files of one folder, one after the other, and makes that durable.
fn remove(folder: &Folder, of: &Path, files: Vec<PathBuf>) -> Result<(), CompactError> {
    let disk = folder.disk();
    for file in &files {
        if_there(disk.remove_file(file))
            .map_err(|source| CompactError::Io { file: file.clone(), source })?;
    }
    if files.is_empty() {
        return Ok(());
    }
    disk.sync_dir(of).map_err(|source| CompactError::Io { file: of.into(), source })
}

/// Keeps compaction from taking all of a disk and a processor.
pub(super) struct Pace<'g> {
    ground: &'g Ground,
    bytes: usize,
    began: Instant,
}

impl<'g> Pace<'g> {
    pub(super) fn new(ground: &'g Ground) -> Self {
        Self { ground, bytes: 0, began: Instant::now() }
    }

    pub(super) fn took(
        &mut self,
        bytes: usize,
        hear: &mut Hear<'_>,
        progress: Progress,
    ) -> Result<(), CompactError> {
        self.bytes += bytes;
        if self.bytes < REST_AFTER_BYTES {
            return Ok(());
        }
        self.ground.check_stop()?;
        hear(progress);
        if self.ground.folder.disk().is_real() {
            thread::sleep(self.began.elapsed().min(LONGEST_REST) * 2);
        }
        (self.bytes, self.began) = (0, Instant::now());
        Ok(())
    }
}
