use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    barrier::{Barrier, EraseError},
    clock::{Clock, Timestamp},
    storage::{Compacted, Progress},
};

/// The compaction that somebody asks for: how far it is, and what the last one came to.
#[derive(Debug, Default)]
pub struct Compaction {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    is_running: bool,
    progress: Option<Progress>,
    last: Option<CompactionEnd>,
}

/// How a compaction ended.
#[derive(Clone, Debug)]
pub struct CompactionEnd {
    /// When.
    pub at: Timestamp,
    /// What it did, or why it did not.
    pub outcome: Result<Compacted, String>,
}

/// What can be told of it at any time.
#[derive(Clone, Debug)]
pub struct CompactionReport {
    /// Whether one runs that was asked for.
    pub is_running: bool,
    /// How far it is.
    pub progress: Option<Progress>,
    /// The last one that ended since the vault was opened.
    pub last: Option<CompactionEnd>,
}

impl Compaction {
    /// Begins one, which also erases what was removed; one that is running is enough.
    pub(crate) fn start(&self, barrier: &Arc<Barrier>, clock: &Arc<dyn Clock>) {
        {
            let mut inner = lock(&self.inner);
            if inner.is_running {
                return;
            }
            (inner.is_running, inner.progress) = (true, None);
        }
        let (barrier, clock) = (Arc::clone(barrier), Arc::clone(clock));
        let (state, heard) = (Arc::clone(&self.inner), Arc::clone(&self.inner));
        tokio::spawn(async move {
            let hear = move |progress| lock(&heard).progress = Some(progress);
            let ended = barrier.erase_removed(hear).await;
            // Sealing waits for whoever holds the keys.
            drop(barrier);
            let outcome = ended.map_err(|error| told(&error));
            let mut inner = lock(&state);
            inner.is_running = false;
            inner.last = Some(CompactionEnd { at: clock.now(), outcome });
        });
    }

    /// How it stands.
    pub fn report(&self) -> CompactionReport {
        let inner = lock(&self.inner);
        CompactionReport {
            is_running: inner.is_running,
            progress: inner.progress.filter(|_| inner.is_running),
            last: inner.last.clone(),
        }
    }
}

/// For whoever asked; the log tells the rest.
fn told(error: &EraseError) -> String {
    tracing::error!(%error, "a compaction that was asked for did not end well");
    error.to_string()
}

/// Locks plain values: nothing is half done in them after a panic.
fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}
