//! A tour of every command of the real binary: what it prints as JSON, and how it ends where what it
//! prints does not arrive.
//!
//! - `steps.rs`: what is typed
//! - `plain.rs`: JSON without what differs from one run to the next

mod plain;
mod steps;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    io::{Write, pipe},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use data_encoding::BASE64;
use serde_json::{Value, json};

use self::steps::{At, LEFT_OUT, Price, STEPS, Step, WITHOUT_JSON};
use crate::support::{Process, Site, snapshot};

/// What becomes of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// JSON, which is read.
    Json,
    /// JSON, on a disk that is full.
    FullDisk,
    /// Text, and nobody reads it any more, as `head` does not after its last line.
    ReaderGone,
    /// Text, and nobody reads what is said beside it.
    ErrorsGone,
}

/// Two servers, and what the steps refer to.
struct Tour {
    site: Site,
    empty: (tempfile::TempDir, Process),
    accessor: String,
    slot: String,
    token: String,
}

impl Tour {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Process::start(folder.path()).unwrap();
        let empty = (folder, server);
        let site = Site::new();
        site.put("app/db", r#"{"url":"postgres://x","password":"planted"}"#);
        site.put("app/db", r#"{"url":"postgres://y","password":"planted"}"#);
        site.file("plain", "text");
        site.file("app.env", "PORT=80\nPASSWORD='correct horse'\n");
        site.file("tree.json", r#"{"db":{"password":"x"},"mail":{"key":"y"}}"#);
        site.file("template", "port {{ kista('secret/app/imported#PORT') }}\n");
        site.file("policy.hcl", "path \"secret/data/*\" { capabilities = [\"read\"] }");
        site.file("editor.sh", "printf '{\"edited\":\"yes\"}' > \"$1\"\n");
        let mut tour = Self {
            site,
            empty,
            accessor: String::new(),
            slot: String::new(),
            token: String::new(),
        };
        let body = json!({"policies": ["default"], "ttl": "1h"});
        tour.accessor = text(&tour.call("POST", "auth/token/create", body)["auth"]["accessor"]);
        let body = json!({"policies": ["root"]});
        tour.token = text(&tour.call("POST", "auth/token/create", body)["auth"]["client_token"]);
        let body = json!({"type": "keyfile", "key": BASE64.encode(&[7; 32])});
        tour.slot = text(&tour.call("POST", "sys/slots", body)["data"]["slot"]["id"]);
        tour
    }

    fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.site.server.call(method, path, &self.site.kept.root, &body);
        assert!(matches!(answer.status, 200 | 204), "{path}: {answer:?}");
        answer.json()
    }

    /// Replaces what stands in braces.
    fn fill(&self, text: &str) -> String {
        let kept: [(&str, &dyn Fn() -> String); 8] = [
            ("{folder}", &|| self.site.folder.path().to_str().unwrap().to_owned()),
            ("{address}", &|| self.site.server.address()),
            ("{accessor}", &|| self.accessor.clone()),
            ("{slot}", &|| self.slot.clone()),
            ("{shares}", &|| self.shares()),
            ("{ciphertext}", &|| self.ciphertext()),
            ("{token}", &|| self.token.clone()),
            ("{share}", &|| self.site.kept.share.clone()),
        ];
        let mut text = text.to_owned();
        for (name, value) in kept {
            if text.contains(name) {
                text = text.replace(name, &value());
            }
        }
        text
    }

    /// The slot of the shares.
    fn shares(&self) -> String {
        let listed = self.call("GET", "sys/slots", Value::Null);
        let slots = listed["data"]["slots"].as_array().unwrap();
        text(&slots.iter().find(|slot| slot["type"] == "shares").unwrap()["id"])
    }

    fn ciphertext(&self) -> String {
        let body = json!({"plaintext": "dmFsdWU="});
        text(&self.call("POST", "transit/encrypt/pii", body)["data"]["ciphertext"])
    }

    fn run(&self, step: &Step, way: Way) -> Output {
        let line = self.fill(step.line);
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let name = command_of(step.line);
        let has_json = !WITHOUT_JSON.iter().any(|(without, _)| *without == name);
        if has_json && matches!(way, Way::Json | Way::FullDisk) {
            words.push("--json");
        }
        let mut command = self.site.command(&words);
        if step.at == At::Empty {
            command.env("KISTA_ADDR", self.empty.1.address());
        }
        let editor = format!("sh {}/editor.sh", self.site.folder.path().display());
        command.env("EDITOR", editor).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        match way {
            Way::Json => {}
            Way::FullDisk => {
                command.stdout(File::options().write(true).open("/dev/full").unwrap());
            }
            Way::ReaderGone => {
                command.stdout(pipe().unwrap().1);
            }
            Way::ErrorsGone => {
                command.stderr(pipe().unwrap().1);
            }
        }
        let mut child = command.spawn().unwrap();
        // It may end without having read it.
        let fed = child.stdin.take().unwrap().write_all(self.fill(step.stdin).as_bytes());
        fed.unwrap_or_default();
        child.wait_with_output().unwrap()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// What is said of a run that did not go as it should.
fn fault(step: &Step, output: &Output, wanted: &str) -> String {
    format!(
        "kista {}\n  {wanted}, not {:?}\n  {}",
        step.line,
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).trim_end().replace('\n', "\n  ")
    )
}

/// The commands that do something, by the manual, which is made of what the parser knows.
fn commands() -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("pages");
    let program = Command::new(env!("CARGO_BIN_EXE_kista"))
        .args(["man", "--dir", pages.to_str().unwrap()])
        .output();
    assert!(program.unwrap().status.success());
    let files = fs::read_dir(pages).unwrap().map(|entry| entry.unwrap().path());
    let synopsis = |file| {
        let page = fs::read_to_string(file).unwrap();
        let line = page.split(".SH SYNOPSIS\n").nth(1).unwrap().lines().next().unwrap();
        line.replace("\\-", "-").replace("\\fI", "").replace("\\fR", "\\fB")
    };
    let lines: Vec<String> = files.map(synopsis).collect();
    // A family needs one of its members to be named.
    let acting = lines.iter().filter(|line| !line.contains("<subcommands"));
    acting
        .map(|line| line.split("\\fB").nth(1).unwrap().trim_start_matches("kista ").to_owned())
        .collect()
}

/// The command of a line: the longest that it begins with.
fn command_of(line: &str) -> String {
    let line = format!("{line} ");
    let all = NAMES.get_or_init(commands);
    let begins = all.iter().filter(|name| line.starts_with(&format!("{name} ")));
    begins.max_by_key(|name| name.len()).unwrap().clone()
}

static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();

#[test]
fn the_tour_goes_by_every_command() {
    let seen: BTreeSet<String> = STEPS.iter().map(|step| command_of(step.line)).collect();
    let left_out: BTreeSet<String> = LEFT_OUT.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert!(seen.is_disjoint(&left_out), "left out and yet on the tour");
    let gone_by: BTreeSet<String> = seen.union(&left_out).cloned().collect();
    let missing: Vec<_> = commands().difference(&gone_by).cloned().collect();
    assert!(missing.is_empty(), "tests/tour/steps.rs has no step for {missing:?}");
    let unknown: Vec<_> = left_out.difference(&commands()).cloned().collect();
    assert!(unknown.is_empty(), "there is no {unknown:?}");
}

#[test]
fn json_is_as_it_was() {
    let tour = Tour::new();
    let mut seen = String::new();
    let mut faults = Vec::new();
    for step in STEPS {
        let output = tour.run(step, Way::Json);
        let name = command_of(step.line);
        if output.status.code() != Some(step.code) {
            faults.push(fault(step, &output, &format!("code {}", step.code)));
        }
        if WITHOUT_JSON.iter().any(|(without, _)| *without == name) {
            continue;
        }
        match plain::printed(&tour.site, &output.stdout) {
            Ok(text) if text.is_empty() && step.code == 0 => {
                faults.push(fault(step, &output, "JSON, not nothing"))
            }
            Ok(text) if text.is_empty() => {}
            Ok(text) => writeln!(seen, "$ kista {} --json\n{text}", step.line).unwrap(),
            Err(error) => faults.push(fault(step, &output, &format!("JSON: {error}"))),
        }
    }
    snapshot("json", &seen);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_full_disk_is_told_in_one_line() {
    let tour = Tour::new();
    let mut faults = Vec::new();
    for step in STEPS {
        let output = tour.run(step, Way::FullDisk);
        let said = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        let is_told =
            errors == ["error: cannot write to stdout: No space left on device (os error 28)"];
        // What fails before it prints is told by its own words.
        if output.status.code() != Some(1) || !(is_told || step.code == 1) {
            faults.push(fault(step, &output, "code 1 and one error"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn text_and_help_on_a_full_disk_are_told_in_one_line() {
    let site = Site::new();
    site.put("app/db", r#"{"url":"postgres://x","password":"planted"}"#);
    site.put("app/db", r#"{"url":"postgres://y","password":"planted"}"#);
    site.file("template", "port {{ kista('secret/app/db#url') }}\n");
    site.ok(&["secrets", "enable", "transit"]);
    site.ok(&["key", "create", "pii"]);
    let data = format!("backup create --data {}/data -o -", site.folder.path().display());
    let helps: Vec<String> = commands().iter().map(|name| format!("{name} --help")).collect();
    let lines = TEXTS.iter().copied().chain([&*data]).chain(helps.iter().map(String::as_str));
    let mut faults = Vec::new();
    for line in lines {
        let mut command = site.command(&line.split_whitespace().collect::<Vec<_>>());
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
        if output.status.code() != Some(1) || errors != 1 || !said.contains("No space left") {
            faults.push(format!("kista {line}: {:?} {said}", output.status.code()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let tour = Tour::new();
    let mut faults = Vec::new();
    for step in STEPS.iter().filter(|step| step.price == Price::Low) {
        let output = tour.run(step, Way::ReaderGone);
        let said = String::from_utf8_lossy(&output.stderr);
        let is_whole = MUST_ARRIVE.iter().any(|line| step.line.starts_with(line));
        let code = if is_whole { 1 } else { step.code };
        if output.status.code() != Some(code) || said.contains("internal error") {
            faults.push(fault(step, &output, &format!("code {code}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_said_to_nobody_changes_nothing() {
    let tour = Tour::new();
    let mut faults = Vec::new();
    for step in STEPS.iter().filter(|step| step.price == Price::Low) {
        let output = tour.run(step, Way::ErrorsGone);
        if output.status.code() != Some(step.code) {
            faults.push(fault(step, &output, &format!("code {}", step.code)));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What prints text, each in a way of its own.
const TEXTS: &[&str] = &[
    "--help",
    "--version",
    "get secret/app/db",
    "get secret/app/db#url",
    "get secret/app/db#url --qr",
    "get secret/app/db#url secret/app/db#password",
    "put secret/app/new a=env:PATH",
    "ls secret/",
    "ls --long secret/app/",
    "tree secret/",
    "find db",
    "log secret/app/db",
    "diff secret/app/db@1 secret/app/db@2",
    "export secret/app/db",
    "render template",
    "read secret/data/app/db",
    "list secret/metadata/app",
    "api GET sys/seal-status",
    "api GET sys/seal-status --curl",
    "policy get default",
    "token ls",
    "token show",
    "secrets ls",
    "key show pii",
    "encrypt --key pii template",
    "encrypt --key pii --batch template",
    "encrypt --key pii --local template",
    "config show",
    "server install --program /usr/local/bin/kista",
    "status",
    "doctor",
    "operator slot ls",
    "up --dev",
];

/// What these print cannot be asked for again, or is of no use in part.
const MUST_ARRIVE: &[&str] = &[
    "encrypt --key pii --batch",
    "decrypt --key pii --batch",
    "key export pii --show",
    "operator init",
    "operator rekey --shares",
    "token create",
];
