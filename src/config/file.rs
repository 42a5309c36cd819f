//! The file as it is written, until it is checked.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;

use super::{
    AnchorPolicy, AuditFile, AuditFormat, Background, Config, ConfigError, Freshness, Limits,
    Listener, LogLevel, MemoryLock, Overrides, Tls, Transport, Verify,
};
use crate::clock::{format_duration, parse_duration};

/// The file as written: nothing checked but names and types.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    data: Option<PathBuf>,
    default_lease_ttl: Option<Span>,
    max_lease_ttl: Option<Span>,
    log_level: Option<String>,
    #[serde(default)]
    memory_lock: MemoryLock,
    #[serde(default)]
    listener: ListenerTable,
    #[serde(default)]
    seal: SealTable,
    #[serde(default)]
    audit: AuditTable,
    #[serde(default)]
    verify: VerifyTable,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    background: BackgroundTable,
    #[serde(default)]
    storage: StorageTable,
    #[serde(default)]
    anchor: Vec<AnchorTable>,
    #[serde(default)]
    anchor_policy: AnchorPolicy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackgroundTable {
    rewrap_per_second: Option<u32>,
    erase_within: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StorageTable {
    cache_mib: Option<NonZeroU32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyTable {
    #[serde(default)]
    freshness: Freshness,
    every: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenerTable {
    address: Option<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_client_ca: Option<PathBuf>,
    #[serde(default)]
    insecure_http: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealTable {
    keyfile: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditTable {
    file: Option<AuditFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorTable {
    path: PathBuf,
}

/// A duration as written: seconds, or text with units.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Span {
    Seconds(u32),
    Text(String),
}

impl File {
    pub(super) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    pub(super) fn overlay(mut self, flags: Overrides) -> Self {
        fn put<T>(slot: &mut Option<T>, flag: Option<T>) {
            if flag.is_some() {
                *slot = flag;
            }
        }
        put(&mut self.data, flags.data);
        put(&mut self.listener.address, flags.listen);
        put(&mut self.listener.tls_cert, flags.tls_cert);
        put(&mut self.listener.tls_key, flags.tls_key);
        put(&mut self.listener.tls_client_ca, flags.tls_client_ca);
        put(&mut self.default_lease_ttl, flags.default_lease_ttl.map(Span::Text));
        put(&mut self.max_lease_ttl, flags.max_lease_ttl.map(Span::Text));
        put(&mut self.log_level, flags.log_level);
        put(&mut self.seal.keyfile, flags.seal_keyfile);
        if let Some(path) = flags.audit_file {
            match &mut self.audit.file {
                Some(file) => file.path = path,
                None => {
                    let format = AuditFormat::Json;
                    self.audit.file = Some(AuditFile { path, hash_paths: false, format });
                }
            }
        }
        self.listener.insecure_http |= flags.insecure_http;
        self
    }

    pub(super) fn check(self) -> Result<Config, ConfigError> {
        let max_lease_ttl = Span::check(self.max_lease_ttl, "max_lease_ttl", DEFAULT_TTL)?;
        let default_lease_ttl = Span::check(
            self.default_lease_ttl,
            "default_lease_ttl",
            DEFAULT_TTL.min(max_lease_ttl),
        )?;
        if default_lease_ttl > max_lease_ttl {
            return Err(ConfigError::Unusable {
                key: "default_lease_ttl",
                value: format_duration(default_lease_ttl),
                reason: format!("max_lease_ttl is {}", format_duration(max_lease_ttl)),
            });
        }
        Ok(Config {
            data: self.data.ok_or(ConfigError::Missing {
                key: "data",
                hint: "name the data folder in the file or with --data",
            })?,
            listener: self.listener.check()?,
            default_lease_ttl,
            max_lease_ttl,
            log_level: match self.log_level {
                None => LogLevel::default(),
                Some(text) => text.parse()?,
            },
            memory_lock: self.memory_lock,
            seal_keyfile: self.seal.keyfile,
            audit_file: self.audit.file,
            verify: Verify {
                freshness: self.verify.freshness,
                every: Span::check(self.verify.every, "verify.every", Verify::default().every)?,
            },
            limits: self.limits,
            anchors: self.anchor.into_iter().map(|anchor| anchor.path).collect(),
            anchor_policy: self.anchor_policy,
            background: self.background.check()?,
            cache_mib: self.storage.cache_mib,
        })
    }
}

impl BackgroundTable {
    fn check(self) -> Result<Background, ConfigError> {
        let default = Background::default();
        let (key, within) = ("background.erase_within", default.erase_within);
        Ok(Background {
            rewrap_per_second: self.rewrap_per_second.unwrap_or(default.rewrap_per_second),
            erase_within: Span::check(self.erase_within, key, within)?,
        })
    }
}

impl ListenerTable {
    fn check(self) -> Result<Listener, ConfigError> {
        let address = match &self.address {
            None => DEFAULT_ADDRESS,
            Some(text) => parse_address(text)?,
        };
        let transport = match (self.tls_cert, self.tls_key, self.insecure_http) {
            (Some(certificate), Some(key), false) => {
                Transport::Tls(Tls { certificate, key, client_ca: self.tls_client_ca })
            }
            (None, None, true) => {
                if !address.ip().is_loopback() {
                    return Err(ConfigError::Unusable {
                        key: "listener.address",
                        value: address.to_string(),
                        reason: "insecure_http sends secrets in the clear and is for a loopback \
                                 address only; listen on 127.0.0.1 or give tls_cert and tls_key"
                            .to_owned(),
                    });
                }
                Transport::Plain
            }
            (Some(_), _, true) | (_, Some(_), true) => {
                return Err(ConfigError::Clash {
                    key: "listener.insecure_http",
                    other: "listener.tls_cert or listener.tls_key",
                    hint: "choose TLS or plain HTTP",
                });
            }
            (None, Some(_), false) => return Err(missing_tls("listener.tls_cert")),
            (_, None, false) => return Err(missing_tls("listener.tls_key")),
        };
        Ok(Listener { address, transport })
    }
}

impl Span {
    fn check(
        given: Option<Self>,
        key: &'static str,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        let Some(given) = given else { return Ok(default) };
        let unusable =
            |value: String, reason: String| Err(ConfigError::Unusable { key, value, reason });
        let (span, value) = match given {
            Self::Seconds(seconds) => (Duration::from_secs(seconds.into()), seconds.to_string()),
            Self::Text(text) => match parse_duration(&text) {
                Ok(span) => (span, text),
                Err(error) => {
                    return unusable(text, format!("{error}; write seconds or a text like 1h30m"));
                }
            },
        };
        if span < Duration::from_secs(1) {
            return unusable(value, "it must be a second at least".to_owned());
        }
        if span > LONGEST_TTL {
            return unusable(value, "it must be ten years at most".to_owned());
        }
        Ok(span)
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, ConfigError> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
        None => text.to_owned(),
    };
    numeric.parse().map_err(|_| ConfigError::Unusable {
        key: "listener.address",
        value: text.to_owned(),
        reason: "it is IP:PORT, [IPv6]:PORT or localhost:PORT, such as 127.0.0.1:8200".to_owned(),
    })
}

fn missing_tls(key: &'static str) -> ConfigError {
    ConfigError::Missing {
        key,
        hint: "give a certificate and its key (--tls-cert, --tls-key), or let `kista up` make \
               them; plain HTTP on a loopback address needs --insecure-http",
    }
}

pub(super) const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8200);
/// Vault's default of both lifetimes: 32 days.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(768 * 3600);
/// Keeps every deadline that is reckoned from a lifetime far from overflow.
const LONGEST_TTL: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
