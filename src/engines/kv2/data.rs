use super::{
    Kv2,
    api::{RawJson, ReadInput, ReadOutput, SecretPath, VersionOutput, WriteInput},
    config::DEFAULT_MAX_VERSIONS,
    store::{self, Change, Config, Metadata, Version},
};
use crate::{
    clock::Timestamp,
    gate::{ApiError, Permit},
    route::{Nothing, Reply},
};

impl Kv2 {
    /// `GET data/:path`: a version's value. A deleted or destroyed one is a 404 that still tells its
    /// metadata, as clients expect.
    pub(super) async fn read(
        &self,
        permit: &Permit<'_>,
        input: ReadInput,
    ) -> Result<Reply<ReadOutput>, ApiError> {
        let held =
            store::load(permit.storage(), &input.path).await?.ok_or_else(ApiError::not_found)?;
        let number = input.version.unwrap_or(held.metadata.current);
        let version = held.metadata.version(number).ok_or_else(ApiError::not_found)?.clone();
        let metadata = VersionOutput::of(&version, held.metadata.custom.clone());
        if version.is_gone(permit.now()) {
            return Ok(Reply::of(ReadOutput { data: None, metadata }).with_status(404));
        }
        let value = store::value(permit.storage(), held, number).await?;
        let value = value.ok_or_else(|| ApiError::internal(ValueMissing { version: number }))?;
        Ok(Reply::of(ReadOutput { data: Some(RawJson(value)), metadata }))
    }

    /// `POST data/:path`: a new version.
    pub(super) async fn write(
        &self,
        permit: &Permit<'_>,
        input: WriteInput,
    ) -> Result<Reply<VersionOutput>, ApiError> {
        let config = self.config(permit).await?;
        let now = permit.now();
        let output = store::update(permit, &input.path, |held| {
            let mut metadata = held.unwrap_or_else(|| Metadata::new(now));
            check_cas(input.cas, config.cas_required || metadata.cas_required, metadata.current)?;
            let version = add_version(&mut metadata, &config, now);
            let answer = VersionOutput::of(&version, metadata.custom.clone());
            let value = input.data.expose(crate::secret::SecretBytes::copy_of);
            Ok(Change::Write { metadata: Box::new(metadata), value: Some(value), answer })
        })
        .await?;
        Ok(Reply::of(output))
    }

    /// `DELETE data/:path`: hides the newest version; absent or hidden already is fine.
    pub(super) async fn delete_newest(
        &self,
        permit: &Permit<'_>,
        SecretPath(path): SecretPath,
    ) -> Result<Reply<Nothing>, ApiError> {
        let now = permit.now();
        store::update(permit, &path, |held| {
            let Some(mut metadata) = held else { return Ok(Change::Nothing(())) };
            let current = metadata.current;
            let Some(version) = metadata.version_mut(current) else {
                return Ok(Change::Nothing(()));
            };
            if version.is_gone(now) {
                return Ok(Change::Nothing(()));
            }
            version.deletion = Some(now);
            metadata.updated = now;
            Ok(Change::Write { metadata: Box::new(metadata), value: None, answer: () })
        })
        .await?;
        Ok(Reply::nothing())
    }
}

fn check_cas(given: Option<i64>, is_required: bool, current: u64) -> Result<(), ApiError> {
    match given {
        None if is_required => {
            Err(ApiError::bad_request("check-and-set parameter required for this call"))
        }
        Some(given) if u64::try_from(given) != Ok(current) => {
            Err(ApiError::bad_request("check-and-set parameter did not match the current version"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Appends a version and drops the oldest ones over the limit.
fn add_version(metadata: &mut Metadata, config: &Config, now: Timestamp) -> Version {
    metadata.current += 1;
    metadata.updated = now;
    let version = Version {
        number: metadata.current,
        created: now,
        deletion: deletion_time(metadata, config, now),
        is_destroyed: false,
    };
    metadata.versions.push(version.clone());
    let limit = [metadata.max_versions, config.max_versions]
        .into_iter()
        .find(|limit| *limit != 0)
        .unwrap_or(DEFAULT_MAX_VERSIONS);
    let excess =
        metadata.versions.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    metadata.versions.drain(..excess);
    if excess > 0
        && let Some(oldest) = metadata.versions.first()
    {
        metadata.oldest = oldest.number;
    }
    version
}

/// When a version written now counts as deleted: after the key's time, capped by the mount's.
fn deletion_time(metadata: &Metadata, config: &Config, now: Timestamp) -> Option<Timestamp> {
    let after = [metadata.delete_version_after, config.delete_version_after]
        .into_iter()
        .filter(|nanos| *nanos != 0)
        .min()?;
    Some(now.plus(std::time::Duration::from_nanos(after)))
}

#[derive(Debug, thiserror::Error)]
#[error("the value of version {version} is missing, though its metadata is there")]
struct ValueMissing {
    version: u64,
}
