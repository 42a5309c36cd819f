use std::sync::Arc;

use super::{
    Barrier, Batch, CommitError, Keyring, KeyringError, OpenError, ReadError, TermId,
    finding::Place,
    head::Head,
    large,
    state::term_of,
    term::{SharedTerms, Terms},
};
use crate::storage::{self, Precondition, RecordHeader, Write};

/// Why a keyring does not take the place of the one in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// It cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// It lacks a term that records are under, or whose sum is not zero.
    #[error(
        "state_mismatch: term {} still counts {records} records: verify the store, and do not \
         remove the term", .id.0
    )]
    StateMismatch {
        /// The term.
        id: TermId,
        /// How many records are under it.
        records: u64,
    },
}

/// What one call of [`Barrier::rewrap`] has done.
#[derive(Debug, PartialEq, Eq)]
pub struct Rewrapped {
    /// Where the next call goes on; `None` at the end.
    pub cursor: Option<Vec<u8>>,
    /// How many records were sealed again or taken away, chunks included.
    pub records: u64,
}

impl Barrier {
    /// Takes in what the seal file holds now: a pending term more, or retiring ones less.
    ///
    /// # Errors
    /// [`AdoptError::StateMismatch`] when a term that is missing from it is not empty; the keyring
    /// in use then stays.
    pub fn adopt(&self, keyring: Keyring) -> Result<(), AdoptError> {
        self.check_adoption(&keyring)?;
        let terms = keyring.terms_after(Some(&self.terms.load()))?;
        self.terms.store(Arc::new(terms));
        self.keyring.store(Arc::new(keyring));
        Ok(())
    }

    /// Whether [`adopt`](Self::adopt) will take a keyring: to be asked before the seal file holds
    /// it.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt).
    pub fn check_adoption(&self, keyring: &Keyring) -> Result<(), AdoptError> {
        for id in self.terms.load().ids().filter(|id| !keyring.holds(*id)) {
            let (records, is_empty) = self.records_under(id);
            if !is_empty {
                return Err(AdoptError::StateMismatch { id, records });
            }
        }
        Ok(())
    }

    /// Makes the pending term active: the commit of `batch` lists it, and from then on nothing is
    /// written under another one (FORMAT.md 11, step 2).
    ///
    /// # Errors
    /// [`CommitError`]; the next commit, whoever makes it, lists the term all the same.
    pub async fn activate(&self, id: TermId, batch: Batch) -> Result<(), CommitError> {
        let keyring = self.keyring().with_active(id).map_err(|_| CommitError::StateMismatch)?;
        let terms = keyring.terms_after(Some(&self.terms.load()));
        self.terms.store(Arc::new(terms.map_err(|_| CommitError::StateMismatch)?));
        self.keyring.store(Arc::new(keyring));
        if batch.is_empty() { self.commit_head().await } else { self.commit(batch).await }
    }

    /// How many records are under a term by the newest head, and whether it is empty: its sum may
    /// stand where its count does not.
    pub fn records_under(&self, id: TermId) -> (u64, bool) {
        self.shared.watch.records_under(id)
    }

    /// How many records there are by the newest head, chunks included.
    pub fn records(&self) -> u64 {
        self.shared.watch.records()
    }

    /// How often a term has sealed since the store was opened.
    pub fn seals_under(&self, id: TermId) -> u64 {
        self.terms.load().get(id).map_or(0, super::term::Term::seals)
    }

    /// Has the store opened by seal files of this epoch on only; once durable an older one is
    /// refused. To be called after the seal file is written, never before.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn raise_min_seal_epoch(&self, epoch: u64) -> Result<(), CommitError> {
        self.shared.ask_seal_epoch(epoch);
        self.commit_head().await
    }

    pub(super) async fn commit_head(&self) -> Result<(), CommitError> {
        self.store.commit(storage::Batch::default()).await.map(drop).map_err(CommitError::from)
    }

    /// Seals the next records after `cursor` again under the active term, a bounded number of them
    /// in one batch. What `note` writes about it goes into the same batch.
    ///
    /// A record that somebody else has written meanwhile is under the active term already. A chunk
    /// that no head counts can be read by nobody and goes.
    ///
    /// # Errors
    /// [`CommitError`]; a record that does not open is [`ReadError::Damaged`].
    pub async fn rewrap(
        &self,
        cursor: Option<&[u8]>,
        mut note: impl FnMut(&Rewrapped) -> Batch,
    ) -> Result<Rewrapped, CommitError> {
        for _ in 0..TRIES {
            let terms = self.terms.load_full();
            let page = self.collect(&terms, cursor).await?;
            let done = Rewrapped {
                records: u64::try_from(page.batch.writes.len()).unwrap_or(u64::MAX),
                cursor: page.cursor,
            };
            let batch = page.batch;
            // Each record can be overtaken once: then it is under the active term.
            if self.commit_page(&terms, batch, note(&done)).await? {
                return Ok(done);
            }
        }
        Err(CommitError::Conflict)
    }

    /// Commits records on their way together with a note about them; false when they were
    /// overtaken.
    pub(super) async fn commit_page(
        &self,
        terms: &Arc<Terms>,
        mut batch: storage::Batch,
        note: Batch,
    ) -> Result<bool, CommitError> {
        let _names_stay = self.renaming.read().await;
        for operation in self.locate(note).await? {
            let chunks = self.chunks_at(&operation).await?;
            super::seal(terms.active(), &operation, chunks, 0, &mut batch);
        }
        match self.store.commit(batch).await {
            Err(storage::CommitError::Conflict) => Ok(false),
            Err(storage::CommitError::StaleTerm) if self.has_rotated(terms) => Ok(false),
            answer => answer.map(|_| true).map_err(CommitError::from),
        }
    }

    /// Gathers records under other terms than the active one and seals them again.
    async fn collect(&self, terms: &Terms, cursor: Option<&[u8]>) -> Result<Page, ReadError> {
        let mut page = Page { cursor: cursor.map(<[u8]>::to_vec), ..Page::default() };
        let keys = self.store.list(&[], cursor, LISTED_KEYS).await?;
        let is_last = keys.len() < LISTED_KEYS;
        for key in keys {
            if !self.collect_key(terms, &key, &mut page).await? {
                return Ok(page);
            }
            page.cursor = Some(key);
        }
        if is_last {
            page.cursor = None;
        }
        Ok(page)
    }

    /// Takes the record under a key into a page if it needs it; false when it does not fit.
    async fn collect_key(
        &self,
        terms: &Terms,
        key: &[u8],
        page: &mut Page,
    ) -> Result<bool, ReadError> {
        let Some(record) = self.record(key).await? else { return Ok(true) };
        let header = RecordHeader::of(&record).ok_or(ReadError::Damaged)?;
        if term_of(&header) == terms.active().id {
            return Ok(true);
        }
        match Place::parse(key).ok_or(ReadError::Damaged)?.chunk {
            None => {
                let Some(value) = self.open_value(terms, key, &record).await? else {
                    // Damage, unless another value took its place while the chunks were read.
                    let overtaken = self.header(key).await? != Some(header);
                    return overtaken.then_some(true).ok_or(ReadError::Damaged);
                };
                let writes = value.expose(|value| large::seal(terms.active(), key, value));
                Ok(page.add(vec![Precondition::Header(key.to_vec(), header)], writes))
            }
            Some((head, _)) if page.holds(head) => Ok(true),
            Some((head, _)) => {
                let stands = self.header(head).await?;
                // A head behind the cursor was sealed again with every chunk that it counts.
                if stands.is_some_and(|stands| term_of(&stands) != terms.active().id) {
                    return Err(ReadError::Damaged);
                }
                let expected = vec![
                    Precondition::Header(key.to_vec(), header),
                    match stands {
                        Some(stands) => Precondition::Header(head.to_vec(), stands),
                        None => Precondition::Absent(head.to_vec()),
                    },
                ];
                Ok(page.add(expected, vec![Write { key: key.to_vec(), record: None }]))
            }
        }
    }

    pub(super) async fn header(&self, key: &[u8]) -> Result<Option<RecordHeader>, ReadError> {
        Ok(self.store.get(key).await?.as_deref().and_then(RecordHeader::of))
    }
}

/// Records on their way under the active term.
#[derive(Default)]
pub(super) struct Page {
    pub(super) batch: storage::Batch,
    bytes: usize,
    items: usize,
    cursor: Option<Vec<u8>>,
}

impl Page {
    /// Adds writes and what they expect; false, and nothing added, when there is no room for them.
    pub(super) fn add(&mut self, expected: Vec<Precondition>, writes: Vec<Write>) -> bool {
        let bytes = writes.iter().map(size).sum::<usize>();
        let is_full = self.items >= ITEMS || self.bytes + bytes > BYTES;
        if is_full && self.items > 0 {
            return false;
        }
        self.bytes += bytes;
        self.items += 1;
        self.batch.preconditions.extend(expected);
        self.batch.writes.extend(writes);
        true
    }

    /// How many records it writes.
    pub(super) fn puts(&self) -> u64 {
        let puts = self.batch.writes.iter().filter(|write| write.record.is_some());
        u64::try_from(puts.count()).unwrap_or(u64::MAX)
    }

    pub(super) fn holds(&self, key: &[u8]) -> bool {
        self.batch.writes.iter().rev().any(|write| write.key == key)
    }
}

pub(super) fn size(write: &Write) -> usize {
    write.key.len() + write.record.as_ref().map_or(0, Vec::len)
}

/// The keyring as the newest head wants it: a pending term that it lists is active.
pub(super) fn settle(
    keyring: Keyring,
    head: &Head,
    terms: &SharedTerms,
) -> Result<Keyring, OpenError> {
    let missing = |id: TermId| !keyring.holds(id);
    if let Some(lost) = head.terms.iter().find(|term| missing(term.id) && !term.is_empty()) {
        return Err(OpenError::TermMissing(lost.id));
    }
    let listed = |id: TermId| head.terms.iter().any(|term| term.id == id);
    let Some(pending) = keyring.pending().filter(|pending| listed(pending.id)) else {
        return Ok(keyring);
    };
    let keyring = keyring.with_active(pending.id)?;
    let settled = keyring.terms_after(Some(&terms.load()))?;
    terms.store(Arc::new(settled));
    Ok(keyring)
}

/// How often a batch is tried against those who write the same records: more often than it has
/// records.
pub(super) const TRIES: usize = 256;
/// Most values of one batch: two preconditions each must fit.
const ITEMS: usize = 50;
/// Most bytes of one batch that holds more than one value.
const BYTES: usize = 512 * 1024;
/// Most keys that one batch looks at, of which none may need it.
pub(super) const LISTED_KEYS: usize = 512;

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Batch, Pace, Progress, Reads, SpaceId,
            fixture::{clock, everything, keyring, open, write_behind},
        },
        *,
    };
    use crate::{
        clock::Clock as _,
        storage::{NamedSeq, Store, memory::Faults},
    };

    const OLD: TermId = TermId(7);
    const NEW: TermId = TermId(8);

    async fn put(barrier: &Arc<Barrier>, path: &[&str], value: &[u8]) {
        let mut batch = Batch::default();
        batch.put(&barrier.view(SpaceId::SYSTEM), path, value);
        barrier.commit(batch).await.unwrap();
    }

    async fn read(barrier: &Arc<Barrier>, path: &[&str]) -> Option<Vec<u8>> {
        let stored = barrier.view(SpaceId::SYSTEM).get(path).await.unwrap()?;
        Some(stored.value.expose(<[u8]>::to_vec))
    }

    async fn rotate(barrier: &Arc<Barrier>) {
        let (pending, id) = barrier.keyring().with_pending(clock().now()).unwrap();
        barrier.adopt(pending).unwrap();
        barrier.activate(id, Batch::default()).await.unwrap();
    }

    async fn rewrap_all(barrier: &Arc<Barrier>) -> u64 {
        let (mut cursor, mut records) = (None, 0);
        loop {
            let done = barrier.rewrap(cursor.as_deref(), |_| Batch::default()).await.unwrap();
            records += done.records;
            cursor = done.cursor;
            if cursor.is_none() {
                return records;
            }
        }
    }

    type Open = (Arc<Barrier>, Store, Faults);

    fn reopen(faults: &Faults, keyring: Keyring) -> Result<Open, OpenError> {
        let (store, faults) = faults.reopen();
        let opened = Barrier::open(store.clone(), keyring, 1, NamedSeq(0), clock());
        opened.map(|(barrier, _)| (barrier, store, faults))
    }

    #[tokio::test]
    async fn every_record_is_sealed_again_and_the_old_term_is_empty() {
        let (barrier, store, _) = open();
        for n in 0..130 {
            put(&barrier, &["small", &n.to_string()], b"value").await;
        }
        let long = vec![9; 200_000];
        for name in ["a", "b", "c", "d"] {
            put(&barrier, &["long", name], &long).await;
        }
        let before = everything(&store).await.len();
        assert_eq!(barrier.records_under(OLD), (before.try_into().unwrap(), false));
        rotate(&barrier).await;
        put(&barrier, &["small", "0"], b"newer").await;
        assert_eq!(barrier.records_under(NEW).0, 1);

        assert_eq!(rewrap_all(&barrier).await, u64::try_from(before).unwrap() - 1);
        assert_eq!(barrier.records_under(OLD), (0, true));
        assert_eq!(barrier.records_under(NEW).0, u64::try_from(before).unwrap());
        assert_eq!(read(&barrier, &["long", "c"]).await.unwrap(), long);
        assert_eq!(read(&barrier, &["small", "0"]).await.unwrap(), b"newer");
        let scanned = barrier.scan(Pace::Full, Reads::Checked, &Progress::default()).await.unwrap();
        assert!(scanned.findings.is_empty());
        assert_eq!(rewrap_all(&barrier).await, 0);
        barrier.adopt(barrier.keyring().without_retiring()).unwrap();
        put(&barrier, &["after"], b"value").await;
        assert_eq!(read(&barrier, &["small", "1"]).await.unwrap(), b"value");
    }

    #[tokio::test]
    async fn a_term_with_records_is_not_removed() {
        let (barrier, ..) = open();
        put(&barrier, &["a"], b"value").await;
        rotate(&barrier).await;
        let refused = barrier.adopt(barrier.keyring().without_retiring());
        assert!(matches!(refused, Err(AdoptError::StateMismatch { id: OLD, records: 1 })));
        assert_eq!(read(&barrier, &["a"]).await.unwrap(), b"value");
    }

    #[tokio::test]
    async fn an_old_record_put_back_leaves_a_sum_behind() {
        let (barrier, store, faults) = open();
        put(&barrier, &["a"], b"old").await;
        let old = everything(&store).await;
        put(&barrier, &["a"], b"new").await;
        faults.tamper(&old[0].0, Some(&old[0].1));
        rotate(&barrier).await;
        rewrap_all(&barrier).await;
        assert_eq!(barrier.records_under(OLD), (0, false));
        let refused = barrier.adopt(barrier.keyring().without_retiring());
        assert!(matches!(refused, Err(AdoptError::StateMismatch { id: OLD, records: 0 })));
    }

    #[tokio::test]
    async fn chunks_without_their_head_go() {
        let (barrier, store, _) = open();
        put(&barrier, &["a"], &[1; 30_000]).await;
        let head = everything(&store).await.remove(0).0;
        write_behind(&store, vec![Write { key: head, record: None }]).await;
        rotate(&barrier).await;
        assert_eq!(rewrap_all(&barrier).await, 4);
        assert!(everything(&store).await.is_empty());
        assert_eq!(barrier.records_under(OLD), (0, true));
    }

    #[tokio::test]
    async fn it_goes_on_from_its_cursor_after_a_restart() {
        let (barrier, _, faults) = open();
        for n in 0..120 {
            put(&barrier, &[&n.to_string()], b"value").await;
        }
        let (pending, id) = keyring().with_pending(clock().now()).unwrap();
        let in_file = || Keyring::decode(&keyring().store_id(), &pending.encode()).unwrap();
        barrier.adopt(in_file()).unwrap();
        let (again, _, faults) = reopen(&faults, in_file()).unwrap();
        assert_eq!((again.keyring().active().id, again.keyring().pending().is_some()), (OLD, true));
        again.activate(id, Batch::default()).await.unwrap();
        let half = again.rewrap(None, |_| Batch::default()).await.unwrap();
        assert!(half.cursor.is_some());

        let (again, store, _) = reopen(&faults, in_file()).unwrap();
        assert_eq!(again.keyring().active().id, NEW);
        assert_eq!(again.keyring().retiring()[0].id, OLD);
        let (left, _) = again.records_under(OLD);
        assert_eq!(left, 120 - half.records);
        let done = again.rewrap(half.cursor.as_deref(), |_| Batch::default()).await.unwrap();
        assert!(done.records > 0);
        rewrap_all(&again).await;
        assert_eq!(again.records_under(OLD), (0, true));
        assert_eq!(everything(&store).await.len(), 120);
    }

    #[tokio::test]
    async fn a_seal_file_without_a_term_that_has_records_does_not_open() {
        let (barrier, _, faults) = open();
        put(&barrier, &["a"], b"value").await;
        rotate(&barrier).await;
        let without = barrier.keyring().without_retiring();
        drop(barrier);
        assert!(reopen(&faults, without).is_err());
    }

    #[tokio::test]
    async fn the_note_is_in_the_same_batch() {
        let (barrier, ..) = open();
        put(&barrier, &["a"], b"value").await;
        rotate(&barrier).await;
        let view = barrier.view(SpaceId::SYSTEM);
        let note = |done: &Rewrapped| {
            let mut batch = Batch::default();
            batch.put(&view, &["note"], &[u8::from(done.cursor.is_none())]);
            batch
        };
        let before = barrier.position().seq;
        barrier.rewrap(None, note).await.unwrap();
        assert_eq!(barrier.position().seq, before + 1);
        assert_eq!(read(&barrier, &["note"]).await.unwrap(), [1]);
    }
}
