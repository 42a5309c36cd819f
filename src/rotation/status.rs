use std::sync::PoisonError;

use super::{
    Rotation, RotationError,
    records::{COURSE, Destroyed, NAMES, NamesPhase, Phase},
};
use crate::{
    barrier::{Collection, NamesGeneration, TermSummary},
    clock::Timestamp,
};

/// What a rotation does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: every record is under the active term.
    Idle,
    /// A new term is in the seal file and becomes active.
    Activate,
    /// Records are sealed again.
    Rewrap,
    /// Every record is opened.
    Verify,
    /// Files give up what the old terms sealed, then the seal file loses them.
    Erase,
    /// The old terms are gone; older seal files are shut out.
    Conclude,
}

impl Step {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Activate => "activate",
            Self::Rewrap => "rewrap",
            Self::Verify => "verify",
            Self::Erase => "erase",
            Self::Conclude => "conclude",
        }
    }
}

/// Where a rotation stands.
#[derive(Debug, Clone)]
pub struct Status {
    /// What it does.
    pub step: Step,
    /// The term that seals.
    pub active: TermSummary,
    /// How often it has sealed, counted upward after a restart.
    pub operations: u64,
    /// The terms that go.
    pub retiring: Vec<TermSummary>,
    /// Records that are still under them.
    pub records_left: u64,
    /// Records that were under them at the start; 0 while idle.
    pub records_total: u64,
    /// When it began.
    pub started: Option<Timestamp>,
    /// Why the last turn failed; it is tried again.
    pub error: Option<String>,
    /// The terms that are gone, in order.
    pub destroyed: Vec<TermDestroyed>,
    /// The same for the key of names.
    pub names: NamesStatus,
}

/// Where a move of names stands.
#[derive(Debug, Clone)]
pub struct NamesStatus {
    /// What it does.
    pub step: NamesStep,
    /// The generation that names are encrypted under.
    pub generation: NamesGeneration,
    /// The generation that goes.
    pub retiring: Option<NamesGeneration>,
    /// Records that may still lie under it.
    pub records_left: u64,
    /// Records there were when the move began; 0 while idle.
    pub records_total: u64,
    /// When it began.
    pub started: Option<Timestamp>,
    /// The generations that are gone, in order.
    pub destroyed: Vec<NamesDestroyed>,
}

/// What a move of names does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamesStep {
    /// Nothing: all names are of one generation.
    Idle,
    /// Records move to their new names; once a rotation of terms that is under way has ended.
    Move,
    /// Files give up what lay under the old names, then the seal file loses their key.
    Erase,
    /// The old key is gone, which is told next.
    Conclude,
}

impl NamesStep {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Move => "move",
            Self::Erase => "erase",
            Self::Conclude => "conclude",
        }
    }
}

/// A generation of names that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamesDestroyed {
    /// Its number.
    pub generation: u32,
    /// When the last file of the live folder had lost its key.
    pub at: Timestamp,
}

/// A term that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TermDestroyed {
    /// Its number.
    pub term: u32,
    /// When the last file of the live folder had lost it.
    pub at: Timestamp,
}

impl Rotation {
    /// Where it stands.
    ///
    /// # Errors
    /// [`RotationError::Read`].
    pub async fn status(&self) -> Result<Status, RotationError> {
        let keyring = self.barrier.keyring();
        let retiring = keyring.retiring();
        let course = self.records.courses.get(COURSE).await?.map(|held| held.value);
        let step = match (&course, keyring.pending(), retiring.is_empty()) {
            (_, Some(_), _) => Step::Activate,
            (None, None, true) => Step::Idle,
            (Some(_), None, true) => Step::Conclude,
            (None, None, false) => Step::Rewrap,
            (Some(course), None, false) => match course.phase {
                Phase::Rewrap(_) => Step::Rewrap,
                Phase::Verify => Step::Verify,
                Phase::Erase => Step::Erase,
            },
        };
        Ok(Status {
            step,
            active: keyring.active(),
            operations: self.operations(),
            records_left: retiring.iter().map(|term| self.barrier.records_under(term.id).0).sum(),
            records_total: course.as_ref().map_or(0, |course| course.total),
            started: course.map(|course| course.started),
            retiring,
            error: self.last_error(),
            destroyed: destroyed(&self.records.destroyed)
                .await?
                .into_iter()
                .map(|(term, at)| TermDestroyed { term, at })
                .collect(),
            names: self.names_status().await?,
        })
    }

    async fn names_status(&self) -> Result<NamesStatus, RotationError> {
        let keyring = self.barrier.keyring();
        let retiring = keyring.old_names_generation();
        let generation = keyring.names_generation();
        let course = self.records.names.get(NAMES).await?.map(|held| held.value);
        let course = course.filter(|course| course.to == generation.0);
        let step = match (&course, retiring) {
            (None, None) => NamesStep::Idle,
            (Some(_), None) => NamesStep::Conclude,
            (None, Some(_)) => NamesStep::Move,
            (Some(course), Some(_)) => match course.phase {
                NamesPhase::Move => NamesStep::Move,
                NamesPhase::Erase => NamesStep::Erase,
            },
        };
        let (total, moved) = course.as_ref().map_or((0, 0), |course| (course.total, course.moved));
        Ok(NamesStatus {
            step,
            generation,
            retiring,
            records_left: if step == NamesStep::Move { total.saturating_sub(moved) } else { 0 },
            records_total: total,
            started: course.map(|course| course.started),
            destroyed: destroyed(&self.records.old_names)
                .await?
                .into_iter()
                .map(|(generation, at)| NamesDestroyed { generation, at })
                .collect(),
        })
    }

    fn last_error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is gone, by its number, and when.
async fn destroyed(
    records: &Collection<Destroyed>,
) -> Result<Vec<(u32, Timestamp)>, RotationError> {
    let mut destroyed = Vec::new();
    for entry in records.list(&[], None, usize::MAX).await? {
        let Ok(number) = entry.name.parse() else { continue };
        let Some(held) = records.get(&[&entry.name]).await? else { continue };
        destroyed.push((number, held.value.at));
    }
    destroyed.sort_unstable_by_key(|(number, _)| *number);
    Ok(destroyed)
}
