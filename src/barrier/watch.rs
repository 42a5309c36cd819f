use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{
    freshness::{Pending, Table},
    scan::Reads,
    state::State,
    tally::Tally,
    term::{TermId, Terms},
};
use crate::storage::{Change, Headed, Held, IndexError, RecordHeader};

/// How many records a step of a scan takes: every commit waits for it, 0.3 ms or so.
const STEP: usize = 256;

/// What the seal of the commits keeps for verification: the sums of the scan that is running, and
/// the freshness table (FORMAT.md 6).
///
/// The seal stages changes and steps of a scan are taken on one thread, the committer's, and a
/// step between two groups only. So a change is on one side of the scan's cursor for good.
#[derive(Debug, Default)]
pub(super) struct Watch {
    table: Table,
    /// The table covers every record, and was found to be right.
    is_fresh: AtomicBool,
    inner: Mutex<Inner>,
    /// Odd while a commit comes into the table, and then another number.
    settling: AtomicU64,
    /// Somebody has met a record that is not the newest one.
    is_suspected: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    /// The state of the newest durable commit.
    stands: Option<State>,
    scan: Option<Scan>,
    /// Counts scans: a step of one that was given up must not move the next.
    scans: u64,
    pending: Pending,
    /// Something is staged that is not durable. Between two groups: writing has failed.
    is_unsettled: bool,
}

/// A scan that is running.
#[derive(Debug)]
struct Scan {
    number: u64,
    /// Keys up to this one have been seen.
    cursor: Vec<u8>,
    tally: Tally,
    /// Fills the table too, which is there for the keys that have been seen.
    builds: bool,
}

/// One step of a scan.
#[derive(Debug)]
pub(super) struct Step {
    /// What it has seen, and of each whether the table says otherwise.
    pub(super) seen: Vec<(Vec<u8>, Option<RecordHeader>, IsStale)>,
    /// At the end: whether the sums equal those of the head.
    pub(super) end: Option<bool>,
}

/// Whether a record is not the one that the table knows.
pub(super) type IsStale = bool;

/// Why a step is not taken.
#[derive(Debug)]
pub(super) enum StepError {
    /// The index cannot be read.
    Index(IndexError),
    /// Writing has failed, so that nobody knows what the state is.
    WritingFailed,
    /// Another scan has begun.
    Over,
}

impl Watch {
    /// Begins a scan. To be called between two groups; answers its number.
    pub(super) fn begin(&self, reads: Reads) -> u64 {
        let mut inner = self.inner();
        inner.scans += 1;
        let number = inner.scans;
        let builds = reads == Reads::Checked && !self.is_fresh();
        if builds {
            self.table.clear();
        }
        let scan = Scan { number, cursor: Vec::new(), tally: Tally::default(), builds };
        inner.scan = Some(scan);
        number
    }

    /// Takes the next step of a scan. To be called between two groups.
    pub(super) fn step(
        &self,
        number: u64,
        terms: &Terms,
        held: &Held<'_>,
    ) -> Result<Step, StepError> {
        let mut inner = self.inner();
        let Inner { stands, scan, is_unsettled, .. } = &mut *inner;
        let scan = scan.as_mut().filter(|scan| scan.number == number).ok_or(StepError::Over)?;
        let (false, Some(stands)) = (*is_unsettled, stands) else {
            return Err(StepError::WritingFailed);
        };
        let headers = held.headers(&scan.cursor, STEP).map_err(StepError::Index)?;
        let mut end = None;
        if let Some((last, _)) = headers.last() {
            scan.cursor.clone_from(last);
        }
        let is_last = headers.len() < STEP;
        let seen = headers.into_iter().map(|headed| self.see(scan, terms, headed)).collect();
        if is_last {
            let is_right = scan.tally.equals(stands);
            self.is_fresh.fetch_or(is_right && scan.builds, Ordering::SeqCst);
            end = Some(is_right);
            inner.scan = None;
        }
        Ok(Step { seen, end })
    }

    fn see(
        &self,
        scan: &mut Scan,
        terms: &Terms,
        (key, header): Headed,
    ) -> (Vec<u8>, Option<RecordHeader>, IsStale) {
        scan.tally.add(terms, &key, header.as_ref());
        if let (true, Some(header)) = (scan.builds, &header) {
            self.table.add(&key, header);
        }
        let is_stale = self.is_fresh() && (header.is_none() || !self.holds(&key, header.as_ref()));
        (key, header, is_stale)
    }

    /// Gives a scan up.
    pub(super) fn give_up(&self, number: u64) {
        let mut inner = self.inner();
        if inner.scan.as_ref().is_some_and(|scan| scan.number == number) {
            inner.scan = None;
        }
    }

    /// Whether reads are checked.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_fresh.load(Ordering::SeqCst)
    }

    /// Whether this is the newest record under a key, as far as is known.
    pub(super) fn holds(&self, key: &[u8], header: Option<&RecordHeader>) -> bool {
        !self.is_fresh() || self.table.holds(key, header)
    }

    /// Whether no record lies under a key for certain: in the index there is none either, or one
    /// that was put there behind the store's back.
    ///
    /// A commit reaches the index whole and the table key by key: nothing is certain meanwhile,
    /// else who has seen one key of it could be told that another is not there.
    pub(super) fn is_absent(&self, key: &[u8]) -> bool {
        let before = self.settling.load(Ordering::SeqCst);
        before.is_multiple_of(2)
            && self.is_fresh()
            && self.table.holds(key, None)
            && self.settling.load(Ordering::SeqCst) == before
    }

    /// Whether changes begin with the newest records, as far as is known.
    pub(super) fn fits(&self, changes: &[Change<'_>]) -> bool {
        let fits = !self.is_fresh() || self.inner().pending.fits(&self.table, changes);
        if !fits {
            self.suspect();
        }
        fits
    }

    /// Takes changes in that will be durable, or end writing.
    pub(super) fn stage(&self, terms: &Terms, changes: &[Change<'_>]) {
        let mut inner = self.inner();
        let Inner { scan, pending, is_unsettled, .. } = &mut *inner;
        *is_unsettled = true;
        for change in changes {
            let seen = scan.as_mut().filter(|scan| change.key <= scan.cursor.as_slice());
            let is_covered = self.is_fresh() || seen.as_ref().is_some_and(|scan| scan.builds);
            if let Some(scan) = seen {
                if let Some(old) = &change.old {
                    scan.tally.remove(terms, change.key, old);
                }
                if let Some(new) = &change.new {
                    scan.tally.add(terms, change.key, Some(new));
                }
            }
            if is_covered {
                pending.stage(&self.table, change);
            }
        }
    }

    /// Told after a commit is durable and readable, with the state that it leads to.
    pub(super) fn settle(&self, state: &State) {
        let mut inner = self.inner();
        self.settling.fetch_add(1, Ordering::SeqCst);
        inner.pending.settle(&self.table);
        self.settling.fetch_add(1, Ordering::SeqCst);
        inner.is_unsettled = false;
        inner.stands = Some(state.clone());
    }

    pub(super) fn suspect(&self) {
        self.is_suspected.store(true, Ordering::Relaxed);
    }

    pub(super) fn takes_suspicion(&self) -> bool {
        self.is_suspected.swap(false, Ordering::Relaxed)
    }

    /// Number of records that stand.
    pub(super) fn records(&self) -> u64 {
        let inner = self.inner();
        inner.stands.as_ref().map_or(0, |state| state.terms().iter().map(|term| term.count).sum())
    }

    /// How many records the newest durable head counts under a term, and whether the term is empty:
    /// its sum may stand where its count does not. A term that no head lists is empty.
    pub(super) fn records_under(&self, id: TermId) -> (u64, bool) {
        let inner = self.inner();
        let terms = inner.stands.as_ref().map_or(&[][..], State::terms);
        let found = terms.iter().find(|entry| entry.id == id);
        found.map_or((0, true), |entry| (entry.count, entry.is_empty()))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Only the committer changes it, and a panic there ends writing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
