use tokio::sync::{RwLock, RwLockReadGuard};

use crate::gate::ApiError;

/// Where a mount stands on its way to version 2. One for each mount, whatever is rebuilt over it.
///
/// Each request holds the stage that it met until it is answered, so that none of an earlier stage
/// is under way once the next one has begun.
#[derive(Debug)]
pub struct Switch(RwLock<Stage>);

/// A stage of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Version 1 alone.
    Alone,
    /// Each write is written for version 2 too.
    Mirrored,
    /// Version 2 has taken over: requests that still came here are to come again.
    Over,
}

impl Switch {
    /// A switch at a stage.
    pub fn at(stage: Stage) -> Self {
        Self(RwLock::new(stage))
    }

    /// Waits for the requests under way and begins a stage, by what `change` does meanwhile. When
    /// that fails the stage stays.
    ///
    /// # Errors
    /// What `change` fails with.
    pub async fn turn<T, E>(
        &self,
        stage: Stage,
        change: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut now = self.0.write().await;
        let done = change.await?;
        *now = stage;
        Ok(done)
    }

    /// The stage for one request, which keeps it from ending.
    ///
    /// # Errors
    /// 400 when version 2 has taken over, in the words that clients wait at.
    pub(super) async fn enter(&self) -> Result<RwLockReadGuard<'_, Stage>, ApiError> {
        let stage = self.0.read().await;
        match *stage {
            Stage::Alone | Stage::Mirrored => Ok(stage),
            Stage::Over => Err(ApiError::bad_request(
                "Upgrading from non-versioned to versioned data. This backend will be unavailable \
                 for a brief period and will resume service shortly.",
            )),
        }
    }
}
