//! Everyday commands on a mount of KV version 1, against the real server.

use serde_json::{Value, json};

use crate::support::Site;

fn site() -> Site {
    let site = Site::new();
    let answer = site.server.call("POST", "sys/mounts/old", &site.kept.root, r#"{"type":"kv"}"#);
    assert_eq!(answer.status, 204, "{answer:?}");
    site
}

fn with_value(site: &Site, arguments: &[&str]) -> std::process::Output {
    site.command(arguments).env("V", "planted").output().unwrap()
}

#[test]
fn secrets_go_in_come_out_and_are_listed() {
    let site = site();
    let put = with_value(&site, &["put", "old/app/db", "pw=env:V"]);
    assert_eq!(String::from_utf8(put.stdout).unwrap(), "old/app/db  keys: pw\n");
    assert_eq!(site.ok(&["get", "old/app/db#pw"]), "planted");
    let shown: Value = serde_json::from_str(&site.ok(&["get", "old/app/db", "--json"])).unwrap();
    assert_eq!(shown, json!({"path": "old/app/db", "data": {"pw": "planted"}}));
    assert!(with_value(&site, &["put", "old/b", "pw=env:V", "--json"]).status.success());
    assert_eq!(site.ok(&["ls", "old"]), "app/\nb\n");
    assert_eq!(site.ok(&["ls", "-r", "old/"]), "app/db\nb\n");
    assert_eq!(site.ok(&["tree", "old/app"]), "old/app/\n└── db\n");
    assert_eq!(site.ok(&["export", "old/b", "-o", "json"]), "{\"pw\":\"planted\"}\n");
    assert_eq!(site.ok(&["run", "-e", "old/b", "--", "sh", "-c", "echo $PW"]), "planted\n");
    site.fails(3, "kista ls old/app/", &["get", "old/app/none"]);
    site.fails(3, "no folder", &["ls", "old/none/"]);
}

#[test]
fn what_needs_versions_says_so() {
    let site = site();
    assert!(with_value(&site, &["put", "old/a", "pw=env:V"]).status.success());
    for arguments in [
        &["get", "old/a", "--version", "1"][..],
        &["put", "old/a", "pw=-", "--cas", "1"],
        &["put", "old/a", "pw=-", "--ttl", "1h"],
        &["ls", "--long", "old"],
        &["cp", "old/a", "old/b"],
    ] {
        site.fails(2, "KV version 1", arguments);
    }
    for command in ["log", "undelete", "delete"] {
        site.fails(1, "kista write sys/mounts/old/tune", &[command, "old/a"]);
    }
}

#[test]
fn what_is_removed_is_gone_so_it_asks() {
    let site = site();
    for path in ["old/a", "old/f/b", "old/f/g/c"] {
        assert!(with_value(&site, &["put", path, "pw=env:V"]).status.success());
    }
    site.fails(2, "--yes", &["rm", "old/a"]);
    assert!(site.ok(&["rm", "-r", "old/f", "--dry-run"]).contains("old/f/g/c"));
    assert_eq!(site.ok(&["ls", "-r", "old"]), "a\nf/b\nf/g/c\n");
    site.ok(&["rm", "old/a", "--yes"]);
    let removed: Value =
        serde_json::from_str(&site.ok(&["rm", "-r", "old/f", "--yes", "--json"])).unwrap();
    assert_eq!(removed, json!({"path": "old/f/", "secrets": 2, "destroyed": true}));
    site.fails(3, "there is no", &["get", "old/f/b"]);
}

#[test]
fn a_secret_is_described_and_ends_by_itself() {
    let site = site();
    let put =
        ["put", "secret/otp", "pw=env:V", "--ttl", "1h", "--note", "for Ada", "--tag", "owner=ops"];
    assert!(with_value(&site, &put).status.success());
    let shown: Value = serde_json::from_str(&site.ok(&["get", "secret/otp", "--json"])).unwrap();
    let metadata = &shown["metadata"];
    assert_eq!(metadata["custom_metadata"], json!({"note": "for Ada", "owner": "ops"}));
    assert!(metadata["deletion_time"].as_str().unwrap().starts_with("20"), "{shown}");
    // What is not named stays.
    let again = ["put", "secret/otp", "pw=env:V", "--ttl", "0s", "--tag", "team=a"];
    assert!(with_value(&site, &again).status.success());
    let log = site.run(&["log", "secret/otp"]);
    let said = String::from_utf8(log.stderr).unwrap();
    assert!(said.contains("note: for Ada\nowner: ops\nteam: a\n"), "{said}");
    let shown: Value = serde_json::from_str(&site.ok(&["get", "secret/otp", "--json"])).unwrap();
    assert_eq!(shown["metadata"]["deletion_time"], "");
    site.fails(2, "NAME=VALUE", &["put", "secret/otp", "--tag", "x"]);
    site.fails(2, "--note", &["put", "secret/otp", "--tag", "note=x"]);
}
