use std::time::Duration;

use super::{
    TokenMethod,
    api::{AccessorInput, TokenInput},
    lookup::invalid_accessor,
};
use crate::{
    gate::{ApiError, AuthReply, Permit},
    route::{Nothing, Reply},
    secret::SecretString,
    token::{RenewError, Session},
};

impl TokenMethod {
    /// `POST renew-self`.
    pub(super) async fn renew_self(
        &self,
        permit: &Permit<'_>,
        input: TokenInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let token = permit.head().token.as_ref();
        let token =
            token.map_or_else(SecretString::default, |token| token.expose(SecretString::copy_of));
        self.renewed(permit, permit.session(), input.increment, token).await
    }

    /// `POST renew`: the token in the body, or the caller's own.
    pub(super) async fn renew(
        &self,
        permit: &Permit<'_>,
        input: TokenInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let Some(token) = input.token else { return self.renew_self(permit, input).await };
        let session = self.tokens.lookup(&token).await?;
        let session = session.ok_or_else(|| ApiError::bad_request("token not found"))?;
        self.renewed(permit, &session, input.increment, token).await
    }

    /// `POST renew-accessor`.
    pub(super) async fn renew_accessor(
        &self,
        permit: &Permit<'_>,
        input: AccessorInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let session = self.tokens.lookup_accessor(&input.accessor).await?;
        let session = session.ok_or_else(invalid_accessor)?;
        self.renewed(permit, &session, input.increment, SecretString::default()).await
    }

    async fn renewed(
        &self,
        permit: &Permit<'_>,
        session: &Session,
        increment: Duration,
        token: SecretString,
    ) -> Result<Reply<Nothing>, ApiError> {
        let renewed = self.tokens.renew(session, increment, permit.ttl()).await.map_err(refusal)?;
        let reply = Reply::show(AuthReply::of_entry(token, &renewed.entry, renewed.ttl));
        let warnings = renewed.warnings.iter().map(ToString::to_string);
        Ok(warnings.fold(reply, Reply::with_warning))
    }
}

fn refusal(error: RenewError) -> ApiError {
    match error {
        RenewError::NotFound
        | RenewError::NeverExpires
        | RenewError::NotRenewable
        | RenewError::PastMax => ApiError::bad_request(error.to_string()),
        RenewError::Load(error) => error.into(),
        RenewError::Commit(error) => error.into(),
    }
}
