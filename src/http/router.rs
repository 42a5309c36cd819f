use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use http::request::Parts;
use tokio::time::timeout;

use super::{
    body::{Bodies, discard},
    request,
    response::{Insistence, respond},
};
use crate::{
    gate::{Connection, Rejection, Released, reject},
    pipeline::Kista,
};

/// What the requests of one connection share.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) kista: Kista,
    pub(super) bodies: Bodies,
    pub(super) connection: Connection,
    pub(super) is_tls: bool,
}

/// Makes one connection's router. Its state is the connection's own, so that a request carries nothing
/// but itself.
pub(super) fn router(origin: Origin) -> Router {
    Router::new()
        // The wildcard needs a segment, so the bare prefix is a route of its own.
        .route("/v1/", any(answer))
        .route("/v1/{*path}", any(answer))
        .fallback(not_found)
        .with_state(Arc::new(origin))
}

async fn answer(State(origin): State<Arc<Origin>>, request: Request) -> Response {
    let insistence = Insistence::of(origin.is_tls, request.uri(), request.headers());
    let released = timeout(REQUEST_TIMEOUT, carry(&origin, request))
        .await
        .unwrap_or_else(|_| reject(&Rejection::TooBusy));
    respond(released, insistence)
}

async fn not_found(State(origin): State<Arc<Origin>>, request: Request) -> Response {
    let insistence = Insistence::of(origin.is_tls, request.uri(), request.headers());
    let (parts, mut body) = request.into_parts();
    discard(&parts, &mut body).await;
    respond(reject(&Rejection::NotFound), insistence)
}

/// Carries a request to the pipeline: its head first, and its body only once the pipeline has looked at
/// the token and said how much of a body it takes.
async fn carry(origin: &Origin, request: Request) -> Released {
    let (parts, mut body) = request.into_parts();
    match carry_parts(origin, &parts, &mut body).await {
        Ok(released) => released,
        Err(refusal) => {
            discard(&parts, &mut body).await;
            refusal
        }
    }
}

/// `Err` when the body has not been read to its end.
async fn carry_parts(
    origin: &Origin,
    parts: &Parts,
    body: &mut Body,
) -> Result<Released, Released> {
    let head = request::head(parts, &origin.connection).map_err(|refused| reject(&refused))?;
    let takes_body = request::takes_body(head.operation);
    let begun = origin.kista.begin(head).await?;
    let (bytes, share) = if takes_body {
        let read = origin.bodies.read(body, begun.body_limit()).await;
        read.map_err(|refused| reject(&refused))?
    } else {
        discard(parts, body).await;
        Bodies::none()
    };
    let released = begun.call(bytes).await;
    drop(share);
    Ok(released)
}

/// A request may take this long, its body included. What it has begun goes on to its end.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);
