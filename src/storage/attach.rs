use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Attached, Backend, CommitSeal, Damage, HeadAt, IndexError, NamedSeq, OpenError, Options,
    StoreId,
    committer::Log,
    journal::Writer,
    memory::Platter,
    record::{Record, WriteRef},
    replay::{self, End, Spot, cannot},
    sled::{self, Claim, Index},
};
use crate::disk::Disk;

/// Replayed writes reach the index in batches of about this many…
const REPLAY_WRITES: usize = 1_024;
/// … or this many bytes.
const REPLAY_BYTES: usize = 1024 * 1024;

/// The folder of a store: `journal/` and `index/`.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) options: Options,
}

impl Folder {
    pub(super) fn disk(&self) -> &Disk {
        &self.options.disk
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.path.join("index")
    }
}

/// What attaching leads to.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) attached: Attached,
    pub(super) backend: Backend,
    pub(super) log: Log,
}

/// Attaches the store of a folder: verifies the whole journal, judges its end, and only then
/// brings the index up to date.
pub(super) fn folder(
    folder: &Folder,
    store_id: StoreId,
    seal: &mut dyn CommitSeal,
    named: NamedSeq,
) -> Result<Opened, OpenError> {
    let journal = folder.journal();
    let candidate = Candidate::open(folder);
    let claim = candidate.claim();
    let mut agrees = claim.is_none();
    let end = replay::walk(folder.disk(), &journal, 0, &mut |spot, record| {
        if let Some(claim) = claim.filter(|claim| claim.seq == record.place.seq) {
            agrees = claim.sealed == record.sealed;
        }
        verify(seal, spot, record)
    })?;
    if end.header.store_id != store_id {
        let spot = Spot { file: &end.file, offset: 0 };
        return Err(spot.damaged(Damage::ForeignSegment));
    }
    end.check_named(named, claim.map(|claim| claim.seq))?;
    if end.unfinished {
        end.cut(folder.disk())?;
    }
    let (backend, index_rebuilt) = candidate.bring_up(agrees, folder, &end)?;
    let attached = Attached {
        seq: end.seq,
        chain: end.chain,
        cut: end.unfinished.then_some(end.seq + 1),
        index_rebuilt,
    };
    let writer = Writer::open(folder.disk(), &journal, &end, folder.options.segment_bytes)?;
    Ok(Opened { attached, backend, log: Log::Segments(writer) })
}

/// Attaches a store in memory, whose index is always rebuilt.
pub(super) fn memory(
    platter: &Arc<Platter>,
    store_id: StoreId,
    seal: &mut dyn CommitSeal,
    named: NamedSeq,
) -> Result<Opened, OpenError> {
    let mut attached = Attached { seq: 0, chain: [0; 32], cut: None, index_rebuilt: false };
    platter.clear_index();
    let spot = Spot { file: Path::new("memory"), offset: 0 };
    for bytes in platter.records().iter() {
        let record = Record::decode(store_id, bytes);
        let next = (attached.seq + 1, attached.chain);
        let record = record.filter(|record| (record.place.seq, record.place.prev_chain) == next);
        let record = record.ok_or_else(|| spot.damaged(Damage::SegmentOrder))?;
        verify(seal, spot, &record)?;
        platter.change(record.writes.iter().copied());
        (attached.seq, attached.chain) = (record.place.seq, record.chain);
    }
    if named.0 > attached.seq {
        let evidence = super::Evidence::Named { seq: named.0 };
        return Err(spot.damaged(Damage::Record { seq: attached.seq + 1, evidence }));
    }
    let (backend, log) = (Backend::Memory(Arc::clone(platter)), Log::Memory(Arc::clone(platter)));
    Ok(Opened { attached, backend, log })
}

/// Shows a record's head to the seal.
fn verify(seal: &mut dyn CommitSeal, spot: Spot<'_>, record: &Record<'_>) -> Result<(), OpenError> {
    let head = HeadAt {
        seq: record.place.seq,
        prev_chain: record.place.prev_chain,
        digest: record.digest,
        sealed: record.sealed,
    };
    seal.replay(&head).map_err(|reason| OpenError::HeadRefused {
        file: spot.file.into(),
        offset: spot.offset,
        seq: record.place.seq,
        reason,
    })
}

/// The index as it was found.
enum Candidate {
    /// It opens, and claims to hold this.
    Usable { index: Backend, claim: Option<Claim> },
    /// It does not open, or makes no sense.
    Broken,
}

impl Candidate {
    fn open(folder: &Folder) -> Self {
        if !folder.disk().is_real() {
            return Self::Usable { index: Backend::Memory(Arc::default()), claim: None };
        }
        let Ok(index) = Index::open(&folder.index()) else {
            return Self::Broken;
        };
        match index.claim() {
            Ok(claim) => Self::Usable { index: Backend::Sled(index), claim },
            Err(_) => {
                index.discard();
                Self::Broken
            }
        }
    }

    fn claim(&self) -> Option<&Claim> {
        match self {
            Self::Usable { claim, .. } => claim.as_ref(),
            Self::Broken => None,
        }
    }

    /// Replays what follows the claim; sets the index aside and makes another if it is broken, if
    /// its head is not the journal's, or if it fails at that. Says whether it was rebuilt.
    fn bring_up(
        self,
        agrees: bool,
        folder: &Folder,
        end: &End,
    ) -> Result<(Backend, bool), OpenError> {
        let path = folder.index();
        if let Self::Usable { index, claim } = self {
            let held = claim.map_or(0, |claim| claim.seq);
            let filled = if agrees { fill(&index, folder, held, end) } else { Ok(false) };
            match filled {
                Ok(true) => return Ok((index, held == 0 && end.seq > 0)),
                Ok(false) | Err(OpenError::Index(_)) => index.discard(),
                Err(other) => return Err(other),
            }
        }
        sled::set_aside(&path).map_err(|source| cannot(&path, source))?;
        let index = Backend::Sled(Index::open(&path).map_err(OpenError::Index)?);
        fill(&index, folder, 0, end)?;
        Ok((index, true))
    }
}

/// Brings everything after `held` from the journal into the index.
fn fill(index: &Backend, folder: &Folder, held: u64, end: &End) -> Result<bool, OpenError> {
    if held == end.seq {
        return Ok(true);
    }
    let mut gathered = Gathered::default();
    let again = replay::walk(folder.disk(), &folder.journal(), held, &mut |_, record| {
        if record.place.seq > held {
            gathered.take(record);
        }
        if gathered.is_full() { gathered.apply_to(index).map_err(OpenError::Index) } else { Ok(()) }
    })?;
    gathered.apply_to(index).map_err(OpenError::Index)?;
    // What was verified is what was replayed, whoever else writes to the folder.
    if (again.seq, again.chain) != (end.seq, end.chain) {
        let spot = Spot { file: &again.file, offset: again.offset };
        return Err(spot.damaged(Damage::SegmentOrder));
    }
    Ok(true)
}

/// Writes of several records, on their way to the index in one batch.
#[derive(Default)]
struct Gathered {
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    bytes: usize,
    /// The head that covers them.
    head: Option<Claim>,
}

impl Gathered {
    fn take(&mut self, record: &Record<'_>) {
        for &(key, put) in &record.writes {
            self.bytes += key.len() + put.map_or(0, <[u8]>::len);
            self.writes.push((key.to_vec(), put.map(<[u8]>::to_vec)));
        }
        self.head = Some(Claim { seq: record.place.seq, sealed: record.sealed.to_vec() });
    }

    fn is_full(&self) -> bool {
        self.writes.len() >= REPLAY_WRITES || self.bytes >= REPLAY_BYTES
    }

    fn apply_to(&mut self, index: &Backend) -> Result<(), IndexError> {
        let Some(head) = self.head.take() else {
            return Ok(());
        };
        let writes = self.writes.iter().map(|(key, put)| (key.as_slice(), put.as_deref()));
        index.apply(writes.map(|write: WriteRef<'_>| write), head.seq, &head.sealed)?;
        self.writes.clear();
        self.bytes = 0;
        Ok(())
    }
}
