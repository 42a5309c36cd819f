use std::collections::BTreeMap;

use super::{
    System,
    mounts::{MountOutput, MountPath},
};
use crate::{
    gate::{ApiError, Permit},
    mount::Class,
    route::{Fields, FromFields, Nothing, Reply},
};

/// `POST auth/:path`.
pub(super) struct EnableInput {
    kind: String,
}

impl FromFields for EnableInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let kind = fields.text("type")?.unwrap_or_default();
        if kind.is_empty() {
            return Err(ApiError::bad_request("backend type must be specified as a string"));
        }
        Ok(Self { kind })
    }
}

impl System {
    /// `GET auth`.
    pub(super) async fn auth_methods(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<BTreeMap<String, MountOutput>>, ApiError> {
        Ok(Reply::of(self.mounts_of(Class::Auth, |_| true)?).with_copy())
    }

    /// `GET auth/:path`.
    pub(super) async fn auth_method_at(
        &self,
        _: &Permit<'_>,
        MountPath(path): MountPath,
    ) -> Result<Reply<MountOutput>, ApiError> {
        let mut found = self.mounts_of(Class::Auth, |record| record.path == path)?;
        let found = found.remove(&path).ok_or_else(|| {
            // Terraform's provider matches this text.
            ApiError::bad_request(format!("No auth engine at {path}"))
        })?;
        Ok(Reply::of(found).with_copy())
    }

    /// `POST auth/:path`. Every store has the method `token`, and there is no other yet.
    pub(super) async fn enable_auth(
        &self,
        _: &Permit<'_>,
        input: EnableInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        Err(ApiError::bad_request(match input.kind.as_str() {
            "token" => "token credential backend cannot be instantiated".to_owned(),
            other => format!("plugin not found in the catalog: {other}"),
        }))
    }

    /// `DELETE auth/:path`; absent is fine.
    pub(super) async fn disable_auth(
        &self,
        _: &Permit<'_>,
        MountPath(path): MountPath,
    ) -> Result<Reply<Nothing>, ApiError> {
        if path == "token/" {
            return Err(ApiError::bad_request("token credential backend cannot be disabled"));
        }
        Ok(Reply::nothing())
    }
}
