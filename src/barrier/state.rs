use std::fmt;

use super::term::{Term, TermId, Terms, be32};
use crate::{
    crypto::mac,
    storage::{Change, RecordHeader},
};

/// The multiset sum of one term's records: MSet-Add-Hash (Clarke et al. 2003), addition modulo
/// 2^256. Most significant word first.
///
/// It is never visible: whoever sees it can solve for old records whose differences cancel.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum([u64; 4]);

impl Sum {
    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let mut sum = Self::default();
        sum.0.iter_mut().zip(words).for_each(|(to, from)| *to = u64::from_be_bytes(*from));
        sum
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let (words, _) = bytes.as_chunks_mut::<8>();
        words.iter_mut().zip(self.0).for_each(|(to, from)| *to = from.to_be_bytes());
        bytes
    }

    pub(super) fn plus(self, other: Self) -> Self {
        self.carrying(other, false)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.carrying(Self(other.0.map(|word| !word)), true)
    }

    fn carrying(mut self, other: Self, mut carry: bool) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0).rev() {
            let (sum, over) = word.overflowing_add(other);
            let (sum, over_again) = sum.overflowing_add(carry.into());
            *word = sum;
            carry = over || over_again;
        }
        self
    }
}

// In constant time, as all comparisons of what an attacker must not learn.
impl PartialEq for Sum {
    fn eq(&self, other: &Self) -> bool {
        mac::equal(&self.to_bytes(), &other.to_bytes())
    }
}

impl Eq for Sum {}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Count and sum of the records of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TermSum {
    pub(super) id: TermId,
    pub(super) count: u64,
    pub(super) sum: Sum,
}

impl TermSum {
    /// Whether no record is under the term. Records that an attacker takes away leave their sum
    /// behind, so the count alone does not tell.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0 && self.sum == Sum::default()
    }
}

/// Count and sum of every live term, in the order of their ids (FORMAT.md 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State(Vec<TermSum>);

/// Changes that do not fit the state: a record of a term that is not there, or one more taken out
/// than was put in. The index shows records that no commit wrote.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch;

impl State {
    /// The state of an empty store.
    pub(super) fn empty(active: TermId) -> Self {
        Self(vec![TermSum { id: active, count: 0, sum: Sum::default() }])
    }

    /// What a head lists.
    pub(super) fn of(terms: &[TermSum]) -> Self {
        Self(terms.to_vec())
    }

    pub(super) fn terms(&self) -> &[TermSum] {
        &self.0
    }

    /// Lists a term that has no record yet.
    pub(super) fn admit(&mut self, id: TermId) {
        if let Err(place) = self.0.binary_search_by_key(&id, |entry| entry.id) {
            self.0.insert(place, TermSum { id, count: 0, sum: Sum::default() });
        }
    }

    /// Drops the terms that are no more. One that still has records stays out of reach, so that is
    /// a mismatch: what it sealed would be lost.
    pub(super) fn keep(&mut self, terms: &Terms) -> Result<(), Mismatch> {
        let gone = |entry: &TermSum| terms.get(entry.id).is_none();
        if self.0.iter().any(|entry| gone(entry) && !entry.is_empty()) {
            return Err(Mismatch);
        }
        self.0.retain(|entry| !gone(entry));
        Ok(())
    }

    /// The state after these changes. Each record counts in the sum of its own term, so that a term
    /// is empty exactly when its count and its sum are zero.
    pub(super) fn after(&self, terms: &Terms, changes: &[Change<'_>]) -> Result<Self, Mismatch> {
        let mut next = self.clone();
        for change in changes {
            if let Some(old) = &change.old {
                let (entry, element) = next.entry(terms, change.key, old)?;
                entry.count = entry.count.checked_sub(1).ok_or(Mismatch)?;
                entry.sum = entry.sum.minus(element);
            }
            if let Some(new) = &change.new {
                let (entry, element) = next.entry(terms, change.key, new)?;
                entry.count = entry.count.checked_add(1).ok_or(Mismatch)?;
                entry.sum = entry.sum.plus(element);
            }
        }
        Ok(next)
    }

    /// The entry that a record counts in, and its element.
    fn entry(
        &mut self,
        terms: &Terms,
        key: &[u8],
        header: &RecordHeader,
    ) -> Result<(&mut TermSum, Sum), Mismatch> {
        let term = terms.get(term_of(header)).ok_or(Mismatch)?;
        let entry = self.0.iter_mut().find(|entry| entry.id == term.id).ok_or(Mismatch)?;
        Ok((entry, element(term, key, header)))
    }
}

/// `HMAC(state key, lp(key) || record[0..32] || tag)`: two ciphertexts that share nonce and tag and
/// both open would be a forgery of the cipher (FORMAT.md 6).
pub(super) fn element(term: &Term, key: &[u8], header: &RecordHeader) -> Sum {
    Sum::from_bytes(&term.elements().tag(&[&be32(key.len()), key, header.as_bytes()]))
}

/// The term that a record says it is sealed under.
pub(super) fn term_of(header: &RecordHeader) -> TermId {
    let [_, _, _, _, a, b, c, d, ..] = *header.as_bytes();
    TermId(u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use proptest::prelude::*;

    use super::{
        super::fixture::{terms, two_terms, vector},
        *,
    };

    fn header(term: u8, record: u8) -> RecordHeader {
        let mut bytes = [record; 48];
        bytes[4..8].copy_from_slice(&[0, 0, 0, term]);
        RecordHeader::of(&bytes).unwrap()
    }

    fn change(key: &[u8], old: Option<RecordHeader>, new: Option<RecordHeader>) -> Change<'_> {
        Change { key, old, new }
    }

    fn put<'k>(key: &'k [u8], header: RecordHeader) -> Change<'k> {
        change(key, None, Some(header))
    }

    fn empty() -> State {
        State::empty(TermId(7))
    }

    fn after(changes: &[Change<'_>]) -> State {
        empty().after(&terms(), changes).unwrap()
    }

    #[test]
    fn vectors_of_the_format() {
        let header = RecordHeader::of(&vector("/records/0/record")).unwrap();
        let terms = terms();
        let element = |n: u8| {
            let key = vector(&format!("/state/elements/{n}/storage_key"));
            let element = element(terms.active(), &key, &header);
            let expected = vector(&format!("/state/elements/{n}/element"));
            assert_eq!(element.to_bytes().to_vec(), expected);
            element
        };
        assert_eq!(element(0).plus(element(1)).to_bytes().to_vec(), vector("/state/sum"));
    }

    #[test]
    fn sums_carry_and_wrap() {
        let (zero, one) = (Sum::default(), Sum([0, 0, 0, 1]));
        assert_eq!(zero.minus(one), Sum([u64::MAX; 4]));
        assert_eq!(Sum([u64::MAX; 4]).plus(one), zero);
        assert_eq!(Sum([0, 0, u64::MAX, u64::MAX]).plus(one), Sum([0, 1, 0, 0]));
        assert_eq!(Sum([0, 1, 0, 0]).minus(one), Sum([0, 0, u64::MAX, u64::MAX]));
        assert_eq!(Sum::from_bytes(&one.to_bytes()), one);
    }

    #[test]
    fn each_record_counts_in_its_own_term() {
        let terms = two_terms();
        let both = State::of(&[
            empty().terms()[0],
            TermSum { id: TermId(8), count: 0, sum: Sum::default() },
        ]);
        let old = both.after(&terms, &[put(b"key", header(7, 1))]).unwrap();
        assert_eq!((old.terms()[0].count, old.terms()[1].count), (1, 0));
        let moved = change(b"key", Some(header(7, 1)), Some(header(8, 2)));
        let new = old.after(&terms, &[moved]).unwrap();
        assert_eq!(new.terms()[0], both.terms()[0]);
        assert_eq!(new.terms()[1].count, 1);
    }

    #[test]
    fn a_term_is_dropped_when_both_its_count_and_its_sum_are_zero() {
        let (one, two) = (terms(), two_terms());
        let only_new = Terms::new(Arc::clone(&two.active), vec![Arc::clone(&two.active)]);
        let mut state = empty();
        state.admit(TermId(8));
        state.admit(TermId(8));
        assert_eq!(state.terms().len(), 2);
        assert!(state.terms().iter().all(TermSum::is_empty));

        let mut filled = state.after(&two, &[put(b"key", header(7, 1))]).unwrap();
        assert_eq!(filled.keep(&only_new), Err(Mismatch));
        // Swapped for another record, then taken away: the count says nothing is left.
        let other = change(b"key", Some(header(7, 2)), None);
        let mut robbed = filled.after(&one, &[other]).unwrap();
        assert_eq!((robbed.terms()[0].count, robbed.keep(&only_new)), (0, Err(Mismatch)));

        state.keep(&only_new).unwrap();
        assert_eq!(state, State::empty(TermId(8)));
    }

    #[test]
    fn swapping_replaying_and_duplicating_records_shows() {
        let (a, b) = (header(7, 1), header(7, 2));
        let state = after(&[put(b"a", a), put(b"b", b)]);
        assert_eq!(state, after(&[put(b"b", b), put(b"a", a)]));
        assert_ne!(state, after(&[put(b"a", b), put(b"b", a)]));
        assert_ne!(state, after(&[put(b"a", a), put(b"b", a)]));
        assert_ne!(state, after(&[put(b"a", a)]));
        assert_ne!(state, after(&[put(b"a", a), put(b"b", b), put(b"c", b)]));
    }

    #[test]
    fn records_that_no_commit_wrote_are_a_mismatch() {
        let refused = |change| empty().after(&terms(), &[change]).is_err();
        assert!(refused(change(b"key", Some(header(7, 1)), None)));
        assert!(refused(put(b"key", header(9, 1))));
        assert!(!refused(change(b"key", None, None)));
        // A term that the keyring has and the state does not list.
        assert!(empty().after(&two_terms(), &[put(b"key", header(8, 1))]).is_err());
    }

    /// Old and new records of 257 keys: among their differences, as vectors of 256 bits, some
    /// cancel out under XOR, and Gaussian elimination finds which.
    #[test]
    fn records_rolled_back_together_so_that_their_xor_is_unchanged_show() {
        let terms = terms();
        let record = |n: u16, version: u8| {
            let mut bytes = [version; 48];
            bytes[4..8].copy_from_slice(&[0, 0, 0, 7]);
            bytes[8..10].copy_from_slice(&n.to_be_bytes());
            RecordHeader::of(&bytes).unwrap()
        };
        let element = |n: u16, version| {
            element(terms.active(), &n.to_be_bytes(), &record(n, version)).to_bytes()
        };
        let xor = |a: &mut [u8], b: &[u8]| a.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
        let leading = |row: &[u8; 32]| (0..256).find(|bit| row[bit / 8] << (bit % 8) & 0x80 != 0);
        let mut basis: Vec<([u8; 32], [u8; 33])> = Vec::new();
        let cancelling = (0..257_u16).find_map(|n| {
            let (mut row, mut taken) = (element(n, 1), [0; 33]);
            xor(&mut row, &element(n, 2));
            taken[usize::from(n / 8)] |= 1 << (n % 8);
            for (other, others) in &basis {
                if leading(other).is_some_and(|bit| row[bit / 8] << (bit % 8) & 0x80 != 0) {
                    xor(&mut row, other);
                    xor(&mut taken, others);
                }
            }
            if leading(&row).is_none() {
                return Some(taken);
            }
            basis.push((row, taken));
            None
        });
        let cancelling = cancelling.unwrap();
        let is_rolled_back = |n: u16| cancelling[usize::from(n / 8)] & (1 << (n % 8)) != 0;
        let mut difference = [0; 32];
        for n in (0..257).filter(|n| is_rolled_back(*n)) {
            xor(&mut difference, &element(n, 1));
            xor(&mut difference, &element(n, 2));
        }
        assert_eq!(difference, [0; 32]);

        let state_of = |version: &dyn Fn(u16) -> u8| {
            (0..257_u16).fold(empty(), |state, n| {
                let put =
                    Change { key: &n.to_be_bytes(), old: None, new: Some(record(n, version(n))) };
                state.after(&terms, &[put]).unwrap()
            })
        };
        let rolled_back = state_of(&|n| if is_rolled_back(n) { 1 } else { 2 });
        assert_ne!(rolled_back, state_of(&|_| 2));
    }

    proptest! {
        #[test]
        fn any_history_is_the_sum_of_what_stands_at_its_end(
            history in prop::collection::vec((0_u8..6, prop::option::of(0_u8..8)), 0..60),
        ) {
            let mut stands: BTreeMap<[u8; 1], RecordHeader> = BTreeMap::new();
            let mut state = empty();
            for (key, record) in &history {
                let new = record.map(|record| header(7, record));
                let old = match new {
                    Some(new) => stands.insert([*key], new),
                    None => stands.remove(&[*key]),
                };
                state = state.after(&terms(), &[change(&[*key], old, new)]).unwrap();
            }
            let puts: Vec<_> = stands.iter().map(|(key, header)| put(key, *header)).collect();
            prop_assert_eq!(&state, &after(&puts));
            prop_assert_eq!(state == empty(), stands.is_empty());
        }
    }
}
