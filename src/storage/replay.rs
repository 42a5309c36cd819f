use std::{
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use super::{
    Damage, Evidence, OpenError, Point,
    record::{self, BLOCK, FRONT_BYTES, Front, Record},
    segment::{self, HEADER_BYTES, Header},
};
use crate::disk::{Disk, DiskFile, Reading};

/// How much of a segment is read at once.
const WINDOW: usize = 256 * 1024;

/// Where a record begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot<'a> {
    pub(super) file: &'a Path,
    pub(super) offset: u64,
}

impl Spot<'_> {
    pub(super) fn damaged(self, what: Damage) -> OpenError {
        OpenError::Damaged { file: self.file.into(), offset: self.offset, what }
    }
}

/// Sees the records of a walk in their order.
pub(super) type Visit<'v> = dyn FnMut(Spot<'_>, &Record<'_>) -> Result<(), OpenError> + 'v;

/// A state that a segment can follow: nothing at all, or what a snapshot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) generation: u64,
    pub(super) seq: u64,
    pub(super) chain: [u8; 32],
}

/// Where a walk begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum From<'a> {
    /// In the segment that follows this state.
    Behind(Base),
    /// In the segment that holds this sequence, or should; not checked against what is before it.
    Holding(u64),
    /// Where another walk has ended.
    End(&'a End),
}

/// The end of a journal, where the next record goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Header of the last segment.
    pub(super) header: Header,
    pub(super) file: PathBuf,
    /// Length of the last segment in bytes.
    pub(super) bytes: u64,
    /// Where the next record goes.
    pub(super) offset: u64,
    /// The last sequence; 0 when there is no record yet.
    pub(super) seq: u64,
    pub(super) chain: [u8; 32],
    /// Something stands at `offset` that is neither a record nor a zero block.
    pub(super) unfinished: bool,
}

impl End {
    /// Rule (b) of FORMAT.md: what was named was durable, so its absence is damage.
    pub(super) fn check_named(
        &self,
        points: &[Point],
        indexed: Option<u64>,
    ) -> Result<(), OpenError> {
        let indexed = indexed.filter(|&seq| seq > self.seq).map(|seq| Evidence::Indexed { seq });
        let named = points.iter().map(|point| point.seq).max().filter(|&seq| seq > self.seq);
        match named.map(|seq| Evidence::Named { seq }).or(indexed) {
            Some(evidence) => {
                Err(self.spot().damaged(Damage::Record { seq: self.seq + 1, evidence }))
            }
            None => Ok(()),
        }
    }

    /// Rule (c): zeroes the torn record and makes that durable. Call it only when rules (a) and
    /// (b) have not spoken.
    pub(super) fn cut(&self, disk: &Disk) -> Result<(), OpenError> {
        let zero = || {
            let file = disk.open_rw(&self.file)?;
            let zeros = vec![0; WINDOW];
            let mut offset = self.offset;
            while offset < self.bytes {
                let rest = usize::try_from(self.bytes - offset).unwrap_or(WINDOW);
                let part = zeros.get(..rest).unwrap_or(&zeros);
                file.write_all_at(part, offset)?;
                offset += part.len() as u64;
            }
            file.sync_data()
        };
        zero().map_err(|source| cannot(&self.file, source))
    }

    /// Writes the last record once more and syncs it: its first sync may have failed, and then the
    /// system shows what is not on the disk. Those before it were synced before it was written.
    pub(super) fn settle(&self, disk: &Disk, last: u64) -> Result<(), OpenError> {
        let settle = || {
            let file = disk.open_rw(&self.file)?;
            let length = usize::try_from(self.offset.saturating_sub(last)).unwrap_or_default();
            let mut record = vec![0; length];
            file.read_exact_at(&mut record, last)?;
            file.write_all_at(&record, last)?;
            file.sync_data()?;
            disk.sync_dir(self.file.parent().unwrap_or(&self.file))
        };
        settle().map_err(|source| cannot(&self.file, source))
    }

    fn spot(&self) -> Spot<'_> {
        Spot { file: &self.file, offset: self.offset }
    }
}

/// Walks the journal in a folder, checks its structure, and shows every whole record to `visit`:
/// to its end, or up to a sequence that is known to be durable.
///
/// A first record that cannot be read is damage in an earlier segment, and damage when another
/// record follows it (rule (a) of FORMAT.md). Otherwise it is the end, for rules (b) and (c) to
/// judge. Nothing is changed.
pub(super) fn walk(
    disk: &Disk,
    folder: &Path,
    from: From<'_>,
    until: Option<u64>,
    visit: &mut Visit<'_>,
) -> Result<End, OpenError> {
    let mut segments = list(disk, folder)?;
    segments.retain(|(first_seq, _)| until.is_none_or(|until| *first_seq <= until));
    let holds = match from {
        From::Behind(base) => base.seq + 1,
        From::Holding(seq) => seq,
        From::End(end) => end.header.first_seq,
    };
    let start = segments.partition_point(|(first_seq, _)| *first_seq <= holds).saturating_sub(1);
    let mut end: Option<End> = None;
    let mut rest = segments.iter().skip(start).peekable();
    while let Some((first_seq, file)) = rest.next() {
        let mut reader = Reader::open(disk, file, *first_seq)?;
        match (&end, from) {
            (Some(before), _) => reader.follows(before)?,
            (None, From::Behind(base)) => reader.follows_base(folder, base)?,
            (None, From::Holding(_)) => {}
            (None, From::End(end)) => reader.go_on(end)?,
        }
        let next = rest.peek().map(|(first_seq, _)| *first_seq).or(until.map(|until| until + 1));
        end = Some(reader.read(next, visit)?);
    }
    end.ok_or_else(|| missing_segment(folder, holds))
}

/// The segments of a journal, of which there is at least one.
fn list(disk: &Disk, folder: &Path) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let no_store = || OpenError::NoStore { folder: folder.parent().unwrap_or(folder).into() };
    let segments = segment::list(disk, folder).map_err(|source| {
        let is_missing = source.kind() == io::ErrorKind::NotFound;
        if is_missing { no_store() } else { cannot(folder, source) }
    })?;
    if segments.is_empty() { Err(no_store()) } else { Ok(segments) }
}

/// The header of the last segment.
pub(super) fn newest_header(disk: &Disk, folder: &Path) -> Result<Header, OpenError> {
    let segments = list(disk, folder)?;
    let (first_seq, path) = segments.last().ok_or_else(|| missing_segment(folder, 1))?;
    Ok(Reader::open(disk, path, *first_seq)?.header)
}

/// The header of the segment that follows this sequence, if it is there.
pub(super) fn header_behind(
    disk: &Disk,
    folder: &Path,
    seq: u64,
) -> Result<Option<Header>, OpenError> {
    let path = folder.join(segment::file_name(seq + 1));
    match Reader::open(disk, &path, seq + 1) {
        Ok(reader) => Ok(Some(reader.header)),
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn missing_segment(folder: &Path, first_seq: u64) -> OpenError {
    let file = folder.join(segment::file_name(first_seq));
    Spot { file: &file, offset: 0 }.damaged(Damage::SegmentMissing)
}

/// Reads one segment from its header on.
struct Reader<'a> {
    path: &'a Path,
    file: BufReader<Reading>,
    header: Header,
    bytes: u64,
    offset: u64,
    seq: u64,
    chain: [u8; 32],
    record: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn open(disk: &Disk, path: &'a Path, first_seq: u64) -> Result<Self, OpenError> {
        let read = || {
            let file = disk.open(path)?;
            let bytes = file.len()?;
            let mut file = buffered(file);
            let mut block = Vec::with_capacity(BLOCK);
            file.by_ref().take(HEADER_BYTES).read_to_end(&mut block)?;
            Ok((file, bytes, block))
        };
        let (file, bytes, block) = read().map_err(|source| cannot(path, source))?;
        let header = Header::decode(&block).filter(|header| header.first_seq == first_seq);
        let spot = Spot { file: path, offset: 0 };
        let header = header.ok_or_else(|| spot.damaged(Damage::SegmentHeader))?;
        Ok(Self {
            path,
            file,
            header,
            bytes,
            offset: HEADER_BYTES,
            seq: first_seq - 1,
            chain: header.prev_chain,
            record: Vec::new(),
        })
    }

    /// Refuses a segment of another store, or one that does not follow the one before.
    fn follows(&self, before: &End) -> Result<(), OpenError> {
        let spot = Spot { file: self.path, offset: 0 };
        // A restore or an accepted rollback goes on in a segment of the next generation.
        if self.header.store_id != before.header.store_id
            || self.header.generation < before.header.generation
        {
            return Err(spot.damaged(Damage::ForeignSegment));
        }
        if (self.seq, self.chain) != (before.seq, before.chain) {
            return Err(spot.damaged(Damage::SegmentOrder));
        }
        Ok(())
    }

    /// Refuses a segment that does not follow this state.
    fn follows_base(&self, folder: &Path, base: Base) -> Result<(), OpenError> {
        let spot = Spot { file: self.path, offset: 0 };
        if self.seq != base.seq {
            return Err(missing_segment(folder, base.seq + 1));
        }
        if self.header.generation < base.generation {
            return Err(spot.damaged(Damage::ForeignSegment));
        }
        if self.chain != base.chain {
            return Err(spot.damaged(Damage::SegmentOrder));
        }
        Ok(())
    }

    /// Goes on behind the last record of another walk.
    fn go_on(&mut self, end: &End) -> Result<(), OpenError> {
        if self.header != end.header {
            return Err(Spot { file: self.path, offset: 0 }.damaged(Damage::SegmentHeader));
        }
        (self.offset, self.seq, self.chain) = (end.offset, end.seq, end.chain);
        let sought = self.file.seek(SeekFrom::Start(end.offset));
        sought.map(drop).map_err(|source| cannot(self.path, source))
    }

    /// Reads up to the record before `next`, the first sequence of the segment behind; in the last
    /// segment up to what is no record.
    fn read(mut self, next: Option<u64>, visit: &mut Visit<'_>) -> Result<End, OpenError> {
        let path = self.path;
        let unfinished = loop {
            // What is behind the last record of an earlier segment was never anything.
            if next == Some(self.seq + 1) {
                break false;
            }
            match self.step(visit)? {
                Step::Record => {}
                Step::Blank => break false,
                Step::Unreadable => break true,
            }
        };
        if next.is_some_and(|next| next != self.seq + 1) {
            return Err(self.missing(Evidence::SegmentFollows));
        }
        if next.is_none() {
            let later = self.later_record().map_err(|source| cannot(path, source))?;
            if let Some(offset) = later {
                return Err(self.missing(Evidence::RecordFollows { offset }));
            }
        }
        Ok(End {
            header: self.header,
            file: path.into(),
            bytes: self.bytes,
            offset: self.offset,
            seq: self.seq,
            chain: self.chain,
            unfinished,
        })
    }

    /// Reads what stands at the offset, and moves behind it if it is the next record.
    fn step(&mut self, visit: &mut Visit<'_>) -> Result<Step, OpenError> {
        let (path, offset) = (self.path, self.offset);
        let padded = match self.load().map_err(|source| cannot(path, source))? {
            Loaded::Bytes { padded } => padded,
            Loaded::Blank => return Ok(Step::Blank),
            Loaded::Unreadable => return Ok(Step::Unreadable),
        };
        let Some(record) = Record::decode(self.header.store_id, &self.record) else {
            return Ok(Step::Unreadable);
        };
        let expected = (self.seq + 1, self.header.id, self.chain);
        let place = record.place;
        if (place.seq, place.segment_id, place.prev_chain) != expected {
            return Ok(Step::Unreadable);
        }
        visit(Spot { file: path, offset }, &record)?;
        self.offset += padded;
        self.seq = place.seq;
        self.chain = record.chain;
        Ok(Step::Record)
    }

    /// Fills `record` with the bytes that the front at the offset claims, if the file has them.
    fn load(&mut self) -> io::Result<Loaded> {
        self.record.clear();
        self.fill(FRONT_BYTES as u64)?;
        if self.record.iter().all(|&byte| byte == 0) {
            self.fill(BLOCK as u64)?;
            let blank = self.record.iter().all(|&byte| byte == 0);
            return Ok(if blank { Loaded::Blank } else { Loaded::Unreadable });
        }
        let Some(front) = Front::decode(&self.record) else {
            return Ok(Loaded::Unreadable);
        };
        let length = (FRONT_BYTES + record::CHAIN_BYTES) as u64 + front.body_bytes;
        let rest = self.bytes.saturating_sub(self.offset);
        if length > rest {
            return Ok(Loaded::Unreadable);
        }
        let padded = length.next_multiple_of(BLOCK as u64).min(rest);
        self.fill(padded)?;
        let Ok(length) = usize::try_from(length) else {
            return Ok(Loaded::Unreadable);
        };
        let zeros = self.record.get(length..).is_some_and(|pad| pad.iter().all(|&byte| byte == 0));
        self.record.truncate(length);
        Ok(if zeros { Loaded::Bytes { padded } } else { Loaded::Unreadable })
    }

    /// Reads on until `record` holds this many bytes, or all that the file has.
    fn fill(&mut self, length: u64) -> io::Result<()> {
        let missing = length.saturating_sub(self.record.len() as u64);
        self.file.by_ref().take(missing).read_to_end(&mut self.record)?;
        Ok(())
    }

    /// Rule (a): a record of this segment from the offset on that is not the one expected there.
    ///
    /// Its front is enough, and any sequence counts: the segment's id is random and fresh, so only
    /// a record that was written here bears it, and a crash tears none but the last.
    fn later_record(&mut self) -> io::Result<Option<u64>> {
        let mut offset = self.offset;
        self.file.seek(SeekFrom::Start(offset))?;
        let mut block = Vec::with_capacity(BLOCK);
        loop {
            block.clear();
            self.file.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
            if block.is_empty() {
                return Ok(None);
            }
            let ours = Front::decode(&block)
                .map(|front| front.place)
                .filter(|place| place.segment_id == self.header.id)
                .filter(|place| offset != self.offset || place.seq != self.seq + 1);
            if ours.is_some() {
                return Ok(Some(offset));
            }
            offset += block.len() as u64;
        }
    }

    fn missing(&self, evidence: Evidence) -> OpenError {
        let what = Damage::Record { seq: self.seq + 1, evidence };
        Spot { file: self.path, offset: self.offset }.damaged(what)
    }
}

/// What stands at a place of the journal.
enum Step {
    /// The next record.
    Record,
    /// A zero block, or the segment's end.
    Blank,
    /// Anything else.
    Unreadable,
}

/// What a front promises, before anything is checked.
enum Loaded {
    /// As many bytes as it claims, and zeros up to this many.
    Bytes {
        padded: u64,
    },
    Blank,
    Unreadable,
}

/// Reads a file in windows from its beginning.
pub(super) fn buffered(file: DiskFile) -> BufReader<Reading> {
    BufReader::with_capacity(WINDOW, Reading::from(file, 0))
}

pub(super) fn cannot(file: &Path, source: io::Error) -> OpenError {
    OpenError::Io { file: file.into(), source }
}
