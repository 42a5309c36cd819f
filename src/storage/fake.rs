//! A seal for storage's own tests: it hashes where the barrier encrypts, and checks all that the
//! barrier checks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use sha2::{Digest as _, Sha256};

use super::{Change, CommitSeal, HeadAt, HeadPlace, HeadRefused, RecordHeader, StaleTerm, Write};

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
    /// How many changes each replayed head covered.
    pub(super) replayed: Arc<Mutex<Vec<usize>>>,
}

#[derive(Debug, Default)]
pub(super) struct FakeSeal {
    key: u8,
    state: BTreeMap<Vec<u8>, RecordHeader>,
    sum: u64,
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
            let before = self.state.get(change.key).copied();
            assert_eq!(before, change.old, "the old header of {:02x?} is wrong", change.key);
            if let Some(old) = change.old {
                self.sum = self.sum.wrapping_sub(element(change.key, &old));
                self.state.remove(change.key);
            }
            if let Some(new) = change.new {
                self.sum = self.sum.wrapping_add(element(change.key, &new));
                self.state.insert(change.key.to_vec(), new);
            }
        }
    }

    fn head(&self, place: &HeadPlace) -> Vec<u8> {
        let state = [(self.state.len() as u64).to_be_bytes(), self.sum.to_be_bytes()].concat();
        let mac = Sha256::new()
            .chain_update([self.key])
            .chain_update(place.seq.to_be_bytes())
            .chain_update(place.prev_chain)
            .chain_update(place.digest)
            .chain_update(&state)
            .finalize();
        [mac.as_slice(), &state].concat()
    }
}

impl CommitSeal for FakeSeal {
    fn replay(&mut self, head: &HeadAt<'_>, changes: &[Change<'_>]) -> Result<(), HeadRefused> {
        self.take(changes);
        let (seq, prev_chain, digest) = (head.seq, head.prev_chain, head.digest);
        if self.head(&HeadPlace { seq, prev_chain, digest }) != head.sealed {
            return Err(HeadRefused("the head does not open"));
        }
        self.told.replayed.lock().unwrap().push(changes.len());
        Ok(())
    }

    fn stage(&mut self, changes: &[Change<'_>]) -> Result<(), StaleTerm> {
        let is_active = |header: RecordHeader| header.as_bytes()[4..8] == ACTIVE_TERM.to_be_bytes();
        if !changes.iter().filter_map(|change| change.new).all(is_active) {
            return Err(StaleTerm);
        }
        self.take(changes);
        Ok(())
    }

    fn head_len(&self) -> usize {
        HEAD_LEN + usize::from(self.lies_about_length)
    }

    fn seal(&mut self, place: &HeadPlace) -> Vec<u8> {
        self.head(place)
    }

    fn durable(&mut self, seq: u64, chain: [u8; 32]) {
        self.told.durable.lock().unwrap().push((seq, chain));
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
