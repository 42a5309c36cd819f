use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    Barrier, ReadError, Stored,
    large::{self, LargeHead},
    record::{self, Kind},
    space::{Naming, Space},
    state_seal::Shared,
    term::Terms,
};
use crate::{
    secret::SecretBytes,
    storage::{self, RecordHeader},
};

impl Barrier {
    /// Reads the value at a path that [`space::record_path`] made.
    pub(super) async fn get(&self, space: &Space, path: &str) -> Result<Option<Stored>, ReadError> {
        loop {
            let naming = space.naming();
            let found = self.get_by(&naming, path).await?;
            // What was not found may have gone to where names lie since.
            if found.is_some() || space.is_current(&naming) {
                return Ok(found);
            }
        }
    }

    /// Whether there is a record at a path that [`space::record_path`] made.
    pub(super) async fn contains(&self, space: &Space, path: &str) -> Result<bool, ReadError> {
        loop {
            let naming = space.naming();
            let is_there = self.contains_by(&naming, path).await?;
            if is_there || space.is_current(&naming) {
                return Ok(is_there);
            }
        }
    }

    async fn contains_by(&self, naming: &Naming, path: &str) -> Result<bool, ReadError> {
        let key = naming.key_of(path)?;
        let is_there = self.record(&key).await?.is_some();
        let Some(previous) = naming.previous().filter(|_| !is_there) else { return Ok(is_there) };
        // Between the two looks it may have moved.
        let old = previous.key_of(path)?;
        Ok(self.record(&old).await?.is_some() || self.record(&key).await?.is_some())
    }

    async fn get_by(&self, naming: &Naming, path: &str) -> Result<Option<Stored>, ReadError> {
        let key = naming.key_of(path)?;
        let found = self.read(&key).await?;
        match naming.previous() {
            Some(previous) if found.is_none() => {
                Box::pin(self.get_moving(previous, path, &key)).await
            }
            Some(_) | None => Ok(found),
        }
    }

    /// Reads at the place that a record moves away from, and where it moves to once more.
    async fn get_moving(
        &self,
        previous: &Naming,
        path: &str,
        key: &[u8],
    ) -> Result<Option<Stored>, ReadError> {
        match self.read(&previous.key_of(path)?).await? {
            // It may have moved between the two looks, and moves once only.
            None => self.read(key).await,
            found => Ok(found),
        }
    }

    /// Reads and opens the value under a key.
    pub(super) async fn read(&self, key: &[u8]) -> Result<Option<Stored>, ReadError> {
        for _ in 0..READS {
            // Before the record: a term that goes is kept as long as it may be needed here.
            let terms = self.terms.load_full();
            let Some(record) = self.record(key).await? else { return Ok(None) };
            let header = RecordHeader::of(&record).ok_or(ReadError::Damaged)?;
            match self.open_value(&terms, key, &record).await {
                Ok(Some(value)) => return Ok(Some(Stored { value, header })),
                Ok(None) => {}
                // Perhaps a record of a term that has come since.
                Err(ReadError::Damaged) if self.has_rotated(&terms) => continue,
                Err(error) => return Err(error),
            }
            // Chunks that do not fit their head are damage, unless another value has replaced this
            // one between the reads.
            let now = self.store.get(key).await?;
            if now.as_deref().and_then(RecordHeader::of) == Some(header) {
                return Err(ReadError::Damaged);
            }
        }
        Err(ReadError::Damaged)
    }

    /// The record under a key, if it is the newest one as far as is known.
    ///
    /// What is known to be absent is not looked for: there is nothing, or what somebody has put
    /// there who does not know the keys, and which verification finds.
    pub(super) async fn record(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        if self.shared.watch.is_absent(key) {
            return Ok(None);
        }
        let is_newest = |shared: &Shared, key: &[u8], record: Option<&[u8]>| {
            let header = record.map(RecordHeader::of);
            // A stump is no record, and none was ever written.
            header != Some(None) && shared.watch.holds(key, header.flatten().as_ref())
        };
        for _ in 0..LOOKS {
            let record = self.store.get(key).await?;
            if is_newest(&self.shared, key, record.as_deref()) {
                return Ok(record);
            }
            // A commit reaches the index a moment before the table.
            tokio::task::yield_now().await;
        }
        Box::pin(self.record_held(key, is_newest)).await
    }

    /// The same while no commit is under way, and so without excuse for one that is not the newest.
    async fn record_held(
        &self,
        key: &[u8],
        is_newest: impl Fn(&Shared, &[u8], Option<&[u8]>) -> bool + Send + 'static,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let (shared, key) = (Arc::clone(&self.shared), key.to_vec());
        let looked = self.store.hold(move |held| {
            let record = held.get(&key).map_err(storage::ReadError::Index)?;
            let is_newest = is_newest(&shared, &key, record.as_deref());
            if !is_newest {
                shared.watch.suspect();
            }
            is_newest.then_some(record).ok_or(ReadError::Stale)
        });
        looked.await?
    }

    /// Opens the record at a key, with its chunks if it has some; `None` when they do not fit it.
    pub(super) async fn open_value(
        &self,
        terms: &Terms,
        key: &[u8],
        record: &[u8],
    ) -> Result<Option<SecretBytes>, ReadError> {
        if record::is_head(record) {
            let head = LargeHead::open(terms, key, record)?;
            // Boxed, as all that is rare on the way of a read: the future of every call has room
            // for it.
            return Box::pin(self.read_chunks(terms, key, &head)).await;
        }
        Ok(Some(record::open(terms, key, Kind::Value, record)?))
    }

    /// Reads the chunks of a value; `None` when one is missing or belongs to another value.
    async fn read_chunks(
        &self,
        terms: &Terms,
        key: &[u8],
        head: &LargeHead,
    ) -> Result<Option<SecretBytes>, ReadError> {
        // Of its final length from the start: growing would leave copies of the value behind.
        let mut value = Zeroizing::new(Vec::with_capacity(head.total()));
        for index in 1..=head.chunks() {
            let Some(record) = self.record(&large::chunk_key(key, index)).await? else {
                return Ok(None);
            };
            let Ok(chunk) = head.open_chunk(terms, key, index, &record) else {
                return Ok(None);
            };
            chunk.expose(|chunk| value.extend_from_slice(chunk));
        }
        Ok(Some(SecretBytes::from_vec(std::mem::take(&mut *value))))
    }
}

/// How often a large value is read again when it is replaced while being read.
const READS: usize = 16;
/// How often a record that is not the newest one is read again before commits are held for it.
const LOOKS: usize = 2;
