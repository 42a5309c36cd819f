//! The `sys/` API: mounts, policies, and the vault's own life.
//!
//! - `public.rs`: what answers without a token, sealed or not
//! - `mounts.rs`: enable, list, disable; which mount a path lies in
//! - `auth.rs`: the methods of authentication
//! - `tune.rs`: changing a mount; `remount.rs`: moving it
//! - `policies.rs`: `policies/acl`, and its old spelling `policy`
//! - `quotas.rs`: how often clients may ask
//! - `seal.rs`: sealing
//! - `verify.rs`: verifying the store; `compact.rs`: compacting it
//! - `rotation.rs`: `rotate`, how far it is, when it comes by itself; `key-status`
//! - `slots.rs`: the ways to the root key
//! - `rekey.rs`: another root key

mod auth;
mod compact;
mod mounts;
mod policies;
pub mod public;
mod quotas;
mod rekey;
mod remount;
mod rotation;
mod seal;
mod slots;
mod tune;
mod verify;

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
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
    /// Mounts that were moved, the oldest first.
    moved: Mutex<VecDeque<remount::Moved>>,
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
        Mount::new(place, Self { vault, moved: Mutex::default() })
    }

    fn moved(&self) -> MutexGuard<'_, VecDeque<remount::Moved>> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
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
    slot_routes(Routes::new())
        .on_sudo(Write, "seal", System::seal)
        .on_sudo(Read, "compact", System::compaction)
        .on_sudo(Write, "compact", System::compact)
        .on_sudo(Read, "verify", System::verify_status)
        .on_sudo(Write, "verify", System::verify)
        .on_sudo(Write, "rotate", System::rotate)
        .on_sudo(Write, "rotate/keyring", System::rotate)
        .on_sudo(Write, "rotate/names", System::rotate_names)
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
        .on(Read, "mounts/{*path}/tune", System::tuning)
        .on(Write, "mounts/{*path}/tune", System::tune)
        .on(Read, "auth", System::auth_methods)
        .on(Read, "auth/{*path}", System::auth_method_at)
        .on_sudo(Write, "auth/{*path}", System::enable_auth)
        .on_sudo(Delete, "auth/{*path}", System::disable_auth)
        .on(Read, "auth/{*path}/tune", System::auth_tuning)
        .on_sudo(Write, "remount", System::remount)
        .on(Read, "remount/status/{id}", System::remount_status)
        .on_holder(Read, "internal/ui/mounts", System::visible_mounts)
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
        .on(Read, "quotas/config", System::quota_config)
        .on(Write, "quotas/config", System::write_quota_config)
        .on(List, "quotas/rate-limit/", System::list_quotas)
        .on(Read, "quotas/rate-limit/{name}", System::read_quota)
        .on(Write, "quotas/rate-limit/{name}", System::write_quota)
        .on(Delete, "quotas/rate-limit/{name}", System::delete_quota)
}

fn slot_routes(routes: Routes<System>) -> Routes<System> {
    use Operation::{Delete, Read, Write};
    use rekey::{
        Backup, Begin, Cancel, DropBackup, RestartVerify, Status, Update, Verify, VerifyState,
    };
    routes
        .on_sudo(Read, "slots", System::list_slots)
        .on_sudo(Write, "slots", System::add_slot)
        .on_sudo(Delete, "slots/{id}", System::drop_slot)
        .on_sudo(Read, "rekey/init", System::rekey::<Status>)
        .on_sudo(Write, "rekey/init", System::rekey::<Begin>)
        .on_sudo(Delete, "rekey/init", System::rekey::<Cancel>)
        .on_sudo(Write, "rekey/update", System::rekey::<Update>)
        .on_sudo(Read, "rekey/verify", System::rekey::<VerifyState>)
        .on_sudo(Write, "rekey/verify", System::rekey::<Verify>)
        .on_sudo(Delete, "rekey/verify", System::rekey::<RestartVerify>)
        .on_sudo(Read, "rekey/backup", System::rekey::<Backup>)
        .on_sudo(Delete, "rekey/backup", System::rekey::<DropBackup>)
        .on_sudo(Read, "rekey-recovery-key/init", System::rekey_recovery)
        .on_sudo(Write, "rotate/root", System::rotate_root_alone)
        .on_sudo(Read, "rotate/root/init", System::rotate_root::<Status>)
        .on_sudo(Write, "rotate/root/init", System::rotate_root::<Begin>)
        .on_sudo(Delete, "rotate/root/init", System::rotate_root::<Cancel>)
        .on_sudo(Write, "rotate/root/update", System::rotate_root::<Update>)
        .on_sudo(Read, "rotate/root/verify", System::rotate_root::<VerifyState>)
        .on_sudo(Write, "rotate/root/verify", System::rotate_root::<Verify>)
        .on_sudo(Delete, "rotate/root/verify", System::rotate_root::<RestartVerify>)
        .on_sudo(Read, "rotate/root/backup", System::rotate_root::<Backup>)
        .on_sudo(Delete, "rotate/root/backup", System::rotate_root::<DropBackup>)
}

/// `sys/` is in every store, so its accessor needs no record.
pub const ACCESSOR: &str = "system_00000000";
