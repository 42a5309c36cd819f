//! The file layer under journal, snapshots, seal file, anchors, markers and audit file.
//!
//! Everything that must outlast a crash is written through a [`Disk`], so that tests can put a
//! simulated one in its place, make any call of it fail, and see every state that a crash may
//! leave. It knows files and folders, and nothing of what they hold. sled keeps to the real disk.
//!
//! - `mod.rs`: [`Disk`]; `file.rs`: [`DiskFile`], and reading or writing one from end to end
//! - `simulated.rs`: the disk of tests and its simulator, with faults on command
//! - `crash.rs`: what a crash may leave of what was written and not synced

#[cfg(test)]
mod crash;
mod file;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

#[cfg(test)]
pub(crate) use crash::Crash;
use file::Handle;
pub use file::{DiskFile, Reading, Writing};
#[cfg(test)]
pub(crate) use simulated::{Fault, Simulator, simulated};

/// Where files lie. Clones are handles to the same one.
#[derive(Clone, Debug, Default)]
pub struct Disk(Medium);

#[derive(Clone, Debug, Default)]
enum Medium {
    #[default]
    Real,
    #[cfg(test)]
    Simulated(simulated::World),
}

impl Disk {
    /// The machine's own.
    pub fn real() -> Self {
        Self::default()
    }

    /// Whether files of others, which do not ask a `Disk`, lie there too.
    pub fn is_real(&self) -> bool {
        match &self.0 {
            Medium::Real => true,
            #[cfg(test)]
            Medium::Simulated(_) => false,
        }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// What the system says, here and below.
    pub fn open(&self, path: &Path) -> io::Result<DiskFile> {
        match &self.0 {
            Medium::Real => Ok(DiskFile(Handle::Real(File::open(path)?))),
            #[cfg(test)]
            Medium::Simulated(world) => {
                world.open(path).map(|file| DiskFile(Handle::Simulated(file)))
            }
        }
    }

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_rw(&self, path: &Path) -> io::Result<DiskFile> {
        match &self.0 {
            Medium::Real => {
                let file = OpenOptions::new().read(true).write(true).open(path)?;
                Ok(DiskFile(Handle::Real(file)))
            }
            #[cfg(test)]
            Medium::Simulated(world) => {
                world.open(path).map(|file| DiskFile(Handle::Simulated(file)))
            }
        }
    }

    /// Makes a file that is not there yet, for its owner only (0600). Its name is durable once its
    /// folder is [synced](Self::sync_dir).
    ///
    /// # Errors
    /// What the system says; `AlreadyExists`.
    pub fn create_new(&self, path: &Path) -> io::Result<DiskFile> {
        match &self.0 {
            Medium::Real => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true).mode(0o600);
                Ok(DiskFile(Handle::Real(options.open(path)?)))
            }
            #[cfg(test)]
            Medium::Simulated(world) => {
                world.create(path).map(|file| DiskFile(Handle::Simulated(file)))
            }
        }
    }

    /// Opens a file for reading and appending; one that is not there is made, for its owner only
    /// (0600). What is written comes to its end, so that it may be a file that only grows (`chattr
    /// +a`): writers name the end as the offset.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for what is not a plain file.
    pub fn open_append(&self, path: &Path) -> io::Result<DiskFile> {
        match &self.0 {
            Medium::Real => {
                let mut options = OpenOptions::new();
                let file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
                if !file.metadata()?.is_file() {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "it is not a plain file",
                    ));
                }
                Ok(DiskFile(Handle::Real(file)))
            }
            #[cfg(test)]
            Medium::Simulated(world) => {
                let file = match world.open(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => world.create(path),
                    opened => opened,
                };
                file.map(|file| DiskFile(Handle::Simulated(file)))
            }
        }
    }

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// What the system says; `FileTooLarge` for a longer one.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let length = file.len()?;
        let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
        if length > limit {
            return Err(too_large());
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| too_large())?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Gives a file another name, in place of what bears it. Durable once its folder is synced.
    ///
    /// # Errors
    /// What the system says.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match &self.0 {
            Medium::Real => fs::rename(from, to),
            #[cfg(test)]
            Medium::Simulated(world) => world.rename(from, to),
        }
    }

    /// Removes a file. Durable once its folder is synced.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Medium::Real => fs::remove_file(path),
            #[cfg(test)]
            Medium::Simulated(world) => world.remove_file(path),
        }
    }

    /// Removes a folder with all that is in it.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Medium::Real => fs::remove_dir_all(path),
            #[cfg(test)]
            Medium::Simulated(world) => world.remove_dir_all(path),
        }
    }

    /// Makes a folder, and those above it, for their owner only (0700). One that is there is fine.
    ///
    /// # Errors
    /// What the system says.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Medium::Real => DirBuilder::new().recursive(true).mode(0o700).create(path),
            #[cfg(test)]
            Medium::Simulated(world) => world.create_dir_all(path),
        }
    }

    /// Makes what was created, renamed and removed in a folder durable.
    ///
    /// # Errors
    /// What the system says; after an error nobody knows what is durable.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Medium::Real => File::open(path)?.sync_all(),
            #[cfg(test)]
            Medium::Simulated(world) => world.sync_dir(path),
        }
    }

    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        match &self.0 {
            Medium::Real => fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect(),
            #[cfg(test)]
            Medium::Simulated(world) => world.read_dir(path),
        }
    }

    /// Whether something bears this name.
    ///
    /// # Errors
    /// What the system says when it cannot tell.
    pub fn exists(&self, path: &Path) -> io::Result<bool> {
        match &self.0 {
            Medium::Real => path.try_exists(),
            #[cfg(test)]
            Medium::Simulated(world) => Ok(world.exists(path)),
        }
    }

    /// Bytes that may still be written to the file system of this path.
    ///
    /// # Errors
    /// What the system says.
    pub fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        match &self.0 {
            Medium::Real => {
                let system = rustix::fs::statvfs(path)?;
                Ok(system.f_bavail.saturating_mul(system.f_frsize))
            }
            #[cfg(test)]
            Medium::Simulated(world) => Ok(world.free_bytes()),
        }
    }
}

/// Takes "it is not there" for done.
///
/// # Errors
/// Any other error that is given.
pub fn if_there(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
