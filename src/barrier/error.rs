use super::{KeyringError, NamesGeneration, PathError, TermId, batch::Refused, record::Damaged};
use crate::storage::{self, StoreId};

/// Why a store does not open under its keyring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data folder is another store than the seal file.
    #[error("the seal file belongs to store {keyring}, the data folder to store {store}")]
    ForeignStore {
        /// The store of the keyring.
        keyring: StoreId,
        /// The store of the folder.
        store: StoreId,
    },
    /// The seal file is older than the store allows: it was put back, or the store was.
    #[error(
        "the seal file is of epoch {given}, but the store may only be opened from epoch {needed} \
         on: put the newer seal file back"
    )]
    RollbackDetected {
        /// Epoch of the seal file.
        given: u64,
        /// Lowest epoch that the store allows.
        needed: u64,
    },
    /// The keyring cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Storage does not open.
    #[error(transparent)]
    Storage(#[from] storage::OpenError),
    /// The newest head counts records under a term that the seal file does not hold.
    #[error(
        "the store has records under term {}, which the seal file does not hold: put the seal file \
         back that belongs to this store's state", .0.0
    )]
    TermMissing(TermId),
    /// Records lie under names whose key the seal file does not hold.
    #[error(
        "the store has records under names of generation {}, which the seal file does not hold: put \
         the seal file back that belongs to this store's state", .0.0
    )]
    NamesMissing(NamesGeneration),
    /// The index cannot be read.
    #[error(transparent)]
    Read(#[from] storage::ReadError),
    /// The journal has commits, and none of their heads was shown to the barrier.
    #[error("the store has commits but no head to check them by")]
    HeadMissing,
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The path names nothing that could be stored.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A record or name does not open in its place.
    #[error("a stored record is damaged: verify the store")]
    Damaged,
    /// The record is not the one that was last written under its key.
    #[error(
        "a stored record was replaced, put back or deleted behind the store's back: run \
         kista operator verify"
    )]
    Stale,
    /// A record is of a layout that this version does not know.
    #[error("a stored record has version {version}, which this version does not know")]
    Layout {
        /// Its version byte.
        version: u8,
    },
    /// Storage fails, or is closed.
    #[error(transparent)]
    Storage(#[from] storage::ReadError),
}

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A path of the batch names nothing that could be stored.
    #[error(transparent)]
    Path(#[from] PathError),
    /// What was expected does not lie there: read again and decide again.
    #[error("the record was changed by another writer")]
    Conflict,
    /// Over the limits of one batch.
    #[error(transparent)]
    TooLarge(storage::TooLarge),
    /// A record of the batch cannot be encoded.
    #[error("a record cannot be encoded")]
    Unencodable,
    /// Stored records do not fit the sealed state.
    #[error("the stored records do not match the sealed state: verify the store")]
    StateMismatch,
    /// What lies at the batch's paths cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Storage fails, or is closed.
    #[error(transparent)]
    Storage(storage::CommitError),
}

impl From<Damaged> for ReadError {
    fn from(Damaged: Damaged) -> Self {
        Self::Damaged
    }
}

impl From<storage::CommitError> for CommitError {
    fn from(error: storage::CommitError) -> Self {
        match error {
            storage::CommitError::Conflict => Self::Conflict,
            storage::CommitError::TooLarge(error) => Self::TooLarge(error),
            // Everything is sealed under the active term, so it is the old records that do not fit.
            storage::CommitError::StaleTerm => Self::StateMismatch,
            error @ (storage::CommitError::Malformed(_)
            | storage::CommitError::Closed
            | storage::CommitError::NoSpace { .. }
            | storage::CommitError::Index(_)
            | storage::CommitError::Failed(_)) => Self::Storage(error),
        }
    }
}

impl From<Refused> for CommitError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Path(error) => Self::Path(error),
            Refused::Unencodable => Self::Unencodable,
        }
    }
}
