use std::{
    io,
    path::{Path, PathBuf},
};

use crate::disk::{self, Disk, DiskFile};

use super::file::{MAX_BYTES, Malformed, SealFile};

/// A seal file that was read, and the copy that had to be written again for it.
#[derive(Debug)]
pub struct Loaded {
    /// The valid copy with the higher epoch.
    pub file: SealFile,
    /// The copy that was missing, damaged or older, and is now equal again. Worth a line in log and
    /// audit.
    pub repaired: Option<PathBuf>,
    pub(super) disk: Disk,
    pub(super) dir: PathBuf,
}

/// Why no seal file can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Neither copy is there: the store was never initialised.
    #[error("there is no seal file in {}; initialise the store first", .dir.display())]
    Absent {
        /// The folder searched.
        dir: PathBuf,
    },
    /// Neither copy is whole.
    #[error(
        "neither copy of the seal file is usable ({}: {first}; {}: {second}); restore one of them from a backup",
        .first_path.display(), .second_path.display()
    )]
    Damaged {
        /// The first copy.
        first_path: PathBuf,
        /// What is wrong with it.
        first: Damage,
        /// The second copy.
        second_path: PathBuf,
        /// What is wrong with it.
        second: Damage,
    },
    /// Both are whole, and nothing tells which one is right: no crash leaves this behind.
    #[error(
        "{} and {} contradict each other; keep the right one and remove the other",
        .first_path.display(), .second_path.display()
    )]
    Contradiction {
        /// The first copy.
        first_path: PathBuf,
        /// The second copy.
        second_path: PathBuf,
    },
    /// One copy is whole and the other could not be written again.
    #[error("cannot write {} again from the other copy", .path.display())]
    Repair {
        /// The copy to be repaired.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

/// What is wrong with one copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// It is not there.
    #[error("it is missing")]
    Missing,
    /// The system does not give its bytes.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// Its bytes are not a seal file.
    #[error("{0}")]
    Malformed(Malformed),
}

/// Whether a seal file is there, whole or not: then the store must not be initialised again.
///
/// # Errors
/// What the system said when it was asked for the files.
pub fn exists(disk: &Disk, dir: &Path) -> io::Result<bool> {
    let [first, second] = paths(dir);
    Ok(disk.exists(&first)? || disk.exists(&second)?)
}

/// Reads the seal file of a store, and makes both copies equal before anything is served.
///
/// # Errors
/// [`ReadError`], which names the files.
pub fn read(disk: &Disk, dir: &Path) -> Result<Loaded, ReadError> {
    let (file, repaired) = read_file(disk, dir)?;
    Ok(Loaded { file, repaired, disk: disk.clone(), dir: dir.to_owned() })
}

fn read_file(disk: &Disk, dir: &Path) -> Result<(SealFile, Option<PathBuf>), ReadError> {
    let [first_path, second_path] = paths(dir);
    match (load(disk, &first_path), load(disk, &second_path)) {
        (Ok(first), Ok(second)) => choose(disk, first, first_path, second, second_path),
        (Ok(file), Err(_)) => repair(disk, file, second_path),
        (Err(_), Ok(file)) => repair(disk, file, first_path),
        (Err(Damage::Missing), Err(Damage::Missing)) => {
            Err(ReadError::Absent { dir: dir.to_owned() })
        }
        (Err(first), Err(second)) => {
            Err(ReadError::Damaged { first_path, first, second_path, second })
        }
    }
}

/// Writes both copies, one after the other, so that a crash at any byte leaves a whole one. What
/// could not be read again is not written.
pub fn write(disk: &Disk, dir: &Path, bytes: &[u8]) -> io::Result<()> {
    SealFile::parse(bytes.to_vec()).map_err(io::Error::other)?;
    let [first, second] = paths(dir);
    write_copy(disk, &second, bytes)?;
    write_copy(disk, &first, bytes)
}

fn choose(
    disk: &Disk,
    first: SealFile,
    first_path: PathBuf,
    second: SealFile,
    second_path: PathBuf,
) -> Result<(SealFile, Option<PathBuf>), ReadError> {
    if first.bytes() == second.bytes() {
        return Ok((first, None));
    }
    // Writing over another store's file would destroy the only way into that store.
    if first.store_id() != second.store_id() || first.epoch() == second.epoch() {
        return Err(ReadError::Contradiction { first_path, second_path });
    }
    if first.epoch() > second.epoch() {
        repair(disk, first, second_path)
    } else {
        repair(disk, second, first_path)
    }
}

fn repair(
    disk: &Disk,
    file: SealFile,
    path: PathBuf,
) -> Result<(SealFile, Option<PathBuf>), ReadError> {
    match write_copy(disk, &path, file.bytes()) {
        Ok(()) => Ok((file, Some(path))),
        Err(cause) => Err(ReadError::Repair { path, cause }),
    }
}

pub(super) fn load(disk: &Disk, path: &Path) -> Result<SealFile, Damage> {
    let bytes = match disk.read(path, limit()) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(Damage::Missing),
        Err(cause) if cause.kind() == io::ErrorKind::FileTooLarge => {
            return Err(Damage::Malformed(Malformed::TooLong));
        }
        Err(cause) => return Err(Damage::Unreadable(cause)),
    };
    SealFile::parse(bytes).map_err(Damage::Malformed)
}

fn limit() -> u64 {
    u64::try_from(MAX_BYTES).unwrap_or(u64::MAX)
}

/// Writes one copy, syncs it and reads it back.
///
/// A copy that exists is overwritten in place: renaming a new file over it would leave the old
/// slots in freed blocks. One that does not is renamed into place, so that a crash during `init`
/// leaves no half file that looks like a damaged store.
fn write_copy(disk: &Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if disk.exists(path)? {
        write_and_sync(&disk.open_rw(path)?, bytes)?;
    } else {
        let fresh = path.with_extension("new");
        disk::if_there(disk.remove_file(&fresh))?;
        write_and_sync(&disk.create_new(&fresh)?, bytes)?;
        disk.rename(&fresh, path)?;
        if let Some(dir) = path.parent() {
            disk.sync_dir(dir)?;
        }
    }
    if disk.read(path, limit())? == bytes {
        Ok(())
    } else {
        Err(io::Error::other("what was read back is not what was written"))
    }
}

fn write_and_sync(file: &DiskFile, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, 0)?;
    file.set_len(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
    file.sync_data()
}

pub(super) fn paths(dir: &Path) -> [PathBuf; 2] {
    [dir.join("seal.0"), dir.join("seal.1")]
}
