//! The certificates that `kista up` makes: a CA of the store's own and the server's certificate.
//!
//! Three files in one folder, each replaced as a whole or not at all:
//! - `ca-key.pem` (0600): the CA's private key and certificate; made once, never overwritten
//! - `ca.pem`: the CA's certificate alone, for clients (`curl --cacert`)
//! - `server.pem` (0600): the server's private key, its certificate and the CA's, in this order, so
//!   that a crash cannot leave a key beside another key's certificate; made again when it nears its
//!   end or lacks a name

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};
use zeroize::Zeroizing;

use crate::{
    clock::Timestamp,
    crypto::{mac::sha256, random},
};

/// The files, and what a person compares them by.
#[derive(Debug)]
pub struct Certificates {
    /// The CA's certificate, for clients.
    pub authority: PathBuf,
    /// The server's private key and chain: a listener's `tls_cert` and `tls_key` both.
    pub server: PathBuf,
    /// Fingerprint of the CA's certificate.
    pub authority_fingerprint: Fingerprint,
    /// Fingerprint of the server's certificate.
    pub server_fingerprint: Fingerprint,
    /// What was done to the server's certificate.
    pub outcome: Outcome,
}

/// What [`Certificates::ensure`] did to the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was none, so it was made.
    Made,
    /// It was made again: near its end, of another CA, or without one of the names.
    Renewed,
    /// It was good as it stood.
    Kept,
}

/// SHA-256 of a certificate's DER; prints as `9F:3A:…`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// The certificates cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file or the folder cannot be read or written.
    #[error("cannot {act} {}", path.display())]
    Files {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} does not hold {what}: move it away and start again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A private key lies open to others.
    #[error("{} can be read by others (mode {mode:o}): run chmod 600 on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The certificate for clients is not the CA's.
    #[error(
        "{} is not the certificate in {}: move it away and start again",
        authority.display(),
        key.display()
    )]
    Differs {
        /// The certificate for clients.
        authority: PathBuf,
        /// The CA's key and certificate.
        key: PathBuf,
    },
    /// The CA ends before a certificate of the server would.
    #[error(
        "the CA in {} nears its end: move it away, start again, and give clients the new ca.pem",
        path.display()
    )]
    AuthorityEnds {
        /// The CA's key and certificate.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Making(#[source] rcgen::Error),
}

impl Certificates {
    /// Makes what is missing in `folder`, renews what nears its end, and leaves the rest alone.
    ///
    /// The server's certificate names localhost, both loopback addresses, this host, and
    /// `more_names` (host names or addresses).
    ///
    /// # Errors
    /// [`CertificateError`] when files cannot be read or written, hold something else, or lie open.
    pub fn ensure(
        folder: &Path,
        more_names: &[String],
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| files("make", folder, source))?;
        let authority = Authority::ensure(folder, now)?;
        let names = names(more_names);
        let server = folder.join("server.pem");
        let (server_fingerprint, outcome) = match Served::read(&server)? {
            Some(served) if served.is_good(&authority, &names, now) => {
                (served.fingerprint, Outcome::Kept)
            }
            Some(_) => (authority.issue(&server, &names, now)?, Outcome::Renewed),
            None => (authority.issue(&server, &names, now)?, Outcome::Made),
        };
        Ok(Self {
            authority: folder.join("ca.pem"),
            server,
            authority_fingerprint: Fingerprint::of(&authority.certificate),
            server_fingerprint,
            outcome,
        })
    }
}

impl Fingerprint {
    /// That of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(sha256(&[certificate]))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The CA, able to sign.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    key_identifier: Vec<u8>,
}

impl Authority {
    fn ensure(folder: &Path, now: Timestamp) -> Result<Self, CertificateError> {
        let path = folder.join("ca-key.pem");
        let authority = match Self::read(&path)? {
            Some(authority) => authority,
            None => Self::make(&path, now)?,
        };
        let x509 = parse(&authority.certificate, &path)?;
        if remaining(&x509, now) < SERVER_LIFE {
            return Err(CertificateError::AuthorityEnds { path });
        }
        authority.publish(&folder.join("ca.pem"), &path)?;
        Ok(authority)
    }

    fn read(path: &Path) -> Result<Option<Self>, CertificateError> {
        let Some(pem) = read_private(path)? else { return Ok(None) };
        let malformed = || CertificateError::Malformed {
            path: path.to_owned(),
            what: "a CA's private key and certificate",
        };
        let key = KeyPair::from_pem(&pem).map_err(|_| malformed())?;
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| malformed())?;
        let x509 = parse(&certificate, path)?;
        if x509.public_key().raw != key.subject_public_key_info() {
            return Err(malformed());
        }
        let key_identifier = subject_key_identifier(&x509).ok_or_else(malformed)?.to_vec();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| malformed())?;
        Ok(Some(Self { issuer, certificate, key_identifier }))
    }

    fn make(path: &Path, now: Timestamp) -> Result<Self, CertificateError> {
        let key = new_key()?;
        let mut params = params(now, AUTHORITY_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Two CAs in one trust store are told apart by name as well as by key.
        let word = data_encoding::HEXLOWER.encode(&random::array::<4>());
        params.distinguished_name.push(DnType::CommonName, format!("Kista CA {word}"));
        let key_identifier = params.key_identifier(&key);
        let certificate = params.self_signed(&key).map_err(CertificateError::Making)?;
        let written = write_new(path, &joined(&key, &[&certificate.pem()]))?;
        if !written {
            // Another start made one in the meantime: that one counts.
            return Self::read(path)?.ok_or_else(|| CertificateError::Malformed {
                path: path.to_owned(),
                what: "a CA that stays where it is",
            });
        }
        let certificate = certificate.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate, key_identifier })
    }

    /// Writes the certificate for clients, unless it is there.
    fn publish(&self, authority: &Path, key: &Path) -> Result<(), CertificateError> {
        match CertificateDer::from_pem_file(authority) {
            Ok(published) if published == self.certificate => return Ok(()),
            Ok(_) => {}
            Err(_) if !authority.exists() => {
                let pem = pem_of(&self.certificate);
                if write_new(authority, pem.as_bytes())? {
                    return Ok(());
                }
            }
            Err(_) => {}
        }
        Err(CertificateError::Differs { authority: authority.to_owned(), key: key.to_owned() })
    }

    /// Makes the server's certificate under a new key, and puts both in place of what is there.
    fn issue(
        &self,
        path: &Path,
        names: &BTreeSet<Name>,
        now: Timestamp,
    ) -> Result<Fingerprint, CertificateError> {
        let key = new_key()?;
        let mut params = params(now, SERVER_LIFE);
        params.subject_alt_names = names.iter().map(Name::to_san).collect::<Result<_, _>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name.push(DnType::CommonName, "Kista server");
        let certificate: Certificate =
            params.signed_by(&key, &self.issuer).map_err(CertificateError::Making)?;
        replace(path, &joined(&key, &[&certificate.pem(), &pem_of(&self.certificate)]))?;
        Ok(Fingerprint::of(certificate.der()))
    }
}

/// What is known of the server's certificate as it stands.
struct Served {
    fingerprint: Fingerprint,
    ends: i64,
    issuer_key: Option<Vec<u8>>,
    names: BTreeSet<Name>,
}

impl Served {
    fn read(path: &Path) -> Result<Option<Self>, CertificateError> {
        let Some(pem) = read_private(path)? else { return Ok(None) };
        let malformed = || CertificateError::Malformed {
            path: path.to_owned(),
            what: "a server's private key and certificate",
        };
        let key = KeyPair::from_pem(&pem).map_err(|_| malformed())?;
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| malformed())?;
        let x509 = parse(&certificate, path)?;
        if x509.public_key().raw != key.subject_public_key_info() {
            return Err(malformed());
        }
        Ok(Some(Self {
            fingerprint: Fingerprint::of(&certificate),
            ends: x509.validity().not_after.timestamp(),
            issuer_key: authority_key_identifier(&x509).map(<[u8]>::to_vec),
            names: names_in(&x509),
        }))
    }

    fn is_good(&self, authority: &Authority, names: &BTreeSet<Name>, now: Timestamp) -> bool {
        until(self.ends, now) >= RENEWED_WITHIN
            && self.issuer_key.as_deref() == Some(authority.key_identifier.as_slice())
            && names.is_subset(&self.names)
    }
}

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Address(IpAddr),
    Host(String),
}

impl Name {
    /// Reads an address or a host name; what no client would accept as either is `None`.
    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return (!address.is_unspecified()).then_some(Self::Address(address));
        }
        let host = text.trim_end_matches('.').to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        (host.len() <= 253 && host.split('.').all(is_label)).then_some(Self::Host(host))
    }

    fn to_san(&self) -> Result<SanType, CertificateError> {
        Ok(match self {
            Self::Address(address) => SanType::IpAddress(*address),
            Self::Host(host) => {
                SanType::DnsName(host.as_str().try_into().map_err(CertificateError::Making)?)
            }
        })
    }
}

fn names(more: &[String]) -> BTreeSet<Name> {
    let here = rustix::system::uname();
    let mut names = BTreeSet::from([
        Name::Host("localhost".to_owned()),
        Name::Address(Ipv4Addr::LOCALHOST.into()),
        Name::Address(Ipv6Addr::LOCALHOST.into()),
    ]);
    names.extend(here.nodename().to_str().ok().and_then(Name::parse));
    names.extend(more.iter().filter_map(|name| Name::parse(name)));
    names
}

fn names_in(x509: &X509Certificate<'_>) -> BTreeSet<Name> {
    let Ok(Some(alternative)) = x509.subject_alternative_name() else { return BTreeSet::new() };
    let mut names = BTreeSet::new();
    for name in &alternative.value.general_names {
        if let GeneralName::DNSName(host) = name {
            names.insert(Name::Host((*host).to_owned()));
        } else if let GeneralName::IPAddress(bytes) = name {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            names.extend(address.map(Name::Address));
        }
    }
    names
}

fn subject_key_identifier<'a>(x509: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    x509.iter_extensions().find_map(|extension| {
        let ParsedExtension::SubjectKeyIdentifier(identifier) = extension.parsed_extension() else {
            return None;
        };
        Some(identifier.0)
    })
}

fn authority_key_identifier<'a>(x509: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    x509.iter_extensions().find_map(|extension| {
        let ParsedExtension::AuthorityKeyIdentifier(identifier) = extension.parsed_extension()
        else {
            return None;
        };
        identifier.key_identifier.as_ref().map(|identifier| identifier.0)
    })
}

fn new_key() -> Result<KeyPair, CertificateError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CertificateError::Making)
}

fn params(now: Timestamp, life: Duration) -> CertificateParams {
    let at = |time: Timestamp| {
        let seconds = i64::try_from(time.seconds()).unwrap_or(i64::MAX);
        time::OffsetDateTime::from_unix_timestamp(seconds)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    };
    let mut params = CertificateParams::default();
    params.not_before = at(now) - CLOCK_SKEW;
    params.not_after = at(now.plus(life));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
    path: &Path,
) -> Result<X509Certificate<'a>, CertificateError> {
    X509Certificate::from_der(certificate).map(|(_, x509)| x509).map_err(|_| {
        CertificateError::Malformed { path: path.to_owned(), what: "an X.509 certificate" }
    })
}

fn remaining(x509: &X509Certificate<'_>, now: Timestamp) -> Duration {
    until(x509.validity().not_after.timestamp(), now)
}

fn until(end: i64, now: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(end).unwrap_or(0).saturating_sub(now.seconds()))
}

fn pem_of(certificate: &CertificateDer<'_>) -> String {
    let base64 = data_encoding::BASE64.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = base64.as_str();
    while let Some((line, after)) = rest.split_at_checked(64) {
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    if !rest.is_empty() {
        pem.push_str(rest);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// One file's content: the key, then the certificates. Sized first, so that no copy is left behind.
fn joined(key: &KeyPair, certificates: &[&str]) -> Zeroizing<Vec<u8>> {
    let key = Zeroizing::new(key.serialize_pem());
    let length = key.len() + certificates.iter().map(|pem| pem.len()).sum::<usize>();
    let mut content = Zeroizing::new(Vec::with_capacity(length));
    content.extend_from_slice(key.as_bytes());
    for pem in certificates {
        content.extend_from_slice(pem.as_bytes());
    }
    content
}

fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, CertificateError> {
    let pem = match fs::read_to_string(path) {
        Ok(pem) => Zeroizing::new(pem),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(files("read", path, source)),
    };
    let mode = fs::metadata(path).map_err(|source| files("read", path, source))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CertificateError::Exposed { path: path.to_owned(), mode });
    }
    Ok(Some(pem))
}

/// Writes a file whole and synced, unless one is there; says whether it did.
fn write_new(path: &Path, content: &[u8]) -> Result<bool, CertificateError> {
    let beside = write_beside(path, content)?;
    // A hard link, unlike a rename, never replaces what is there.
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside).map_err(|source| files("remove", &beside, source))?;
    match linked {
        Ok(()) => sync_folder(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(files("write", path, source)),
    }
}

/// Writes a file whole and synced, in place of what is there.
fn replace(path: &Path, content: &[u8]) -> Result<(), CertificateError> {
    let beside = write_beside(path, content)?;
    fs::rename(&beside, path).map_err(|source| files("write", path, source))?;
    sync_folder(path)
}

fn write_beside(path: &Path, content: &[u8]) -> Result<PathBuf, CertificateError> {
    let word = data_encoding::HEXLOWER.encode(&random::array::<4>());
    let beside = path.with_extension(format!("pem.{word}"));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    written.map_err(|source| files("write", &beside, source)).map(|()| beside)
}

fn sync_folder(path: &Path) -> Result<(), CertificateError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| files("sync", folder, source))
}

fn files(act: &'static str, path: &Path, source: io::Error) -> CertificateError {
    CertificateError::Files { act, path: path.to_owned(), source }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A CA's life: clients keep its certificate, so it is long.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * DAY.as_secs());
/// Some clients refuse a server's certificate that is valid for more than 825 days, whoever signed
/// it.
const SERVER_LIFE: Duration = Duration::from_secs(825 * DAY.as_secs());
/// A server's certificate with less than this left is made again at start.
const RENEWED_WITHIN: Duration = Duration::from_secs(90 * DAY.as_secs());
/// Clients' clocks may be this far behind.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
