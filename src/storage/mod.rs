//! Untrusted bytes: the journal, its index, and the contract of both.
//!
//! The contract is three calls: [`Store::get`], [`Store::list`] and [`Store::commit`] of a
//! [`Batch`], optimistic and without locks. What was committed is in the journal, synced, before
//! the call answers; the index can be thrown away and rebuilt from it at any time.
//!
//! Storage knows no key. What must be sealed with each commit comes from the [`CommitSeal`] that
//! the barrier lends when it attaches. Nothing here judges what a record means.
//!
//! - `batch.rs`: [`Batch`], its limits, [`RecordHeader`]
//! - `hook.rs`: [`CommitSeal`]
//! - `error.rs`: what can go wrong
//! - `opening.rs`: what a store is opened with, and what that finds
//! - `lock.rs`: [`FolderLock`], one process for each data folder
//! - `attach.rs`: verifies snapshot and journal through the hook; `bring_up.rs`: then brings the
//!   index up to date, or makes another
//! - `snapshot.rs`: the state at one sequence; `compact.rs`: makes it from the one before and the
//!   journal, whose newest writes `table.rs` finds; `renew.rs`: makes another index meanwhile;
//!   `usage.rs`: what all that takes
//! - `freeze.rs`: [`freeze`], the files of one state, for a copy
//! - `backend.rs`: what answers reads, sled or memory
//! - `committer.rs`: one thread, many requests, one record, one sync
//! - `record.rs`, `segment.rs`: the journal's bytes; `cursor.rs` reads them
//! - `journal.rs`: appends; `replay.rs`: reads, and judges the journal's end
//! - `sled.rs`: the index, rebuildable at any time; `session.rs`: whether it may be believed;
//!   `recent.rs`: the records used last, in memory; `cache.rs`: how much of it
//! - `examine.rs`: names every damage of a stopped store, without a key
//! - `memory.rs`: the backend of tests, which fails on command
//! - `conformance.rs`: the one suite that every backend passes

mod attach;
mod backend;
mod batch;
mod bring_up;
mod cache;
mod committer;
mod compact;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod crash_tests;
mod cursor;
mod error;
mod examine;
#[cfg(test)]
mod fake;
mod freeze;
mod hook;
mod journal;
mod lock;
pub mod memory;
mod opening;
mod recent;
mod record;
mod renew;
mod replay;
mod segment;
mod session;
mod sled;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod usage;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc as std_mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::oneshot;

use self::{
    attach::Folder, backend::Backend, committer::Committer, compact::Ground, journal::Writer,
};

pub use batch::{
    Batch, MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_OPERATIONS, MAX_RECORD_BYTES, Malformed,
    Precondition, RecordHeader, TooLarge, Write,
};
pub use compact::{Compacted, Erase, Progress, Stage};
pub use error::{
    CommitError, CompactError, Damage, Evidence, IndexError, OpenError, ReadError, WriteError,
};
pub use examine::{Examined, Inspect, Place, examine};
pub use freeze::{Frozen, FrozenFile, StoreFile, freeze};
pub use hook::{
    Change, CommitSeal, HeadAt, HeadPlace, HeadRefused, SnapshotAt, SnapshotSeal, StaleTerm, Tally,
};
pub use lock::{FolderLock, LockError};
pub use opening::{Attached, Generation, NamedSeq, Options, Point, Standing, StoreId};
pub use usage::Usage;

/// What a store makes in its data folder, the lock aside; and where a broken index is kept.
pub const FOLDERS: [&str; 5] = ["journal", "snapshots", "index", "index.2", "index.broken"];

/// How long closing waits before it looks again whether the last read has ended.
const READERS_PAUSE: Duration = Duration::from_micros(100);

/// The index while no commit is under way: see [`Store::hold`].
#[derive(Debug)]
pub struct Held<'a> {
    backend: &'a Backend,
}

/// A key of the index with the header of its record; `None` for what is too short to be one.
pub type Headed = (Vec<u8>, Option<RecordHeader>);

impl Held<'_> {
    /// Up to `limit` keys greater than `after`, ascending, with the headers of their records.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn headers(&self, after: &[u8], limit: usize) -> Result<Vec<Headed>, IndexError> {
        self.backend.headers(after, limit)
    }

    /// The record under a key.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.backend.get(key)
    }
}

/// One store. Clones are handles to the same one; dropping the last waits for the commit that is
/// being written, and writes no Close record.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store_id: StoreId,
    generation: AtomicU64,
    medium: Medium,
    phase: Mutex<Phase>,
    /// Present between attaching and closing. Readers take it without a lock.
    serving: ArcSwapOption<Serving>,
}

#[derive(Debug)]
enum Medium {
    Folder(Folder),
    Memory(Arc<memory::Platter>),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Opened,
    Attached,
    Closed,
}

#[derive(Debug)]
struct Serving {
    index: Arc<ArcSwap<Backend>>,
    committer: Committer,
    /// Of a store in a folder.
    compaction: Option<Compaction>,
}

/// Compaction on command and, in a thread of its own, when it is due.
#[derive(Debug)]
struct Compaction {
    ground: Arc<Ground>,
    /// None on a simulated disk, which tells its calls by their order.
    thread: Option<JoinHandle<()>>,
}

impl Compaction {
    /// Begins to listen for the committer's calls.
    fn start(ground: Ground, calls: std_mpsc::Receiver<()>) -> io::Result<Self> {
        let ground = Arc::new(ground);
        let is_real = ground.folder.disk().is_real();
        let own = Arc::clone(&ground);
        let run = move || own.compact_when_called(&calls);
        let thread = match is_real {
            true => Some(thread::Builder::new().name("kista-compaction".into()).spawn(run)?),
            false => None,
        };
        Ok(Self { ground, thread })
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        let is_own = |thread: &JoinHandle<()>| thread.thread().id() == thread::current().id();
        if self.thread.as_ref().is_some_and(is_own) {
            // What it calls before deleting held the last handle: it ends with the next look.
            return self.ground.stop.store(true, Ordering::Relaxed);
        }
        self.ground.stop();
        if let Some(thread) = self.thread.take() {
            // Its panic has been told by the log.
            drop(thread.join());
        }
    }
}

impl Store {
    /// Creates an empty store in a data folder.
    ///
    /// # Errors
    /// [`OpenError::Exists`] when the folder holds one already, [`OpenError::Io`].
    pub fn create(
        folder: &Path,
        store_id: StoreId,
        generation: u64,
        options: Options,
        _lock: &FolderLock,
    ) -> Result<Self, OpenError> {
        let folder = Folder { path: folder.into(), options };
        let (disk, journal) = (folder.disk(), folder.journal());
        let cannot = |source| OpenError::Io { file: journal.clone(), source };
        disk.create_dir_all(&journal).map_err(cannot)?;
        // A creation that was cut short has left no segment yet: go on where it stopped.
        let segments = segment::list(disk, &journal).map_err(cannot)?;
        let others = [folder.indexes().as_slice(), &[folder.snapshots()]].concat();
        let mut is_there = !segments.is_empty();
        for other in others {
            is_there |= disk.exists(&other).map_err(cannot)?;
        }
        if is_there {
            return Err(OpenError::Exists { folder: folder.path });
        }
        Writer::create(disk, &journal, store_id, generation, folder.options.segment_bytes)?;
        Ok(Self::new(store_id, generation, Medium::Folder(folder)))
    }

    /// Opens the store of a data folder and checks the structure of snapshot and journal, which
    /// needs no key. Nothing is changed, and nothing can be read before [`attach`](Self::attach).
    ///
    /// # Errors
    /// [`OpenError::NoStore`], [`OpenError::Damaged`] naming file and offset, [`OpenError::Io`].
    pub fn open(folder: &Path, options: Options, _lock: &FolderLock) -> Result<Self, OpenError> {
        let folder = Folder { path: folder.into(), options };
        let end = attach::check_structure(&folder)?;
        Ok(Self::new(end.header.store_id, end.header.generation, Medium::Folder(folder)))
    }

    /// Opens the store of a data folder without checking more than whose it is: attaching checks
    /// all that [`open`](Self::open) does, and takes less time alone.
    ///
    /// # Errors
    /// [`OpenError::NoStore`], [`OpenError::Damaged`] naming file and offset, [`OpenError::Io`].
    pub fn find(folder: &Path, options: Options, _lock: &FolderLock) -> Result<Self, OpenError> {
        let folder = Folder { path: folder.into(), options };
        let header = replay::newest_header(folder.disk(), &folder.journal())?;
        Ok(Self::new(header.store_id, header.generation, Medium::Folder(folder)))
    }

    /// An empty store in memory, of generation 1, and the other end that makes it fail.
    pub fn memory(store_id: StoreId) -> (Self, memory::Faults) {
        Self::on_platter(store_id, memory::Platter::default())
    }

    fn on_platter(store_id: StoreId, platter: memory::Platter) -> (Self, memory::Faults) {
        let platter = Arc::new(platter);
        let store = Self::new(store_id, 1, Medium::Memory(Arc::clone(&platter)));
        (store, memory::Faults::new(store_id, platter))
    }

    fn new(store_id: StoreId, generation: u64, medium: Medium) -> Self {
        let (generation, phase) = (AtomicU64::new(generation), Mutex::new(Phase::Opened));
        let serving = ArcSwapOption::empty();
        Self { inner: Arc::new(Inner { store_id, generation, medium, phase, serving }) }
    }

    /// The store's name.
    pub fn store_id(&self) -> StoreId {
        self.inner.store_id
    }

    /// Counts restores and accepted rollbacks, from 1.
    pub fn generation(&self) -> u64 {
        self.inner.generation.load(Ordering::Relaxed)
    }

    /// Verifies every head behind the newest snapshot through `seal`, brings the index up to date
    /// and begins to serve. `points` are commits that are named elsewhere.
    ///
    /// Blocking, and slow when the index must be rebuilt (about 20 s for a million records): call
    /// it off the async threads. Nothing reaches the index before the whole journal is verified.
    /// After an error the call can be repeated with another seal.
    ///
    /// # Errors
    /// [`OpenError`]: damage, a head that is not accepted, or a file that cannot be used.
    pub fn attach(
        &self,
        mut seal: Box<dyn CommitSeal>,
        points: &[Point],
        generation: Generation,
    ) -> Result<Attached, OpenError> {
        let mut phase = self.phase();
        match *phase {
            Phase::Opened => {}
            Phase::Attached => return Err(OpenError::Attached),
            Phase::Closed => return Err(OpenError::Closed),
        }
        let store_id = self.inner.store_id;
        let opened = match &self.inner.medium {
            Medium::Folder(folder) => {
                attach::folder(folder, store_id, seal.as_mut(), points, generation)?
            }
            Medium::Memory(platter) => attach::memory(platter, store_id, seal.as_mut(), points)?,
        };
        let attached = opened.attached.clone();
        let serving = self.serve(opened, seal).map_err(OpenError::Thread)?;
        self.inner.serving.store(Some(Arc::new(serving)));
        self.inner.generation.store(attached.generation, Ordering::Relaxed);
        *phase = Phase::Attached;
        Ok(attached)
    }

    /// Starts the threads.
    fn serve(&self, opened: attach::Opened, seal: Box<dyn CommitSeal>) -> io::Result<Serving> {
        let store_id = self.inner.store_id;
        let index = Arc::new(ArcSwap::from_pointee(opened.backend));
        let figures = Arc::new(opened.figures);
        let snapshots = compact::Snapshots(seal.snapshots());
        let folder = match &self.inner.medium {
            Medium::Folder(folder) => Some(folder.clone()),
            Medium::Memory(_) => None,
        };
        let (call, calls) = std_mpsc::sync_channel(1);
        let committer = Committer::start(committer::Start {
            store_id,
            index: Arc::clone(&index),
            log: opened.log,
            seal,
            seq: opened.attached.seq,
            chain: opened.attached.chain,
            figures: Arc::clone(&figures),
            folder: folder.clone(),
            compaction: folder.is_some().then_some(call),
            failed: None,
        })?;
        let ground = folder.map(|folder| Ground {
            folder,
            store_id,
            snapshots,
            before_deleting: OnceLock::new(),
            index: Arc::clone(&index),
            figures,
            committer: committer.weak_submitter(),
            one: Mutex::new(()),
            stop: AtomicBool::new(false),
        });
        let compaction = ground.map(|ground| Compaction::start(ground, calls)).transpose()?;
        Ok(Serving { index, committer, compaction })
    }

    /// The record under a key. Reads never wait for a sync; two reads may straddle a commit.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let serving = self.inner.serving.load();
        let serving = serving.as_ref().ok_or(ReadError::Closed)?;
        serving.index.load().get(key).map_err(ReadError::Index)
    }

    /// Up to `limit` keys that begin with `prefix` and are greater than `after`, ascending.
    ///
    /// `after` may be any bytes: a caller skips a subtree by naming the end of it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        let serving = self.inner.serving.load();
        let serving = serving.as_ref().ok_or(ReadError::Closed)?;
        serving.index.load().list(prefix, after, limit).map_err(ReadError::Index)
    }

    /// The lowest key that there is.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn first_key(&self) -> Result<Option<Vec<u8>>, ReadError> {
        let serving = self.inner.serving.load();
        let serving = serving.as_ref().ok_or(ReadError::Closed)?;
        let first = serving.index.load().list(&[], None, 1).map_err(ReadError::Index)?;
        Ok(first.into_iter().next())
    }

    /// Commits a batch whole or not at all, and returns the sequence of its journal record.
    ///
    /// When it answers, the batch is synced to the disk and readable. A call that is dropped while
    /// waiting may still be written.
    ///
    /// # Errors
    /// [`CommitError`]; nothing was written, except perhaps after [`CommitError::Failed`].
    pub async fn commit(&self, batch: Batch) -> Result<u64, CommitError> {
        let bytes = batch.check()?;
        let submitter = {
            let serving = self.inner.serving.load();
            serving.as_ref().ok_or(CommitError::Closed)?.committer.submitter()
        };
        let answer = submitter.submit(batch, bytes).await;
        answer.unwrap_or_else(|| match self.inner.serving.load().as_ref() {
            Some(_) => Err(CommitError::Failed(Arc::new(WriteError::Stopped))),
            None => Err(CommitError::Closed),
        })
    }

    /// Runs `look` on the committer's thread between two groups of commits: everything committed
    /// before is in the index, and nothing is half done. Every commit waits for it, so it is short.
    ///
    /// # Errors
    /// [`ReadError::Closed`].
    pub async fn hold<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Held<'_>) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        let submitter = {
            let serving = self.inner.serving.load();
            serving.as_ref().ok_or(ReadError::Closed)?.committer.submitter()
        };
        let (answer, answered) = oneshot::channel();
        let look = Box::new(move |state: &mut committer::Start| {
            // Nobody listens when the caller was dropped while waiting.
            drop(answer.send(look(&Held { backend: &state.index.load() })));
        });
        submitter.look(look).await.ok_or(ReadError::Closed)?;
        answered.await.map_err(|_| ReadError::Closed)
    }

    /// Writes the Close record, syncs the index and ends serving; every later call answers Closed.
    /// When it returns, the folder can be opened again.
    ///
    /// Blocking: call it off the async threads. Closing what is closed, or was never attached,
    /// writes nothing.
    ///
    /// # Errors
    /// [`CommitError::Failed`] when the Close record could not be written, or the index not be
    /// synced; closed it is anyway.
    pub fn close(&self) -> Result<(), CommitError> {
        let mut phase = self.phase();
        *phase = Phase::Closed;
        let Some(mut serving) = self.inner.serving.swap(None) else {
            return Ok(());
        };
        if let Some(compaction) = &serving.compaction {
            compaction.ground.stop();
        }
        let outcome = serving.committer.close();
        // Reads that began before end within microseconds; the index closes with the last one.
        while let Err(shared) = Arc::try_unwrap(serving) {
            serving = shared;
            thread::sleep(READERS_PAUSE);
        }
        outcome.map_err(CommitError::Failed)
    }

    /// Makes a new snapshot from the one before and the journal, and deletes what it replaces.
    /// `hear` is told how far it is.
    ///
    /// Blocking, and as long as it takes to read and write all there is: call it off the async
    /// threads. Reading and committing go on meanwhile. It gives up when the store is closed.
    ///
    /// # Errors
    /// [`CompactError`]; all records are there as before.
    pub fn compact(
        &self,
        erase: Erase,
        mut hear: impl FnMut(Progress),
    ) -> Result<Compacted, CompactError> {
        match self.ground()? {
            Some(ground) => ground.compact(erase, &mut hear),
            None => Ok(Compacted::default()),
        }
    }

    /// Has every compaction from now on call this before it deletes anything. Set once, right
    /// after attaching.
    pub fn before_deleting(&self, call: impl Fn() + Send + Sync + 'static) {
        if let Ok(Some(ground)) = self.ground() {
            drop(ground.before_deleting.set(compact::BeforeDeleting(Box::new(call))));
        }
    }

    /// Changes the index behind the store's back, as one who can write to the disk may: the
    /// journal and the state know nothing of it.
    #[cfg(test)]
    pub(crate) fn tamper(&self, key: &[u8], record: Option<&[u8]>) {
        let serving = self.inner.serving.load();
        match &**serving.as_ref().unwrap().index.load() {
            Backend::Sled(index) => index.tamper(key, record),
            Backend::Memory(platter) => platter.change([(key, record)].into_iter()),
        }
    }

    /// Builds a new index from snapshot and journal, and serves from it: for when the records are
    /// not those that were committed. Blocking; reading and committing go on meanwhile.
    ///
    /// # Errors
    /// [`CompactError`]; the old index still serves.
    pub fn rebuild_index(&self) -> Result<(), CompactError> {
        match self.ground()? {
            Some(ground) => ground.rebuild_index(),
            None => {
                if let Medium::Memory(platter) = &self.inner.medium {
                    platter.rebuild_index(self.inner.store_id);
                }
                Ok(())
            }
        }
    }

    /// What the store takes on the disk; nothing in memory.
    ///
    /// # Errors
    /// What the system says.
    pub fn usage(&self) -> io::Result<Usage> {
        let Medium::Folder(folder) = &self.inner.medium else { return Ok(Usage::default()) };
        let serving = self.inner.serving.load();
        let index = serving.as_ref().map(|serving| serving.index.load().bytes());
        usage::of(folder, index.transpose().map_err(io::Error::other)?)
    }

    /// Whether the disk fills up: some time before nothing can be written.
    pub fn is_space_low(&self) -> bool {
        let Medium::Folder(folder) = &self.inner.medium else { return false };
        let free = folder.disk().free_bytes(&folder.path);
        free.is_ok_and(|free| usage::is_low(free, folder.options.reserve_bytes))
    }

    /// What compaction works on; none in memory.
    fn ground(&self) -> Result<Option<Arc<Ground>>, CompactError> {
        let serving = self.inner.serving.load();
        let serving = serving.as_ref().ok_or(CompactError::Closed)?;
        Ok(serving.compaction.as_ref().map(|compaction| Arc::clone(&compaction.ground)))
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.inner.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
