use super::{
    TokenMethod,
    api::{AccessorInput, AccessorsOutput, LookUpOutput, TokenInput},
};
use crate::{
    gate::{ApiError, Permit},
    route::Reply,
    secret::SecretString,
};

impl TokenMethod {
    /// `GET lookup-self`.
    pub(super) async fn look_up_self(
        &self,
        permit: &Permit<'_>,
        (): (),
    ) -> Result<Reply<LookUpOutput>, ApiError> {
        self.shown(permit, None).await
    }

    /// `POST lookup`: the token in the body, or the caller's own.
    pub(super) async fn look_up(
        &self,
        permit: &Permit<'_>,
        input: TokenInput,
    ) -> Result<Reply<LookUpOutput>, ApiError> {
        self.shown(permit, input.token.as_ref()).await
    }

    /// `POST lookup-accessor`.
    pub(super) async fn look_up_accessor(
        &self,
        permit: &Permit<'_>,
        input: AccessorInput,
    ) -> Result<Reply<LookUpOutput>, ApiError> {
        let session = self.tokens.lookup_accessor(&input.accessor).await?;
        let session = session.ok_or_else(invalid_accessor)?;
        Ok(Reply::of(LookUpOutput::of(&session, String::new(), permit.now())))
    }

    /// `LIST accessors`.
    pub(super) async fn accessors(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<AccessorsOutput>, ApiError> {
        let keys = self.tokens.accessors(None, usize::MAX).await?;
        Ok(Reply::of(AccessorsOutput { keys }))
    }

    async fn shown(
        &self,
        permit: &Permit<'_>,
        token: Option<&SecretString>,
    ) -> Result<Reply<LookUpOutput>, ApiError> {
        let session = self.named(permit, token).await?;
        let session = session.ok_or_else(|| ApiError::new(403, "bad token"))?;
        let shown = token.or(permit.head().token.as_ref());
        let id = shown.map_or_else(String::new, |token| token.expose(str::to_owned));
        Ok(Reply::of(LookUpOutput::of(&session, id, permit.now())))
    }
}

/// The text that clients match.
pub(super) fn invalid_accessor() -> ApiError {
    ApiError::bad_request("invalid accessor")
}
