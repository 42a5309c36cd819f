use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher,
    sync::{Mutex, OnceLock, PoisonError},
};

use super::{Rate, Refused, Source, Standing, rate::Bucket};
use crate::clock::Timestamp;

/// A bucket for each rate and source, in a table that never grows.
///
/// A source has its place in one of many small sets, by a hash whose key nobody outside knows. When
/// all places of a set are taken, the bucket goes that would be full soonest: a full one is as good
/// as none, and one that is nearly full gives away least. So a flood of source addresses takes no
/// memory and no time, and costs at worst that somebody's bucket is full again early.
pub struct Buckets {
    hasher: RandomState,
    /// How many sets there are once there is a first bucket.
    count: usize,
    sets: OnceLock<Box<[Mutex<Set>]>>,
}

type Set = [Option<Place>; WAYS];

#[derive(Debug, Clone, Copy)]
struct Place {
    key: Key,
    bucket: Bucket,
}

/// A rate's number, and who is counted.
type Key = (u64, Source);

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Who has asked is not for logs.
        f.write_str("Buckets")
    }
}

impl Buckets {
    /// Room for about `most` buckets, taken when the first one is asked for.
    pub fn new(most: usize) -> Self {
        let count = most.div_ceil(WAYS).max(1);
        Self { hasher: RandomState::new(), count, sets: OnceLock::new() }
    }

    /// Takes one request of `source` out of its bucket under `rate`, whose number is `id`.
    ///
    /// # Errors
    /// [`Refused`] when there is none left in it.
    pub fn take(
        &self,
        id: u64,
        source: Source,
        rate: &Rate,
        now: Timestamp,
    ) -> Result<Standing, Refused> {
        let key = (id, source);
        let sets = self.sets.get_or_init(|| (0..self.count).map(|_| Mutex::default()).collect());
        let hash = usize::try_from(self.hasher.hash_one(key) >> 1).unwrap_or_default();
        let at = hash.checked_rem(sets.len()).unwrap_or_default();
        // There is a set at each remainder; without one nothing could be counted.
        let Some(set) = sets.get(at) else { return rate.take(&mut Bucket::default(), now) };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        let place = place_of(&mut set, key);
        rate.take(&mut place.bucket, now)
    }
}

/// The place of a key in its set, in the place of another one if there is none.
fn place_of(set: &mut Set, key: Key) -> &mut Place {
    let held = set.iter().position(|place| place.as_ref().is_some_and(|place| place.key == key));
    let at = held.or_else(|| {
        let until_full = |place: &Option<Place>| place.map(|place| place.full_at());
        (0..WAYS).min_by_key(|at| set.get(*at).and_then(until_full))
    });
    let fresh = Place { key, bucket: Bucket::default() };
    #[expect(clippy::indexing_slicing, reason = "both searches give positions in the set")]
    let place = &mut set[at.unwrap_or_default()];
    if held.is_none() {
        *place = Some(fresh);
    }
    place.get_or_insert(fresh)
}

impl Place {
    /// When it holds nothing that matters.
    fn full_at(&self) -> Timestamp {
        self.bucket.full_at.max(self.bucket.blocked_until)
    }
}

/// Places in a set: one more than a few, so that a full one is nearly always there to be taken.
const WAYS: usize = 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    fn rate(rate: f64, block: u64) -> Rate {
        Rate::new(rate, Duration::from_secs(60), Duration::from_secs(block)).unwrap()
    }

    #[test]
    fn each_source_has_its_own_bucket_under_each_rate() {
        let (buckets, one) = (Buckets::new(1_024), rate(1.0, 0));
        let take = |id, source| buckets.take(id, Source::V4(source), &one, NOW).is_ok();
        assert!(take(1, 1) && take(1, 2) && take(2, 1));
        assert!(!take(1, 1) && !take(1, 2) && !take(2, 1));
    }

    #[test]
    fn the_table_does_not_grow_under_a_flood_of_sources() {
        let (buckets, one) = (Buckets::new(64), rate(1.0, 0));
        for source in 0..100_000 {
            assert!(buckets.take(1, Source::V6(source), &one, NOW).is_ok());
        }
        let sets = buckets.sets.get().unwrap();
        assert_eq!(sets.len() * WAYS, 64);
        let taken = sets.iter().map(|set| set.lock().unwrap().iter().flatten().count());
        assert_eq!(taken.sum::<usize>(), 64);
    }

    #[test]
    fn a_full_bucket_goes_before_one_that_is_empty_or_blocked() {
        let buckets = Buckets::new(1);
        let (blocking, slow) = (rate(1.0, 3_600), rate(1.0, 0));
        let blocked = Source::V4(1);
        buckets.take(1, blocked, &blocking, NOW).unwrap();
        assert!(buckets.take(1, blocked, &blocking, NOW).is_err());
        let later = NOW.plus(Duration::from_secs(120));
        for source in 10..100 {
            buckets.take(2, Source::V4(source), &slow, later).unwrap();
        }
        assert!(buckets.take(1, blocked, &blocking, later).is_err());
    }

    #[test]
    fn nothing_is_set_aside_before_the_first_bucket() {
        assert!(Buckets::new(1 << 40).sets.get().is_none());
    }
}
