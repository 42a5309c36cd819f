use super::{
    state::{State, Sum, TermSum, element, term_of},
    term::Terms,
};
use crate::storage::RecordHeader;

/// Counts and sums of records as they are met, in any order, to be held against a state.
#[derive(Debug, Default)]
pub(super) struct Tally {
    terms: Vec<TermSum>,
    /// Met what is no record, or one under a term that the keyring lacks.
    is_foreign: bool,
}

impl Tally {
    /// Takes a record in; `None` is something too short to be one.
    pub(super) fn add(&mut self, terms: &Terms, key: &[u8], header: Option<&RecordHeader>) {
        self.change(terms, key, header, |entry, element| {
            entry.count = entry.count.wrapping_add(1);
            entry.sum = entry.sum.plus(element);
        });
    }

    /// Takes a record out, whether or not it was ever taken in: only the end counts.
    pub(super) fn remove(&mut self, terms: &Terms, key: &[u8], header: &RecordHeader) {
        self.change(terms, key, Some(header), |entry, element| {
            entry.count = entry.count.wrapping_sub(1);
            entry.sum = entry.sum.minus(element);
        });
    }

    /// Whether exactly the records of a state were met.
    pub(super) fn equals(&self, state: &State) -> bool {
        let of = |terms: &[TermSum], like: &TermSum| {
            let found = terms.iter().find(|entry| entry.id == like.id);
            found.map_or((0, Sum::default()), |entry| (entry.count, entry.sum))
        };
        let mut all = state.terms().iter().chain(&self.terms);
        !self.is_foreign && all.all(|entry| of(state.terms(), entry) == of(&self.terms, entry))
    }

    fn change(
        &mut self,
        terms: &Terms,
        key: &[u8],
        header: Option<&RecordHeader>,
        change: impl FnOnce(&mut TermSum, Sum),
    ) {
        let Some((header, term)) =
            header.and_then(|header| Some((header, terms.get(term_of(header))?)))
        else {
            self.is_foreign = true;
            return;
        };
        let at = self.terms.iter().position(|entry| entry.id == term.id).unwrap_or_else(|| {
            self.terms.push(TermSum { id: term.id, count: 0, sum: Sum::default() });
            self.terms.len() - 1
        });
        if let Some(entry) = self.terms.get_mut(at) {
            change(entry, element(term, key, header));
        }
    }
}
