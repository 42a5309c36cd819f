//! Where a secret lies in its mount.

use crate::{
    gate::ApiError,
    route::{Fields, FromFields},
};

/// A secret's path: what follows the mount, and the route's own word.
pub(super) struct SecretPath(pub(super) String);

impl FromFields for SecretPath {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self(fields.parameter("path").to_owned()))
    }
}

impl SecretPath {
    /// The path of a write, which names a leaf.
    ///
    /// # Errors
    /// 400 when it names a folder.
    pub(super) fn of_write(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let path = fields.parameter("path");
        if path.ends_with('/') {
            return Err(ApiError::bad_request("cannot write to a path ending in '/'"));
        }
        Ok(Self(path.to_owned()))
    }
}
