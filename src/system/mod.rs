//! The `sys/` API: mounts, policies, and the vault's own life.
//!
//! - `public.rs`: what answers without a token, sealed or not
//! - `mounts.rs`: enable, list, disable; which mount a path lies in
//! - `policies.rs`: `policies/acl`, and its old spelling `policy`
//! - `seal.rs`: sealing
//! - `verify.rs`: verifying the store
//! - `rotation.rs`: `rotate`, how far it is, when it comes by itself; `key-status`

mod mounts;
mod policies;
pub mod public;
mod rotation;
mod seal;
mod verify;

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use crate::{
    barrier::SpaceId,
    gate::{ApiError, Operation, Place},
    route::{Engine, Mount, Routes},
    vault::{Unsealed, Vault},
};

/// The wing at `sys/`.
pub struct System {
    vault: Arc<Vault>,
}

impl System {
    /// The wing at its place.
    pub fn mount(vault: Arc<Vault>) -> Mount<Self> {
        let place = Place {
            path: "sys/".to_owned(),
            kind: "system",
            accessor: ACCESSOR.to_owned(),
            class: "secret",
            space: SpaceId::SYSTEM,
        };
        Mount::new(place, Self { vault })
    }

    fn open(&self) -> Result<Arc<Unsealed>, ApiError> {
        self.vault.unsealed().ok_or_else(ApiError::sealed)
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("System")
    }
}

impl Engine for System {
    fn routes() -> &'static Routes<Self> {
        static ROUTES: LazyLock<Routes<System>> = LazyLock::new(routes);
        &ROUTES
    }
}

fn routes() -> Routes<System> {
    use Operation::{Delete, List, Read, Write};
    Routes::new()
        .on_sudo(Write, "seal", System::seal)
        .on_sudo(Read, "verify", System::verify_status)
        .on_sudo(Write, "verify", System::verify)
        .on_sudo(Write, "rotate", System::rotate)
        .on_sudo(Write, "rotate/keyring", System::rotate)
        .on(Read, "rotate/status", System::rotation_status)
        .on(Read, "rotate/config", System::read_schedule)
        .on(Write, "rotate/config", System::write_schedule)
        .on(Read, "rotate/keyring/config", System::read_schedule)
        .on(Write, "rotate/keyring/config", System::write_schedule)
        .on(Read, "key-status", System::key_status)
        .on(Read, "mounts", System::mounts)
        .on(Read, "mounts/{*path}", System::mount_at)
        .on(Write, "mounts/{*path}", System::enable_mount)
        .on(Delete, "mounts/{*path}", System::disable_mount)
        .on_holder(Read, "internal/ui/mounts/{*path}", System::mount_of)
        .on(Read, "policies/acl", System::list_policies)
        .on(List, "policies/acl/", System::list_policies)
        .on(Read, "policies/acl/{name}", System::read_policy)
        .on(Write, "policies/acl/{name}", System::write_policy)
        .on(Delete, "policies/acl/{name}", System::delete_policy)
        .on(Read, "policy", System::list_policies_old)
        .on(List, "policy/", System::list_policies_old)
        .on(Read, "policy/{name}", System::read_policy_old)
        .on(Write, "policy/{name}", System::write_policy_old)
        .on(Delete, "policy/{name}", System::delete_policy)
}

/// `sys/` is in every store, so its accessor needs no record.
pub const ACCESSOR: &str = "system_00000000";
