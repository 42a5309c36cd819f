use serde::{Deserialize, Serialize};

use super::{Capability, Client, Error, Fields, transport::Call};

/// The client's own token: `auth/token/…-self`.
#[derive(Debug, Clone, Copy)]
pub struct OwnToken<'a> {
    client: &'a Client,
}

/// What is known of a token; `data` of `GET auth/token/lookup-self`, less the token.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct TokenInfo {
    /// Names the token where it is not to be shown.
    pub accessor: String,
    /// Who it was made for, as the maker says.
    pub display_name: String,
    /// RFC 3339; `None` when it does not expire.
    pub expire_time: Option<String>,
    /// What it may do.
    pub policies: Vec<String>,
    /// Seconds that it lives; 0 when it does not expire.
    pub ttl: u64,
}

impl<'a> OwnToken<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// What the server knows of it.
    ///
    /// # Errors
    /// [`Error::InvalidToken`] when it knows none such, and what any call may answer.
    pub async fn look_up(&self) -> Result<TokenInfo, Error> {
        let call = Call::read("auth/token/lookup-self".to_owned(), "")?;
        self.client.send(&call).await?.data()
    }

    /// Revokes it, and those that were made with it.
    ///
    /// # Errors
    /// As [`look_up`](Self::look_up).
    pub async fn revoke(&self) -> Result<(), Error> {
        let body = Fields::new().to_json();
        let call = Call::write("auth/token/revoke-self".to_owned(), Capability::Update, body)?;
        self.client.send(&call).await?;
        Ok(())
    }
}
