use std::sync::Arc;

use super::RecordHeader;

/// What the barrier lends to storage: it sees every change and seals the head that covers it.
///
/// Storage knows no key. All calls come from one thread at a time: [`begin`](Self::begin) and
/// [`replay`](Self::replay) from the one that attaches, the others from the committer. A call that
/// panics ends writing.
pub trait CommitSeal: Send {
    /// Goes back to what a snapshot's head says, before the heads behind it are replayed. Called
    /// again with an older snapshot when a newer one cannot be used.
    ///
    /// # Errors
    /// [`HeadRefused`] when the head does not open; then nothing has changed.
    fn begin(&mut self, snapshot: &SnapshotAt<'_>) -> Result<(), HeadRefused>;

    /// Verifies one head found in the journal while attaching; called in order of `seq`, before
    /// anything reaches the index. The newest gives the state.
    ///
    /// # Errors
    /// [`HeadRefused`] when the head does not open, names another place, or does not follow from
    /// the head before. Attaching then fails.
    fn replay(&mut self, head: &HeadAt<'_>) -> Result<(), HeadRefused>;

    /// Told the generation that heads bear from now on: once, when attaching has come to its end.
    fn continues(&mut self, generation: u64);

    /// Takes one batch's writes into the state. Two writes to one key are two changes: the first
    /// is the old value of the second. Deleting what is absent is a change from none to none.
    ///
    /// # Errors
    /// [`StaleTerm`] when a record is under a term that is not active; then nothing of the batch
    /// counts, and its caller seals again.
    fn stage(&mut self, changes: &[Change<'_>]) -> Result<(), StaleTerm>;

    /// Whether the seal knows that no record lies under a key, so that the index need not be asked.
    /// It may always say that it does not know.
    fn is_absent(&self, key: &[u8]) -> bool;

    /// Length in bytes of the head that [`seal`](Self::seal) will return next.
    fn head_len(&self) -> usize;

    /// Seals the head that covers everything staged; exactly [`head_len`](Self::head_len) bytes.
    fn seal(&mut self, place: &HeadPlace) -> Vec<u8>;

    /// Told after the record is durable and readable, before its batches are answered.
    fn durable(&mut self, seq: u64, chain: [u8; 32]);

    /// What seals snapshots of this store, from a thread of its own.
    fn snapshots(&self) -> Arc<dyn SnapshotSeal>;
}

/// What the barrier lends for snapshots: it knows what a whole state must sum up to.
pub trait SnapshotSeal: Send + Sync {
    /// Opens a head of the journal, to tally the records that stand at it.
    ///
    /// # Errors
    /// [`HeadRefused`] when it does not open.
    fn tally(&self, head: &HeadAt<'_>) -> Result<Box<dyn Tally>, HeadRefused>;

    /// Opens the head of a snapshot, to tally its records.
    ///
    /// # Errors
    /// [`HeadRefused`] when it does not open.
    fn tally_snapshot(&self, snapshot: &SnapshotAt<'_>) -> Result<Box<dyn Tally>, HeadRefused>;
}

/// Adds up the records of one state, and seals the head of a snapshot of it.
pub trait Tally: Send {
    /// Takes one record in; each key once.
    fn add(&mut self, key: &[u8], record: &RecordHeader);

    /// Whether count and sum of every term are those of the head.
    ///
    /// # Errors
    /// [`HeadRefused`] when they are not: a record is missing, foreign, old or there twice.
    fn check(&self) -> Result<(), HeadRefused>;

    /// Seals the head for a snapshot, of which `digest` is the SHA-256 of all before the head.
    fn seal(&self, digest: [u8; 32]) -> Vec<u8>;
}

/// One write as the seal sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The storage key.
    pub key: &'a [u8],
    /// The header of the record that stood there, if one did.
    pub old: Option<RecordHeader>,
    /// The header of the record put there; `None` when the key is deleted.
    pub new: Option<RecordHeader>,
}

/// The place in the journal that a head is sealed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadPlace {
    /// Sequence of the journal record, from 1.
    pub seq: u64,
    /// Chain value of the record before; zeros before the first.
    pub prev_chain: [u8; 32],
    /// SHA-256 of the record's bytes before the sealed head, the head's length included.
    pub digest: [u8; 32],
}

/// A sealed head found in the journal, with its place.
#[derive(Clone, Copy, Debug)]
pub struct HeadAt<'a> {
    /// Sequence of the journal record, from 1.
    pub seq: u64,
    /// Chain value of the record before; zeros before the first.
    pub prev_chain: [u8; 32],
    /// SHA-256 of the record's bytes before the sealed head, the head's length included.
    pub digest: [u8; 32],
    /// The sealed head.
    pub sealed: &'a [u8],
}

/// The sealed head of a snapshot, with what it is bound to.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotAt<'a> {
    /// Sequence of the state.
    pub seq: u64,
    /// Chain value of that sequence.
    pub chain: [u8; 32],
    /// SHA-256 of the snapshot's bytes before its sealed head, as they name it.
    pub digest: [u8; 32],
    /// The sealed head.
    pub sealed: &'a [u8],
}

/// A record was sealed under a term that is no longer active: seal it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record is sealed under a term that is not active")]
pub struct StaleTerm;

/// A head in the journal that the seal does not accept, and why (a fixed text, nothing secret).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HeadRefused(pub &'static str);
