use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;

use super::{BuildError, Pin};

/// Whom to trust: one certificate, else those of this file and no others, else the system's.
///
/// TLS 1.3, and 1.2 with the forward-secret suites that rustls has.
pub(super) fn config(
    pin: Option<&Pin>,
    ca_file: Option<&Path>,
) -> Result<ClientConfig, BuildError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(BuildError::Tls)?;
    let mut config = match (pin, ca_file) {
        (Some(pin), _) => builder.dangerous().with_custom_certificate_verifier(pin.verifier()),
        (None, Some(file)) => builder.with_root_certificates(roots(file)?),
        (None, None) => builder.with_platform_verifier().map_err(BuildError::Tls)?,
    }
    .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(file: &Path) -> Result<RootCertStore, BuildError> {
    let refused = |reason: String| BuildError::CaFile { file: file.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| refused(e.to_string()))? {
        let certificate = certificate.map_err(|e| refused(e.to_string()))?;
        roots.add(certificate).map_err(|e| refused(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("it holds no certificate".to_owned()));
    }
    Ok(roots)
}
