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
//! - `lock.rs`: [`FolderLock`], one process for each data folder
//! - `memory.rs`: the backend of tests, which fails on command

mod batch;
mod error;
mod hook;
mod lock;
pub mod memory;

use std::{fmt, path::Path};

pub use batch::{
    Batch, MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_OPERATIONS, MAX_RECORD_BYTES, Malformed,
    Precondition, RecordHeader, TooLarge, Write,
};
pub use error::{CommitError, Damage, Evidence, IndexError, OpenError, ReadError, WriteError};
pub use hook::{Change, CommitSeal, HeadAt, HeadPlace, HeadRefused, StaleTerm};
pub use lock::{FolderLock, LockError};

/// The random name of a store, given at its creation and never changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

/// What can be chosen when a store is created or opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Length of a journal segment in bytes, rounded up to blocks of 512. A record that is longer
    /// gets a segment of its own length.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024 }
    }
}

/// The highest sequence that an anchor or a synced audit checkpoint names; 0 when none does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedSeq(pub u64);

/// Where a store stands after attaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Sequence of the newest commit; 0 when there is none yet.
    pub seq: u64,
    /// Its chain value; zeros when there is none yet.
    pub chain: [u8; 32],
    /// The sequence of an unfinished commit that was cut from the journal's end. To be reported:
    /// after a crash it is a commit that was never answered.
    pub cut: Option<u64>,
    /// The index was gone, broken or foreign and was rebuilt from the journal.
    pub index_rebuilt: bool,
}

/// One store. Clones are handles to the same one; dropping the last waits for the commit that is
/// being written, and writes no Close record.
#[derive(Clone, Debug)]
pub struct Store {}

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
        let _ = (store_id, generation, options);
        Err(OpenError::Exists { folder: folder.into() })
    }

    /// Opens the store of a data folder and checks the journal's structure, which needs no key.
    /// Nothing is changed, and nothing can be read before [`attach`](Self::attach).
    ///
    /// # Errors
    /// [`OpenError::NoStore`], [`OpenError::Damaged`] naming file and offset, [`OpenError::Io`].
    pub fn open(folder: &Path, options: Options, _lock: &FolderLock) -> Result<Self, OpenError> {
        let _ = options;
        Err(OpenError::NoStore { folder: folder.into() })
    }

    /// An empty store in memory, of generation 1, and the other end that makes it fail.
    pub fn memory(store_id: StoreId) -> (Self, memory::Faults) {
        let _ = store_id;
        (Self {}, memory::Faults {})
    }

    /// The store's name.
    pub fn store_id(&self) -> StoreId {
        StoreId([0; 16])
    }

    /// Counts restores and accepted rollbacks, from 1.
    pub fn generation(&self) -> u64 {
        1
    }

    /// Verifies every head through `seal`, brings the index up to date and begins to serve.
    ///
    /// Blocking, and slow when the index must be rebuilt (about 20 s for a million records): call
    /// it off the async threads. After an error nothing has been changed but the index, and the
    /// call can be repeated with another seal.
    ///
    /// # Errors
    /// [`OpenError`]: damage, a head that is not accepted, or a file that cannot be used.
    pub fn attach(
        &self,
        seal: Box<dyn CommitSeal>,
        named: NamedSeq,
    ) -> Result<Attached, OpenError> {
        let _ = named;
        drop(seal);
        Err(OpenError::Closed)
    }

    /// The record under a key. Reads never wait for writers; two reads may straddle a commit.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let _ = key;
        Err(ReadError::Closed)
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
        let _ = (prefix, after, limit);
        Err(ReadError::Closed)
    }

    /// Commits a batch whole or not at all, and returns the sequence of its journal record.
    ///
    /// When it answers, the batch is synced to the disk and readable. A call that is dropped while
    /// waiting may still be written.
    ///
    /// # Errors
    /// [`CommitError`]; nothing was written, except after [`CommitError::Failed`].
    pub async fn commit(&self, batch: Batch) -> Result<u64, CommitError> {
        batch.check()?;
        Err(CommitError::Closed)
    }

    /// Writes the Close record, syncs the index and ends serving; every later call answers Closed.
    ///
    /// Blocking: call it off the async threads. Closing what is closed, or was never attached,
    /// writes nothing.
    ///
    /// # Errors
    /// [`CommitError::Failed`] when the Close record could not be written; closed it is anyway.
    pub fn close(&self) -> Result<(), CommitError> {
        Ok(())
    }
}
