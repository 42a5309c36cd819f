use std::{fmt, net::SocketAddr, sync::Arc};

use crate::secret::SecretString;

/// What a request wants of its path, folded from the method and `?list`/`?scan` before anything
/// else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `GET`.
    Read,
    /// `POST` or `PUT`; whether it creates or updates is asked of the mount.
    Write,
    /// `PATCH` with a merge patch (RFC 7396).
    Patch,
    /// `DELETE`.
    Delete,
    /// `LIST`, or `GET` with `list=true`.
    List,
    /// `SCAN`, or `GET` with `scan=true`: a recursive list.
    Scan,
}

impl Operation {
    /// Every operation, for tables.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Write, Self::Patch, Self::Delete, Self::List, Self::Scan];

    /// Whether the path names a folder.
    pub fn is_listing(self) -> bool {
        matches!(self, Self::List | Self::Scan)
    }

    /// Whether it only asks.
    pub fn is_reading(self) -> bool {
        self == Self::Read || self.is_listing()
    }
}

/// A request's path after `/v1/`: decoded once and canonical.
///
/// This one value is used by policy, router, storage and audit, so that no two of them can read it
/// differently (CVE-2026-3605 is what happens otherwise). Segments are separated by single slashes;
/// a trailing slash is kept, since it tells a folder from a leaf.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestPath(String);

/// Why a path is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathRefused {
    /// A percent sign that two hexadecimal digits do not follow.
    #[error("the path holds a broken percent-encoding")]
    Encoding,
    /// The decoded bytes are not text.
    #[error("the path is not valid UTF-8")]
    NotUtf8,
    /// NUL or another control character.
    #[error("the path holds a control character")]
    Control,
    /// A segment `.` or `..`.
    #[error("relative paths not supported")]
    Relative,
    /// Two slashes in a row, or one at the front.
    #[error("the path holds an empty segment")]
    EmptySegment,
    /// More bytes than any path may have.
    #[error("the path is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
}

/// Longest decoded path in bytes: a name (1,024), its mount, and the route's own words.
pub const MAX_PATH_BYTES: usize = 2_048;

impl RequestPath {
    /// Decodes and checks what follows `/v1/` in a request's target.
    ///
    /// # Errors
    /// [`PathRefused`] for whatever has two readings: broken encodings, `.` and `..` segments,
    /// empty segments, control characters, text that is not UTF-8.
    pub fn parse(raw: &str) -> Result<Self, PathRefused> {
        let text = percent_decode(raw, PlusSign::Literal)?;
        Self::check(&text)?;
        Ok(Self(text))
    }

    fn check(text: &str) -> Result<(), PathRefused> {
        if text.len() > MAX_PATH_BYTES {
            return Err(PathRefused::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(PathRefused::Control);
        }
        let segments = text.strip_suffix('/').unwrap_or(text);
        for segment in segments.split('/') {
            match segment {
                "" if !text.is_empty() => return Err(PathRefused::EmptySegment),
                "." | ".." => return Err(PathRefused::Relative),
                _ => {}
            }
        }
        Ok(())
    }

    /// The path as text, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it ends in a slash.
    pub fn is_folder(&self) -> bool {
        self.0.ends_with('/')
    }

    /// The same path with a slash at its end: listings are asked so.
    #[must_use]
    pub fn into_folder(mut self) -> Self {
        if !self.0.is_empty() && !self.is_folder() {
            self.0.push('/');
        }
        self
    }
}

impl fmt::Debug for RequestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names are secret at rest; a path must not reach a log by way of `{:?}`.
        f.write_str("[path]")
    }
}

/// The decoded pairs of a query string.
#[derive(Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=b&c=d`; a plus sign is a space.
    ///
    /// # Errors
    /// [`PathRefused::Encoding`] or [`PathRefused::NotUtf8`] when it does not decode.
    pub fn parse(raw: &str) -> Result<Self, PathRefused> {
        raw.split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((
                    percent_decode(name, PlusSign::Space)?,
                    percent_decode(value, PlusSign::Space)?,
                ))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The first value under `name`.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Every pair, in the order given.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[query]")
    }
}

/// What a request says its body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// No `Content-Type`.
    Absent,
    /// `application/json`.
    Json,
    /// `application/x-www-form-urlencoded`: what `curl -d` sends, JSON if it begins with a brace.
    Form,
    /// `application/merge-patch+json`.
    MergePatch,
    /// Anything else, as it was sent.
    Other(String),
}

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The peer's address.
    pub remote: SocketAddr,
    /// The certificate (DER) whose key the peer has proven to hold. Nothing else of it is judged
    /// yet.
    pub client_certificate: Option<Arc<[u8]>>,
}

/// All of a request but its body.
#[derive(Debug)]
pub struct Head {
    /// Identifies the request in the answer, the audit lines and the log (UUID version 4).
    pub id: String,
    /// What is asked.
    pub operation: Operation,
    /// Of what.
    pub path: RequestPath,
    /// The query's pairs.
    pub query: Query,
    /// `X-Vault-Token`, or the bearer token.
    pub token: Option<SecretString>,
    /// `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// `X-Vault-Wrap-TTL`.
    pub wrap_ttl: Option<String>,
    /// What the body is said to be.
    pub media: Media,
    /// The peer.
    pub connection: Connection,
}

#[derive(Clone, Copy, PartialEq)]
enum PlusSign {
    Literal,
    Space,
}

fn percent_decode(raw: &str, plus: PlusSign) -> Result<String, PathRefused> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let high = rest.next().and_then(hex_digit).ok_or(PathRefused::Encoding)?;
                let low = rest.next().and_then(hex_digit).ok_or(PathRefused::Encoding)?;
                bytes.push(high << 4 | low);
            }
            b'+' if plus == PlusSign::Space => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map_err(|_| PathRefused::NotUtf8)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Result<String, PathRefused> {
        RequestPath::parse(raw).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn ordinary_paths_are_kept() {
        for path in ["secret/data/app/db", "a", "a/", "", "a..b/.c/d.", "ä/ö+ü"] {
            assert_eq!(parse(path).as_deref(), Ok(path));
        }
        assert_eq!(parse("a%20b/%25/%2B").as_deref(), Ok("a b/%/+"));
    }

    #[test]
    fn an_encoded_slash_is_a_separator() {
        assert_eq!(parse("a%2Fb").as_deref(), Ok("a/b"));
        assert_eq!(parse("a%2F%2Fb"), Err(PathRefused::EmptySegment));
    }

    #[test]
    fn it_is_decoded_once() {
        assert_eq!(parse("%252e%252e").as_deref(), Ok("%2e%2e"));
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        assert_eq!(parse("a/../b"), Err(PathRefused::Relative));
        assert_eq!(parse("a/%2e%2E/b"), Err(PathRefused::Relative));
        assert_eq!(parse("./a"), Err(PathRefused::Relative));
        assert_eq!(parse("a//b"), Err(PathRefused::EmptySegment));
        assert_eq!(parse("/a"), Err(PathRefused::EmptySegment));
        assert_eq!(parse("/"), Err(PathRefused::EmptySegment));
        assert_eq!(parse("a%00"), Err(PathRefused::Control));
        assert_eq!(parse("a%0a"), Err(PathRefused::Control));
        assert_eq!(parse("a%zz"), Err(PathRefused::Encoding));
        assert_eq!(parse("a%f"), Err(PathRefused::Encoding));
        assert_eq!(parse("a%ff"), Err(PathRefused::NotUtf8));
        assert_eq!(parse(&"a".repeat(MAX_PATH_BYTES + 1)), Err(PathRefused::TooLong));
    }

    #[test]
    fn a_query_is_decoded() {
        let query = Query::parse("list=true&a=b%26c+d&e").unwrap();
        assert_eq!(query.first("list"), Some("true"));
        assert_eq!(query.first("a"), Some("b&c d"));
        assert_eq!(query.first("e"), Some(""));
        assert_eq!(query.first("f"), None);
    }
}
