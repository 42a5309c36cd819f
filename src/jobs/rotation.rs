use std::{sync::Weak, time::Duration};

use super::{LOOK, unsealed, until_sealed};
use crate::{
    rotation::Turn,
    vault::{Unsealed, Vault},
};

/// Takes the turns of rotations until the vault is dropped.
pub(super) async fn run(vault: Weak<Vault>) {
    while vault.strong_count() > 0 {
        let pause = match unsealed(&vault) {
            // Sealing waits for nobody: what a turn leaves half done is taken up after unsealing.
            Some(open) => tokio::select! {
                pause = turn(&open) => pause,
                () = until_sealed(&vault) => Duration::ZERO,
            },
            None => LOOK,
        };
        wait(&vault, pause).await;
    }
}

async fn turn(open: &Unsealed) -> Duration {
    match open.rotation.turn(&open.ground.audit).await {
        Ok(Turn::More(pause)) => pause,
        Ok(Turn::Idle) => IDLE,
        Err(error) => {
            tracing::error!(%error, "a rotation does not go on; it is tried again");
            AFTER_ERROR
        }
    }
}

/// Pauses, a long pause only until there is something to do.
async fn wait(vault: &Weak<Vault>, pause: Duration) {
    let mut left = pause;
    while !left.is_zero() {
        let part = left.min(LOOK);
        tokio::time::sleep(part).await;
        left = left.saturating_sub(part);
        if unsealed(vault).is_none_or(|open| open.rotation.is_called()) {
            return;
        }
    }
}

/// Time between turns when there is nothing to do.
const IDLE: Duration = Duration::from_secs(1);
/// Time before a turn that failed is tried again.
const AFTER_ERROR: Duration = Duration::from_secs(30);
