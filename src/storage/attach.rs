use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Attached, Backend, CommitSeal, Damage, Generation, HeadAt, OpenError, Options, Point, Standing,
    StoreId,
    bring_up::{self, Candidate},
    cache,
    committer::Log,
    journal::Writer,
    memory::Platter,
    record::Record,
    replay::{self, Base, End, From, Spot, cannot},
    snapshot::{self, Snapshot},
    usage::Figures,
};
use crate::disk::Disk;

/// The folder of a store: `journal/`, `snapshots/` and an index.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) options: Options,
}

impl Folder {
    pub(super) fn disk(&self) -> &Disk {
        &self.options.disk
    }

    /// Memory for the records that the index keeps at hand, in bytes.
    pub(super) fn cache_bytes(&self) -> u64 {
        self.options.cache_bytes.unwrap_or_else(cache::fitting_bytes)
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.path.join("index")
    }

    /// Where an index may lie. sled goes on writing into the folder that it was opened in, so one
    /// that is built beside another stays where it is.
    pub(super) fn indexes(&self) -> [PathBuf; 2] {
        [self.index(), self.path.join("index.2")]
    }

    /// The snapshots that may be used, newest first.
    pub(super) fn bases(&self) -> Result<Vec<(u64, PathBuf)>, OpenError> {
        let folder = self.snapshots();
        snapshot::list(self.disk(), &folder).map_err(|source| cannot(&folder, source))
    }
}

/// What attaching leads to.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) attached: Attached,
    pub(super) backend: Backend,
    pub(super) log: Log,
    pub(super) figures: Figures,
}

/// Checks the structure of snapshot and journal without a key, and says whose store it is.
pub(super) fn check_structure(folder: &Folder) -> Result<End, OpenError> {
    let mut damaged = Vec::new();
    for (seq, path) in folder.bases()? {
        match usable(folder, seq, &path) {
            Ok(snapshot) => return walk_behind(folder, snapshot.base, &mut |_, _| Ok(())),
            Err(error) => damaged.push(error),
        }
    }
    or_first(damaged, walk_behind(folder, Base::default(), &mut |_, _| Ok(())))
}

/// Attaches the store of a folder: verifies everything behind a snapshot, judges the journal's end,
/// and only then brings the index up to date. The newest snapshot is taken that is whole; the one
/// before it, with the journal since then, comes to the same state.
pub(super) fn folder(
    folder: &Folder,
    store_id: StoreId,
    seal: &mut dyn CommitSeal,
    points: &[Point],
    generation: Generation,
) -> Result<Opened, OpenError> {
    let mut damaged = Vec::new();
    for (seq, path) in folder.bases()? {
        let begun = usable(folder, seq, &path).and_then(|snapshot| {
            seal.begin(&snapshot.at()).map_err(|reason| OpenError::HeadRefused {
                file: snapshot.file.clone(),
                offset: 0,
                seq,
                reason,
            })?;
            Ok(snapshot)
        });
        let attempt = Attempt { folder, store_id, points, generation };
        match begun.map_err(Failed::Snapshot).and_then(|base| attempt.from(Some(&base), seal)) {
            Ok(mut opened) => {
                opened.attached.damaged = damaged.iter().map(ToString::to_string).collect();
                return Ok(opened);
            }
            Err(Failed::Snapshot(error)) => damaged.push(error),
            Err(Failed::Other(error)) => return Err(error),
        }
    }
    let attempt = Attempt { folder, store_id, points, generation };
    let opened = attempt.from(None, seal).map_err(|failed| match failed {
        Failed::Snapshot(error) | Failed::Other(error) => error,
    });
    let found = damaged.iter().map(ToString::to_string).collect();
    let mut opened = or_first(damaged, opened)?;
    opened.attached.damaged = found;
    Ok(opened)
}

/// Without the journal's beginning it is the damaged snapshot that is to blame.
fn or_first<T>(damaged: Vec<OpenError>, found: Result<T, OpenError>) -> Result<T, OpenError> {
    match found {
        Err(
            OpenError::Damaged { what: Damage::SegmentMissing, .. } | OpenError::NoStore { .. },
        ) if !damaged.is_empty() => damaged.into_iter().next().map_or_else(|| found, Err),
        other => other,
    }
}

/// Opens a snapshot and compares it with the segment behind it.
pub(super) fn usable(folder: &Folder, seq: u64, path: &Path) -> Result<Snapshot, OpenError> {
    let snapshot = Snapshot::open(folder.disk(), path)?;
    let spot = Spot { file: path, offset: 0 };
    if snapshot.base.seq != seq || seq == 0 {
        return Err(spot.damaged(Damage::SnapshotFront));
    }
    let Some(behind) = replay::header_behind(folder.disk(), &folder.journal(), seq)? else {
        return Ok(snapshot);
    };
    if snapshot.store_id != behind.store_id {
        return Err(spot.damaged(Damage::SnapshotFront));
    }
    if snapshot.base.chain != behind.prev_chain || snapshot.base.generation > behind.generation {
        return Err(spot.damaged(Damage::SnapshotChain));
    }
    Ok(snapshot)
}

pub(super) fn walk_behind(
    folder: &Folder,
    base: Base,
    visit: &mut replay::Visit<'_>,
) -> Result<End, OpenError> {
    replay::walk(folder.disk(), &folder.journal(), From::Behind(base), None, visit)
}

/// Why a state cannot be attached from.
pub(super) enum Failed {
    /// The snapshot is damaged; an older one may do.
    Snapshot(OpenError),
    /// Something else, which no other snapshot mends.
    Other(OpenError),
}

impl std::convert::From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        Self::Other(error)
    }
}

/// What is the same whatever snapshot is taken.
struct Attempt<'a> {
    folder: &'a Folder,
    store_id: StoreId,
    points: &'a [Point],
    generation: Generation,
}

impl Attempt<'_> {
    /// Attaches from this snapshot, which the seal has begun with, or from the journal's begin.
    fn from(
        &self,
        snapshot: Option<&Snapshot>,
        seal: &mut dyn CommitSeal,
    ) -> Result<Opened, Failed> {
        let (folder, disk) = (self.folder, self.folder.disk());
        let base = snapshot.map_or_else(Base::default, |snapshot| snapshot.base);
        let candidate = Candidate::open(folder);
        let mut agreement = candidate.agreement(snapshot);
        let mut standings = Standings::new(self.points, base);
        let figures = Figures::default();
        let mut last = None;
        let end = walk_behind(folder, base, &mut |spot, record| {
            last = Some((record.place.segment_id, spot.offset));
            agreement.see(record);
            standings.see(record.place.seq, record.chain);
            figures.count(record);
            verify(seal, spot, record)
        })?;
        if end.header.store_id != self.store_id {
            let spot = Spot { file: &end.file, offset: 0 };
            return Err(spot.damaged(Damage::ForeignSegment).into());
        }
        end.check_named(self.points, candidate.claimed())?;
        standings.look_back(folder, base);
        if end.unfinished {
            end.cut(disk)?;
        }
        if let Some((_, offset)) = last.filter(|(segment_id, _)| *segment_id == end.header.id) {
            end.settle(disk, offset)?;
        }
        let agrees = agreement.holds();
        let target = bring_up::Target { folder, snapshot, end: &end, snapshots: seal.snapshots() };
        let (backend, index_rebuilt) = candidate.bring_up(agrees, &target)?;
        snapshot::remove_leftovers(disk, &folder.snapshots())
            .map_err(|source| cannot(&folder.snapshots(), source))?;
        let mut writer = Writer::open(disk, &folder.journal(), &end, folder.options.segment_bytes)?;
        if self.generation == Generation::Next {
            writer.begin_generation(end.header.generation + 1, end.seq + 1, end.chain)?;
        }
        seal.continues(writer.generation());
        figures.set_snapshot(snapshot.map_or(0, |snapshot| snapshot.bytes));
        figures.set_seq(end.seq);
        let attached = Attached {
            generation: writer.generation(),
            seq: end.seq,
            chain: end.chain,
            cut: end.unfinished.then_some(end.seq + 1),
            index_rebuilt,
            points: standings.found,
            damaged: Vec::new(),
        };
        Ok(Opened { attached, backend, log: Log::Segments(writer), figures })
    }
}

/// Where the points stand that are named elsewhere.
struct Standings<'p> {
    points: &'p [Point],
    found: Vec<Standing>,
}

impl<'p> Standings<'p> {
    fn new(points: &'p [Point], base: Base) -> Self {
        let mut standings = Self { points, found: vec![Standing::Unknown; points.len()] };
        standings.see(base.seq, base.chain);
        standings
    }

    fn see(&mut self, seq: u64, chain: [u8; 32]) {
        for (point, found) in self.points.iter().zip(&mut self.found) {
            if point.seq == seq {
                let equal = point.chain.is_none_or(|named| named == chain);
                *found = if equal { Standing::Equal } else { Standing::Differs };
            }
        }
    }

    /// Looks for points before the snapshot in the segments of the generation before it, which must
    /// lead to it: a chain value that stands for itself proves nothing.
    fn look_back(&mut self, folder: &Folder, base: Base) {
        let missing = self.points.iter().zip(&self.found);
        let oldest = missing
            .filter(|(point, found)| point.seq < base.seq && **found == Standing::Unknown)
            .map(|(point, _)| point.seq)
            .min();
        let Some(oldest) = oldest else { return };
        let mut seen = Vec::new();
        let journal = folder.journal();
        let from = From::Holding(oldest.max(1));
        let walked =
            replay::walk(folder.disk(), &journal, from, Some(base.seq), &mut |_, record| {
                if self.points.iter().any(|point| point.seq == record.place.seq) {
                    seen.push((record.place.seq, record.chain));
                }
                Ok(())
            });
        // Damage before the snapshot only takes away what could be said of those points.
        if walked.is_ok_and(|end| (end.seq, end.chain) == (base.seq, base.chain)) {
            seen.into_iter().for_each(|(seq, chain)| self.see(seq, chain));
        }
    }
}

/// Attaches a store in memory, whose index is always rebuilt.
pub(super) fn memory(
    platter: &Arc<Platter>,
    store_id: StoreId,
    seal: &mut dyn CommitSeal,
    points: &[Point],
) -> Result<Opened, OpenError> {
    let (mut seq, mut chain) = (0, [0; 32]);
    let mut standings = Standings::new(points, Base::default());
    platter.clear_index();
    let spot = Spot { file: Path::new("memory"), offset: 0 };
    for bytes in platter.records().iter() {
        let record = Record::decode(store_id, bytes);
        let next = (seq + 1, chain);
        let record = record.filter(|record| (record.place.seq, record.place.prev_chain) == next);
        let record = record.ok_or_else(|| spot.damaged(Damage::SegmentOrder))?;
        verify(seal, spot, &record)?;
        platter.change(record.writes.iter().copied());
        (seq, chain) = (record.place.seq, record.chain);
        standings.see(seq, chain);
    }
    if let Some(named) = points.iter().map(|point| point.seq).filter(|&named| named > seq).max() {
        let evidence = super::Evidence::Named { seq: named };
        return Err(spot.damaged(Damage::Record { seq: seq + 1, evidence }));
    }
    let attached = Attached {
        generation: 1,
        seq,
        chain,
        cut: None,
        index_rebuilt: false,
        points: standings.found,
        damaged: Vec::new(),
    };
    let (backend, log) = (Backend::Memory(Arc::clone(platter)), Log::Memory(Arc::clone(platter)));
    Ok(Opened { attached, backend, log, figures: Figures::default() })
}

/// Shows a record's head to the seal.
fn verify(seal: &mut dyn CommitSeal, spot: Spot<'_>, record: &Record<'_>) -> Result<(), OpenError> {
    let head: HeadAt<'_> = record.head();
    seal.replay(&head).map_err(|reason| OpenError::HeadRefused {
        file: spot.file.into(),
        offset: spot.offset,
        seq: head.seq,
        reason,
    })
}
