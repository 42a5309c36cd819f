//! KV version 1: secrets without versions. A write replaces what was there.
//!
//! A secret is the JSON object of the request, kept as the text it was written in.
//!
//! - `api.rs`: wire types

mod api;

use std::sync::LazyLock;

use api::{WriteInput, lease_of};

use super::{
    TRIES,
    listing::{self, ListInput, ListOutput},
    path::SecretPath,
    too_many_writes,
    value::RawJson,
};
use crate::{
    barrier::{Batch, CommitError, Expected, MountView},
    gate::{ApiError, Boxed, Operation, Permit, Probe},
    route::{Engine, Nothing, Reply, Routes},
    secret::SecretBytes,
};

/// One mount of the engine.
#[derive(Debug)]
pub struct Kv1 {
    /// In seconds; 0 for the server's.
    default_lease: u64,
}

impl Kv1 {
    /// A mount whose readers look again after so many seconds, 0 for the server's default, when a secret
    /// does not say otherwise.
    pub fn new(default_lease: u64) -> Self {
        Self { default_lease }
    }
}

impl Engine for Kv1 {
    fn routes() -> &'static Routes<Self> {
        static ROUTES: LazyLock<Routes<Kv1>> = LazyLock::new(routes);
        &ROUTES
    }

    fn exists<'a>(&'a self, probe: &'a Probe<'a>) -> Boxed<'a, Result<bool, ApiError>> {
        Box::pin(exists(probe.storage(), probe.path()))
    }
}

fn routes() -> Routes<Kv1> {
    Routes::new()
        .on(Operation::Read, "", Kv1::read)
        .on(Operation::Write, "", Kv1::write)
        .on(Operation::Delete, "", Kv1::delete)
        .on(Operation::List, "", Kv1::list)
        .on(Operation::Scan, "", Kv1::scan)
        .on(Operation::Read, "{*path}", Kv1::read)
        .on_create_or_update("{*path}", Kv1::write)
        .on(Operation::Delete, "{*path}", Kv1::delete)
        .on(Operation::List, "{*path}", Kv1::list)
        .on(Operation::Scan, "{*path}", Kv1::scan)
}

/// The folder in which all secrets lie.
const SECRETS: &str = "secrets";

/// First byte of a record: the layout `version || JSON text`.
const RECORD_VERSION: u8 = 1;

impl Kv1 {
    /// `GET :path`: the secret, and as `lease_duration` after how many seconds to look again.
    async fn read(
        &self,
        permit: &Permit<'_>,
        SecretPath(path): SecretPath,
    ) -> Result<Reply<RawJson>, ApiError> {
        let place = place(&path).ok_or_else(ApiError::not_found)?;
        let stored = permit.storage().get(&place).await?.ok_or_else(ApiError::not_found)?;
        let default = match self.default_lease {
            0 => permit.ttl().default.as_secs(),
            seconds => seconds,
        };
        let (value, lease) = stored
            .value
            .expose(|record| {
                let text = record.strip_prefix(&[RECORD_VERSION])?;
                Some((SecretBytes::copy_of(text), lease_of(text)))
            })
            .ok_or_else(|| ApiError::internal(Malformed))?;
        Ok(Reply::of(RawJson(value)).with_lease_duration(lease.unwrap_or(default)))
    }

    /// `POST :path`: writes the secret; what was there is erased.
    async fn write(
        &self,
        permit: &Permit<'_>,
        input: WriteInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let view = permit.storage();
        let place = place(&input.path).ok_or_else(|| ApiError::bad_request("missing path"))?;
        for _ in 0..TRIES {
            let mut batch = Batch::default();
            // What comes in between is replaced too, and so is to be erased: none may be taken for absent.
            if view.contains(&place).await? {
                input.record.expose(|record| batch.put(view, &place, record));
                batch.erases();
            } else {
                input.record.expose(|record| batch.put_if(view, &place, record, Expected::Absent));
            }
            if is_committed(permit, batch).await? {
                return Ok(Reply::nothing());
            }
        }
        Err(too_many_writes())
    }

    /// `DELETE :path`: erases the secret; absent is fine.
    async fn delete(
        &self,
        permit: &Permit<'_>,
        SecretPath(path): SecretPath,
    ) -> Result<Reply<Nothing>, ApiError> {
        let view = permit.storage();
        let Some(place) = place(&path) else { return Ok(Reply::nothing()) };
        for _ in 0..TRIES {
            if !view.contains(&place).await? {
                return Ok(Reply::nothing());
            }
            let mut batch = Batch::default();
            batch.delete(view, &place);
            batch.erases();
            if is_committed(permit, batch).await? {
                return Ok(Reply::nothing());
            }
        }
        Err(too_many_writes())
    }

    /// `LIST :path`: names in a folder, folders with a slash.
    async fn list(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<ListOutput>, ApiError> {
        let keys = listing::names_in(permit.storage(), SECRETS, &input).await?;
        Ok(Reply::of(ListOutput { keys }))
    }

    /// `SCAN :path`: the secrets in a folder and in all folders below it.
    async fn scan(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<ListOutput>, ApiError> {
        let keys = listing::secrets_below(permit.storage(), SECRETS, &input).await?;
        Ok(Reply::of(ListOutput { keys }))
    }
}

/// Commits a batch; false when another write has come between.
async fn is_committed(permit: &Permit<'_>, batch: Batch) -> Result<bool, ApiError> {
    match permit.commit(batch).await {
        Ok(()) => Ok(true),
        Err(CommitError::Conflict) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The record of a secret of this JSON text.
fn record_of(text: &[u8]) -> SecretBytes {
    let mut record = Vec::with_capacity(1 + text.len());
    record.push(RECORD_VERSION);
    record.extend_from_slice(text);
    SecretBytes::from_vec(record)
}

async fn exists(view: &MountView, path: &str) -> Result<bool, ApiError> {
    match place(path) {
        Some(place) => Ok(view.contains(&place).await?),
        None => Ok(false),
    }
}

/// Where a secret lies; none is at the mount's root or at a path that ends in a slash.
fn place(path: &str) -> Option<Vec<&str>> {
    let is_leaf = !path.is_empty() && !path.ends_with('/');
    is_leaf.then(|| std::iter::once(SECRETS).chain(path.split('/')).collect())
}

#[derive(Debug, thiserror::Error)]
#[error("the record of a secret is malformed")]
struct Malformed;
