use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::runtime::{Builder, Runtime};

use super::cases::Form;
use crate::{
    barrier::{Barrier, Batch, Inspector, Keyring, Opened, Pace, Progress, Reads, SpaceId},
    clock::{ManualClock, Timestamp},
    disk::{self, Disk},
    seal::{self, NewSlot, Secret, ShareCounts},
    secret::SecretBytes,
    storage::{self, Erase, FolderLock, NamedSeq, Options, Place, Store, StoreId},
};

/// Where the store lies on its disk.
pub(crate) const FOLDER: &str = "/data";
/// Small enough for several segments.
const SEGMENT_BYTES: u64 = 4_096;

/// Files by their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(pub(super) BTreeMap<PathBuf, Vec<u8>>);

/// What came of opening a changed copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Refused, with an error that names the file.
    Refused,
    /// Everything is there, as if nothing had been.
    NoEffect,
    /// Everything is there, from another copy or an older snapshot, and that is reported.
    Mended,
    /// Everything is there, and an unfinished commit is reported that never was.
    CutNothing,
    /// The last commit is gone, and that is reported.
    CutLast,
    /// It opens, and health, log and audit tell what is wrong.
    Told,
    /// It stays sealed as an older store.
    Rollback,
}

/// Whether an anchor or an audit checkpoint names the newest commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Witness {
    Newest,
    None,
}

/// A store, and what must come of it.
pub(crate) struct Made {
    /// How it was left: closed or killed.
    pub(super) end: &'static str,
    pub(super) files: Files,
    pub(super) store_id: StoreId,
    keyring: SecretBytes,
    share: Option<SecretBytes>,
    seq: u64,
    /// Values by name, `None` for what was deleted; the last of them by the last commit.
    values: Vec<(String, Option<Vec<u8>>)>,
    runtime: Runtime,
    lock: FolderLock,
    _lock_folder: tempfile::TempDir,
}

impl Made {
    /// A store that was closed: a Close record ends it.
    pub(super) fn closed(form: Form) -> Self {
        Self::new("closed", true, form)
    }

    /// A store whose process was killed: its last record is a commit.
    pub(super) fn killed(form: Form) -> Self {
        Self::new("killed", false, form)
    }

    /// The disk of a store that was killed, with its seal file.
    pub(crate) fn whole(form: Form) -> Disk {
        let mut made = Self::killed(form);
        let store = made.files.clone();
        made.seal();
        let seal = std::mem::replace(&mut made.files, store).0.into_iter();
        made.files.0.extend(seal.map(|(name, bytes)| (Path::new(FOLDER).join(name), bytes)));
        made.files.disk()
    }

    /// The seal file of a store.
    pub(super) fn sealed(form: Form) -> Self {
        let mut made = Self::closed(form);
        made.seal();
        made
    }

    /// Makes the seal file, in the place of the other files.
    fn seal(&mut self) {
        let folder = scratch();
        let keyring = Keyring::decode(&self.store_id, &self.keyring).unwrap();
        let slot = NewSlot::Shares(ShareCounts::new(1, 1).unwrap());
        let slots =
            seal::create(&Disk::real(), folder.path(), &keyring, time(), vec![slot]).unwrap();
        self.share = slots.into_iter().find_map(|made| match made {
            seal::Made::Shares(shares) => shares.into_iter().next(),
            seal::Made::Passphrase | seal::Made::Keyfile | seal::Made::Automatic => None,
        });
        self.files = Files::default();
        for name in ["seal.0", "seal.1"] {
            let bytes = fs::read(folder.path().join(name)).unwrap();
            self.files.0.insert(name.into(), bytes);
        }
    }

    fn new(end: &'static str, is_closed: bool, form: Form) -> Self {
        let lock_folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::acquire(lock_folder.path()).unwrap();
        let keyring = Keyring::generate(time());
        let (store_id, encoded) = (keyring.store_id(), keyring.encode());
        let (disk, _) = disk::simulated();
        disk.create_dir_all(Path::new(FOLDER)).unwrap();
        let store = Store::create(Path::new(FOLDER), store_id, 1, options(&disk), &lock).unwrap();
        let mut made = Self {
            end,
            files: Files::default(),
            store_id,
            keyring: encoded,
            share: None,
            seq: 0,
            values: Vec::new(),
            runtime: runtime(),
            lock,
            _lock_folder: lock_folder,
        };
        let handle = store.clone();
        let (barrier, _) =
            Barrier::open(store, keyring, 1, NamedSeq(0), Arc::new(ManualClock::new(time())))
                .unwrap();
        made.runtime.block_on(made_values(&barrier, &handle, form, &mut made.values));
        if is_closed {
            barrier.close().unwrap();
        }
        made.seq = barrier.position().seq;
        drop(barrier);
        made.files = Files::of(&disk);
        made
    }

    /// Whether the journal ends in this file.
    pub(super) fn is_last(&self, file: &Path) -> bool {
        let mut segments =
            self.files.0.keys().filter(|file| file.extension().is_some_and(|e| e == "seg"));
        segments.next_back().is_some_and(|last| last == file)
    }

    /// Opens a changed copy and reads everything.
    pub(super) fn open(&self, files: Files, witness: Witness) -> Result<Verdict, String> {
        let named = match witness {
            Witness::Newest => NamedSeq(self.seq),
            Witness::None => NamedSeq(0),
        };
        let disk = files.disk();
        let keyring = Keyring::decode(&self.store_id, &self.keyring).unwrap();
        let store = match Store::open(Path::new(FOLDER), options(&disk), &self.lock) {
            Ok(store) => store,
            Err(error) => return refused(&error),
        };
        let clock = Arc::new(ManualClock::new(time()));
        let (barrier, opened) = match Barrier::open(store, keyring, 1, named, clock) {
            Ok(opened) => opened,
            Err(error) => return refused(&error),
        };
        self.runtime.block_on(self.judge(&barrier, &opened))
    }

    async fn judge(&self, barrier: &Arc<Barrier>, opened: &Opened) -> Result<Verdict, String> {
        let scanned = barrier.scan(Pace::Full, Reads::Checked, &Progress::default()).await;
        let findings = scanned.map_err(|error| error.to_string())?.findings;
        if !findings.is_empty() {
            return Err(format!("it opens and does not verify: {findings:?}"));
        }
        let view = barrier.view(SpaceId::SYSTEM);
        let mut missing = 0;
        for (number, (name, expected)) in self.values.iter().enumerate() {
            let read = view.get(&["folder", name]).await.map_err(|error| error.to_string())?;
            let read = read.map(|stored| stored.value.expose(<[u8]>::to_vec));
            if read != *expected {
                let is_last = number == self.values.len() - 1 && read.is_none();
                if !is_last {
                    return Err(format!("{name} reads as another value, or as none"));
                }
                missing += 1;
            }
        }
        match (opened.cut, missing) {
            (None, 0) if !opened.damaged.is_empty() => Ok(Verdict::Mended),
            (None, 0) => Ok(Verdict::NoEffect),
            (Some(_), 0) => Ok(Verdict::CutNothing),
            (Some(cut), 1) if cut == self.seq => Ok(Verdict::CutLast),
            (cut, missing) => Err(format!("{missing} lost, and {cut:?} is reported")),
        }
    }

    /// What an examination with the keys finds.
    pub(super) fn examine(&self, files: &Files) -> Vec<Place> {
        let keyring = Keyring::decode(&self.store_id, &self.keyring).unwrap();
        let mut inspector = Inspector::new(keyring).unwrap();
        let options = options(&files.disk());
        let folder = Path::new(FOLDER);
        storage::examine(folder, &options, &mut inspector, &mut |_, _| {}).unwrap().damages
    }

    /// Reads a changed seal file and opens it.
    pub(super) fn unseal(&self, files: Files) -> Result<Verdict, String> {
        let folder = scratch();
        for (name, bytes) in &files.0 {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let loaded = match seal::read(&Disk::real(), folder.path()) {
            Ok(loaded) => loaded,
            Err(error) => return refused(&error),
        };
        let is_mended = loaded.repaired.is_some();
        let share = self.share.as_ref().unwrap().expose(<[u8]>::to_vec);
        let opened = match loaded.open(&Secret::Shares(SecretBytes::from_vec(share))) {
            Ok(opened) => opened,
            Err(error) => return Err(format!("a whole copy does not open: {error}")),
        };
        let is_right = opened.keyring.encode().expose(|keyring| {
            self.keyring.expose(|expected| keyring == expected) && opened.epoch == 1
        });
        let [first, second] = ["seal.0", "seal.1"].map(|name| fs::read(folder.path().join(name)));
        if !is_right || first.unwrap() != second.unwrap() {
            return Err("other keys, or copies that differ".to_owned());
        }
        Ok(if is_mended { Verdict::Mended } else { Verdict::NoEffect })
    }
}

/// Puts, replaces, deletes, and a value in chunks; the last commit makes the last name.
async fn made_values(
    barrier: &Arc<Barrier>,
    store: &Store,
    form: Form,
    values: &mut Vec<(String, Option<Vec<u8>>)>,
) {
    // In chunks in the long form only: its bytes are as many as those of all the rest.
    let large = match form {
        Form::Short => vec![7; 300],
        Form::Long => vec![7; 7_700],
    };
    let view = barrier.view(SpaceId::SYSTEM);
    let commit = async |name: &str, value: Option<&[u8]>| {
        let mut batch = Batch::default();
        match value {
            Some(value) => batch.put(&view, &["folder", name], value),
            None => batch.delete(&view, &["folder", name]),
        }
        view.commit(batch).await.unwrap();
    };
    commit("replaced", Some(b"old")).await;
    commit("deleted", Some(b"gone")).await;
    commit("large", Some(&large)).await;
    // Two snapshots, and behind each of them a part of the journal.
    store.compact(Erase::No, |_| {}).unwrap();
    commit("replaced", Some(b"new")).await;
    commit("deleted", None).await;
    store.compact(Erase::No, |_| {}).unwrap();
    let mut batch = Batch::default();
    for name in ["one", "two"] {
        batch.put(&view, &["folder", name], name.as_bytes());
    }
    view.commit(batch).await.unwrap();
    commit("last", Some(b"last")).await;
    let expected: [(&str, Option<&[u8]>); 6] = [
        ("replaced", Some(b"new")),
        ("deleted", None),
        ("large", Some(&large)),
        ("one", Some(b"one")),
        ("two", Some(b"two")),
        ("last", Some(b"last")),
    ];
    values.extend(expected.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))));
}

impl Files {
    /// Every file of the store, but the segment that is prepared and holds nothing.
    fn of(disk: &Disk) -> Self {
        Self::under(disk, Path::new(FOLDER))
    }

    pub(super) fn under(disk: &Disk, folder: &Path) -> Self {
        let mut files = Self::default();
        files.gather(disk, folder);
        files
    }

    fn gather(&mut self, disk: &Disk, folder: &Path) {
        for name in disk.read_dir(folder).unwrap() {
            let path = folder.join(name);
            match disk.read(&path, u64::MAX) {
                Ok(_) if path.ends_with("spare") => {}
                Ok(bytes) => drop(self.0.insert(path, bytes)),
                Err(_) => self.gather(disk, &path),
            }
        }
    }

    pub(super) fn disk(&self) -> Disk {
        let (disk, _) = disk::simulated();
        for (path, bytes) in &self.0 {
            disk.create_dir_all(path.parent().unwrap()).unwrap();
            disk.create_new(path).unwrap().write_all_at(bytes, 0).unwrap();
        }
        disk
    }

    /// Whether the newest state needs nothing of this file: it is of the generation before the
    /// newest snapshot, which is kept in case that one is damaged, and not read before.
    pub(super) fn is_spare(&self, file: &Path) -> bool {
        let of = |extension: &str| -> Vec<(u64, &PathBuf)> {
            let files =
                self.0.keys().filter(|file| file.extension().is_some_and(|e| e == extension));
            let seq = |file: &Path| u64::from_str_radix(file.file_stem()?.to_str()?, 16).ok();
            files.filter_map(|file| Some((seq(file)?, file))).collect()
        };
        let (snapshots, segments) = (of("snap"), of("seg"));
        let Some((newest, _)) = snapshots.last() else { return false };
        let behind = segments.iter().skip(1).map(|(first, _)| *first);
        let old = segments.iter().zip(behind).filter(|(_, behind)| *behind <= newest + 1);
        let old_segment = old.map(|((_, path), _)| *path).any(|path| path == file);
        old_segment || snapshots.iter().any(|(seq, path)| seq < newest && *path == file)
    }

    /// Files that differ in another set.
    fn changed<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a PathBuf> {
        self.0
            .iter()
            .filter(|(file, bytes)| other.0.get(*file) != Some(bytes))
            .map(|(file, _)| file)
    }

    /// Whether only spare files differ.
    pub(super) fn differs_in_spares(&self, other: &Self) -> bool {
        self.changed(other).all(|file| self.is_spare(file))
    }

    pub(super) fn names(&self) -> Vec<PathBuf> {
        self.0.keys().cloned().collect()
    }
}

impl Verdict {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Refused => "error that names the file",
            Self::NoEffect => "no effect",
            Self::Mended => "mended from another copy",
            Self::CutNothing => "cut reported, nothing lost",
            Self::CutLast => "cut of the last reported",
            Self::Told => "opens, and it is told",
            Self::Rollback => "stays sealed as rolled back",
        }
    }
}

/// An error must say which file is meant.
fn refused(error: &dyn Error) -> Result<Verdict, String> {
    let (mut text, mut under) = (error.to_string(), error.source());
    while let Some(cause) = under {
        text = format!("{text}: {cause}");
        under = cause.source();
    }
    let names_it = [".seg", ".snap", "seal.0", "journal", FOLDER].iter().any(|n| text.contains(n));
    if names_it { Ok(Verdict::Refused) } else { Err(format!("refused without a place: {text}")) }
}

fn options(disk: &Disk) -> Options {
    Options { disk: disk.clone(), segment_bytes: SEGMENT_BYTES, ..Options::default() }
}

pub(super) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

pub(crate) fn time() -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000)
}

/// A folder in memory where there is one: syncs cost nothing there.
pub(super) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
