use super::{
    TokenMethod,
    api::{AccessorInput, TokenInput},
};
use crate::{
    gate::{ApiError, Permit},
    route::{Nothing, Reply},
    token::{RevokeError, TokenDigest},
};

impl TokenMethod {
    /// `POST revoke-self`: the caller's token with its children.
    pub(super) async fn revoke_self(
        &self,
        permit: &Permit<'_>,
        (): (),
    ) -> Result<Reply<Nothing>, ApiError> {
        self.end(permit.session().digest).await?;
        Ok(Reply::nothing())
    }

    /// `POST revoke`: the token in the body with its children; an unknown one is fine.
    pub(super) async fn revoke(
        &self,
        _: &Permit<'_>,
        input: TokenInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let token = input.token.ok_or_else(missing_token)?;
        if let Some(session) = self.tokens.lookup(&token).await? {
            self.end(session.digest).await?;
        }
        Ok(Reply::nothing())
    }

    /// `POST revoke-accessor`; an unknown one is told in a warning.
    pub(super) async fn revoke_accessor(
        &self,
        _: &Permit<'_>,
        input: AccessorInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        match self.tokens.lookup_accessor(&input.accessor).await? {
            Some(session) => {
                self.end(session.digest).await?;
                Ok(Reply::nothing())
            }
            None => Ok(Reply::nothing().with_warning("No token found with this accessor")),
        }
    }

    /// `POST revoke-orphan`: the token in the body; its children become orphans.
    pub(super) async fn revoke_orphan(
        &self,
        _: &Permit<'_>,
        input: TokenInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let token = input.token.ok_or_else(missing_token)?;
        let session = self.tokens.lookup(&token).await?;
        let session = session.ok_or_else(|| ApiError::bad_request("token to revoke not found"))?;
        self.tokens.revoke_orphan(session.digest).await.map_err(refusal)?;
        self.tidy().await?;
        Ok(Reply::nothing())
    }
}

impl TokenMethod {
    /// Ends a token, and takes away what little is below it before the answer; a job does the rest.
    async fn end(&self, digest: TokenDigest) -> Result<(), ApiError> {
        self.tokens.revoke(digest).await.map_err(refusal)?;
        self.tidy().await
    }

    async fn tidy(&self) -> Result<(), ApiError> {
        self.tokens.sweep(SWEPT_AT_ONCE).await.map_err(refusal)?;
        Ok(())
    }
}

fn refusal(error: RevokeError) -> ApiError {
    match error {
        RevokeError::Read(error) => error.into(),
        RevokeError::Commit(error) => error.into(),
    }
}

/// Most tokens that are taken away before a revocation answers.
const SWEPT_AT_ONCE: usize = 256;

fn missing_token() -> ApiError {
    ApiError::bad_request("missing token ID")
}
