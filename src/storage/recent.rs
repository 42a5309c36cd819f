use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher, RandomState},
    sync::Arc,
};

use quick_cache::{
    Weighter,
    sync::{Cache, DefaultLifecycle},
};

/// Records longer than this in bytes are left to the index: what a copy of them saves is little
/// beside what opening them takes.
const LONGEST: usize = 4_096;
/// What an entry takes beside its key and its record, in bytes: its place in the table and in the
/// list, and what allocating it costs.
const OVERHEAD: usize = 80;
/// What a secret's record takes, for the cache to choose its number of parts by.
const USUAL: u64 = 600;
/// Length of a key's length before it.
const FRONT: usize = 2;

/// The records that were written or asked for last, as the index has them.
///
/// An index of a million secrets reads six pages for one of them, and each has its keys all over
/// memory. Here it is one place. Bounded in bytes; what is asked for again stays, however much is
/// written or looked through once.
pub(super) struct Recent {
    records: Cache<Entry, Entry, Bytes, RandomState>,
}

impl Recent {
    pub(super) fn new(bytes: u64) -> Self {
        let usual = usize::try_from(bytes / USUAL).unwrap_or(usize::MAX);
        let lifecycle = DefaultLifecycle::default();
        Self { records: Cache::with(usual, bytes, Bytes, RandomState::new(), lifecycle) }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Entry> {
        self.records.get(key)
    }

    /// Takes what the index turned out to have under a key.
    pub(super) fn fill(&self, key: &[u8], record: &[u8]) {
        // What cannot be here is not, and need not be taken out.
        if record.len() <= LONGEST {
            self.put(key, Some(record));
        }
    }

    /// Takes what the index has under a key from now on; `None` is nothing.
    pub(super) fn put(&self, key: &[u8], record: Option<&[u8]>) {
        match record.and_then(|record| Entry::new(key, record)) {
            Some(entry) => self.records.insert(entry.clone(), entry),
            None => drop(self.records.remove(key)),
        }
    }
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").field("records", &self.records.len()).finish()
    }
}

/// A key and its record in one piece of memory: `be16 length of the key || key || record`. Hashes
/// and compares as its key.
#[derive(Clone)]
pub(super) struct Entry(Arc<[u8]>);

impl Entry {
    /// `None` for what is too long to be kept.
    fn new(key: &[u8], record: &[u8]) -> Option<Self> {
        let length = u16::try_from(key.len()).ok().filter(|_| record.len() <= LONGEST)?;
        Some(Self([&length.to_be_bytes(), key, record].concat().into()))
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let (front, rest) = self.0.split_first_chunk::<FRONT>().unwrap_or((&[0; FRONT], &[]));
        rest.split_at_checked(u16::from_be_bytes(*front).into()).unwrap_or_default()
    }

    pub(super) fn record(&self) -> &[u8] {
        self.parts().1
    }
}

impl Borrow<[u8]> for Entry {
    fn borrow(&self) -> &[u8] {
        self.parts().0
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.parts().0 == other.parts().0
    }
}

impl Eq for Entry {}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().0.hash(state);
    }
}

/// An entry's weight is what it takes.
#[derive(Clone)]
struct Bytes;

impl Weighter<Entry, Entry> for Bytes {
    fn weight(&self, entry: &Entry, _: &Entry) -> u64 {
        (entry.0.len() + OVERHEAD) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(recent: &Recent, key: &[u8]) -> Option<Vec<u8>> {
        recent.get(key).map(|entry| entry.record().to_vec())
    }

    #[test]
    fn it_has_what_was_put_last_and_nothing_that_went() {
        let recent = Recent::new(1 << 20);
        recent.put(b"a", Some(b"1"));
        recent.put(b"ab", Some(b""));
        recent.put(b"", Some(b"2"));
        assert_eq!(shown(&recent, b"a").as_deref(), Some(&b"1"[..]));
        assert_eq!(shown(&recent, b"ab").as_deref(), Some(&b""[..]));
        assert_eq!(shown(&recent, b"").as_deref(), Some(&b"2"[..]));
        recent.put(b"a", Some(b"3"));
        recent.put(b"ab", None);
        assert_eq!(shown(&recent, b"a").as_deref(), Some(&b"3"[..]));
        assert_eq!(shown(&recent, b"ab"), None);
    }

    #[test]
    fn a_record_that_grows_too_long_leaves_nothing_of_the_one_before() {
        let recent = Recent::new(1 << 20);
        recent.put(b"a", Some(b"1"));
        recent.put(b"a", Some(&[0; LONGEST + 1]));
        assert_eq!(shown(&recent, b"a"), None);
    }

    #[test]
    fn it_keeps_its_bound_and_what_is_asked_for_again() {
        let recent = Recent::new(1 << 20);
        for n in 0_u32..100_000 {
            recent.put(&n.to_be_bytes(), Some(&[7; 100]));
            assert!(n == 0 || recent.get(&0_u32.to_be_bytes()).is_some(), "after {n}");
        }
        assert!(recent.records.weight() <= 1 << 20);
        assert!(recent.records.len() > 1_000);
    }
}
