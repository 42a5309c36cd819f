//! The listener over real sockets: TLS, limits and its end. Its answers are a stand-in's.

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::get};
use hyper_util::service::TowerToHyperService;
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::ResolvesClientCert,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::{
    clock::{Clock, SystemClock},
    config::{Limits, Listener, Tls, Transport},
    gate::Connection,
};

/// A listener that answers `/` with the length of the client's certificate, and `/slow` when told.
struct Site {
    address: std::net::SocketAddr,
    certificates: Certificates,
    release: Arc<Notify>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Site {
    fn tls() -> Self {
        Self::start(Limits::default(), true)
    }

    fn plain() -> Self {
        Self::start(Limits::default(), false)
    }

    fn start(limits: Limits, is_tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::ensure(folder.path(), &[], SystemClock.now()).unwrap();
        let transport = if is_tls {
            Transport::Tls(Tls {
                certificate: certificates.server.clone(),
                key: certificates.server.clone(),
                client_ca: Some(certificates.authority.clone()),
            })
        } else {
            Transport::Plain
        };
        let listener = Listener { address: "127.0.0.1:0".parse().unwrap(), transport };
        let server = Server::bind(&listener, limits).unwrap();
        let address = server.local_addr();
        let release = Arc::new(Notify::new());
        let (stop, stopped) = oneshot::channel();
        let service = {
            let release = Arc::clone(&release);
            move |connection| stand_in(connection, Arc::clone(&release))
        };
        let running = tokio::spawn(server.serve(service, async {
            stopped.await.ok();
        }));
        Self { address, certificates, release, stop: Some(stop), running, _folder: folder }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        self.client_with(version, None)
    }

    fn client_with(
        &self,
        version: &'static SupportedProtocolVersion,
        shown: Option<CertifiedKey>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(&self.certificates.authority).unwrap();
        roots.add(authority).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        match shown {
            None => builder.with_no_client_auth(),
            Some(key) => builder.with_client_cert_resolver(Arc::new(Shows(Arc::new(key)))),
        }
    }

    async fn shake(&self, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.connect().await).await
    }
}

fn stand_in(connection: Connection, release: Arc<Notify>) -> TowerToHyperService<Router> {
    let length = connection.client_certificate.map_or(0, |certificate| certificate.len());
    let slow = move || async move {
        release.notified().await;
        "done"
    };
    let router = Router::new()
        .route("/", get(move || async move { length.to_string() }))
        .route("/slow", get(slow));
    TowerToHyperService::new(router)
}

/// Shows a certificate whatever is asked for, with whatever key.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Sends a request for `path` on its own connection and returns all that comes back.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(stream).await
}

/// What comes until the end, however it ends.
async fn rest<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8(answer).unwrap()
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82], length.as_slice(), content].concat()
}

/// An X.509 certificate of version 1, which has neither a version nor extensions. Nobody signed it,
/// and it ends on no date.
fn version_1(public_key: &[u8]) -> CertificateDer<'static> {
    let algorithm = der(0x30, &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
    let common_name = [der(0x06, &[0x55, 4, 3]), der(0x0c, b"old client")].concat();
    let name = der(0x30, &der(0x31, &der(0x30, &common_name)));
    let validity = der(0x30, &[der(0x17, b"990101000000Z"), der(0x17, b"no date")].concat());
    let serial = der(0x02, &[1]);
    let subject = name.clone();
    let parts = [serial, algorithm.clone(), name, validity, subject, public_key.to_vec()];
    let body = der(0x30, &parts.concat());
    let signature = der(0x03, &[0, 1, 2, 3]);
    der(0x30, &[body, algorithm, signature].concat()).into()
}

/// A version 1 certificate, and a key: its own, or another's.
fn version_1_with(
    algorithm: &'static rcgen::SignatureAlgorithm,
    key_is_its_own: bool,
) -> CertifiedKey {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let other = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let certificate = version_1(&rcgen::PublicKeyData::subject_public_key_info(&key));
    let used = if key_is_its_own { key } else { other };
    let used = PrivateKeyDer::try_from(used.serialize_der()).unwrap();
    let signing = aws_lc_rs::sign::any_supported_type(&used).unwrap();
    CertifiedKey::new(vec![certificate], signing)
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const KEYS: [&rcgen::SignatureAlgorithm; 4] = [
    &rcgen::PKCS_ECDSA_P256_SHA256,
    &rcgen::PKCS_ECDSA_P384_SHA384,
    &rcgen::PKCS_ED25519,
    &rcgen::PKCS_RSA_SHA256,
];

#[tokio::test]
async fn a_client_without_a_certificate_is_served() {
    let site = Site::tls();
    for version in VERSIONS {
        let mut stream = site.shake(site.client(version)).await.unwrap();
        let answer = ask(&mut stream, "/").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n0"), "{answer}");
        assert!(!answer.to_lowercase().contains("\r\nserver:"), "{answer}");
    }
}

#[tokio::test]
async fn an_old_certificate_whose_key_is_held_is_seen() {
    let site = Site::tls();
    for version in VERSIONS {
        for algorithm in KEYS {
            let key = version_1_with(algorithm, true);
            let length = key.cert[0].len();
            let mut stream = site.shake(site.client_with(version, Some(key))).await.unwrap();
            let answer = ask(&mut stream, "/").await;
            assert!(answer.ends_with(&format!("\r\n\r\n{length}")), "{algorithm:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_certificate_whose_key_is_not_held_ends_the_handshake() {
    let site = Site::tls();
    for version in VERSIONS {
        for algorithm in KEYS {
            let key = version_1_with(algorithm, false);
            // In TLS 1.3 a client has finished before the server has judged it.
            let answer = match site.shake(site.client_with(version, Some(key))).await {
                Ok(mut stream) => ask(&mut stream, "/").await,
                Err(_) => String::new(),
            };
            assert_eq!(answer, "", "{version:?} {algorithm:?}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_ends_the_handshake() {
    let site = Site::tls();
    for version in VERSIONS {
        let mut key = version_1_with(&rcgen::PKCS_ED25519, true);
        key.cert = vec![CertificateDer::from(vec![0x30, 3, 2, 1, 1])];
        let answer = match site.shake(site.client_with(version, Some(key))).await {
            Ok(mut stream) => ask(&mut stream, "/").await,
            Err(_) => String::new(),
        };
        assert_eq!(answer, "");
    }
}

#[tokio::test]
async fn no_session_is_resumed() {
    let site = Site::tls();
    for version in VERSIONS {
        let config = site.client(version);
        for _ in 0..2 {
            let mut stream = site.shake(config.clone()).await.unwrap();
            ask(&mut stream, "/").await;
            let kind = stream.get_ref().1.handshake_kind().unwrap();
            assert_eq!(kind, rustls::HandshakeKind::Full);
        }
    }
}

#[tokio::test]
async fn suites_without_authenticated_encryption_are_refused() {
    let site = Site::tls();
    let hello = client_hello(&[
        [0xc0, 0x09], // ECDHE_ECDSA_WITH_AES_128_CBC_SHA
        [0xc0, 0x0a], // ECDHE_ECDSA_WITH_AES_256_CBC_SHA
        [0xc0, 0x23], // ECDHE_ECDSA_WITH_AES_128_CBC_SHA256
        [0x00, 0x9c], // RSA_WITH_AES_128_GCM_SHA256
    ]);
    let mut stream = site.connect().await;
    stream.write_all(&hello).await.unwrap();
    let mut alert = [0; 7];
    stream.read_exact(&mut alert).await.unwrap();
    // RFC 5246 §7.2: alert (21), fatal (2), handshake_failure (40).
    assert_eq!((alert[0], alert[5], alert[6]), (21, 2, 40));

    let accepted = client_hello(&[[0xc0, 0x2b]]); // ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    let mut stream = site.connect().await;
    stream.write_all(&accepted).await.unwrap();
    stream.read_exact(&mut alert).await.unwrap();
    assert_eq!((alert[0], alert[5]), (22, 2), "a ServerHello answers what is allowed");
}

/// A TLS 1.2 ClientHello (RFC 5246 §7.4.1.2) that offers only these suites.
fn client_hello(suites: &[[u8; 2]]) -> Vec<u8> {
    fn sized(content: &[u8]) -> Vec<u8> {
        [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    }
    let groups = [&[0, 10][..], &sized(&sized(&[0, 23, 0, 29]))].concat();
    let signatures = [&[0, 13][..], &sized(&sized(&[4, 3, 8, 4]))].concat();
    let extensions = sized(&[groups, signatures].concat());
    let hello =
        [&[3, 3][..], &[7; 32], &[0], &sized(&suites.concat()), &[1, 0], &extensions].concat();
    let handshake = [&[1, 0][..], &sized(&hello)].concat();
    [&[22, 3, 1][..], &sized(&handshake)].concat()
}

#[tokio::test]
async fn http_2_is_spoken_when_it_is_agreed_on() {
    let site = Site::tls();
    let mut config = site.client(&TLS13);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = site.shake(config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    let driving = tokio::spawn(connection);
    let ask = |value: String| {
        http::Request::get("https://localhost/")
            .header("x-long", value)
            .body(axum::body::Body::empty())
            .unwrap()
    };
    let answer = sender.send_request(ask("x".repeat(20_000))).await.unwrap();
    assert_eq!(answer.status(), 200);
    let refused = sender.send_request(ask("x".repeat(40_000))).await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status() == 431));
    driving.abort();
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let site = Site::plain();
    let mut stream = site.connect().await;
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(33_000));
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_too_slowly_is_cut_off() {
    let site = Site::plain();
    let mut stream = site.connect().await;
    let start = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
    let lasted = start.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(60)).contains(&lasted), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_is_cut_off() {
    let site = Site::tls();
    let mut stream = site.connect().await;
    let start = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once() {
    let one = 1.try_into().unwrap();
    let site = Site::start(Limits { connections: one, ..Limits::default() }, false);
    let mut first = site.connect().await;
    first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    first.read_u8().await.unwrap();
    let mut second = site.connect().await;
    assert_eq!(rest(&mut second).await, "");
    drop(first);
    let answer = loop {
        let answer = ask(&mut site.connect().await, "/").await;
        if !answer.is_empty() {
            break answer;
        }
    };
    assert!(answer.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_running_request_ends_before_the_server_does() {
    let mut site = Site::plain();
    let mut idle = site.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    idle.read_u8().await.unwrap();
    let mut busy = site.connect().await;
    let request = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
    busy.write_all(request).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    site.stop.take().unwrap().send(()).unwrap();
    assert!(rest(&mut idle).await.starts_with("TTP/1.1 200"));
    assert!(!site.running.is_finished());
    assert!(TcpStream::connect(site.address).await.is_err(), "nobody else is let in");
    site.release.notify_waiters();
    site.release.notify_one();
    let answer = rest(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    site.running.await.unwrap();
}

#[tokio::test]
async fn a_client_that_has_said_all_it_will_is_answered() {
    let site = Site::plain();
    let mut client = site.connect().await;
    client.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    site.release.notify_one();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let site = Site::plain();
    let listener = Listener { address: site.address, transport: Transport::Plain };
    let error = Server::bind(&listener, Limits::default()).unwrap_err();
    assert!(matches!(error, BindError::Taken { .. }));
    let text = error.to_string();
    assert!(text.contains(&site.address.to_string()) && text.contains("--listen"), "{text}");
}

#[tokio::test]
async fn plain_http_is_refused_off_loopback() {
    let listener = Listener { address: "0.0.0.0:0".parse().unwrap(), transport: Transport::Plain };
    let error = Server::bind(&listener, Limits::default()).unwrap_err();
    assert!(matches!(error, BindError::PlainOffLoopback { .. }));
}

#[tokio::test]
async fn tls_files_that_cannot_serve_are_named() {
    let site = Site::tls();
    let bind = |certificate: &std::path::Path, key: &std::path::Path| {
        let tls = Tls { certificate: certificate.into(), key: key.into(), client_ca: None };
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = Listener { address, transport: Transport::Tls(tls) };
        Server::bind(&listener, Limits::default()).unwrap_err().to_string()
    };
    let server = site.certificates.server.as_path();
    let authority = site.certificates.authority.as_path();
    let none = server.with_file_name("none.pem");
    assert!(bind(&none, server).starts_with("cannot read listener.tls_cert"));
    assert!(bind(server, authority).starts_with("listener.tls_key"));
    let other = server.with_file_name("ca-key.pem");
    assert!(bind(server, &other).contains("cannot be used together"));
}
