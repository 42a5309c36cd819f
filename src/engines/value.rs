//! Secrets as the JSON text that they came in.

use serde::{Serialize, ser::Error as _};
use serde_json::value::RawValue;

use crate::{gate::ApiError, secret::SecretBytes};

/// Largest secret in bytes of JSON text.
const MAX_SECRET_BYTES: usize = 1024 * 1024;

/// Refuses what is too large for one secret.
pub(super) fn check_size(bytes: usize) -> Result<(), ApiError> {
    if bytes > MAX_SECRET_BYTES {
        return Err(ApiError::new(413, "the secret is larger than 1 MiB"));
    }
    Ok(())
}

/// JSON that goes out as it came in.
#[derive(Debug)]
pub(super) struct RawJson(pub(super) SecretBytes);

impl Serialize for RawJson {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.expose(|text| {
            let raw: &RawValue = serde_json::from_slice(text).map_err(S::Error::custom)?;
            raw.serialize(serializer)
        })
    }
}
