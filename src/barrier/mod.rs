//! The wall: everything that storage keeps is sealed here.
//!
//! A [`Barrier`] stands over one attached store. It seals values and names (FORMAT.md 4 and 5),
//! lends storage the seal that covers each commit (2.5, 2.7), and hands out [`MountView`]s, the
//! only sight of storage that the floors above get. It judges no caller and knows no engine.
//!
//! - `keyring/`: [`Keyring`], the random keys; `term.rs`: what one term seals with
//! - `read.rs`: from a path to its value, whatever changes meanwhile
//! - `record.rs`: one sealed record; `large.rs`: a value in chunks
//! - `names.rs`: encrypted segments; `space.rs`: paths to keys; `listing.rs`: keys to names
//! - `paging.rs`: a page of a folder; `roster.rs`: the sorted names of large folders, in memory,
//!   and what commits mark in them; `sheet.rs`: one such list, compact
//! - `moving.rs`: names that come under another key, and their records with them
//! - `rotation.rs`: terms that come and go; sealing records again under the newest
//! - `erasure.rs`: that what was removed leaves every file
//! - `state.rs`: the multiset sum; `head.rs`: the sealed head; `state_seal.rs`: the hook for
//!   storage; `snapshot.rs`: the same for snapshots
//! - `scan.rs`: sees and opens every record; `watch.rs`: what the seal keeps for that;
//!   `tally.rs`: the sums met; `freshness.rs`: the newest record of each key; `finding.rs`
//! - `inspect.rs`: the same of a stopped store, file by file
//! - `view.rs`: [`MountView`]; `batch.rs`: [`Batch`]; `collection.rs`: [`Collection`]
//! - `error.rs`: what can go wrong; `fields.rs`: reading fixed layouts

mod batch;
mod collection;
mod erasure;
mod error;
mod fields;
mod finding;
mod freshness;
mod head;
mod inspect;
mod keyring;
mod large;
mod listing;
mod moving;
mod names;
mod page;
mod paging;
mod read;
mod record;
mod roster;
#[cfg(test)]
mod roster_tests;
mod rotation;
mod scan;
#[cfg(test)]
mod scan_tests;
mod sheet;
mod snapshot;
mod space;
mod state;
mod state_seal;
mod tally;
mod term;
mod view;
mod watch;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    fmt, io,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::AtomicUsize},
};

use arc_swap::ArcSwap;

pub use batch::{Batch, Expected};
pub(crate) use collection::with_zeros;
pub use collection::{Collection, Held, Record};
pub use erasure::EraseError;
pub use error::{CommitError, OpenError, ReadError};
pub use finding::{Fault, Finding};
pub use head::{Checkpoint, Head};
pub use inspect::Inspector;
pub use keyring::{AuditKeys, Keyring, KeyringError, TermSummary};
pub use listing::Entry;
pub use moving::Moved;
pub use names::{MAX_PATH_BYTES, MAX_SEGMENT_BYTES, MAX_SEGMENTS, PathError, check_name};
pub use page::{Named, Page};
pub use rotation::{AdoptError, Rewrapped};
pub use scan::{Pace, Progress, Reads, ScanError, Scanned, Verified};
pub use space::{NamesGeneration, SpaceId};
pub use state_seal::{AuditMark, Position};
pub use term::TermId;
pub use view::{MountView, Stored};

use crate::{
    clock::Clock,
    crypto::mac::Mac,
    storage::{
        self, CompactError, Compacted, Erase, Generation, NamedSeq, Point, Precondition,
        RecordHeader, Standing, Store, Usage, Write,
    },
};
use batch::{Action, Operation};
use space::Space;
use state::State;
use state_seal::{Shared, StateSeal};
use term::{SharedTerms, Term, Terms};

/// No value has more chunks, whatever batch wrote it.
const MAX_CHUNKS: u32 = 205;
const _: () = assert!(
    MAX_CHUNKS as usize * record::MAX_VALUE_BYTES > storage::MAX_BATCH_BYTES,
    "a longer value fits no batch"
);
/// How many chunks a write without an expectation takes to be there beyond those it finds, one
/// attempt after the other: the last takes in all that there can be, and so cannot be overtaken.
const SPARE_CHUNKS: [u32; 4] = [0, 4, 32, MAX_CHUNKS];

/// An attached store and its keys. Dropping the last handle and view wipes the keys.
pub struct Barrier {
    store: Store,
    keyring: ArcSwap<Keyring>,
    terms: SharedTerms,
    token_mac: Mac,
    shared: Arc<Shared>,
    spaces: Mutex<HashMap<SpaceId, Weak<Space>>>,
    /// Shared by commits, from the moment in which they settle their keys: names change in none.
    renaming: tokio::sync::RwLock<()>,
    /// One scan at a time.
    scanning: tokio::sync::Mutex<()>,
    /// How many erasures run.
    erasing: AtomicUsize,
    clock: Arc<dyn Clock>,
}

/// What is claimed of a store elsewhere, when it is opened.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// Epoch of the seal file that opened.
    pub seal_epoch: u64,
    /// Commits that anchors and synced audit checkpoints name.
    pub points: &'a [Point],
    /// Whether the store goes on as it was.
    pub generation: Generation,
}

/// What opening found.
#[derive(Debug)]
pub struct Opened {
    /// The sequence of an unfinished commit that was cut from the journal's end; to be reported.
    pub cut: Option<u64>,
    /// The index was rebuilt from the journal; to be reported.
    pub index_rebuilt: bool,
    /// What the store says of each point that is named elsewhere.
    pub points: Vec<Standing>,
    /// Snapshots that could not be used, a sentence each; to be reported.
    pub damaged: Vec<String>,
    /// The newest head; `None` in a new store.
    pub head: Option<Head>,
}

impl Barrier {
    /// Attaches a store under its keyring: every head of its journal must open and follow from the
    /// one before. `seal_epoch` is that of the seal file that opened; `named` the highest sequence
    /// that an anchor or a synced audit checkpoint names.
    ///
    /// Blocking, and slow when the index must be rebuilt: call it off the async threads. Nothing
    /// has been changed after an error.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        store: Store,
        keyring: Keyring,
        seal_epoch: u64,
        named: NamedSeq,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, Opened), OpenError> {
        let points = named.points();
        let claims = Claims { seal_epoch, points: &points, generation: Generation::Keep };
        Self::open_with(store, keyring, claims, clock)
    }

    /// Like [`open`](Self::open), with all that is claimed of the store elsewhere.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(
        store: Store,
        keyring: Keyring,
        claims: Claims<'_>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, Opened), OpenError> {
        let Claims { seal_epoch, points, generation } = claims;
        let store_id = store.store_id();
        if keyring.store_id() != store_id {
            return Err(OpenError::ForeignStore { keyring: keyring.store_id(), store: store_id });
        }
        let terms: SharedTerms = Arc::new(ArcSwap::from_pointee(keyring.terms()?));
        let shared = Arc::new(Shared::new(store.generation()));
        let seal = StateSeal::new(
            store_id,
            Arc::clone(&terms),
            seal_epoch,
            Arc::clone(&clock),
            Arc::clone(&shared),
        );
        let attached = store.attach(Box::new(seal), points, generation);
        let replayed = shared.take_replayed();
        if let Some(needed) = replayed.epoch_needed {
            return Err(OpenError::RollbackDetected { given: seal_epoch, needed });
        }
        let attached = attached?;
        moving::check_names(&store, &keyring)?;
        if keyring.old_names_generation().is_some() {
            // Before a record lies under names that an older seal file does not know.
            shared.ask_seal_epoch(seal_epoch);
        }
        let head = replayed.newest;
        if head.as_ref().map_or(0, |head| head.seq) != attached.seq {
            return Err(OpenError::HeadMissing);
        }
        shared.stands_at(attached.seq, attached.chain);
        shared.watch.settle(&State::of(head.as_ref().map_or(&[], |head| &head.terms)));
        let keyring = match &head {
            Some(head) => rotation::settle(keyring, head, &terms)?,
            None => keyring,
        };
        let token_mac = keyring.token_mac();
        let barrier = Arc::new(Self {
            store,
            keyring: ArcSwap::from_pointee(keyring),
            terms,
            token_mac,
            shared,
            spaces: Mutex::default(),
            renaming: tokio::sync::RwLock::default(),
            scanning: tokio::sync::Mutex::default(),
            erasing: AtomicUsize::new(0),
            clock,
        });
        let opened = Opened {
            cut: attached.cut,
            index_rebuilt: attached.index_rebuilt,
            points: attached.points,
            damaged: attached.damaged,
            head,
        };
        Ok((barrier, opened))
    }

    /// The view of a whole space. Views of one space share its key and its cache of names, which
    /// go with the last of them.
    pub fn view(self: &Arc<Self>, id: SpaceId) -> MountView {
        MountView::new(Arc::clone(self), self.space(id))
    }

    fn space(&self, id: SpaceId) -> Arc<Space> {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let space = spaces.get(&id).and_then(Weak::upgrade).unwrap_or_else(|| {
            let space = Arc::new(Space::new(id, self.keyring.load().naming(id)));
            spaces.retain(|_, space| space.strong_count() > 0);
            spaces.insert(id, Arc::downgrade(&space));
            space
        });
        drop(spaces);
        space
    }

    /// Commits a batch whole or not at all; when it answers, the batch is durable. A call that is
    /// dropped while waiting may still be written.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] when an expectation does not hold, else the rest of
    /// [`CommitError`]; nothing was written, except perhaps after [`CommitError::Storage`].
    pub async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let is_erasing = batch.is_erasing();
        let _names_stay = self.renaming.read().await;
        let operations = self.locate(batch).await?;
        if is_erasing {
            return self.commit_erasing(operations).await;
        }
        if operations.is_empty() {
            return Ok(());
        }
        self.commit_all(&operations).await
    }

    /// Commits operations together with the mark that something is to be erased.
    async fn commit_erasing(&self, mut operations: Vec<Operation>) -> Result<(), CommitError> {
        let own = operations.len();
        loop {
            operations.extend(self.erasure_mark().await?);
            let answer = self.commit_all(&operations).await;
            let mark = operations.split_off(own);
            match answer {
                Err(CommitError::Conflict) if self.has_mark_changed(&mark).await? => {}
                answer => return answer,
            }
        }
    }

    async fn commit_all(&self, operations: &[Operation]) -> Result<(), CommitError> {
        let all_expected = operations.iter().all(|operation| operation.expected.is_some());
        for (attempt, spare) in SPARE_CHUNKS.into_iter().enumerate() {
            if attempt > 0 {
                for operation in operations {
                    self.check_expected(operation).await?;
                }
            }
            match self.try_commit(operations, spare).await {
                Err(CommitError::Conflict) if !all_expected => {}
                answer => return answer,
            }
        }
        Err(CommitError::Conflict)
    }

    /// Seals operations under the active term and hands them in; again when a rotation has made
    /// another one active in between.
    async fn try_commit(&self, operations: &[Operation], spare: u32) -> Result<(), CommitError> {
        loop {
            let terms = self.terms.load_full();
            let mut sealed = storage::Batch::default();
            for operation in operations {
                let chunks = self.chunks_at(operation).await?;
                seal(terms.active(), operation, chunks, spare, &mut sealed);
            }
            match self.store.commit(sealed).await {
                Err(storage::CommitError::StaleTerm) if self.has_rotated(&terms) => {}
                answer => return answer.map(drop).map_err(CommitError::from),
            }
        }
    }

    fn has_rotated(&self, since: &Arc<Terms>) -> bool {
        !Arc::ptr_eq(since, &self.terms.load())
    }

    /// Where the store stands: its newest durable commit.
    pub fn position(&self) -> Position {
        self.shared.position()
    }

    /// The audit checkpoint that heads name.
    pub fn audit_mark(&self) -> &AuditMark {
        &self.shared.audit
    }

    /// The keys, for what the seal file keeps and for audit devices and anchors.
    pub fn keyring(&self) -> Arc<Keyring> {
        self.keyring.load_full()
    }

    /// The keyed hash under which tokens are found.
    pub fn token_mac(&self) -> &Mac {
        &self.token_mac
    }

    /// Makes a new snapshot and deletes what it replaces; see [`Store::compact`]. Blocking.
    ///
    /// # Errors
    /// [`CompactError`].
    pub fn compact(
        &self,
        erase: Erase,
        hear: impl FnMut(storage::Progress),
    ) -> Result<Compacted, CompactError> {
        self.store.compact(erase, hear)
    }

    /// Has compactions call this before they delete anything; see [`Store::before_deleting`].
    pub fn before_deleting(&self, call: impl Fn() + Send + Sync + 'static) {
        self.store.before_deleting(call);
    }

    /// What the store takes on the disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn usage(&self) -> io::Result<Usage> {
        self.store.usage()
    }

    /// Whether the disk fills up: some time before nothing can be written.
    pub fn is_space_low(&self) -> bool {
        self.store.is_space_low()
    }

    /// Writes the Close record and ends serving; every later call fails as closed. Blocking: call
    /// it off the async threads.
    ///
    /// # Errors
    /// [`storage::CommitError`] when the Close record could not be written; closed it is anyway.
    pub fn close(&self) -> Result<(), storage::CommitError> {
        let closed = self.store.close();
        self.shared.rosters.forget(&[]);
        closed
    }

    /// The record at a path, as it is stored.
    #[cfg(test)]
    pub(crate) async fn record_at(&self, view: &MountView, path: &[&str]) -> Option<Vec<u8>> {
        self.store.get(&view.record_key(path).unwrap()).await.unwrap()
    }

    /// Changes the index behind the store's back, as one who can write to the disk may.
    #[cfg(test)]
    pub(crate) fn tamper(&self, view: &MountView, path: &[&str], record: Option<&[u8]>) {
        self.store.tamper(&view.record_key(path).unwrap(), record);
    }

    fn store(&self) -> &Store {
        &self.store
    }

    /// After a conflict, tells whether it was an expectation of the caller that did not hold.
    async fn check_expected(&self, operation: &Operation) -> Result<(), CommitError> {
        let Some(expected) = operation.expected else { return Ok(()) };
        let record = self.store.get(&operation.key).await.map_err(ReadError::from)?;
        let lies = record.as_deref().and_then(RecordHeader::of);
        let expected = match expected {
            Expected::Absent => None,
            Expected::Header(header) => Some(header),
        };
        if lies == expected { Ok(()) } else { Err(CommitError::Conflict) }
    }

    /// The keys of the chunks at an operation's key. They are found by their keys, so that a value
    /// whose head is damaged can be replaced and deleted too.
    async fn chunks_at(&self, operation: &Operation) -> Result<Vec<Vec<u8>>, ReadError> {
        let has_none = match operation.expected {
            Some(Expected::Absent) => true,
            Some(Expected::Header(header)) => !record::is_head(header.as_bytes()),
            None => false,
        };
        if has_none {
            return Ok(Vec::new());
        }
        let key = &operation.key;
        Ok(self.store.list(key, Some(key), MAX_CHUNKS as usize).await?)
    }

    /// Deletes keys, whatever lies there, and has them erased.
    async fn erase(&self, keys: Vec<Vec<u8>>) -> Result<(), CommitError> {
        let _names_stay = self.renaming.read().await;
        let mut mark = self.erasure_mark().await?;
        loop {
            let terms = self.terms.load_full();
            let writes = keys.iter().map(|key| Write { key: key.clone(), record: None });
            let mut batch = storage::Batch { preconditions: Vec::new(), writes: writes.collect() };
            for operation in &mark {
                seal(terms.active(), operation, Vec::new(), 0, &mut batch);
            }
            match self.store.commit(batch).await {
                Err(storage::CommitError::StaleTerm) if self.has_rotated(&terms) => {}
                // Of all that is written here only the mark is expected to be something.
                Err(storage::CommitError::Conflict) if self.has_mark_changed(&mark).await? => {
                    mark = self.erasure_mark().await?;
                }
                answer => return answer.map(drop).map_err(CommitError::from),
            }
        }
    }
}

/// Seals one operation into a batch: what must hold, the new records, and the removal of the
/// chunks that they do not replace.
///
/// With an expectation the old value is pinned, its chunks with it. Without one only their
/// number matters: chunks count up without a gap, so if the one after the last that goes is
/// absent, none is left behind, and who merely writes the same path is no conflict.
fn seal(
    term: &Term,
    operation: &Operation,
    found: Vec<Vec<u8>>,
    spare: u32,
    batch: &mut storage::Batch,
) {
    let key = &operation.key;
    let writes = match &operation.action {
        Action::Put(value) => value.expose(|value| large::seal(term, key, value)),
        Action::Delete => vec![Write { key: key.clone(), record: None }],
        Action::Keep => Vec::new(),
    };
    let written = writes.last().and_then(|write| large::chunk_index(key, &write.key));
    let written = written.unwrap_or(0);
    let last = found.last().and_then(|chunk| large::chunk_index(key, chunk)).unwrap_or(0);
    let reach = match operation.expected {
        Some(_) => last.min(MAX_CHUNKS),
        None => written.max(last).max(spare).min(MAX_CHUNKS),
    };
    batch.preconditions.extend(match operation.expected {
        Some(Expected::Header(header)) => Some(Precondition::Header(key.clone(), header)),
        Some(Expected::Absent) => Some(Precondition::Absent(key.clone())),
        None if reach == MAX_CHUNKS => None,
        None => Some(Precondition::Absent(large::chunk_key(key, reach + 1))),
    });
    if writes.is_empty() {
        return;
    }
    batch.writes.extend(writes);
    let mut left: BTreeSet<_> =
        (written + 1..=reach).map(|index| large::chunk_key(key, index)).collect();
    // Beyond what there can be lies only what an attacker has put there.
    left.extend(
        found
            .into_iter()
            .filter(|chunk| large::chunk_index(key, chunk).is_some_and(|index| index > reach)),
    );
    batch.writes.extend(left.into_iter().map(|key| Write { key, record: None }));
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").field("position", &self.position()).finish_non_exhaustive()
    }
}
