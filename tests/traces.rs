//! Where a value must not be seen that a command handles: in the arguments and the environment of any
//! process, in files that nobody asked for, and in what a crash leaves. Against the real binary.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Site, files_under};

/// The value.
const VALUE: &str = "planted-value-7c1e";

/// What `ps e` would show of a process and of those that it has started.
fn shown(id: u32, seen: &mut Vec<u8>) {
    let folder = Path::new("/proc").join(id.to_string());
    for name in ["cmdline", "environ"] {
        // It may have ended, or be closed to this user, as it is to all others.
        seen.extend(fs::read(folder.join(name)).unwrap_or_default());
    }
    let children = fs::read_to_string(folder.join(format!("task/{id}/children")));
    for child in children.unwrap_or_default().split_whitespace() {
        shown(child.parse().unwrap(), seen);
    }
}

fn holds(bytes: &[u8], value: &str) -> bool {
    memchr::memmem::find(bytes, value.as_bytes()).is_some()
}

/// Runs a command and looks at its processes from its first moment to its last; `value` is what must not be
/// seen.
fn watched(site: &Site, mut command: Command, stdin: &str, value: &str) -> Output {
    let server = Pid::from_raw(i32::try_from(site.server.id()).unwrap()).unwrap();
    // Nobody answers before it was looked at.
    kill_process(server, Signal::STOP).unwrap();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child: Child = command.spawn().unwrap();
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds(&seen, "kista") {
        shown(child.id(), &mut seen);
        assert!(Instant::now() < deadline, "nothing is seen of {command:?}");
    }
    kill_process(server, Signal::CONT).unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap_or_default();
    while child.try_wait().unwrap().is_none() {
        shown(child.id(), &mut seen);
        assert!(Instant::now() < deadline, "{command:?} does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!holds(&seen, value), "{command:?} shows the value");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    assert!(!said.contains(value), "{command:?} says the value: {said}");
    output
}

/// The files that hold it, below a folder.
fn files_with(folder: &Path, value: &str) -> Vec<String> {
    let files = files_under(folder).into_iter().filter(|(_, bytes)| holds(bytes, value));
    files.map(|(path, _)| path.strip_prefix(folder).unwrap().display().to_string()).collect()
}

#[test]
fn no_process_and_no_file_shows_a_value_that_nobody_asked_to_see() {
    let site = Site::new();
    site.put("app/db", &format!(r#"{{"password":"{VALUE}"}}"#));
    site.ok(&["secrets", "enable", "transit"]);
    site.ok(&["key", "create", "pii"]);
    let folder = site.folder.path();
    let runtime = tempfile::tempdir_in("/dev/shm").unwrap();
    let temporary = folder.join("tmp");
    fs::create_dir(&temporary).unwrap();
    let command = |line: &str| {
        let mut command = site.command(&line.split_whitespace().collect::<Vec<_>>());
        command.env("TMPDIR", &temporary).env("XDG_RUNTIME_DIR", runtime.path());
        command
    };
    site.file("plain", "text");
    site.file("template", "{{ kista('secret/app/db#password') }}");
    // The editor and the program look at the process that has started them, and at themselves.
    let look = "cat /proc/$PPID/cmdline /proc/$PPID/environ";
    site.file("editor.sh", &format!("{look} /proc/$$/cmdline /proc/$$/environ > seen\n"));
    let object = format!(r#"{{"data":{{"key":"{VALUE}"}}}}"#);
    let document = format!(r#"{{"one":{{"key":"{VALUE}"}}}}"#);
    for (line, stdin) in [
        ("put secret/app/new key=-", VALUE),
        ("patch secret/app/new other=-", VALUE),
        ("write secret/data/app/raw -", &object),
        ("import json - secret/app/taken --yes", &document),
        ("encrypt --key pii", VALUE),
        ("encrypt --local --passphrase plain -o sealed", VALUE),
        ("operator slot add passphrase", VALUE),
        ("get secret/app/db --json", ""),
        ("get secret/app/db#password --out out", ""),
        ("export secret/app/db", ""),
        ("render template -o rendered", ""),
        ("edit secret/app/db", ""),
        ("run -e secret/app/db --offline fallback -- true", ""),
    ] {
        let mut command = command(line);
        command.env("EDITOR", "sh editor.sh");
        // The child of `run` is meant to have it, once it is no longer Kista's process.
        let value = if line.starts_with("run") { "no such value" } else { VALUE };
        watched(&site, command, stdin, value);
    }
    let seen = fs::read(folder.join("seen")).unwrap();
    assert!(holds(&seen, "edit\0secret/app/db") && !holds(&seen, VALUE));
    let script = format!("{look} > seen; exit 0");
    let output = command("run -e secret/app/db --watch -- sh -c").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = fs::read(folder.join("seen")).unwrap();
    assert!(holds(&seen, "--watch") && !holds(&seen, VALUE));
    // Only what was asked for holds it, and nothing is left of the rest.
    let mut found = files_with(folder, VALUE);
    found.sort();
    assert_eq!(found, ["out", "rendered"]);
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    assert_eq!(fs::read_dir(runtime.path()).unwrap().count(), 0);
}

#[test]
fn a_token_and_a_share_are_seen_in_no_process() {
    let site = Site::new();
    let body = r#"{"policies":["root"]}"#;
    let made = site.server.call("POST", "auth/token/create", &site.kept.root, body).json();
    let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
    let address = site.server.address();
    let mut login = site.command(&["login", "--address", &address, "--json"]);
    login.env_remove("KISTA_TOKEN");
    let output = watched(&site, login, &token, &token);
    assert!(!holds(&output.stdout, &token));
    // The context is where it is kept.
    assert_eq!(files_with(site.folder.path(), &token), [".config/kista/contexts/local.toml"]);
    assert_eq!(site.server.call("PUT", "sys/seal", &site.kept.root, "").status, 204);
    let share = &site.kept.share;
    watched(&site, site.command(&["operator", "unseal"]), share, share);
    assert!(files_with(site.folder.path(), share).is_empty());
}

#[test]
fn a_crash_leaves_and_says_nothing_of_it() {
    let site = Site::new();
    site.put("app/db", &format!(r#"{{"password":"{VALUE}"}}"#));
    let runtime = tempfile::tempdir_in("/dev/shm").unwrap();
    for signal in [Signal::ABORT, Signal::ILL] {
        let mut edit = site.command(&["edit", "secret/app/db"]);
        edit.env("XDG_RUNTIME_DIR", runtime.path())
            .env("EDITOR", "sh -c 'echo open; exec sleep 60'");
        edit.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = edit.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let editor = loop {
            let children = format!("/proc/{0}/task/{0}/children", child.id());
            let children = fs::read_to_string(children).unwrap_or_default();
            if let Some(editor) = children.split_whitespace().next() {
                break editor.parse().unwrap();
            }
            assert!(Instant::now() < deadline, "no editor is started");
            std::thread::sleep(Duration::from_millis(5));
        };
        let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert!(!child.wait().unwrap().success());
        kill_process(Pid::from_raw(editor).unwrap(), Signal::TERM).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!holds(&output.stdout, VALUE) && !holds(&output.stderr, VALUE));
        assert!(files_with(site.folder.path(), VALUE).is_empty());
    }
}
