use std::{sync::Arc, time::Duration};

use super::{
    Entry, LoadError, Session, Store, TtlLimits, Warning,
    ttl::{Asked, granted},
};
use crate::barrier::{Batch, CommitError};

/// How often a renewal is tried again when its entry changes meanwhile.
const ATTEMPTS: usize = 16;

/// A token that was renewed.
#[derive(Debug)]
pub struct Renewed {
    /// Its entry now.
    pub entry: Arc<Entry>,
    /// How long it lives from now on.
    pub ttl: Duration,
    /// What was granted other than it was asked for.
    pub warnings: Vec<Warning>,
}

/// Why a token was not renewed; the texts down to [`Self::PastMax`] are Vault's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// It was revoked, or has expired.
    #[error("token not found")]
    NotFound,
    /// It never expires.
    #[error("invalid lease ID")]
    NeverExpires,
    /// It was made so that it cannot be.
    #[error("lease is not renewable")]
    NotRenewable,
    /// It is as old as it may get.
    #[error("past the max TTL, cannot renew")]
    PastMax,
    /// It cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It cannot be written.
    #[error(transparent)]
    Commit(CommitError),
}

impl Store {
    /// Lets a token live for `increment` from now on, or for what it was given at first when that
    /// is zero; a periodic token for its period.
    ///
    /// # Errors
    /// [`RenewError`].
    pub async fn renew(
        &self,
        session: &Session,
        increment: Duration,
        limits: TtlLimits,
    ) -> Result<Renewed, RenewError> {
        let id = session.digest.segment();
        let _void = self.sessions.void_afterwards();
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let held = self.entries.get(&[&id]).await.map_err(LoadError::from)?;
            let held = held.filter(|held| held.value.is_live(now)).ok_or(RenewError::NotFound)?;
            let expected = held.unchanged();
            let mut entry = held.value;
            let before = entry.expires.ok_or(RenewError::NeverExpires)?;
            if !entry.renewable {
                return Err(RenewError::NotRenewable);
            }
            let asked = Asked {
                ttl: if increment.is_zero() { entry.ttl } else { increment },
                period: entry.period,
                explicit_max: entry.explicit_max_ttl,
                since: entry.created,
            };
            let mut warnings = Vec::new();
            let ttl = granted(asked, limits, now, &mut warnings).or(Err(RenewError::PastMax))?;
            let expires = now.plus(ttl);
            entry.expires = Some(expires);
            entry.last_renewal = Some(now);

            let mut batch = Batch::default();
            self.entries.put_if(&mut batch, &[&id], &entry, expected);
            self.deadlines.remove(&mut batch, before, &id);
            self.deadlines.add(&mut batch, expires, &id);
            match self.barrier.commit(batch).await {
                Ok(()) => return Ok(Renewed { entry: Arc::new(entry), ttl, warnings }),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(RenewError::Commit(error)),
            }
        }
        Err(RenewError::Commit(CommitError::Conflict))
    }
}
