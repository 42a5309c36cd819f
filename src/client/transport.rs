use std::{
    error, fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use reqwest::{Response, Url};
use rustls::CertificateError;
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    BuildError, Builder, Capability, Environment, Error, Kv2, OwnToken, Sys, Transit,
    retry::{self, Effect, Outcome},
};
use crate::secret::SecretBytes;

/// A client of one server, with or without a token. Clones share the connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<HeaderValue>,
    namespace: Option<HeaderValue>,
    retries: u32,
    store: Option<Arc<Store>>,
}

/// The store that a client is for.
struct Store {
    name: String,
    is_confirmed: AtomicBool,
}

impl Client {
    /// Begins a client of the server at `address`, such as `https://127.0.0.1:8200`.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder::new(address)
    }

    /// The client that the environment describes; see [`Environment`]. Without an address it is
    /// `https://127.0.0.1:8200`.
    ///
    /// # Errors
    /// [`BuildError`], when a variable cannot be used or asks not to verify certificates.
    pub fn from_env() -> Result<Self, BuildError> {
        let environment = Environment::read()?;
        let address = environment.address.map_or_else(|| DEFAULT_ADDRESS.to_owned(), |a| a.value);
        let mut builder = Builder::new(address);
        if let Some(token) = environment.token {
            builder = builder.token(token.value);
        }
        if let Some(ca_file) = environment.ca_file {
            builder = builder.ca_file(ca_file.value);
        }
        if let Some(namespace) = environment.namespace {
            builder = builder.namespace(namespace.value);
        }
        builder.build()
    }

    /// The secrets of a KV version 2 mount, such as `secret`.
    pub fn kv2<'a>(&'a self, mount: &'a str) -> Kv2<'a> {
        Kv2::new(self, mount)
    }

    /// The keys of a transit mount, such as `transit`, and what is encrypted with them.
    pub fn transit<'a>(&'a self, mount: &'a str) -> Transit<'a> {
        Transit::new(self, mount)
    }

    /// The state of the server.
    pub fn sys(&self) -> Sys<'_> {
        Sys::new(self)
    }

    /// The token that this client holds.
    pub fn own_token(&self) -> OwnToken<'_> {
        OwnToken::new(self)
    }

    /// The address that calls go to.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(super) fn new(
        http: reqwest::Client,
        base: Url,
        token: Option<HeaderValue>,
        namespace: Option<HeaderValue>,
        retries: u32,
    ) -> Self {
        Self { http, base, token, namespace, retries, store: None }
    }

    pub(super) fn of_store(self, name: Option<String>) -> Self {
        let store = name.map(|name| Arc::new(Store { name, is_confirmed: AtomicBool::new(false) }));
        Self { store, ..self }
    }

    /// Sends a call, again where that is safe, and reads the answer.
    ///
    /// A 404 that carries data or warnings is an answer: that of a deleted version.
    pub(super) async fn send(&self, call: &Call) -> Result<Answer, Error> {
        self.confirm_store().await?;
        let url = self.base.join(&format!("v1/{}", call.target)).map_err(|_| {
            // INVARIANT: the target is percent-encoded, so that it joins to any base.
            Error::BadPath(call.target.clone())
        })?;
        let mut attempt = 0;
        loop {
            let ended = self.attempt(call, &url).await;
            let Some(outcome) = ended.outcome else { return ended.result };
            match retry::wait(call.effect, outcome, attempt, self.retries) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return ended.result,
            }
            attempt += 1;
        }
    }

    /// Asks, once and without the token, which store the server has.
    async fn confirm_store(&self) -> Result<(), Error> {
        let Some(store) = self.store.as_ref().filter(|_| self.token.is_some()) else {
            return Ok(());
        };
        if store.is_confirmed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let stranger = Self { token: None, store: None, ..self.clone() };
        // In a box, since asking is a call, and this is in each call.
        let health = Box::pin(async move { stranger.sys().health().await }).await?;
        match health.cluster_id {
            Some(found) if found != store.name => Err(Error::OtherStore {
                address: self.address().to_owned(),
                expected: store.name.clone(),
                found,
            }),
            Some(_) => {
                store.is_confirmed.store(true, Ordering::Relaxed);
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn attempt(&self, call: &Call, url: &Url) -> Attempt {
        let mut request =
            self.http.request(call.method.clone(), url.clone()).header("X-Vault-Request", "true");
        if let Some(token) = &self.token {
            request = request.header("X-Vault-Token", token);
        }
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(body) = &call.body {
            // RFC 7396, section 4, which Vault asks for by its full name.
            let media = match call.method {
                Method::PATCH => "application/merge-patch+json",
                _ => "application/json",
            };
            request = request.header(header::CONTENT_TYPE, media).body(body.clone());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(cause) => return self.broken(cause),
        };
        let status = response.status().as_u16();
        let retry_after = retry_after(&response);
        match read_body(response).await {
            Ok(Some(body)) => judge(call, status, retry_after, body),
            Ok(None) => Attempt { outcome: None, result: Err(Error::Unexpected("it is too long")) },
            Err(cause) => self.broken(cause),
        }
    }

    /// What a connection that was not made, or broke, means.
    fn broken(&self, cause: reqwest::Error) -> Attempt {
        let address = self.address().to_owned();
        if let Some(reason) = distrust(&cause) {
            return Attempt { outcome: None, result: Err(Error::Untrusted { address, reason }) };
        }
        let outcome = if cause.is_connect() { Outcome::NotSent } else { Outcome::Lost };
        let result = Err(Error::Unreachable { address, cause: cause.without_url() });
        Attempt { outcome: Some(outcome), result }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// One request.
#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    /// Path after `/v1/`, as a policy would name it.
    path: String,
    /// The path percent-encoded, and the query.
    target: String,
    effect: Effect,
    needed: Capability,
    body: Option<Bytes>,
    failures: Failures,
}

/// What an answer with a failing status is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failures {
    /// A refusal; but a 404 with data is an answer.
    Refuse,
    /// An answer if it carries data: the outcome of each item of a batch.
    MayAnswer,
}

impl Call {
    /// Reads `path` with this query, which may be empty.
    pub(super) fn read(path: String, query: &str) -> Result<Self, Error> {
        Self::new(Method::GET, path, query, Effect::Read, Capability::Read)
    }

    /// Lists a folder. `GET` with a query, which passes every proxy, unlike the verb `LIST`.
    pub(super) fn list(path: String) -> Result<Self, Error> {
        Self::new(Method::GET, path, "list=true", Effect::Read, Capability::List)
    }

    /// Any call. The body, where there is one, is JSON.
    pub(super) fn of(
        method: Method,
        path: String,
        query: &str,
        effect: Effect,
        needed: Capability,
        body: Option<SecretBytes>,
    ) -> Result<Self, Error> {
        let body = body.map(|body| Bytes::from_owner(body.into_wiped()));
        Ok(Self { body, ..Self::new(method, path, query, effect, needed)? })
    }

    /// Asks for work that leaves nothing behind, so that it may be asked for twice.
    pub(super) fn ask(path: String, body: SecretBytes) -> Result<Self, Error> {
        Self::of(Method::PUT, path, "", Effect::Read, Capability::Update, Some(body))
    }

    /// The same for many items. Each has its outcome in the answer, whatever its status.
    pub(super) fn ask_many(path: String, body: SecretBytes) -> Result<Self, Error> {
        Ok(Self { failures: Failures::MayAnswer, ..Self::ask(path, body)? })
    }

    /// Lists a page, by a query of the caller's.
    pub(super) fn listed(path: String, query: &str, needed: Capability) -> Result<Self, Error> {
        Self::new(Method::GET, path, query, Effect::Read, needed)
    }

    /// Writes a JSON object.
    pub(super) fn write(
        path: String,
        needed: Capability,
        body: SecretBytes,
    ) -> Result<Self, Error> {
        let body = Some(Bytes::from_owner(body.into_wiped()));
        Ok(Self { body, ..Self::new(Method::PUT, path, "", Effect::Write, needed)? })
    }

    /// Writes a JSON object to a folder's route, whose path ends in a slash.
    pub(super) fn write_to_folder(
        path: String,
        needed: Capability,
        body: SecretBytes,
    ) -> Result<Self, Error> {
        let call = Self::write(path, needed, body)?;
        Ok(Self { path: call.path + "/", target: call.target + "/", ..call })
    }

    /// Applies a merge patch, a JSON object (RFC 7396).
    pub(super) fn patch(path: String, body: SecretBytes) -> Result<Self, Error> {
        let body = Some(Bytes::from_owner(body.into_wiped()));
        let call = Self::new(Method::PATCH, path, "", Effect::Write, Capability::Patch)?;
        Ok(Self { body, ..call })
    }

    /// Deletes.
    pub(super) fn delete(path: String) -> Result<Self, Error> {
        Self::new(Method::DELETE, path, "", Effect::Write, Capability::Delete)
    }

    /// The same with a query.
    pub(super) fn delete_with(path: String, query: &str) -> Result<Self, Error> {
        Self::new(Method::DELETE, path, query, Effect::Write, Capability::Sudo)
    }

    fn new(
        method: Method,
        path: String,
        query: &str,
        effect: Effect,
        needed: Capability,
    ) -> Result<Self, Error> {
        let mark = if query.is_empty() { "" } else { "?" };
        let target = format!("{}{mark}{query}", encode(&path)?);
        let failures = Failures::Refuse;
        Ok(Self { method, path, target, effect, needed, body: None, failures })
    }
}

/// An answer that is not an error. Its body is wiped when dropped.
pub(super) struct Answer {
    /// 2xx, or a failing one with data.
    pub(super) status: u16,
    body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// Whether it has no body.
    pub(super) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Reads the whole body.
    pub(super) fn bare<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|_| Error::Unexpected("its body is not what the path answers with"))
    }

    /// Reads what the envelope's `data` holds.
    pub(super) fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        #[derive(Deserialize)]
        struct Envelope<T> {
            data: T,
        }
        self.bare::<Envelope<T>>().map(|envelope| envelope.data)
    }
}

/// How an attempt ended. Without an outcome, sending again is of no use.
struct Attempt {
    outcome: Option<Outcome>,
    result: Result<Answer, Error>,
}

fn judge(
    call: &Call,
    status: u16,
    retry_after: Option<Duration>,
    body: Zeroizing<Vec<u8>>,
) -> Attempt {
    let may_answer = status == 404 || call.failures == Failures::MayAnswer;
    if (200..300).contains(&status) || (may_answer && carries_data(&body)) {
        return Attempt { outcome: None, result: Ok(Answer { status, body }) };
    }
    let error = Error::of_answer(status, &body, &call.path, call.needed);
    let nothing_ran = matches!(error, Error::Sealed) || error.says_too_many();
    let outcome = Outcome::Answered { status, nothing_ran, retry_after };
    Attempt { outcome: Some(outcome), result: Err(error) }
}

fn carries_data(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Carried<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    serde_json::from_slice::<Carried<'_>>(body).is_ok_and(|carried| carried.data.is_some())
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?;
    Some(Duration::from_secs(value.to_str().ok()?.trim().parse().ok()?))
}

/// The body, or `None` when it is longer than any answer.
async fn read_body(mut response: Response) -> Result<Option<Zeroizing<Vec<u8>>>, reqwest::Error> {
    // Room for all of it at once where its length is told: a buffer that grows leaves copies.
    let told = response.content_length().and_then(|length| usize::try_from(length).ok());
    let mut body = Zeroizing::new(Vec::with_capacity(told.unwrap_or(0).min(LONGEST_BODY)));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LONGEST_BODY {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// What is wrong with the server's certificate, if that is why there is no connection.
fn distrust(error: &(dyn error::Error + 'static)) -> Option<String> {
    if let Some(rustls::Error::InvalidCertificate(reason)) = error.downcast_ref() {
        return Some(plain(reason));
    }
    // An io::Error does not name the error that it carries as its source, but that one's source.
    let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    carried.and_then(|inner| distrust(inner)).or_else(|| distrust(error.source()?))
}

/// The usual reasons in words; the rest as rustls names them.
#[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds reasons; their own text serves")]
fn plain(reason: &CertificateError) -> String {
    let text = reason.to_string();
    // Only its name tells this one: the error inside is webpki's, which is no crate of ours.
    if text.contains("CaUsedAsEndEntity") {
        return "it is a CA's own certificate; give the server one with basicConstraints CA:FALSE"
            .to_owned();
    }
    let words = match reason {
        CertificateError::UnknownIssuer => "its issuer is not a CA that is trusted",
        // A CA of the same name, such as that of another `kista up`.
        CertificateError::BadSignature => "another CA has signed it",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; is this machine's clock right?"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for other names than this address"
        }
        CertificateError::ApplicationVerificationFailure => "it is another one than was pinned",
        _ => &text,
    };
    words.to_owned()
}

/// Percent-encodes a path for the request line.
///
/// Segments that a URL parser would fold away are refused here, else they would name another path.
fn encode(path: &str) -> Result<String, Error> {
    let mut encoded = String::with_capacity(path.len());
    for (n, segment) in path.split('/').enumerate() {
        if matches!(segment, "" | "." | "..") {
            return Err(Error::BadPath(path.to_owned()));
        }
        if n > 0 {
            encoded.push('/');
        }
        encoded.push_str(&encode_text(segment));
    }
    Ok(encoded)
}

/// Percent-encodes all but the unreserved characters (RFC 3986 §2.3).
pub fn encode_text(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// Where Vault's own clients look when nothing is said.
const DEFAULT_ADDRESS: &str = "https://127.0.0.1:8200";

/// Longest answer read, in bytes: twice the longest body that servers take.
const LONGEST_BODY: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_once_and_whole() {
        assert_eq!(encode("app/db").unwrap(), "app/db");
        assert_eq!(encode("a b/50%/å+?#").unwrap(), "a%20b/50%25/%C3%A5%2B%3F%23");
    }

    #[test]
    fn segments_that_a_url_folds_away_are_refused() {
        for path in ["", "/a", "a/", "a//b", "a/./b", "../a", "a/.."] {
            assert!(matches!(encode(path), Err(Error::BadPath(_))), "{path:?}");
        }
        assert!(encode("a../.b/...").is_ok());
    }

    #[test]
    fn a_404_with_data_is_told_from_one_without() {
        assert!(carries_data(br#"{"data":{"data":null,"metadata":{}}}"#));
        assert!(!carries_data(br#"{"errors":[]}"#));
        assert!(!carries_data(br#"{"data":null,"warnings":["x"]}"#));
        assert!(!carries_data(b"not json"));
    }
}
