use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    Barrier, Batch, CommitError, Expected, ReadError, SpaceId, Stored,
    batch::{Action, Operation},
    fields::Fields,
};
use crate::{
    clock::Timestamp,
    secret::SecretBytes,
    storage::{CompactError, Compacted, Erase, Progress},
};

/// Where the mark of a due erasure lies, in the space of Kista's own tables.
const MARK: &str = "erasure";
const FORMAT: u8 = 1;

/// Why what was removed is not erased. The erasure stays due.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EraseError {
    /// The store cannot be compacted.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// The mark cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The mark cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A task of ours broke off.
    #[error("the work broke off")]
    Task(#[from] tokio::task::JoinError),
}

impl Barrier {
    /// Since when something that was removed waits to be erased: its ciphertext still lies in
    /// journal, snapshots or index.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn erasure_due(&self) -> Result<Option<Timestamp>, ReadError> {
        Ok(self.mark().await?.map(|(since, _)| since))
    }

    /// Compacts the store so that no file of the data folder holds what was removed or replaced
    /// before (FORMAT.md 7), and takes the mark away. `hear` is told how far it is.
    ///
    /// # Errors
    /// [`EraseError`].
    pub async fn erase_removed(
        &self,
        hear: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Compacted, EraseError> {
        let begun = self.clock.now();
        let _running = Running::begin(&self.erasing);
        let mark = self.renewed_mark().await?;
        let store = self.store.clone();
        let compacted = tokio::task::spawn_blocking(move || store.compact(Erase::Yes, hear));
        let compacted = compacted.await??;
        let Some((_, Stored { header, .. })) = mark else { return Ok(compacted) };
        let unchanged = Some(Expected::Header(header));
        match self.commit_mark(unchanged, Action::Delete).await {
            // Something else was removed meanwhile, not before this began.
            Err(CommitError::Conflict) => {
                self.commit_mark(None, Action::Put(encode(begun))).await?;
            }
            done => done?,
        }
        Ok(compacted)
    }

    /// The mark that goes into the same batch as a removal. The first removal counts, so one that
    /// lies there need only stay. While an erasure runs it is written again, which tells the
    /// erasure that something was removed after it began. Names must not change until the commit.
    pub(super) async fn erasure_mark(&self) -> Result<Vec<Operation>, CommitError> {
        let mark = self.mark().await?;
        // In this order: an erasure that begins after the look writes another mark.
        let is_running = self.erasing.load(Ordering::SeqCst) > 0;
        let (expected, action) = match mark {
            Some((_, Stored { header, .. })) if !is_running => {
                (Some(Expected::Header(header)), Action::Keep)
            }
            Some((since, _)) => (None, Action::Put(encode(since))),
            None => (None, Action::Put(encode(self.clock.now()))),
        };
        let mut batch = Batch::default();
        self.add_mark(&mut batch, expected, action);
        self.locate(batch).await
    }

    /// Whether a mark that was to stay has been written or taken away since.
    pub(super) async fn has_mark_changed(&self, mark: &[Operation]) -> Result<bool, CommitError> {
        for operation in mark {
            match self.check_expected(operation).await {
                Ok(()) => {}
                Err(CommitError::Conflict) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// The mark, written again once removals are to write it: one that only relies on the mark as
    /// it was is committed before this, or not at all.
    async fn renewed_mark(&self) -> Result<Option<(Timestamp, Stored)>, EraseError> {
        let Some((since, _)) = self.mark().await? else { return Ok(None) };
        self.commit_mark(None, Action::Put(encode(since))).await?;
        Ok(self.mark().await?)
    }

    async fn mark(&self) -> Result<Option<(Timestamp, Stored)>, ReadError> {
        let system = self.space(SpaceId::SYSTEM);
        let Some(stored) = self.get(&system, MARK).await? else { return Ok(None) };
        let since = stored.value.expose(decode)?;
        Ok(Some((since, stored)))
    }

    async fn commit_mark(
        &self,
        expected: Option<Expected>,
        action: Action,
    ) -> Result<(), CommitError> {
        let mut batch = Batch::default();
        self.add_mark(&mut batch, expected, action);
        self.commit(batch).await
    }

    fn add_mark(&self, batch: &mut Batch, expected: Option<Expected>, action: Action) {
        let (system, path) = (self.space(SpaceId::SYSTEM), MARK.to_owned().into());
        batch.add_at(&system, path, expected, action);
    }
}

/// An erasure that is under way.
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn encode(since: Timestamp) -> SecretBytes {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&since.millis().to_be_bytes());
    SecretBytes::from_vec(bytes)
}

fn decode(bytes: &[u8]) -> Result<Timestamp, ReadError> {
    let mut fields = Fields::of(bytes);
    let version = fields.u8().unwrap_or_default();
    let since = fields.time_ms().filter(|_| version == FORMAT);
    match (since, fields.end()) {
        (Some(since), Some(())) => Ok(since),
        _ => Err(ReadError::Layout { version }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{Batch, fixture},
        *,
    };

    async fn erase(barrier: &Arc<Barrier>, name: &str) {
        let mut batch = Batch::default();
        batch.delete(&barrier.view(SpaceId([7; 16])), &[name]);
        batch.erases();
        barrier.commit(batch).await.unwrap();
    }

    #[tokio::test]
    async fn a_removal_marks_the_store_until_it_is_erased() {
        let (barrier, _, faults) = fixture::open();
        assert_eq!(barrier.erasure_due().await.unwrap(), None);
        erase(&barrier, "a").await;
        let since = barrier.erasure_due().await.unwrap();
        assert_eq!(since, Some(Timestamp::from_millis(1_767_225_600_000)));
        let (again, ..) = fixture::reopen(&faults);
        assert_eq!(again.erasure_due().await.unwrap(), since);
        again.erase_removed(|_| {}).await.unwrap();
        assert_eq!(again.erasure_due().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_mark_that_lies_there_stays_as_it_is() {
        let (barrier, ..) = fixture::open();
        erase(&barrier, "a").await;
        let (_, stored) = barrier.mark().await.unwrap().unwrap();
        erase(&barrier, "b").await;
        let (since, later) = barrier.mark().await.unwrap().unwrap();
        assert_eq!(since, Timestamp::from_millis(1_767_225_600_000));
        assert_eq!(stored.header, later.header);
    }

    #[tokio::test]
    async fn the_first_removal_counts_and_one_in_between_stays_due() {
        let (barrier, ..) = fixture::open();
        erase(&barrier, "a").await;
        let running = Running::begin(&barrier.erasing);
        let (_, stored) = barrier.renewed_mark().await.unwrap().unwrap();
        erase(&barrier, "b").await;
        let (since, later) = barrier.mark().await.unwrap().unwrap();
        assert_eq!(since, Timestamp::from_millis(1_767_225_600_000));
        assert_ne!(stored.header, later.header);
        let lost = barrier.commit_mark(Some(Expected::Header(stored.header)), Action::Delete).await;
        assert!(matches!(lost, Err(CommitError::Conflict)));
        drop(running);
        assert_eq!(barrier.erasing.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn who_relies_on_a_mark_from_before_an_erasure_is_refused() {
        let (barrier, ..) = fixture::open();
        erase(&barrier, "a").await;
        let mark = barrier.erasure_mark().await.unwrap();
        assert!(!barrier.has_mark_changed(&mark).await.unwrap());
        let _running = Running::begin(&barrier.erasing);
        barrier.renewed_mark().await.unwrap();
        assert!(barrier.has_mark_changed(&mark).await.unwrap());
        let refused = barrier.commit_all(&mark).await;
        assert!(matches!(refused, Err(CommitError::Conflict)));
    }

    #[tokio::test]
    async fn what_a_sweep_removes_is_due_too() {
        let (barrier, ..) = fixture::open();
        let view = barrier.view(SpaceId([7; 16]));
        let mut batch = Batch::default();
        batch.put(&view, &["a", "b"], b"value");
        barrier.commit(batch).await.unwrap();
        view.remove_all(&["b"]).await.unwrap();
        assert_eq!(barrier.erasure_due().await.unwrap(), None);
        view.remove_all(&[]).await.unwrap();
        assert!(barrier.erasure_due().await.unwrap().is_some());
    }
}
