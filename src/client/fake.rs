//! A server for the tests: real TLS, and answers that the test wrote beforehand.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::{Builder, Client};
use crate::secret::SecretString;

/// A server that answers each request with the next of its answers, then closes the connection.
pub(super) struct Fake {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

/// What one connection gets.
#[derive(Clone, Copy)]
pub(super) enum Scripted {
    /// Status, further headers (each ended by CRLF), body.
    Answer(u16, &'static str, &'static str),
    /// The connection is closed once the request is read.
    HangUp,
}

impl Fake {
    pub(super) async fn start(script: Vec<Scripted>) -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::default();
        let seen = Arc::clone(&requests);
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), script, seen));
        Self { address, requests, folder }
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(super) fn builder(&self) -> Builder {
        Client::builder(format!("https://{}", self.address))
            .ca_file(self.ca_file())
            .token(SecretString::copy_of("hvs.planted"))
    }

    pub(super) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    /// The requests so far, head and body as they came.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    script: Vec<Scripted>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    let mut script = script.into_iter();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // A client that does not trust the certificate goes away here.
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let Some(request) = read_request(&mut stream).await else { continue };
        requests.lock().unwrap().push(request);
        if let Some(Scripted::Answer(status, headers, body)) = script.next() {
            let answer = format!(
                "HTTP/1.1 {status} Scripted\r\n{headers}content-length: {}\r\n\
                 connection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        stream.shutdown().await.unwrap_or_default();
    }
}

async fn read_request(stream: &mut tokio_rustls::server::TlsStream<TcpStream>) -> Option<String> {
    let mut request = String::new();
    loop {
        if let Some((head, body)) = request.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return Some(request);
            }
        }
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        request.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
}
