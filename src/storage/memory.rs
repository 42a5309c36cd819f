//! A store in memory, for tests and development; it fails on command.

use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Headed, IndexError, RecordHeader, Store, StoreId, WriteError, batch,
    record::{Record, WriteRef},
};

/// What stands for the file in errors.
const NO_FILE: &str = "memory";

/// The other end of a store in memory: makes it fail, and opens its records again.
#[derive(Clone, Debug)]
pub struct Faults {
    store_id: StoreId,
    platter: Arc<Platter>,
}

impl Faults {
    pub(super) fn new(store_id: StoreId, platter: Arc<Platter>) -> Self {
        Self { store_id, platter }
    }

    /// From now on every append to the journal fails.
    pub fn fail_appends(&self) {
        self.platter.fail_appends.store(true, Ordering::Relaxed);
    }

    /// From now on every sync of the journal fails; what was appended is lost at
    /// [`reopen`](Self::reopen).
    pub fn fail_syncs(&self) {
        self.platter.fail_syncs.store(true, Ordering::Relaxed);
    }

    /// From now on every read fails, or answers again.
    pub fn fail_reads(&self, fail: bool) {
        self.platter.fail_reads.store(fail, Ordering::Relaxed);
    }

    /// The next batch, whatever it holds, loses against another writer.
    pub fn conflict_next(&self) {
        self.platter.conflict_next.store(true, Ordering::Relaxed);
    }

    /// Changes the index behind the store's back, as one who can write to the disk may: the
    /// journal and the state know nothing of it.
    pub fn tamper(&self, key: &[u8], record: Option<&[u8]>) {
        self.platter.change([(key, record)].into_iter());
    }

    /// The synced records in another store, as after a restart: not attached, without faults. The
    /// old store goes on with its own.
    pub fn reopen(&self) -> (Store, Self) {
        let records = self.platter.records().clone();
        Store::on_platter(
            self.store_id,
            Platter { records: Mutex::new(records), ..Platter::default() },
        )
    }
}

/// What stands for the disk: journal and index.
#[derive(Debug, Default)]
pub(super) struct Platter {
    /// The synced journal, without segments and padding.
    records: Mutex<Vec<Vec<u8>>>,
    index: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
    fail_appends: AtomicBool,
    fail_syncs: AtomicBool,
    fail_reads: AtomicBool,
    conflict_next: AtomicBool,
}

impl Platter {
    pub(super) fn records(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record and syncs it.
    pub(super) fn append(&self, record: Vec<u8>) -> Result<(), WriteError> {
        let mut records = self.records();
        let failed = |text| WriteError::Journal {
            file: NO_FILE.into(),
            offset: records.len() as u64,
            source: io::Error::other(text),
        };
        if self.fail_appends.load(Ordering::Relaxed) {
            return Err(failed("told to fail appends"));
        }
        if self.fail_syncs.load(Ordering::Relaxed) {
            return Err(failed("told to fail syncs"));
        }
        records.push(record);
        Ok(())
    }

    /// Shows the record under a key to `read`.
    pub(super) fn read<R>(
        &self,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, IndexError> {
        self.check_reads()?;
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        Ok(index.get(key).map(|record| read(record)))
    }

    pub(super) fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, IndexError> {
        self.check_reads()?;
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let range = (batch::list_from(prefix, after), Bound::Unbounded);
        let keys = index.range::<[u8], _>(range).map(|(key, _)| key);
        Ok(keys.take_while(|key| key.starts_with(prefix)).take(limit).cloned().collect())
    }

    /// Keys behind `after` with the headers of their records.
    pub(super) fn headers(&self, after: &[u8], limit: usize) -> Result<Vec<Headed>, IndexError> {
        self.check_reads()?;
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let range = (batch::list_from(&[], Some(after)), Bound::Unbounded);
        let entries = index.range::<[u8], _>(range).take(limit);
        Ok(entries.map(|(key, record)| (key.clone(), RecordHeader::of(record))).collect())
    }

    /// Applies writes to the index.
    pub(super) fn change<'a>(&self, writes: impl Iterator<Item = WriteRef<'a>>) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for (key, record) in writes {
            match record {
                Some(record) => drop(index.insert(key.to_vec(), record.to_vec())),
                None => drop(index.remove(key)),
            }
        }
    }

    /// Makes the index anew from the journal.
    pub(super) fn rebuild_index(&self, store_id: StoreId) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.clear();
        for bytes in self.records().iter() {
            let record = Record::decode(store_id, bytes);
            for (key, put) in record.into_iter().flat_map(|record| record.writes) {
                match put {
                    Some(put) => drop(index.insert(key.to_vec(), put.to_vec())),
                    None => drop(index.remove(key)),
                }
            }
        }
    }

    pub(super) fn clear_index(&self) {
        self.index.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether this batch was told to lose.
    pub(super) fn takes_conflict(&self) -> bool {
        self.conflict_next.swap(false, Ordering::Relaxed)
    }

    fn check_reads(&self) -> Result<(), IndexError> {
        if self.fail_reads.load(Ordering::Relaxed) {
            let reason = "told to fail reads".into();
            return Err(IndexError { folder: PathBuf::from(NO_FILE), reason });
        }
        Ok(())
    }
}
