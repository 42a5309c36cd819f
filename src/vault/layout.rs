use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    disk::{Disk, if_there},
    storage::FOLDERS,
};

/// Stands in the data folder from the first write of an init until its seal file is whole: what lies
/// there meanwhile belongs to nobody yet and may be cleared away.
const UNFINISHED: &str = "init.unfinished";

/// Makes the folder, 0700, with what is above it.
pub(super) fn make_folder(disk: &Disk, folder: &Path) -> io::Result<()> {
    let mut absent = Vec::new();
    for above in folder.ancestors() {
        if above.as_os_str().is_empty() || disk.exists(above)? {
            break;
        }
        absent.push(above);
    }
    disk.create_dir_all(folder)?;
    // A folder whose name is lost in a power cut takes along what was synced in it.
    for made in absent {
        match made.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => disk.sync_dir(parent)?,
            None => disk.sync_dir(Path::new("."))?,
        }
    }
    Ok(())
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
    if is_init_unfinished(disk, folder)? {
        for name in FOLDERS {
            if_there(disk.remove_dir_all(&folder.join(name)))?;
        }
    } else {
        disk.create_new(&marker(folder))?.sync_all()?;
    }
    disk.sync_dir(folder)
}

/// Ends an init once the seal file is whole. Also called at start: a crash may have come in between.
pub(super) fn finish_init(disk: &Disk, folder: &Path) -> io::Result<()> {
    if !is_init_unfinished(disk, folder)? {
        return Ok(());
    }
    disk.remove_file(&marker(folder))?;
    disk.sync_dir(folder)
}

fn marker(folder: &Path) -> PathBuf {
    folder.join(UNFINISHED)
}
