use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use reqwest::{Url, redirect};
use zeroize::Zeroizing;

use super::{Client, Pin, tls};
use crate::secret::SecretString;

/// What a [`Client`] is made from.
#[derive(Debug)]
pub struct Builder {
    address: String,
    token: Option<SecretString>,
    ca_file: Option<PathBuf>,
    pin: Option<Pin>,
    store: Option<String>,
    namespace: Option<String>,
    timeout: Duration,
    retries: u32,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The address is not a URL of a server.
    #[error("the address {0:?} is not of the form https://HOST:PORT")]
    Address(String),
    /// Plain HTTP would carry the token over a network.
    #[error("the address {0:?} is plain HTTP, which is only spoken to this machine; use https://")]
    PlainHttp(String),
    /// The file of CA certificates cannot be used.
    #[error("cannot use the CA file {}: {reason}", file.display())]
    CaFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The token holds characters that no header may hold.
    #[error("the token holds characters that no token has, such as a line break")]
    Token,
    /// The namespace holds characters that no header may hold.
    #[error("the namespace {0:?} holds characters that no header may hold")]
    Namespace(String),
    /// The environment asks not to verify certificates.
    #[error(
        "{variable} is set, and certificates are always verified here; unset it and name the \
         server's CA in KISTA_CACERT"
    )]
    SkipVerify {
        /// The variable.
        variable: String,
    },
    /// A variable is not Unicode.
    #[error("the variable {variable} is not Unicode text")]
    NotText {
        /// The variable.
        variable: String,
    },
    /// TLS cannot be set up, for instance because the system has no CA certificates.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Http(#[source] reqwest::Error),
}

impl Builder {
    /// A client of the server at `address`, `https://HOST:PORT`, without a token, trusting the
    /// system's CA certificates, waiting 60 seconds for an answer and trying twice more.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            token: None,
            ca_file: None,
            pin: None,
            store: None,
            namespace: None,
            timeout: Duration::from_secs(60),
            retries: 2,
        }
    }

    /// Sends this token with each call.
    #[must_use]
    pub fn token(self, token: SecretString) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Trusts the certificates of this PEM file, and no others.
    #[must_use]
    pub fn ca_file(self, file: impl AsRef<Path>) -> Self {
        Self { ca_file: Some(file.as_ref().to_owned()), ..self }
    }

    /// Trusts the certificate of this pin, whoever has issued it, and no other.
    #[must_use]
    pub fn pin(self, pin: &Pin) -> Self {
        Self { pin: Some(pin.clone()), ..self }
    }

    /// Refuses a server of another store than the one of this name (`cluster_id` of `sys/health`).
    /// It is asked for before the token is first sent; a sealed server, which has no name to tell,
    /// passes.
    #[must_use]
    pub fn store(self, name: impl Into<String>) -> Self {
        Self { store: Some(name.into()), ..self }
    }

    /// Sends this namespace with each call.
    #[must_use]
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), ..self }
    }

    /// Waits this long for the whole of an answer.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Tries this often again where that is safe.
    #[must_use]
    pub fn retries(self, retries: u32) -> Self {
        Self { retries, ..self }
    }

    /// Makes the client. Nothing is sent.
    ///
    /// # Errors
    /// [`BuildError`], when a part of it cannot be used.
    pub fn build(self) -> Result<Client, BuildError> {
        let base = base(&self.address)?;
        let token = self.token.as_ref().map(token_header).transpose()?;
        let namespace = self.namespace.map(namespace_header).transpose()?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(self.pin.as_ref(), self.ca_file.as_deref())?)
            .connect_timeout(CONNECT_TIMEOUT.min(self.timeout))
            .timeout(self.timeout)
            // A redirect could carry the token to an address that nobody chose.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .user_agent(concat!("kista/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(BuildError::Http)?;
        Ok(Client::new(http, base, token, namespace, self.retries).of_store(self.store))
    }
}

/// Parses the address into what paths are appended to.
fn base(address: &str) -> Result<Url, BuildError> {
    let refused = || BuildError::Address(address.to_owned());
    let mut url = Url::parse(address).map_err(|_| refused())?;
    let host = url.host_str().ok_or_else(refused)?;
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    match url.scheme() {
        "https" if is_bare => {}
        "http" if is_bare && is_loopback(host) => {}
        "http" if is_bare => return Err(BuildError::PlainHttp(address.to_owned())),
        _ => return Err(refused()),
    }
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The token as a header over one buffer, which is wiped when the last clone of the client goes.
fn token_header(token: &SecretString) -> Result<HeaderValue, BuildError> {
    let bytes = token.expose(|text| Zeroizing::new(text.as_bytes().to_vec()));
    let mut header =
        HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).map_err(|_| BuildError::Token)?;
    header.set_sensitive(true);
    Ok(header)
}

fn namespace_header(name: String) -> Result<HeaderValue, BuildError> {
    HeaderValue::from_str(&name).map_err(|_| BuildError::Namespace(name))
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(address: &str) -> String {
        base(address).unwrap_err().to_string()
    }

    #[test]
    fn an_address_is_a_scheme_and_a_host() {
        assert_eq!(base("https://vault:8200").unwrap().as_str(), "https://vault:8200/");
        assert_eq!(base("https://proxy/kista/").unwrap().as_str(), "https://proxy/kista/");
        for address in ["", "vault:8200", "127.0.0.1:8200", "ftp://vault", "https://u:p@vault"] {
            assert!(refusal(address).contains("https://HOST:PORT"), "{address}");
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for address in ["http://127.0.0.1:8200", "http://[::1]:8200", "http://localhost:8200"] {
            assert!(base(address).is_ok(), "{address}");
        }
        for address in ["http://vault:8200", "http://10.0.0.1:8200", "http://localhost.evil"] {
            assert!(refusal(address).contains("plain HTTP"), "{address}");
        }
    }

    #[test]
    fn a_token_with_a_line_break_is_refused_and_not_quoted() {
        let token = SecretString::copy_of("hvs.planted\n");
        let refused =
            Builder::new("http://127.0.0.1:1").token(token).build().unwrap_err().to_string();
        assert!(refused.contains("line break") && !refused.contains("planted"), "{refused}");
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = Builder::new("https://127.0.0.1:1").ca_file(file.path()).build().unwrap_err();
        assert!(refused.to_string().contains("holds no certificate"), "{refused}");
    }
}
