//! Users whose home cannot be written, against the real binary: what needs no home works, and what does
//! says so in a line.

use std::{
    fs,
    process::{Command, Output},
};

use crate::support::Site;

/// Homes that nobody can write, root included: below a file, and where the system makes the names.
const HOMES: [&str; 3] = ["/dev/null", "/proc", "plain/home"];

/// A command of a user who has such a home, or none at all.
fn homeless(site: &Site, line: &str, home: Option<&str>) -> Output {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command: Command = site.command(&words);
    match home {
        Some(home) => {
            let home = site.folder.path().join(home);
            command.env("HOME", &home);
            for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"] {
                command.env(name, &home);
            }
        }
        None => {
            command.env_remove("HOME");
        }
    }
    command.env("EDITOR", "true").output().unwrap()
}

fn each(mut check: impl FnMut(&Site, Option<&str>)) {
    let site = Site::new();
    site.put("app/db", r#"{"url":"x"}"#);
    site.file("plain", "text");
    site.file("template", "{{ kista('secret/app/db#url') }}");
    for home in HOMES.map(Some).into_iter().chain([None]) {
        check(&site, home);
    }
}

#[test]
fn what_needs_no_home_works_without_one() {
    each(|site, home| {
        for line in [
            "status",
            "get secret/app/db",
            "put secret/app/new a=env:PATH",
            "ls secret/",
            "edit secret/app/db",
            "run -e secret/app/db -- true",
            "run -e secret/app/db --offline fallback -- true",
            "export secret/app/db --offline fallback",
            "render template --offline fallback",
            "config show --origin",
            "doctor",
            "completion bash",
            "man",
        ] {
            // A copy for when no vault answers needs a place, and it is better to know that now.
            let code = if home.is_none() && line.contains("--offline") { 1 } else { 0 };
            let output = homeless(site, line, home);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{line} at {home:?}: {said}");
        }
    });
}

#[test]
fn what_needs_a_home_says_so_in_a_line() {
    each(|site, home| {
        let address = site.server.address();
        for line in [
            &*format!("context add far --address {address}"),
            "context use local",
            "context rm far --yes",
            "logout",
            "login --no-input",
            "up --listen 127.0.0.1:0",
            "man --dir plain/man",
            "get secret/app/db#url --out plain/out",
            "render template -o plain/out",
            "encrypt --local --key pii plain -o plain/out",
            "backup create --data data -o plain/out",
        ] {
            let output = homeless(site, line, home);
            let said = String::from_utf8_lossy(&output.stderr);
            let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
            let code = output.status.code();
            assert!(matches!(code, Some(1..=4)), "{line} at {home:?}: {code:?} {said}");
            assert!(errors == 1 && !said.contains("internal error"), "{line} at {home:?}: {said}");
            assert!(output.stdout.is_empty(), "{line} at {home:?}");
        }
    });
    assert!(!fs::exists("/dev/null/.config").unwrap_or(false));
}
