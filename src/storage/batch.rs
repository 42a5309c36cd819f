use std::{collections::HashSet, fmt, ops::Bound};

use super::CommitError;

/// Limit of one record in bytes: the index keeps what is larger in files of their own, which it
/// neither syncs nor gives back (the caller cuts larger values into chunks).
pub const MAX_RECORD_BYTES: usize = 8_192;
/// Limit of one storage key in bytes (FORMAT.md 5).
pub const MAX_KEY_BYTES: usize = 3_072;
/// Limit of the operations of one batch; the chunks of a value count with its head.
pub const MAX_OPERATIONS: usize = 128;
/// Limit of one batch in bytes, keys and records together (1.5 MiB, what one etcd `Txn` carries).
pub const MAX_BATCH_BYTES: usize = 3 * 512 * 1024;
/// The lowest first byte of a caller's key: 0x01 is the head, the rest below is reserved.
const FIRST_KEY_BYTE: u8 = 0x10;

/// Length of the big-endian chunk index that follows a head's key (FORMAT.md 5).
const CHUNK_INDEX_BYTES: usize = 4;

/// What tells one version of a record from another: its first 32 bytes and its tag.
///
/// Format, cipher, flags, term and nonce stand in the first 32 bytes, the tag in the last 16; two
/// records with the same header are the same record, unless someone forged a tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordHeader([u8; 48]);

impl RecordHeader {
    /// Reads the header of a sealed record; `None` if it is too short to be one.
    pub fn of(record: &[u8]) -> Option<Self> {
        let (front, rest) = record.split_first_chunk::<32>()?;
        let tag = rest.last_chunk::<16>()?;
        let mut bytes = [0; 48];
        let (to_front, to_tag) = bytes.split_at_mut(32);
        to_front.copy_from_slice(front);
        to_tag.copy_from_slice(tag);
        Some(Self(bytes))
    }

    /// The 48 bytes: `record[0..32] || tag`.
    pub fn as_bytes(&self) -> &[u8; 48] {
        &self.0
    }
}

impl fmt::Debug for RecordHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordHeader(")?;
        self.0.iter().skip(32).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// One put or delete of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The storage key, from 0x10 upward, at most [`MAX_KEY_BYTES`] long.
    pub key: Vec<u8>,
    /// The sealed record, at most [`MAX_RECORD_BYTES`] long; `None` deletes. Deleting what is not
    /// there is allowed.
    pub record: Option<Vec<u8>>,
}

/// What must hold of a key for its batch to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// No record stands under this key.
    Absent(Vec<u8>),
    /// The record under this key is exactly the one with this header.
    Header(Vec<u8>, RecordHeader),
}

impl Precondition {
    /// The key that is asked about.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Absent(key) | Self::Header(key, _) => key,
        }
    }
}

/// Preconditions and writes that are committed whole or not at all.
///
/// All preconditions are checked before the first write; writes apply in their order, so that of
/// two writes to one key the second stays. A batch without writes commits a new head only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// All must hold, else nothing is written.
    pub preconditions: Vec<Precondition>,
    /// Applied in this order.
    pub writes: Vec<Write>,
}

/// A batch, record or key over one of this module's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {given} is over the limit of {limit}; write less at once")]
pub struct TooLarge {
    /// What is too large.
    pub what: &'static str,
    /// How large it is.
    pub given: usize,
    /// How large it may be.
    pub limit: usize,
}

/// A write that no caller who keeps to the format makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A key is empty or begins with a reserved byte.
    #[error("a key must begin with a byte from 0x10 upward")]
    ReservedKey,
    /// Too short to be a sealed record.
    #[error("{given} bytes are too short to be a record")]
    NoRecord {
        /// Length in bytes.
        given: usize,
    },
}

impl Batch {
    /// Refuses what storage never writes; returns the batch's size in bytes, keys and records.
    ///
    /// # Errors
    /// [`CommitError::TooLarge`] and [`CommitError::Malformed`].
    pub(super) fn check(&self) -> Result<usize, CommitError> {
        let mut bytes = 0;
        for key in self.preconditions.iter().map(Precondition::key) {
            check_key(key)?;
            bytes += key.len();
        }
        for write in &self.writes {
            check_key(&write.key)?;
            bytes += write.key.len();
            if let Some(record) = &write.record {
                check_record(record)?;
                bytes += record.len();
            }
        }
        within("a batch's bytes", bytes, MAX_BATCH_BYTES)?;
        within("a batch's preconditions", self.preconditions.len(), MAX_OPERATIONS)?;
        within("a batch's operations", self.operations(), MAX_OPERATIONS)?;
        Ok(bytes)
    }

    /// How many operations this is: a chunk whose head is in the batch too counts with its head.
    fn operations(&self) -> usize {
        if self.writes.len() <= MAX_OPERATIONS {
            return self.writes.len();
        }
        let keys: HashSet<&[u8]> = self.writes.iter().map(|write| write.key.as_slice()).collect();
        let is_chunk = |key: &[u8]| {
            let head = key.split_last_chunk::<CHUNK_INDEX_BYTES>().map(|(head, _)| head);
            head.is_some_and(|head| keys.contains(head))
        };
        self.writes.iter().filter(|write| !is_chunk(&write.key)).count()
    }
}

/// Where a listing begins: at the prefix, or behind `after`, and never below a caller's keys.
pub(super) fn list_from<'a>(prefix: &'a [u8], after: Option<&'a [u8]>) -> Bound<&'a [u8]> {
    let first = prefix.max(&[FIRST_KEY_BYTE]);
    match after {
        Some(after) if after >= first => Bound::Excluded(after),
        Some(_) | None => Bound::Included(first),
    }
}

/// Refuses keys that storage never writes.
pub(super) fn check_key(key: &[u8]) -> Result<(), CommitError> {
    within("a key's length", key.len(), MAX_KEY_BYTES)?;
    match key.first() {
        Some(&first) if first >= FIRST_KEY_BYTE => Ok(()),
        Some(_) | None => Err(Malformed::ReservedKey.into()),
    }
}

/// Refuses records that storage never writes.
pub(super) fn check_record(record: &[u8]) -> Result<(), CommitError> {
    within("a record's length", record.len(), MAX_RECORD_BYTES)?;
    match RecordHeader::of(record) {
        Some(_) => Ok(()),
        None => Err(Malformed::NoRecord { given: record.len() }.into()),
    }
}

fn within(what: &'static str, given: usize, limit: usize) -> Result<(), TooLarge> {
    if given > limit { Err(TooLarge { what, given, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8], length: usize) -> Write {
        Write { key: key.to_vec(), record: Some(vec![7; length]) }
    }

    fn batch(writes: Vec<Write>) -> Batch {
        Batch { preconditions: Vec::new(), writes }
    }

    #[test]
    fn header_is_the_front_and_the_tag() {
        let record: Vec<u8> = (0..112).collect();
        let header = RecordHeader::of(&record).unwrap();
        assert_eq!(header.as_bytes()[..32], record[..32]);
        assert_eq!(header.as_bytes()[32..], record[96..]);
        assert!(RecordHeader::of(&record[..47]).is_none());
    }

    #[test]
    fn records_keys_and_batches_over_their_limit_are_refused() {
        assert!(batch(vec![put(&[0x10; 3_072], 8_192)]).check().is_ok());
        let too_large = |batch: Batch| matches!(batch.check(), Err(CommitError::TooLarge(_)));
        assert!(too_large(batch(vec![put(&[0x10], 8_193)])));
        assert!(too_large(batch(vec![put(&[0x10; 3_073], 64)])));
        assert!(too_large(batch((0..=128).map(|n| put(&[0x10, n], 64)).collect())));
        assert!(too_large(batch((0..=255).map(|n| put(&[0x10, 0, 0, 0, 0, n], 7_000)).collect())));
    }

    #[test]
    fn chunks_count_with_their_head() {
        let mut writes = vec![put(&[0x10, 0], 64)];
        writes.extend((1..=180).map(|n| put(&[0x10, 0, 0, 0, 0, n], 7_988)));
        assert!(batch(writes.clone()).check().is_ok());
        writes.remove(0);
        let refused = batch(writes).check();
        assert!(matches!(refused, Err(CommitError::TooLarge(TooLarge { given: 180, .. }))));
    }

    #[test]
    fn a_listing_begins_behind_what_comes_before_it() {
        let from = |prefix, after| list_from(prefix, after);
        assert_eq!(from(&[0x10, 2], None), Bound::Included(&[0x10, 2][..]));
        assert_eq!(from(&[0x10, 2], Some(&[0x10, 1, 9])), Bound::Included(&[0x10, 2][..]));
        assert_eq!(from(&[0x10, 2], Some(&[0x10, 2])), Bound::Excluded(&[0x10, 2][..]));
        assert_eq!(from(&[], None), Bound::Included(&[0x10][..]));
        assert_eq!(from(&[], Some(&[0])), Bound::Included(&[0x10][..]));
    }

    #[test]
    fn reserved_keys_and_stumps_of_records_are_refused() {
        for key in [&[][..], &[0], &[1], &[0x0f, 9]] {
            let refused = batch(vec![put(key, 64)]).check();
            assert!(matches!(refused, Err(CommitError::Malformed(Malformed::ReservedKey))));
        }
        let refused = batch(vec![put(&[0x10], 47)]).check();
        assert!(matches!(refused, Err(CommitError::Malformed(Malformed::NoRecord { given: 47 }))));
    }
}
