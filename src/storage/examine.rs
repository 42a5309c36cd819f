use std::path::{Path, PathBuf};

use super::{
    Damage, HeadAt, OpenError, Options, SnapshotAt, StoreId,
    attach::Folder,
    cursor::Cursor,
    record::{BLOCK, CHAIN_BYTES, FRONT_BYTES, Front, Record, SegmentId, WriteRef, padded},
    replay::cannot,
    segment::{self, Header},
    snapshot::Snapshot,
};

/// What somebody with the keys has to say of what an examination meets. `Err` says what is wrong.
pub trait Inspect {
    /// The state that the journal goes on from: its sequence, 0 for nothing.
    fn begins(&mut self, seq: u64);

    /// One commit of the journal, in their order: its head and its writes.
    ///
    /// # Errors
    /// What is wrong with it.
    fn commit(&mut self, head: &HeadAt<'_>, writes: &[WriteRef<'_>]) -> Result<(), String>;

    /// A snapshot's head; its entries follow.
    ///
    /// # Errors
    /// What is wrong with it.
    fn snapshot(&mut self, snapshot: &SnapshotAt<'_>) -> Result<(), String>;

    /// An entry of that snapshot.
    ///
    /// # Errors
    /// What is wrong with it.
    fn entry(&mut self, key: &[u8], record: &[u8]) -> Result<(), String>;

    /// The end of that snapshot.
    ///
    /// # Errors
    /// What is wrong with all of it.
    fn snapshot_ends(&mut self) -> Result<(), String>;

    /// The end of a journal without damage.
    ///
    /// # Errors
    /// What is wrong with all of it.
    fn journal_ends(&mut self) -> Result<(), String>;
}

/// What an examination has seen.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// The store, by the first file that says so.
    pub store_id: Option<StoreId>,
    /// Whole commits in the journal.
    pub commits: u64,
    /// Whole entries in snapshots.
    pub entries: u64,
    /// The newest commit that is whole; 0 for none.
    pub seq: u64,
    /// Each damage, in the order of the files.
    pub damages: Vec<Place>,
}

/// A damage: where, what, and what it held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// The commits that are concerned: the first and the last, when that is known.
    pub commits: Option<(u64, u64)>,
    /// The keys of the records concerned, as far as they can be read.
    pub keys: Vec<Vec<u8>>,
}

/// Reads every file of a stopped store and names each damage. Changes nothing and needs no key:
/// whoever has them listens as `inspector`.
///
/// Blocking; takes as long as it takes to read all there is.
///
/// # Errors
/// What the system says; damage is no error.
pub fn examine(
    folder: &Path,
    options: &Options,
    inspector: &mut dyn Inspect,
    hear: &mut dyn FnMut(u64, u64),
) -> Result<Examined, OpenError> {
    let folder = Folder { path: folder.into(), options: options.clone() };
    let journal = folder.journal();
    let segments =
        segment::list(folder.disk(), &journal).map_err(|source| cannot(&journal, source))?;
    let mut snapshots = folder.bases()?;
    snapshots.reverse();
    let total = (segments.len() + snapshots.len()) as u64;
    let mut examiner = Examiner { folder: &folder, inspector, seen: Examined::default() };
    let mut done = 0;
    let mut tell = || {
        hear(done, total);
        done += 1;
    };
    // The journal is held against the oldest state that is kept, so that one comes first.
    let mut snapshots = snapshots.into_iter();
    let first = segments.first().map_or(1, |(seq, _)| *seq);
    let mut base = (first == 1).then_some((0, [0; 32]));
    if base.is_none()
        && let Some((seq, path)) = snapshots.next()
    {
        tell();
        base = examiner.snapshot(seq, &path)?;
    }
    examiner.inspector.begins(base.map_or(0, |(seq, _)| seq));
    let mut state = base;
    let last = segments.len().saturating_sub(1);
    for (n, (first_seq, path)) in segments.iter().enumerate() {
        tell();
        let next = segments.get(n + 1).map(|(seq, _)| *seq);
        // Older than the oldest state: nothing is held against it.
        state = examiner.segment(path, *first_seq, state, next, n == last)?;
    }
    if segments.is_empty() {
        examiner.found(&journal, 0, Damage::SegmentMissing.to_string());
    }
    if examiner.seen.damages.is_empty()
        && let Err(what) = examiner.inspector.journal_ends()
    {
        examiner.found(&journal, 0, what);
    }
    for (seq, path) in snapshots {
        tell();
        examiner.snapshot(seq, &path)?;
    }
    Ok(examiner.seen)
}

/// A sequence and its chain value.
type State = (u64, [u8; 32]);

struct Examiner<'a> {
    folder: &'a Folder,
    inspector: &'a mut dyn Inspect,
    seen: Examined,
}

impl Examiner<'_> {
    fn found(&mut self, file: &Path, offset: u64, what: String) -> &mut Place {
        let place = Place { file: file.into(), offset, what, commits: None, keys: Vec::new() };
        self.seen.damages.push(place);
        let last = self.seen.damages.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "pushed in the line above")]
        &mut self.seen.damages[last]
    }

    /// Reads a snapshot to its end; its state when it is whole.
    fn snapshot(&mut self, seq: u64, path: &Path) -> Result<Option<State>, OpenError> {
        let before = self.seen.damages.len();
        match self.read_snapshot(seq, path) {
            Ok(state) => Ok((self.seen.damages.len() == before).then_some(state)),
            Err(OpenError::Damaged { file, offset, what }) => {
                self.found(&file, offset, what.to_string()).commits = Some((seq, seq));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn read_snapshot(&mut self, seq: u64, path: &Path) -> Result<State, OpenError> {
        let disk = self.folder.disk();
        let snapshot = Snapshot::open(disk, path)?;
        if snapshot.base.seq != seq {
            return Err(OpenError::Damaged {
                file: path.into(),
                offset: 0,
                what: Damage::SnapshotFront,
            });
        }
        if let Err(what) = self.inspector.snapshot(&snapshot.at()) {
            self.found(path, 0, what).commits = Some((seq, seq));
        }
        let mut entries = snapshot.entries(disk)?;
        loop {
            let offset = entries.offset();
            if !entries.advance()? {
                break;
            }
            let (key, record) = entries.entry();
            self.seen.entries += 1;
            if let Err(what) = self.inspector.entry(key, record) {
                let key = key.to_vec();
                self.found(path, offset, what).keys.push(key);
            }
        }
        // Believed only now that the checksum holds.
        if *self.seen.store_id.get_or_insert(snapshot.store_id) != snapshot.store_id {
            self.found(path, 0, Damage::ForeignSegment.to_string()).commits = Some((seq, seq));
        }
        if let Err(what) = self.inspector.snapshot_ends() {
            self.found(path, 0, what).commits = Some((seq, seq));
        }
        self.seen.seq = self.seen.seq.max(seq);
        Ok((snapshot.base.seq, snapshot.base.chain))
    }

    /// Reads a segment to its end, past what is damaged in it; the state that the next one follows,
    /// when it is known.
    fn segment(
        &mut self,
        path: &Path,
        first_seq: u64,
        before: Option<State>,
        next: Option<u64>,
        is_last: bool,
    ) -> Result<Option<State>, OpenError> {
        let bytes =
            self.folder.disk().read(path, u64::MAX).map_err(|source| cannot(path, source))?;
        let header = bytes.get(..BLOCK).and_then(Header::decode);
        let Some(header) = header.filter(|header| header.first_seq == first_seq) else {
            let held = held(&bytes, None);
            self.found(path, 0, Damage::SegmentHeader.to_string()).commits = held;
            return Ok(None);
        };
        let is_ours = *self.seen.store_id.get_or_insert(header.store_id) == header.store_id;
        if !is_ours {
            self.found(path, 0, Damage::ForeignSegment.to_string());
            return Ok(None);
        }
        let begins = (header.first_seq - 1, header.prev_chain);
        // The state that is kept may be of a commit inside the first segment.
        let is_first = self.seen.commits == 0;
        let follows =
            before.is_none_or(|before| begins == before || is_first && begins.0 < before.0);
        if !follows {
            let place = self.found(path, 0, Damage::SegmentOrder.to_string());
            place.commits = before.map(|(seq, _)| (seq + 1, first_seq - 1));
        }
        let walk = Walk { path, bytes: &bytes, header, is_last };
        let (seq, chain) = self.walk(&walk, begins);
        if let Some(next) = next.filter(|next| *next > seq + 1) {
            let missing = self.seen.damages.iter().any(|damage| damage.file == path);
            if !missing {
                let place = self.found(path, walk.bytes.len() as u64, "commits are missing".into());
                place.commits = Some((seq + 1, next - 1));
            }
        }
        Ok(Some((seq, chain)))
    }

    /// Reads records until there are none, and looks for the next one where one is damaged.
    fn walk(&mut self, walk: &Walk<'_>, (mut seq, mut chain): State) -> State {
        let Walk { path, bytes, header, .. } = walk;
        let mut at = BLOCK;
        while at < bytes.len() {
            if let Some(record) = walk.record(at, seq, chain) {
                (seq, chain) = (record.place.seq, record.chain);
                self.commit(path, at, &record);
                at += record.padded_len();
                continue;
            }
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(first) = rest.iter().position(|byte| *byte != 0) else { break };
            let Some((resumed, place)) = next_record(bytes, at, header.id, seq) else {
                let held = held(rest, Some(header.id)).map(|_| (seq + 1, seq + 1));
                // Behind the last record there are zeros; a crash leaves at most one torn record.
                let (offset, what) = match (held, walk.is_last, first < BLOCK) {
                    (Some(_), true, _) => (at, "the last commit is torn, or damaged"),
                    (Some(_), false, _) => (at, "a commit is damaged"),
                    (None, _, true) => (at + first, "a commit that was begun, or damage"),
                    (None, _, false) => (at + first, "zeros behind the last commit are changed"),
                };
                let keys = keys_of(rest);
                let found = self.found(path, offset as u64, what.to_owned());
                (found.commits, found.keys) = (held, keys);
                break;
            };
            let keys = keys_of(rest);
            let found = self.found(path, at as u64, "a commit is damaged".to_owned());
            found.commits = Some((seq + 1, place.seq.saturating_sub(1).max(seq + 1)));
            found.keys = keys;
            (seq, chain) = (place.seq - 1, place.prev_chain);
            at = resumed;
        }
        (seq, chain)
    }

    fn commit(&mut self, path: &Path, at: usize, record: &Record<'_>) {
        self.seen.commits += 1;
        let seq = record.place.seq;
        self.seen.seq = self.seen.seq.max(seq);
        if let Err(what) = self.inspector.commit(&record.head(), &record.writes) {
            let keys = record.writes.iter().map(|(key, _)| key.to_vec()).collect();
            let found = self.found(path, at as u64, what);
            (found.commits, found.keys) = (Some((seq, seq)), keys);
        }
    }
}

/// A segment that is being read.
struct Walk<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    header: Header,
    is_last: bool,
}

impl<'a> Walk<'a> {
    /// The record at an offset, if it is whole and the next one.
    fn record(&self, at: usize, seq: u64, chain: [u8; 32]) -> Option<Record<'a>> {
        let record = whole(self.bytes, at, self.header.store_id)?;
        let place = (record.place.seq, record.place.segment_id, record.place.prev_chain);
        (place == (seq + 1, self.header.id, chain)).then_some(record)
    }
}

/// The whole record at an offset, its padding checked.
fn whole(bytes: &[u8], at: usize, store_id: StoreId) -> Option<Record<'_>> {
    let rest = bytes.get(at..)?;
    let front = Front::decode(rest)?;
    let length = FRONT_BYTES + usize::try_from(front.body_bytes).ok()? + CHAIN_BYTES;
    let record = Record::decode(store_id, rest.get(..length)?)?;
    let padding = rest.get(length..padded(length).min(rest.len()))?;
    padding.iter().all(|byte| *byte == 0).then_some(record)
}

/// Where a record of this segment begins behind an offset: the id is random, so that nothing else
/// bears it.
fn next_record(
    bytes: &[u8],
    at: usize,
    id: SegmentId,
    seq: u64,
) -> Option<(usize, super::record::Place)> {
    let blocks = (at / BLOCK + 1..bytes.len().div_ceil(BLOCK)).map(|block| block * BLOCK);
    blocks.into_iter().find_map(|at| {
        let place = Front::decode(bytes.get(at..)?)?.place;
        (place.segment_id == id && place.seq > seq + 1).then_some((at, place))
    })
}

/// The first and last sequence that fronts in these bytes name.
fn held(bytes: &[u8], id: Option<SegmentId>) -> Option<(u64, u64)> {
    let fronts = bytes.chunks(BLOCK).filter_map(Front::decode);
    let ours = fronts.filter(|front| id.is_none_or(|id| front.place.segment_id == id));
    let seqs: Vec<u64> = ours.map(|front| front.place.seq).collect();
    Some((*seqs.iter().min()?, *seqs.iter().max()?))
}

/// The keys of a damaged record, as far as its lengths still lead to them.
fn keys_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut read = || {
        let mut cursor = Cursor::new(bytes.get(FRONT_BYTES..)?);
        for _ in 0..cursor.be32()? {
            let op = cursor.byte()?;
            let key = cursor.lp()?;
            super::batch::check_key(key).ok()?;
            keys.push(key.to_vec());
            if op == 1 {
                cursor.lp()?;
            }
        }
        Some(())
    };
    // Whatever was read before the lengths made no sense is worth telling.
    let _whole: Option<()> = read();
    keys
}
