//! Whether the index may be believed to be as it was left.
//!
//! sled syncs nothing in time. A process that ends, however, leaves what it has written to the
//! system; what a machine or a disk that stops leaves of it may open and be wrong. So the folder
//! says in which session of its file system it was opened last, and whether it was closed and
//! synced since.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// Stands in the folder of an index.
const FILE: &str = "kista.session";
/// What it holds once everything is synced.
const CLOSED: &str = "closed";
/// `STATX_MNT_ID_UNIQUE`, of Linux 6.8: a mount's number that no other mount gets. Before it the
/// number of a mount that has ended may come again, and verification alone finds what that leaves.
const MOUNT_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Whether nothing but a process has ended since the index in this folder was opened last.
pub(super) fn is_sound(folder: &Path) -> bool {
    let Ok(left) = fs::read_to_string(folder.join(FILE)) else { return false };
    left == CLOSED || session(folder).is_ok_and(|now| now == left)
}

/// Says that the index is open now. On the disk when this returns, so before sled writes a byte.
pub(super) fn begin(folder: &Path) -> io::Result<()> {
    let session = session(folder)?;
    // As a process that was killed has left it: nothing need be written, which a full disk may
    // refuse.
    if fs::read_to_string(folder.join(FILE)).is_ok_and(|left| left == session) {
        return Ok(());
    }
    write(folder, &session)
}

/// The running of this system, the device and the mount that the folder lies on.
fn session(folder: &Path) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let device = fs::metadata(folder)?.dev();
    let mask = StatxFlags::MNT_ID | MOUNT_UNIQUE;
    let mount = statx(CWD, folder, AtFlags::empty(), mask)?.stx_mnt_id;
    Ok(format!("{} {device} {mount}", boot.trim()))
}

fn write(folder: &Path, text: &str) -> io::Result<()> {
    // In place: a full disk has no other block for it. Half of it is no session, and not sound.
    let path = folder.join(FILE);
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

/// Syncs the files of an index, and says so, once the engine has let go of them: it is dropped
/// last.
#[derive(Debug)]
pub(super) struct Ending {
    folder: PathBuf,
    has_failed: AtomicBool,
}

impl Ending {
    pub(super) fn of(folder: &Path) -> Self {
        Self { folder: folder.into(), has_failed: AtomicBool::new(false) }
    }

    /// The index is not to be believed again.
    pub(super) fn failed(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.has_failed.load(Ordering::Relaxed) || std::thread::panicking() {
            return;
        }
        let closed = sync_all(&self.folder).and_then(|()| write(&self.folder, CLOSED));
        if let Err(error) = closed {
            // Set aside or removed meanwhile, or else built again after the next start of the
            // machine.
            tracing::debug!(%error, "the index was not synced");
        }
    }
}

fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_all(&entry.path())?,
            false => File::open(entry.path())?.sync_all()?,
        }
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sound_in_the_session_that_opened_it_and_once_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(!is_sound(folder), "nobody has said anything");
        begin(folder).unwrap();
        assert!(is_sound(folder));
        fs::write(folder.join(FILE), "another boot").unwrap();
        assert!(!is_sound(folder));
        drop(Ending::of(folder));
        assert!(is_sound(folder));
    }

    #[test]
    fn what_has_failed_is_not_called_closed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "another boot").unwrap();
        let ending = Ending::of(folder.path());
        ending.failed();
        drop(ending);
        assert!(!is_sound(folder.path()));
    }
}
