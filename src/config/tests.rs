use super::{file::DEFAULT_ADDRESS, *};

fn load(text: &str, overrides: Overrides) -> Result<Config, ConfigError> {
    File::parse(text)
        .map_err(|source| ConfigError::Malformed { path: "test".into(), source: source.into() })?
        .overlay(overrides)
        .check()
}

fn message(text: &str) -> String {
    load(text, Overrides::default()).unwrap_err().to_string()
}

const TLS: &str = "data = '/d'\n[listener]\ntls_cert = 'c'\ntls_key = 'k'\n";

#[test]
fn the_example_in_the_documentation_is_accepted() {
    let example: String = include_str!("mod.rs")
        .lines()
        .skip_while(|line| *line != "//! ```toml")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| format!("{}\n", line.strip_prefix("//!").unwrap()))
        .collect();
    let config = load(&example, Overrides::default()).unwrap();
    assert_eq!(config.data, Path::new("/var/lib/kista"));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.background, Background::default());
    assert_eq!(config.max_lease_ttl, DEFAULT_TTL);
    assert!(config.audit_file.is_some());
}

#[test]
fn what_is_not_said_has_a_default() {
    let config = load(TLS, Overrides::default()).unwrap();
    assert_eq!(config.listener.address, DEFAULT_ADDRESS);
    assert_eq!(config.default_lease_ttl, DEFAULT_TTL);
    assert_eq!(config.log_level, LogLevel::Info);
    assert_eq!(config.memory_lock, MemoryLock::Warn);
    assert_eq!((config.seal_keyfile, config.audit_file), (None, None));
    assert_eq!(config.verify, Verify::default());
}

#[test]
fn how_the_store_is_verified_can_be_chosen() {
    let text = format!("{TLS}[verify]\nfreshness = 'strict'\nevery = '1h'");
    let config = load(&text, Overrides::default()).unwrap();
    let every = Duration::from_secs(3600);
    assert_eq!(config.verify, Verify { freshness: Freshness::Strict, every });
    assert!(message(&format!("{TLS}[verify]\nfreshness = 'lax'")).contains("background"));
    assert!(message(&format!("{TLS}[verify]\nevery = 0")).contains("verify.every"));
}

#[test]
fn a_flag_beats_the_file() {
    let overrides = Overrides {
        data: Some("/flag".into()),
        listen: Some("[::1]:0".into()),
        max_lease_ttl: Some("1h".into()),
        log_level: Some("DEBUG".into()),
        audit_file: Some("/flag/audit".into()),
        ..Overrides::default()
    };
    let text = format!("max_lease_ttl = 7200\n{TLS}[audit.file]\npath='a'\nhash_paths=true");
    let config = load(&text, overrides).unwrap();
    assert_eq!(config.data, Path::new("/flag"));
    assert_eq!(config.listener.address, "[::1]:0".parse().unwrap());
    assert_eq!(config.max_lease_ttl, Duration::from_secs(3600));
    assert_eq!(config.default_lease_ttl, Duration::from_secs(3600));
    assert_eq!(config.log_level, LogLevel::Debug);
    let audit = config.audit_file.unwrap();
    assert_eq!((audit.path.as_path(), audit.hash_paths), (Path::new("/flag/audit"), true));
}

#[test]
fn an_unknown_key_is_named() {
    assert!(message("datta = '/d'").contains("datta"));
    assert!(message("[listener]\nadress = ''").contains("adress"));
    assert!(message("[limits]\nconnections = 0").contains("connections"));
    assert!(message("[storage]\ncache_mib = 0").contains("cache_mib"));
}

#[test]
fn a_missing_or_unusable_key_is_named() {
    assert!(message("[listener]\ntls_cert='c'\ntls_key='k'").starts_with("data is not set"));
    assert!(message("data = '/d'").starts_with("listener.tls_key is not set"));
    let no_cert = "data = '/d'\n[listener]\ntls_key='k'";
    assert!(message(no_cert).starts_with("listener.tls_cert is not set"));
    let erase = message(&format!("{TLS}[background]\nerase_within = 0"));
    assert!(erase.starts_with("background.erase_within = \"0\""), "{erase}");
    let ttl = message(&format!("max_lease_ttl = 'soon'\n{TLS}"));
    assert!(ttl.starts_with("max_lease_ttl = \"soon\""), "{ttl}");
    assert!(message(&format!("default_lease_ttl = '800h'\n{TLS}")).contains("768"));
    assert!(message(&format!("log_level = 'loud'\n{TLS}")).contains("trace"));
    assert!(message(&format!("memory_lock = 'please'\n{TLS}")).contains("required"));
    assert!(message(&format!("{TLS}address = 'here'")).contains("listener.address"));
}

#[test]
fn memory_for_records_is_given_or_left_open() {
    let given = load(&format!("{TLS}[storage]\ncache_mib = 96"), Overrides::default()).unwrap();
    assert_eq!(given.cache_mib.map(NonZeroU32::get), Some(96));
    assert_eq!(load(TLS, Overrides::default()).unwrap().cache_mib, None);
}

#[test]
fn plain_http_is_refused_off_loopback() {
    let text = "data = '/d'\n[listener]\ninsecure_http = true\n";
    let config = load(text, Overrides::default()).unwrap();
    assert_eq!(config.listener.transport, Transport::Plain);
    for address in ["0.0.0.0:8200", "10.0.0.1:8200", "[::]:8200"] {
        let error = message(&format!("{text}address = '{address}'"));
        assert!(error.contains("loopback"), "{error}");
    }
    assert!(message(&format!("{TLS}insecure_http = true")).contains("choose TLS"));
}

#[test]
fn localhost_means_the_loopback_address() {
    let config = load(&format!("{TLS}address = 'localhost:9'"), Overrides::default()).unwrap();
    assert_eq!(config.listener.address, "127.0.0.1:9".parse().unwrap());
}
