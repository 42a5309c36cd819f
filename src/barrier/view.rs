use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use super::{
    Barrier, Batch, CommitError, Page, ReadError,
    listing::{Entry, below, merge},
    names::PathError,
    space::{self, Folder, Naming, Space},
};
use crate::{
    secret::SecretBytes,
    storage::{MAX_OPERATIONS, RecordHeader},
};

/// One mount's data, or a folder of it: all that an engine sees of storage.
#[derive(Clone)]
pub struct MountView {
    barrier: Arc<Barrier>,
    space: Arc<Space>,
    /// The folder, joined by slashes. What is wrong with it is refused at each use.
    above: Result<Arc<str>, PathError>,
}

/// A value as it was read.
#[derive(Debug)]
pub struct Stored {
    /// The value.
    pub value: SecretBytes,
    /// Its version in storage: what to expect when it is written back.
    pub header: RecordHeader,
}

impl MountView {
    pub(super) fn new(barrier: Arc<Barrier>, space: Arc<Space>) -> Self {
        Self { barrier, space, above: Ok(Arc::from("")) }
    }

    /// The view of a folder. A path that cannot be one is refused when the view is used.
    #[must_use]
    pub fn under(&self, folder: &[&str]) -> Self {
        let above = self.above.as_ref().map_err(|error| *error);
        let above = above.and_then(|above| space::join(above, folder));
        Self {
            barrier: Arc::clone(&self.barrier),
            space: Arc::clone(&self.space),
            above: above.map(|path| Arc::from(path.as_str())),
        }
    }

    /// Reads the value at a path. Of a value that is being replaced it reads the old one or the new
    /// one, whole.
    ///
    /// # Errors
    /// [`ReadError`]: a path that is none, a record that does not open, storage that fails.
    pub async fn get(&self, path: &[&str]) -> Result<Option<Stored>, ReadError> {
        self.barrier.get(&self.space, &self.record_path(path)?).await
    }

    /// Whether anything lies at a path. Opens nothing: a record that is damaged is there too.
    ///
    /// # Errors
    /// [`ReadError`], but for damage.
    pub async fn contains(&self, path: &[&str]) -> Result<bool, ReadError> {
        self.barrier.contains(&self.space, &self.record_path(path)?).await
    }

    /// Up to `limit` names of a folder that sort after `after`, as [`Self::page`] gives them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn list(
        &self,
        folder: &[&str],
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        Ok(self.page(folder, after, limit).await?.into_entries())
    }

    /// Up to `limit` names of a folder that sort after `after`, in byte order.
    ///
    /// Subtrees are skipped by seeking. Every name of a small folder is decrypted for each call,
    /// since their order on disk is another one; of one that is large, or not small and listed
    /// again, the names are kept sorted, as long as they fit in the memory meant for that.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn page(
        &self,
        folder: &[&str],
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        loop {
            let naming = self.space.naming();
            // First where records move away from: one that moves meanwhile is met twice at most.
            let old = match naming.previous() {
                Some(previous) => Some(self.list_by(previous, folder, after, limit).await?),
                None => None,
            };
            let listed = self.list_by(&naming, folder, after, limit).await?;
            if self.space.is_current(&naming) {
                return Ok(match old {
                    Some(old) => merge(old.into_entries(), listed.into_entries(), limit).into(),
                    None => listed,
                });
            }
        }
    }

    async fn list_by(
        &self,
        naming: &Naming,
        folder: &[&str],
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let folder = naming.folder(self.above()?, folder)?;
        self.barrier.page(naming, &folder, after, limit).await
    }

    /// Removes everything below a folder, in batches of bounded size, and returns how many records
    /// that were, chunks included. A record of the folder's own name stays.
    ///
    /// For a sweep: nobody writes there any more, since the commit before has made it so. Dropped
    /// or failed half-way, it goes on when called again.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn remove_all(&self, folder: &[&str]) -> Result<u64, CommitError> {
        let mut removed = 0;
        loop {
            let naming = self.space.naming();
            // First where records move away from, so that none is behind when it moves.
            if let Some(previous) = naming.previous() {
                removed += self.remove_below(&*previous.folder(self.above()?, folder)?).await?;
            }
            removed += self.remove_below(&*naming.folder(self.above()?, folder)?).await?;
            if self.space.is_current(&naming) {
                return Ok(removed);
            }
        }
    }

    async fn remove_below(&self, folder: &Folder) -> Result<u64, CommitError> {
        let start = below(folder);
        let mut removed = 0;
        loop {
            let listed = self.barrier.store().list(&folder.prefix, Some(&start), REMOVED_AT_ONCE);
            let keys = listed.await.map_err(ReadError::from)?;
            let Ok(count @ 1..) = u64::try_from(keys.len()) else { return Ok(removed) };
            self.barrier.erase(keys).await?;
            removed += count;
        }
    }

    /// Commits a batch, as [`Barrier::commit`] does.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        self.barrier.commit(batch).await
    }

    /// The storage key of a path as names are encrypted now.
    #[cfg(test)]
    pub(crate) fn record_key(&self, path: &[&str]) -> Result<Vec<u8>, PathError> {
        self.space.naming().record_key(self.above()?, path)
    }

    pub(super) fn record_path(&self, path: &[&str]) -> Result<Zeroizing<String>, PathError> {
        space::record_path(self.above()?, path)
    }

    pub(super) fn space(&self) -> &Arc<Space> {
        &self.space
    }

    fn above(&self) -> Result<&str, PathError> {
        self.above.as_deref().map_err(|error| *error)
    }
}

/// The mark of the erasure is one more operation.
const REMOVED_AT_ONCE: usize = MAX_OPERATIONS - 1;

impl fmt::Debug for MountView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountView").field("space", &self.space).finish_non_exhaustive()
    }
}
