use std::{
    io::{self, BufReader, Read as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    Damage, OpenError, RecordHeader, SnapshotAt, StoreId, batch,
    cursor::Cursor,
    replay::{Base, Spot, buffered, cannot},
};
use crate::disk::{Disk, DiskFile, Reading, if_there};

/// Names of files that are being written and are no snapshots yet. There are two because one may be
/// made from the other, when the journal is longer than memory allows.
const WRITING: [&str; 2] = ["writing.0", "writing.1"];
const MAGIC: &[u8; 8] = b"KSNP0001";
/// Length of what stands before the entries.
const FRONT_BYTES: usize = 8 + 16 + 8 + 8 + 32;
/// Stands where the next key's length would.
const END: u32 = u32::MAX;
/// Marker, number of entries, checksum.
const TAIL_BYTES: u64 = 4 + 8 + 32;
/// Length of the length that ends the file.
const LENGTH_BYTES: usize = 4;
/// No sealed head is longer.
const MAX_HEAD_BYTES: u64 = 4 * 1024;
/// How much is written at once…
const WRITE_BYTES: usize = 256 * 1024;
/// … and how much until it is synced: less at once than would hold up the journal's own syncs.
const SYNC_BYTES: usize = 4 * 1024 * 1024;

/// The file name of the snapshot of this sequence.
pub(super) fn file_name(seq: u64) -> String {
    format!("{seq:016x}.snap")
}

/// The snapshots of a folder by their sequence, newest first; other files are not ours. Without
/// the folder there are none.
pub(super) fn list(disk: &Disk, folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let names = match disk.read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let mut snapshots = Vec::new();
    for name in names {
        let seq = name
            .to_str()
            .and_then(|name| name.strip_suffix(".snap"))
            .and_then(|seq| u64::from_str_radix(seq, 16).ok())
            .filter(|&seq| name == *file_name(seq));
        snapshots.extend(seq.map(|seq| (seq, folder.join(&name))));
    }
    snapshots.sort_unstable_by(|one, other| other.cmp(one));
    Ok(snapshots)
}

/// Removes what a compaction that broke off has left.
pub(super) fn remove_leftovers(disk: &Disk, folder: &Path) -> io::Result<()> {
    for name in WRITING {
        let path = folder.join(name);
        if disk.exists(&path)? {
            if_there(disk.remove_file(&path))?;
            disk.sync_dir(folder)?;
        }
    }
    Ok(())
}

/// A snapshot whose beginning and end make sense (FORMAT.md 7). Its entries are checked when they
/// are [read](Self::entries), its head by the seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) file: PathBuf,
    pub(super) store_id: StoreId,
    pub(super) base: Base,
    /// Length of the file in bytes.
    pub(super) bytes: u64,
    /// How many entries it says it has.
    pub(super) records: u64,
    /// The checksum that it says it has.
    digest: [u8; 32],
    pub(super) sealed: Vec<u8>,
    /// Where the entries end.
    tail: u64,
}

impl Snapshot {
    /// Reads beginning and end of a snapshot, whatever it is called.
    pub(super) fn open(disk: &Disk, path: &Path) -> Result<Self, OpenError> {
        let read = || {
            let file = disk.open(path)?;
            let bytes = file.len()?;
            let least = FRONT_BYTES as u64 + TAIL_BYTES + LENGTH_BYTES as u64;
            if bytes < least {
                return Ok(None);
            }
            let mut front = [0; FRONT_BYTES];
            file.read_exact_at(&mut front, 0)?;
            let mut length = [0; LENGTH_BYTES];
            file.read_exact_at(&mut length, bytes - LENGTH_BYTES as u64)?;
            let head_bytes = u64::from(u32::from_be_bytes(length));
            if head_bytes > MAX_HEAD_BYTES.min(bytes - least) {
                return Ok(None);
            }
            let tail_bytes = TAIL_BYTES + head_bytes;
            let mut tail = vec![0; usize::try_from(tail_bytes).unwrap_or_default()];
            let at = bytes - LENGTH_BYTES as u64 - tail_bytes;
            file.read_exact_at(&mut tail, at)?;
            Ok(Some((bytes, front, at, tail)))
        };
        let read = read().map_err(|source| cannot(path, source))?;
        let end = read.as_ref().map_or(0, |(_, _, at, _)| *at);
        let spot = |offset| Spot { file: path, offset };
        let Some((bytes, front, at, tail)) = read else {
            return Err(spot(end).damaged(Damage::SnapshotEnd));
        };
        let (store_id, base) =
            decode_front(&front).ok_or_else(|| spot(0).damaged(Damage::SnapshotFront))?;
        let (records, digest, sealed) =
            decode_tail(&tail).ok_or_else(|| spot(end).damaged(Damage::SnapshotEnd))?;
        Ok(Self { file: path.into(), store_id, base, bytes, records, digest, sealed, tail: at })
    }

    /// What the seal opens.
    pub(super) fn at(&self) -> SnapshotAt<'_> {
        let Base { seq, chain, .. } = self.base;
        SnapshotAt { seq, chain, digest: self.digest, sealed: &self.sealed }
    }

    /// Reads the entries.
    pub(super) fn entries(&self, disk: &Disk) -> Result<Entries<'_>, OpenError> {
        let open = || {
            let mut file = buffered(disk.open(&self.file)?);
            let mut front = [0; FRONT_BYTES];
            file.read_exact(&mut front)?;
            Ok((file, front))
        };
        let (file, front) = open().map_err(|source| cannot(&self.file, source))?;
        Ok(Entries {
            snapshot: self,
            file,
            sum: Sha256::new().chain_update(front),
            offset: FRONT_BYTES as u64,
            read: 0,
            key: Vec::new(),
            last_key: Vec::new(),
            record: Vec::new(),
        })
    }
}

fn decode_front(front: &[u8]) -> Option<(StoreId, Base)> {
    let mut cursor = Cursor::new(front);
    if &cursor.array::<8>()? != MAGIC {
        return None;
    }
    let store_id = StoreId(cursor.array()?);
    let (generation, seq, chain) = (cursor.be64()?, cursor.be64()?, cursor.array()?);
    Some((store_id, Base { generation, seq, chain }))
}

fn encode_front(store_id: StoreId, base: Base) -> Vec<u8> {
    [
        MAGIC.as_slice(),
        &store_id.0,
        &base.generation.to_be_bytes(),
        &base.seq.to_be_bytes(),
        &base.chain,
    ]
    .concat()
}

fn decode_tail(tail: &[u8]) -> Option<(u64, [u8; 32], Vec<u8>)> {
    let mut cursor = Cursor::new(tail);
    if cursor.be32()? != END {
        return None;
    }
    let (records, digest) = (cursor.be64()?, cursor.array()?);
    Some((records, digest, cursor.rest().to_vec()))
}

/// The entries of a snapshot, one after the other, checked as they come: their order, number and
/// checksum. What was read counts only once the end has come without an error.
pub(super) struct Entries<'s> {
    snapshot: &'s Snapshot,
    file: BufReader<Reading>,
    sum: Sha256,
    offset: u64,
    read: u64,
    key: Vec<u8>,
    last_key: Vec<u8>,
    record: Vec<u8>,
}

impl Entries<'_> {
    /// Reads the next entry; false at the end, when all of them are known to be whole.
    pub(super) fn advance(&mut self) -> Result<bool, OpenError> {
        let offset = self.offset;
        if offset == self.snapshot.tail {
            self.check_end()?;
            return Ok(false);
        }
        std::mem::swap(&mut self.key, &mut self.last_key);
        let read = take(&mut self.file, &mut self.key, batch::MAX_KEY_BYTES)
            .and_then(|()| take(&mut self.file, &mut self.record, batch::MAX_RECORD_BYTES));
        match read {
            Ok(()) => {}
            // Too long, or more than there is.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                return Err(self.damaged(offset, Damage::SnapshotEntry));
            }
            Err(error) => return Err(cannot(&self.snapshot.file, error)),
        }
        for part in [&self.key, &self.record] {
            self.sum.update(be32(part.len()));
            self.sum.update(part);
        }
        self.offset += 8 + (self.key.len() + self.record.len()) as u64;
        self.read += 1;
        let is_whole = batch::check_key(&self.key).is_ok()
            && batch::check_record(&self.record).is_ok()
            && (self.read == 1 || self.last_key < self.key)
            && self.offset <= self.snapshot.tail;
        if is_whole { Ok(true) } else { Err(self.damaged(offset, Damage::SnapshotEntry)) }
    }

    /// The entry read last.
    pub(super) fn entry(&self) -> (&[u8], &[u8]) {
        (&self.key, &self.record)
    }

    /// Its record's header.
    pub(super) fn header(&self) -> Option<RecordHeader> {
        RecordHeader::of(&self.record)
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    fn check_end(&mut self) -> Result<(), OpenError> {
        let Snapshot { tail, records, digest, .. } = self.snapshot;
        let sum = self.sum.clone().chain_update(be32_of(END)).chain_update(records.to_be_bytes());
        if self.read != *records || sum.finalize().as_slice() != digest {
            return Err(self.damaged(*tail, Damage::SnapshotSum));
        }
        Ok(())
    }

    fn damaged(&self, offset: u64, what: Damage) -> OpenError {
        Spot { file: &self.snapshot.file, offset }.damaged(what)
    }
}

/// Reads `be32 length || bytes`.
fn take(file: &mut BufReader<Reading>, into: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    into.resize(length, 0);
    file.read_exact(into)
}

/// Writes a snapshot into a file of its own, which is no snapshot before it is
/// [finished](Self::finish) and [installed](Finished::install).
pub(super) struct Writer {
    file: DiskFile,
    path: PathBuf,
    buffer: Vec<u8>,
    sum: Sha256,
    offset: u64,
    unsynced: usize,
    records: u64,
}

/// A whole snapshot, synced, under a name that nobody looks for.
pub(super) struct Finished {
    pub(super) path: PathBuf,
}

impl Writer {
    pub(super) fn create(
        disk: &Disk,
        folder: &Path,
        number: u32,
        store_id: StoreId,
        base: Base,
    ) -> io::Result<Self> {
        let [even, odd] = WRITING;
        let path = folder.join(if number.is_multiple_of(2) { even } else { odd });
        if_there(disk.remove_file(&path))?;
        let file = disk.create_new(&path)?;
        let front = encode_front(store_id, base);
        let sum = Sha256::new().chain_update(&front);
        Ok(Self { file, path, buffer: front, sum, offset: 0, unsynced: 0, records: 0 })
    }

    /// Adds an entry; its key is greater than the one before.
    pub(super) fn add(&mut self, key: &[u8], record: &[u8]) -> io::Result<()> {
        let from = self.buffer.len();
        for part in [key, record] {
            self.buffer.extend_from_slice(&be32(part.len()));
            self.buffer.extend_from_slice(part);
        }
        self.sum.update(self.buffer.get(from..).unwrap_or_default());
        self.records += 1;
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Ends the file with the head that `seal` makes for its checksum, and syncs it.
    pub(super) fn finish(mut self, seal: impl FnOnce([u8; 32]) -> Vec<u8>) -> io::Result<Finished> {
        let counted = [be32_of(END).as_slice(), &self.records.to_be_bytes()].concat();
        let digest: [u8; 32] = self.sum.clone().chain_update(&counted).finalize().into();
        let sealed = seal(digest);
        for part in [&counted, digest.as_slice(), &sealed, &be32(sealed.len())] {
            self.buffer.extend_from_slice(part);
        }
        self.flush()?;
        self.file.sync_all()?;
        Ok(Finished { path: self.path })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.unsynced += self.buffer.len();
        self.buffer.clear();
        if self.unsynced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }
}

impl Finished {
    /// Gives the snapshot its name, durably, and returns it.
    pub(super) fn install(self, disk: &Disk, folder: &Path, seq: u64) -> io::Result<PathBuf> {
        let path = folder.join(file_name(seq));
        disk.rename(&self.path, &path)?;
        disk.sync_dir(folder)?;
        Ok(path)
    }
}

fn be32(length: usize) -> [u8; 4] {
    be32_of(u32::try_from(length).unwrap_or(END))
}

fn be32_of(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}
