//! TLS as the server speaks it: 1.3 and 1.2, authenticated encryption and forward secrecy only.
//!
//! A client is asked for a certificate and need not have one. What it shows is judged here by one
//! question, whether it holds the private key; chain, dates and names are judged where somebody
//! logs in with it. No session is resumed, in either version: a resumed handshake would skip that
//! question, and a ticket key is one more secret in memory. There is no early data (RFC 8446 §8).

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, UnixTime,
        pem::{self, PemObject},
    },
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use x509_parser::{
    asn1_rs::{Any, Class},
    certificate::X509Certificate,
    prelude::FromDer,
    x509::SubjectPublicKeyInfo,
};

use crate::config::Tls;

/// The files of a TLS listener cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {key} {}", path.display())]
    Unreadable {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{key} {} holds no {wanted} in PEM form", path.display())]
    Malformed {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The private key lies open to every user of the machine.
    #[error("listener.tls_key {} can be read by every user: run chmod o= on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The certificate and the key cannot serve.
    #[error("listener.tls_cert and listener.tls_key cannot be used together")]
    Unusable(#[source] Error),
}

/// Builds the server's side of TLS from its files.
///
/// # Errors
/// [`TlsError`] when a file cannot be read, holds something else, or the key is another
/// certificate's.
pub(super) fn server_config(files: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Possession {
        offered: match &files.client_ca {
            None => Vec::new(),
            Some(path) => certificates("listener.tls_client_ca", path)?
                .iter()
                .map(|certificate| subject(certificate, path))
                .collect::<Result<_, _>>()?,
        },
        algorithms: provider.signature_verification_algorithms,
    });
    let chain = certificates("listener.tls_cert", &files.certificate)?;
    let key = private_key(&files.key)?;
    // rustls has suites of authenticated encryption with ephemeral keys only (RFC 9325 §4.2).
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![H2.to_vec(), HTTP11.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Asks one question of a client's certificate: does the client hold its key?
///
/// rustls' own check reads the certificate as X.509 version 3 and refuses others; clients do
/// present version 1.
#[derive(Debug)]
struct Possession {
    offered: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.offered
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let public_key = public_key(certificate)?;
        let (_, candidates) = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        // In TLS 1.2 a scheme does not name its curve (RFC 5246 §7.4.1.4.1), so each that fits the
        // key is tried.
        let identifier = algorithm_identifier(&public_key);
        candidates
            .iter()
            .filter(|algorithm| identifier == Some(algorithm.public_key_alg_id().as_ref()))
            .any(|algorithm| {
                let key = public_key.subject_public_key.data.as_ref();
                algorithm.verify_signature(key, message, signed.signature()).is_ok()
            })
            .then(HandshakeSignatureValid::assertion)
            .ok_or_else(|| CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let public_key = SubjectPublicKeyInfoDer::from(public_key(certificate)?.raw);
        verify_tls13_signature_with_raw_key(message, &public_key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The public key of a certificate. Nothing else of it is parsed, so nothing else can be found
/// wanting.
fn public_key<'a>(certificate: &'a CertificateDer<'_>) -> Result<SubjectPublicKeyInfo<'a>, Error> {
    find_public_key(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

fn find_public_key(certificate: &[u8]) -> Result<SubjectPublicKeyInfo<'_>, X509Failure> {
    // RFC 5280 §4.1: a certificate begins with its body, and that with an optional version [0],
    // serial number, signature algorithm, issuer, validity and subject; then comes the key.
    let (_, certificate) = Any::from_der(certificate)?;
    let (_, body) = Any::from_der(certificate.data)?;
    let mut rest = body.data;
    let (_, first) = Any::from_der(rest)?;
    let before_key = if first.class() == Class::ContextSpecific { 6 } else { 5 };
    for _ in 0..before_key {
        (rest, _) = Any::from_der(rest)?;
    }
    Ok(SubjectPublicKeyInfo::from_der(rest)?.1)
}

/// A certificate that cannot be taken apart.
struct X509Failure;

impl<E> From<x509_parser::nom::Err<E>> for X509Failure {
    fn from(_: x509_parser::nom::Err<E>) -> Self {
        Self
    }
}

/// The content of the key's AlgorithmIdentifier, without its tag and length: the form in which
/// rustls' algorithms name theirs.
fn algorithm_identifier<'a>(public_key: &SubjectPublicKeyInfo<'a>) -> Option<&'a [u8]> {
    let content = |der: &'a [u8]| {
        let (header_len, len) = match der {
            [0x30, short @ 0..=0x7f, ..] => (2, usize::from(*short)),
            [0x30, 0x81, long, ..] => (3, usize::from(*long)),
            [0x30, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            [..] => return None,
        };
        der.get(header_len..header_len + len)
    };
    // SubjectPublicKeyInfo is a SEQUENCE that begins with the AlgorithmIdentifier (RFC 5280 §4.1).
    content(public_key.raw).and_then(content)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unread(error, key, path, "certificate"))?;
    if found.is_empty() {
        return Err(unread(pem::Error::NoItemsFound, key, path, "certificate"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let key = PrivateKeyDer::from_pem_file(path)
        .map_err(|error| unread(error, "listener.tls_key", path, "private key"))?;
    let mode = std::fs::metadata(path)
        .map_err(|source| unread(pem::Error::Io(source), "listener.tls_key", path, ""))?
        .mode();
    // Reading by a group is how packages share one key among servers; by everybody it is a mistake.
    if mode & 0o007 != 0 {
        return Err(TlsError::Exposed { path: path.to_owned() });
    }
    Ok(key)
}

fn subject(certificate: &CertificateDer<'_>, path: &Path) -> Result<DistinguishedName, TlsError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| TlsError::Malformed {
        key: "listener.tls_client_ca",
        path: path.to_owned(),
        wanted: "X.509 certificate",
    })?;
    Ok(DistinguishedName::from(parsed.subject().as_raw().to_vec()))
}

fn unread(error: pem::Error, key: &'static str, path: &Path, wanted: &'static str) -> TlsError {
    let path = path.to_owned();
    if let pem::Error::Io(source) = error {
        return TlsError::Unreadable { key, path, source };
    }
    TlsError::Malformed { key, path, wanted }
}

/// HTTP/2 (RFC 9113 §3.2).
pub(super) const H2: &[u8] = b"h2";
/// HTTP/1.1 (RFC 7301 §6).
const HTTP11: &[u8] = b"http/1.1";
