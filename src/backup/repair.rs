use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
};

use super::bundle::{BundleError, Part, Reader};
use crate::{
    disk::{Disk, Writing, if_there},
    seal,
    storage::{self, FolderLock, LockError, Options, StoreFile},
    vault::{self, Damaged, ExamineError},
};

/// What was done about one damaged file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// The file.
    pub file: PathBuf,
    /// How.
    pub remedy: Remedy,
}

/// How a damaged file was mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Written again from the other copy.
    OtherCopy,
    /// Put aside: older files hold the same commits.
    SetAside,
    /// Replaced by what a backup holds.
    FromBackup,
}

/// What a repair has found and done.
#[derive(Debug)]
pub struct Repaired {
    /// The damage that there was.
    pub damages: Vec<Damaged>,
    /// What became of each file; nothing when none was damaged.
    pub mended: Vec<Mended>,
    /// The newest commit of the store as it is now.
    pub seq: u64,
}

/// Why a store was not repaired. Its files are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// A server runs on it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Its files cannot be examined.
    #[error(transparent)]
    Examine(#[from] ExamineError),
    /// Neither copy of its seal file can be used.
    #[error(transparent)]
    Seal(#[from] seal::ReadError),
    /// The backup cannot be used.
    #[error(transparent)]
    Backup(#[from] BundleError),
    /// The backup is one of another store.
    #[error("the backup is of another store")]
    ForeignBackup,
    /// What is damaged is kept nowhere else.
    #[error("what {} held is kept nowhere else{}", .file.display(), tried(*.had_backup))]
    NoRedundancy {
        /// The first file that cannot be mended.
        file: PathBuf,
        /// Whether a backup was asked.
        had_backup: bool,
        /// All the damage there is.
        damages: Vec<Damaged>,
    },
    /// A file cannot be written.
    #[error("cannot write {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Mends a stopped store from what is kept twice: the other copy of the seal file, the snapshot
/// before and the journal since then, a backup. Nothing is dropped: when the repaired files do not
/// reach the newest commit that was whole before, everything is put back. Damaged files stay beside
/// the new ones, with `.damaged` behind their names.
///
/// Needs no key; whether every record opens is for a verification to see. Blocking.
///
/// # Errors
/// [`RepairError`]; nothing has changed then, but for the copy of the seal file.
pub fn repair(disk: &Disk, data: &Path, backup: Option<&Path>) -> Result<Repaired, RepairError> {
    let _lock = FolderLock::acquire(data)?;
    finish_earlier(disk, data)?;
    let options = Options { disk: disk.clone(), ..Options::default() };
    let seen = vault::examine(data, &options, None, &mut |_, _| {})?;
    let mut mended = Vec::new();
    if let Some(file) = seal::read(disk, data)?.repaired {
        mended.push(Mended { file, remedy: Remedy::OtherCopy });
    }
    let files = store_files(data, &seen.damages);
    if !files.is_empty() {
        begin(disk, data)?;
        let mut work = Work { disk, data, aside: Vec::new() };
        match work.mend(&files, backup, seen.seq) {
            Ok(remedies) => {
                end(disk, data)?;
                mended.extend(remedies);
            }
            Err(stopped) => {
                work.put_back()?;
                end(disk, data)?;
                return Err(match stopped {
                    Stopped::NoRedundancy(file) => RepairError::NoRedundancy {
                        file,
                        had_backup: backup.is_some(),
                        damages: seen.damages,
                    },
                    Stopped::Error(error) => error,
                });
            }
        }
    }
    Ok(Repaired { damages: seen.damages, mended, seq: seen.seq })
}

/// Marks a repair as begun: until its end the files may be neither the old nor the new ones.
fn begin(disk: &Disk, data: &Path) -> Result<(), RepairError> {
    let path = data.join(UNFINISHED);
    let made = disk.create_new(&path).and_then(|file| file.sync_all());
    made.and_then(|()| disk.sync_dir(data)).map_err(|source| RepairError::Io { path, source })
}

fn end(disk: &Disk, data: &Path) -> Result<(), RepairError> {
    let mut folders = StoreFile::folders(data).to_vec();
    folders.push(data.to_owned());
    for folder in &folders {
        if folder == data {
            if_there(disk.remove_file(&data.join(UNFINISHED))).map_err(cannot(folder))?;
        }
        if_there(disk.sync_dir(folder)).map_err(cannot(folder))?;
    }
    Ok(())
}

/// Takes back a repair that broke off, so that this one begins with the files as they were found.
fn finish_earlier(disk: &Disk, data: &Path) -> Result<(), RepairError> {
    if !disk.exists(&data.join(UNFINISHED)).map_err(cannot(data))? {
        return Ok(());
    }
    for folder in StoreFile::folders(data) {
        for name in disk.read_dir(&folder).unwrap_or_default() {
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(DAMAGED)) else {
                continue;
            };
            let path = folder.join(name);
            disk.rename(&aside(&path), &path).map_err(cannot(&path))?;
        }
    }
    end(disk, data)
}

fn cannot(path: &Path) -> impl FnOnce(io::Error) -> RepairError {
    let path = path.to_owned();
    move |source| RepairError::Io { path, source }
}

/// The damaged files of the store itself, each once.
fn store_files(data: &Path, damages: &[Damaged]) -> BTreeMap<PathBuf, StoreFile> {
    let named = damages.iter().filter_map(|damage| {
        let file = StoreFile::of(data, &damage.file)?;
        Some((damage.file.clone(), file))
    });
    named.collect()
}

/// Why a repair stopped.
enum Stopped {
    NoRedundancy(PathBuf),
    Error(RepairError),
}

impl<E: Into<RepairError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// A repair under way, which can be taken back.
struct Work<'a> {
    disk: &'a Disk,
    data: &'a Path,
    /// The files that were put aside.
    aside: Vec<PathBuf>,
}

impl Work<'_> {
    fn mend(
        &mut self,
        files: &BTreeMap<PathBuf, StoreFile>,
        backup: Option<&Path>,
        newest: u64,
    ) -> Result<Vec<Mended>, Stopped> {
        for path in files.keys() {
            self.set_aside(path)?;
        }
        let mut remedies: BTreeMap<_, _> =
            files.keys().map(|path| (path.clone(), Remedy::SetAside)).collect();
        // Older files may hold all of it; then nothing foreign is brought in.
        if !self.is_whole(newest)
            && let Some(backup) = backup
        {
            for path in self.bring(files, backup)? {
                remedies.insert(path, Remedy::FromBackup);
            }
        }
        if !self.is_whole(newest) {
            let first = files.keys().next().cloned().unwrap_or_default();
            return Err(Stopped::NoRedundancy(first));
        }
        Ok(remedies.into_iter().map(|(file, remedy)| Mended { file, remedy }).collect())
    }

    /// Whether the files hold a whole store up to this commit at least.
    fn is_whole(&self, newest: u64) -> bool {
        storage::freeze(self.disk, self.data).is_ok_and(|frozen| frozen.seq >= newest)
    }

    /// Takes from a backup what it has of these files, and says which.
    fn bring(
        &mut self,
        files: &BTreeMap<PathBuf, StoreFile>,
        backup: &Path,
    ) -> Result<Vec<PathBuf>, Stopped> {
        let file = File::open(backup).map_err(BundleError::Io)?;
        let mut reader = Reader::begin(BufReader::new(file))?;
        let (disk, data) = (self.disk, self.data);
        let mut brought = Vec::new();
        let place = |part: Part| -> io::Result<Option<Writing>> {
            let Part::Store(file) = part else { return Ok(None) };
            let path = file.path(data);
            if !files.contains_key(&path) {
                return Ok(None);
            }
            disk.create_new(&path).map(|file| Some(Writing::to(file)))
        };
        while let Some((part, written)) =
            reader.part(|part| place(part).map(Target), &mut |_| {})?
        {
            if let (Part::Store(file), Some(written)) = (part, written.0) {
                let path = file.path(data);
                let bytes = written.into_file();
                let done = self.lengthen(&bytes, &path).and_then(|()| bytes.sync_all());
                done.map_err(|source| RepairError::Io { path: path.clone(), source })?;
                brought.push(path);
            }
        }
        let summary = reader.end()?;
        let ours = seal::inspect(disk, data).into_file().map_err(RepairError::Seal)?.store_id();
        if summary.store_id != ours {
            return Err(RepairError::ForeignBackup.into());
        }
        Ok(brought)
    }

    /// Adds what the damaged file has behind the end of the backup's: a segment has gone on since.
    fn lengthen(&self, file: &crate::disk::DiskFile, path: &Path) -> io::Result<()> {
        let damaged = self.disk.read(&aside(path), u64::MAX)?;
        let end = file.len()?;
        let rest = usize::try_from(end).ok().and_then(|end| damaged.get(end..));
        file.write_all_at(rest.unwrap_or_default(), end)
    }

    fn set_aside(&mut self, path: &Path) -> Result<(), RepairError> {
        let renamed = self.disk.rename(path, &aside(path));
        renamed.map_err(|source| RepairError::Io { path: path.to_owned(), source })?;
        self.aside.push(path.to_owned());
        Ok(())
    }

    /// Puts every damaged file back where it was.
    fn put_back(&self) -> Result<(), RepairError> {
        for path in &self.aside {
            let back = if_there(self.disk.remove_file(path))
                .and_then(|()| self.disk.rename(&aside(path), path));
            back.map_err(|source| RepairError::Io { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// Where a part of a backup goes: to a file, or nowhere.
struct Target(Option<Writing>);

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some(file) => file.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(DAMAGED);
    PathBuf::from(name)
}

/// Stands in the data folder while a repair moves files.
const UNFINISHED: &str = "repair.unfinished";
/// What a damaged file's name gets.
const DAMAGED: &str = ".damaged";

fn tried(had_backup: bool) -> &'static str {
    if had_backup { ", nor in that backup" } else { "" }
}
