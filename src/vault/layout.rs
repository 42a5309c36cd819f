use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    disk::{Disk, if_there},
    storage::{FOLDERS, Generation},
};

/// Stands in the data folder from the first write of an init until its seal file is whole: what
/// lies there meanwhile belongs to nobody yet and may be cleared away.
const UNFINISHED: &str = "init.unfinished";
/// Stands in a folder that was made of a backup, until it was opened first.
const RESTORED: &str = "restored";

/// Makes the folder, 0700, with what is above it, if it is not there.
pub(super) fn make_folder(disk: &Disk, folder: &Path) -> io::Result<()> {
    if disk.exists(folder)? { Ok(()) } else { disk.create_dir_all(folder) }
}

/// Whether storage has written anything.
pub(super) fn has_store(disk: &Disk, folder: &Path) -> io::Result<bool> {
    for name in FOLDERS {
        if disk.exists(&folder.join(name))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an init broke off.
pub(super) fn is_init_unfinished(disk: &Disk, folder: &Path) -> io::Result<bool> {
    disk.exists(&marker(folder))
}

/// Begins an init: clears away what one that broke off has left.
pub(super) fn begin_init(disk: &Disk, folder: &Path) -> io::Result<()> {
    keep_name(disk, folder)?;
    if is_init_unfinished(disk, folder)? {
        for name in FOLDERS {
            if_there(disk.remove_dir_all(&folder.join(name)))?;
        }
    } else {
        disk.create_new(&marker(folder))?.sync_all()?;
    }
    disk.sync_dir(folder)
}

/// Makes the folder's name last, and those above it: whoever asks made them, or one before it that
/// came no further. Above what may not be opened nothing was made by us.
pub(crate) fn keep_name(disk: &Disk, folder: &Path) -> io::Result<()> {
    for above in folder.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match disk.sync_dir(above) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            synced => synced?,
        }
    }
    Ok(())
}

/// Ends an init once the seal file is whole. Also called at start: a crash may have come in
/// between.
pub(super) fn finish_init(disk: &Disk, folder: &Path) -> io::Result<()> {
    if !is_init_unfinished(disk, folder)? {
        return Ok(());
    }
    disk.remove_file(&marker(folder))?;
    disk.sync_dir(folder)
}

/// Marks a folder as made of a backup.
pub(crate) fn mark_restored(disk: &Disk, folder: &Path) -> io::Result<()> {
    disk.create_new(&folder.join(RESTORED))?.sync_all()
}

/// How a folder goes on: one that was made of a backup in the next generation, so that an anchor of
/// the old store, which is ahead of it, is not taken for the sign of a rollback.
pub(super) fn generation(disk: &Disk, folder: &Path) -> io::Result<Generation> {
    let is_restored = disk.exists(&folder.join(RESTORED))?;
    Ok(if is_restored { Generation::Next } else { Generation::Keep })
}

/// Ends that, once the store is in its next generation. A crash before makes it one more.
pub(super) fn forget_restored(disk: &Disk, folder: &Path) -> io::Result<()> {
    if_there(disk.remove_file(&folder.join(RESTORED)))?;
    disk.sync_dir(folder)
}

fn marker(folder: &Path) -> PathBuf {
    folder.join(UNFINISHED)
}
