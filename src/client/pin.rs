use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use super::BuildError;

/// Trust in one certificate itself, whoever has issued it and whatever names and times it holds;
/// or, made by [`Pin::unknown`], in none, to see what a server shows.
///
/// The server proves that it holds the certificate's key, as ever. One that shows another
/// certificate is hung up on before anything is sent to it.
#[derive(Debug, Clone)]
pub struct Pin(Arc<Verifier>);

#[derive(Debug)]
struct Verifier {
    trusted: Option<CertificateDer<'static>>,
    shown: Mutex<Vec<CertificateDer<'static>>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pin {
    /// Trusts nothing: a client of this pin learns what the server shows, and sends it nothing.
    pub fn unknown() -> Self {
        Self::new(None)
    }

    /// Trusts this certificate, in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self::new(Some(CertificateDer::from(certificate.to_vec())))
    }

    /// Trusts the first certificate of this PEM file.
    ///
    /// # Errors
    /// [`BuildError::CaFile`] when the file cannot be read or holds none.
    pub fn of_file(file: &Path) -> Result<Self, BuildError> {
        CertificateDer::from_pem_file(file).map(|certificate| Self::new(Some(certificate))).map_err(
            |error| BuildError::CaFile { file: file.to_owned(), reason: error.to_string() },
        )
    }

    /// What the server has shown last, in DER: its own certificate, then those it sends along.
    ///
    /// They are the server's only after a call of a pin that trusts the first of them: the
    /// handshake of an unknown one is broken off before the server has proved anything.
    pub fn shown(&self) -> Vec<Vec<u8>> {
        let shown = self.0.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.iter().map(|certificate| certificate.to_vec()).collect()
    }

    pub(super) fn verifier(&self) -> Arc<dyn ServerCertVerifier> {
        Arc::<Verifier>::clone(&self.0)
    }

    fn new(trusted: Option<CertificateDer<'static>>) -> Self {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        Self(Arc::new(Verifier { trusted, shown: Mutex::default(), algorithms }))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = [own].into_iter().chain(others).map(|one| one.clone().into_owned()).collect();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        match &self.trusted {
            Some(trusted) if trusted.as_ref() == own.as_ref() => {
                Ok(ServerCertVerified::assertion())
            }
            Some(_) | None => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
