//! Calls to routes that have no types of their own here.

use http::Method;
use serde_json::value::RawValue;

use super::{Capability, Client, Error, JsonValue, retry::Effect, transport::Call};
use crate::secret::{SecretBytes, SecretString};

/// What is to be done at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `GET`.
    Read,
    /// The names below the path.
    List,
    /// The names of all that is below the path.
    Scan,
    /// `PUT`, which servers take for `POST`.
    Write,
    /// `PATCH` with a merge patch (RFC 7396).
    Patch,
    /// `DELETE`.
    Delete,
}

impl Client {
    /// Calls any route: `path` is that after `/v1/`, not encoded; `query` is, and may be empty. The
    /// whole answer, or `None` where it has no body.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn call(
        &self,
        verb: Verb,
        path: &str,
        query: &str,
        body: Option<SecretBytes>,
    ) -> Result<Option<JsonValue>, Error> {
        let mark = if query.is_empty() { "" } else { "&" };
        let (method, query, effect, needed) = match verb {
            Verb::Read => (Method::GET, query.to_owned(), Effect::Read, Capability::Read),
            // A query passes every proxy, unlike the verbs LIST and SCAN.
            Verb::List => {
                (Method::GET, format!("list=true{mark}{query}"), Effect::Read, Capability::List)
            }
            Verb::Scan => {
                (Method::GET, format!("scan=true{mark}{query}"), Effect::Read, Capability::Scan)
            }
            Verb::Write => (Method::PUT, query.to_owned(), Effect::Write, Capability::Write),
            Verb::Patch => (Method::PATCH, query.to_owned(), Effect::Write, Capability::Patch),
            Verb::Delete => (Method::DELETE, query.to_owned(), Effect::Write, Capability::Delete),
        };
        let path = path.trim_matches('/').to_owned();
        let call = Call::of(method, path, &query, effect, needed, body)?;
        let answer = self.send(&call).await?;
        if answer.is_empty() {
            return Ok(None);
        }
        let json = answer.bare::<&RawValue>()?.get();
        JsonValue::parse(SecretString::copy_of(json))
            .map(Some)
            .map_err(|_| Error::Unexpected("it is not JSON"))
    }
}
