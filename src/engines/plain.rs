//! Secrets that are one record each: the JSON text behind a version byte. A write replaces what was
//! there, and what was there is erased.

use super::{TRIES, kv2, too_many_writes};
use crate::{
    barrier::{Batch, CommitError, Expected},
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

/// Puts the record at `place`, or with none takes away what is there; what was there is erased.
/// Where KV has it as version 2 too, which `mirrored` names, both change in one commit.
///
/// # Errors
/// What storage does, and 503 when others always come between.
pub(super) async fn replace(
    permit: &Permit<'_>,
    place: &[&str],
    record: Option<&SecretBytes>,
    mirrored: Option<&str>,
) -> Result<(), ApiError> {
    let view = permit.storage();
    for _ in 0..TRIES {
        let mut batch = Batch::default();
        if let Some(path) = mirrored {
            let text = record
                .map(|record| record.expose(|record| text_of(record).map(SecretBytes::copy_of)));
            kv2::mirror(&mut batch, view, path, text.transpose()?, permit.now()).await?;
        }
        let is_there = view.contains(place).await?;
        match record {
            // What comes in between is replaced too, and so is to be erased: none may be taken for
            // absent.
            Some(record) if is_there => record.expose(|record| batch.put(view, place, record)),
            Some(record) => {
                record.expose(|record| batch.put_if(view, place, record, Expected::Absent));
            }
            None if is_there => batch.delete(view, place),
            None => {}
        }
        if is_there {
            batch.erases();
        }
        if batch.is_empty() {
            return Ok(());
        }
        match permit.commit(batch).await {
            Ok(()) => return Ok(()),
            Err(CommitError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(too_many_writes())
}

#[derive(Debug, thiserror::Error)]
#[error("the record of a secret is malformed")]
struct Malformed;
