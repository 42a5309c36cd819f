use std::{sync::Weak, time::Duration};

use super::report;
use crate::vault::Vault;

/// Writes the anchors every second in which something has changed.
pub(super) async fn run(vault: Weak<Vault>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(vault) = vault.upgrade() else { return };
        report("anchors", vault.anchor().await);
    }
}

const EVERY: Duration = Duration::from_secs(1);
