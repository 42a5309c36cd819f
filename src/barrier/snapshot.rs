use std::sync::Arc;

use super::{head::Head, state::State, state_seal::DOES_NOT_OPEN, tally, term::SharedTerms};
use crate::{
    crypto::random,
    storage::{HeadAt, HeadRefused, RecordHeader, SnapshotAt, SnapshotSeal, StoreId, Tally},
};

/// What storage needs of the keys while it writes or checks a snapshot (FORMAT.md 6 and 7).
#[derive(Debug)]
pub(super) struct Snapshots {
    store_id: StoreId,
    terms: SharedTerms,
}

impl Snapshots {
    pub(super) fn new(store_id: StoreId, terms: SharedTerms) -> Self {
        Self { store_id, terms }
    }

    fn tally_of(&self, head: Option<Head>) -> Result<Box<dyn Tally>, HeadRefused> {
        let head = head.ok_or(DOES_NOT_OPEN)?;
        let (found, terms) = (tally::Tally::default(), Arc::clone(&self.terms));
        Ok(Box::new(Sums { head, found, terms }))
    }
}

impl SnapshotSeal for Snapshots {
    fn tally(&self, at: &HeadAt<'_>) -> Result<Box<dyn Tally>, HeadRefused> {
        self.tally_of(Head::open(&self.terms.load(), self.store_id, at))
    }

    fn tally_snapshot(&self, at: &SnapshotAt<'_>) -> Result<Box<dyn Tally>, HeadRefused> {
        self.tally_of(Head::open_snapshot(&self.terms.load(), self.store_id, at))
    }
}

/// The sums of the records seen so far, against those of the head.
struct Sums {
    head: Head,
    found: tally::Tally,
    terms: SharedTerms,
}

impl Tally for Sums {
    fn add(&mut self, key: &[u8], record: &RecordHeader) {
        self.found.add(&self.terms.load(), key, Some(record));
    }

    fn check(&self) -> Result<(), HeadRefused> {
        if self.found.equals(&State::of(&self.head.terms)) {
            Ok(())
        } else {
            Err(HeadRefused("its records are not those that were committed"))
        }
    }

    fn seal(&self, digest: [u8; 32]) -> Vec<u8> {
        self.head.seal_snapshot(self.terms.load().active(), &digest, &random::array())
    }
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;

    use super::{
        super::{
            fixture::{store_id, terms},
            state::TermSum,
            term::TermId,
        },
        *,
    };
    use crate::{clock::Timestamp, storage::Change};

    fn header(record: u8) -> RecordHeader {
        let mut bytes = [record; 48];
        bytes[4..8].copy_from_slice(&[0, 0, 0, 7]);
        RecordHeader::of(&bytes).unwrap()
    }

    /// The tally of a snapshot of `a` and `b`.
    fn tally() -> Box<dyn Tally> {
        let put = |key, record| Change { key, old: None, new: Some(header(record)) };
        let state = State::empty(TermId(7)).after(&terms(), &[put(b"a", 1), put(b"b", 2)]);
        let listed: Vec<TermSum> = state.unwrap().terms().to_vec();
        let head = Head {
            store_id: store_id(),
            generation: 1,
            seq: 9,
            prev_chain: [8; 32],
            time: Timestamp::from_millis(0),
            min_seal_epoch: 1,
            audit: Default::default(),
            terms: listed,
        };
        let sealed = head.seal_snapshot(terms().active(), &[5; 32], &[1; 32]);
        let at = SnapshotAt { seq: 9, chain: [9; 32], digest: [5; 32], sealed: &sealed };
        Snapshots::new(store_id(), Arc::new(ArcSwap::from_pointee(terms())))
            .tally_snapshot(&at)
            .unwrap()
    }

    fn adds_up(records: &[(&[u8], u8)]) -> bool {
        let mut tally = tally();
        records.iter().for_each(|&(key, record)| tally.add(key, &header(record)));
        tally.check().is_ok()
    }

    #[test]
    fn only_the_records_of_the_head_add_up() {
        assert!(adds_up(&[(b"b", 2), (b"a", 1)]));
        for wrong in [
            &[(&b"a"[..], 1)][..],
            &[(b"a", 1), (b"b", 2), (b"b", 2)],
            &[(b"a", 2), (b"b", 1)],
            &[(b"a", 1), (b"b", 3)],
            &[],
        ] {
            assert!(!adds_up(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_record_of_an_unknown_term_is_refused() {
        let mut bytes = [1; 48];
        bytes[4..8].copy_from_slice(&[0, 0, 0, 9]);
        let mut tally = tally();
        [(b"a", header(1)), (b"b", header(2))].iter().for_each(|(key, one)| tally.add(*key, one));
        tally.check().unwrap();
        tally.add(b"c", &RecordHeader::of(&bytes).unwrap());
        assert!(tally.check().is_err());
    }
}
