use std::mem;

use super::{
    Kv2,
    api::{ReadInput, ReadOutput, SubkeysInput, SubkeysOutput, VersionOutput, WriteInput},
    config::DEFAULT_MAX_VERSIONS,
    store::{self, Change, Config, Metadata, Version},
};
use crate::{
    clock::Timestamp,
    engines::{
        path::SecretPath,
        value::{RawJson, check_size},
    },
    gate::{ApiError, Permit},
    json,
    route::{Nothing, Reply},
    secret::SecretBytes,
};

impl Kv2 {
    /// `GET data/:path`: a version's value. A deleted or destroyed one is a 404 that still tells
    /// its metadata, as clients expect.
    pub(super) async fn read(
        &self,
        permit: &Permit<'_>,
        input: ReadInput,
    ) -> Result<Reply<ReadOutput>, ApiError> {
        let (metadata, value) = version_shown(permit, &input).await?;
        let status = shown_status(value.as_ref());
        Ok(Reply::of(ReadOutput { data: value.map(RawJson), metadata }).with_status(status))
    }

    /// `GET subkeys/:path`: the keys of a version's value, with `null` for all that is no object.
    /// What is gone is told as by [`Self::read`].
    pub(super) async fn read_subkeys(
        &self,
        permit: &Permit<'_>,
        input: SubkeysInput,
    ) -> Result<Reply<SubkeysOutput>, ApiError> {
        let (metadata, value) = version_shown(permit, &input.secret).await?;
        let status = shown_status(value.as_ref());
        let subkeys =
            value.map(|value| value.expose(|value| skeleton(value, input.depth))).transpose()?;
        Ok(Reply::of(SubkeysOutput { metadata, subkeys }).with_status(status))
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
            let value = input.data.expose(SecretBytes::copy_of);
            Ok(Change::Write { metadata: Box::new(metadata), value: Some(value), answer })
        })
        .await?;
        Ok(Reply::of(output))
    }

    /// `PATCH data/:path`: a new version, the newest one with a merge patch (RFC 7396) applied.
    /// There must be a newest one to patch; one that is gone is a 404 that tells its metadata.
    pub(super) async fn patch(
        &self,
        permit: &Permit<'_>,
        input: WriteInput,
    ) -> Result<Reply<VersionOutput>, ApiError> {
        if input.data.expose(|data| data == b"null") {
            return Err(ApiError::bad_request("no data provided"));
        }
        let config = self.config(permit).await?;
        let now = permit.now();
        store::update_value(permit, &input.path, |held, newest| {
            let mut metadata = held.ok_or_else(ApiError::not_found)?;
            let current = metadata.newest().ok_or_else(ApiError::not_found)?;
            let Some(newest) = newest else {
                let gone = VersionOutput::of(current, metadata.custom.clone());
                return Ok(Change::Nothing(Reply::of(gone).with_status(404)));
            };
            check_cas(input.cas, config.cas_required || metadata.cas_required, metadata.current)?;
            let value = newest.expose(|newest| input.data.expose(|patch| merged(newest, patch)))?;
            let version = add_version(&mut metadata, &config, now);
            let answer = Reply::of(VersionOutput::of(&version, metadata.custom.clone()));
            Ok(Change::Write { metadata: Box::new(metadata), value: Some(value), answer })
        })
        .await
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

/// A version's metadata, and its value unless it is deleted or destroyed.
async fn version_shown(
    permit: &Permit<'_>,
    input: &ReadInput,
) -> Result<(VersionOutput, Option<SecretBytes>), ApiError> {
    let held = store::load(permit.storage(), &input.path).await?.ok_or_else(ApiError::not_found)?;
    let number = input.version.unwrap_or(held.metadata.current);
    let version = held.metadata.version(number).ok_or_else(ApiError::not_found)?;
    let is_gone = version.is_gone(permit.now());
    let output = VersionOutput::of(version, held.metadata.custom.clone());
    if is_gone {
        return Ok((output, None));
    }
    Ok((output, Some(store::value(permit.storage(), held, number).await?)))
}

fn shown_status(value: Option<&SecretBytes>) -> u16 {
    if value.is_some() { 200 } else { 404 }
}

fn merged(newest: &[u8], patch: &[u8]) -> Result<SecretBytes, ApiError> {
    let text = |bytes| str::from_utf8(bytes).map_err(ApiError::internal);
    let mut merged = json::merge_patch(text(newest)?, text(patch)?);
    check_size(merged.len())?;
    Ok(SecretBytes::from_vec(mem::take(&mut *merged).into_bytes()))
}

fn skeleton(value: &[u8], depth: usize) -> Result<RawJson, ApiError> {
    let value = str::from_utf8(value).map_err(ApiError::internal)?;
    let mut skeleton = json::skeleton(value, depth);
    Ok(RawJson(SecretBytes::from_vec(mem::take(&mut *skeleton).into_bytes())))
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
