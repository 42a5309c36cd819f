use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::{
    barrier::{Inspector, KeyringError, SpaceId},
    mount,
    seal::{self, Secret},
    storage::{self, HeadAt, Inspect, Options, SnapshotAt, StoreId},
};

/// What an examination of a data folder has seen.
#[derive(Clone, Debug)]
pub struct Examination {
    /// The store.
    pub store_id: Option<StoreId>,
    /// Whole commits in the journal.
    pub commits: u64,
    /// Whole entries in the snapshots.
    pub entries: u64,
    /// The newest whole commit; 0 for none.
    pub seq: u64,
    /// Records that opened under the store's keys; `None` without them.
    pub opened: Option<u64>,
    /// Each damage.
    pub damages: Vec<Damaged>,
}

/// One damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// The first and the last commit concerned, when that is known.
    pub commits: Option<(u64, u64)>,
    /// How many records are concerned, as far as they can be read.
    pub records: usize,
    /// Their mounts and paths, of those whose names open. Secret, as names are.
    pub names: Vec<String>,
}

/// Why a folder cannot be examined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExamineError {
    /// The secret opens no slot, or the seal file cannot be used.
    #[error("the seal file does not open")]
    Seal(#[from] seal::OpenError),
    /// Neither copy of the seal file is whole, so that no secret helps.
    #[error("neither copy of the seal file is whole: examine the folder without a secret")]
    NoSealFile,
    /// The keyring cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A file cannot be read.
    #[error(transparent)]
    Storage(#[from] storage::OpenError),
}

/// Reads every file of a data folder and names each damage. Changes nothing: of a running server it
/// sees the files as they are, and may miss the newest commit.
///
/// Without a secret the structure is checked. With the secret of a slot every head and record is
/// opened, they are held against what the heads count, and names are told.
///
/// Blocking; takes as long as it takes to read all there is. The index is not read: it is rebuilt
/// from these files whenever it is wrong.
///
/// # Errors
/// [`ExamineError`]; damage is no error.
pub fn examine(
    folder: &Path,
    options: &Options,
    secret: Option<&Secret>,
    hear: &mut dyn FnMut(u64, u64),
) -> Result<Examination, ExamineError> {
    let seal = seal::inspect(&options.disk, folder);
    let faults = seal.faults();
    let mut keys = match secret {
        None => None,
        Some(secret) => {
            let opened = seal.newest().ok_or(ExamineError::NoSealFile)?.open(secret)?;
            Some(Inspector::new(opened.keyring)?)
        }
    };
    let seen = match &mut keys {
        Some(inspector) => storage::examine(folder, options, inspector, hear)?,
        None => storage::examine(folder, options, &mut Keyless, hear)?,
    };
    let mut damages: Vec<_> = faults.into_iter().map(|(file, what)| of_seal(file, what)).collect();
    let mounts = keys.as_ref().map(mounts_of).unwrap_or_default();
    damages.extend(seen.damages.into_iter().map(|place| Damaged {
        names: place.keys.iter().filter_map(|key| name_of(keys.as_ref()?, &mounts, key)).collect(),
        file: place.file,
        offset: place.offset,
        what: place.what,
        commits: place.commits,
        records: place.keys.len(),
    }));
    Ok(Examination {
        store_id: seen.store_id,
        commits: seen.commits,
        entries: seen.entries,
        seq: seen.seq,
        opened: keys.as_ref().map(Inspector::records),
        damages,
    })
}

fn of_seal(file: PathBuf, what: String) -> Damaged {
    Damaged { file, offset: 0, what, commits: None, records: 0, names: Vec::new() }
}

/// The mounts by their spaces, as far as their records open.
fn mounts_of(inspector: &Inspector) -> HashMap<SpaceId, String> {
    let records = inspector.mounts::<mount::Record>();
    records.map(|record| (SpaceId(record.space), record.full_path())).collect()
}

fn name_of(inspector: &Inspector, mounts: &HashMap<SpaceId, String>, key: &[u8]) -> Option<String> {
    let (space, path) = inspector.place_of(key);
    let (space, path) = (space?, path?);
    let mount = match mounts.get(&space) {
        Some(mount) => mount.clone(),
        None if space == SpaceId::SYSTEM => "sys/".to_owned(),
        None => format!("{space:?}/"),
    };
    Some(format!("{mount}{path}"))
}

/// Nobody has the keys.
struct Keyless;

impl Inspect for Keyless {
    fn begins(&mut self, _: u64) {}

    fn commit(&mut self, _: &HeadAt<'_>, _: &[(&[u8], Option<&[u8]>)]) -> Result<(), String> {
        Ok(())
    }

    fn snapshot(&mut self, _: &SnapshotAt<'_>) -> Result<(), String> {
        Ok(())
    }

    fn entry(&mut self, _: &[u8], _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn snapshot_ends(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn journal_ends(&mut self) -> Result<(), String> {
        Ok(())
    }
}
