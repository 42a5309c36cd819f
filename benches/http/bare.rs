//! The yardstick: a bare axum route over rustls that takes and answers the same bytes.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    routing::{get, post},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Serves `body` where the vault serves it, for as long as the runtime lives.
pub(crate) async fn serve(certificate: &Path, key: &Path, body: Vec<u8>) -> io::Result<SocketAddr> {
    let body = Bytes::from(body);
    let answer = move || {
        let body = body.clone();
        async move { ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body) }
    };
    let router = Router::new()
        .route(crate::PATH, get(answer.clone()))
        .route("/v1/secret/metadata/names", get(answer.clone()))
        .route(crate::load::ENCRYPT, post(move |_: Bytes| answer()));
    let acceptor = TlsAcceptor::from(Arc::new(tls(certificate, key)?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let stream = TokioIo::new(acceptor.accept(stream).await?);
                let service = TowerToHyperService::new(router);
                let server = auto::Builder::new(TokioExecutor::new());
                server.serve_connection(stream, service).await.map_err(io::Error::other)
            });
        }
    });
    Ok(address)
}

fn tls(certificate: &Path, key: &Path) -> io::Result<ServerConfig> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).map_err(io::Error::other)?.collect();
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(io::Error::other)?, key)
        .map_err(io::Error::other)
}
