//! The file behind a keyfile slot: exactly 32 random bytes, readable by its owner only.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{
    crypto::{Kek, random},
    secret::{Algorithm, Key, SecretBytes},
};

/// Why a keyfile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyfileError {
    /// The system does not give it.
    #[error("cannot read the keyfile {}", .path.display())]
    Read {
        /// The keyfile.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The system does not take it.
    #[error("cannot make the keyfile {}", .path.display())]
    Write {
        /// The keyfile.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A file is there already, and a keyfile is never written over.
    #[error("{} exists already; a keyfile is never written over: use it, or choose another path", .path.display())]
    Exists {
        /// The keyfile.
        path: PathBuf,
    },
    /// Not a plain file.
    #[error("the keyfile {} is not a plain file", .path.display())]
    NotAFile {
        /// The keyfile.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("the keyfile {} is open to others (mode {mode:04o}); run: chmod 600 {}", .path.display(), .path.display())]
    OpenToOthers {
        /// The keyfile.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not 32 bytes. A passphrase in a file would be guessed without the cost of Argon2.
    #[error(
        "the keyfile {} does not hold exactly 32 bytes; a passphrase in a file belongs in a passphrase slot",
        .path.display()
    )]
    WrongLength {
        /// The keyfile.
        path: PathBuf,
    },
}

/// Reads a keyfile.
///
/// # Errors
/// [`KeyfileError`], which says what to do.
pub fn read(path: &Path) -> Result<Key<Kek>, KeyfileError> {
    let read_error = |cause| KeyfileError::Read { path: path.to_owned(), cause };
    let mut file = File::open(path).map_err(read_error)?;
    // Asked of the open file, so that nothing can be put in its place in between.
    let metadata = file.metadata().map_err(read_error)?;
    if !metadata.is_file() {
        return Err(KeyfileError::NotAFile { path: path.to_owned() });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o177 != 0 {
        return Err(KeyfileError::OpenToOthers { path: path.to_owned(), mode });
    }
    if metadata.len() != u64::try_from(Kek::KEY_BYTES).unwrap_or(u64::MAX) {
        return Err(KeyfileError::WrongLength { path: path.to_owned() });
    }
    let mut result = Ok(());
    let bytes = SecretBytes::build(Kek::KEY_BYTES, |bytes| result = file.read_exact(bytes));
    result.map_err(read_error)?;
    bytes
        .expose(Key::copy_of)
        .map_err(|_length| KeyfileError::WrongLength { path: path.to_owned() })
}

/// Makes a keyfile of 32 random bytes, mode 0600, synced with its folder.
///
/// # Errors
/// [`KeyfileError`]; an existing file is never touched.
pub fn create(path: &Path) -> Result<Key<Kek>, KeyfileError> {
    let write_error = |cause: io::Error| {
        let path = path.to_owned();
        if cause.kind() == io::ErrorKind::AlreadyExists {
            KeyfileError::Exists { path }
        } else {
            KeyfileError::Write { path, cause }
        }
    };
    let key: Key<Kek> = random::key();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(write_error)?;
    key.expose(|bytes| file.write_all(bytes)).map_err(write_error)?;
    file.sync_all().map_err(write_error)?;
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(write_error)?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn written(bytes: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn what_was_made_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        let made = create(&path).unwrap();
        let bytes = read(&path).unwrap();
        assert!(made.expose(|made| bytes.expose(|bytes| bytes == made)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn an_existing_file_is_never_written_over() {
        let (_dir, path) = written(b"precious", 0o600);
        assert!(matches!(create(&path), Err(KeyfileError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_file_open_to_others_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o700, 0o777] {
            let (_dir, path) = written(&[1; 32], mode);
            assert!(matches!(read(&path), Err(KeyfileError::OpenToOthers { .. })), "{mode:o}");
        }
        for mode in [0o600, 0o400] {
            let (_dir, path) = written(&[1; 32], mode);
            assert!(read(&path).is_ok());
        }
    }

    #[test]
    fn anything_but_32_bytes_is_refused() {
        for length in [0, 31, 33, 4096] {
            let (_dir, path) = written(&vec![1; length], 0o600);
            assert!(matches!(read(&path), Err(KeyfileError::WrongLength { .. })), "{length}");
        }
    }

    #[test]
    fn a_folder_or_nothing_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(KeyfileError::NotAFile { .. })));
        assert!(matches!(read(&dir.path().join("none")), Err(KeyfileError::Read { .. })));
    }
}
