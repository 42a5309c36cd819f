use std::sync::PoisonError;

use super::{
    Rotation, RotationError,
    records::{COURSE, Phase},
};
use crate::{barrier::TermSummary, clock::Timestamp};

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
            destroyed: self.destroyed().await?,
        })
    }

    fn last_error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn destroyed(&self) -> Result<Vec<TermDestroyed>, RotationError> {
        let mut destroyed = Vec::new();
        for entry in self.records.destroyed.list(&[], None, usize::MAX).await? {
            let Ok(term) = entry.name.parse() else { continue };
            let Some(held) = self.records.destroyed.get(&[&entry.name]).await? else { continue };
            destroyed.push(TermDestroyed { term, at: held.value.at });
        }
        destroyed.sort_by_key(|destroyed| destroyed.term);
        Ok(destroyed)
    }
}
