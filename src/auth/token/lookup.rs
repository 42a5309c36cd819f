use super::{
    TokenMethod,
    api::{AccessorInput, AccessorsOutput, LookUpOutput, TokenInput},
};
use crate::{
    gate::{ApiError, Permit},
    route::Reply,
    secret::SecretString,
    token::Session,
};

impl TokenMethod {
    /// `GET lookup-self`.
    pub(super) async fn look_up_self(
        &self,
        permit: &Permit<'_>,
        (): (),
    ) -> Result<Reply<LookUpOutput>, ApiError> {
        let token = permit.head().token.as_ref();
        Ok(Reply::of(shown(permit, permit.session(), token)))
    }

    /// `POST lookup`: the token in the body, or the caller's own.
    pub(super) async fn look_up(
        &self,
        permit: &Permit<'_>,
        input: TokenInput,
    ) -> Result<Reply<LookUpOutput>, ApiError> {
        let Some(token) = &input.token else { return self.look_up_self(permit, ()).await };
        let session = self.tokens.lookup(token).await?;
        let session = session.ok_or_else(|| ApiError::new(403, "bad token"))?;
        Ok(Reply::of(shown(permit, &session, Some(token))))
    }

    /// `POST lookup-accessor`.
    pub(super) async fn look_up_accessor(
        &self,
        permit: &Permit<'_>,
        input: AccessorInput,
    ) -> Result<Reply<LookUpOutput>, ApiError> {
        let session = self.tokens.lookup_accessor(&input.accessor).await?;
        let session = session.ok_or_else(invalid_accessor)?;
        Ok(Reply::of(shown(permit, &session, None)))
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
}

/// The token itself is in the answer only where the caller has shown it.
fn shown(permit: &Permit<'_>, session: &Session, token: Option<&SecretString>) -> LookUpOutput {
    let id = token.map_or_else(String::new, |token| token.expose(str::to_owned));
    LookUpOutput::of(session, id, permit.now())
}

/// The text that clients match.
pub(super) fn invalid_accessor() -> ApiError {
    ApiError::bad_request("invalid accessor")
}
