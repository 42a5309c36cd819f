use std::{
    any::Any,
    fs::{self, DirBuilder, File},
    io,
    ops::Bound,
    os::unix::fs::DirBuilderExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use super::{
    Headed, IndexError, RecordHeader, batch,
    recent::Recent,
    record::WriteRef,
    session::{self, Ending},
};

/// Memory that the engine keeps pages in, in bytes. No bound on what it takes in all: that grows
/// with the number of pages too.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Length of the engine's segments in bytes; a page of more than a quarter is a blob file, which
/// sled neither syncs nor gives back. A page holds up to 17 entries, so that its own 512 KiB are
/// too short for chunks of 7,988 bytes under the longest keys (40 blob files for 600 of them), and
/// for some under keys of 133 bytes. Writing was as fast with either length.
const SEGMENT_BYTES: usize = 1024 * 1024;
/// Named, because the engine's own export and import rename its default tree.
const TREE: &str = "records";
/// Where the head stands: be64 seq || sealed head.
const HEAD_KEY: &[u8] = &[0x01];

/// The index of a store in a folder of sled 0.34.
///
/// Nothing is durable because sled says so: its `flush` is no fsync, and after a power cut it may
/// not open, or may open with its newest writes missing. So it is never waited for, and rebuilt
/// from the journal when it is broken. It panics on damage: every call is guarded.
#[derive(Debug)]
pub(super) struct Index {
    folder: PathBuf,
    tree: ::sled::Tree,
    db: ::sled::Db,
    /// Held by a commit while it comes in, so that who sees some of it then sees all.
    ///
    /// Not sled's own batches: each has sled write out and sync what it has of its log, twice, on
    /// threads that are all woken for it. That was a fifth of what a write took.
    coming_in: RwLock<()>,
    /// Changed and filled under that lock only: what is in it is what the tree has.
    recent: Recent,
    /// Last, so that it comes when the engine is gone.
    ending: Ending,
}

/// What the index says that it holds: everything up to this head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) seq: u64,
    pub(super) sealed: Vec<u8>,
}

impl Index {
    /// Opens the index in this folder, or makes an empty one. Opening rewrites a damaged folder:
    /// one that failed is [set aside](set_aside), not opened again.
    pub(super) fn open(folder: &Path, recent_bytes: u64) -> Result<Self, IndexError> {
        guarded(folder, || {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            if folder.join("db").exists() && !session::is_sound(folder) {
                return Err(Failure::Unsound);
            }
            session::begin(folder)?;
            let config = ::sled::Config::new().path(folder).cache_capacity(CACHE_BYTES);
            let db = config.segment_size(SEGMENT_BYTES).open()?;
            let tree = db.open_tree(TREE)?;
            let (coming_in, recent) = (RwLock::default(), Recent::new(recent_bytes));
            let (folder, ending) = (folder.into(), Ending::of(folder));
            Ok(Self { folder, tree, db, coming_in, recent, ending })
        })
    }

    /// The newest head, or `None` when the index is empty.
    pub(super) fn claim(&self) -> Result<Option<Claim>, IndexError> {
        self.guarded(|| {
            let Some(head) = self.tree.get(HEAD_KEY)? else {
                return if self.tree.is_empty() { Ok(None) } else { Err(Failure::NoHead) };
            };
            let (seq, sealed) = head.split_first_chunk::<8>().ok_or(Failure::NoHead)?;
            Ok(Some(Claim { seq: u64::from_be_bytes(*seq), sealed: sealed.to_vec() }))
        })
    }

    /// Shows the record under a key to `read`, without copying it.
    pub(super) fn read<R>(
        &self,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, IndexError> {
        self.guarded(|| {
            let whole = self.coming_in.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = self.recent.get(key) {
                drop(whole);
                return Ok(Some(read(entry.record())));
            }
            let record = self.tree.get(key)?;
            if let Some(record) = &record {
                self.recent.fill(key, record);
            }
            drop(whole);
            Ok(record.map(|record| read(&record)))
        })
    }

    pub(super) fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, IndexError> {
        self.guarded(|| {
            let mut keys = Vec::new();
            let range = (batch::list_from(prefix, after), Bound::Unbounded);
            let mut found = self.tree.range::<&[u8], _>(range).keys().take(limit);
            // Not for the whole list, which may be long.
            let mut next = || {
                let _whole = self.coming_in.read().unwrap_or_else(PoisonError::into_inner);
                found.next()
            };
            while let Some(key) = next() {
                let key = key?;
                if !key.starts_with(prefix) {
                    break;
                }
                keys.push(key.to_vec());
            }
            Ok(keys)
        })
    }

    /// Keys behind `after` with the headers of their records.
    pub(super) fn headers(&self, after: &[u8], limit: usize) -> Result<Vec<Headed>, IndexError> {
        self.guarded(|| {
            let range = (batch::list_from(&[], Some(after)), Bound::Unbounded);
            let mut headers = Vec::with_capacity(limit);
            for entry in self.tree.range::<&[u8], _>(range).take(limit) {
                let (key, record) = entry?;
                headers.push((key.to_vec(), RecordHeader::of(&record)));
            }
            Ok(headers)
        })
    }

    /// Applies writes that are durable, then the head that covers them; without one until all of a
    /// snapshot is there.
    ///
    /// The head comes last: sled brings back its log up to some point, so an index that names a
    /// head holds all before it. What it may hold beyond is in the journal, and replayed.
    pub(super) fn apply<'a>(
        &self,
        writes: impl Iterator<Item = WriteRef<'a>>,
        head: Option<(u64, &[u8])>,
    ) -> Result<(), IndexError> {
        self.guarded(|| {
            let _whole = self.coming_in.write().unwrap_or_else(PoisonError::into_inner);
            for (key, record) in writes {
                match record {
                    Some(record) => self.tree.insert(key, record)?,
                    None => self.tree.remove(key)?,
                };
                self.recent.put(key, record);
            }
            if let Some((seq, sealed)) = head {
                self.tree.insert(HEAD_KEY, [&seq.to_be_bytes(), sealed].concat())?;
            }
            Ok(())
        })
    }

    #[cfg(test)]
    pub(super) fn tamper(&self, key: &[u8], record: Option<&[u8]>) {
        self.recent.put(key, None);
        match record {
            Some(record) => drop(self.tree.insert(key, record).unwrap()),
            None => drop(self.tree.remove(key).unwrap()),
        }
    }

    /// Hands everything to the system: it outlasts the process, and no more is promised.
    pub(super) fn write_out(&self) -> Result<(), IndexError> {
        self.guarded(|| {
            self.db.flush()?;
            Ok(())
        })
    }

    /// Brings the index to the disk, so that the next start has little to replay.
    pub(super) fn flush(&self) -> Result<(), IndexError> {
        self.guarded(|| {
            self.db.flush()?;
            // sled's flush is a sync_file_range, which leaves the file's length to chance.
            Ok(File::open(self.folder.join("db"))?.sync_data()?)
        })
    }

    /// What its files take, in bytes.
    pub(super) fn bytes(&self) -> Result<u64, IndexError> {
        self.guarded(|| Ok(self.db.size_on_disk()?))
    }

    /// The folder that it lies in.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Closes an index that failed; its last words do not matter.
    pub(super) fn discard(self) {
        self.ending.failed();
        let folder = self.folder.clone();
        let dropped = guarded(&folder, || {
            drop(self);
            Ok(())
        });
        drop(dropped);
    }

    fn guarded<R>(&self, call: impl FnOnce() -> Result<R, Failure>) -> Result<R, IndexError> {
        guarded(&self.folder, call).inspect_err(|_| self.ending.failed())
    }
}

/// Moves a broken index out of the way, where it stays for examination until the next one breaks.
pub(super) fn set_aside(folder: &Path) -> io::Result<()> {
    let aside = aside(folder);
    for step in [fs::remove_dir_all(&aside), fs::rename(folder, &aside)] {
        match step {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Where a broken index is kept.
pub(super) fn aside(folder: &Path) -> PathBuf {
    folder.with_extension("broken")
}

/// Why a call failed, before the folder is named.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Sled(#[from] ::sled::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it holds records but no head")]
    NoHead,
    #[error("the machine or its disk has stopped since it was open, and nothing of it was synced")]
    Unsound,
}

/// Turns the engine's errors and panics into one error.
fn guarded<R>(folder: &Path, call: impl FnOnce() -> Result<R, Failure>) -> Result<R, IndexError> {
    // A panic may leave sled's state half changed. It is not used for more than reads after that:
    // the committer stops at the first error, and attaching starts again with a fresh index.
    let reason = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(failure)) => failure.to_string(),
        Err(panic) => format!("the engine panicked: {}", panic_text(panic.as_ref())),
    };
    Err(IndexError { folder: folder.into(), reason })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
