//! The configuration, file and flags: whatever is taken keeps the rules, and a flag beats the file.
//!
//! Input: a line of flags, `name=value` joined by `;`, and the file after it.
#![no_main]

use std::{fs, net::SocketAddr, sync::LazyLock, time::Duration};

use kista::{
    clock::parse_duration,
    config::{Config, ConfigError, LogLevel, Overrides, Transport},
};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a folder for the file"));

fn flags(line: &str) -> Overrides {
    let mut flags = Overrides::default();
    for (name, value) in line.split(';').filter_map(|flag| flag.split_once('=')) {
        let value = value.to_owned();
        match name {
            "data" => flags.data = Some(value.into()),
            "listen" => flags.listen = Some(value),
            "cert" => flags.tls_cert = Some(value.into()),
            "key" => flags.tls_key = Some(value.into()),
            "ca" => flags.tls_client_ca = Some(value.into()),
            "http" => flags.insecure_http = true,
            "ttl" => flags.default_lease_ttl = Some(value),
            "max" => flags.max_lease_ttl = Some(value),
            "log" => flags.log_level = Some(value),
            "keyfile" => flags.seal_keyfile = Some(value.into()),
            "audit" => flags.audit_file = Some(value.into()),
            _ => {}
        }
    }
    flags
}

fuzz_target!(|input: &str| {
    let (line, text) = input.split_once('\n').unwrap_or((input, ""));
    let path = FOLDER.path().join("kista.toml");
    fs::write(&path, text).expect("the folder can be written to");
    let given = flags(line);
    let config = match Config::load(Some(&path), given.clone()) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().trim().is_empty());
            if let ConfigError::Unusable { reason, .. } = &error {
                assert!(!reason.is_empty());
            }
            return;
        }
    };
    let again = Config::load(Some(&path), given.clone()).expect("as before");
    assert_eq!(config, again);
    let (least, longest) = (Duration::from_secs(1), Duration::from_secs(10 * 366 * 24 * 3600));
    assert!(least <= config.default_lease_ttl && config.default_lease_ttl <= config.max_lease_ttl);
    assert!(config.max_lease_ttl <= longest);
    for span in [config.verify.every, config.background.erase_within] {
        assert!(least <= span && span <= longest);
    }
    // Secrets in the clear stay on this machine.
    if config.listener.transport == Transport::Plain {
        assert!(config.listener.address.ip().is_loopback());
    }
    if given.data.is_some() {
        assert_eq!(Some(config.data), given.data);
    }
    if let Some(Ok(address)) = given.listen.map(|text| text.parse::<SocketAddr>()) {
        assert_eq!(config.listener.address, address);
    }
    if let Some(Ok(level)) = given.log_level.map(|text| text.parse::<LogLevel>()) {
        assert_eq!(config.log_level, level);
    }
    for (flag, ttl) in [
        (given.default_lease_ttl, config.default_lease_ttl),
        (given.max_lease_ttl, config.max_lease_ttl),
    ] {
        if let Some(text) = flag {
            assert_eq!(parse_duration(&text), Ok(ttl));
        }
    }
    if given.audit_file.is_some() {
        assert_eq!(config.audit_file.map(|file| file.path), given.audit_file);
    }
});
