use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// Stands in the data folder from the first write of an init until its seal file is whole: what lies
/// there meanwhile belongs to nobody yet and may be cleared away.
const UNFINISHED: &str = "init.unfinished";
/// What storage makes (its own folders).
const STORE: [&str; 2] = ["journal", "index"];

/// Makes the folder, 0700, with what is above it.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Whether storage has written anything.
pub(super) fn has_store(folder: &Path) -> bool {
    STORE.iter().any(|name| folder.join(name).exists())
}

/// Whether an init broke off.
pub(super) fn is_init_unfinished(folder: &Path) -> bool {
    marker(folder).exists()
}

/// Begins an init: clears away what one that broke off has left.
pub(super) fn begin_init(folder: &Path) -> io::Result<()> {
    if is_init_unfinished(folder) {
        for name in STORE {
            match fs::remove_dir_all(folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    }
    File::create(marker(folder))?.sync_all()?;
    sync_folder(folder)
}

/// Ends an init once the seal file is whole. Also called at start: a crash may have come in between.
pub(super) fn finish_init(folder: &Path) -> io::Result<()> {
    match fs::remove_file(marker(folder)) {
        Ok(()) => sync_folder(folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn marker(folder: &Path) -> PathBuf {
    folder.join(UNFINISHED)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
