//! Programs that `kista run` starts, against the real server: what they get, and how they end.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Kept, Process};

/// A server with a few secrets, and a user of it.
struct Site {
    folder: tempfile::TempDir,
    server: Process,
    kept: Kept,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (server, kept) = Process::init(folder.path());
        let site = Self { folder, server, kept };
        site.put("app/db", r#"{"db-password":"pa ss'w\"ord\n2","url":"postgres://x","n":1.10}"#);
        site.put("app/evil", r#"{"ld_preload":"/tmp/x.so","path":"/evil","ok":"fine"}"#);
        site
    }

    fn put(&self, path: &str, data: &str) {
        let body = format!("{{\"data\":{data}}}");
        let path = format!("secret/data/{path}");
        assert_eq!(self.server.call("POST", &path, &self.kept.root, &body).status, 200);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kista"));
        command
            .arg("run")
            .args(["--address", &self.server.address()])
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("KISTA_TOKEN", &self.kept.root)
            .env("LEFT", "alone")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asserts the code, and that stderr says this; nothing of a value is on it.
    fn fails(&self, code: i32, says: &str, arguments: &[&str]) {
        let output = self.run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
        assert!(!errors.contains("pa ss"), "{errors}");
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }
}

#[test]
fn secrets_become_variables() {
    let site = Site::new();
    let show = "printf '%s|%s|%s|%s' \"$DB_PASSWORD\" \"$URL\" \"$N\" \"$LEFT\"";
    let shown = site.ok(&["-e", "secret/app/db", "--", "sh", "-c", show]);
    assert_eq!(shown, "pa ss'w\"ord\n2|postgres://x|1.10|alone");
    let show = "printf '%s|%s|%s' \"$A_URL\" \"$NAMED\" \"$DB_PASSWORD$URL$N\"";
    let shown = site.ok(&[
        "-e",
        "secret/app/db#url",
        "-e",
        "kista://secret/app/db#n=NAMED",
        "--prefix",
        "A_",
        "sh",
        "-c",
        show,
    ]);
    assert_eq!(shown, "postgres://x|1.10|");
    let shown = site.ok(&["-e", "secret/app/db", "--only", "URL,N", "--pristine", "--", "env"]);
    let mut names: Vec<&str> = shown.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "N", "PATH", "URL"]);
}

#[test]
fn the_program_takes_the_place_of_the_process() {
    let site = Site::new();
    let child = site
        .command(&["-e", "secret/app/db", "--", "sh", "-c", "echo $$; ulimit -c; umask; exit 42"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(42));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], id.to_string());
    let own = Command::new("sh").args(["-c", "ulimit -c; umask"]).output().unwrap();
    assert_eq!(format!("{}\n{}\n", lines[1], lines[2]), String::from_utf8(own.stdout).unwrap());
    let killed = site.run(&["-e", "secret/app/db", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(killed.status.signal(), Some(15));
    // A program that sudo is must be able to gain rights, and a pipe that closes ends it.
    let status = site.ok(&["-e", "secret/app/db", "--", "cat", "/proc/self/status"]);
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "0");
    let ignored = u64::from_str_radix(&field("SigIgn:"), 16).unwrap();
    assert_eq!(ignored & (1 << 12), 0, "SIGPIPE is ignored");
}

#[test]
fn a_program_that_does_not_run_has_the_codes_of_shells() {
    let site = Site::new();
    site.fails(127, "no such program", &["-e", "secret/app/db", "--", "no-such-program"]);
    site.fails(127, "interpreter", &["-e", "secret/app/db", "--", "./none"]);
    site.fails(127, "sh -c", &["-e", "secret/app/db", "--", "cd /tmp && ls"]);
    let plain = site.file("plain", "text");
    site.fails(126, "chmod +x", &["-e", "secret/app/db", "--", plain.to_str().unwrap()]);
    site.fails(126, "executable", &["-e", "secret/app/db", "--", "/usr"]);
    let script = site.file("script", "#!/no/such/shell\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    site.fails(127, "first line", &["-e", "secret/app/db", "--", script.to_str().unwrap()]);
}

#[test]
fn what_steers_programs_needs_its_name_said() {
    let site = Site::new();
    let shown = site.ok(&["-e", "secret/app/evil", "--", "sh", "-c", "echo $OK $LD_PRELOAD $PATH"]);
    assert_eq!(shown, "fine /usr/bin:/bin\n");
    let output = site.run(&["-e", "secret/app/evil", "--", "true"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("LD_PRELOAD steers"));
    site.fails(1, "steers", &["-e", "secret/app/evil", "--strict", "--", "true"]);
    let named = ["-e", "secret/app/evil#path=PATH", "--", "/usr/bin/env"];
    assert!(site.ok(&named).contains("PATH=/evil\n"));
    site.file(".kista.toml", "[run]\nenv = [\"secret/app/evil#path=PATH\"]");
    site.fails(1, "steers", &["--", "/usr/bin/env"]);
}

#[test]
fn the_token_stays_behind_unless_it_is_kept() {
    let site = Site::new();
    let run = |more: &[&str]| {
        let arguments = [more, &["-e", "secret/app/db#n", "--", "env"]].concat();
        let mut command = site.command(&arguments);
        command.env("VAULT_TOKEN", "hvs.other").env("BAO_TOKEN", "hvs.more");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(!run(&[]).contains("TOKEN") && !run(&["--pristine"]).contains("TOKEN"));
    for kept in [run(&["--keep-token"]), run(&["--keep-token", "--pristine"])] {
        assert_eq!(kept.lines().filter(|line| line.contains("_TOKEN=")).count(), 3, "{kept}");
    }
}

#[test]
fn files_hold_values_and_references() {
    let site = Site::new();
    let file = site.file(
        "app.env",
        "PLAIN='a b'\nURL=\"kista://secret/app/db#url\"\nNONE=kista://secret/app/no#k?default=d\n",
    );
    let file = file.to_str().unwrap();
    let show = ["sh", "-c", "echo $PLAIN,$URL,$NONE,$N"];
    let run = |more: &[&str]| site.ok(&[&["--env-file", file], more, &["--"], &show[..]].concat());
    assert_eq!(run(&[]), "a b,postgres://x,d,\n");
    assert_eq!(run(&["-e", "secret/app/db#n=PLAIN"]), "1.10,postgres://x,d,\n");
    site.fails(
        6,
        "both make PLAIN",
        &["--env-file", file, "-e", "secret/app/db#n=PLAIN", "--strict", "--", "true"],
    );
    let broken = site.file("broken.env", "A=1\nB='x\n");
    site.fails(2, "line 2", &["--env-file", broken.to_str().unwrap(), "--", "true"]);
    let typo = site.file("typo.env", "\nA=kista://secret/app/db#ur\n");
    site.fails(
        3,
        "typo.env:2: A: secret/app/db has no key",
        &["--env-file", typo.to_str().unwrap(), "--", "true"],
    );
    let whole = site.file("whole.env", "A=kista://secret/app/db\n");
    site.fails(2, "whole.env:1: A: which key", &["--env-file", whole.to_str().unwrap(), "true"]);
}

#[test]
fn a_projects_file_says_what_to_fetch() {
    let site = Site::new();
    site.fails(2, ".kista.toml", &["--", "true"]);
    site.file(".kista.toml", "[run]\nenv = [\"secret/app/db#url=DB\"]");
    let inner = site.folder.path().join("a/b");
    fs::create_dir_all(&inner).unwrap();
    let output = site.command(&["--", "sh", "-c", "echo $DB"]).current_dir(inner).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "postgres://x\n");
}

#[test]
fn whose_value_stays_is_the_users_to_say() {
    let site = Site::new();
    let run = |more: &[&str]| {
        let arguments = [more, &["-e", "secret/app/db", "--", "sh", "-c", "echo $URL $N"]].concat();
        let output = site.command(&arguments).env("URL", "mine").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&[]), "postgres://x 1.10\n");
    assert_eq!(run(&["--prefer", "env"]), "mine 1.10\n");
    assert_eq!(run(&["--prefer", "env", "--pristine"]), "postgres://x 1.10\n");
}

#[test]
fn what_cannot_be_a_variable_is_named() {
    let site = Site::new();
    site.put("app/odd", r#"{"9lives":"pa ss"}"#);
    site.put("app/nul", r#"{"a":"pa ss\u0000"}"#);
    site.fails(1, "\"9lives\" of secret/app/odd", &["-e", "secret/app/odd", "--", "true"]);
    site.fails(1, "secret/app/nul#a holds a NUL", &["-e", "secret/app/nul", "--", "true"]);
    site.fails(3, "--only names X", &["-e", "secret/app/db", "--only", "X", "--", "true"]);
    site.fails(2, "a variable's name", &["-e", "secret/app/db#n=9", "--", "true"]);
}

#[test]
fn it_waits_for_a_sealed_vault_and_not_for_a_refusal() {
    let site = Site::new();
    let wait = |seconds: &str, path: &str| {
        let mut command = site.command(&["-e", path, "--wait", seconds, "--", "echo", "started"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let begun = Instant::now();
    let refused = wait("60s", "secret/app/none").wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(site.server.call("PUT", "sys/seal", &site.kept.root, "").status, 204);
    let begun = Instant::now();
    let given_up = wait("2s", "secret/app/db").wait_with_output().unwrap();
    assert_eq!(given_up.status.code(), Some(5));
    assert!(begun.elapsed() < Duration::from_secs(30));
    let waiting = wait("60s", "secret/app/db");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(site.server.unseal(&site.kept).status, 200);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "started\n");
    assert!(String::from_utf8(output.stderr).unwrap().contains("waiting for the vault"));
}

#[test]
fn a_copy_serves_while_the_vault_is_sealed_and_never_after_a_refusal() {
    let site = Site::new();
    let run = |offline: &str| {
        site.run(&["-e", "secret/app/db", "--offline", offline, "--", "sh", "-c", "echo $URL"])
    };
    let text = |output: &Output| {
        let stdout = String::from_utf8(output.stdout.clone()).unwrap();
        (output.status.code(), stdout, String::from_utf8(output.stderr.clone()).unwrap())
    };
    let (code, _, errors) = text(&run("only"));
    assert!(code == Some(5) && errors.contains("no copy"), "{errors}");
    let (code, shown, errors) = text(&run("fallback"));
    assert_eq!((code, &*shown, &*errors), (Some(0), "postgres://x\n", ""));
    assert_eq!(site.server.call("PUT", "sys/seal", &site.kept.root, "").status, 204);
    for offline in ["fallback", "only"] {
        let (code, shown, errors) = text(&run(offline));
        assert_eq!((code, &*shown), (Some(0), "postgres://x\n"), "{errors}");
        assert!(errors.contains("this machine's copy, "), "{errors}");
    }
    assert_eq!(text(&run("off")).0, Some(5));
    let old = ["-e", "secret/app/db", "--offline", "only", "--offline-max-age", "0s", "true"];
    std::thread::sleep(Duration::from_millis(1100));
    site.fails(5, "old, and the most is 0s", &old);
    // Another token, though nobody can ask the vault about it, has no copy.
    let mut other = site.command(&["-e", "secret/app/db", "--offline", "only", "--", "true"]);
    let output = other.env("KISTA_TOKEN", "hvs.other").output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    // What the vault says no to is forgotten.
    assert_eq!(site.server.unseal(&site.kept).status, 200);
    let path = "secret/metadata/app/db";
    assert_eq!(site.server.call("DELETE", path, &site.kept.root, "").status, 204);
    assert_eq!(text(&run("fallback")).0, Some(3));
    assert_eq!(text(&run("only")).0, Some(5));
}

/// Waits until a file of the site's folder holds this.
fn wait_for(site: &Site, name: &str, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = fs::read_to_string(site.folder.path().join(name)).unwrap_or_default();
        if found == text {
            return;
        }
        assert!(Instant::now() < deadline, "{name}: {found:?}, not {text:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn watched(site: &Site, more: &[&str], script: &str) -> std::process::Child {
    let watch = ["-e", "secret/app/live", "--watch", "--interval", "200ms"];
    let mut command = site.command(&[&watch[..], more, &["--", "sh", "-c", script]].concat());
    command.stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_watched_program_starts_anew_when_its_secrets_change() {
    let site = Site::new();
    site.put("app/live", r#"{"pw":"one"}"#);
    let script = "echo $PW $KISTA_TOKEN $(ulimit -c) $(umask) >> log; trap 'echo end >> log; exit 7' \
                  TERM; while :; do sleep 0.05; done";
    let child = watched(&site, &[], script);
    let own = Command::new("sh").args(["-c", "echo $(ulimit -c) $(umask)"]).output().unwrap();
    let own = String::from_utf8(own.stdout).unwrap();
    wait_for(&site, "log", &format!("one {own}"));
    // Another spelling of the same value is no change.
    site.put("app/live", "{\"pw\": \"\\u006fne\"}");
    site.put("app/live", r#"{"pw":"two"}"#);
    wait_for(&site, "log", &format!("one {own}end\ntwo {own}"));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = child.wait_with_output().unwrap();
    let errors = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(7), "{errors}");
    assert_eq!(errors.matches("started anew").count(), 1, "{errors}");
    wait_for(&site, "log", &format!("one {own}end\ntwo {own}end\n"));
}

#[test]
fn a_watched_program_gets_the_signal_that_is_named_and_those_of_others() {
    let site = Site::new();
    site.put("app/live", r#"{"pw":"one"}"#);
    let script = "trap 'echo usr >> log' USR1; trap 'echo hup >> log' HUP; echo $PW >> log; \
                  while :; do sleep 0.05; done";
    let child = watched(&site, &["--signal", "SIGUSR1"], script);
    wait_for(&site, "log", "one\n");
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    wait_for(&site, "log", "one\nhup\n");
    site.put("app/live", r#"{"pw":"two"}"#);
    wait_for(&site, "log", "one\nhup\nusr\n");
    // What fails is told, and the program goes on.
    let path = "secret/metadata/app/live";
    assert_eq!(site.server.call("DELETE", path, &site.kept.root, "").status, 204);
    std::thread::sleep(Duration::from_millis(1000));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = child.wait_with_output().unwrap();
    let errors = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(143), "{errors}");
    assert_eq!(errors.matches("goes on with what it has").count(), 1, "{errors}");
    site.fails(127, "no such program", &["-e", "secret/app/db", "--watch", "--", "no-such"]);
    let only = ["-e", "secret/app/db", "--watch", "--offline", "only", "--", "true"];
    site.fails(2, "nothing to watch", &only);
    let output = site.run(&["-e", "secret/app/db", "--watch", "--", "sh", "-c", "exit 9"]);
    assert_eq!(output.status.code(), Some(9));
}

#[test]
fn a_watching_token_is_renewed_and_told_of_when_it_cannot_be() {
    let site = Site::new();
    site.put("app/live", r#"{"pw":"one"}"#);
    let policy = r#"{"policy":"path \"secret/data/app/live\" { capabilities = [\"read\"] }"}"#;
    let put = site.server.call("PUT", "sys/policies/acl/app", &site.kept.root, policy);
    assert_eq!(put.status, 204, "{put:?}");
    let started = |options: &str, interval: &str| {
        let body = format!(r#"{{"policies":["app"],{options}}}"#);
        let made = site.server.call("POST", "auth/token/create", &site.kept.root, &body);
        let arguments = ["-e", "secret/app/live", "--watch", "--interval", interval, "--"];
        let mut command = site.command(&arguments);
        command.args(["sh", "-c", "echo $PW >> log; while :; do sleep 0.05; done"]);
        command.env("KISTA_TOKEN", made.json()["auth"]["client_token"].as_str().unwrap());
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let ended = |child: std::process::Child| {
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap()
    };
    let child = started(r#""ttl":"5s""#, "200ms");
    wait_for(&site, "log", "one\n");
    std::thread::sleep(Duration::from_secs(7));
    site.put("app/live", r#"{"pw":"two"}"#);
    wait_for(&site, "log", "one\ntwo\n");
    let errors = ended(child);
    assert!(!errors.contains("token"), "{errors}");

    let child = started(r#""ttl":"1h","renewable":false"#, "10s");
    wait_for(&site, "log", "one\ntwo\ntwo\n");
    let errors = ended(child);
    let told = "the token is not renewable, and ends by itself: it ends in 59m";
    assert_eq!(errors.matches(told).count(), 1, "{errors}");
}

#[test]
fn a_watched_program_that_does_not_end_is_killed() {
    let site = Site::new();
    site.put("app/live", r#"{"pw":"one"}"#);
    let script =
        "echo $PW >> log; trap '' TERM; [ $PW = two ] && exit 3; while :; do sleep 0.05; done";
    let child = watched(&site, &["--grace", "300ms"], script);
    wait_for(&site, "log", "one\n");
    site.put("app/live", r#"{"pw":"two"}"#);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(3));
}
