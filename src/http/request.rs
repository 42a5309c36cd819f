use http::{HeaderMap, HeaderName, Method, header, request::Parts};

use crate::{
    crypto::random,
    gate::{Connection, Head, Media, Operation, Query, Rejection, RequestPath},
    secret::SecretString,
};

/// Reads all of a request but its body.
///
/// # Errors
/// [`Rejection`] when the path, the query or a header does not decode, or no route has the method.
pub(super) fn head(parts: &Parts, connection: &Connection) -> Result<Box<Head>, Rejection> {
    // `Uri::path` is as it was sent: `%2F` reaches the one place that decodes it.
    let raw = parts.uri.path().strip_prefix(PREFIX).ok_or(Rejection::NotFound)?;
    let path = RequestPath::parse(raw).map_err(Rejection::BadPath)?;
    let query = match parts.uri.query() {
        None => Query::default(),
        Some(raw) => {
            Query::parse(raw).map_err(|_| Rejection::BadQuery("the query is malformed"))?
        }
    };
    // Boxed, since it is handed on and every future on the way would have room for it.
    Ok(Box::new(Head {
        id: random::request_id(),
        operation: operation(&parts.method, &path, &query)?,
        path,
        query,
        token: token(&parts.headers),
        namespace: text(&parts.headers, &NAMESPACE)?,
        wrap_ttl: text(&parts.headers, &WRAP_TTL)?,
        media: media(&parts.headers),
        connection: connection.clone(),
    }))
}

/// Whether an operation has a body; that of any other request is not looked at.
pub(super) fn takes_body(operation: Operation) -> bool {
    match operation {
        Operation::Write | Operation::Patch => true,
        Operation::Read | Operation::Delete | Operation::List | Operation::Scan => false,
    }
}

/// Folds what clients use as synonyms into one word, before anything looks at the request.
fn operation(method: &Method, path: &RequestPath, query: &Query) -> Result<Operation, Rejection> {
    match method.as_str() {
        "GET" if flag(query, "list")? => Ok(Operation::List),
        "GET" if flag(query, "scan")? => Ok(Operation::Scan),
        "GET" => Ok(Operation::Read),
        "POST" | "PUT" => Ok(Operation::Write),
        "PATCH" => Ok(Operation::Patch),
        "DELETE" => Ok(Operation::Delete),
        "LIST" => Ok(Operation::List),
        "SCAN" => Ok(Operation::Scan),
        "HEAD" if path.as_str() == HEALTH => Ok(Operation::Read),
        _ => Err(Rejection::MethodNotAllowed),
    }
}

/// Reads a query's boolean as Go's `strconv.ParseBool` does; without a value it is false.
fn flag(query: &Query, name: &str) -> Result<bool, Rejection> {
    match query.first(name) {
        None | Some("" | "0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
        Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
        Some(_) => Err(Rejection::BadQuery("list and scan are booleans")),
    }
}

/// `X-Vault-Token`, or the bearer of `Authorization`; an empty one is none.
///
/// What is not text is carried on as text that no token equals, so that it fails as a wrong token
/// does.
fn token(headers: &HeaderMap) -> Option<SecretString> {
    let given = |name: &HeaderName, scheme: &str| {
        let value = headers.get(name)?.as_bytes().strip_prefix(scheme.as_bytes())?;
        let text = String::from_utf8_lossy(value);
        let text = text.trim();
        (!text.is_empty()).then(|| SecretString::copy_of(text))
    };
    given(&TOKEN, "").or_else(|| given(&header::AUTHORIZATION, "Bearer "))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Rejection> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Rejection::BadHeader("a header's value is not text"))?;
    Ok(Some(text.trim().to_owned()))
}

/// The media type without its parameters, in any case of letters.
fn media(headers: &HeaderMap) -> Media {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Media::Absent };
    let text = String::from_utf8_lossy(value.as_bytes());
    let kind = text.split(';').next().unwrap_or_default().trim();
    if kind.is_empty() {
        Media::Absent
    } else if kind.eq_ignore_ascii_case("application/json") {
        Media::Json
    } else if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Media::Form
    } else if kind.eq_ignore_ascii_case("application/merge-patch+json") {
        Media::MergePatch
    } else {
        Media::Other(kind.to_owned())
    }
}

/// Everything of Vault's API is below it.
pub(super) const PREFIX: &str = "/v1/";
/// The one route with `HEAD`.
const HEALTH: &str = "sys/health";
const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const WRAP_TTL: HeaderName = HeaderName::from_static("x-vault-wrap-ttl");

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read(request: http::request::Builder) -> Result<Box<Head>, Rejection> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let remote = "192.0.2.1:5".parse().unwrap();
        head(&parts, &Connection { remote, client_certificate: None })
    }

    fn operation_of(method: &str, target: &str) -> Result<Operation, Rejection> {
        read(Request::builder().method(method).uri(target)).map(|head| head.operation)
    }

    fn token_of(headers: &[(&str, &[u8])]) -> Option<String> {
        let request = headers
            .iter()
            .fold(Request::get("/v1/a"), |request, (name, value)| request.header(*name, *value));
        read(request).unwrap().token.map(|token| token.expose(ToOwned::to_owned))
    }

    fn media_of(value: &str) -> Media {
        read(Request::post("/v1/a").header("content-type", value)).unwrap().media
    }

    #[test]
    fn synonyms_are_folded() {
        for (method, target, operation) in [
            ("GET", "/v1/a", Operation::Read),
            ("PUT", "/v1/a", Operation::Write),
            ("POST", "/v1/a?list=true", Operation::Write),
            ("PATCH", "/v1/a", Operation::Patch),
            ("DELETE", "/v1/a", Operation::Delete),
            ("LIST", "/v1/a", Operation::List),
            ("GET", "/v1/a?list=true", Operation::List),
            ("GET", "/v1/a?list=TRUE", Operation::List),
            ("GET", "/v1/a?list=1", Operation::List),
            ("GET", "/v1/a?list=t", Operation::List),
            ("GET", "/v1/a?list=", Operation::Read),
            ("GET", "/v1/a?list", Operation::Read),
            ("GET", "/v1/a?list=false&list=true", Operation::Read),
            ("SCAN", "/v1/a", Operation::Scan),
            ("GET", "/v1/a?scan=true", Operation::Scan),
            ("HEAD", "/v1/sys/health", Operation::Read),
        ] {
            assert_eq!(operation_of(method, target).unwrap(), operation, "{method} {target}");
        }
    }

    #[test]
    fn other_methods_and_values_are_refused() {
        for method in ["HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "CONNECTED"] {
            let refused = operation_of(method, "/v1/a").unwrap_err();
            assert!(matches!(refused, Rejection::MethodNotAllowed), "{method}");
        }
        for target in ["/v1/a?list=yes", "/v1/a?scan=2", "/v1/a?list=%zz"] {
            let refused = operation_of("GET", target).unwrap_err();
            assert!(matches!(refused, Rejection::BadQuery(_)), "{target}");
        }
        for target in ["/v1/a/%2e%2e/b", "/v1/a%00", "/v1//a", "/v1/%g1"] {
            let refused = operation_of("GET", target).unwrap_err();
            assert!(matches!(refused, Rejection::BadPath(_)), "{target}");
        }
    }

    #[test]
    fn an_encoded_slash_separates() {
        let head = read(Request::get("/v1/kv%2Fa%20b/?x=1+2")).unwrap();
        assert_eq!(head.path.as_str(), "kv/a b/");
        assert_eq!(head.query.first("x"), Some("1 2"));
        assert_eq!(head.id.len(), 36);
    }

    #[test]
    fn the_token_comes_from_either_header() {
        assert_eq!(token_of(&[]), None);
        assert_eq!(token_of(&[("x-vault-token", b"a")]).as_deref(), Some("a"));
        assert_eq!(token_of(&[("x-vault-token", b" a ")]).as_deref(), Some("a"));
        assert_eq!(token_of(&[("authorization", b"Bearer  b")]).as_deref(), Some("b"));
        assert_eq!(token_of(&[("authorization", b"bearer b")]), None);
        assert_eq!(token_of(&[("authorization", b"Bearer ")]), None);
        assert_eq!(token_of(&[("authorization", b"b")]), None);
        let both: &[(&str, &[u8])] = &[("authorization", b"Bearer b"), ("x-vault-token", b"a")];
        assert_eq!(token_of(both).as_deref(), Some("a"));
        let empty: &[(&str, &[u8])] = &[("authorization", b"Bearer b"), ("x-vault-token", b"")];
        assert_eq!(token_of(empty).as_deref(), Some("b"));
    }

    #[test]
    fn a_token_that_is_not_text_is_a_wrong_token() {
        assert!(token_of(&[("x-vault-token", b"hvs.\xe9")]).is_some());
    }

    #[test]
    fn media_types_are_read_without_parameters_or_case() {
        assert_eq!(media_of("Application/JSON; charset=utf-8"), Media::Json);
        assert_eq!(media_of("application/merge-patch+json;x=y"), Media::MergePatch);
        assert_eq!(media_of("application/x-www-form-urlencoded"), Media::Form);
        assert_eq!(media_of(""), Media::Absent);
        assert_eq!(media_of("text/plain"), Media::Other("text/plain".into()));
    }

    #[test]
    fn headers_of_vault_are_carried_as_they_come() {
        let request = Request::get("/v1/a")
            .header("X-Vault-Namespace", "team/")
            .header("X-Vault-Wrap-TTL", "5m")
            .header("X-HTTP-Method-Override", "DELETE");
        let head = read(request).unwrap();
        assert_eq!(head.namespace.as_deref(), Some("team/"));
        assert_eq!(head.wrap_ttl.as_deref(), Some("5m"));
        assert_eq!(head.operation, Operation::Read);
    }
}
