use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::MutexGuard};

use super::{
    Rotation, RotationError, Turn,
    records::{Destroyed, NAMES, NamesCourse, NamesPhase},
    turn::WHILE_BUSY,
};
use crate::{
    audit::{Broker, Notice},
    barrier::{Batch, EraseError, Keyring, KeyringError, Moved, NamesGeneration},
    storage::CompactError,
};

impl Rotation {
    /// Makes a new secret of names and has new records lie under it; the others follow in turns,
    /// and then the old secret is destroyed (FORMAT.md 11).
    ///
    /// # Errors
    /// [`RotationError`]: [`KeyringError::NamesMoving`] while they move already. What was made and
    /// is not in use yet, is so after the next unsealing.
    pub async fn start_names(&self) -> Result<NamesGeneration, RotationError> {
        let _one = self.course.lock().await;
        if self.names_course().await?.is_some() {
            // One whose old key is gone is still to be told.
            return Err(KeyringError::NamesMoving.into());
        }
        self.change_names(Keyring::with_new_names).await?;
        self.names_course().await?;
        self.call();
        let generation = self.barrier.keyring().names_generation();
        tracing::info!(generation = generation.0, "names are under a new key");
        Ok(generation)
    }

    /// One bounded piece of a move of names; `None` when there is none.
    pub(super) async fn names_piece(
        &self,
        one: MutexGuard<'_, ()>,
        audit: &Broker,
    ) -> Result<Option<Turn>, RotationError> {
        let Some(course) = self.names_course().await? else { return Ok(None) };
        let turn = match course.phase {
            _ if self.barrier.keyring().old_names_generation().is_none() => {
                self.conclude_names(&course, audit).await?
            }
            NamesPhase::Move => self.move_names(&course).await?,
            NamesPhase::Erase => {
                drop(one);
                self.erase_names(&course).await?
            }
        };
        Ok(Some(turn))
    }

    /// What is kept of the move; made anew when names move and no record says so, as after a crash
    /// before the first one.
    pub(super) async fn names_course(&self) -> Result<Option<NamesCourse>, RotationError> {
        let held = self.records.names.get(NAMES).await?.map(|held| held.value);
        let keyring = self.barrier.keyring();
        let to = keyring.names_generation().0;
        match (held.filter(|course| course.to == to), keyring.old_names_generation()) {
            (Some(course), _) => Ok(Some(course)),
            (None, None) => Ok(None),
            (None, Some(from)) => {
                let course = NamesCourse {
                    from: from.0,
                    to,
                    started: self.clock.now(),
                    total: self.barrier.records(),
                    moved: 0,
                    phase: NamesPhase::Move,
                };
                self.write_names(&course).await?;
                Ok(Some(course))
            }
        }
    }

    async fn move_names(&self, course: &NamesCourse) -> Result<Turn, RotationError> {
        let begun = Instant::now();
        let note = |done: &Moved| {
            let phase = if done.is_done { NamesPhase::Erase } else { NamesPhase::Move };
            let moved = course.moved.saturating_add(done.records);
            let mut batch = Batch::default();
            self.records.names.put(&mut batch, NAMES, &NamesCourse { phase, moved, ..*course });
            batch
        };
        let done = self.barrier.move_names(note).await?;
        Ok(Turn::More(self.pause(done.records, begun.elapsed())))
    }

    /// No file holds a record under its old names; then no file holds their secret.
    async fn erase_names(&self, course: &NamesCourse) -> Result<Turn, RotationError> {
        match self.barrier.erase_removed(|_| {}).await {
            Err(EraseError::Compact(CompactError::Running)) => return Ok(Turn::More(WHILE_BUSY)),
            erased => erased?,
        };
        let _one = self.course.lock().await;
        if self.barrier.old_names_are_empty().await? {
            self.change_names(|keyring| Ok(keyring.without_old_names())).await?;
        } else {
            // Put there behind the store's back, since nobody writes there: told if it is damage.
            self.write_names(&NamesCourse { phase: NamesPhase::Move, ..*course }).await?;
        }
        Ok(Turn::More(Duration::ZERO))
    }

    async fn conclude_names(
        &self,
        course: &NamesCourse,
        audit: &Broker,
    ) -> Result<Turn, RotationError> {
        // As in the last step of a rotation of terms: it may have ended before these were written.
        let epoch = self.root.lock().await.epoch();
        self.barrier.raise_min_seal_epoch(epoch).await?;
        self.write_anchors(epoch).await?;
        audit.notice(&Notice::NamesDestroyed { generation: course.from })?;
        let mut batch = Batch::default();
        let destroyed = Destroyed { at: self.clock.now() };
        self.records.old_names.put(&mut batch, &[&course.from.to_string()], &destroyed);
        self.records.names.delete(&mut batch, NAMES);
        self.barrier.commit(batch).await?;
        tracing::info!(generation = course.from, "the old key of names is destroyed");
        Ok(Turn::Idle)
    }

    async fn write_names(&self, course: &NamesCourse) -> Result<(), RotationError> {
        let mut batch = Batch::default();
        self.records.names.put(&mut batch, NAMES, course);
        Ok(self.barrier.commit(batch).await?)
    }

    /// Writes the seal file with another keyring and has names encrypted by it. Whoever waits for
    /// it may go away: what has begun is ended.
    async fn change_names(
        &self,
        change: impl FnOnce(&Keyring) -> Result<Keyring, KeyringError> + Send + 'static,
    ) -> Result<(), RotationError> {
        let (barrier, runtime) = (Arc::clone(&self.barrier), Handle::current());
        let anchors = Arc::clone(&self.anchors);
        let mut root = Arc::clone(&self.root).lock_owned().await;
        tokio::task::spawn_blocking(move || {
            let before = barrier.keyring();
            let keyring = change(&before)?;
            root.rewrite(&keyring, &before)?;
            runtime.block_on(barrier.adopt_names(keyring, root.epoch()))?;
            anchors.write(barrier.position(), root.epoch());
            Ok(())
        })
        .await?
    }
}
