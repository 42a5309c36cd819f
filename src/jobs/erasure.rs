use std::{sync::Weak, time::Duration};

use super::{unsealed, until_sealed};
use crate::{
    barrier::{Barrier, EraseError},
    clock::Timestamp,
    storage::CompactError,
    vault::Vault,
};

/// Erases what is due, until the vault is dropped.
pub(super) async fn run(vault: Weak<Vault>) {
    while let Some(strong) = vault.upgrade() {
        let (now, within) = (strong.clock().now(), strong.background().erase_within);
        drop(strong);
        let pause = match unsealed(&vault) {
            Some(open) => tokio::select! {
                pause = erase(&open.ground.barrier, now, within) => pause,
                // What is due stays marked.
                () = until_sealed(&vault) => PAUSE,
            },
            None => PAUSE,
        };
        tokio::time::sleep(pause).await;
    }
}

/// Erases when two thirds of the time have passed: it must have ended within the last.
async fn erase(barrier: &Barrier, now: Timestamp, within: Duration) -> Duration {
    match barrier.erasure_due().await {
        Ok(Some(since)) if now.since(since) >= within / 3 * 2 => {}
        Ok(_) => return PAUSE,
        Err(error) => {
            tracing::warn!(%error, "cannot read whether something is to be erased");
            return AFTER_ERROR;
        }
    }
    match barrier.erase_removed(|_| {}).await {
        Ok(compacted) => {
            tracing::info!(records = compacted.records, "what was removed is erased");
            PAUSE
        }
        Err(EraseError::Compact(CompactError::Running)) => PAUSE,
        Err(error) => {
            tracing::error!(%error, "what was removed is not erased; it is tried again");
            AFTER_ERROR
        }
    }
}

/// Time between looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Time before an erasure that failed is tried again.
const AFTER_ERROR: Duration = Duration::from_secs(60);
