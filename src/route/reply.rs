use serde::Serialize;

use crate::{
    gate::{ApiError, AuthReply, AuthWish, JsonText, RawReply, Shape},
    token::TokenSpec,
};

/// What a handler answers with: data, and what it wishes of the pipeline.
#[derive(Debug)]
pub struct Reply<T> {
    data: Option<T>,
    status: Option<u16>,
    lease_duration: u64,
    shape: Shape,
    warnings: Vec<String>,
    auth: Option<AuthWish>,
    seals: bool,
}

/// The output of a handler that has none.
#[derive(Debug, Serialize)]
pub enum Nothing {}

impl<T> Reply<T> {
    /// 200 with data in Vault's envelope.
    pub fn of(data: T) -> Self {
        Self {
            data: Some(data),
            status: None,
            lease_duration: 0,
            shape: Shape::Envelope,
            warnings: Vec::new(),
            auth: None,
            seals: false,
        }
    }

    /// 204.
    pub fn nothing() -> Self {
        Self {
            data: None,
            status: None,
            lease_duration: 0,
            shape: Shape::Envelope,
            warnings: Vec::new(),
            auth: None,
            seals: false,
        }
    }

    /// A token made by the pipeline, as `auth` of the envelope.
    pub fn mint(spec: TokenSpec) -> Self {
        Self { auth: Some(AuthWish::Mint(Box::new(spec))), ..Self::nothing() }
    }

    /// A token that is there, as `auth` of the envelope.
    pub fn show(auth: AuthReply) -> Self {
        Self { auth: Some(AuthWish::Show(Box::new(auth))), ..Self::nothing() }
    }

    /// 204, after which the pipeline seals the vault.
    pub fn then_seal() -> Self {
        Self { seals: true, ..Self::nothing() }
    }

    /// Puts the data's members at the top level too, as `sys/` does for old clients.
    #[must_use]
    pub fn with_copy(mut self) -> Self {
        self.shape = Shape::EnvelopeWithCopy;
        self
    }

    /// Leaves the envelope out.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.shape = Shape::Bare;
        self
    }

    /// Answers with another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Says after how many seconds a reader should look again.
    #[must_use]
    pub fn with_lease_duration(mut self, seconds: u64) -> Self {
        self.lease_duration = seconds;
        self
    }

    /// Adds lines to `warnings`.
    #[must_use]
    pub fn with_warnings(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    /// Adds a line to `warnings`.
    #[must_use]
    pub fn with_warning(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }
}

/// What a handler's answer becomes on its way out; implemented for [`Reply`] alone.
pub trait IntoRaw: Send {
    /// Serialises it.
    ///
    /// # Errors
    /// 500 when the data does not serialise.
    fn into_raw(self) -> Result<RawReply, ApiError>;
}

impl<T: Serialize + Send> IntoRaw for Reply<T> {
    fn into_raw(self) -> Result<RawReply, ApiError> {
        let data = self.data.as_ref().map(JsonText::of).transpose()?;
        Ok(RawReply {
            status: self.status,
            shape: self.shape,
            data,
            lease_duration: self.lease_duration,
            warnings: self.warnings,
            auth: self.auth,
            seals: self.seals,
        })
    }
}
