use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config::Limits,
    gate::{Head, Operation, Public, Rejection},
};

/// Requests that are worked on at once, over all connections.
///
/// One more is turned away before anything is looked up for it, so that an overloaded server goes
/// on with what it has begun. Probes are always answered: they cost next to nothing, and who looks
/// after an overloaded server must not take it for a dead one.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Semaphore>);

/// A place among them, given back on drop; none for a probe.
#[derive(Debug)]
pub(super) struct Place(Option<OwnedSemaphorePermit>);

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        let all = usize::try_from(limits.requests.get()).unwrap_or(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))))
    }

    /// A place for a request whose head has been read.
    ///
    /// # Errors
    /// [`Rejection::TooBusy`] when all are taken.
    pub(super) fn take(&self, head: &Head) -> Result<Place, Rejection> {
        if is_probe(head) {
            return Ok(Place(None));
        }
        let taken = Arc::clone(&self.0).try_acquire_owned();
        taken.map(|place| Place(Some(place))).map_err(|_| Rejection::TooBusy)
    }

    /// A place for a request that had one and gave it up while its body came: it waits, since work
    /// was done for it and would be done in vain.
    pub(super) async fn take_again(&self) -> Place {
        Place(Arc::clone(&self.0).acquire_owned().await.ok())
    }
}

impl Place {
    /// Gives it up for others.
    pub(super) fn leave(self) {
        drop(self.0);
    }
}

fn is_probe(head: &Head) -> bool {
    head.operation == Operation::Read && Public::at(head.path.as_str()).is_some()
}
