//! What `kista doctor`, `server check` and `server install` say, against the real binary.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;

use crate::support::Site;

/// The state of each check, by its name.
fn states(json: &str) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(json).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap();
    checks.iter().map(|check| (text(&check["check"]), text(&check["state"]))).collect()
}

fn is(states: &[(String, String)], check: &str, state: &str) -> bool {
    states.iter().any(|(name, found)| name == check && found == state)
}

#[test]
fn a_doctor_tells_what_a_server_lacks() {
    let site = Site::new();
    let shown = site.ok(&["doctor", "--json"]);
    let found = states(&shown);
    for (check, state) in
        [("server", "ok"), ("TLS", "warn"), ("clock", "ok"), ("seal", "ok"), ("token", "warn")]
    {
        assert!(is(&found, check, state), "{check}: {shown}");
    }
    assert!(is(&found, "slots", "ok") && is(&found, "audit", "ok"), "{shown}");
    assert!(site.ok(&["doctor"]).contains("\n      "));
    // A token that may little is told what it may not see, and that is no failure.
    let root = &site.kept.root;
    let made = site.server.call(
        "POST",
        "auth/token/create",
        root,
        r#"{"policies":["default"],"ttl":"30m"}"#,
    );
    let token = made.json()["auth"]["client_token"].as_str().unwrap().to_owned();
    let output = site.command(&["doctor", "--json"]).env("KISTA_TOKEN", token).output().unwrap();
    let found = states(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(output.status.code(), Some(0));
    assert!(is(&found, "slots", "skip") && is(&found, "token", "warn"), "{found:?}");
    // Sealed, and with a token of another server.
    let output = site.command(&["doctor", "--json"]).env("KISTA_TOKEN", "hvs.x").output().unwrap();
    assert_eq!(output.status.code(), Some(10));
    assert!(is(&states(&String::from_utf8(output.stdout).unwrap()), "token", "fail"));
    assert_eq!(site.server.call("PUT", "sys/seal", root, "").status, 204);
    let output = site.run(&["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(10));
    assert!(text.contains("fail  seal") && text.contains("next: kista operator unseal"), "{text}");
    let output = site.run(&["doctor", "--address", "http://127.0.0.1:1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(10) && text.starts_with("fail  server"), "{text}");
}

#[test]
fn a_configuration_is_looked_at_before_it_is_used() {
    let site = Site::new();
    let config = site.folder.path().join("kista.toml");
    let check = ["server", "check", "--insecure-http", "--data", "data", "--json"];
    let with_config = [&check[..], &["--config", "kista.toml"]].concat();
    let shown = site.ok(&with_config);
    let found = states(&shown);
    assert!(is(&found, "config", "ok") && is(&found, "listener", "warn"), "{shown}");
    assert!(is(&found, "data", "ok") && is(&found, "audit file", "ok"), "{shown}");
    let data = site.folder.path().join("data");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let output = site.run(&with_config);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(10), "{shown}");
    assert!(is(&states(&shown), "data", "fail") && shown.contains("chmod 700"), "{shown}");
    site.file("cert.pem", "not one");
    let tls =
        ["server", "check", "--data", "none", "--tls-cert", "cert.pem", "--tls-key", "cert.pem"];
    let output = site.run(&tls);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(10), "{shown}");
    assert!(shown.contains("fail  listener"), "{shown}");
    fs::write(&config, "data = \"d\"\ntypo = 1\n").unwrap();
    site.fails(2, "typo", &["server", "check", "--config", "kista.toml"]);
    fs::set_permissions(&config, fs::Permissions::from_mode(0o666)).unwrap();
    site.fails(2, "chmod go-w", &["server", "check", "--config", "kista.toml"]);
}

#[test]
fn a_unit_is_printed_or_written_once() {
    let site = Site::new();
    let install =
        ["server", "install", "--config", "/etc/none/kista.toml", "--program", "/usr/bin/kista"];
    let unit = site.ok(&install);
    assert!(unit.starts_with("[Unit]\n") && unit.contains("NoNewPrivileges=yes\n"), "{unit}");
    let write = [&install[..], &["--write=kista.service"]].concat();
    assert_eq!(site.ok(&write), "");
    let file = site.folder.path().join("kista.service");
    assert_eq!(fs::read_to_string(&file).unwrap(), unit);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    site.fails(1, "--force", &write);
    site.ok(&[&write[..], &["--force"]].concat());
    site.fails(2, "cannot stand in a unit", &["server", "install", "--config", "/etc/a b"]);
}
