//! Tokens: create, look up by digest, renew, count uses, revoke with children.
//!
//! A token is 256 random bits; what is stored is its keyed hash and an [`Entry`]. It lives as long
//! as its own entry and every one above it: revoking is one small commit, judged at each use of
//! whatever is below, and a sweep takes the descendants away afterwards. Whether a caller may do
//! any of this is the gate's to say.
//!
//! - `entry.rs`: [`Entry`] and the other records; `ttl.rs`: how long a token lives
//! - `create.rs`: [`TokenSpec`]; `renew.rs`; `revoke.rs`: revocation and the sweep
//! - `sessions.rs`: the sessions kept in memory

mod create;
mod entry;
mod renew;
mod revoke;
mod sessions;
mod ttl;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use create::{CreateError, Created, Orphan, SudoNeeded, TokenSpec, display_name};
pub use entry::{Entry, TokenDigest};
pub use renew::{RenewError, Renewed};
pub use revoke::{RevokeError, Swept};
pub use ttl::{TtlLimits, Warning};

use crate::{
    barrier::{Barrier, Batch, Collection, CommitError, MountView, ReadError, SpaceId},
    clock::{Clock, Timestamp},
    lease::Deadlines,
    policy::{self, Acl},
    secret::SecretString,
};
use entry::{Accessed, Sweep};
use sessions::{Sessions, Stamp};

/// How often a use is counted again when other uses of the same token come first.
const ATTEMPTS: usize = 64;

/// All tokens of a vault. Dropped at seal, and with it the sessions.
#[derive(Debug)]
pub struct Store {
    barrier: Arc<Barrier>,
    policies: Arc<policy::Store>,
    clock: Arc<dyn Clock>,
    entries: Collection<Entry>,
    accessors: Collection<Accessed>,
    /// A folder for each token that has children, in it an empty record for each of them.
    children: MountView,
    sweeps: Collection<Sweep>,
    /// A folder for each token that has put something into its cubbyhole.
    cubbyholes: MountView,
    deadlines: Deadlines,
    sessions: Sessions,
}

/// A caller: a token that was live when it was looked up, and what it may do.
#[derive(Debug)]
pub struct Session {
    /// What the token is found by.
    pub digest: TokenDigest,
    /// Its entry.
    pub entry: Arc<Entry>,
    /// What its policies allow.
    pub acl: Arc<Acl>,
    /// When it, or one above it, expires.
    valid_until: Option<Timestamp>,
}

impl Session {
    /// Whether it may do everything.
    pub fn is_root(&self) -> bool {
        self.entry.is_root()
    }

    /// The token's other name.
    pub fn accessor(&self) -> &str {
        &self.entry.accessor
    }

    /// Its name in audit lines.
    pub fn display_name(&self) -> &str {
        &self.entry.display_name
    }

    /// Names of its policies: sorted, lower case.
    pub fn policies(&self) -> &[String] {
        &self.entry.policies
    }

    fn is_valid_at(&self, now: Timestamp) -> bool {
        self.valid_until.is_none_or(|until| now < until)
    }
}

/// What a use of a token came to.
#[derive(Debug)]
pub struct Used {
    /// The caller, with the use counted.
    pub session: Arc<Session>,
    /// It was the last use: the token opens nothing more, and is to be revoked after the answer.
    pub last: bool,
}

/// Why a token cannot be looked up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Its records cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its policies cannot be compiled.
    #[error(transparent)]
    Policy(#[from] policy::LoadError),
}

/// Why a use cannot be counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UseError {
    /// The token cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The count cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Store {
    /// The tokens behind a barrier.
    pub fn new(barrier: Arc<Barrier>, policies: Arc<policy::Store>, clock: Arc<dyn Clock>) -> Self {
        let folder = barrier.view(SpaceId::SYSTEM).under(&["token"]);
        Self {
            entries: Collection::new(folder.under(&["id"])),
            accessors: Collection::new(folder.under(&["accessor"])),
            children: folder.under(&["parent"]),
            sweeps: Collection::new(folder.under(&["sweep"])),
            cubbyholes: barrier.view(SpaceId::CUBBYHOLE),
            deadlines: Deadlines::new(&folder),
            sessions: Sessions::default(),
            barrier,
            policies,
            clock,
        }
    }

    /// Looks a token up; `None` when there is none, or it or one above it is revoked, expired or
    /// used up. Counts no use.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn lookup(&self, token: &SecretString) -> Result<Option<Arc<Session>>, LoadError> {
        self.session(self.digest(token)).await
    }

    /// Looks a token up by its accessor, as [`lookup`](Self::lookup) does.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn lookup_accessor(&self, accessor: &str) -> Result<Option<Arc<Session>>, LoadError> {
        match self.accessors.get(&[accessor]).await {
            Ok(Some(accessed)) => self.session(accessed.value.digest).await,
            // What cannot be a name is nobody's accessor.
            Ok(None) | Err(ReadError::Path(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Up to `limit` accessors that sort after `after`; some may be of tokens that are dead
    /// already.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn accessors(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ReadError> {
        let entries = self.accessors.list(&[], after, limit).await?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    /// Counts one use of a token that has a number of uses; of another one it writes nothing.
    /// `None` when it has been used up or revoked since it was looked up.
    ///
    /// # Errors
    /// [`UseError`].
    pub async fn count_use(&self, session: Arc<Session>) -> Result<Option<Used>, UseError> {
        if session.entry.uses_left.is_none() {
            return Ok(Some(Used { session, last: false }));
        }
        Box::pin(self.write_use(&session)).await
    }

    async fn write_use(&self, session: &Session) -> Result<Option<Used>, UseError> {
        let id = session.digest.segment();
        for _ in 0..ATTEMPTS {
            let held = self.entries.get(&[&id]).await.map_err(LoadError::from)?;
            let Some(held) = held.filter(|held| held.value.is_live(self.now())) else {
                return Ok(None);
            };
            let expected = held.unchanged();
            let mut entry = held.value;
            let Some(left) = entry.uses_left.and_then(|left| left.checked_sub(1)) else {
                return Ok(None);
            };
            entry.uses_left = Some(left);
            let mut batch = Batch::default();
            self.entries.put_if(&mut batch, &[&id], &entry, expected);
            match self.barrier.commit(batch).await {
                Ok(()) => {
                    let (digest, valid_until) = (session.digest, session.valid_until);
                    let (entry, acl) = (Arc::new(entry), Arc::clone(&session.acl));
                    let session = Arc::new(Session { digest, entry, acl, valid_until });
                    return Ok(Some(Used { session, last: left == 0 }));
                }
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CommitError::Conflict.into())
    }

    fn digest(&self, token: &SecretString) -> TokenDigest {
        TokenDigest(token.expose(|token| self.barrier.token_mac().tag(&[token.as_bytes()])))
    }

    /// The session of a digest, kept or loaded.
    async fn session(&self, digest: TokenDigest) -> Result<Option<Arc<Session>>, LoadError> {
        let now = self.now();
        let stamp = self.stamp();
        if let Some(session) = self.sessions.get(&digest, stamp) {
            return Ok(session.is_valid_at(now).then_some(session));
        }
        Box::pin(self.load(digest, stamp, now)).await
    }

    async fn load(
        &self,
        digest: TokenDigest,
        stamp: Stamp,
        now: Timestamp,
    ) -> Result<Option<Arc<Session>>, LoadError> {
        let Some((entry, valid_until)) = self.live(digest, now).await? else { return Ok(None) };
        let acl = self.policies.acl_for(&entry.policies).await?;
        let session = Arc::new(Session { digest, entry: Arc::new(entry), acl, valid_until });
        if session.entry.uses_left.is_none() {
            self.sessions.keep(stamp, &session);
        }
        Ok(Some(session))
    }

    /// The entry of a digest, if it and all above it are live, and until when they are.
    async fn live(
        &self,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<(Entry, Option<Timestamp>)>, ReadError> {
        let held = self.entries.get(&[&digest.segment()]).await?;
        let Some(mut entry) = held.map(|held| held.value).filter(|entry| entry.is_live(now)) else {
            return Ok(None);
        };
        let mut valid_until = entry.expires;
        let mut next = entry.parent;
        while let Some(parent) = next {
            let id = parent.segment();
            let Some(above) = self.entries.get(&[&id]).await? else {
                let left = self.sweeps.get(&[&id]).await?.map(|held| held.value);
                if left != Some(Sweep::Orphan) {
                    return Ok(None);
                }
                // Its children live on, and the sweep has yet to say so in their entries.
                entry.parent = entry.parent.filter(|direct| *direct != parent);
                break;
            };
            if !above.value.is_live(now) {
                return Ok(None);
            }
            valid_until = earlier(valid_until, above.value.expires);
            next = above.value.parent;
        }
        Ok(Some((entry, valid_until)))
    }

    fn stamp(&self) -> Stamp {
        self.sessions.stamp(self.policies.generation())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn policies(&self) -> &policy::Store {
        &self.policies
    }
}

/// The earlier of two ends, of which `None` is no end.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (end, None) | (None, end) => end,
    }
}
