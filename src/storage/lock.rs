use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
};

/// The right to use a data folder, held by one process at a time until this is dropped.
///
/// It is an advisory lock (flock) on `lock` in the folder, which names the process that holds it:
/// local file systems only, since some network file systems do not carry it.
#[derive(Debug)]
pub struct FolderLock {
    /// Locked as long as it is open.
    _file: File,
}

/// Why a data folder cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process uses the folder.
    #[error("{} is in use by {}; stop it or choose another folder", folder.display(), holder(*pid))]
    Held {
        /// The data folder.
        folder: PathBuf,
        /// The process, if it could be read.
        pid: Option<u32>,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl FolderLock {
    /// Takes the data folder for this process, making it (mode 0700) if it is not there.
    ///
    /// # Errors
    /// [`LockError::Held`] naming the process when another one, or this one, holds it already.
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        let cannot = |file: &Path, source| LockError::Io { file: file.into(), source };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| cannot(folder, source))?;
        let path = folder.join("lock");
        // Not truncated here: until the lock is ours, the content is another process's.
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| cannot(&path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                return Err(LockError::Held { folder: folder.into(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(cannot(&path, source)),
        }
        name_holder(&file).map_err(|source| cannot(&path, source))?;
        Ok(Self { _file: file })
    }
}

fn name_holder(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", process::id())
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_lock_is_refused_and_names_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let held = FolderLock::acquire(&data).unwrap();
        let refused = FolderLock::acquire(&data).unwrap_err();
        assert!(matches!(refused, LockError::Held { pid: Some(pid), .. } if pid == process::id()));
        assert!(refused.to_string().contains(&process::id().to_string()));
        drop(held);
        FolderLock::acquire(&data).unwrap();
    }

    #[test]
    fn folder_is_made_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let _held = FolderLock::acquire(&data).unwrap();
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
        let lock = fs::metadata(data.join("lock")).unwrap();
        assert_eq!(lock.permissions().mode() & 0o777, 0o600);
    }
}
