//! Deadlines in minute buckets: what must be done when its time has come.
//!
//! Encrypted names have no order, so what is found by time lies in a folder for each minute
//! (FORMAT.md 5); the folders that exist are the minutes that have deadlines. They are never
//! loaded whole. A deadline only says when to look: whether a token or lease has expired is judged
//! from its own record at each use.

use std::time::Duration;

use crate::{
    barrier::{Batch, MountView, ReadError},
    clock::Timestamp,
};

const MINUTE: Duration = Duration::from_secs(60);

/// The deadlines of one kind of thing.
#[derive(Clone, Debug)]
pub struct Deadlines {
    minutes: MountView,
}

/// A deadline that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// When its minute ended.
    pub at: Timestamp,
    /// What it is the deadline of.
    pub id: String,
}

impl Deadlines {
    /// The deadlines kept in a folder of its own.
    pub fn new(folder: &MountView) -> Self {
        Self { minutes: folder.under(&["m"]) }
    }

    /// Adds a deadline to a batch. `id` is one path segment.
    pub fn add(&self, batch: &mut Batch, at: Timestamp, id: &str) {
        batch.put(&self.minutes, &[&bucket(at), id], &[]);
    }

    /// Removes in a batch what was added for `at`, if it is there.
    pub fn remove(&self, batch: &mut Batch, at: Timestamp, id: &str) {
        batch.delete(&self.minutes, &[&bucket(at), id]);
    }

    /// Up to `limit` deadlines that have come, the earliest minutes first. They stay until they are
    /// removed.
    ///
    /// A deadline comes with the end of its minute, up to 60 s late and never early. One call looks
    /// at every minute that has deadlines, and so at no more than the longest lease has minutes.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Due>, ReadError> {
        let mut due = Vec::new();
        for minute in self.minutes.list(&[], None, limit).await? {
            let left = limit.saturating_sub(due.len());
            let Some(at) = end_of(&minute.name).filter(|at| *at <= now && left > 0) else { break };
            let ids = self.minutes.list(&[&minute.name], None, left).await?;
            due.extend(ids.into_iter().map(|entry| Due { at, id: entry.name }));
        }
        Ok(due)
    }
}

/// The name of the minute in which a moment lies, by its end: of one length, so that names sort as
/// times do.
fn bucket(at: Timestamp) -> String {
    format!("{:010}", at.nanos().div_ceil(nanos(MINUTE)))
}

fn end_of(minute: &str) -> Option<Timestamp> {
    let minutes: u64 = minute.parse().ok()?;
    Some(Timestamp::from_nanos(minutes.checked_mul(nanos(MINUTE))?))
}

const fn nanos(duration: Duration) -> u64 {
    duration.as_secs() * 1_000_000_000
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::barrier::{Barrier, SpaceId, fixture};

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn deadlines() -> (Arc<Barrier>, Deadlines) {
        let (barrier, ..) = fixture::open();
        let deadlines = Deadlines::new(&barrier.view(SpaceId::SYSTEM).under(&["tokens"]));
        (barrier, deadlines)
    }

    async fn add(barrier: &Barrier, deadlines: &Deadlines, seconds: u64, id: &str) {
        let mut batch = Batch::default();
        deadlines.add(&mut batch, at(seconds), id);
        barrier.commit(batch).await.unwrap();
    }

    async fn due(deadlines: &Deadlines, now: u64, limit: usize) -> Vec<String> {
        let due = deadlines.due(at(now), limit).await.unwrap();
        due.into_iter().map(|due| due.id).collect()
    }

    #[tokio::test]
    async fn deadlines_come_with_the_end_of_their_minute_and_never_early() {
        let (barrier, deadlines) = deadlines();
        for (seconds, id) in [(61, "b"), (60, "a"), (121, "d"), (120, "c"), (900_000, "z")] {
            add(&barrier, &deadlines, seconds, id).await;
        }
        assert_eq!(due(&deadlines, 59, 10).await, [""; 0]);
        assert_eq!(due(&deadlines, 60, 10).await, ["a"]);
        assert_eq!(due(&deadlines, 119, 10).await, ["a"]);
        assert_eq!(due(&deadlines, 120, 10).await, ["a", "b", "c"]);
        assert_eq!(due(&deadlines, 180, 10).await, ["a", "b", "c", "d"]);
    }

    #[tokio::test]
    async fn the_earliest_come_first_and_no_more_than_asked_for() {
        let (barrier, deadlines) = deadlines();
        for n in (0..40).rev() {
            add(&barrier, &deadlines, 60 * (n / 2), &format!("{n:02}")).await;
        }
        for limit in [0, 1, 2, 3, 7] {
            let expected: Vec<_> = (0..limit).map(|n| format!("{n:02}")).collect();
            assert_eq!(due(&deadlines, 100_000, limit).await, expected);
        }
    }

    #[tokio::test]
    async fn what_is_removed_does_not_come_and_its_minute_is_gone() {
        let (barrier, deadlines) = deadlines();
        add(&barrier, &deadlines, 30, "moved").await;
        add(&barrier, &deadlines, 30, "stays").await;
        let mut batch = Batch::default();
        deadlines.remove(&mut batch, at(30), "moved");
        deadlines.add(&mut batch, at(90), "moved");
        barrier.commit(batch).await.unwrap();
        let come = deadlines.due(at(60), 10).await.unwrap();
        assert_eq!(come, [Due { at: at(60), id: "stays".into() }]);

        let mut batch = Batch::default();
        deadlines.remove(&mut batch, come[0].at, &come[0].id);
        barrier.commit(batch).await.unwrap();
        let minutes = deadlines.minutes.list(&[], None, 10).await.unwrap();
        assert_eq!(minutes.len(), 1);
        assert_eq!(due(&deadlines, 120, 10).await, ["moved"]);
    }
}
