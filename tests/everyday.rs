//! Everyday commands on one secret, against the real server.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use crate::support::Site;

#[test]
fn one_secret_is_compared_in_two_environments() {
    let site = Site::new();
    site.put("dev/db", r#"{"url":"a","pw":"planted"}"#);
    site.put("prod/db", r#"{"url":"b","pw":"planted"}"#);
    let output = site.run(&["diff", "secret/{env}/db", "--env", "dev,prod", "--json"]);
    assert_eq!(output.status.code(), Some(10));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["changes"], json!([{"key": "url", "change": "changed"}]));
    assert_eq!(shown["to"], json!({"path": "secret/prod/db", "version": 1}));
    // Without {env} the names are contexts.
    for name in ["one", "two"] {
        let added = ["context", "add", name, "--address", &site.server.address()];
        site.ok(&added);
    }
    let same = site.run(&["diff", "secret/dev/db", "--env", "one,two"]);
    let said = String::from_utf8(same.stderr).unwrap();
    assert!(said.contains("kista://one/secret/dev/db@1 and kista://two/"), "{said}");
    assert_eq!(same.status.code(), Some(0), "{said}");
    site.fails(2, "{env}", &["diff", "secret/dev/db", "--env", "one,none"]);
    site.fails(2, "two different names", &["diff", "secret/{env}/db", "--env", "dev"]);
}

#[test]
fn a_value_is_drawn_for_a_telephone() {
    let site = Site::new();
    site.put("otp", r#"{"seed":"otpauth://totp/a?secret=ABC","user":"me"}"#);
    let drawn = site.ok(&["get", "secret/otp#seed", "--qr"]);
    assert!(drawn.contains('█') && !drawn.contains("otpauth"), "{drawn}");
    site.fails(2, "one value is wanted", &["get", "secret/otp", "--qr"]);
}

#[test]
fn a_secret_is_edited_as_yaml() {
    let site = Site::new();
    site.put("app", r#"{"key":"-----BEGIN\nx\n-----END\n","n":1.10}"#);
    let editor = site.file(
        "editor",
        "#!/bin/sh\ncp \"$1\" seen\nprintf '\"key\": |\\n  a\\n  b\\n\"n\": 1.10\\nnew: {k: no}\\n' > \"$1\"\n",
    );
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = site.command(&["edit", "secret/app", "--format", "yaml"]);
    let output = command.env("EDITOR", &editor).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("+ new") && said.contains("~ key") && !said.contains("~ n\n"), "{said}");
    let seen = fs::read_to_string(site.folder.path().join("seen")).unwrap();
    assert_eq!(seen, "\"key\": |\n  -----BEGIN\n  x\n  -----END\n\"n\": 1.10\n");
    assert_eq!(site.data("app"), json!({"key": "a\nb\n", "n": 1.1, "new": {"k": "no"}}));
}
