use std::sync::{Arc, PoisonError, Weak};

use super::{
    Barrier, Batch, CommitError, Expected, Keyring, MAX_CHUNKS, NamesGeneration, OpenError,
    ReadError, Stored,
    batch::{Operation, Wanted},
    finding::Place,
    large, record,
    rotation::{LISTED_KEYS, Page, TRIES, size},
};
use crate::storage::{self, MAX_BATCH_BYTES, Precondition, RecordHeader, Store, Write};

/// What one call of [`Barrier::move_names`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// How many records came under the new names, chunks included.
    pub records: u64,
    /// Nothing lies under the old names any more.
    pub is_done: bool,
}

impl Barrier {
    /// Takes in a keyring with a secret of names more, or the old one less, which a seal file of
    /// this epoch holds: names are encrypted under the newest one from now on (FORMAT.md 5).
    ///
    /// # Errors
    /// [`CommitError`]; the keyring in use then stays, although the seal file has another one.
    pub async fn adopt_names(&self, keyring: Keyring, seal_epoch: u64) -> Result<(), CommitError> {
        let _no_commits = self.renaming.write().await;
        // Before a record lies under names that an older seal file does not know. And who went away
        // without waiting for a commit has it written under the old names before this one.
        self.shared.ask_seal_epoch(seal_epoch);
        self.commit_head().await?;
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        spaces.retain(|_, space| space.strong_count() > 0);
        for space in spaces.values().filter_map(Weak::upgrade) {
            space.rename(keyring.naming(space.id()));
        }
        self.keyring.store(Arc::new(keyring));
        drop(spaces);
        Ok(())
    }

    /// Moves the next records from the old names to the new ones, a bounded number of them in one
    /// batch: each leaves its old key and is sealed again for its new one. What `note` writes about
    /// it goes into the same batch.
    ///
    /// No cursor is needed, since what has moved is not met again.
    ///
    /// # Errors
    /// [`CommitError`]; a record or name that does not open is [`ReadError::Damaged`].
    pub async fn move_names(
        &self,
        mut note: impl FnMut(&Moved) -> Batch,
    ) -> Result<Moved, CommitError> {
        for _ in 0..TRIES {
            let Some(old) = self.keyring().old_names_generation() else {
                return Ok(Moved { records: 0, is_done: true });
            };
            let terms = self.terms.load_full();
            let keys = self.store.list(&old.range(), None, LISTED_KEYS).await;
            let keys = keys.map_err(ReadError::from)?;
            let mut page = Page::default();
            for key in &keys {
                if !self.collect_move(key, &mut page).await? {
                    break;
                }
            }
            let done = Moved { records: page.puts(), is_done: keys.is_empty() };
            if self.commit_page(&terms, page.batch, note(&done)).await? {
                return Ok(done);
            }
        }
        Err(CommitError::Conflict)
    }

    /// Whether nothing lies under the old names, if there are any.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn old_names_are_empty(&self) -> Result<bool, ReadError> {
        let Some(old) = self.keyring().old_names_generation() else { return Ok(true) };
        Ok(self.store.list(&old.range(), None, 1).await?.is_empty())
    }

    /// Settles the keys of a batch. What still lies under old names there moves first, so that a
    /// record is never under both. Names must not change until the batch is committed.
    pub(super) async fn locate(&self, batch: Batch) -> Result<Vec<Operation>, CommitError> {
        let wanted = batch.into_wanted()?.into_iter();
        let mut located = wanted.map(Wanted::locate).collect::<Result<Vec<_>, _>>()?;
        self.bring(&mut located).await?;
        Ok(located.into_iter().map(|(operation, _)| operation).collect())
    }

    /// Takes what lies under a key of old names into a page; false when it does not fit.
    async fn collect_move(&self, key: &[u8], page: &mut Page) -> Result<bool, ReadError> {
        let place = Place::parse(key).ok_or(ReadError::Damaged)?;
        match place.chunk {
            None => {
                let path = place.path(&self.keyring()).ok_or(ReadError::Damaged)?;
                let new = self.space(place.space).naming().key_of(&path)?;
                let Some(moving) = self.moving(key, &new).await? else { return Ok(true) };
                Ok(page.add(moving.expected, moving.writes))
            }
            Some((head, _)) if page.holds(head) => Ok(true),
            // Its value has moved without it, in a batch that had no room.
            Some((head, _)) => {
                let Some(header) = self.header(key).await? else { return Ok(true) };
                let expected = vec![
                    Precondition::Header(key.to_vec(), header),
                    Precondition::Absent(head.to_vec()),
                ];
                Ok(page.add(expected, vec![Write { key: key.to_vec(), record: None }]))
            }
        }
    }

    /// Moves the values that operations are about, as far as they still lie under the old keys
    /// beside them. An expectation of one holds for the value as it lies then: it is the same one.
    async fn bring(&self, located: &mut [(Operation, Option<Vec<u8>>)]) -> Result<(), CommitError> {
        for _ in 0..TRIES {
            let terms = self.terms.load_full();
            let (mut page, mut moved) = (Page::default(), Vec::new());
            for (at, (operation, old)) in located.iter().enumerate() {
                let Some(old) = old else { continue };
                let Some(moving) = self.moving(old, &operation.key).await? else {
                    continue;
                };
                let (from, to) = (moving.header, moving.writes.first().and_then(header_of));
                if !page.add(moving.expected, moving.writes) {
                    break;
                }
                moved.push((at, from, to));
            }
            if moved.is_empty() {
                return Ok(());
            }
            match self.store.commit(page.batch).await {
                Err(storage::CommitError::Conflict) => continue,
                Err(storage::CommitError::StaleTerm) if self.has_rotated(&terms) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            for (at, from, to) in moved {
                let Some((operation, old)) = located.get_mut(at) else { continue };
                *old = None;
                if operation.expected == Some(Expected::Header(from)) {
                    operation.expected = to.map(Expected::Header);
                }
            }
        }
        Err(CommitError::Conflict)
    }

    /// What moves the value under a key of old names to its new key; `None` when there is none.
    async fn moving(&self, old: &[u8], new: &[u8]) -> Result<Option<Moving>, ReadError> {
        let Some(Stored { value, header }) = self.read(old).await? else { return Ok(None) };
        let chunks = match record::is_head(header.as_bytes()) {
            true => self.store.list(old, Some(old), MAX_CHUNKS as usize).await?,
            false => Vec::new(),
        };
        let terms = self.terms.load();
        let mut writes = value.expose(|value| large::seal(terms.active(), new, value));
        writes.push(Write { key: old.to_vec(), record: None });
        let left: Vec<_> = chunks.into_iter().map(|key| Write { key, record: None }).collect();
        let keys = 2 * (old.len() + new.len());
        // Else they go in a batch of their own: nobody reads chunks without their head.
        if writes.iter().chain(&left).map(size).sum::<usize>() + keys + NOTE <= MAX_BATCH_BYTES {
            writes.extend(left);
        }
        let expected =
            vec![Precondition::Header(old.to_vec(), header), Precondition::Absent(new.to_vec())];
        Ok(Some(Moving { header, expected, writes }))
    }
}

/// Refuses a keyring that lacks the names of a store: nothing would be found in it. Keys are in the
/// order of their generations, so that the first one tells.
pub(super) fn check_names(store: &Store, keyring: &Keyring) -> Result<(), OpenError> {
    let Some(first) = store.first_key()? else { return Ok(()) };
    // What is no key of ours is told by verification.
    let Some((generation, _)) = NamesGeneration::split_off(&first) else { return Ok(()) };
    let kept = keyring.old_names_generation().unwrap_or(keyring.names_generation());
    if generation < kept { Err(OpenError::NamesMissing(generation)) } else { Ok(()) }
}

/// A value on its way to its new key.
struct Moving {
    /// As it lies under its old one.
    header: RecordHeader,
    expected: Vec<Precondition>,
    writes: Vec<Write>,
}

fn header_of(write: &Write) -> Option<RecordHeader> {
    write.record.as_deref().and_then(RecordHeader::of)
}

/// Room that a batch keeps for the note about it, in bytes.
const NOTE: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::{
            MountView, Pace, Progress, Reads, SpaceId,
            fixture::{self, keyring},
        },
        *,
    };
    use crate::{
        clock::Clock as _,
        storage::{NamedSeq, memory::Faults},
    };

    const MOUNT: SpaceId = SpaceId([7; 16]);
    const NEW: NamesGeneration = NamesGeneration(2);
    /// Epoch of the seal file with the new secret.
    const EPOCH: u64 = 5;

    async fn put(view: &MountView, path: &[&str], value: &[u8]) {
        let mut batch = Batch::default();
        batch.put(view, path, value);
        view.commit(batch).await.unwrap();
    }

    async fn read(view: &MountView, path: &[&str]) -> Option<Vec<u8>> {
        Some(view.get(path).await.unwrap()?.value.expose(<[u8]>::to_vec))
    }

    async fn begin(barrier: &Arc<Barrier>) {
        let moving = barrier.keyring().with_new_names().unwrap();
        barrier.adopt_names(moving, EPOCH).await.unwrap();
    }

    async fn move_all(barrier: &Arc<Barrier>) -> u64 {
        let mut records = 0;
        loop {
            let moved = barrier.move_names(|_| Batch::default()).await.unwrap();
            records += moved.records;
            if moved.is_done {
                return records;
            }
        }
    }

    async fn keys_of(store: &Store, generation: u32) -> usize {
        store.list(&NamesGeneration(generation).range(), None, 100_000).await.unwrap().len()
    }

    async fn names(view: &MountView, folder: &[&str]) -> Vec<(String, bool, bool)> {
        let listed = view.list(folder, None, usize::MAX).await.unwrap();
        listed.into_iter().map(|entry| (entry.name, entry.is_leaf, entry.is_folder)).collect()
    }

    async fn is_sound(barrier: &Arc<Barrier>) -> bool {
        let progress = Progress::default();
        let scan = barrier.scan(Pace::Full, Reads::Checked, &progress);
        scan.await.unwrap().findings.is_empty()
    }

    /// A record in two spaces, in folders, with a folder of its own name, and in chunks.
    async fn fill(barrier: &Arc<Barrier>) {
        let mount = barrier.view(MOUNT);
        for n in 0..130 {
            put(&mount, &["small", &n.to_string()], b"value").await;
        }
        put(&mount, &["small"], b"leaf").await;
        put(&mount, &["large"], &[9; 200_000]).await;
        put(&barrier.view(SpaceId::SYSTEM), &["mounts", "one"], b"mount").await;
    }

    type Open = (Arc<Barrier>, Store, Faults);

    fn reopen(faults: &Faults, keyring: Keyring, epoch: u64) -> Result<Open, OpenError> {
        let (store, faults) = faults.reopen();
        let opened = Barrier::open(store.clone(), keyring, epoch, NamedSeq(0), fixture::clock());
        opened.map(|(barrier, _)| (barrier, store, faults))
    }

    fn copy(keyring: &Keyring) -> Keyring {
        Keyring::decode(&keyring.store_id(), &keyring.encode()).unwrap()
    }

    #[tokio::test]
    async fn everything_comes_under_the_new_names_and_the_old_ones_go() {
        let (barrier, store, faults) = fixture::open();
        fill(&barrier).await;
        let before = keys_of(&store, 1).await;
        let listed = names(&barrier.view(MOUNT), &["small"]).await;
        begin(&barrier).await;
        assert!(!barrier.old_names_are_empty().await.unwrap());
        assert_eq!(move_all(&barrier).await, u64::try_from(before).unwrap());
        assert_eq!((keys_of(&store, 1).await, keys_of(&store, 2).await), (0, before));
        assert!(is_sound(&barrier).await);

        barrier.adopt_names(barrier.keyring().without_old_names(), EPOCH + 1).await.unwrap();
        let last = copy(&barrier.keyring());
        assert_eq!((last.names_generation(), last.old_names_generation()), (NEW, None));
        for barrier in [Arc::clone(&barrier), reopen(&faults, last, EPOCH + 1).unwrap().0] {
            let mount = barrier.view(MOUNT);
            assert_eq!(read(&mount, &["small", "129"]).await.unwrap(), b"value");
            assert_eq!(read(&mount, &["small"]).await.unwrap(), b"leaf");
            assert_eq!(read(&mount, &["large"]).await.unwrap(), [9; 200_000]);
            assert_eq!(names(&mount, &["small"]).await, listed);
            let system = barrier.view(SpaceId::SYSTEM);
            assert_eq!(read(&system, &["mounts", "one"]).await.unwrap(), b"mount");
        }
    }

    #[tokio::test]
    async fn while_names_move_both_are_one() {
        let (barrier, store, _) = fixture::open();
        fill(&barrier).await;
        // A view of before serves on.
        let mount = barrier.view(MOUNT);
        let held = mount.get(&["small", "7"]).await.unwrap().unwrap();
        let listed = names(&mount, &[]).await;
        begin(&barrier).await;
        assert_eq!(names(&mount, &[]).await, listed);

        let mut batch = Batch::default();
        batch.put_if(&mount, &["small", "7"], b"again", Expected::Header(held.header));
        barrier.commit(batch).await.unwrap();
        assert_eq!(read(&mount, &["small", "7"]).await.unwrap(), b"again");
        assert_eq!(keys_of(&store, 2).await, 1);

        for path in [&["small", "8"][..], &["large"], &["small", "7"]] {
            let mut batch = Batch::default();
            batch.put_if(&mount, path, b"new", Expected::Absent);
            assert!(matches!(barrier.commit(batch).await, Err(CommitError::Conflict)), "{path:?}");
            let mut batch = Batch::default();
            batch.put_if(&mount, path, b"new", Expected::Header(held.header));
            assert!(matches!(barrier.commit(batch).await, Err(CommitError::Conflict)), "{path:?}");
        }
        let mut batch = Batch::default();
        batch.delete(&mount, &["large"]);
        batch.put(&mount, &["small", "new"], b"new");
        barrier.commit(batch).await.unwrap();
        assert_eq!(read(&mount, &["large"]).await, None);

        barrier.move_names(|_| Batch::default()).await.unwrap();
        assert!(keys_of(&store, 1).await > 0);
        let small = names(&mount, &["small"]).await;
        assert_eq!(small.len(), 131);
        let some = mount.list(&["small"], Some("5"), 10).await.unwrap();
        let expected: Vec<_> = small.iter().filter(|(name, ..)| name.as_str() > "5").collect();
        assert!(some.iter().map(|e| &e.name).eq(expected.iter().take(10).map(|(name, ..)| name)));
        assert_eq!(names(&mount, &[]).await, [("small".to_owned(), true, true)]);

        assert_eq!(mount.remove_all(&["small"]).await.unwrap(), 131);
        assert_eq!(names(&mount, &[]).await, [("small".to_owned(), true, false)]);
        assert!(is_sound(&barrier).await);
    }

    #[tokio::test]
    async fn a_crash_anywhere_goes_on_and_an_older_seal_file_is_refused() {
        let (barrier, _, mut faults) = fixture::open();
        fill(&barrier).await;
        begin(&barrier).await;
        let moving = copy(&barrier.keyring());
        drop(barrier);
        assert!(matches!(
            reopen(&faults, keyring(), EPOCH - 1),
            Err(OpenError::RollbackDetected { given: 4, needed: EPOCH })
        ));
        let mut steps = 0;
        loop {
            let (barrier, _, next) = reopen(&faults, copy(&moving), EPOCH).unwrap();
            let mount = barrier.view(MOUNT);
            assert_eq!(read(&mount, &["large"]).await.unwrap(), [9; 200_000]);
            assert_eq!(names(&mount, &["small"]).await.len(), 130);
            assert!(is_sound(&barrier).await);
            faults = next;
            steps += 1;
            if barrier.move_names(|_| Batch::default()).await.unwrap().is_done {
                break;
            }
        }
        assert!(steps > 3);
    }

    #[tokio::test]
    async fn a_store_of_before_is_not_taken_for_an_empty_one() {
        let (barrier, _, faults) = fixture::open();
        put(&barrier.view(MOUNT), &["a"], b"value").await;
        let moving = barrier.keyring().with_new_names().unwrap();
        let moved = moving.without_old_names();
        drop(barrier);
        assert!(matches!(
            reopen(&faults, moved, EPOCH),
            Err(OpenError::NamesMissing(NamesGeneration(1)))
        ));
        assert!(reopen(&faults, moving, EPOCH).is_ok());
    }

    #[tokio::test]
    async fn a_seal_file_whose_new_names_never_served_is_shut_out_by_the_first_record() {
        let (barrier, _, faults) = fixture::open();
        put(&barrier.view(MOUNT), &["a"], b"value").await;
        let moving = barrier.keyring().with_new_names().unwrap();
        drop(barrier);
        // Written, and the server killed before it was taken in.
        let (barrier, _, faults) = reopen(&faults, moving, EPOCH).unwrap();
        put(&barrier.view(MOUNT), &["b"], b"value").await;
        assert!(matches!(
            reopen(&faults, keyring(), EPOCH - 1),
            Err(OpenError::RollbackDetected { .. })
        ));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn writers_and_readers_meet_nothing_of_it() {
        let (barrier, store, _) = fixture::open();
        fill(&barrier).await;
        let writer = |n: usize| {
            let view = barrier.view(MOUNT).under(&["writer", &n.to_string()]);
            tokio::spawn(async move {
                let mut kept = BTreeMap::new();
                for turn in 0..120_usize {
                    let name = (turn * (n + 3) % 17).to_string();
                    let held = view.get(&[&name]).await.unwrap();
                    let value = held.as_ref().map(|held| held.value.expose(<[u8]>::to_vec));
                    assert_eq!(value.as_ref(), kept.get(&name));
                    let mut batch = Batch::default();
                    if turn % 5 == 4 {
                        batch.delete(&view, &[&name]);
                        kept.remove(&name);
                    } else {
                        let length = if turn % 7 == 0 { 30_000 } else { turn };
                        let value = vec![u8::try_from(turn).unwrap(); length];
                        batch.put(&view, &[&name], &value);
                        kept.insert(name, value);
                    }
                    view.commit(batch).await.unwrap();
                    let listed = view.list(&[], None, 100).await.unwrap();
                    assert!(listed.iter().map(|entry| &entry.name).eq(kept.keys()));
                }
                (view, kept)
            })
        };
        let writers: Vec<_> = (0..6).map(writer).collect();
        begin(&barrier).await;
        while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            // A record that waits to be moved may be sealed again in its place meanwhile.
            let (pending, id) = barrier.keyring().with_pending(fixture::clock().now()).unwrap();
            barrier.adopt(pending).unwrap();
            barrier.activate(id, Batch::default()).await.unwrap();
            let mut cursor = None;
            loop {
                cursor =
                    barrier.rewrap(cursor.as_deref(), |_| Batch::default()).await.unwrap().cursor;
                if cursor.is_none() {
                    break;
                }
            }
            barrier.adopt(barrier.keyring().without_retiring()).unwrap();
            if barrier.move_names(|_| Batch::default()).await.unwrap().is_done {
                // And again, to the names after these.
                let keyring = barrier.keyring().without_old_names();
                barrier.adopt_names(keyring, EPOCH).await.unwrap();
                begin(&barrier).await;
            }
        }
        move_all(&barrier).await;
        for writer in writers {
            let (view, kept) = writer.await.unwrap();
            for (name, value) in kept {
                assert_eq!(read(&view, &[&name]).await.unwrap(), value);
            }
        }
        let newest = barrier.keyring().names_generation();
        assert_eq!(
            store.list(&[], None, 100_000).await.unwrap().len(),
            keys_of(&store, newest.0).await
        );
        assert!(is_sound(&barrier).await);
    }
}
