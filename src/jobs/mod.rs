//! Work in the background of an open vault: ended tokens, what revocations and removed mounts
//! leave.
//!
//! Every job is resumable and bounded: what a seal or a crash interrupts is done by a later round.
//! Nothing depends on a job for its truth; a token whose time is over is refused without one.
//!
//! - `anchors.rs`: where the store stands, kept elsewhere
//! - `erasure.rs`: what was removed leaves every file
//! - `rotation.rs`: rotations, a turn after the other
//! - `upgrades.rs`: mounts on their way to another version
//! - `verify.rs`: the whole store, record by record

mod anchors;
mod erasure;
mod rotation;
mod upgrades;
mod verify;

use std::{
    error::Error,
    sync::{Arc, Weak},
    time::Duration,
};

use crate::vault::{Unsealed, Vault};

/// Runs the jobs until the vault is dropped.
pub async fn run(vault: Weak<Vault>) {
    tokio::join!(
        verify::run(Weak::clone(&vault)),
        rotation::run(Weak::clone(&vault)),
        anchors::run(Weak::clone(&vault)),
        erasure::run(Weak::clone(&vault)),
        upgrades::run(Weak::clone(&vault)),
        rounds(vault),
    );
}

async fn rounds(vault: Weak<Vault>) {
    loop {
        tokio::time::sleep(ROUND).await;
        let Some(vault) = vault.upgrade() else { return };
        vault.expire_shares();
        if let Some(open) = vault.unsealed() {
            round(&open).await;
        }
    }
}

/// One round: a bounded share of each job.
pub async fn round(open: &Arc<Unsealed>) {
    report("ended tokens", open.ground.tokens.sweep(SHARE).await);
    let now = open.ground.clock.now();
    report("removed mounts", open.mounts.sweep(now).await);
}

/// The open vault, while it is one. To be held for no longer than a piece of work takes.
fn unsealed(vault: &Weak<Vault>) -> Option<Arc<Unsealed>> {
    vault.upgrade()?.unsealed()
}

/// Comes back when the vault is sealed or gone.
async fn until_sealed(vault: &Weak<Vault>) {
    while unsealed(vault).is_some() {
        tokio::time::sleep(LOOK).await;
    }
}

fn report<T, E: Error>(job: &str, done: Result<T, E>) {
    if let Err(error) = done {
        tracing::warn!(job, %error, "a background job did not finish; it is tried again");
    }
}

/// How often it is looked whether there is something to do, or the vault is sealed.
const LOOK: Duration = Duration::from_millis(100);
/// Time between rounds.
const ROUND: Duration = Duration::from_secs(10);
/// Most things that one job does in a round.
const SHARE: usize = 1_000;
