use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Vault;
use crate::gate::ApiError;

/// Passphrases that requests have stretched at once, those included that wait for their turn.
///
/// [`argon2id`](crate::crypto::kdf::argon2id) lets two at the memory; here is what keeps a crowd
/// from waiting for them, each on a thread of its own. One more is told to come again.
#[derive(Debug)]
pub(super) struct Stretching(Arc<Semaphore>);

/// A place among them, until it is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// There is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passphrases are being tried at once; try again")]
pub struct Crowded;

impl Default for Stretching {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PLACES)))
    }
}

impl Vault {
    /// A place for a request that has a passphrase stretched.
    ///
    /// # Errors
    /// [`Crowded`].
    pub fn stretching(&self) -> Result<Place, Crowded> {
        let places = Arc::clone(&self.stretching.0);
        places.try_acquire_owned().map(Place).map_err(|_| Crowded)
    }
}

impl From<Crowded> for ApiError {
    fn from(crowded: Crowded) -> Self {
        Self::new(429, crowded.to_string())
    }
}

/// At half a second each, the last one waits for a second.
const PLACES: usize = 4;
