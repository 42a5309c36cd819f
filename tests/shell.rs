//! What a shell and a terminal get: completion, colours, settings. Against the real server.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::support::Site;

/// What bash would offer for the last of these words.
fn offered(site: &Site, words: &[&str], token: &str) -> Vec<String> {
    let script = format!(
        "source <(kista completion bash); COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9; \
         _clap_complete_kista kista '{}' '' 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len() - 1,
        words.last().unwrap(),
    );
    let program = Path::new(env!("CARGO_BIN_EXE_kista")).parent().unwrap();
    let command = site.command(&[]);
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &script]).current_dir(site.folder.path()).env_clear();
    for (name, value) in command.get_envs().map(|(name, value)| (name.to_owned(), value)) {
        bash.env(name, value.unwrap());
    }
    bash.env("PATH", format!("{}:/usr/bin:/bin", program.display()));
    bash.env("XDG_RUNTIME_DIR", site.folder.path()).env("KISTA_TOKEN", token);
    let output = bash.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

#[test]
fn a_shell_completes_paths_keys_and_contexts_that_the_token_may_see() {
    let site = Site::new();
    site.put("app/db", r#"{"password":"planted","port":"1"}"#);
    site.put("app/dbx", r#"{"a":"1"}"#);
    site.put("app/$(id)", r#"{"a":"1"}"#);
    site.ok(&["context", "add", "prod", "--address", &site.server.address()]);
    let root = &site.kept.root;
    assert_eq!(offered(&site, &["kista", "get", "secret/ap"], root), ["secret/app/"]);
    assert_eq!(offered(&site, &["kista", "get", "sec"], root), ["secret/"]);
    let found = offered(&site, &["kista", "edit", "secret/app/"], root);
    assert_eq!(found, ["secret/app/db", "secret/app/dbx"]);
    let found = offered(&site, &["kista", "run", "-e", "secret/app/db#p"], root);
    assert_eq!(found, ["secret/app/db#password", "secret/app/db#port"]);
    assert_eq!(offered(&site, &["kista", "context", "use", "p"], root), ["prod"]);
    assert_eq!(offered(&site, &["kista", "ls", "--context", "p"], root), ["prod"]);
    assert_eq!(offered(&site, &["kista", "rend"], root), ["render"]);
    // What was kept for one token is not for another.
    assert!(offered(&site, &["kista", "edit", "secret/app/"], "hvs.other").is_empty());
    let kept = fs::read_to_string(site.folder.path().join("kista/names")).unwrap();
    assert!(!kept.contains("planted") && !kept.contains(root.as_str()), "{kept}");
}

#[test]
fn a_shell_is_not_kept_waiting() {
    let site = Site::new();
    assert_eq!(site.server.call("PUT", "sys/seal", &site.kept.root, "").status, 204);
    let begun = std::time::Instant::now();
    assert!(offered(&site, &["kista", "get", "secret/"], &site.kept.root).is_empty());
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn colours_are_for_terminals_unless_they_are_asked_for() {
    let site = Site::new();
    let text = |output: Output| {
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let with = |arguments: &[&str], variables: &[(&str, &str)]| {
        text(site.command(arguments).envs(variables.iter().copied()).output().unwrap())
    };
    let is_coloured = |text: &str| text.contains('\u{1b}');
    let missing = ["get", "secret/none"];
    assert!(!is_coloured(&with(&missing, &[])));
    assert!(is_coloured(&with(&missing, &[("CLICOLOR_FORCE", "1")])));
    assert!(!is_coloured(&with(&missing, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")])));
    let always = ["get", "secret/none", "--color", "always"];
    assert!(with(&always, &[("NO_COLOR", "1")]).contains("\u{1b}[31merror: \u{1b}[0m"));
    assert!(with(&["--color=always", "doctor"], &[]).contains("\u{1b}[33mwarn\u{1b}[0m"));
    let usage = ["--color", "never", "get"];
    assert!(!is_coloured(&with(&usage, &[("CLICOLOR_FORCE", "1")])));
    // Never in what a program reads.
    site.put("a", r#"{"k":"v"}"#);
    assert_eq!(site.ok(&["get", "secret/a", "--color", "always"]), "k\tv\n");
    let json = site.ok(&["get", "secret/a", "--json", "--color", "always"]);
    assert!(serde_json::from_str::<Value>(&json).is_ok(), "{json}");
}

#[test]
fn settings_are_shown_with_where_they_are_from() {
    let site = Site::new();
    let shown = site.ok(&["config", "show", "--origin", "--json"]);
    let settings: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(settings["address"]["origin"], "KISTA_ADDR");
    assert_eq!(settings["token"], json!({"value": "there is one", "origin": "KISTA_TOKEN"}));
    assert_eq!(settings["trust"]["origin"], "default");
    assert!(!shown.contains(&site.kept.root), "{shown}");
    site.ok(&["context", "add", "prod", "--address", &site.server.address()]);
    let output = site
        .command(&["config", "show", "--origin", "--context", "prod"])
        .env_remove("KISTA_ADDR")
        .env_remove("KISTA_TOKEN")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("address\t") && text.contains("\tcontext prod\n"), "{text}");
    assert!(text.contains("token\tnone\tdefault\n"), "{text}");
    let flag = ["config", "show", "--origin", "--address", "http://127.0.0.1:1"];
    assert!(site.ok(&flag).contains("address\thttp://127.0.0.1:1\t--address\n"));
    site.file(".kista.toml", "[run]\nenv = [\"secret/a\"]");
    assert!(site.ok(&["config", "show"]).contains("project\t"));
}
