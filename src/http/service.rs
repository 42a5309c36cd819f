use std::{convert::Infallible, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Request, request::Parts};
use hyper::{
    body::{Body, Incoming},
    service::{Service, service_fn},
};
use tokio::time::sleep;

use super::{
    body::{Bodies, LARGE_BODY, discard},
    offences::{Offences, Offender},
    places::Places,
    request,
    response::{Insistence, respond},
};
use crate::{
    gate::{Connection, Rejection, Released, reject},
    pipeline::Kista,
    quota::Source,
};

/// What the requests of one connection share.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) kista: Kista,
    pub(super) bodies: Bodies,
    pub(super) places: Places,
    pub(super) offences: Offences,
    pub(super) connection: Connection,
    pub(super) is_tls: bool,
}

impl Origin {
    fn stranger(&self) -> Offender {
        Offender::Stranger(Source::of(self.connection.remote.ip()))
    }
}

/// Makes what answers one connection's requests.
///
/// There is no router here: [`request::head`] reads the path and the mounts are the routes, so that
/// one would only copy and decode the path, and box what is called.
pub(super) fn service(
    origin: Origin,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> {
    let origin = Arc::new(origin);
    service_fn(move |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        answer(Arc::clone(&origin), parts, body)
    })
}

async fn answer<B: Body<Data = Bytes> + Unpin>(
    origin: Arc<Origin>,
    parts: Parts,
    mut body: B,
) -> Result<Response, Infallible> {
    let released = within(REQUEST_TIMEOUT, carry(&origin, &parts, &mut body)).await;
    let released = released.unwrap_or_else(|| reject(&Rejection::TookTooLong));
    let insistence = Insistence::of(origin.is_tls, &parts.uri, &parts.headers);
    Ok(respond(released, insistence, emptied(parts.headers)))
}

/// What `work` comes to, or `None` when it takes too long. Most requests are done at their first
/// poll, so that a timer is set only for others.
async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut timer) = (pin!(work), None);
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// The room that the request's headers took, for those of the answer: hyper keeps it for the next
/// request of the connection.
fn emptied(mut headers: HeaderMap) -> HeaderMap {
    headers.clear();
    headers
}

/// Carries a request to the pipeline: its head first, and its body only once the pipeline has
/// looked at the token and said how much of a body it takes.
async fn carry<B: Body<Data = Bytes> + Unpin>(
    origin: &Origin,
    parts: &Parts,
    body: &mut B,
) -> Released {
    match carry_parts(origin, parts, body).await {
        Ok(released) => released,
        Err(refusal) => {
            discard(parts, body, || origin.offences.of(origin.stranger())).await;
            refusal
        }
    }
}

/// `Err` when the body has not been read to its end.
async fn carry_parts<B: Body<Data = Bytes> + Unpin>(
    origin: &Origin,
    parts: &Parts,
    body: &mut B,
) -> Result<Released, Released> {
    let head = request::head(parts, &origin.connection).map_err(|refused| reject(&refused))?;
    let takes_body = request::takes_body(head.operation);
    let place = origin.places.take(&head).map_err(|refused| reject(&refused))?;
    let begun = origin.kista.begin(head).await?;
    let mut conduct = None;
    let ((bytes, share), place) = if takes_body {
        // Whoever sends slowly keeps nobody out meanwhile.
        place.leave();
        let offender = begun.digest().map_or_else(|| origin.stranger(), Offender::Holder);
        let conduct = conduct.insert(origin.offences.of(offender));
        let read = Box::pin(origin.bodies.read(body, begun.body_limit(), conduct)).await;
        (read.map_err(|refused| reject(&refused))?, origin.places.take_again().await)
    } else {
        discard(parts, body, || origin.offences.of(origin.stranger())).await;
        (Bodies::none(), place)
    };
    let conduct = conduct.filter(|_| bytes.len() > LARGE_BODY);
    let released = begun.call(bytes).await;
    if let Some(conduct) = conduct
        && is_in_vain(&released)
    {
        conduct.offend();
    }
    drop((share, place));
    Ok(released)
}

/// Whether a large body was received and read in vain, as a mistake does now and then and an
/// attacker all the time. Not all that is refused is: a batch fails for one of its items.
fn is_in_vain(released: &Released) -> bool {
    released.is_of_useless_input() || released.status() == FORBIDDEN
}

const FORBIDDEN: u16 = 403;
/// A request may take this long, its body included. What it has begun goes on to its end.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, sync::Arc, time::Duration};

    use axum::body::Body;
    use http::StatusCode;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        clock::SystemClock,
        config::Limits,
        token::TtlLimits,
        vault::{Settings, Vault},
    };

    /// A connection to a vault that is not initialised: enough for all that is decided before one.
    struct Site {
        origin: Arc<Origin>,
        _folder: tempfile::TempDir,
    }

    impl Site {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let minute = Duration::from_secs(60);
            let ttl = TtlLimits { default: minute, max: minute };
            let settings = Settings::new(folder.path().join("data"), ttl);
            let vault = Vault::start(settings, Arc::new(SystemClock)).unwrap();
            let origin = Origin {
                kista: Kista::new(vault),
                bodies: Bodies::new(Limits::default()),
                places: Places::new(Limits { requests: NonZeroU32::MIN, ..Limits::default() }),
                offences: Offences::default(),
                connection: Connection {
                    remote: "192.0.2.1:5".parse().unwrap(),
                    client_certificate: None,
                },
                is_tls: true,
            };
            Self { origin: Arc::new(origin), _folder: folder }
        }

        async fn send(&self, method: &str, target: &str, body: Body) -> (StatusCode, Vec<u8>) {
            let request = Request::builder().method(method).uri(target).body(body).unwrap();
            let (parts, body) = request.into_parts();
            let response = answer(Arc::clone(&self.origin), parts, body).await.unwrap();
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(response.headers()["cache-control"], "no-store");
            let status = response.status();
            (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
        }

        async fn ask(&self, method: &str, target: &str) -> (u16, Value) {
            let (status, body) = self.send(method, target, Body::empty()).await;
            (status.as_u16(), serde_json::from_slice(&body).unwrap())
        }
    }

    #[tokio::test]
    async fn what_is_outside_the_api_is_not_found() {
        let site = Site::new();
        for target in ["/", "/v1", "/v2/a", "/secret/a", "/ui/", "/favicon.ico"] {
            assert_eq!(site.ask("GET", target).await, (404, json!({"errors": []})), "{target}");
        }
    }

    #[tokio::test]
    async fn the_bare_prefix_and_encoded_slashes_reach_the_pipeline() {
        let site = Site::new();
        for target in ["/v1/", "/v1/a", "/v1/a%2Fb", "/v1/a/", "/v1/a?x=y"] {
            let (status, body) = site.ask("GET", target).await;
            assert_eq!((status, &body["errors"][0]), (503, &json!("Vault is sealed")), "{target}");
        }
        let (status, _) = site.ask("GET", "/v1/sys%2Fseal-status").await;
        assert_eq!(status, 200);
    }

    #[tokio::test]
    async fn a_method_that_no_route_has_is_refused() {
        let site = Site::new();
        for method in ["OPTIONS", "TRACE", "PROPFIND"] {
            assert_eq!(site.ask(method, "/v1/a").await, (405, json!({"errors": []})), "{method}");
        }
        let (status, _) = site.send("HEAD", "/v1/sys/init", Body::empty()).await;
        assert_eq!(status, 405);
        // hyper leaves the body of this answer out.
        let (status, _) = site.send("HEAD", "/v1/sys/health", Body::empty()).await;
        assert_eq!(status.as_u16(), 501);
    }

    #[tokio::test]
    async fn a_path_with_two_readings_is_refused() {
        let site = Site::new();
        for target in ["/v1/a/%2e%2e/b", "/v1/a%00", "/v1/a//b", "/v1/%g1"] {
            assert_eq!(site.ask("GET", target).await.0, 400, "{target}");
        }
    }

    #[tokio::test]
    async fn a_body_beyond_the_route_s_limit_is_refused() {
        let site = Site::new();
        let (status, body) =
            site.send("PUT", "/v1/sys/init", Body::from(vec![b' '; 1024 * 1024])).await;
        assert_eq!(status, 413);
        assert_eq!(body, b"{\"errors\":[\"http: request body too large\"]}\n");
    }

    #[tokio::test]
    async fn the_body_of_a_read_is_not_looked_at() {
        let site = Site::new();
        let (status, _) = site.send("GET", "/v1/sys/init", Body::from("{not json")).await;
        assert_eq!(status, 200);
    }

    #[tokio::test]
    async fn one_request_more_than_are_worked_on_is_turned_away_and_probes_are_not() {
        let site = Site::new();
        let taken = site.origin.places.take_again().await;
        let (status, body) = site.ask("GET", "/v1/secret/a").await;
        assert_eq!(status, 503);
        assert_eq!(body, json!({"errors": ["too many requests at once; try again"]}));
        assert_eq!(site.ask("POST", "/v1/sys/init").await.0, 503);
        assert_eq!(site.ask("GET", "/v1/sys/health").await.0, 501);
        assert_eq!(site.ask("GET", "/v1/sys/seal-status").await.0, 200);
        taken.leave();
        let (_, body) = site.ask("GET", "/v1/secret/a").await;
        assert_eq!(body, json!({"errors": ["Vault is sealed"]}));
        assert_eq!(site.ask("POST", "/v1/sys/init").await.0, 400);
    }
}
