use serde::Serialize;

use super::Subject;
use crate::{
    gate::ApiError,
    route::{Fields, FromFields},
};

/// `POST tree/copy|move/:path`.
pub(in crate::engines::kv2) struct TransferInput {
    pub(super) subject: Subject,
    pub(super) to: String,
    existing: String,
}

/// What becomes of a secret whose new path is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// Nothing at all is done.
    Fail,
    /// It is passed over.
    Skip,
}

impl FromFields for TransferInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let subject = Subject::from_fields(fields)?;
        let to = fields.text("to")?.unwrap_or_default();
        let existing = fields.text("existing")?.unwrap_or_default();
        Ok(Self { subject, to, existing })
    }
}

impl TransferInput {
    /// Refuses paths that do not go together. Asked once it is known that the caller may know of
    /// the first.
    ///
    /// # Errors
    /// 400.
    pub(super) fn check(&self) -> Result<Existing, ApiError> {
        let Self { subject, to, existing } = self;
        if to.is_empty() && !subject.is_folder() {
            return Err(ApiError::bad_request("'to' must be the new path"));
        }
        let is_folder = to.is_empty() || to.ends_with('/');
        if is_folder != subject.is_folder() {
            return Err(ApiError::bad_request(
                "of the path and 'to' both end in a slash, which means folders, or neither",
            ));
        }
        if to.starts_with('/') || to.contains("//") {
            return Err(ApiError::bad_request("'to' holds an empty segment"));
        }
        let overlap = match subject.is_folder() {
            true => to.starts_with(&subject.path) || subject.path.starts_with(to),
            false => *to == subject.path,
        };
        if overlap {
            return Err(ApiError::bad_request("of the path and 'to' neither may lie in the other"));
        }
        match existing.as_str() {
            "" | "fail" => Ok(Existing::Fail),
            "skip" => Ok(Existing::Skip),
            _ => Err(ApiError::bad_request("'existing' is \"fail\" or \"skip\"")),
        }
    }
}

/// `POST tree/delete|destroy/:path`.
pub(in crate::engines::kv2) struct RemoveInput {
    pub(super) subject: Subject,
}

impl FromFields for RemoveInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self { subject: Subject::from_fields(fields)? })
    }
}

impl FromFields for Subject {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let after = fields.text("after")?.unwrap_or_default();
        Ok(Self { path: fields.parameter("path").to_owned(), after })
    }
}

/// `data` of an answer.
#[derive(Debug, Serialize)]
pub(in crate::engines::kv2) struct DoneOutput {
    /// How many secrets this call has transferred or removed.
    pub(super) secrets: usize,
    /// How many it passed over since their new path is taken.
    pub(super) skipped: usize,
    /// How many are left to another call.
    pub(super) left: usize,
    pub(super) finished: bool,
    /// What to give as `after` to the call that goes on.
    pub(super) after: Option<String>,
}
