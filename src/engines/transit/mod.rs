//! Transit: encryption, signatures and HMACs for those who keep the data themselves. Keys do not
//! leave it, unless they were made to.
//!
//! The type of a key and the version that is used come from the key, never from what a caller
//! sends; a caller's nonce is never used; and every ciphertext that does not open is refused in one
//! text. Formats are those of FORMAT.md 12.
//!
//! - `kind.rs`: the types of keys, and what each can do
//! - `record.rs`: what is stored
//! - `key.rs`: a key in use, and which of its versions may do what
//! - `keys/`: the keys of a mount in memory, and how one is changed
//! - `uses.rs`: how often a version was used, and how often it may be
//! - `material.rs`: new key material, and pairs
//! - `locker.rs`: encryption with symmetric keys
//! - `ciphertext.rs`, `encoding.rs`, `items.rs`: texts, base64 and batches on the wire
//! - `manage/`: `keys/`
//! - `encrypt.rs`: `encrypt/`, `decrypt/`, `rewrap/`, `datakey/`, `describe/`
//! - `sign.rs`: `sign/`, `verify/`
//! - `digest.rs`: `hash/`, `random/`
//! - `mac.rs`: `hmac/`
//! - `export.rs`: `export/`, `byok-export/`
//! - `wrapping.rs`: `wrapping_key`, `keys/:name/import`
//! - `backup/`: `backup/`, `restore/`
//! - `config.rs`: `config/keys`, `cache-config`

mod backup;
mod ciphertext;
mod config;
mod digest;
mod encoding;
mod encrypt;
mod export;
mod items;
mod key;
mod keys;
mod kind;
mod locker;
mod mac;
mod manage;
mod material;
mod record;
mod sign;
mod uses;
mod wrapping;

use std::sync::{Arc, LazyLock};

pub use keys::Keys;

use crate::{
    barrier::MountView,
    clock::Timestamp,
    gate::{ApiError, BODY_BYTES, Boxed, Operation, Probe},
    route::{Engine, Routes},
};

/// One mount of the engine.
#[derive(Debug)]
pub struct Transit {
    keys: Arc<Keys>,
}

impl Transit {
    /// A wing over the keys of its mount, which outlive it.
    pub fn new(keys: Arc<Keys>) -> Self {
        Self { keys }
    }

    /// What is done in the background: new versions of keys whose time has come, uses written down,
    /// what removals have left.
    ///
    /// # Errors
    /// What reading or committing fails with.
    pub async fn sweep(&self, view: &MountView, now: Timestamp) -> Result<(), ApiError> {
        // What one of them cannot do keeps none of the others from being done.
        let rotated = self.rotate_due(view, now).await;
        let written = self.keys.write_uses(view).await;
        let swept = self.keys.sweep(view).await;
        rotated.and(written).and(swept)
    }

    /// Writes down how often keys were used.
    ///
    /// # Errors
    /// What reading or committing fails with.
    pub async fn settle(&self, view: &MountView) -> Result<(), ApiError> {
        self.keys.write_uses(view).await
    }
}

impl Engine for Transit {
    fn routes() -> &'static Routes<Self> {
        static ROUTES: LazyLock<Routes<Transit>> = LazyLock::new(routes);
        &ROUTES
    }

    fn body_limit(path: &str) -> usize {
        match path.starts_with("restore") {
            true => BACKUP_BYTES,
            false => BODY_BYTES,
        }
    }

    fn exists<'a>(&'a self, probe: &'a Probe<'a>) -> Boxed<'a, Result<bool, ApiError>> {
        Box::pin(async move {
            let name = probe.path().strip_prefix("encrypt/").filter(|name| !name.is_empty());
            let Some(name) = name else { return Ok(true) };
            self.keys.contains(probe.storage(), name).await
        })
    }
}

/// A backup has each version twice: of `rsa-4096` there are some 2,000 in it.
const BACKUP_BYTES: usize = 32 * 1024 * 1024;

fn routes() -> Routes<Transit> {
    let routes = Routes::new()
        .on(Operation::List, "keys", Transit::list)
        .on(Operation::List, "keys/", Transit::list)
        .on(Operation::Read, "keys/{name}", Transit::read)
        .on(Operation::Write, "keys/{name}", Transit::create)
        .on(Operation::Delete, "keys/{name}", Transit::delete)
        .on(Operation::Write, "keys/{name}/config", Transit::configure)
        .on(Operation::Write, "keys/{name}/rotate", Transit::rotate)
        .on(Operation::Write, "keys/{name}/trim", Transit::trim)
        .on(Operation::Delete, "keys/{name}/soft-delete", Transit::soft_delete)
        .on(Operation::Write, "keys/{name}/soft-delete-restore", Transit::take_back)
        .on(Operation::Read, "keys/{name}/usage", Transit::usage);
    let routes = routes
        .on_create_or_update("encrypt/", Transit::encrypt)
        .on_create_or_update("encrypt/{name}", Transit::encrypt)
        .on(Operation::Write, "decrypt/{name}", Transit::decrypt)
        .on(Operation::Write, "rewrap/{name}", Transit::rewrap)
        .on(Operation::Write, "datakey/{kind}/{name}", Transit::datakey)
        .on(Operation::Write, "describe/{name}", Transit::describe)
        .on(Operation::Write, "sign/{name}", Transit::sign)
        .on(Operation::Write, "sign/{name}/{algorithm}", Transit::sign)
        .on(Operation::Write, "verify/{name}", Transit::verify)
        .on(Operation::Write, "verify/{name}/{algorithm}", Transit::verify)
        .on(Operation::Write, "hmac/{name}", Transit::hmac)
        .on(Operation::Write, "hmac/{name}/{algorithm}", Transit::hmac);
    let routes = routes
        .on(Operation::Read, "export/{part}/{name}", Transit::export)
        .on(Operation::Read, "export/{part}/{name}/{version}", Transit::export)
        .on(Operation::Read, "byok-export/{destination}/{source}", Transit::export_wrapped)
        .on(
            Operation::Read,
            "byok-export/{destination}/{source}/{version}",
            Transit::export_wrapped,
        )
        .on(Operation::Read, "wrapping_key", Transit::wrapping_key)
        .on(Operation::Write, "keys/{name}/import", Transit::import)
        .on(Operation::Write, "keys/{name}/import_version", Transit::import_version)
        .on(Operation::Read, "backup/{name}", Transit::backup)
        .on(Operation::Write, "restore", Transit::restore)
        .on(Operation::Write, "restore/{*name}", Transit::restore);
    routes
        .on(Operation::Write, "hash", Transit::hash)
        .on(Operation::Write, "hash/{algorithm}", Transit::hash)
        .on(Operation::Write, "random", Transit::random)
        .on(Operation::Write, "random/{first}", Transit::random)
        .on(Operation::Write, "random/{first}/{bytes}", Transit::random)
        .on(Operation::Read, "config/keys", Transit::read_config)
        .on(Operation::Write, "config/keys", Transit::write_config)
        .on(Operation::Read, "cache-config", Transit::read_cache)
        .on(Operation::Write, "cache-config", Transit::write_cache)
}
