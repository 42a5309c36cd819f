use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Session, TokenDigest};

/// How many sessions are kept, about a kilobyte each.
const CAPACITY: usize = 16_384;

/// Sessions of tokens used lately. All of them become void at once whenever a token is revoked,
/// renewed or used up, or a policy changes, so that the change holds from the next request on.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    generation: AtomicU64,
    kept: RwLock<HashMap<TokenDigest, (Stamp, Arc<Session>)>>,
}

/// When a session was loaded: it holds as long as nothing has changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    tokens: u64,
    policies: u64,
}

impl Sessions {
    /// The stamp for what is loaded from now on: taken before loading, so that a change meanwhile
    /// makes it void.
    pub(super) fn stamp(&self, policies: u64) -> Stamp {
        Stamp { tokens: self.generation.load(Ordering::SeqCst), policies }
    }

    pub(super) fn get(&self, digest: &TokenDigest, now: Stamp) -> Option<Arc<Session>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let (stamp, session) = kept.get(digest)?;
        (*stamp == now).then(|| Arc::clone(session))
    }

    pub(super) fn keep(&self, stamp: Stamp, session: &Arc<Session>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= CAPACITY {
            kept.retain(|_, (other, _)| *other == stamp);
        }
        if kept.len() >= CAPACITY {
            kept.clear();
        }
        kept.insert(session.digest, (stamp, Arc::clone(session)));
    }

    /// Makes every session void when it is dropped, whether the change came about or not.
    pub(super) fn void_afterwards(&self) -> impl Drop {
        Void(self)
    }
}

struct Void<'a>(&'a Sessions);

impl Drop for Void<'_> {
    fn drop(&mut self) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
    }
}
