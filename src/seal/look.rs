use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    copies::{Damage, ReadError, paths},
    file::{MAX_BYTES, Malformed, SealFile},
};
use crate::disk::Disk;

/// Reads the seal file of a folder that another process may be using: nothing is repaired.
///
/// # Errors
/// [`ReadError`], when neither copy is whole.
pub fn look(disk: &Disk, dir: &Path) -> Result<SealFile, ReadError> {
    let [first_path, second_path] = paths(dir);
    match (load(disk, &first_path), load(disk, &second_path)) {
        (Ok(first), Ok(second)) if first.epoch() < second.epoch() => Ok(second),
        (Ok(file), _) | (Err(_), Ok(file)) => Ok(file),
        (Err(Damage::Missing), Err(Damage::Missing)) => {
            Err(ReadError::Absent { dir: dir.to_owned() })
        }
        (Err(first), Err(second)) => {
            Err(ReadError::Damaged { first_path, first, second_path, second })
        }
    }
}

/// Why a seal file was not put into a folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// It is none.
    #[error("the seal file is not usable: {0}")]
    Malformed(#[from] Malformed),
    /// A copy cannot be written.
    #[error("cannot write {}", .path.display())]
    Io {
        /// The copy.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Puts both copies of a seal file into a folder that has none.
///
/// # Errors
/// [`PutError`].
pub fn put(disk: &Disk, dir: &Path, bytes: Vec<u8>) -> Result<(), PutError> {
    let file = SealFile::parse(bytes)?;
    for path in paths(dir) {
        let write = || {
            let copy = disk.create_new(&path)?;
            copy.write_all_at(file.bytes(), 0)?;
            copy.sync_all()
        };
        write().map_err(|source| PutError::Io { path: path.clone(), source })?;
    }
    Ok(())
}

fn load(disk: &Disk, path: &Path) -> Result<SealFile, Damage> {
    match disk.read(path, MAX_FILE_BYTES as u64) {
        Ok(bytes) => SealFile::parse(bytes).map_err(Damage::Malformed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Damage::Missing),
        Err(error) => Err(Damage::Unreadable(error)),
    }
}

/// Longest seal file in bytes.
pub const MAX_FILE_BYTES: usize = MAX_BYTES;
