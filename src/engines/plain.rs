//! Secrets that are one record each: the JSON text behind a version byte. A write replaces what was
//! there, and what was there is erased.

use crate::{
    barrier::{Batch, CommitError, Expected, MountView},
    gate::{ApiError, Permit},
    route::Fields,
    secret::SecretBytes,
};

/// First byte of a record: the layout `version || JSON text`.
const RECORD_VERSION: u8 = 1;

/// The record of a secret of this JSON text.
pub(super) fn record_of(text: &[u8]) -> SecretBytes {
    let mut record = Vec::with_capacity(1 + text.len());
    record.push(RECORD_VERSION);
    record.extend_from_slice(text);
    SecretBytes::from_vec(record)
}

/// The JSON text of a record.
///
/// # Errors
/// 500 when it is no record of this layout.
pub(super) fn text_of(record: &[u8]) -> Result<&[u8], ApiError> {
    record.strip_prefix(&[RECORD_VERSION]).ok_or_else(|| ApiError::internal(Malformed))
}

/// The record of a request whose whole body is the secret.
///
/// # Errors
/// 400 when there is none, 413 when it is too large.
pub(super) fn record_in(fields: &Fields<'_>) -> Result<SecretBytes, ApiError> {
    let data = fields.whole().ok_or_else(|| ApiError::bad_request("missing data fields"))?;
    super::value::check_size(data.len())?;
    Ok(record_of(data.trim_ascii()))
}

/// Commits a batch; false when another write has come between, so that it is to be made anew.
pub(super) async fn is_committed(permit: &Permit<'_>, batch: Batch) -> Result<bool, ApiError> {
    if batch.is_empty() {
        return Ok(true);
    }
    match permit.commit(batch).await {
        Ok(()) => Ok(true),
        Err(CommitError::Conflict) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Puts a record; what is there is erased.
pub(super) async fn put(
    batch: &mut Batch,
    view: &MountView,
    place: &[&str],
    record: &SecretBytes,
) -> Result<(), ApiError> {
    // What comes in between is replaced too, and so is to be erased: none may be taken for absent.
    if view.contains(place).await? {
        record.expose(|record| batch.put(view, place, record));
        batch.erases();
    } else {
        record.expose(|record| batch.put_if(view, place, record, Expected::Absent));
    }
    Ok(())
}

/// Deletes and erases a record; absent is fine.
pub(super) async fn delete(
    batch: &mut Batch,
    view: &MountView,
    place: &[&str],
) -> Result<(), ApiError> {
    if view.contains(place).await? {
        batch.delete(view, place);
        batch.erases();
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("the record of a secret is malformed")]
struct Malformed;
