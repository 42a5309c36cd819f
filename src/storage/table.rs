use std::{
    hash::{DefaultHasher, Hasher as _},
    ops::Range,
    path::PathBuf,
};

use super::{
    CompactError, Damage, HeadAt,
    attach::Folder,
    record::Record,
    replay::{self, Base, From, Spot},
    usage::ENTRY_BYTES,
};
use crate::disk::{Disk, DiskFile};

/// The newest write to each key of a part of the journal, sorted by key: where its record stands,
/// not the record.
pub(super) struct Table {
    /// All keys, one behind the other.
    keys: Vec<u8>,
    entries: Vec<Entry>,
    files: Vec<PathBuf>,
    /// The state that the part leads to.
    pub(super) base: Base,
    head: Option<OwnedHead>,
    is_full: bool,
}

/// What the last record of the part is sealed with.
struct OwnedHead {
    seq: u64,
    prev_chain: [u8; 32],
    digest: [u8; 32],
    sealed: Vec<u8>,
}

#[derive(Clone)]
struct Entry {
    key: Range<usize>,
    /// `None` deletes.
    put: Option<Put>,
}

/// Where a record stands.
#[derive(Clone, Copy)]
pub(super) struct Put {
    file: usize,
    offset: u64,
    bytes: usize,
    /// Of its bytes when the journal's chain was checked over them.
    sum: u64,
}

impl Table {
    /// Takes in what follows `base`, up to `until` or to the record that reaches the limit.
    pub(super) fn gather(
        folder: &Folder,
        base: Base,
        until: u64,
        limit: usize,
        pace: &mut dyn FnMut(usize) -> Result<(), CompactError>,
    ) -> Result<Self, CompactError> {
        let mut table = Self {
            keys: Vec::new(),
            entries: Vec::new(),
            files: Vec::new(),
            base,
            head: None,
            is_full: false,
        };
        // A step before may have ended in the middle of a segment.
        let begins = replay::header_behind(folder.disk(), &folder.journal(), base.seq)?.is_some();
        let from = if begins { From::Behind(base) } else { From::Holding(base.seq + 1) };
        let mut stopped = None;
        let walked = replay::walk(
            folder.disk(),
            &folder.journal(),
            from,
            Some(until),
            &mut |spot, record| {
                if record.place.seq <= base.seq {
                    return Ok(());
                }
                if record.place.seq == base.seq + 1 && record.place.prev_chain != base.chain {
                    return Err(spot.damaged(Damage::SnapshotChain));
                }
                if stopped.is_none() {
                    stopped = pace(record.padded_len()).err();
                }
                if !table.is_full && stopped.is_none() {
                    table.take(spot, record);
                    table.is_full = table.bytes() >= limit;
                }
                Ok(())
            },
        );
        if let Some(error) = stopped {
            return Err(error);
        }
        let end = walked?;
        if table.base.seq == end.seq {
            table.base.generation = end.header.generation;
        }
        table.sort();
        Ok(table)
    }

    /// Memory that it takes.
    fn bytes(&self) -> usize {
        self.keys.len() + self.entries.len() * ENTRY_BYTES
    }

    fn take(&mut self, spot: Spot<'_>, record: &Record<'_>) {
        if self.files.last().is_none_or(|last| last != spot.file) {
            self.files.push(spot.file.into());
        }
        let file = self.files.len() - 1;
        for (key, place) in record.places() {
            let from = self.keys.len();
            self.keys.extend_from_slice(key);
            let put = place.map(|(at, bytes)| Put {
                file,
                offset: spot.offset + at as u64,
                bytes: bytes.len(),
                sum: sum(bytes),
            });
            self.entries.push(Entry { key: from..self.keys.len(), put });
        }
        self.base.seq = record.place.seq;
        self.base.chain = record.chain;
        let HeadAt { seq, prev_chain, digest, sealed } = record.head();
        self.head = Some(OwnedHead { seq, prev_chain, digest, sealed: sealed.to_vec() });
    }

    fn sort(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        let key = |entry: &Entry| keys.get(entry.key.clone()).unwrap_or_default();
        // Stable: of two writes to one key the later one is behind the earlier one.
        self.entries.sort_by(|one, other| key(one).cmp(key(other)));
        self.entries.reverse();
        self.entries.dedup_by(|later, kept| key(later) == key(kept));
        self.entries.reverse();
        self.keys = keys;
    }
}

impl Table {
    /// The head of the last record; `None` of an empty part.
    pub(super) fn head(&self) -> Option<HeadAt<'_>> {
        self.head.as_ref().map(|head| HeadAt {
            seq: head.seq,
            prev_chain: head.prev_chain,
            digest: head.digest,
            sealed: &head.sealed,
        })
    }

    /// The newest write to each key, ascending.
    pub(super) fn writes(&self) -> impl Iterator<Item = (&[u8], Option<Put>)> {
        let key = |entry: &Entry| self.keys.get(entry.key.clone()).unwrap_or_default();
        self.entries.iter().map(move |entry| (key(entry), entry.put))
    }

    /// What the records take that are put, with their keys, as entries of a snapshot.
    pub(super) fn put_bytes(&self) -> u64 {
        let of = |entry: &Entry| entry.put.map_or(0, |put| 8 + entry.key.len() + put.bytes);
        self.entries.iter().map(of).sum::<usize>() as u64
    }

    /// What reads its records.
    pub(super) fn records<'t>(&'t self, disk: &'t Disk) -> Records<'t> {
        Records { table: self, disk, open: None, record: Vec::new() }
    }
}

/// Reads records from where a table says that they stand.
pub(super) struct Records<'t> {
    table: &'t Table,
    disk: &'t Disk,
    /// The file used last.
    open: Option<(usize, DiskFile)>,
    record: Vec<u8>,
}

impl Records<'_> {
    /// The bytes of a record, which are those over which the chain was checked.
    pub(super) fn read(&mut self, put: Put) -> Result<&[u8], CompactError> {
        let path = self.table.files.get(put.file).cloned().unwrap_or_default();
        let cannot = |source| CompactError::Unreadable(replay::cannot(&path, source));
        if self.open.as_ref().is_none_or(|(file, _)| *file != put.file) {
            self.open = Some((put.file, self.disk.open(&path).map_err(cannot)?));
        }
        self.record.resize(put.bytes, 0);
        if let Some((_, file)) = &self.open {
            file.read_exact_at(&mut self.record, put.offset).map_err(cannot)?;
        }
        if sum(&self.record) != put.sum {
            return Err(CompactError::Unsteady { file: path, offset: put.offset });
        }
        Ok(&self.record)
    }
}

/// Tells whether bytes are the same as before, when nobody changes them on purpose.
fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
