use std::{
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Options, attach::Folder, record::Record, segment, snapshot};

/// What a store takes on the disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Journal segments.
    pub journal_bytes: u64,
    /// Snapshots.
    pub snapshot_bytes: u64,
    /// The index.
    pub index_bytes: u64,
    /// Keys and records that are there, about: as of the newest snapshot.
    pub live_bytes: u64,
    /// Free on the file system of the data folder.
    pub free_bytes: u64,
    /// What is kept free: below it nothing is written.
    pub reserve_bytes: u64,
}

/// Whether space is getting short: a warning is due before writing stops.
pub(super) fn is_low(free: u64, reserve: u64) -> bool {
    free < reserve.saturating_mul(LOW)
}

/// Space is short below this many reserves.
const LOW: u64 = 4;

/// The journal may grow to this many times what is live.
const JOURNAL_TO_LIVE: u64 = 2;

/// Adds up what a store takes.
pub(super) fn of(folder: &Folder, index: Option<u64>) -> io::Result<Usage> {
    let disk = folder.disk();
    let bytes_of = |path: &Path| disk.open(path).and_then(|file| file.len());
    let mut usage = Usage {
        free_bytes: disk.free_bytes(&folder.path)?,
        reserve_bytes: folder.options.reserve_bytes,
        index_bytes: index.unwrap_or_default(),
        ..Usage::default()
    };
    for (_, path) in segment::list(disk, &folder.journal())? {
        usage.journal_bytes += if_not_gone(bytes_of(&path))?;
    }
    for (n, (_, path)) in snapshot::list(disk, &folder.snapshots())?.iter().enumerate() {
        let bytes = if_not_gone(bytes_of(path))?;
        usage.snapshot_bytes += bytes;
        if n == 0 {
            usage.live_bytes = bytes;
        }
    }
    Ok(usage)
}

/// A file that a compaction has deleted meanwhile takes nothing.
fn if_not_gone(bytes: io::Result<u64>) -> io::Result<u64> {
    match bytes {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        other => other,
    }
}

/// What committer and compaction tell each other.
#[derive(Debug, Default)]
pub(super) struct Figures {
    seq: AtomicU64,
    /// Of the records behind the newest snapshot: their bytes…
    journal: AtomicU64,
    /// … and what their keys take in memory while they are merged.
    table: AtomicU64,
    /// Length of the newest snapshot.
    snapshot: AtomicU64,
}

impl Figures {
    /// Takes in one more record behind the newest snapshot.
    pub(super) fn count(&self, record: &Record<'_>) {
        let keys = record.writes.iter().map(|(key, _)| key.len());
        self.count_bytes(record.padded_len(), keys);
    }

    pub(super) fn count_bytes(&self, bytes: usize, keys: impl Iterator<Item = usize>) {
        self.journal.fetch_add(bytes as u64, Ordering::Relaxed);
        let table: usize = keys.map(|key| key + ENTRY_BYTES).sum();
        self.table.fetch_add(table as u64, Ordering::Relaxed);
    }

    pub(super) fn set_seq(&self, seq: u64) {
        self.seq.store(seq, Ordering::Relaxed);
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }

    pub(super) fn set_snapshot(&self, bytes: u64) {
        self.snapshot.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> u64 {
        self.snapshot.load(Ordering::Relaxed)
    }

    /// Bytes behind the newest snapshot: of the journal, and of a table of its keys.
    pub(super) fn behind(&self) -> (u64, u64) {
        (self.journal.load(Ordering::Relaxed), self.table.load(Ordering::Relaxed))
    }

    /// Whether so much stands behind the newest snapshot that it is time for another.
    pub(super) fn is_due(&self, options: &Options) -> bool {
        let (journal, table) = self.behind();
        journal > options.compact_above_bytes.max(JOURNAL_TO_LIVE * self.snapshot())
            || table > options.table_bytes as u64
    }

    /// A new snapshot holds all that these counted.
    pub(super) fn compacted(&self, (journal, table): (u64, u64), snapshot: u64) {
        self.journal.fetch_sub(journal, Ordering::Relaxed);
        self.table.fetch_sub(table, Ordering::Relaxed);
        self.set_snapshot(snapshot);
    }
}

/// What an entry of a table takes beside its key.
pub(super) const ENTRY_BYTES: usize = 40;
