//! What a person has at a terminal, against the real binary: Ctrl-C at every question and at long work,
//! bars and colours.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    dev,
    support::{INTERRUPT, Process, Site, Terminal},
};

/// A question, and what is answered; a hidden one waits until it is.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Seen(&'a str),
    Hidden(&'a str),
}

/// Answers all questions but the last, which is answered with Ctrl-C; what was shown then.
fn interrupt(command: &Command, questions: &[(Asked<'_>, &str)]) -> String {
    let mut terminal = Terminal::start(command);
    for (question, answer) in questions {
        match question {
            Asked::Seen(text) => {
                terminal.until(text);
            }
            Asked::Hidden(text) => {
                terminal.until(text);
                terminal.until_hidden();
            }
        }
        terminal.type_in(answer);
    }
    let (code, shown) = terminal.end();
    assert_eq!(code, 130, "{:?}: {shown}", command.get_args());
    shown
}

/// Every file below a folder, but for those that the server writes.
fn files(site: &Site) -> Vec<String> {
    fn below(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("data") => {}
                true => below(&path, found),
                false => found.push(path.display().to_string()),
            }
        }
    }
    let mut found = Vec::new();
    below(site.folder.path(), &mut found);
    found.sort();
    found
}

#[test]
fn a_question_ends_with_ctrl_c_and_nothing_is_done() {
    let site = Site::new();
    site.put("app/db", r#"{"url":"a"}"#);
    site.put("app/db", r#"{"url":"b"}"#);
    site.file("dev.env", "url=c\n");
    site.file("plain", "text");
    let backup = site.folder.path().join("store.kistabak");
    let data = site.folder.path().join("data");
    site.ok(&["backup", "create", "--data", data.to_str().unwrap(), "-o", "store.kistabak"]);
    let runtime = tempfile::tempdir_in("/dev/shm").unwrap();
    let before = files(&site);
    let hidden = |text| (Asked::Hidden(text), INTERRUPT);
    let seen = |text| (Asked::Seen(text), INTERRUPT);
    let run = |line: &str, questions: &[(Asked<'_>, &str)]| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = site.command(&words);
        command.env("XDG_RUNTIME_DIR", runtime.path()).env("NO_COLOR", "1");
        let shown = interrupt(&command, questions);
        assert_eq!(files(&site), before, "{line} leaves a file");
        shown
    };
    // Values.
    run("put secret/app/new", &[seen("key (empty to end): ")]);
    let key = (Asked::Seen("key (empty to end): "), "password\n");
    let shown = run("put secret/app/new", &[key, hidden("(hidden, empty = generate): ")]);
    assert!(shown.contains("error: interrupted"), "{shown}");
    run("put secret/app/new password=-", &[hidden("(hidden, empty = generate): ")]);
    run("patch secret/app/db url=-", &[hidden("(hidden, empty = generate): ")]);
    let absent = site.server.call("GET", "secret/data/app/new", &site.kept.root, "");
    assert_eq!(absent.status, 404);
    // What must be agreed to.
    run("rollback secret/app/db --to 1", &[seen("[y/N] ")]);
    run("import dotenv dev.env secret/app/db", &[seen("[y/N] ")]);
    run("destroy secret/app/db --all", &[seen("of what goes (empty to end): ")]);
    run("rm -r secret/app/", &[seen("of what goes (empty to end): ")]);
    let known = site.server.call("GET", "secret/metadata/app/db", &site.kept.root, "").json();
    assert_eq!(known["data"]["current_version"], 2);
    assert_eq!(site.data("app/db"), json!({"url": "b"}));
    // The token of a context, and the passphrase of a file.
    run("login", &[hidden("token (hidden): ")]);
    let first = (Asked::Hidden("passphrase (hidden): "), "correct horse\n");
    run("encrypt --local --passphrase plain -o sealed", &[hidden("passphrase (hidden): ")]);
    let again = "the same again (hidden): ";
    run("encrypt --local --passphrase plain -o sealed", &[first, hidden(again)]);
    // What the operator is asked for.
    let rekey = "operator rekey --shares 1 --threshold 1";
    run(rekey, &[hidden("share 1 of 1 (hidden): ")]);
    let share = format!("{}\n", site.kept.share);
    let old = (Asked::Hidden("share 1 of 1 (hidden): "), share.as_str());
    let shown = run(rekey, &[old, hidden("to verify (hidden): ")]);
    assert!(shown.contains("the old shares still hold"), "{shown}");
    let status = site.server.call("GET", "sys/rekey/init", &site.kept.root, "").json();
    assert_eq!(status["data"]["started"].as_bool().or(status["started"].as_bool()), Some(false));
    run("operator slot add passphrase", &[hidden("passphrase (hidden): ")]);
    let restore = format!("backup restore {} --data restored --shares", backup.display());
    run(&restore, &[hidden("share 1 (hidden): ")]);
    assert!(!site.folder.path().join("restored").exists());
    assert_eq!(site.server.call("PUT", "sys/seal", &site.kept.root, "").status, 204);
    run("operator unseal", &[hidden("share 1 of 1 (hidden): ")]);
    run("operator unseal --passphrase", &[hidden("passphrase (hidden): ")]);
    let status = site.server.call("GET", "sys/seal-status", "", "").json();
    assert_eq!((&status["sealed"], &status["progress"]), (&json!(true), &json!(0)));
    assert_eq!(fs::read_dir(runtime.path()).unwrap().count(), 0);
}

#[test]
fn the_first_meeting_and_the_making_of_a_store_end_with_ctrl_c() {
    let home = tempfile::tempdir().unwrap();
    let server = Process::start(home.path()).unwrap();
    let command = |line: &str, address: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kista"));
        command.args(line.split_whitespace()).current_dir(home.path()).env("HOME", home.path());
        command.env("KISTA_ADDR", address);
        command
    };
    let init = command("operator init --passphrase", &server.address());
    interrupt(&init, &[(Asked::Hidden("passphrase (hidden): "), INTERRUPT)]);
    let status = server.call("GET", "sys/seal-status", "", "").json();
    assert_eq!(status["initialized"], false);
    let (tls, made) = dev::start(home.path());
    let login = command("login", made["VAULT_ADDR"].as_str().unwrap());
    interrupt(&login, &[(Asked::Seen("(empty to end): "), INTERRUPT)]);
    assert!(!home.path().join(".config").exists());
    tls.end();
}

#[test]
fn an_editor_that_is_interrupted_leaves_nothing() {
    let site = Site::new();
    site.put("app/db", r#"{"url":"planted"}"#);
    let runtime = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut edit = site.command(&["edit", "secret/app/db"]);
    edit.env("XDG_RUNTIME_DIR", runtime.path());
    // An editor that Ctrl-C ends, one that knows better, and a question about a mistake. They trap
    // it, since a shell loses one that comes just before it starts another program.
    edit.env("EDITOR", "sh -c 'trap \"trap - INT; kill -INT $$\" INT; echo open; sleep 60 & wait'");
    interrupt(&edit, &[(Asked::Seen("open"), INTERRUPT)]);
    edit.env("EDITOR", "sh -c 'trap \"exit 0\" INT; echo open; sleep 60 & wait' ");
    let mut terminal = Terminal::start(&edit);
    terminal.until("open");
    terminal.type_in(INTERRUPT);
    let (code, shown) = terminal.end();
    assert!(code == 0 && shown.contains("nothing was written"), "{code} {shown}");
    edit.env("EDITOR", "sh -c 'echo wrong > \"$0\"'");
    interrupt(&edit, &[(Asked::Seen("[y/N] "), INTERRUPT)]);
    assert_eq!(fs::read_dir(runtime.path()).unwrap().count(), 0);
    assert_eq!(site.data("app/db"), json!({"url": "planted"}));
}

/// Feeds a file that does not end, until nobody reads it any more or the time is up.
fn feed(file: &Path, time: Duration) -> thread::JoinHandle<()> {
    let file = file.to_owned();
    thread::spawn(move || {
        let mut file = File::options().write(true).open(file).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < time && file.write_all(&[b'x'; 64 * 1024]).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    })
}

#[test]
fn long_work_has_a_bar_at_a_terminal_and_ends_with_ctrl_c() {
    let site = Site::new();
    site.ok(&["secrets", "enable", "transit"]);
    site.ok(&["key", "create", "pii"]);
    let source = site.folder.path().join("fifo");
    let made = Command::new("mkfifo").arg(&source).status().unwrap();
    assert!(made.success());
    let before = files(&site);
    let line = ["encrypt", "--key", "pii", "--local", "fifo", "-o", "sealed"];
    let mut terminal = Terminal::start(&site.command(&line));
    let feeding = feed(&source, Duration::from_secs(20));
    terminal.until("encrypting [");
    terminal.type_in(INTERRUPT);
    let (code, shown) = terminal.end();
    assert!(code == 130 && shown.contains("no file was kept"), "{code} {shown}");
    feeding.join().unwrap();
    assert_eq!(files(&site), before);
    // A service manager ends it as cleanly, and is told so.
    let mut managed = site.command(&line);
    let child = managed.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let feeding = feed(&source, Duration::from_secs(20));
    while files(&site) == before {
        thread::sleep(Duration::from_millis(5));
    }
    let told = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(told.success() && output.status.code() == Some(143), "{output:?}");
    feeding.join().unwrap();
    assert_eq!(files(&site), before);
    // In a pipe there is none.
    let mut piped = site.command(&line);
    let child = piped.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let feeding = feed(&source, Duration::from_millis(1500));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !said.contains("encrypting ["), "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains('\r'), "{said}");
}

#[test]
fn a_terminal_has_columns_dots_and_colours() {
    let site = Site::new();
    site.put("app/db", r#"{"password":"planted"}"#);
    let shown = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = site.command(arguments);
        command.envs(variables.iter().copied());
        Terminal::start(&command).end().1
    };
    let get = ["get", "secret/app/db"];
    let coloured = shown(&get, &[]);
    assert!(coloured.contains("\u{1b}[1mKEY"), "{coloured:?}");
    assert!(
        coloured.contains("password  ●●●●●●●●") && !coloured.contains("planted"),
        "{coloured:?}"
    );
    assert_eq!(shown(&["get", "secret/app/db#password"], &[]), "planted\r\n");
    for variables in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(!shown(&get, &[variables]).contains('\u{1b}'), "{variables:?}");
        let failed = shown(&["get", "secret/none"], &[variables]);
        assert!(failed.starts_with("error: ") && !failed.contains('\u{1b}'), "{failed:?}");
        let usage = shown(&["get", "--none"], &[variables]);
        assert!(usage.starts_with("error: ") && !usage.contains('\u{1b}'), "{usage:?}");
    }
    assert!(shown(&["get", "secret/none"], &[]).starts_with("\u{1b}[31merror: "));
    // JSON is for programs there too.
    let json = shown(&["get", "secret/app/db", "--json"], &[]);
    assert!(serde_json::from_str::<Value>(&json).is_ok(), "{json:?}");
}
