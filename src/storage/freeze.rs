use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    OpenError, Options, RecordHeader, StoreId,
    attach::{Folder, usable, walk_behind},
    replay::{Base, End, cannot},
    segment,
    snapshot::{self, Snapshot},
};
use crate::disk::{Disk, DiskFile};

/// A file that holds a part of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreFile {
    /// The snapshot of this sequence.
    Snapshot(u64),
    /// The segment of the journal that begins with this sequence.
    Segment(u64),
}

impl StoreFile {
    /// The folders that they lie in.
    pub fn folders(data: &Path) -> [PathBuf; 2] {
        let folder = Folder { path: data.into(), options: Options::default() };
        [folder.snapshots(), folder.journal()]
    }

    /// The file at a path in a data folder, if its name is one that we write.
    pub fn of(data: &Path, path: &Path) -> Option<Self> {
        let number = u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()?;
        [Self::Snapshot(number), Self::Segment(number)]
            .into_iter()
            .find(|file| file.path(data) == path)
    }

    /// Where it lies in a data folder.
    pub fn path(self, data: &Path) -> PathBuf {
        let folder = Folder { path: data.into(), options: Options::default() };
        match self {
            Self::Snapshot(seq) => folder.snapshots().join(snapshot::file_name(seq)),
            Self::Segment(first_seq) => folder.journal().join(segment::file_name(first_seq)),
        }
    }
}

/// The files of a store up to one commit, held open: what a compaction removes meanwhile can still
/// be read here.
#[derive(Debug)]
pub struct Frozen {
    /// The store.
    pub store_id: StoreId,
    /// Its generation.
    pub generation: u64,
    /// Sequence of the last commit.
    pub seq: u64,
    /// Its chain value.
    pub chain: [u8; 32],
    /// The terms under which records and heads in these files are sealed.
    pub terms: BTreeSet<u32>,
    /// The files, in their order.
    pub files: Vec<FrozenFile>,
}

/// One of them.
#[derive(Debug)]
pub struct FrozenFile {
    /// What it holds.
    pub name: StoreFile,
    /// The file.
    pub content: DiskFile,
    /// How many of its bytes belong to the state.
    pub bytes: u64,
}

/// Takes hold of the files of a store as they are at its newest commit. No lock and no key is
/// needed: snapshots and closed segments never change, and of the last segment only whole commits
/// count. The checksums of all that is held are checked, so this reads it once. Blocking.
///
/// # Errors
/// [`OpenError`], when the files are damaged or keep changing.
pub fn freeze(disk: &Disk, data: &Path) -> Result<Frozen, OpenError> {
    let options = Options { disk: disk.clone(), ..Options::default() };
    let folder = Folder { path: data.into(), options };
    let mut tries = 1;
    loop {
        match attempt(&folder) {
            // A compaction has come between, or a commit was being written.
            Err(_) if tries < TRIES => tries += 1,
            frozen => return frozen,
        }
    }
}

fn attempt(folder: &Folder) -> Result<Frozen, OpenError> {
    let mut terms = BTreeSet::new();
    let mut files = Vec::new();
    let mut base = Base::default();
    if let Some(snapshot) = newest(folder)? {
        base = snapshot.base;
        let name = StoreFile::Snapshot(base.seq);
        files.push(hold(folder, name, snapshot.bytes)?);
        terms.extend(term_of(&snapshot.sealed));
        let mut entries = snapshot.entries(folder.disk())?;
        while entries.advance()? {
            terms.extend(entries.header().map(|header| term_in(&header)));
        }
    }
    let journal = folder.journal();
    let segments =
        segment::list(folder.disk(), &journal).map_err(|source| cannot(&journal, source))?;
    for (first_seq, _) in segments.into_iter().filter(|(first_seq, _)| *first_seq > base.seq) {
        files.push(hold(folder, StoreFile::Segment(first_seq), u64::MAX)?);
    }
    let end = walk_behind(folder, base, &mut |_, record| {
        terms.extend(term_of(record.head().sealed));
        let written = record.places().filter_map(|(_, put)| RecordHeader::of(put?.1));
        terms.extend(written.map(|header| term_in(&header)));
        Ok(())
    })?;
    limit(&mut files, &end).map_err(|source| cannot(&journal, source))?;
    Ok(Frozen {
        store_id: end.header.store_id,
        generation: end.header.generation,
        seq: end.seq,
        chain: end.chain,
        terms,
        files,
    })
}

/// The newest snapshot whose beginning and end are whole.
fn newest(folder: &Folder) -> Result<Option<Snapshot>, OpenError> {
    let mut first_error = None;
    for (seq, path) in folder.bases()? {
        match usable(folder, seq, &path) {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(None), Err)
}

fn hold(folder: &Folder, name: StoreFile, bytes: u64) -> Result<FrozenFile, OpenError> {
    let path = name.path(&folder.path);
    let content = folder.disk().open(&path).map_err(|source| cannot(&path, source))?;
    Ok(FrozenFile { name, content, bytes })
}

/// Says how much of each segment counts, and lets go of those that have come since the walk.
fn limit(files: &mut Vec<FrozenFile>, end: &End) -> std::io::Result<()> {
    files.retain(|file| match file.name {
        StoreFile::Snapshot(_) => true,
        StoreFile::Segment(first_seq) => first_seq <= end.header.first_seq,
    });
    for file in files {
        if let StoreFile::Segment(first_seq) = file.name {
            let is_last = first_seq == end.header.first_seq;
            file.bytes = if is_last { end.offset } else { file.content.len()? };
        }
    }
    Ok(())
}

/// The term that a sealed head names.
fn term_of(sealed: &[u8]) -> Option<u32> {
    let term = sealed.get(4..8)?.first_chunk()?;
    Some(u32::from_be_bytes(*term))
}

fn term_in(header: &RecordHeader) -> u32 {
    term_of(header.as_bytes()).unwrap_or_default()
}

/// How often the files are looked at again because they have changed meanwhile.
const TRIES: usize = 5;
