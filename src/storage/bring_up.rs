use std::{path::PathBuf, sync::Arc};

use super::{
    Backend, IndexError, OpenError, SnapshotSeal,
    attach::{Failed, Folder},
    record::{Record, WriteRef},
    replay::{self, End, From, cannot},
    sled::{self, Claim, Index},
    snapshot::Snapshot,
};
use crate::disk::if_there;

/// Replayed writes reach the index in batches of about this many…
const REPLAY_WRITES: usize = 1_024;
/// … or this many bytes.
const REPLAY_BYTES: usize = 1024 * 1024;

/// What an index is to be brought to.
pub(super) struct Target<'a> {
    pub(super) folder: &'a Folder,
    pub(super) snapshot: Option<&'a Snapshot>,
    pub(super) end: &'a End,
    pub(super) snapshots: Arc<dyn SnapshotSeal>,
}

/// The index as it was found.
pub(super) struct Candidate {
    found: Option<Found>,
    /// Folders of what does not open, or makes no sense.
    broken: Vec<PathBuf>,
    /// Folders of one that was left behind, or not finished, when another took its place.
    left_over: Vec<PathBuf>,
}

/// An index that opens, and what it claims to hold.
struct Found {
    index: Backend,
    claim: Option<Claim>,
    path: PathBuf,
}

impl Candidate {
    /// Opens the index of a folder; of two, the one that holds more.
    pub(super) fn open(folder: &Folder) -> Self {
        let mut candidate = Self { found: None, broken: Vec::new(), left_over: Vec::new() };
        if !folder.disk().is_real() {
            let index = Backend::Memory(Arc::default());
            candidate.found = Some(Found { index, claim: None, path: folder.path.clone() });
            return candidate;
        }
        for path in folder.indexes() {
            if path.exists() {
                candidate.consider(path, folder.cache_bytes());
            }
        }
        candidate
    }

    fn consider(&mut self, path: PathBuf, cache_bytes: u64) {
        let index = match Index::open(&path, cache_bytes) {
            Ok(index) => index,
            Err(error) => {
                tracing::warn!(%error, "an index does not open and is made again");
                return self.broken.push(path);
            }
        };
        let claim = match index.claim() {
            Ok(claim) => claim,
            Err(error) => {
                tracing::warn!(%error, "an index was not finished or makes no sense, and is set aside");
                index.discard();
                return self.broken.push(path);
            }
        };
        let holds = |claim: &Option<Claim>| claim.as_ref().map(|claim| claim.seq);
        let found = Found { index: Backend::Sled(index), claim, path };
        let other = match self.found.take() {
            Some(before) if holds(&before.claim) >= holds(&found.claim) => {
                self.found = Some(before);
                Some(found)
            }
            before => {
                self.found = Some(found);
                before
            }
        };
        if let Some(other) = other {
            other.index.discard();
            self.left_over.push(other.path);
        }
    }

    fn claim(&self) -> Option<&Claim> {
        self.found.as_ref().and_then(|found| found.claim.as_ref())
    }

    /// The newest commit that it says it holds.
    pub(super) fn claimed(&self) -> Option<u64> {
        self.claim().map(|claim| claim.seq)
    }

    /// Watches for the commit that it says it holds.
    pub(super) fn agreement(&self, snapshot: Option<&Snapshot>) -> Agreement {
        let claim = self.claim().cloned();
        let holds = match (&claim, snapshot) {
            (None, snapshot) => snapshot.is_none(),
            (Some(claim), Some(snapshot)) => {
                claim.seq == snapshot.base.seq && claim.sealed == snapshot.sealed
            }
            (Some(_), None) => false,
        };
        Agreement { claim, holds }
    }

    /// Replays what follows the claim; makes another index if there is none that opens, if its head
    /// is not the journal's, or if it fails at that. Says whether it was rebuilt.
    pub(super) fn bring_up(
        self,
        agrees: bool,
        target: &Target<'_>,
    ) -> Result<(Backend, bool), Failed> {
        let Self { found, broken, left_over } = self;
        let folder = target.folder;
        for path in broken {
            sled::set_aside(&path).map_err(|source| cannot(&path, source))?;
        }
        for path in left_over {
            let removed = if_there(std::fs::remove_dir_all(&path));
            removed.map_err(|source| cannot(&path, source))?;
        }
        let path = folder.index();
        if let Some(Found { index, claim, path }) = found {
            let held = claim.as_ref().map_or(0, |claim| claim.seq);
            let filled = match (agrees, &claim) {
                (true, _) => Some(fill(&index, folder, held, target.end).map_err(Failed::Other)),
                // There is nothing in it that would be in the way.
                (false, None) => Some(target.load(&index)),
                (false, Some(_)) => None,
            };
            match filled {
                Some(Ok(())) => return Ok((index, held == 0 && target.end.seq > 0)),
                None | Some(Err(Failed::Other(OpenError::Index(_)))) => {
                    index.discard();
                    sled::set_aside(&path).map_err(|source| cannot(&path, source))?;
                }
                Some(Err(failed)) => {
                    index.discard();
                    return Err(failed);
                }
            }
        }
        let index = Index::open(&path, folder.cache_bytes());
        let index = Backend::Sled(index.map_err(OpenError::Index)?);
        match target.load(&index) {
            Ok(()) => Ok((index, target.end.seq > 0)),
            Err(failed) => {
                index.discard();
                Err(failed)
            }
        }
    }
}

/// Whether an index's claim is a commit of this journal.
pub(super) struct Agreement {
    claim: Option<Claim>,
    holds: bool,
}

impl Agreement {
    pub(super) fn see(&mut self, record: &Record<'_>) {
        if let Some(claim) = self.claim.as_ref().filter(|claim| claim.seq == record.place.seq) {
            self.holds = claim.sealed == record.sealed;
        }
    }

    pub(super) fn holds(&self) -> bool {
        self.holds
    }
}

impl Target<'_> {
    /// Fills an empty index from the snapshot and the journal behind it.
    fn load(&self, index: &Backend) -> Result<(), Failed> {
        let held = match self.snapshot {
            Some(snapshot) => {
                load_snapshot(index, self.folder, snapshot, &*self.snapshots, &mut |_| Ok(()))?;
                snapshot.base.seq
            }
            None => 0,
        };
        Ok(fill(index, self.folder, held, self.end)?)
    }
}

/// Fills an empty index with a snapshot, whose checksum and sums are checked on the way: it gets a
/// head, and so counts as an index, only when they hold. `pace` sees how far it is, in bytes.
pub(super) fn load_snapshot(
    index: &Backend,
    folder: &Folder,
    snapshot: &Snapshot,
    snapshots: &dyn SnapshotSeal,
    pace: &mut dyn FnMut(u64) -> Result<(), OpenError>,
) -> Result<(), Failed> {
    let refused = |reason| {
        Failed::Snapshot(OpenError::HeadRefused {
            file: snapshot.file.clone(),
            offset: 0,
            seq: snapshot.base.seq,
            reason,
        })
    };
    let mut tally = snapshots.tally_snapshot(&snapshot.at()).map_err(refused)?;
    let mut entries = snapshot.entries(folder.disk()).map_err(Failed::Snapshot)?;
    let mut gathered = Gathered::default();
    while entries.advance().map_err(Failed::Snapshot)? {
        let (key, record) = entries.entry();
        if let Some(header) = entries.header() {
            tally.add(key, &header);
        }
        gathered.put(key, Some(record));
        if gathered.is_full() {
            gathered.apply_to(index, None).map_err(OpenError::Index)?;
            pace(entries.offset())?;
        }
    }
    tally.check().map_err(refused)?;
    let head = (snapshot.base.seq, snapshot.sealed.as_slice());
    Ok(gathered.apply_to(index, Some(head)).map_err(OpenError::Index)?)
}

/// Brings everything after `held` from the journal into the index.
fn fill(index: &Backend, folder: &Folder, held: u64, end: &End) -> Result<(), OpenError> {
    if held == end.seq {
        return Ok(());
    }
    let again = fill_from(index, folder, From::Holding(held + 1), held, None)?;
    // What was verified is what was replayed, whoever else writes to the folder.
    if (again.seq, again.chain) != (end.seq, end.chain) {
        let spot = replay::Spot { file: &again.file, offset: again.offset };
        return Err(spot.damaged(super::Damage::SegmentOrder));
    }
    Ok(())
}

/// Brings everything after `held` into the index, up to the end or to a sequence.
pub(super) fn fill_from(
    index: &Backend,
    folder: &Folder,
    from: From<'_>,
    held: u64,
    until: Option<u64>,
) -> Result<End, OpenError> {
    let mut gathered = Gathered::default();
    let mut head: Option<Claim> = None;
    let end = replay::walk(folder.disk(), &folder.journal(), from, until, &mut |_, record| {
        if record.place.seq <= held {
            return Ok(());
        }
        record.writes.iter().for_each(|&(key, put)| gathered.put(key, put));
        let claim = Claim { seq: record.place.seq, sealed: record.sealed.to_vec() };
        if gathered.is_full() {
            let head = Some((claim.seq, claim.sealed.as_slice()));
            gathered.apply_to(index, head).map_err(OpenError::Index)?;
        }
        head = Some(claim);
        Ok(())
    })?;
    if let Some(claim) = head {
        let head = Some((claim.seq, claim.sealed.as_slice()));
        gathered.apply_to(index, head).map_err(OpenError::Index)?;
    }
    Ok(end)
}

/// Writes of several records, on their way to the index in one batch.
#[derive(Default)]
struct Gathered {
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    bytes: usize,
}

impl Gathered {
    fn put(&mut self, key: &[u8], record: Option<&[u8]>) {
        self.bytes += key.len() + record.map_or(0, <[u8]>::len);
        self.writes.push((key.to_vec(), record.map(<[u8]>::to_vec)));
    }

    fn is_full(&self) -> bool {
        self.writes.len() >= REPLAY_WRITES || self.bytes >= REPLAY_BYTES
    }

    fn apply_to(&mut self, index: &Backend, head: Option<(u64, &[u8])>) -> Result<(), IndexError> {
        let writes = self.writes.iter().map(|(key, put)| (key.as_slice(), put.as_deref()));
        index.apply(writes.map(|write: WriteRef<'_>| write), head)?;
        self.writes.clear();
        self.bytes = 0;
        Ok(())
    }
}
