//! How often a version has been used: counted in memory for those who ask, and in the store, in
//! blocks reserved beforehand, where a cipher bears only so many random nonces.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::record::UseRecord;
use crate::clock::Timestamp;

/// Nonces that one commit reserves. A crash loses the rest of a block, so that there are never
/// fewer counted than were made.
pub(super) const BLOCK: u64 = 1 << 20;

/// From here on a key gets a new version by itself.
pub(super) const ROTATED_AT: u64 = 1 << 31;

/// Nothing more is encrypted: the chance that two random 96-bit nonces are equal would pass 2^-32
/// (SP 800-38D §8.3).
pub(super) const SPENT_AT: u64 = 1 << 32;

/// The uses of one version since it was read, on top of those that are stored.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// Nonces that are left of the blocks that were reserved here.
    left: AtomicI64,
    stored: StoredUses,
    encryptions: AtomicU64,
    decryptions: AtomicU64,
    /// Milliseconds of the epoch, 0 for never.
    last_used: AtomicU64,
}

/// What is written down, as far as it is known here.
#[derive(Debug, Default)]
struct StoredUses {
    encryptions: AtomicU64,
    decryptions: AtomicU64,
    last_used: AtomicU64,
}

impl Uses {
    /// Goes on from what is stored; none of its nonces is left, since who reserved them may have
    /// used them.
    pub(super) fn going_on(record: UseRecord) -> Self {
        let last_used = record.last_used.map_or(0, Timestamp::millis);
        Self {
            stored: StoredUses {
                encryptions: record.encryptions.into(),
                decryptions: record.decryptions.into(),
                last_used: last_used.into(),
            },
            encryptions: record.encryptions.into(),
            decryptions: record.decryptions.into(),
            last_used: last_used.into(),
            left: AtomicI64::new(0),
        }
    }

    /// Takes nonces of what is reserved; false when there are not so many.
    pub(super) fn take(&self, nonces: u32) -> bool {
        let nonces = i64::from(nonces);
        if self.left.fetch_sub(nonces, Relaxed) >= nonces {
            return true;
        }
        self.left.fetch_add(nonces, Relaxed);
        false
    }

    /// Adds a block, which has been stored.
    pub(super) fn add(&self, nonces: u64) {
        self.left.fetch_add(i64::try_from(nonces).unwrap_or(i64::MAX), Relaxed);
    }

    pub(super) fn count_encryptions(&self, number: u64, now: Timestamp) {
        self.encryptions.fetch_add(number, Relaxed);
        self.last_used.fetch_max(now.millis(), Relaxed);
    }

    pub(super) fn count_decryptions(&self, number: u64, now: Timestamp) {
        self.decryptions.fetch_add(number, Relaxed);
        self.last_used.fetch_max(now.millis(), Relaxed);
    }

    pub(super) fn encryptions(&self) -> u64 {
        self.encryptions.load(Relaxed)
    }

    pub(super) fn decryptions(&self) -> u64 {
        self.decryptions.load(Relaxed)
    }

    pub(super) fn last_used(&self) -> Option<Timestamp> {
        match self.last_used.load(Relaxed) {
            0 => None,
            millis => Some(Timestamp::from_millis(millis)),
        }
    }

    /// Whether something has happened that is not written down.
    pub(super) fn is_unwritten(&self) -> bool {
        self.encryptions() != self.stored.encryptions.load(Relaxed)
            || self.decryptions() != self.stored.decryptions.load(Relaxed)
            || self.last_used.load(Relaxed) != self.stored.last_used.load(Relaxed)
    }

    /// Whether something would be lost with it: a count, or nonces that nobody has used.
    pub(super) fn are_wanted(&self) -> bool {
        self.is_unwritten() || self.left.load(Relaxed) > 0
    }

    /// What to write down, over a number of reserved nonces that is known from the store.
    pub(super) fn record(&self, reserved: u64) -> UseRecord {
        UseRecord {
            reserved,
            encryptions: self.encryptions(),
            decryptions: self.decryptions(),
            last_used: self.last_used(),
        }
    }

    /// Notes that a record has been written.
    pub(super) fn written(&self, record: UseRecord) {
        self.stored.encryptions.store(record.encryptions, Relaxed);
        self.stored.decryptions.store(record.decryptions, Relaxed);
        let last_used = record.last_used.map_or(0, Timestamp::millis);
        self.stored.last_used.store(last_used, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nonce_is_taken_that_was_not_reserved() {
        let uses = Uses::going_on(UseRecord { reserved: BLOCK, ..UseRecord::default() });
        assert!(!uses.take(1));
        uses.add(10);
        assert!(uses.take(7));
        assert!(!uses.take(4));
        assert!(uses.take(3));
        assert!(!uses.take(1));
    }

    #[test]
    fn what_is_counted_is_written_once() {
        let uses = Uses::default();
        assert!(!uses.is_unwritten());
        uses.count_encryptions(3, Timestamp::from_millis(5));
        uses.count_decryptions(2, Timestamp::from_millis(4));
        assert!(uses.is_unwritten());
        let record = uses.record(BLOCK);
        assert_eq!((record.encryptions, record.decryptions, record.reserved), (3, 2, BLOCK));
        assert_eq!(record.last_used, Some(Timestamp::from_millis(5)));
        uses.written(record);
        assert!(!uses.is_unwritten());
    }
}
