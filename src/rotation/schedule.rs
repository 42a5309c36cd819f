use std::time::Duration;

use super::{
    Rotation, RotationError, Turn,
    records::{RESERVED, Reserved, SCHEDULE, Schedule},
};
use crate::{
    audit::{Broker, Notice},
    barrier::{Batch, CommitError, TermId},
    storage,
};

/// The fewest seals after which a new term may come.
pub const MIN_OPERATIONS: u64 = 1_000_000;
/// The most.
pub const MAX_OPERATIONS: u64 = 3_865_470_566;
/// The shortest time after which a new term may come, if any.
pub const MIN_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Seals that are reserved ahead at least.
const BLOCK: u64 = 1 << 16;

/// How often a term has sealed.
///
/// What is kept is a number that is reached only later, renewed before it is: a crash over-counts
/// and never under-counts, and a commit costs nothing.
#[derive(Debug, Default)]
pub(super) struct Count {
    term: u32,
    /// Seals that earlier openings of the store may have made.
    before: u64,
    /// What is kept.
    reserved: u64,
    /// Where the count stood at the last look.
    last: u64,
}

impl Rotation {
    /// How often the active term has sealed, counted upward after a restart.
    pub fn operations(&self) -> u64 {
        let active = self.barrier.keyring().active().id;
        let before = {
            let count = self.count();
            if count.term == active.0 { count.before } else { 0 }
        };
        before.saturating_add(self.barrier.seals_under(active))
    }

    /// Goes on from what is kept. On a full disk nothing is sealed, so that there is nothing to
    /// reserve: the next look does that, once there is space.
    pub(super) async fn count_from_record(&self) -> Result<(), RotationError> {
        let term = self.barrier.keyring().active().id.0;
        let held = self.records.reserved.get(RESERVED).await?.map(|held| held.value);
        let before = held.filter(|held| held.term == term).map_or(0, |held| held.seals);
        *self.count() = Count { term, before, ..Count::default() };
        match self.reserve().await {
            Err(RotationError::Commit(CommitError::Storage(storage::CommitError::NoSpace {
                ..
            }))) => Ok(()),
            reserved => reserved,
        }
    }

    /// Reserves further seals when those reserved may be used up before the next look.
    pub(super) async fn reserve(&self) -> Result<(), RotationError> {
        let term = self.barrier.keyring().active().id.0;
        let operations = self.operations();
        let reserved = {
            let mut count = self.count();
            if count.term != term {
                *count = Count { term, reserved: BLOCK, ..Count::default() };
            }
            let recent = operations.saturating_sub(std::mem::replace(&mut count.last, operations));
            let ahead = recent.saturating_mul(8).max(BLOCK);
            if count.reserved >= operations.saturating_add(ahead / 2) {
                return Ok(());
            }
            Reserved { term, seals: operations.saturating_add(ahead) }
        };
        let mut batch = Batch::default();
        self.records.reserved.put(&mut batch, RESERVED, &reserved);
        self.barrier.commit(batch).await?;
        self.count().reserved = reserved.seals;
        Ok(())
    }

    /// What is kept for a term from its first seal on.
    pub(super) fn reserve_first(&self, term: TermId, batch: &mut Batch) {
        let reserved = Reserved { term: term.0, seals: BLOCK };
        self.records.reserved.put(batch, RESERVED, &reserved);
    }

    /// When a new term comes by itself.
    ///
    /// # Errors
    /// [`RotationError::Read`].
    pub async fn schedule(&self) -> Result<Schedule, RotationError> {
        let held = self.records.schedules.get(SCHEDULE).await?;
        Ok(held.map(|held| held.value).unwrap_or_default())
    }

    /// Sets when a new term comes by itself.
    ///
    /// # Errors
    /// [`RotationError::Commit`].
    pub async fn set_schedule(&self, schedule: Schedule) -> Result<(), RotationError> {
        let mut batch = Batch::default();
        self.records.schedules.put(&mut batch, SCHEDULE, &schedule);
        self.barrier.commit(batch).await?;
        self.call();
        Ok(())
    }

    /// Begins a rotation whose time has come.
    pub(super) async fn begin_if_due(&self, audit: &Broker) -> Result<Turn, RotationError> {
        let schedule = self.schedule().await?;
        let active = self.barrier.keyring().active();
        let age = self.clock.now().since(active.created);
        let by_age = schedule.interval > 0 && age >= Duration::from_secs(schedule.interval);
        let by_count = self.operations() >= schedule.max_operations;
        if !schedule.enabled || !(by_age || by_count) {
            return Ok(Turn::Idle);
        }
        let term = self.start().await?;
        audit
            .notice(&Notice::TermDue { term: term.0, by: if by_age { "age" } else { "count" } })?;
        Ok(Turn::More(Duration::ZERO))
    }
}
