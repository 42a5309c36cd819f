//! The server's configuration: a TOML file, and flags that beat it.
//!
//! ```toml
//! data = "/var/lib/kista"             # the data folder; needed here or as --data
//! default_lease_ttl = "768h"          # lifetime of a lease or token that asks for none
//! max_lease_ttl = "768h"              # the longest lifetime there is
//! log_level = "info"                  # error, warn, info, debug or trace
//! memory_lock = "warn"                # keys kept from swap: off, warn (if not possible) or required
//!
//! anchor_policy = "warn"              # or "required": stay sealed without a usable anchor
//! anchor = [{ path = "/mnt/other/kista.anchor" }]
//!                                     # files that keep where the store stood, each with
//!                                     # FILE.checkpoint beside it, in folders that the server may
//!                                     # write and whoever can write the data folder cannot
//!
//! [listener]
//! address = "127.0.0.1:8200"          # IP:PORT, [IPv6]:PORT or localhost:PORT
//! tls_cert = "/etc/kista/server.pem"  # certificate chain, the server's own first
//! tls_key = "/etc/kista/server.pem"   # its private key; may be the same file
//! tls_client_ca = "/etc/kista/ca.pem" # names of CAs to offer to clients; decides nothing
//! insecure_http = false               # plain HTTP instead of TLS; on a loopback address only
//!
//! [seal]
//! keyfile = "/etc/kista/seal.key"     # opens the store at start
//!
//! [audit.file]
//! path = "/var/log/kista/audit.log"   # every request and answer, one JSON line each
//! hash_paths = false                  # hash request paths too
//! format = "json"                     # the one format there is
//!
//! [verify]
//! freshness = "background"            # are reads checked for the newest record? background: once a
//!                                     # first verification was good; strict: the vault opens only
//!                                     # after it; off: never
//! every = "24h"                       # how often the whole store is verified, besides at unseal
//!
//! [limits]
//! connections = 4096                  # open at once; one more is closed at once. Fewer if the system
//!                                     # allows fewer open files
//! connections_per_source = 1024       # the same for each IPv4 address and each IPv6 network of 64 bits
//! handshakes = 256                    # TLS handshakes at once; the others wait
//! requests = 512                      # worked on at once; one more is a 503, probes excepted
//! body_memory_mib = 256               # MiB that all request bodies in memory may take together
//!
//! [background]
//! rewrap_per_second = 4000            # records that a rotation seals again in a second; 0: no limit
//! erase_within = "15m"                # from a destroy until no file holds the value any more
//!
//! [storage]
//! cache_mib = 256                     # MiB for the records used last, as they are on the disk; as
//!                                     # much again while a compaction runs. If not given, a
//!                                     # sixteenth of the memory that the machine and the control
//!                                     # groups give, 64 at least and 1024 at most
//! ```
//!
//! Durations are seconds (`3600`) or text (`"1h30m"`).

mod file;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use serde::Deserialize;

use file::File;

pub(crate) use file::DEFAULT_TTL;

/// What a server runs with; every value has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// Where and how the server listens.
    pub listener: Listener,
    /// Lifetime of a lease or token that asks for none; at most
    /// [`max_lease_ttl`](Self::max_lease_ttl).
    pub default_lease_ttl: Duration,
    /// The longest lifetime of a lease or token.
    pub max_lease_ttl: Duration,
    /// What is logged.
    pub log_level: LogLevel,
    /// Whether keys must be kept from swap.
    pub memory_lock: MemoryLock,
    /// File that opens the store at start.
    pub seal_keyfile: Option<PathBuf>,
    /// The audit file; without one nothing is audited until a device is enabled.
    pub audit_file: Option<AuditFile>,
    /// How the store is verified.
    pub verify: Verify,
    /// Caps on what clients may take together.
    pub limits: Limits,
    /// How the work in the background goes.
    pub background: Background,
    /// MiB for the records used last; what fits the memory when none are given.
    pub cache_mib: Option<NonZeroU32>,
    /// Files outside the data folder that keep where the store stood.
    pub anchors: Vec<PathBuf>,
    /// What an anchor that says nothing means.
    pub anchor_policy: AnchorPolicy,
}

/// What an anchor that is missing, or not this store's, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnchorPolicy {
    /// The vault opens and warns.
    #[default]
    Warn,
    /// The vault stays sealed.
    Required,
}

/// How the store is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verify {
    /// Whether reads are checked.
    pub freshness: Freshness,
    /// Time between two verifications of the whole store; the first begins at unseal.
    pub every: Duration,
}

/// Whether a read is held against a table of the newest records, which finds one that was put back
/// or deleted behind the store's back. The table takes about 20 MB for a million records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Freshness {
    /// From the first good verification on; reads before it are unchecked.
    #[default]
    Background,
    /// Always: the vault opens only after a good verification.
    Strict,
    /// Never.
    Off,
}

/// Where and how the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address; port 0 lets the system choose one.
    pub address: SocketAddr,
    /// TLS, or plain HTTP on a loopback address.
    pub transport: Transport,
}

/// What carries HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// TLS 1.3 or 1.2.
    Tls(Tls),
    /// Plain HTTP. A [`Config`] holds it only beside a loopback address.
    Plain,
}

/// The files of a TLS listener, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// Its private key; may be the same file as the chain.
    pub key: PathBuf,
    /// CAs whose names clients are offered when they are asked for a certificate.
    pub client_ca: Option<PathBuf>,
}

/// An audit device that writes a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditFile {
    /// The file, made with mode 0600.
    pub path: PathBuf,
    /// Whether the segments of request paths are hashed as values are.
    #[serde(default)]
    pub hash_paths: bool,
    /// Form of the lines.
    #[serde(default)]
    pub format: AuditFormat,
}

/// Form of audit lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditFormat {
    /// One JSON object in each line.
    #[default]
    Json,
}

/// What is logged: this and all that is graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// What an operator must act on.
    Error,
    /// What an operator should look at.
    Warn,
    /// Starts, stops, unsealing, configuration.
    #[default]
    Info,
    /// One line or more for each request.
    Debug,
    /// Everything.
    Trace,
}

/// What is done about keys being written to swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryLock {
    /// Nothing.
    Off,
    /// Their memory is locked; where the system refuses, a line in the log says so.
    #[default]
    Warn,
    /// Where the system refuses to lock it, the server does not start.
    Required,
}

/// Caps on what clients may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections open at once; one more is closed at once.
    pub connections: NonZeroU32,
    /// The same for each IPv4 address and each IPv6 network of 64 bits.
    pub connections_per_source: NonZeroU32,
    /// TLS handshakes at once; the others wait.
    pub handshakes: NonZeroU32,
    /// Requests worked on at once; one more is told to come again, probes excepted.
    pub requests: NonZeroU32,
    /// MiB that all request bodies in memory may take together.
    pub body_memory_mib: NonZeroU32,
}

/// How the work in the background goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Background {
    /// Records that a rotation seals again in a second at most; 0 for as many as there can be.
    pub rewrap_per_second: u32,
    /// From the removal of a value until no file of the data folder holds it any more. Compaction,
    /// which takes its time, begins when two thirds have passed.
    pub erase_within: Duration,
}

/// Values given as flags; each beats the file's.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--tls-cert`
    pub tls_cert: Option<PathBuf>,
    /// `--tls-key`
    pub tls_key: Option<PathBuf>,
    /// `--tls-client-ca`
    pub tls_client_ca: Option<PathBuf>,
    /// `--insecure-http`
    pub insecure_http: bool,
    /// `--default-lease-ttl`
    pub default_lease_ttl: Option<String>,
    /// `--max-lease-ttl`
    pub max_lease_ttl: Option<String>,
    /// `--log-level`
    pub log_level: Option<String>,
    /// The keyfile that opens the store at start.
    pub seal_keyfile: Option<PathBuf>,
    /// The audit file.
    pub audit_file: Option<PathBuf>,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key or a value that is not known.
    #[error("{}: {}", path.display(), source.to_string().trim_end())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A needed key is missing.
    #[error("{key} is not set: {hint}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A value cannot be used.
    #[error("{key} = \"{value}\" cannot be used: {reason}")]
    Unusable {
        /// The key.
        key: &'static str,
        /// The value given.
        value: String,
        /// Why, and what can be.
        reason: String,
    },
    /// Two keys exclude each other.
    #[error("{key} and {other} cannot be given together: {hint}")]
    Clash {
        /// One key.
        key: &'static str,
        /// The other.
        other: &'static str,
        /// What to do.
        hint: &'static str,
    },
}

impl Config {
    /// Reads the file, if one is named, and lays the flags over it.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read or a key is unknown, missing or unusable.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let written = match file {
            None => File::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
                File::parse(&text).map_err(|source| ConfigError::Malformed {
                    path: path.to_owned(),
                    source: Box::new(source),
                })?
            }
        };
        written.overlay(overrides).check()
    }
}

impl Default for Verify {
    fn default() -> Self {
        Self { freshness: Freshness::default(), every: Duration::from_secs(24 * 3600) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const fn known(value: u32) -> NonZeroU32 {
            match NonZeroU32::new(value) {
                Some(value) => value,
                None => NonZeroU32::MIN,
            }
        }
        Self {
            connections: known(4096),
            connections_per_source: known(1024),
            handshakes: known(256),
            requests: known(512),
            body_memory_mib: known(256),
        }
    }
}

impl Default for Background {
    fn default() -> Self {
        Self { rewrap_per_second: 4_000, erase_within: Duration::from_secs(15 * 60) }
    }
}

impl LogLevel {
    /// The word for it, as `tracing` reads it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace]
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| ConfigError::Unusable {
                key: "log_level",
                value: text.to_owned(),
                reason: "it is one of error, warn, info, debug, trace".to_owned(),
            })
    }
}
