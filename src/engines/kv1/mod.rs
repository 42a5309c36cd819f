//! KV version 1: secrets without versions. A write replaces what was there.
//!
//! A secret is the JSON object of the request, kept as the text it was written in.
//!
//! - `api.rs`: wire types
//! - `switch.rs`: on the way to version 2

mod api;
mod switch;

use std::sync::{Arc, LazyLock};

use api::{WriteInput, lease_of};
pub use switch::{Stage, Switch};

use super::{
    listing::{self, ListInput, ListOutput, Listed},
    path::SecretPath,
    plain,
    value::RawJson,
};
use crate::{
    barrier::{Batch, Expected, MountView},
    gate::{ApiError, Boxed, Operation, Permit, Probe},
    route::{Engine, Nothing, Reply, Routes},
    secret::SecretBytes,
};

/// One mount of the engine.
#[derive(Debug)]
pub struct Kv1 {
    /// In seconds; 0 for the server's.
    default_lease: u64,
    switch: Arc<Switch>,
}

impl Kv1 {
    /// A mount whose readers look again after so many seconds, 0 for the server's default, when a
    /// secret does not say otherwise.
    pub fn new(default_lease: u64, switch: Arc<Switch>) -> Self {
        Self { default_lease, switch }
    }
}

impl Engine for Kv1 {
    const READS_CHANGE_NOTHING: bool = true;

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
pub(super) const SECRETS: &str = "secrets";

/// Largest record that is written for both versions: a commit carries 1.5 MiB.
const MOST_MIRRORED_BYTES: usize = 640 * 1024;

impl Kv1 {
    /// `GET :path`: the secret, and as `lease_duration` after how many seconds to look again.
    async fn read(
        &self,
        permit: &Permit<'_>,
        SecretPath(path): SecretPath,
    ) -> Result<Reply<RawJson>, ApiError> {
        let _stage = self.switch.enter().await?;
        let place = place(&path).ok_or_else(ApiError::not_found)?;
        let stored = permit.storage().get(&place).await?.ok_or_else(ApiError::not_found)?;
        let default = match self.default_lease {
            0 => permit.ttl().default.as_secs(),
            seconds => seconds,
        };
        let (value, lease) = stored.value.expose(|record| {
            plain::text_of(record).map(|text| (SecretBytes::copy_of(text), lease_of(text)))
        })?;
        Ok(Reply::of(RawJson(value)).with_lease_duration(lease.unwrap_or(default)))
    }

    /// `POST :path`: writes the secret; what was there is erased.
    async fn write(
        &self,
        permit: &Permit<'_>,
        input: WriteInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let place = place(&input.path).ok_or_else(|| ApiError::bad_request("missing path"))?;
        let stage = self.switch.enter().await?;
        if *stage == Stage::Mirrored && input.record.len() > MOST_MIRRORED_BYTES {
            return Err(ApiError::new(
                503,
                "a secret of this size cannot be written while the mount is upgraded; try again",
            ));
        }
        let mirrored = (*stage == Stage::Mirrored).then_some(input.path.as_str());
        plain::replace(permit, &place, Some(&input.record), mirrored).await?;
        Ok(Reply::nothing())
    }

    /// `DELETE :path`: erases the secret; absent is fine.
    async fn delete(
        &self,
        permit: &Permit<'_>,
        SecretPath(path): SecretPath,
    ) -> Result<Reply<Nothing>, ApiError> {
        let stage = self.switch.enter().await?;
        let Some(place) = place(&path) else { return Ok(Reply::nothing()) };
        let mirrored = (*stage == Stage::Mirrored).then_some(path.as_str());
        plain::replace(permit, &place, None, mirrored).await?;
        Ok(Reply::nothing())
    }

    /// `LIST :path`: names in a folder, folders with a slash.
    async fn list(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<ListOutput<Listed>>, ApiError> {
        let _stage = self.switch.enter().await?;
        let keys = listing::names_in(permit.storage(), SECRETS, &input).await?;
        Ok(Reply::of(ListOutput { keys }))
    }

    /// `SCAN :path`: the secrets in a folder and in all folders below it.
    async fn scan(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<ListOutput>, ApiError> {
        let _stage = self.switch.enter().await?;
        let keys = listing::secrets_below(permit.storage(), SECRETS, &input).await?;
        Ok(Reply::of(ListOutput { keys }))
    }
}

/// The JSON text of the secret at `path`, with the batch held to its not changing; None when there
/// is none.
pub(super) async fn expect_unchanged(
    batch: &mut Batch,
    view: &MountView,
    path: &str,
) -> Result<Option<SecretBytes>, ApiError> {
    let Some(place) = place(path) else { return Ok(None) };
    let Some(stored) = view.get(&place).await? else { return Ok(None) };
    batch.expect(view, &place, Expected::Header(stored.header));
    stored
        .value
        .expose(|record| plain::text_of(record).map(|text| Some(SecretBytes::copy_of(text))))
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
