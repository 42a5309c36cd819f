use std::fmt;

use super::compact;
use crate::disk::Disk;

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
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the journal lies. On any but the real one the index is kept in memory.
    pub disk: Disk,
    /// Length of a journal segment in bytes, rounded up to blocks of 512. A record that is longer
    /// gets a segment of its own length.
    pub segment_bytes: u64,
    /// What is kept free on the disk: below it nothing is written until there is space again.
    pub reserve_bytes: u64,
    /// The store is compacted by itself when the journal is longer than this and than twice what
    /// is live.
    pub compact_above_bytes: u64,
    /// Memory that a compaction takes for keys; and the store is compacted earlier rather than
    /// have the keys of the journal outgrow it.
    pub table_bytes: usize,
    /// Memory for the records used last, besides what the index itself takes; twice that while a
    /// compaction makes another index. What fits the memory of the machine when none is given.
    pub cache_bytes: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            disk: Disk::real(),
            segment_bytes: 64 * 1024 * 1024,
            reserve_bytes: 64 * 1024 * 1024,
            compact_above_bytes: 64 * 1024 * 1024,
            table_bytes: compact::TABLE_BYTES,
            cache_bytes: None,
        }
    }
}

/// The highest sequence that an anchor or a synced audit checkpoint names; 0 when none does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedSeq(pub u64);

impl NamedSeq {
    /// The point that it is, of which no more is known.
    pub fn points(self) -> Vec<Point> {
        let named = (self.0 > 0).then_some(Point { seq: self.0, chain: None });
        named.into_iter().collect()
    }
}

/// A commit that an anchor or a synced audit checkpoint names: it was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its sequence.
    pub seq: u64,
    /// Its chain value, if that is known too.
    pub chain: Option<[u8; 32]>,
}

/// What a store says of a [`Point`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The commit is there, with this chain value if one was given.
    Equal,
    /// Another commit stands there: one of the two stores is not this one.
    Differs,
    /// It is before the journal's begin.
    Unknown,
}

/// Whether a store goes on as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// It does.
    Keep,
    /// It was restored, or a rollback was accepted: it goes on in the next generation.
    Next,
}

/// Where a store stands after attaching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The generation that it goes on in.
    pub generation: u64,
    /// Sequence of the newest commit; 0 when there is none yet.
    pub seq: u64,
    /// Its chain value; zeros when there is none yet.
    pub chain: [u8; 32],
    /// The sequence of an unfinished commit that was cut from the journal's end. To be reported:
    /// after a crash it is a commit that was never answered.
    pub cut: Option<u64>,
    /// The index was gone, broken, foreign or behind and was rebuilt.
    pub index_rebuilt: bool,
    /// What the store says of each point that was given.
    pub points: Vec<Standing>,
    /// Snapshots that could not be used, a sentence each. To be reported: the generation before
    /// them has done for this time.
    pub damaged: Vec<String>,
}
