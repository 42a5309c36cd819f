//! Rotation: a new term comes, every record is sealed again under it, and the old terms are
//! destroyed (FORMAT.md 11). Or the names come under a new key, and the records move with them.
//!
//! Each step is durable and can be repeated, so that a crash, a seal or an error anywhere leaves
//! work that the next turn takes up. Nothing here judges who may rotate, and nothing waits: a
//! background job calls [`Rotation::turn`] again and again.
//!
//! - `start.rs`: the new term, until it seals
//! - `turn.rs`: one bounded piece of all that follows
//! - `names.rs`: the same for the key of names
//! - `schedule.rs`: rotation by age and by count
//! - `status.rs`: what is told of it
//! - `records.rs`: what is kept of it

mod names;
mod records;
mod schedule;
mod start;
mod status;
#[cfg(test)]
mod tests;
mod turn;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    audit::AuditError,
    barrier::{
        AdoptError, Barrier, CommitError, EraseError, KeyringError, ReadError, ScanError, TermId,
    },
    clock::Clock,
    seal::{Anchors, OpenRoot, RewriteError},
};
use records::Records;
use schedule::Count;

pub use records::Schedule;
pub use schedule::{MAX_OPERATIONS, MIN_INTERVAL, MIN_OPERATIONS};
pub use status::{NamesDestroyed, NamesStatus, NamesStep, Status, Step, TermDestroyed};
pub use turn::Turn;

/// The root key of the open vault. Whoever holds the lock may change the seal file and the keyring
/// that it holds.
pub type SharedRoot = Arc<tokio::sync::Mutex<OpenRoot>>;

/// The rotation of one open store.
pub struct Rotation {
    barrier: Arc<Barrier>,
    root: SharedRoot,
    anchors: Arc<Anchors>,
    clock: Arc<dyn Clock>,
    records: Records,
    /// Most records that are sealed again in a second; 0 for as many as there can be.
    records_per_second: u32,
    count: Mutex<Count>,
    /// Why the last turn failed, for the status.
    error: Mutex<Option<String>>,
    /// A rotation begins or takes a turn, one at a time.
    course: tokio::sync::Mutex<()>,
    /// There is something to do at once.
    is_called: AtomicBool,
}

/// Why a rotation does not begin or go on. What was done stays done, and is not done again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// The keyring takes no further term.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The seal file cannot be written.
    #[error(transparent)]
    Seal(#[from] RewriteError),
    /// Something is under an old term that should not be there.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// Records are left under an old term, or their sum says that one was changed.
    #[error(
        "state_mismatch: term {} still counts {records} records after all were sealed again: \
         verify the store", .id.0
    )]
    StateMismatch {
        /// The term.
        id: TermId,
        /// How many records it counts.
        records: u64,
    },
    /// Records do not open or are not the newest.
    #[error("{count} records are not as they should be ({first}): verify the store")]
    Findings {
        /// How many.
        count: usize,
        /// What is wrong with the first.
        first: &'static str,
    },
    /// The store cannot be verified now.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Journal and snapshots cannot be made anew.
    #[error(transparent)]
    Erase(#[from] EraseError),
    /// A record cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// No audit device could write.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A task of ours broke off.
    #[error("the work broke off")]
    Task(#[from] tokio::task::JoinError),
}

impl Rotation {
    /// The rotation of a store that has just been opened; it goes on where it stood.
    ///
    /// # Errors
    /// [`RotationError`] when what is kept of it cannot be read or written.
    pub async fn open(
        barrier: &Arc<Barrier>,
        root: &SharedRoot,
        anchors: &Arc<Anchors>,
        clock: &Arc<dyn Clock>,
        records_per_second: u32,
    ) -> Result<Self, RotationError> {
        let rotation = Self {
            barrier: Arc::clone(barrier),
            root: Arc::clone(root),
            anchors: Arc::clone(anchors),
            clock: Arc::clone(clock),
            records: Records::of(barrier),
            records_per_second,
            count: Mutex::default(),
            error: Mutex::default(),
            course: tokio::sync::Mutex::default(),
            is_called: AtomicBool::new(true),
        };
        rotation.count_from_record().await?;
        Ok(rotation)
    }

    /// Whether there is something to do at once; asked by who takes the turns.
    pub fn is_called(&self) -> bool {
        self.is_called.swap(false, Ordering::Relaxed)
    }

    /// Names the newest commit in the anchors: an older store put back is a rollback from here on.
    async fn write_anchors(&self, seal_epoch: u64) -> Result<(), RotationError> {
        let (anchors, position) = (Arc::clone(&self.anchors), self.barrier.position());
        Ok(tokio::task::spawn_blocking(move || anchors.write(position, seal_epoch)).await?)
    }

    fn call(&self) {
        self.is_called.store(true, Ordering::Relaxed);
    }

    fn count(&self) -> std::sync::MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers how the last turn went.
    fn told<T>(&self, done: Result<T, RotationError>) -> Result<T, RotationError> {
        let text = done.as_ref().err().map(ToString::to_string);
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = text;
        done
    }
}

impl fmt::Debug for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotation").field("keyring", &self.barrier.keyring()).finish_non_exhaustive()
    }
}
