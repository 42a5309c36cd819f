use std::{sync::Weak, time::Duration};

use super::{report, unsealed, until_sealed};
use crate::vault::Vault;

/// Goes on with upgrades of mounts that a call has not waited for, or a seal has interrupted, until
/// the vault is dropped.
pub(super) async fn run(vault: Weak<Vault>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let Some(strong) = vault.upgrade() else { return };
        let now = strong.clock().now();
        drop(strong);
        let Some(open) = unsealed(&vault) else { continue };
        tokio::select! {
            done = open.mounts.upgrade(now, AT_ONCE) => report("upgrades of mounts", done),
            // What is copied stays copied.
            () = until_sealed(&vault) => {}
        }
    }
}

/// Time between looks.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest time for all of them before the next look.
const AT_ONCE: Duration = Duration::from_secs(3_600);
