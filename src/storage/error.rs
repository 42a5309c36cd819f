use std::{io, path::PathBuf, sync::Arc};

use super::{HeadRefused, Malformed, TooLarge};

/// Why a store cannot be created, opened or attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder holds no journal.
    #[error("there is no store in {}", folder.display())]
    NoStore {
        /// The data folder.
        folder: PathBuf,
    },
    /// The folder already holds a store, or a part of one.
    #[error("{} already holds a store, or a part of one", folder.display())]
    Exists {
        /// The data folder.
        folder: PathBuf,
    },
    /// A file is damaged in a way that no crash explains; nothing was changed.
    #[error("{} is damaged at byte {offset}: {what}", file.display())]
    Damaged {
        /// The segment or snapshot.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        what: Damage,
    },
    /// A head in the journal is not accepted under this keyring.
    #[error("{} holds a commit at byte {offset} (sequence {seq}) that is not accepted", file.display())]
    HeadRefused {
        /// The segment or snapshot.
        file: PathBuf,
        /// Where its record begins, in bytes.
        offset: u64,
        /// Sequence of the record.
        seq: u64,
        /// Why.
        #[source]
        reason: HeadRefused,
    },
    /// A file cannot be read or written.
    #[error("cannot use {}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A fresh index cannot be made or filled.
    #[error("the index cannot be rebuilt")]
    Index(#[source] IndexError),
    /// The committer's thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The store is attached already.
    #[error("the store is open already")]
    Attached,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// What is wrong at a place of the journal or a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// Not a segment, or one whose header is changed.
    #[error("not the header of a segment")]
    SegmentHeader,
    /// A segment of another store or generation.
    #[error("the segment belongs to another store or generation")]
    ForeignSegment,
    /// The segments before are missing, or the order is wrong.
    #[error("the segment does not follow the commits before it")]
    SegmentOrder,
    /// The segment that must follow what is before it is not there.
    #[error("the segment is missing")]
    SegmentMissing,
    /// Not a snapshot of this name, or of another store.
    #[error("not the beginning of a snapshot of this store")]
    SnapshotFront,
    /// It breaks off, or its end is changed.
    #[error("not the end of a snapshot")]
    SnapshotEnd,
    /// An entry is no record, or not in its order.
    #[error("the snapshot's entry cannot be read")]
    SnapshotEntry,
    /// Its checksum or number of entries does not hold.
    #[error("the snapshot's checksum does not hold")]
    SnapshotSum,
    /// The journal goes on from another state.
    #[error("the snapshot does not fit the commits behind it")]
    SnapshotChain,
    /// The record cannot be read here, and a crash does not explain it.
    #[error("commit {seq} is missing or changed, and {evidence}")]
    Record {
        /// The sequence expected here.
        seq: u64,
        /// Why this is no torn tail.
        evidence: Evidence,
    },
}

/// Why an unreadable record is damage and not the torn tail that a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Evidence {
    /// Another record of this segment follows.
    #[error("another commit of this file stands at byte {offset}")]
    RecordFollows {
        /// Where it begins, in bytes.
        offset: u64,
    },
    /// A later segment follows.
    #[error("a later segment follows")]
    SegmentFollows,
    /// An anchor or a synced audit checkpoint names this or a later sequence.
    #[error("commit {seq} is named by an anchor or an audit checkpoint")]
    Named {
        /// The sequence named.
        seq: u64,
    },
    /// The index, which is written after the sync only, names this or a later sequence.
    #[error("the index names commit {seq}, which was durable")]
    Indexed {
        /// The sequence named.
        seq: u64,
    },
}

/// The index cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the index in {} fails: {reason}", folder.display())]
pub struct IndexError {
    /// The index's folder.
    pub folder: PathBuf,
    /// What the engine said.
    pub reason: String,
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store is not attached yet, or closed.
    #[error("the store is closed")]
    Closed,
    /// The index fails.
    #[error(transparent)]
    Index(IndexError),
}

/// Why a batch was not written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A precondition does not hold; nothing was written. Read again and decide again.
    #[error("the record was changed by another writer")]
    Conflict,
    /// Over a limit of one batch; nothing was written.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// Storage never writes this; nothing was written.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A record is under a term that is no longer active; nothing was written. Seal again.
    #[error("the record is sealed under a term that is not active")]
    StaleTerm,
    /// The store is not attached yet, or closed.
    #[error("the store is closed")]
    Closed,
    /// Less space is free than is kept in reserve; nothing was written. Reading goes on, and
    /// writing too as soon as there is space again.
    #[error("the disk is nearly full: {free} bytes are free and {needed} are needed; make space")]
    NoSpace {
        /// Free on the file system of the data folder, in bytes.
        free: u64,
        /// What must be free for this write, in bytes.
        needed: u64,
    },
    /// The index cannot be read, so that nothing can be decided; nothing was written.
    #[error("the index cannot be read")]
    Index(#[source] Arc<IndexError>),
    /// Writing failed, now or before, and stays off until the store is opened again. Whether this
    /// batch is on the disk is not known.
    #[error("writing has failed; restart to open the store again")]
    Failed(#[source] Arc<WriteError>),
}

/// What ended writing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The journal could not be written or synced.
    #[error("cannot write {} at byte {offset}", file.display())]
    Journal {
        /// The segment.
        file: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The commit is durable, but the index could not take it.
    #[error(transparent)]
    Index(IndexError),
    /// The seal returned a head of another length than it had announced.
    #[error("the seal returned a head of {given} bytes after announcing {announced}")]
    HeadLength {
        /// Length announced.
        announced: usize,
        /// Length returned.
        given: usize,
    },
    /// The committer's thread ended without an answer.
    #[error("the committer has stopped")]
    Stopped,
}

/// Why a compaction has not come to its end. What was there before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactError {
    /// Another one is running.
    #[error("the store is being compacted already")]
    Running,
    /// The store is closed, or was closed meanwhile.
    #[error("the store is closed")]
    Closed,
    /// The new snapshot would not leave the reserve free.
    #[error("compaction needs {needed} bytes and {free} are free; make space")]
    NoSpace {
        /// Free on the file system of the data folder, in bytes.
        free: u64,
        /// What must be free, in bytes.
        needed: u64,
    },
    /// A file that it reads is damaged, or cannot be read.
    #[error(transparent)]
    Unreadable(#[from] OpenError),
    /// What it wrote does not add up to the state that was committed.
    #[error("the new snapshot is not the state of commit {seq}")]
    NotTheState {
        /// Sequence of the state.
        seq: u64,
        /// What the seal said.
        #[source]
        reason: HeadRefused,
    },
    /// A record reads otherwise than it did a moment ago.
    #[error("{} reads differently each time at byte {offset}", file.display())]
    Unsteady {
        /// The segment.
        file: PathBuf,
        /// Where, in bytes.
        offset: u64,
    },
    /// A file cannot be written.
    #[error("cannot write {}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Writing has failed before, or failed now.
    #[error("writing has failed; restart to open the store again")]
    Failed(#[source] Arc<WriteError>),
    /// The new index cannot be made or filled.
    #[error("the index cannot be rebuilt")]
    Index(#[source] IndexError),
}
