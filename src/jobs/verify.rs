use std::sync::{Arc, Weak};

use crate::vault::Vault;

/// Verifies the store of a vault at unseal, then now and then and on command, until the vault is
/// dropped.
pub(super) async fn run(vault: Weak<Vault>) {
    loop {
        let Some(vault) = vault.upgrade() else { return };
        vault.verify_if_due().await;
        let verification = Arc::clone(vault.verification());
        drop(vault);
        verification.asked().await;
    }
}
