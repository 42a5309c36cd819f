use std::{
    io, mem,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use super::{
    OpenError, StoreId, WriteError,
    record::{BLOCK, SegmentId, padded},
    replay::{End, cannot},
    segment::{HEADER_BYTES, Header, Preparation, Segment, Spare},
};
use crate::disk::Disk;

/// The end of the journal, open for appending.
#[derive(Debug)]
pub(super) struct Writer {
    disk: Disk,
    folder: PathBuf,
    store_id: StoreId,
    generation: u64,
    /// Length of the segments to come.
    segment_bytes: u64,
    segment: Segment,
    /// Where the next record goes.
    offset: u64,
    /// The segment behind this one.
    next: Option<Preparation>,
    /// The one before this one, until the next is prepared.
    past: Option<PathBuf>,
}

impl Writer {
    /// Makes the first segment of a new store, durably.
    pub(super) fn create(
        disk: &Disk,
        folder: &Path,
        store_id: StoreId,
        generation: u64,
        segment_bytes: u64,
    ) -> Result<(), OpenError> {
        let make = || {
            let running = AtomicBool::new(false);
            let spare = Spare::prepare(disk, folder, whole_blocks(segment_bytes), &running)?;
            let id = random_id()?;
            let header = Header { store_id, generation, id, first_seq: 1, prev_chain: [0; 32] };
            spare.install(disk, folder, &header)?;
            disk.sync_dir(folder.parent().unwrap_or(folder))
        };
        make().map_err(|source| cannot(folder, source))
    }

    /// Opens the journal behind its last record.
    pub(super) fn open(
        disk: &Disk,
        folder: &Path,
        end: &End,
        segment_bytes: u64,
    ) -> Result<Self, OpenError> {
        let file = disk.open_rw(&end.file).map_err(|source| cannot(&end.file, source))?;
        // A file that was cut between two blocks has no room in its last, torn one.
        let bytes = end.bytes - end.bytes % BLOCK as u64;
        Ok(Self {
            disk: disk.clone(),
            folder: folder.into(),
            store_id: end.header.store_id,
            generation: end.header.generation,
            segment_bytes: whole_blocks(segment_bytes),
            segment: Segment { file, path: end.file.clone(), id: end.header.id, bytes },
            offset: end.offset,
            next: None,
            past: None,
        })
    }

    /// Makes room for a record of `length` bytes, in the next segment if need be, and names the
    /// segment that the record must carry.
    pub(super) fn make_room(
        &mut self,
        length: usize,
        seq: u64,
        prev_chain: [u8; 32],
    ) -> Result<SegmentId, RollError> {
        if !self.has_room(length) {
            self.roll(padded(length) as u64, self.generation, seq, prev_chain)?;
        }
        Ok(self.segment.id)
    }

    fn has_room(&self, length: usize) -> bool {
        self.offset.saturating_add(padded(length) as u64) <= self.segment.bytes
    }

    /// Bytes that a record of this length takes from what is free: none while it has room.
    pub(super) fn takes_from_disk(&self, length: usize) -> u64 {
        if self.has_room(length) || self.next.is_some() { 0 } else { self.segment_bytes }
    }

    /// Has the next segment written if it is not, and says whether going on in it would not wait.
    pub(super) fn is_next_ready(&mut self) -> bool {
        if self.offset == HEADER_BYTES || !self.disk.is_real() {
            return true;
        }
        if self.next.is_none() {
            self.begin_next();
        }
        self.next.as_ref().is_none_or(Preparation::is_done)
    }

    /// Goes on in a new segment, unless this one is new.
    pub(super) fn roll_now(&mut self, seq: u64, prev_chain: [u8; 32]) -> Result<(), RollError> {
        if self.offset == HEADER_BYTES {
            return Ok(());
        }
        self.roll(0, self.generation, seq, prev_chain)
    }

    /// Goes on in a segment of another generation.
    pub(super) fn begin_generation(
        &mut self,
        generation: u64,
        seq: u64,
        prev_chain: [u8; 32],
    ) -> Result<(), OpenError> {
        let rolled = self.roll(0, generation, seq, prev_chain);
        rolled.map_err(|error| cannot(&self.folder, error.into_io()))
    }

    /// Length of the segments to come.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Appends a record with a zero block behind it, and syncs. An error means that nobody knows
    /// what is on the disk: nothing may be appended after it.
    pub(super) fn append(&mut self, mut record: Vec<u8>) -> Result<(), WriteError> {
        let length = padded(record.len());
        record.resize(length, 0);
        let end = self.offset + length as u64;
        // The zero block is the plain end; at the segment's end there is none.
        if end < self.segment.bytes {
            record.resize(length + BLOCK, 0);
        }
        let file = &self.segment.file;
        let written = file.write_all_at(&record, self.offset).and_then(|()| file.sync_data());
        written.map_err(|source| self.failed(source))?;
        self.offset = end;
        self.prepare_next();
        Ok(())
    }

    /// Goes on in the next segment, whose header names the last sequence and chain of this one.
    fn roll(
        &mut self,
        needed: u64,
        generation: u64,
        first_seq: u64,
        prev_chain: [u8; 32],
    ) -> Result<(), RollError> {
        let spare = self.spare(needed).map_err(|source| {
            // Of a full disk nothing has come: the next one may find space.
            let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
            let is_full = full.contains(&source.kind());
            if is_full { RollError::NoSpace } else { RollError::Failed(self.failed(source)) }
        })?;
        let install = || {
            let store_id = self.store_id;
            let header = Header { store_id, generation, id: random_id()?, first_seq, prev_chain };
            spare.install(&self.disk, &self.folder, &header)
        };
        let next = install().map_err(|source| RollError::Failed(self.failed(source)))?;
        self.past = Some(mem::replace(&mut self.segment, next).path);
        self.generation = generation;
        self.offset = HEADER_BYTES;
        Ok(())
    }

    /// A segment that waits for its header, with room for a record.
    fn spare(&mut self, needed: u64) -> io::Result<Spare> {
        let bytes = self.segment_bytes.max(HEADER_BYTES + needed);
        let prepared = self.next.take().map(Preparation::finish);
        let running = AtomicBool::new(false);
        let mut spare = match prepared {
            Some(Ok(spare)) => spare,
            // Its error may be over by now; if it is not, this is where it counts.
            Some(Err(_)) | None => Spare::prepare(&self.disk, &self.folder, bytes, &running)?,
        };
        spare.lengthen(bytes, &running)?;
        Ok(spare)
    }

    /// Has the next segment written once this one is half full: earlier it would only double what
    /// a small store takes, later a burst might wait for it.
    fn prepare_next(&mut self) {
        // A simulated disk tells its calls by their order, which a second thread would disturb.
        let is_due = self.offset > self.segment.bytes / 2 && self.disk.is_real();
        if self.next.is_none() && is_due {
            self.begin_next();
        }
    }

    fn begin_next(&mut self) {
        let past = self.past.take();
        // Without a thread the segment is written when it is needed.
        self.next = Preparation::start(&self.disk, &self.folder, self.segment_bytes, past).ok();
    }

    fn failed(&self, source: io::Error) -> WriteError {
        WriteError::Journal { file: self.segment.path.clone(), offset: self.offset, source }
    }
}

/// Why there is no next segment.
#[derive(Debug)]
pub(super) enum RollError {
    /// The disk is full, and all is as it was.
    NoSpace,
    /// Nobody knows what is on the disk.
    Failed(WriteError),
}

impl RollError {
    pub(super) fn into_error(self) -> WriteError {
        match self {
            Self::Failed(error) => error,
            Self::NoSpace => WriteError::Journal {
                file: PathBuf::new(),
                offset: 0,
                source: io::ErrorKind::StorageFull.into(),
            },
        }
    }

    fn into_io(self) -> io::Error {
        match self {
            Self::NoSpace => io::ErrorKind::StorageFull.into(),
            Self::Failed(WriteError::Journal { source, .. }) => source,
            Self::Failed(other) => io::Error::other(other),
        }
    }
}

fn whole_blocks(bytes: u64) -> u64 {
    bytes.max(2 * HEADER_BYTES).next_multiple_of(BLOCK as u64)
}

fn random_id() -> io::Result<SegmentId> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    Ok(id)
}
