//! KV version 2: secrets with versions, check-and-set, soft delete and destruction.
//!
//! A secret is a JSON object kept as the text it was written in: numbers, key order and Unicode
//! come back byte for byte.
//!
//! - `api.rs`: wire types
//! - `store.rs`: records, and how a secret lies in its mount's space
//! - `data.rs`: write, patch, read, soft delete of the newest version
//! - `versions.rs`: delete, undelete and destroy by number
//! - `metadata.rs`: what is known of a secret beside its values
//! - `tree/`: a secret with its whole history, or a folder, copied, moved and removed
//! - `listing.rs`: names in a folder, and in all below it
//! - `config.rs`: defaults of a mount

mod api;
mod config;
mod data;
mod listing;
mod metadata;
mod store;
mod tree;
mod versions;

use std::sync::LazyLock;

pub(super) use store::{is_mirrored, mirror};

use crate::{
    barrier::{CommitError, MountView},
    clock::Timestamp,
    gate::{ApiError, Boxed, Operation, Probe, RawReply},
    route::{Engine, Routes},
};

/// One mount of the engine. All it has is in its space.
#[derive(Debug, Default)]
pub struct Kv2;

impl Engine for Kv2 {
    const READS_CHANGE_NOTHING: bool = true;

    fn routes() -> &'static Routes<Self> {
        static ROUTES: LazyLock<Routes<Kv2>> = LazyLock::new(routes);
        &ROUTES
    }

    fn exists<'a>(&'a self, probe: &'a Probe<'a>) -> Boxed<'a, Result<bool, ApiError>> {
        Box::pin(async move {
            let Some(path) = probe.path().strip_prefix("data/") else { return Ok(true) };
            store::exists(probe.storage(), path).await
        })
    }
}

fn routes() -> Routes<Kv2> {
    Routes::new()
        .on(Operation::Read, "config", Kv2::read_config)
        .on(Operation::Write, "config", Kv2::write_config)
        .on(Operation::Read, "data/{*path}", Kv2::read)
        .on_create_or_update("data/{*path}", Kv2::write)
        .on(Operation::Patch, "data/{*path}", Kv2::patch)
        .on(Operation::Delete, "data/{*path}", Kv2::delete_newest)
        .on(Operation::Read, "subkeys/{*path}", Kv2::read_subkeys)
        .on(Operation::Write, "delete/{*path}", Kv2::delete_versions)
        .on(Operation::Write, "undelete/{*path}", Kv2::undelete_versions)
        .on(Operation::Write, "destroy/{*path}", Kv2::destroy_versions)
        .on(Operation::Read, "metadata/{*path}", Kv2::read_metadata)
        .on(Operation::Write, "metadata/{*path}", Kv2::write_metadata)
        .on(Operation::Patch, "metadata/{*path}", Kv2::patch_metadata)
        .on(Operation::Delete, "metadata/{*path}", Kv2::delete_metadata)
        .on(Operation::List, "metadata/{*path}", Kv2::list)
        .on(Operation::List, "metadata/", Kv2::list)
        .on(Operation::List, "metadata", Kv2::list)
        .on(Operation::Scan, "metadata/{*path}", Kv2::scan)
        .on(Operation::Scan, "metadata/", Kv2::scan)
        .on(Operation::Scan, "metadata", Kv2::scan)
        .on(Operation::List, "detailed-metadata/{*path}", Kv2::list_detailed)
        .on(Operation::List, "detailed-metadata/", Kv2::list_detailed)
        .on(Operation::List, "detailed-metadata", Kv2::list_detailed)
        .on(Operation::Scan, "detailed-metadata/{*path}", Kv2::scan_detailed)
        .on(Operation::Scan, "detailed-metadata/", Kv2::scan_detailed)
        .on(Operation::Scan, "detailed-metadata", Kv2::scan_detailed)
        .on_holder(Operation::Write, "tree/copy/{*path}", Kv2::copy_tree)
        .on_holder(Operation::Write, "tree/copy/", Kv2::copy_tree)
        .on_holder(Operation::Write, "tree/move/{*path}", Kv2::move_tree)
        .on_holder(Operation::Write, "tree/move/", Kv2::move_tree)
        .on_holder(Operation::Write, "tree/delete/{*path}", Kv2::delete_tree)
        .on_holder(Operation::Write, "tree/delete/", Kv2::delete_tree)
        .on_holder(Operation::Write, "tree/destroy/{*path}", Kv2::destroy_tree)
        .on_holder(Operation::Write, "tree/destroy/", Kv2::destroy_tree)
        .otherwise(wrong_path)
}

/// Removes what work in a mount has left that broke off: values of removed secrets, copies that
/// were not made. What a crash interrupts is done by the next call.
///
/// # Errors
/// What reading or committing fails with.
pub async fn sweep(view: &MountView, now: Timestamp) -> Result<(), CommitError> {
    store::sweep(view).await?;
    tree::sweep(view, now).await
}

/// The commonest mistake is a path without `data/`: say so, in the words that clients print.
fn wrong_path() -> Result<RawReply, ApiError> {
    Ok(RawReply {
        status: Some(404),
        warnings: vec![
            "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate \
             API endpoints to use. If using the Vault CLI, use 'vault kv get' for this operation."
                .to_owned(),
        ],
        ..RawReply::empty()
    })
}
