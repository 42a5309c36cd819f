//! A seal for storage's own tests: it hashes where the barrier encrypts, and checks all that the
//! barrier checks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use sha2::{Digest as _, Sha256};

use super::{
    Change, CommitSeal, HeadAt, HeadPlace, HeadRefused, RecordHeader, SnapshotAt, SnapshotSeal,
    StaleTerm, Tally, Write,
};

/// Length of a fake head.
pub(super) const HEAD_LEN: usize = 48;
/// The only term that may be written under.
pub(super) const ACTIVE_TERM: u32 = 7;

/// A sequence and its chain value.
pub(super) type Point = (u64, [u8; 32]);

/// What a seal was told, to be looked at while it works.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Sequence and chain of each record that became durable.
    pub(super) durable: Arc<Mutex<Vec<Point>>>,
    /// Sequence of the snapshot begun with and of each head replayed.
    pub(super) replayed: Arc<Mutex<Vec<u64>>>,
    /// The generation that it was told to go on with.
    pub(super) generation: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
pub(super) struct FakeSeal {
    key: u8,
    state: FakeState,
    /// What it has been shown since it was made: an old header that differs is storage's fault.
    shown: BTreeMap<Vec<u8>, Option<RecordHeader>>,
    /// Returns a head of another length than announced.
    pub(super) lies_about_length: bool,
    pub(super) told: Told,
}

impl FakeSeal {
    pub(super) fn with_key(key: u8) -> Self {
        Self { key, ..Self::default() }
    }

    fn take(&mut self, changes: &[Change<'_>]) {
        for change in changes {
            let before = self.shown.insert(change.key.to_vec(), change.new);
            let before = before.unwrap_or(change.old);
            assert_eq!(before, change.old, "the old header of {:02x?} is wrong", change.key);
            self.state.change(change);
        }
    }
}

/// How many records there are, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FakeState {
    count: u64,
    sum: u64,
}

impl FakeState {
    fn change(&mut self, change: &Change<'_>) {
        if let Some(old) = change.old {
            self.count -= 1;
            self.sum = self.sum.wrapping_sub(element(change.key, &old));
        }
        if let Some(new) = change.new {
            self.count += 1;
            self.sum = self.sum.wrapping_add(element(change.key, &new));
        }
    }

    /// The head of this state, bound to these bytes.
    fn seal(self, key: u8, bound: &[&[u8]]) -> Vec<u8> {
        let state = [self.count.to_be_bytes(), self.sum.to_be_bytes()].concat();
        let mut mac = Sha256::new().chain_update([key]).chain_update(&state);
        bound.iter().for_each(|part| mac.update(part));
        [mac.finalize().as_slice(), &state].concat()
    }

    fn open(key: u8, bound: &[&[u8]], sealed: &[u8]) -> Result<Self, HeadRefused> {
        let parts = sealed.last_chunk::<16>().map(|state| state.as_chunks::<8>().0);
        let Some([count, sum]) = parts else { return Err(HeadRefused("too short")) };
        let state = Self { count: u64::from_be_bytes(*count), sum: u64::from_be_bytes(*sum) };
        let opens = state.seal(key, bound) == sealed;
        if opens { Ok(state) } else { Err(HeadRefused("the head does not open")) }
    }

    fn of(key: u8, head: &HeadAt<'_>) -> Result<Self, HeadRefused> {
        Self::open(key, &[&head.seq.to_be_bytes(), &head.prev_chain, &head.digest], head.sealed)
    }

    fn of_snapshot(key: u8, at: &SnapshotAt<'_>) -> Result<Self, HeadRefused> {
        Self::open(key, &[b"snapshot", &at.seq.to_be_bytes(), &at.digest], at.sealed)
    }
}

/// The fake's side of snapshots.
struct FakeSnapshots {
    key: u8,
}

impl SnapshotSeal for FakeSnapshots {
    fn tally(&self, head: &HeadAt<'_>) -> Result<Box<dyn Tally>, HeadRefused> {
        let (key, seq, expected) = (self.key, head.seq, FakeState::of(self.key, head)?);
        Ok(Box::new(FakeTally { key, seq, expected, found: FakeState::default() }))
    }

    fn tally_snapshot(&self, at: &SnapshotAt<'_>) -> Result<Box<dyn Tally>, HeadRefused> {
        let (key, seq, expected) = (self.key, at.seq, FakeState::of_snapshot(self.key, at)?);
        Ok(Box::new(FakeTally { key, seq, expected, found: FakeState::default() }))
    }
}

struct FakeTally {
    key: u8,
    seq: u64,
    expected: FakeState,
    found: FakeState,
}

impl Tally for FakeTally {
    fn add(&mut self, key: &[u8], record: &RecordHeader) {
        self.found.change(&Change { key, old: None, new: Some(*record) });
    }

    fn check(&self) -> Result<(), HeadRefused> {
        let holds = self.found == self.expected;
        if holds { Ok(()) } else { Err(HeadRefused("the records do not add up")) }
    }

    fn seal(&self, digest: [u8; 32]) -> Vec<u8> {
        self.expected.seal(self.key, &[b"snapshot", &self.seq.to_be_bytes(), &digest])
    }
}

impl CommitSeal for FakeSeal {
    fn begin(&mut self, at: &SnapshotAt<'_>) -> Result<(), HeadRefused> {
        self.state = FakeState::of_snapshot(self.key, at)?;
        *self.told.replayed.lock().unwrap() = vec![at.seq];
        Ok(())
    }

    fn replay(&mut self, head: &HeadAt<'_>) -> Result<(), HeadRefused> {
        self.state = FakeState::of(self.key, head)?;
        self.told.replayed.lock().unwrap().push(head.seq);
        Ok(())
    }

    fn continues(&mut self, generation: u64) {
        self.told.generation.store(generation, Ordering::Relaxed);
    }

    fn stage(&mut self, changes: &[Change<'_>]) -> Result<(), StaleTerm> {
        let is_active = |header: RecordHeader| header.as_bytes()[4..8] == ACTIVE_TERM.to_be_bytes();
        if !changes.iter().filter_map(|change| change.new).all(is_active) {
            return Err(StaleTerm);
        }
        self.take(changes);
        Ok(())
    }

    fn is_absent(&self, _: &[u8]) -> bool {
        false
    }

    fn head_len(&self) -> usize {
        HEAD_LEN + usize::from(self.lies_about_length)
    }

    fn seal(&mut self, place: &HeadPlace) -> Vec<u8> {
        self.state.seal(self.key, &[&place.seq.to_be_bytes(), &place.prev_chain, &place.digest])
    }

    fn durable(&mut self, seq: u64, chain: [u8; 32]) {
        self.told.durable.lock().unwrap().push((seq, chain));
    }

    fn snapshots(&self) -> Arc<dyn SnapshotSeal> {
        Arc::new(FakeSnapshots { key: self.key })
    }
}

fn element(key: &[u8], header: &RecordHeader) -> u64 {
    let digest = Sha256::new().chain_update(key).chain_update(header.as_bytes()).finalize();
    u64::from_be_bytes(*digest.first_chunk().unwrap())
}

/// A key of a caller: 0x10, then this text.
pub(super) fn key(text: &str) -> Vec<u8> {
    [&[0x10], text.as_bytes()].concat()
}

/// A record under a term; equal `n` and length make equal records.
pub(super) fn record_under(term: u32, n: u64, length: usize) -> Vec<u8> {
    let mut record = vec![1, 1, 0, 0];
    record.extend_from_slice(&term.to_be_bytes());
    record.extend_from_slice(&n.to_be_bytes());
    let pattern = Sha256::digest(n.to_be_bytes());
    record.extend(pattern.iter().copied().cycle().take(length - record.len()));
    record
}

/// A record of 112 bytes under the active term.
pub(super) fn record(n: u64) -> Vec<u8> {
    record_under(ACTIVE_TERM, n, 112)
}

pub(super) fn put(text: &str, n: u64) -> Write {
    Write { key: key(text), record: Some(record(n)) }
}

pub(super) fn delete(text: &str) -> Write {
    Write { key: key(text), record: None }
}
