use std::{
    collections::{HashSet, hash_map::RandomState},
    fmt,
    hash::BuildHasher as _,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::storage::{Change, RecordHeader};

/// How many parts the table has; the place in a part is found in a few steps, and made by moving a
/// few kilobytes.
const SHARDS: usize = 4_096;

/// How far from where it should be an entry is looked for first.
const STEP: usize = 8;

/// Which record is the newest under each key, in 16 bytes: a hash of the key and the first bytes
/// of the record's tag (FORMAT.md 6).
///
/// It catches what the associated data of a record cannot: yesterday's record under its own key,
/// and one that is gone. The hash is keyed at random for each table, so that nobody finds two keys
/// of one hash; should two meet by chance, both their tags are accepted. About 18 MB for a million
/// records.
pub(super) struct Table {
    keys: RandomState,
    shards: Box<[RwLock<Vec<Entry>>]>,
}

/// Hash of the key, then tag; a shard is sorted by both.
type Entry = (u64, u64);

impl Table {
    /// Whether the newest record under a key is this one; `None` is none.
    pub(super) fn holds(&self, key: &[u8], header: Option<&RecordHeader>) -> bool {
        let hash = self.keys.hash_one(key);
        let shard = self.read(hash);
        match header {
            Some(header) => find(&shard, (hash, tag_of(header))).is_ok(),
            None => {
                let (Ok(next) | Err(next)) = find(&shard, (hash, 0));
                shard.get(next).is_none_or(|entry| entry.0 != hash)
            }
        }
    }

    /// Takes the record under a key in.
    pub(super) fn add(&self, key: &[u8], header: &RecordHeader) {
        self.settle(&Staged {
            hash: self.keys.hash_one(key),
            old: None,
            new: Some(tag_of(header)),
        });
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *shard.write().unwrap_or_else(PoisonError::into_inner) = Vec::new();
        }
    }

    fn stage(&self, change: &Change<'_>) -> Staged {
        let tag = |header: &Option<RecordHeader>| header.as_ref().map(tag_of);
        let hash = self.keys.hash_one(change.key);
        Staged { hash, old: tag(&change.old), new: tag(&change.new) }
    }

    fn settle(&self, staged: &Staged) {
        let Some(shard) = self.shards.get(place(staged.hash)) else { return };
        let mut shard: RwLockWriteGuard<'_, Vec<Entry>> =
            shard.write().unwrap_or_else(PoisonError::into_inner);
        let old = staged.old.and_then(|tag| find(&shard, (staged.hash, tag)).ok());
        if let Some(old) = old {
            shard.remove(old);
        }
        if let Some(tag) = staged.new {
            let entry = (staged.hash, tag);
            let (Ok(at) | Err(at)) = find(&shard, entry);
            if shard.len() == shard.capacity() {
                // By an eighth: doubling would leave a third of the table empty on average.
                let more = (shard.len() / 8).max(4);
                shard.reserve_exact(more);
            }
            shard.insert(at, entry);
        }
    }

    fn read(&self, hash: u64) -> RwLockReadGuard<'_, Vec<Entry>> {
        static EMPTY: RwLock<Vec<Entry>> = RwLock::new(Vec::new());
        let shard = self.shards.get(place(hash)).unwrap_or(&EMPTY);
        shard.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Table {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { keys: RandomState::new(), shards }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Table")
    }
}

/// One change on its way into the table.
#[derive(Debug)]
struct Staged {
    hash: u64,
    old: Option<u64>,
    new: Option<u64>,
}

/// Changes that are staged and not yet durable: readers see them when the index does.
#[derive(Debug, Default)]
pub(super) struct Pending {
    changes: Vec<Staged>,
    hashes: HashSet<u64>,
}

impl Pending {
    /// Whether the old records of these changes are those that the table knows.
    ///
    /// A record that was changed behind the store's back would otherwise be taken out of the sum
    /// in place of the true one, and the sum be wrong for ever.
    pub(super) fn fits(&self, table: &Table, changes: &[Change<'_>]) -> bool {
        let mut own = HashSet::new();
        changes.iter().all(|change| {
            let hash = table.keys.hash_one(change.key);
            // What the group itself has written comes from the group, not from the index.
            let is_known = self.hashes.contains(&hash) || !own.insert(hash);
            is_known || table.holds(change.key, change.old.as_ref())
        })
    }

    pub(super) fn stage(&mut self, table: &Table, change: &Change<'_>) {
        let staged = table.stage(change);
        self.hashes.insert(staged.hash);
        self.changes.push(staged);
    }

    /// Brings everything into the table.
    pub(super) fn settle(&mut self, table: &Table) {
        self.changes.drain(..).for_each(|staged| table.settle(&staged));
        self.hashes.clear();
    }
}

/// The part that a hash belongs to: its upper bits, since a part is sorted by the whole.
fn place(hash: u64) -> usize {
    usize::try_from(hash >> (64 - SHARDS.ilog2())).unwrap_or_default()
}

/// Where an entry stands in its part, or would stand.
///
/// Hashes are spread evenly, so that its place is known but for some steps: of a part of a large
/// table one or two lines of memory are read, where halving it would read one for every step.
fn find(shard: &[Entry], entry: Entry) -> Result<usize, usize> {
    let within = u128::from(entry.0 << SHARDS.ilog2());
    let guess = usize::try_from((within * shard.len() as u128) >> 64).unwrap_or_default();
    let (mut from, mut to, mut step) = (guess.saturating_sub(STEP), guess + STEP, STEP);
    while from > 0 && shard.get(from).is_some_and(|first| *first > entry) {
        step *= 2;
        from = from.saturating_sub(step);
    }
    while shard.get(to).is_some_and(|next| *next <= entry) {
        step *= 2;
        to += step;
    }
    let part = shard.get(from..to.min(shard.len())).unwrap_or_default();
    part.binary_search(&entry).map(|at| from + at).map_err(|at| from + at)
}

fn tag_of(header: &RecordHeader) -> u64 {
    let tag = header.as_bytes().last_chunk::<16>().and_then(|tag| tag.first_chunk::<8>());
    tag.map_or(0, |tag| u64::from_be_bytes(*tag))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn header(tag: u8) -> RecordHeader {
        RecordHeader::of(&[tag; 48]).unwrap()
    }

    fn change<'a>(key: &'a [u8], old: Option<u8>, new: Option<u8>) -> Change<'a> {
        Change { key, old: old.map(header), new: new.map(header) }
    }

    #[test]
    fn a_hash_that_two_keys_share_holds_both_their_tags() {
        let table = Table::default();
        let settle = |old, new| table.settle(&Staged { hash: 7, old, new });
        settle(None, Some(1));
        settle(None, Some(2));
        let tags = |table: &Table| table.read(7).iter().map(|entry| entry.1).collect::<Vec<_>>();
        assert_eq!(tags(&table), [1, 2]);
        settle(Some(1), Some(3));
        assert_eq!(tags(&table), [2, 3]);
        settle(Some(2), None);
        settle(Some(3), None);
        assert!(tags(&table).is_empty());
    }

    #[test]
    fn a_change_counts_for_readers_only_when_it_is_durable() {
        let (table, mut pending) = (Table::default(), Pending::default());
        pending.stage(&table, &change(b"a", None, Some(1)));
        assert!(table.holds(b"a", None) && !table.holds(b"a", Some(&header(1))));
        pending.settle(&table);
        assert!(!table.holds(b"a", None) && table.holds(b"a", Some(&header(1))));
    }

    #[test]
    fn an_old_record_that_the_table_does_not_know_does_not_fit() {
        let (table, mut pending) = (Table::default(), Pending::default());
        table.add(b"a", &header(1));
        for (old, fits) in [(Some(1), true), (Some(2), false), (None, false)] {
            assert_eq!(pending.fits(&table, &[change(b"a", old, Some(3))]), fits, "{old:?}");
        }
        assert!(!pending.fits(&table, &[change(b"b", Some(1), None)]));
        // The second change's old record is what the first has put there.
        assert!(
            pending.fits(&table, &[change(b"a", Some(1), Some(2)), change(b"a", Some(2), None)])
        );
        pending.stage(&table, &change(b"a", Some(1), Some(2)));
        assert!(pending.fits(&table, &[change(b"a", Some(2), Some(3))]));
    }

    #[test]
    fn a_million_records_take_about_twenty_megabytes() {
        let table = Table::default();
        for n in 0..200_000_u32 {
            table.add(&n.to_be_bytes(), &header(1));
        }
        let entries: usize =
            table.shards.iter().map(|shard| shard.read().unwrap().capacity()).sum();
        let each = entries * size_of::<Entry>() / 200_000;
        assert!(each <= 20, "{each} bytes for each record");
    }

    proptest! {
        #[test]
        fn an_entry_is_found_however_hashes_are_spread(
            spread in prop::collection::btree_set((any::<u64>(), 0_u64..2), 0..300),
            near in prop::collection::btree_set((0_u64..50, 0_u64..2), 0..80),
            far in prop::collection::btree_set((u64::MAX - 50..=u64::MAX, 0_u64..2), 0..80),
        ) {
            let mut shard: Vec<Entry> = spread.into_iter().chain(near).chain(far).collect();
            shard.sort_unstable();
            shard.dedup();
            let around = |(hash, tag): Entry| [(hash, tag), (hash, tag ^ 1), (hash ^ 1, tag)];
            for entry in shard.iter().copied().chain([(0, 0), (u64::MAX, 9)]).flat_map(around) {
                prop_assert_eq!(find(&shard, entry), shard.binary_search(&entry));
            }
        }

        #[test]
        fn it_holds_what_stands_and_nothing_else(
            history in prop::collection::vec((0_u8..20, prop::option::of(0_u8..4)), 0..100),
        ) {
            let (table, mut pending) = (Table::default(), Pending::default());
            let mut stands = BTreeMap::new();
            for (key, new) in history {
                let old = match new {
                    Some(new) => stands.insert(key, new),
                    None => stands.remove(&key),
                };
                pending.stage(&table, &change(&[key], old, new));
                pending.settle(&table);
            }
            for key in 0..20 {
                let stands = stands.get(&key).copied();
                for tag in [None, Some(0), Some(1), Some(2), Some(3)] {
                    let holds = table.holds(&[key], tag.map(header).as_ref());
                    prop_assert_eq!(holds, tag == stands);
                }
            }
        }
    }
}
