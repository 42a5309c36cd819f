use super::{Store, TokenDigest, entry::Sweep};
use crate::barrier::{Batch, CommitError, ReadError};

/// How often a revocation is tried again when its entry changes meanwhile.
const ATTEMPTS: usize = 64;

/// Why a token was not revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// Its records cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The revocation cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// What one sweep came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// How many tokens were taken away or made orphans.
    pub tokens: usize,
    /// There is more to do: the sweep stopped at its limit.
    pub more: bool,
}

impl Store {
    /// Revokes a token, and with it all that are below, from their next use on. One small commit;
    /// what is below is taken away by [`sweep`](Self::sweep). A token that is not there is revoked.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub async fn revoke(&self, digest: TokenDigest) -> Result<(), RevokeError> {
        let _void = self.sessions.void_afterwards();
        self.take_away(digest, Sweep::Revoke).await.map(drop)
    }

    /// Revokes a token alone: its children live on as orphans. `false` when it is not there.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub async fn revoke_orphan(&self, digest: TokenDigest) -> Result<bool, RevokeError> {
        let _void = self.sessions.void_afterwards();
        self.take_away(digest, Sweep::Orphan).await
    }

    /// Takes away up to `limit` tokens that have expired or stand below a revoked one. Called by a
    /// job, again while there is more; whether it runs changes nothing for any caller.
    ///
    /// # Errors
    /// [`RevokeError`]; what was done stays done.
    pub async fn sweep(&self, limit: usize) -> Result<Swept, RevokeError> {
        let expired = self.sweep_expired(limit).await?;
        let left = limit.saturating_sub(expired);
        let orphaned = self.sweep_children(left).await?;
        let tokens = expired + orphaned;
        Ok(Swept { tokens, more: tokens >= limit })
    }

    /// Deletes a token's records in one commit, and notes what is left to do with its children and
    /// its cubbyhole.
    async fn take_away(&self, digest: TokenDigest, children: Sweep) -> Result<bool, RevokeError> {
        let id = digest.segment();
        for _ in 0..ATTEMPTS {
            let Some(held) = self.entries.get(&[&id]).await? else { return Ok(false) };
            let entry = &held.value;
            let mut batch = Batch::default();
            batch.delete_if(self.entries.view(), &[&id], held.unchanged());
            self.accessors.delete(&mut batch, &[&entry.accessor]);
            if let Some(expires) = entry.expires {
                self.deadlines.remove(&mut batch, expires, &id);
            }
            if let Some(parent) = entry.parent {
                batch.delete(&self.children, &[&parent.segment(), &id]);
            }
            self.sweeps.put(&mut batch, &[&id], &children);
            match self.barrier.commit(batch).await {
                Ok(()) => return Ok(true),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CommitError::Conflict.into())
    }

    async fn sweep_expired(&self, limit: usize) -> Result<usize, RevokeError> {
        let now = self.now();
        let due = self.deadlines.due(now, limit).await?;
        for due in &due {
            let entry = self.entries.get(&[&due.id]).await?;
            let digest = TokenDigest::of_segment(&due.id);
            match (entry, digest) {
                (Some(held), Some(digest)) if !held.value.is_live(now) => {
                    self.take_away(digest, Sweep::Revoke).await?;
                }
                // Renewed or revoked since: the deadline alone is left.
                (Some(_) | None, Some(_) | None) => {
                    let mut batch = Batch::default();
                    self.deadlines.remove(&mut batch, due.at, &due.id);
                    self.barrier.commit(batch).await?;
                }
            }
        }
        Ok(due.len())
    }

    async fn sweep_children(&self, limit: usize) -> Result<usize, RevokeError> {
        let mut done = 0;
        while done < limit {
            let Some(parent) = self.sweeps.list(&[], None, 1).await?.pop() else { break };
            let Some(sweep) = self.sweeps.get(&[&parent.name]).await? else { continue };
            let children = self.children.list(&[&parent.name], None, limit - done).await?;
            for child in &children {
                self.sweep_child(&parent.name, &child.name, sweep.value).await?;
            }
            if children.is_empty() {
                self.cubbyholes.remove_all(&[&parent.name]).await?;
                let mut batch = Batch::default();
                self.sweeps.delete(&mut batch, &[&parent.name]);
                self.barrier.commit(batch).await?;
            }
            // A parent without children costs as much as a child.
            done += children.len().max(1);
        }
        Ok(done)
    }

    /// Does with one child what its parent's revocation asks for.
    async fn sweep_child(
        &self,
        parent: &str,
        child: &str,
        sweep: Sweep,
    ) -> Result<(), RevokeError> {
        let digest = TokenDigest::of_segment(child);
        match (sweep, digest) {
            (Sweep::Revoke, Some(digest)) if self.take_away(digest, Sweep::Revoke).await? => Ok(()),
            (Sweep::Orphan, Some(_)) => self.make_orphan(parent, child).await,
            // Gone already: the entry in the parent's folder alone is left.
            (Sweep::Revoke, Some(_)) | (_, None) => {
                let mut batch = Batch::default();
                batch.delete(&self.children, &[parent, child]);
                Ok(self.barrier.commit(batch).await?)
            }
        }
    }

    async fn make_orphan(&self, parent: &str, child: &str) -> Result<(), RevokeError> {
        let _void = self.sessions.void_afterwards();
        for _ in 0..ATTEMPTS {
            let mut batch = Batch::default();
            batch.delete(&self.children, &[parent, child]);
            if let Some(mut held) = self.entries.get(&[child]).await? {
                let expected = held.unchanged();
                held.value.parent = None;
                self.entries.put_if(&mut batch, &[child], &held.value, expected);
            }
            match self.barrier.commit(batch).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CommitError::Conflict.into())
    }
}
