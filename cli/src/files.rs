//! Files that only their owner reads.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use kista::{crypto::random, secret::SecretBytes};

use crate::failure::{Exit, Failure};

/// Makes a folder, and those above it, for the owner alone.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Failure::io(format!("make the folder {}", folder.display()), &error))
}

/// Writes a file whole or not at all, readable by the owner alone, and on the disk when this
/// returns. What was there is replaced.
pub(crate) fn replace(file: &Path, content: &SecretBytes) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io(format!("write {}", file.display()), &error);
    if let Some(folder) = file.parent() {
        make_folder(folder)?;
    }
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = Path::new(&unfinished);
    write_through(unfinished, content).map_err(failed)?;
    rename(unfinished, file)
}

/// Writes a file that was not there, readable by the owner alone, and on the disk when this
/// returns.
pub(crate) fn create(file: &Path, content: &SecretBytes) -> Result<(), Failure> {
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER).open(file)?;
        content.expose(|bytes| file.write_all(bytes))?;
        file.sync_all()
    };
    written()
        .and_then(|()| sync_folder_of(file))
        .map_err(|error| Failure::io(format!("make {}", file.display()), &error))
}

/// What becomes of a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Kept,
    Replaced,
}

/// Writes a file that the user has named, whole or not at all, readable by the owner alone. A
/// symlink of its name is taken for a file that is there, and never followed.
pub(crate) fn place(file: &Path, content: &SecretBytes, existing: Existing) -> Result<(), Failure> {
    place_for(file, content, existing, OWNER)
}

/// The same, for those whom `mode` names.
pub(crate) fn place_for(
    file: &Path,
    content: &SecretBytes,
    existing: Existing,
    mode: u32,
) -> Result<(), Failure> {
    let mut unfinished = Unfinished::create(file, existing)?;
    let mut written = || {
        if mode != OWNER {
            // The umask does not count for what was said outright.
            unfinished.file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        content.expose(|bytes| unfinished.write_all(bytes))
    };
    written().map_err(|error| Failure::io(format!("make {}", file.display()), &error))?;
    unfinished.finish()
}

/// A file that gets its name once it is whole. Dropped before, it is gone.
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: File,
    path: PathBuf,
    target: PathBuf,
    existing: Existing,
}

impl Unfinished {
    /// A file beside `target`, readable by the owner alone.
    pub(crate) fn create(target: &Path, existing: Existing) -> Result<Self, Failure> {
        let Some(name) = target.file_name() else {
            return Err(Failure::usage(format!("{} is no name of a file", target.display())));
        };
        if existing == Existing::Kept && target.symlink_metadata().is_ok() {
            return Err(is_there(target));
        }
        // A name that nobody can foresee, and so nobody can have put there.
        let path = target.with_file_name(format!(".{}.{}", name.to_string_lossy(), random::uuid()));
        let file = OpenOptions::new().write(true).create_new(true).mode(OWNER).open(&path);
        let file =
            file.map_err(|error| Failure::io(format!("make {}", target.display()), &error))?;
        Ok(Self { file, path, target: target.to_owned(), existing })
    }

    /// Where it is until then.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, on the disk when this returns.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let target = &self.target;
        let failed = |error: io::Error| Failure::io(format!("make {}", target.display()), &error);
        self.file.sync_all().map_err(failed)?;
        match self.existing {
            Existing::Replaced => fs::rename(&self.path, target).map_err(failed)?,
            // A second name, since that fails where one is, and renaming would not.
            Existing::Kept => match fs::hard_link(&self.path, target) {
                Ok(()) => remove(&self.path)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(is_there(target));
                }
                Err(error) => return Err(failed(error)),
            },
        }
        sync_folder_of(target).map_err(failed)
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is gone already where it has its name.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}

fn is_there(file: &Path) -> Failure {
    Failure::new(format!("{} is there already", file.display()))
        .hint("give --force to replace it, or another name")
}

/// Gives a whole file its final name, on the disk when this returns.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::rename(from, to).and_then(|()| sync_folder_of(to)).map_err(|error| {
        Failure::io(format!("rename {} to {}", from.display(), to.display()), &error)
    })
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(error) if !is_absent(&error) => {
            Err(Failure::io(format!("remove {}", file.display()), &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Reads a file that the user has named.
pub(crate) fn read(file: &Path) -> Result<SecretBytes, Failure> {
    fs::read(file).map(SecretBytes::from_vec).map_err(|error| unreadable(file, &error))
}

/// A file that the user has named cannot be read.
pub(crate) fn unreadable(file: &Path, error: &io::Error) -> Failure {
    let failure = Failure::io(format!("read {}", file.display()), error);
    if error.kind() != io::ErrorKind::NotFound {
        return failure;
    }
    let failure = failure.exit(Exit::NotFound);
    match env::current_dir() {
        Ok(here) if file.is_relative() => {
            failure.hint(format!("it was looked for in {}", here.display()))
        }
        Ok(_) | Err(_) => failure.hint("is it spelled right?"),
    }
}

/// Whether nothing is there, nor can be: such as below `/dev/null`, where some have their home.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads a file that only its owner may read; `None` when it is not there.
pub(crate) fn read_private(file: &Path) -> Result<Option<SecretBytes>, Failure> {
    let failed = |error: &io::Error| Failure::io(format!("read {}", file.display()), error);
    match fs::metadata(file) {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => {
            Err(Failure::new(format!("others than its owner may use {}", file.display()))
                .hint(format!("chmod 600 {}", file.display())))
        }
        Ok(_) => match fs::read(file) {
            Ok(bytes) => Ok(Some(SecretBytes::from_vec(bytes))),
            Err(error) => Err(failed(&error)),
        },
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

/// Makes the names in the folder of a file last.
fn sync_folder_of(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn write_through(file: &Path, content: &SecretBytes) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    content.expose(|bytes| file.write_all(bytes))?;
    file.sync_all()
}

/// Read and written by its owner alone.
const OWNER: u32 = 0o600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_the_owners_alone_and_leaves_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/context.toml");
        for text in ["first", "second"] {
            replace(&file, &SecretBytes::copy_of(text.as_bytes())).unwrap();
            let read = read_private(&file).unwrap().unwrap();
            assert!(read.expose(|bytes| bytes == text.as_bytes()));
        }
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_there_stays_unless_it_is_to_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("key.pem"), folder.path().join("other"));
        let content = SecretBytes::copy_of(b"secret");
        place(&file, &content, Existing::Kept).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let refused = place(&file, &content, Existing::Kept).unwrap_err();
        assert!(refused.hint.unwrap().contains("--force"));
        fs::write(&other, "not a secret").unwrap();
        std::os::unix::fs::symlink(&other, folder.path().join("link")).unwrap();
        let link = folder.path().join("link");
        assert!(place(&link, &content, Existing::Kept).is_err());
        place(&link, &content, Existing::Replaced).unwrap();
        assert_eq!(fs::read(&link).unwrap(), b"secret");
        assert_eq!(fs::read(&other).unwrap(), b"not a secret");
        assert!(!link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        replace(&file, &SecretBytes::copy_of(b"x")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = read_private(&file).unwrap_err();
        assert!(failure.hint.unwrap().starts_with("chmod 600 "));
        assert!(read_private(&folder.path().join("none")).unwrap().is_none());
    }
}
