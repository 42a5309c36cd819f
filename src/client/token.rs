use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Capability, Client, Error, Fields, JsonValue, transport::Call};
use crate::secret::SecretString;

/// The client's own token: `auth/token/…-self`.
#[derive(Debug, Clone, Copy)]
pub struct OwnToken<'a> {
    pub(super) client: &'a Client,
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
    /// Seconds that it lives on; 0 when it does not expire.
    pub ttl: u64,
    /// Whether it can be renewed.
    #[serde(default, deserialize_with = "null_is_false")]
    pub renewable: bool,
}

/// A token that was renewed; a part of `auth` of `POST auth/token/renew-self`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Renewed {
    /// Seconds that it lives from now on.
    #[serde(rename = "lease_duration")]
    pub ttl: u64,
    /// Whether it can be renewed again.
    #[serde(default, deserialize_with = "null_is_false")]
    pub renewable: bool,
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

    /// Has it live for `increment` from now on, in whole seconds; without one for as long as at
    /// first. Its own limits and the server's hold: it may get less. In the background, again and
    /// again: [`keep_alive`](Self::keep_alive).
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when it cannot be renewed, or no longer; and as
    /// [`look_up`](Self::look_up).
    pub async fn renew(&self, increment: Option<Duration>) -> Result<Renewed, Error> {
        #[derive(Deserialize)]
        struct Answered {
            auth: Renewed,
        }
        let mut body = Fields::new();
        if let Some(increment) = increment {
            let seconds = SecretString::from_string(increment.as_secs().to_string());
            body.set("increment", JsonValue::string(&seconds));
        }
        // Renewing twice is renewing once.
        let call = Call::ask("auth/token/renew-self".to_owned(), body.to_json())?;
        Ok(self.client.send(&call).await?.bare::<Answered>()?.auth)
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

fn null_is_false<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
