use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::file::{MAX_BYTES, Malformed, SealFile};

/// A seal file that was read, and the copy that had to be written again for it.
#[derive(Debug)]
pub struct Loaded {
    /// The valid copy with the higher epoch.
    pub file: SealFile,
    /// The copy that was missing, damaged or older, and is now equal again. Worth a line in log and
    /// audit.
    pub repaired: Option<PathBuf>,
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
pub fn exists(dir: &Path) -> io::Result<bool> {
    let [first, second] = paths(dir);
    Ok(first.try_exists()? || second.try_exists()?)
}

/// Reads the seal file of a store, and makes both copies equal before anything is served.
///
/// # Errors
/// [`ReadError`], which names the files.
pub fn read(dir: &Path) -> Result<Loaded, ReadError> {
    let (file, repaired) = read_file(dir)?;
    Ok(Loaded { file, repaired, dir: dir.to_owned() })
}

fn read_file(dir: &Path) -> Result<(SealFile, Option<PathBuf>), ReadError> {
    let [first_path, second_path] = paths(dir);
    match (load(&first_path), load(&second_path)) {
        (Ok(first), Ok(second)) => choose(first, first_path, second, second_path),
        (Ok(file), Err(_)) => repair(file, second_path),
        (Err(_), Ok(file)) => repair(file, first_path),
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
pub(super) fn write(dir: &Path, bytes: &[u8]) -> io::Result<()> {
    SealFile::parse(bytes.to_vec()).map_err(io::Error::other)?;
    let [first, second] = paths(dir);
    write_copy(&second, bytes)?;
    write_copy(&first, bytes)
}

fn choose(
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
        repair(first, second_path)
    } else {
        repair(second, first_path)
    }
}

fn repair(file: SealFile, path: PathBuf) -> Result<(SealFile, Option<PathBuf>), ReadError> {
    match write_copy(&path, file.bytes()) {
        Ok(()) => Ok((file, Some(path))),
        Err(cause) => Err(ReadError::Repair { path, cause }),
    }
}

fn load(path: &Path) -> Result<SealFile, Damage> {
    let bytes = match read_bytes(path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(Damage::Missing),
        Err(cause) => return Err(Damage::Unreadable(cause)),
    };
    SealFile::parse(bytes).map_err(Damage::Malformed)
}

/// One byte more than a seal file may have is read, so that a longer file shows.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes one copy, syncs it and reads it back.
///
/// A copy that exists is overwritten in place: renaming a new file over it would leave the old
/// slots in freed blocks. One that does not is renamed into place, so that a crash during `init`
/// leaves no half file that looks like a damaged store.
fn write_copy(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.try_exists()? {
        write_and_sync(path, bytes)?;
    } else {
        let fresh = path.with_extension("new");
        write_and_sync(&fresh, bytes)?;
        fs::rename(&fresh, path)?;
        sync_parent(path)?;
    }
    if read_bytes(path)? == bytes {
        Ok(())
    } else {
        Err(io::Error::other("what was read back is not what was written"))
    }
}

fn write_and_sync(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.set_len(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
    file.sync_data()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn paths(dir: &Path) -> [PathBuf; 2] {
    [dir.join("seal.0"), dir.join("seal.1")]
}
