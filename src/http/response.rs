use std::net::IpAddr;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};

use crate::{
    gate::{Notes, Released},
    quota::Standing,
};

/// Whether a browser may be told to insist on HTTPS for the host that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Insistence {
    /// `Strict-Transport-Security` is sent.
    Strict,
    /// It is not: the connection is plain (RFC 6797 §7.2), or the host is localhost or an address,
    /// where it would break every other local server.
    None,
}

impl Insistence {
    /// Judges the host that a request names.
    pub(super) fn of(is_tls: bool, uri: &Uri, headers: &HeaderMap) -> Self {
        // HTTP/2 names the host in the target, HTTP/1.1 in a header.
        let host = match uri.host() {
            Some(host) => Some(host),
            None => headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(without_port),
        };
        match host {
            Some(host) if is_tls && !is_local(host) => Self::Strict,
            Some(_) | None => Self::None,
        }
    }
}

/// Turns a release into HTTP, with `headers` to put its own into.
pub(super) fn respond(
    released: Released,
    insistence: Insistence,
    mut headers: HeaderMap,
) -> Response {
    let (status, Notes { retry_after, standing }, body) = released.into_parts();
    // The bytes are wiped when the last of them has been written.
    let body = if body.is_empty() { Body::empty() } else { Body::from(Bytes::from_owner(body)) };
    // Room for the five of these and hyper's own two.
    headers.reserve(7);
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    if insistence == Insistence::Strict {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, ONE_YEAR);
    }
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(Standing { limit, remaining, reset }) = standing {
        headers.insert(RATE_LIMIT, HeaderValue::from(limit));
        headers.insert(RATE_REMAINING, HeaderValue::from(remaining));
        headers.insert(RATE_RESET, HeaderValue::from(reset));
    }
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

fn is_local(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const RATE_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RATE_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const ONE_YEAR: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Rejection, reject};

    fn insistence(host: &str) -> Insistence {
        let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
        Insistence::of(true, &Uri::from_static("/v1/a"), &headers)
    }

    #[test]
    fn a_named_host_is_told_to_insist_on_https() {
        assert_eq!(insistence("vault.example"), Insistence::Strict);
        assert_eq!(insistence("vault.example:8200"), Insistence::Strict);
    }

    #[test]
    fn localhost_and_addresses_are_not() {
        for host in
            ["localhost", "LOCALHOST:8200", "127.0.0.1", "127.0.0.1:8200", "[::1]", "[::1]:8200"]
        {
            assert_eq!(insistence(host), Insistence::None, "{host}");
        }
    }

    #[test]
    fn the_host_of_http_2_stands_in_the_target() {
        let none = HeaderMap::new();
        let named = Uri::from_static("https://vault.example:8200/v1/a");
        assert_eq!(Insistence::of(true, &named, &none), Insistence::Strict);
        assert_eq!(Insistence::of(false, &named, &none), Insistence::None);
        let local = Uri::from_static("https://[::1]:8200/v1/a");
        assert_eq!(Insistence::of(true, &local, &none), Insistence::None);
        assert_eq!(Insistence::of(true, &Uri::from_static("/v1/a"), &none), Insistence::None);
    }

    #[test]
    fn answers_are_json_that_nobody_stores_or_sniffs() {
        let response = respond(reject(&Rejection::NotFound), Insistence::Strict, HeaderMap::new());
        assert_eq!(response.status(), 404);
        let headers = response.headers();
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["strict-transport-security"], "max-age=31536000; includeSubDomains");
        assert!(!headers.contains_key("server") && !headers.contains_key("retry-after"));
    }

    #[test]
    fn a_busy_server_says_when_to_come_again() {
        let response = respond(reject(&Rejection::TooBusy), Insistence::None, HeaderMap::new());
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
        assert!(!response.headers().contains_key("x-ratelimit-limit"));
        assert!(!response.headers().contains_key("strict-transport-security"));
    }

    #[test]
    fn what_is_left_of_a_rate_is_told() {
        let standing = Some(Standing { limit: 5, remaining: 4, reset: 60 });
        let released = reject(&Rejection::TooManyAttempts(7)).telling(standing);
        let response = respond(released, Insistence::None, HeaderMap::new());
        assert_eq!(response.status(), 429);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("retry-after"), "7");
        let told = ["limit", "remaining", "reset"].map(|it| header(&format!("x-ratelimit-{it}")));
        assert_eq!(told, ["5", "4", "60"]);
    }
}
