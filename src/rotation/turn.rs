use std::time::{Duration, Instant};

use super::{
    Rotation, RotationError,
    records::{COURSE, Course, Destroyed, Phase},
};
use crate::{
    audit::{Broker, Notice},
    barrier::{Batch, EraseError, Pace, Progress, Reads, Rewrapped, ScanError, TermId},
    storage::CompactError,
};

/// What a turn leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There is more to do, after this pause.
    More(Duration),
    /// Nothing is to be done.
    Idle,
}

impl Rotation {
    /// Does one bounded piece of what a rotation needs next, or begins one that is due. What it
    /// leaves half done when it is dropped is taken up by the next one.
    ///
    /// # Errors
    /// [`RotationError`]: it is worth another try later, and told by the status until then.
    pub async fn turn(&self, audit: &Broker) -> Result<Turn, RotationError> {
        let done = self.piece(audit).await;
        self.told(done)
    }

    async fn piece(&self, audit: &Broker) -> Result<Turn, RotationError> {
        self.reserve().await?;
        let one = self.course.lock().await;
        let keyring = self.barrier.keyring();
        if let Some(pending) = keyring.pending() {
            self.activate(pending.id).await?;
            return Ok(Turn::More(Duration::ZERO));
        }
        let retiring: Vec<_> = keyring.retiring().iter().map(|term| term.id).collect();
        let course = self.course(&retiring).await?;
        let Some(course) = course else {
            return match self.names_piece(one, audit).await? {
                Some(turn) => Ok(turn),
                None => self.begin_if_due(audit).await,
            };
        };
        match course.phase.clone() {
            _ if retiring.is_empty() => self.conclude(&course, audit).await,
            Phase::Rewrap(cursor) => self.rewrap(&course, cursor).await,
            Phase::Verify => {
                drop(one);
                self.verify(&course).await
            }
            Phase::Erase => {
                drop(one);
                self.erase(&course).await
            }
        }
    }

    /// What is kept of the rotation; made anew when terms retire and no record says so, as after a
    /// commit that failed.
    async fn course(&self, retiring: &[TermId]) -> Result<Option<Course>, RotationError> {
        let held = self.records.courses.get(COURSE).await?;
        let active = self.barrier.keyring().active().id;
        match held {
            Some(held) if held.value.to == active.0 => Ok(Some(held.value)),
            Some(_) | None if retiring.is_empty() => Ok(None),
            Some(_) | None => {
                let course = self.course_of(active, retiring.iter().copied().collect());
                self.write(&course).await?;
                Ok(Some(course))
            }
        }
    }

    /// Step 3: some records more are under the new term.
    async fn rewrap(
        &self,
        course: &Course,
        cursor: Option<Vec<u8>>,
    ) -> Result<Turn, RotationError> {
        let begun = Instant::now();
        let note = |done: &Rewrapped| {
            let phase = match &done.cursor {
                Some(cursor) => Phase::Rewrap(Some(cursor.clone())),
                None => Phase::Verify,
            };
            let mut batch = Batch::default();
            self.records.courses.put(&mut batch, COURSE, &Course { phase, ..course.clone() });
            batch
        };
        let done = self.barrier.rewrap(cursor.as_deref(), note).await?;
        Ok(Turn::More(self.pause(done.records, begun.elapsed())))
    }

    /// Rests at least as long as the work took, so that it gets slower as the load grows.
    pub(super) fn pause(&self, records: u64, took: Duration) -> Duration {
        if self.records_per_second == 0 {
            return Duration::ZERO;
        }
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        let planned = Duration::from_secs(records.into()) / self.records_per_second;
        planned.saturating_sub(took).max(took.min(LONGEST_REST))
    }

    /// Steps 4 and 5: nothing is left under the old terms, and every record opens.
    async fn verify(&self, course: &Course) -> Result<Turn, RotationError> {
        self.check_empty(course)?;
        let scanned =
            match self.barrier.scan(Pace::Background, Reads::Unchecked, &Progress::default()).await
            {
                Err(ScanError::Running) => return Ok(Turn::More(WHILE_BUSY)),
                scanned => scanned?,
            };
        if let Some(first) = scanned.findings.first() {
            let (count, first) = (scanned.findings.len(), first.fault.word());
            return Err(RotationError::Findings { count, first });
        }
        self.go_on(course, Phase::Erase).await
    }

    fn check_empty(&self, course: &Course) -> Result<(), RotationError> {
        for id in course.from.iter().map(|id| TermId(*id)) {
            let (records, is_empty) = self.barrier.records_under(id);
            if !is_empty {
                return Err(RotationError::StateMismatch { id, records });
            }
        }
        Ok(())
    }

    /// Steps 6 and 7: no file holds what the old terms sealed, then no file holds them.
    async fn erase(&self, course: &Course) -> Result<Turn, RotationError> {
        match self.barrier.erase_removed(|_| {}).await {
            Err(EraseError::Compact(CompactError::Running)) => return Ok(Turn::More(WHILE_BUSY)),
            erased => erased?,
        };
        let _one = self.course.lock().await;
        if !self.is_current(course).await? {
            return Ok(Turn::More(Duration::ZERO));
        }
        self.check_empty(course)?;
        self.change_keyring(|keyring| Ok((keyring.without_retiring(), ()))).await?;
        Ok(Turn::More(Duration::ZERO))
    }

    /// Step 8: older seal files open nothing any more, and it is told.
    async fn conclude(&self, course: &Course, audit: &Broker) -> Result<Turn, RotationError> {
        let epoch = self.root.lock().await.epoch();
        self.barrier.raise_min_seal_epoch(epoch).await?;
        self.write_anchors(epoch).await?;
        let mut batch = Batch::default();
        for term in &course.from {
            audit.notice(&Notice::TermDestroyed { term: *term })?;
            let destroyed = Destroyed { at: self.clock.now() };
            self.records.destroyed.put(&mut batch, &[&term.to_string()], &destroyed);
        }
        self.records.courses.delete(&mut batch, COURSE);
        self.barrier.commit(batch).await?;
        tracing::info!(terms = ?course.from, "old terms are destroyed");
        Ok(Turn::Idle)
    }

    async fn go_on(&self, course: &Course, phase: Phase) -> Result<Turn, RotationError> {
        let _one = self.course.lock().await;
        if self.is_current(course).await? {
            self.write(&Course { phase, ..course.clone() }).await?;
        }
        Ok(Turn::More(Duration::ZERO))
    }

    /// Whether no other rotation has begun since.
    async fn is_current(&self, course: &Course) -> Result<bool, RotationError> {
        let held = self.records.courses.get(COURSE).await?;
        Ok(held.is_some_and(|held| held.value == *course)
            && self.barrier.keyring().pending().is_none())
    }

    async fn write(&self, course: &Course) -> Result<(), RotationError> {
        let mut batch = Batch::default();
        self.records.courses.put(&mut batch, COURSE, course);
        Ok(self.barrier.commit(batch).await?)
    }
}

/// A batch that took longer than this has waited for others, and rests no longer than this.
const LONGEST_REST: Duration = Duration::from_millis(250);
/// When to look again while somebody else verifies or compacts the store.
pub(super) const WHILE_BUSY: Duration = Duration::from_millis(500);
