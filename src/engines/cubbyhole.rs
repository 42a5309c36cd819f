//! The cubbyhole: secrets that only the token sees that wrote them, and that end with it.
//!
//! Each token has a folder of its digest in the space of the mount; what takes a token away takes
//! its folder away too ([`token::Store`](crate::token::Store)).

use std::sync::LazyLock;

use super::{
    listing::{self, ListInput, ListOutput, Listed},
    path::SecretPath,
    plain,
    value::RawJson,
};
use crate::{
    gate::{ApiError, Operation, Permit},
    route::{Engine, Fields, FromFields, Nothing, Reply, Routes},
    secret::SecretBytes,
};

/// The one mount of the engine, at `cubbyhole/`.
#[derive(Debug, Default)]
pub struct Cubbyhole;

impl Engine for Cubbyhole {
    const READS_CHANGE_NOTHING: bool = true;

    fn routes() -> &'static Routes<Self> {
        static ROUTES: LazyLock<Routes<Cubbyhole>> = LazyLock::new(routes);
        &ROUTES
    }
}

fn routes() -> Routes<Cubbyhole> {
    Routes::new()
        .on(Operation::Read, "", Cubbyhole::read)
        .on(Operation::Write, "", Cubbyhole::write)
        .on(Operation::Delete, "", Cubbyhole::delete)
        .on(Operation::List, "", Cubbyhole::list)
        .on(Operation::Read, "{*path}", Cubbyhole::read)
        .on(Operation::Write, "{*path}", Cubbyhole::write)
        .on(Operation::Delete, "{*path}", Cubbyhole::delete)
        .on(Operation::List, "{*path}", Cubbyhole::list)
}

/// `POST :path`: the whole body is the secret.
struct WriteInput {
    path: String,
    record: SecretBytes,
}

impl FromFields for WriteInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let SecretPath(path) = SecretPath::of_write(fields)?;
        Ok(Self { path, record: plain::record_in(fields)? })
    }
}

impl Cubbyhole {
    /// `GET :path`.
    async fn read(
        &self,
        permit: &Permit<'_>,
        SecretPath(path): SecretPath,
    ) -> Result<Reply<RawJson>, ApiError> {
        let folder = permit.session().digest.segment();
        let place = place(&folder, &path)?;
        let stored = permit.storage().get(&place).await?.ok_or_else(ApiError::not_found)?;
        let text =
            stored.value.expose(|record| plain::text_of(record).map(SecretBytes::copy_of))?;
        Ok(Reply::of(RawJson(text)))
    }

    /// `POST :path`.
    async fn write(
        &self,
        permit: &Permit<'_>,
        input: WriteInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let folder = permit.session().digest.segment();
        let place = place(&folder, &input.path)?;
        plain::replace(permit, &place, Some(&input.record), None).await?;
        Ok(Reply::nothing())
    }

    /// `DELETE :path`; absent is fine.
    async fn delete(
        &self,
        permit: &Permit<'_>,
        SecretPath(path): SecretPath,
    ) -> Result<Reply<Nothing>, ApiError> {
        let folder = permit.session().digest.segment();
        let place = place(&folder, &path)?;
        plain::replace(permit, &place, None, None).await?;
        Ok(Reply::nothing())
    }

    /// `LIST :path`: names in a folder, folders with a slash.
    async fn list(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<ListOutput<Listed>>, ApiError> {
        let folder = permit.session().digest.segment();
        let keys = listing::names_in(permit.storage(), &folder, &input).await?;
        Ok(Reply::of(ListOutput { keys }))
    }
}

/// Where a secret of a token lies.
fn place<'a>(folder: &'a str, path: &'a str) -> Result<Vec<&'a str>, ApiError> {
    if path.is_empty() {
        return Err(ApiError::bad_request("missing path"));
    }
    if path.ends_with('/') {
        return Err(ApiError::not_found());
    }
    Ok(std::iter::once(folder).chain(path.split('/')).collect())
}
