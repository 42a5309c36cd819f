//! Files of secrets that `kista import` takes into the vault, against the real server.

use std::{
    io::Write,
    process::{Output, Stdio},
};

use serde_json::{Value, json};

use crate::support::Site;

fn piped(site: &Site, arguments: &[&str], text: &str) -> Output {
    let mut command = site.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_dotenv_file_becomes_one_secret_and_a_dry_run_writes_nothing() {
    let site = Site::new();
    site.file(".env", "# app\nexport URL=postgres://x\nPW='planted $1'\nREF=kista://secret/a#k\n");
    let dry = site.run(&["import", "dotenv", ".env", "secret/app/dev", "--dry-run"]);
    let said = String::from_utf8(dry.stderr).unwrap();
    assert!(said.contains("+ URL") && said.contains("nothing was written"), "{said}");
    assert!(!said.contains("planted") && dry.stdout.is_empty() && dry.status.success(), "{said}");
    site.fails(3, "there is no", &["get", "secret/app/dev"]);
    let line = site.ok(&["import", "dotenv", ".env", "--to", "secret/app/dev"]);
    assert_eq!(line, "secret/app/dev  version 1  added: URL, PW, REF\n");
    let expected = json!({"URL": "postgres://x", "PW": "planted $1", "REF": "kista://secret/a#k"});
    assert_eq!(site.data("app/dev"), expected);
    // The same again changes nothing, and makes no version.
    assert_eq!(site.ok(&["import", "dotenv", ".env", "secret/app/dev"]), "");
    assert!(site.ok(&["get", "secret/app/dev", "--json"]).contains("\"version\":1"));
}

#[test]
fn what_the_vault_has_otherwise_is_overwritten_only_when_said() {
    let site = Site::new();
    site.put("app", r#"{"A":"old","KEEP":"mine"}"#);
    site.file("new.env", "A=planted\nB=2\n");
    let import = ["import", "dotenv", "new.env", "secret/app"];
    let with = |more: &[&'static str]| [&import[..], more].concat();
    let asked = site.fails(2, "--yes", &import);
    assert!(asked.contains("~ A") && !asked.contains("planted"), "{asked}");
    site.fails(6, "secret/app#A", &with(&["--on-conflict", "fail"]));
    assert_eq!(site.data("app"), json!({"A": "old", "KEEP": "mine"}));
    site.ok(&with(&["--on-conflict", "skip"]));
    assert_eq!(site.data("app"), json!({"A": "old", "KEEP": "mine", "B": "2"}));
    let shown: Value = serde_json::from_str(&site.ok(&with(&["--yes", "--json"]))).unwrap();
    assert_eq!(
        shown,
        json!({"dry_run": false, "secrets": [
        {"path": "secret/app", "added": [], "changed": ["A"], "kept": [], "same": 1, "version": 3}]})
    );
    assert_eq!(site.data("app"), json!({"A": "planted", "KEEP": "mine", "B": "2"}));
}

#[test]
fn json_and_yaml_make_a_secret_of_each_map() {
    let site = Site::new();
    let yaml = "app:\n  db: {password: p, port: 5432, ratio: 1.10}\n  mail:\n    key: |\n      a\n      b\n";
    let done = piped(&site, &["import", "yaml", "-", "secret/team"], yaml);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(site.ok(&["get", "secret/team/app/db#ratio"]) == "1.10");
    assert_eq!(site.data("team/app/mail"), json!({"key": "a\nb\n"}));
    let whole = r#"{"secret/x":{"k":"1"},"secret/y":{"k":{"n":null}}}"#;
    site.file("all.json", whole);
    // A map whose values are all maps is a folder, so y/k is a secret.
    site.ok(&["import", "json", "all.json"]);
    assert_eq!(site.data("x"), json!({"k": "1"}));
    assert_eq!(site.data("y/k"), json!({"n": null}));
    site.ok(&["import", "json", "all.json", "secret/one", "--one"]);
    assert_eq!(site.data("one")["secret/x"], json!({"k": "1"}));
    site.file("flat.json", r#"{"a":1}"#);
    site.fails(2, "name its path", &["import", "json", "flat.json"]);
    site.fails(3, "cannot read", &["import", "json", "none.json", "secret/a"]);
    site.file("bad.yaml", "a: *b\n");
    site.fails(2, "bad.yaml is not understood", &["import", "yaml", "bad.yaml", "secret/a"]);
}

#[test]
fn what_cannot_be_written_does_not_hold_up_the_rest() {
    let site = Site::new();
    let rules = r#"{"policy":"path \"secret/data/ok/*\" { capabilities = [\"create\", \"read\"] }\npath \"secret/data/no/*\" { capabilities = [\"read\"] }"}"#;
    let root = &site.kept.root;
    assert_eq!(site.server.call("PUT", "sys/policies/acl/some", root, rules).status, 204);
    let made = site.server.call("POST", "auth/token/create", root, r#"{"policies":["some"]}"#);
    let token = made.json()["auth"]["client_token"].as_str().unwrap().to_owned();
    site.file("three.json", r#"{"no":{"a":{"k":"1"}},"ok":{"a":{"k":"1"},"b":{"k":"2"}}}"#);
    let mut command = site.command(&["import", "json", "three.json", "secret"]);
    let output = command.env("KISTA_TOKEN", token).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{errors}");
    assert!(errors.contains("secret/no/a") && errors.contains("2 of 3"), "{errors}");
    assert_eq!(site.data("ok/b"), json!({"k": "2"}));
}
