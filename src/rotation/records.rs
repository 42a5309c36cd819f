use serde::{Deserialize, Serialize};

use crate::{
    barrier::{Barrier, Collection, Record, SpaceId},
    clock::Timestamp,
};
use std::sync::Arc;

/// A rotation that is under way. It is written by the commit that makes the new term active, and
/// goes once the old terms are destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Course {
    /// The term that all records come under.
    pub(super) to: u32,
    /// The terms that go.
    pub(super) from: Vec<u32>,
    pub(super) started: Timestamp,
    /// Records under the old terms when it began.
    pub(super) total: u64,
    pub(super) phase: Phase,
}

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Records are sealed again, from behind this storage key on.
    Rewrap(Option<Vec<u8>>),
    /// Every record is opened and the sums are compared.
    Verify,
    /// Journal and snapshots give up what the old terms sealed; then the seal file loses them.
    Erase,
}

impl Record for Course {
    const VERSION: u8 = 1;
}

/// A move of names that is under way, until their old key is destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NamesCourse {
    /// The generation that goes.
    pub(super) from: u32,
    /// The generation that all records come under.
    pub(super) to: u32,
    pub(super) started: Timestamp,
    /// Records there were when it began.
    pub(super) total: u64,
    /// Records that were moved since; those that were written anew are not counted.
    pub(super) moved: u64,
    pub(super) phase: NamesPhase,
}

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum NamesPhase {
    /// Records move.
    Move,
    /// Journal and snapshots give up what lay under the old names; then the seal file loses their
    /// key.
    Erase,
}

impl Record for NamesCourse {
    const VERSION: u8 = 1;
}

/// A term or a generation of names that is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Destroyed {
    pub(super) at: Timestamp,
}

impl Record for Destroyed {
    const VERSION: u8 = 1;
}

/// How often a term may have sealed, told ahead so that a crash over-counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reserved {
    pub(super) term: u32,
    pub(super) seals: u64,
}

impl Record for Reserved {
    const VERSION: u8 = 1;
}

/// When a new term comes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Whether it does at all.
    pub enabled: bool,
    /// After this many seals under one term.
    pub max_operations: u64,
    /// After this many seconds; 0 for never.
    pub interval: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        // The peers' default. Ours would be safe to 2^40 and more: 192-bit random nonces.
        Self { enabled: true, max_operations: 3_865_470_566, interval: 0 }
    }
}

impl Record for Schedule {
    const VERSION: u8 = 1;
}

/// Where they lie.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) courses: Collection<Course>,
    pub(super) reserved: Collection<Reserved>,
    pub(super) schedules: Collection<Schedule>,
    pub(super) destroyed: Collection<Destroyed>,
    pub(super) names: Collection<NamesCourse>,
    pub(super) old_names: Collection<Destroyed>,
}

impl Records {
    pub(super) fn of(barrier: &Arc<Barrier>) -> Self {
        let view = barrier.view(SpaceId::SYSTEM).under(&["rotation"]);
        Self {
            courses: Collection::new(view.clone()),
            reserved: Collection::new(view.clone()),
            schedules: Collection::new(view.clone()),
            destroyed: Collection::new(view.under(&["destroyed"])),
            names: Collection::new(view.clone()),
            old_names: Collection::new(view.under(&["destroyed-names"])),
        }
    }
}

pub(super) const COURSE: &[&str] = &["course"];
pub(super) const NAMES: &[&str] = &["names"];
pub(super) const RESERVED: &[&str] = &["seals"];
pub(super) const SCHEDULE: &[&str] = &["schedule"];
