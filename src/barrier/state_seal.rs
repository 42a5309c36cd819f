use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{
    head::{Checkpoint, Head},
    roster::Rosters,
    snapshot::Snapshots,
    state::{State, term_of},
    term::{SharedTerms, Terms},
    watch::Watch,
};
use crate::{
    clock::Clock,
    crypto::random,
    storage::{
        Change, CommitSeal, HeadAt, HeadPlace, HeadRefused, SnapshotAt, SnapshotSeal, StaleTerm,
        StoreId,
    },
};

/// Where a store stands: what anchors and audit checkpoints name.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Counts restores and accepted rollbacks.
    pub generation: u64,
    /// Sequence of the newest durable commit; 0 when there is none.
    pub seq: u64,
    /// Its chain value.
    pub chain: [u8; 32],
}

/// The last synced audit checkpoint: set by the audit log after its sync, named by every head
/// sealed from then on.
#[derive(Clone, Debug, Default)]
pub struct AuditMark(Arc<Mutex<Checkpoint>>);

impl AuditMark {
    /// Names a checkpoint that is synced.
    pub fn set(&self, checkpoint: Checkpoint) {
        *lock(&self.0) = checkpoint;
    }

    /// The checkpoint named now.
    pub fn get(&self) -> Checkpoint {
        *lock(&self.0)
    }
}

/// What the seal, which storage owns, shares with the barrier.
#[derive(Debug)]
pub(super) struct Shared {
    position: Mutex<Position>,
    replayed: Mutex<Replayed>,
    /// The lowest seal epoch that the next head asks for, if it is higher than before.
    min_seal_epoch: AtomicU64,
    pub(super) audit: AuditMark,
    pub(super) watch: Watch,
    pub(super) rosters: Arc<Rosters>,
}

/// What replaying found.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// The newest head.
    pub(super) newest: Option<Head>,
    /// The epoch that a head asks of the seal file, when the one that opened is older.
    pub(super) epoch_needed: Option<u64>,
}

impl Shared {
    pub(super) fn new(generation: u64) -> Self {
        let position = Position { generation, seq: 0, chain: [0; 32] };
        Self {
            position: Mutex::new(position),
            replayed: Mutex::default(),
            min_seal_epoch: AtomicU64::new(0),
            audit: AuditMark::default(),
            watch: Watch::default(),
            rosters: Arc::default(),
        }
    }

    pub(super) fn position(&self) -> Position {
        *lock(&self.position)
    }

    /// Sets where the store stands.
    pub(super) fn stands_at(&self, seq: u64, chain: [u8; 32]) {
        let mut position = lock(&self.position);
        position.seq = seq;
        position.chain = chain;
    }

    /// Has the next head ask for seal files of this epoch on.
    pub(super) fn ask_seal_epoch(&self, epoch: u64) {
        self.min_seal_epoch.fetch_max(epoch, Ordering::Relaxed);
    }

    pub(super) fn take_replayed(&self) -> Replayed {
        std::mem::take(&mut lock(&self.replayed))
    }
}

/// The seal of the commits of one open store (FORMAT.md 6 and 7): lent to storage, which calls
/// it from its committer.
#[derive(Debug)]
pub(super) struct StateSeal {
    store_id: StoreId,
    generation: u64,
    shared_terms: SharedTerms,
    /// The terms of the last staged batch: they change between batches only, so that a head is as
    /// long as it was announced.
    terms: Arc<Terms>,
    state: State,
    /// Epoch of the seal file that opened.
    seal_epoch: u64,
    /// Lowest epoch that may open this store.
    min_seal_epoch: u64,
    /// Sequence and generation of the newest head replayed.
    last_seq: u64,
    last_generation: u64,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
}

impl StateSeal {
    /// The seal of an empty store; replaying brings it to where the journal ends. The epoch of the
    /// seal file that made an empty store is the lowest that may open it.
    pub(super) fn new(
        store_id: StoreId,
        shared_terms: SharedTerms,
        seal_epoch: u64,
        clock: Arc<dyn Clock>,
        shared: Arc<Shared>,
    ) -> Self {
        let terms = shared_terms.load_full();
        Self {
            store_id,
            generation: shared.position().generation,
            state: State::empty(terms.active().id),
            shared_terms,
            terms,
            seal_epoch,
            min_seal_epoch: seal_epoch,
            last_seq: 0,
            last_generation: 0,
            clock,
            shared,
        }
    }

    /// Checks that a head follows from what came before it.
    fn follows(&self, head: &Head) -> Result<(), HeadRefused> {
        if head.seq != self.last_seq + 1 {
            return Err(HeadRefused("a commit before it is missing"));
        }
        if head.generation < self.last_generation || head.generation > self.generation {
            return Err(HeadRefused("it is of another generation of the store"));
        }
        if self.last_seq > 0 && head.min_seal_epoch < self.min_seal_epoch {
            return Err(HeadRefused("it takes back which seal file may open the store"));
        }
        Ok(())
    }

    /// Takes the terms as they are now: a rotation may have brought one or removed some.
    fn refresh(&mut self) -> Result<(), StaleTerm> {
        let terms = self.shared_terms.load_full();
        if Arc::ptr_eq(&terms, &self.terms) {
            return Ok(());
        }
        let mut state = self.state.clone();
        state.admit(terms.active().id);
        // The barrier removes no term that has records; should one have, nothing is sealed over it.
        state.keep(&terms).map_err(|_| StaleTerm)?;
        (self.state, self.terms) = (state, terms);
        Ok(())
    }

    /// Goes on from a head that was accepted.
    fn stand_at(&mut self, head: Head) -> Result<(), HeadRefused> {
        let mut replayed = lock(&self.shared.replayed);
        if head.min_seal_epoch > self.seal_epoch {
            replayed.epoch_needed = Some(head.min_seal_epoch);
            return Err(HeadRefused("the seal file is older than it allows"));
        }
        self.state = State::of(&head.terms);
        // A crash may have come between taking an empty term out of the seal file and the next
        // head. One that is not empty stays, and is refused when the newest head is known.
        drop(self.state.keep(&self.terms));
        (self.last_seq, self.last_generation) = (head.seq, head.generation);
        self.min_seal_epoch = head.min_seal_epoch;
        self.shared.audit.set(head.audit);
        replayed.newest = Some(head);
        Ok(())
    }
}

impl CommitSeal for StateSeal {
    fn begin(&mut self, at: &SnapshotAt<'_>) -> Result<(), HeadRefused> {
        let head = Head::open_snapshot(&self.terms, self.store_id, at).ok_or(DOES_NOT_OPEN)?;
        if head.generation > self.generation {
            return Err(HeadRefused("it is of another generation of the store"));
        }
        self.stand_at(head)
    }

    fn replay(&mut self, at: &HeadAt<'_>) -> Result<(), HeadRefused> {
        let head = Head::open(&self.terms, self.store_id, at).ok_or(DOES_NOT_OPEN)?;
        self.follows(&head)?;
        self.stand_at(head)
    }

    fn continues(&mut self, generation: u64) {
        self.generation = generation;
        lock(&self.shared.position).generation = generation;
    }

    fn stage(&mut self, changes: &[Change<'_>]) -> Result<(), StaleTerm> {
        self.refresh()?;
        let active = self.terms.active().id;
        // The newest head may be older than the newest term.
        self.state.admit(active);
        if changes.iter().filter_map(|change| change.new.as_ref()).any(|h| term_of(h) != active) {
            return Err(StaleTerm);
        }
        // An old record that does not fit is refused the same way: nothing may be sealed over it.
        if !self.shared.watch.fits(changes) {
            return Err(StaleTerm);
        }
        self.state = self.state.after(&self.terms, changes).map_err(|_| StaleTerm)?;
        self.shared.watch.stage(&self.terms, changes);
        self.shared.rosters.stage(changes);
        Ok(())
    }

    fn is_absent(&self, key: &[u8]) -> bool {
        self.shared.watch.is_absent(key)
    }

    fn head_len(&self) -> usize {
        Head::sealed_len(self.state.terms().len())
    }

    fn seal(&mut self, place: &HeadPlace) -> Vec<u8> {
        let asked = self.shared.min_seal_epoch.load(Ordering::Relaxed);
        self.min_seal_epoch = self.min_seal_epoch.max(asked);
        let head = Head {
            store_id: self.store_id,
            generation: self.generation,
            seq: place.seq,
            prev_chain: place.prev_chain,
            time: self.clock.now(),
            min_seal_epoch: self.min_seal_epoch,
            audit: self.shared.audit.get(),
            terms: self.state.terms().to_vec(),
        };
        head.seal(self.terms.active(), &place.digest, &random::array())
    }

    fn durable(&mut self, seq: u64, chain: [u8; 32]) {
        self.shared.stands_at(seq, chain);
        self.shared.watch.settle(&self.state);
        self.shared.rosters.settle();
    }

    fn snapshots(&self) -> Arc<dyn SnapshotSeal> {
        Arc::new(Snapshots::new(self.store_id, Arc::clone(&self.shared_terms)))
    }
}

pub(super) const DOES_NOT_OPEN: HeadRefused =
    HeadRefused("it does not open under this store's keys");

/// Locks what holds plain values only: nothing is half done in it after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;

    use super::{
        super::{
            fixture::{clock, store_id, terms, two_terms},
            head::Head,
            term::Term,
        },
        *,
    };
    use crate::{
        barrier::TermId,
        crypto::{Kdf, aead::Cipher},
        secret::Key,
        storage::RecordHeader,
    };

    /// A commit as the journal keeps it.
    struct Commit {
        place: HeadPlace,
        sealed: Vec<u8>,
    }

    fn seal_of(terms: Terms, seal_epoch: u64, generation: u64) -> (StateSeal, Arc<Shared>) {
        let shared = Arc::new(Shared::new(generation));
        let seal = StateSeal::new(
            store_id(),
            shared_terms(terms),
            seal_epoch,
            clock(),
            Arc::clone(&shared),
        );
        (seal, shared)
    }

    fn shared_terms(terms: Terms) -> SharedTerms {
        Arc::new(ArcSwap::from_pointee(terms))
    }

    fn header(term: u8, record: u8) -> Option<RecordHeader> {
        let mut bytes = [record; 48];
        bytes[4..8].copy_from_slice(&[0, 0, 0, term]);
        RecordHeader::of(&bytes)
    }

    fn put(key: &'static [u8], record: u8) -> Change<'static> {
        Change { key, old: None, new: header(7, record) }
    }

    fn commit(seal: &mut StateSeal, seq: u64, changes: Vec<Change<'static>>) -> Commit {
        seal.stage(&changes).unwrap();
        let chain = |seq| [u8::try_from(seq).unwrap(); 32];
        let place = HeadPlace { seq, prev_chain: chain(seq - 1), digest: [7; 32] };
        let announced = seal.head_len();
        let sealed = seal.seal(&place);
        assert_eq!(sealed.len(), announced);
        seal.durable(seq, chain(seq));
        Commit { place, sealed }
    }

    fn three_commits(seal: &mut StateSeal) -> Vec<Commit> {
        let replaced = Change { key: b"a", old: header(7, 1), new: header(7, 3) };
        let deleted = Change { key: b"b", old: header(7, 2), new: None };
        vec![
            commit(seal, 1, vec![put(b"a", 1), put(b"b", 2)]),
            commit(seal, 2, vec![replaced]),
            commit(seal, 3, vec![deleted]),
        ]
    }

    fn replay(seal: &mut StateSeal, commit: &Commit) -> Result<(), HeadRefused> {
        let HeadPlace { seq, prev_chain, digest } = commit.place;
        let at = HeadAt { seq, prev_chain, digest, sealed: &commit.sealed };
        seal.replay(&at)
    }

    #[test]
    fn what_was_sealed_replays_and_goes_on() {
        let (mut seal, shared) = seal_of(terms(), 1, 1);
        let commits = three_commits(&mut seal);
        assert_eq!(shared.position(), Position { generation: 1, seq: 3, chain: [3; 32] });

        let (mut again, shared) = seal_of(terms(), 1, 1);
        commits.iter().try_for_each(|commit| replay(&mut again, commit)).unwrap();
        assert_eq!(shared.take_replayed().newest.unwrap().records(), 1);
        assert_eq!(again.state, seal.state);
        let next = commit(&mut again, 4, vec![put(b"c", 4)]);
        let (mut third, _) = seal_of(terms(), 1, 1);
        commits.iter().chain([&next]).try_for_each(|commit| replay(&mut third, commit)).unwrap();
        assert_eq!(third.state, again.state);
    }

    #[test]
    fn commits_left_out_repeated_or_reordered_are_refused() {
        let commits = three_commits(&mut seal_of(terms(), 1, 1).0);
        for order in [&[1][..], &[0, 2], &[0, 0], &[0, 2, 1]] {
            let (mut seal, _) = seal_of(terms(), 1, 1);
            let replayed = order.iter().try_for_each(|&n| replay(&mut seal, &commits[n]));
            assert!(replayed.is_err(), "{order:?}");
        }
    }

    #[test]
    fn a_snapshot_takes_the_place_of_the_commits_before_it() {
        let (mut seal, _) = seal_of(terms(), 1, 1);
        let mut commits = three_commits(&mut seal);
        let HeadPlace { seq, prev_chain, digest } = commits[2].place;
        let head = HeadAt { seq, prev_chain, digest, sealed: &commits[2].sealed };
        let sealed = seal.snapshots().tally(&head).unwrap().seal([5; 32]);
        let at = SnapshotAt { seq: 3, chain: [3; 32], digest: [5; 32], sealed: &sealed };
        commits.push(commit(&mut seal, 4, vec![put(b"c", 4)]));

        let (mut again, shared) = seal_of(terms(), 1, 1);
        assert!(again.begin(&SnapshotAt { digest: [6; 32], ..at }).is_err());
        again.begin(&at).unwrap();
        assert!(replay(&mut again, &commits[2]).is_err());
        replay(&mut again, &commits[3]).unwrap();
        assert_eq!(again.state, seal.state);
        assert_eq!(shared.take_replayed().newest.unwrap().seq, 4);
        let (mut older, shared) = seal_of(terms(), 0, 1);
        assert!(older.begin(&at).is_err());
        assert_eq!(shared.take_replayed().epoch_needed, Some(1));
    }

    #[test]
    fn a_record_under_another_term_is_refused_and_nothing_of_its_batch_counts() {
        let (mut seal, _) = seal_of(two_terms(), 1, 1);
        let good = Change { key: b"a", old: None, new: header(8, 1) };
        let stale = put(b"b", 2);
        assert_eq!(seal.stage(&[good, stale]), Err(StaleTerm));
        let foreign = Change { key: b"b", old: header(9, 1), new: None };
        assert_eq!(seal.stage(&[good, foreign]), Err(StaleTerm));
        assert_eq!(seal.state, State::empty(TermId(8)));
        seal.stage(&[good]).unwrap();
    }

    /// Terms 7 and 8 with 7 active, as after step 1 of a rotation.
    fn before_activation() -> Terms {
        let two = two_terms();
        let old = Arc::new(Term::derive(
            store_id(),
            TermId(7),
            Cipher::Xaes256Gcm,
            &Key::<Kdf>::build(|key| key.fill(0x11)),
        ));
        Terms::new(Arc::clone(&old), vec![old, Arc::clone(&two.active)])
    }

    #[test]
    fn a_term_comes_into_the_head_when_it_is_active_and_goes_when_it_is_empty() {
        let (mut seal, shared) = seal_of(before_activation(), 1, 1);
        let first = commit(&mut seal, 1, vec![put(b"a", 1)]);
        assert_eq!(seal.state.terms().len(), 1);
        seal.shared_terms.store(Arc::new(two_terms()));
        assert_eq!(seal.stage(&[put(b"b", 2)]), Err(StaleTerm));
        let second = commit(&mut seal, 2, vec![]);
        assert_eq!(seal.state.terms().len(), 2);
        let moved = Change { key: b"a", old: header(7, 1), new: header(8, 2) };
        let third = commit(&mut seal, 3, vec![moved]);
        assert_eq!(shared.watch.records_under(TermId(7)), (0, true));
        assert_eq!(shared.watch.records_under(TermId(8)), (1, false));
        let two = two_terms();
        let new = Arc::clone(&two.active);
        seal.shared_terms.store(Arc::new(Terms::new(Arc::clone(&new), vec![new])));
        let fourth = commit(&mut seal, 4, vec![]);
        assert_eq!(seal.state.terms().len(), 1);

        let (mut again, _) = seal_of(two_terms(), 1, 1);
        for commit in [first, second, third, fourth] {
            replay(&mut again, &commit).unwrap();
        }
        assert_eq!(again.state, seal.state);
    }

    #[test]
    fn nothing_is_sealed_once_a_term_with_records_is_gone() {
        let (mut seal, _) = seal_of(before_activation(), 1, 1);
        commit(&mut seal, 1, vec![put(b"a", 1)]);
        let new = Arc::clone(&two_terms().active);
        seal.shared_terms.store(Arc::new(Terms::new(Arc::clone(&new), vec![new])));
        assert_eq!(seal.stage(&[]), Err(StaleTerm));
    }

    #[test]
    fn the_lowest_seal_epoch_is_raised_by_the_next_head() {
        let (mut seal, shared) = seal_of(terms(), 5, 1);
        shared.ask_seal_epoch(7);
        shared.ask_seal_epoch(6);
        let first = commit(&mut seal, 1, vec![]);
        let (mut older, shared) = seal_of(terms(), 6, 1);
        assert!(replay(&mut older, &first).is_err());
        assert_eq!(shared.take_replayed().epoch_needed, Some(7));
        replay(&mut seal_of(terms(), 7, 1).0, &first).unwrap();
    }

    #[test]
    fn a_seal_file_older_than_a_head_allows_is_told_apart() {
        let commits = three_commits(&mut seal_of(terms(), 5, 1).0);
        for (epoch, needed) in [(4, Some(5)), (5, None), (6, None)] {
            let (mut seal, shared) = seal_of(terms(), epoch, 1);
            assert_eq!(replay(&mut seal, &commits[0]).is_err(), needed.is_some());
            assert_eq!(shared.take_replayed().epoch_needed, needed);
        }
    }

    #[test]
    fn the_lowest_seal_epoch_stays_and_never_falls() {
        let (mut seal, _) = seal_of(terms(), 5, 1);
        let first = commit(&mut seal, 1, vec![put(b"a", 1)]);
        seal.min_seal_epoch = 4;
        let second = commit(&mut seal, 2, vec![put(b"b", 1)]);

        let (mut later, _) = seal_of(terms(), 8, 1);
        replay(&mut later, &first).unwrap();
        assert_eq!(later.min_seal_epoch, 5);
        assert!(replay(&mut later, &second).is_err());
    }

    #[test]
    fn generations_only_rise_and_not_above_the_stores_own() {
        let first = commit(&mut seal_of(terms(), 1, 2).0, 1, vec![put(b"a", 1)]);
        assert!(replay(&mut seal_of(terms(), 1, 1).0, &first).is_err());
        let (mut restored, _) = seal_of(terms(), 1, 3);
        replay(&mut restored, &first).unwrap();

        let (mut older, _) = seal_of(terms(), 1, 2);
        replay(&mut older, &first).unwrap();
        older.generation = 1;
        let second = commit(&mut older, 2, vec![put(b"b", 1)]);
        assert!(replay(&mut restored, &second).is_err());
    }

    #[test]
    fn heads_name_the_last_audit_checkpoint() {
        let (mut seal, shared) = seal_of(terms(), 1, 1);
        let checkpoint = Checkpoint { n: 1_000, hash: [9; 32] };
        shared.audit.set(checkpoint);
        let first = commit(&mut seal, 1, vec![]);
        let (mut again, shared) = seal_of(terms(), 1, 1);
        replay(&mut again, &first).unwrap();
        assert_eq!(shared.audit.get(), checkpoint);
        let newest: Head = shared.take_replayed().newest.unwrap();
        assert_eq!(newest.audit, checkpoint);
    }
}
