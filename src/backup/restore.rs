use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::bundle::{BundleError, Part, Reader, Summary};
use crate::{
    disk::{Disk, Writing},
    seal,
    storage::{self, StoreFile},
    vault,
};

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A backup never goes over anything.
    #[error("{} is there already, and is not empty", .folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// The backup is damaged, or none.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It carries no seal file.
    #[error("the backup holds no seal file, so nothing would open it")]
    NoSealFile,
    /// Its files are not a store's.
    #[error(transparent)]
    Storage(#[from] storage::OpenError),
    /// Its seal file is none.
    #[error(transparent)]
    Seal(#[from] seal::ReadError),
    /// What its files hold is not what it says of itself.
    #[error("the backup's files are not those that its head names")]
    Contradiction,
    /// The folder cannot be written.
    #[error("cannot write {}", .path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Reads the front of a backup: what it says of itself. Needs no key.
///
/// # Errors
/// [`BundleError`].
pub fn look(from: impl Read) -> Result<Summary, BundleError> {
    Ok(Reader::begin(from)?.into_summary())
}

/// Reads a backup to its end: its checksum, and what it says of itself. Needs no key.
///
/// # Errors
/// [`BundleError`].
pub fn check(from: impl Read, step: &mut dyn FnMut(u64)) -> Result<Summary, BundleError> {
    let mut reader = Reader::begin(from)?;
    while reader.part(|_| Ok(io::sink()), step)?.is_some() {}
    reader.end()
}

/// Makes a data folder of a backup: everything is written beside it and takes its name at the end,
/// so that a restore that broke off leaves no half store. The store's files are checked as at a
/// start; that they open is for the caller to see. `seal_file` stands in for the one that a backup
/// was made without.
///
/// The next unseal goes on in the next generation, so that an anchor of the old store does not take
/// the restored one for a rollback.
///
/// # Errors
/// [`RestoreError`]; nothing is left then.
pub fn restore(
    disk: &Disk,
    from: impl Read,
    folder: &Path,
    seal_file: Option<&[u8]>,
    step: &mut dyn FnMut(u64),
) -> Result<Summary, RestoreError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Io { path, source }
    };
    let is_there = disk.exists(folder).map_err(at(folder))?;
    if is_there && !disk.read_dir(folder).map_err(at(folder))?.is_empty() {
        return Err(RestoreError::NotEmpty { folder: folder.to_owned() });
    }
    let unfinished = unfinished(folder);
    disk.remove_dir_all(&unfinished).or_else(absent_is_fine).map_err(at(&unfinished))?;
    let made = fill(disk, from, &unfinished, seal_file, step);
    if made.is_err() {
        disk.remove_dir_all(&unfinished).or_else(absent_is_fine).map_err(at(&unfinished))?;
    }
    let summary = made?;
    let named = || {
        if is_there {
            disk.remove_dir_all(folder)?;
        }
        disk.rename(&unfinished, folder)?;
        vault::keep_name(disk, folder)
    };
    named().map_err(at(folder))?;
    Ok(summary)
}

fn fill(
    disk: &Disk,
    from: impl Read,
    folder: &Path,
    seal_file: Option<&[u8]>,
    step: &mut dyn FnMut(u64),
) -> Result<Summary, RestoreError> {
    let io = |source| RestoreError::Io { path: folder.to_owned(), source };
    disk.create_dir_all(folder).map_err(io)?;
    let mut reader = Reader::begin(from)?;
    let mut seal_part = None;
    let place = |part: Part| -> io::Result<Content> {
        let path = match part {
            Part::Seal => return Ok(Content::Seal(Vec::new())),
            Part::Store(file) => file.path(folder),
        };
        disk.create_dir_all(path.parent().unwrap_or(folder))?;
        Ok(Content::File {
            folder: path.parent().map(Path::to_owned),
            file: Writing::to(disk.create_new(&path)?),
        })
    };
    while let Some((_, content)) = reader.part(place, step)? {
        match content {
            Content::Seal(bytes) => seal_part = Some(bytes),
            Content::File { folder, file } => {
                file.into_file().sync_all().map_err(io)?;
                folder.map_or(Ok(()), |folder| disk.sync_dir(&folder)).map_err(io)?;
            }
        }
    }
    let parts = reader.parts().to_vec();
    let summary = match reader.end() {
        Err(BundleError::Checksum) => {
            return Err(placed(disk, folder, &parts, seal_part.as_deref()).into());
        }
        ended => ended?,
    };
    let seal_file = seal_file.map(<[u8]>::to_vec).or(seal_part).ok_or(RestoreError::NoSealFile)?;
    seal::write(disk, folder, &seal_file).map_err(io)?;
    vault::mark_restored(disk, folder).map_err(io)?;
    check_store(disk, folder, &summary)?;
    disk.sync_dir(folder).map_err(io)?;
    Ok(summary)
}

/// Says where a backup is damaged whose checksum does not hold, from what its parts say of
/// themselves: all of them are in the folder, but for the seal file. When they are whole it is the
/// head.
fn placed(
    disk: &Disk,
    folder: &Path,
    parts: &[(Part, u64)],
    seal_part: Option<&[u8]>,
) -> BundleError {
    let seal = || {
        let fault = seal::SealFile::parse(seal_part?.to_vec()).err()?;
        Some((Part::Seal, PathBuf::from("the seal file"), 0, fault.to_string()))
    };
    let store = || {
        let options = storage::Options { disk: disk.clone(), ..storage::Options::default() };
        let seen = vault::examine(folder, &options, None, &mut |_, _| {}).ok()?;
        seen.damages.into_iter().find_map(|damage| {
            let part = Part::Store(StoreFile::of(folder, &damage.file)?);
            let file = damage.file.strip_prefix(folder).map(Path::to_owned).ok()?;
            Some((part, file, damage.offset, damage.what))
        })
    };
    let found = seal().or_else(store).and_then(|(part, file, within, what)| {
        let (_, begins) = parts.iter().find(|(other, _)| *other == part)?;
        Some(BundleError::Damaged { offset: begins + within, file, what })
    });
    found.unwrap_or(BundleError::Checksum)
}

/// Whether the files are a store that ends where the backup says.
fn check_store(disk: &Disk, folder: &Path, summary: &Summary) -> Result<(), RestoreError> {
    let found = storage::freeze(disk, folder)?;
    let says = (summary.store_id, summary.generation, summary.seq, summary.chain);
    let is = (found.store_id, found.generation, found.seq, found.chain);
    let seal_file = seal::inspect(disk, folder).into_file()?;
    if says != is || seal_file.store_id() != summary.store_id {
        return Err(RestoreError::Contradiction);
    }
    Ok(())
}

/// Where a part of a backup goes.
enum Content {
    Seal(Vec<u8>),
    File { folder: Option<PathBuf>, file: Writing },
}

impl Write for Content {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            // The bundle is not checked yet, so its lengths are not believed.
            Self::Seal(kept) if kept.len() + bytes.len() > seal::MAX_FILE_BYTES => {
                Err(io::Error::other("the seal file inside is longer than one can be"))
            }
            Self::Seal(kept) => kept.write(bytes),
            Self::File { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a restore writes until it is whole.
fn unfinished(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".restoring");
    PathBuf::from(name)
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
