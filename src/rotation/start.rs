use std::{collections::BTreeSet, sync::Arc};

use super::{
    Rotation, RotationError,
    records::{COURSE, Course, Phase},
};
use crate::barrier::{Batch, Keyring, TermId};

impl Rotation {
    /// Makes a new term and has everything sealed under it from now on; the rest follows in turns.
    /// While old terms are still retiring they are joined by the one that was active.
    ///
    /// # Errors
    /// [`RotationError`]; a term that was made and is not active yet becomes so in the next turn.
    pub async fn start(&self) -> Result<TermId, RotationError> {
        let _one = self.course.lock().await;
        let id = self.make_pending().await?;
        self.activate(id).await?;
        self.call();
        Ok(id)
    }

    /// Step 1: the seal file holds a pending term.
    async fn make_pending(&self) -> Result<TermId, RotationError> {
        if let Some(pending) = self.barrier.keyring().pending() {
            return Ok(pending.id);
        }
        let now = self.clock.now();
        self.change_keyring(move |keyring| keyring.with_pending(now)).await
    }

    /// Step 2: the head lists it, and nothing is written under another one any more.
    pub(super) async fn activate(&self, id: TermId) -> Result<(), RotationError> {
        let keyring = self.barrier.keyring();
        let before = self.records.courses.get(COURSE).await?;
        // Terms of a rotation that has come to its last step, and is not told yet, are told by
        // this.
        let told = before.map_or_else(Vec::new, |held| held.value.from);
        let told = told.into_iter().map(TermId);
        let going = keyring.retiring().into_iter().chain([keyring.active()]).map(|term| term.id);
        let from: BTreeSet<_> = told.chain(going).collect();
        let course = self.course_of(id, from);
        let mut batch = Batch::default();
        self.reserve_first(id, &mut batch);
        self.records.courses.put(&mut batch, COURSE, &course);
        // Nobody changes the keyring on the ground of what it was before.
        let _keyring = self.root.lock().await;
        self.barrier.activate(id, batch).await?;
        tracing::info!(term = id.0, "a new term seals");
        Ok(())
    }

    pub(super) fn course_of(&self, to: TermId, from: BTreeSet<TermId>) -> Course {
        Course {
            to: to.0,
            started: self.clock.now(),
            total: from.iter().map(|id| self.barrier.records_under(*id).0).sum(),
            from: from.into_iter().map(|id| id.0).collect(),
            phase: Phase::Rewrap(None),
        }
    }

    /// Writes the seal file with another keyring, takes that into use and names it in the anchors.
    /// Whoever waits for it may go away: what has begun is ended.
    pub(super) async fn change_keyring<R: Send + 'static>(
        &self,
        change: impl FnOnce(&Keyring) -> Result<(Keyring, R), super::KeyringError> + Send + 'static,
    ) -> Result<R, RotationError> {
        let barrier = Arc::clone(&self.barrier);
        let mut root = Arc::clone(&self.root).lock_owned().await;
        let anchors = Arc::clone(&self.anchors);
        tokio::task::spawn_blocking(move || {
            let before = barrier.keyring();
            let (keyring, answer) = change(&before)?;
            barrier.check_adoption(&keyring)?;
            root.rewrite(&keyring, &before)?;
            barrier.adopt(keyring)?;
            anchors.write(barrier.position(), root.epoch());
            Ok(answer)
        })
        .await?
    }
}
