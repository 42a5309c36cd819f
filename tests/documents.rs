//! What README.md and the other documents have a reader type, against the real binary.
//!
//! The commands of their blocks are one session at a terminal, in their order: all are run but those that
//! stand below with a reason, and what they ask is answered there.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    source::root,
    support::{INTERRUPT, Terminal},
};

/// How a line is run that asks something, or does not end with 0.
enum How {
    /// Questions and their answers.
    Answers(&'static [(&'static str, &'static str)]),
    Code(i32),
    /// It goes on until Ctrl-C.
    Endless,
    /// With the session's own doing.
    Own(fn(&Session, &str)),
    NotRun(&'static str),
}

/// Lines by how they begin; all others just run.
const LINES: &[(&str, How)] = &[
    ("cargo run --release -- up", How::NotRun("the session's own server is what it starts")),
    ("cargo install --path cli", How::NotRun("builds for minutes what the tests have built")),
    ("cargo bench ", How::NotRun("measures, and proves nothing")),
    ("cargo test --workspace", How::NotRun("runs this")),
    ("kista put secret/app/db ", How::Answers(&[("(hidden, empty = generate): ", "first\n")])),
    ("kista patch secret/app/db ", How::Answers(&[("(hidden, empty = generate): ", "second\n")])),
    ("kista run -e secret/app/db --watch ", How::Endless),
    ("kista run -e secret/app/db --wait 60s --watch ", How::Endless),
    ("kista diff ", How::Code(10)),
    ("kista rollback ", How::Answers(&[("[y/N] ", "y\n")])),
    ("kista destroy ", How::Answers(&[("(empty to end): ", "secret/app/db\n")])),
    ("kista operator unseal", How::Own(unseal)),
    (
        "kista operator slot add passphrase",
        How::Answers(&[
            ("passphrase (hidden): ", "correct horse\n"),
            ("again (hidden): ", "correct horse\n"),
        ]),
    ),
    ("kista operator rekey", How::Own(rekey)),
    ("kista login ", How::Own(login)),
    ("kista logout", How::Own(logout)),
    ("curl ", How::Own(curl)),
    ("kista key retire ", How::Answers(&[("(empty to end): ", "pii\n")])),
    // Results of measurements, which are lines of a table.
    ("kista --version   ", How::NotRun("a row of a table")),
    ("kista run -- true   ", How::NotRun("a row of a table")),
    ("kista run --offline ", How::NotRun("a row of a table")),
];

/// A user who reads the README, and their server.
struct Session {
    home: tempfile::TempDir,
    up: Child,
    address: String,
    root: String,
}

impl Session {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let said = home.path().join("up.log");
        let up = Command::new(env!("CARGO_BIN_EXE_kista"))
            .args(["up", "--listen", "127.0.0.1:0"])
            .env_clear()
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let mut session = Self { home, up, address: String::new(), root: String::new() };
        let deadline = Instant::now() + Duration::from_secs(60);
        let text = loop {
            let text = fs::read_to_string(&said).unwrap();
            if text.contains("Next: ") {
                break text;
            }
            assert!(Instant::now() < deadline, "{text}");
            std::thread::sleep(Duration::from_millis(20));
        };
        let listening = text.split("Listening on ").nth(1).unwrap();
        session.address = listening.split_whitespace().next().unwrap().to_owned();
        session.root =
            session.output("kista context env | sed -n \"s/.*VAULT_TOKEN=//p\" | tr -d \"'\"");
        session
    }

    /// A shell that runs this.
    fn shell(&self, line: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_kista")).parent().unwrap();
        let mut command = Command::new("bash");
        command
            .args(["--norc", "-c", line])
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", program.display()))
            .env("HOME", self.home.path())
            .env("EDITOR", "sh editor.sh")
            .env("NO_COLOR", "1");
        command
    }

    /// What a line prints that asks nothing.
    fn output(&self, line: &str) -> String {
        let output = self.shell(line).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Runs a line at a terminal, and answers what it asks.
    fn type_in(&self, line: &str, answers: &[(&str, &str)], code: i32) {
        let mut terminal = Terminal::start(&self.shell(line));
        for (question, answer) in answers {
            terminal.until(question);
            if question.contains("hidden") {
                terminal.until_hidden();
            }
            terminal.type_in(answer);
        }
        let (found, shown) = terminal.end();
        assert_eq!(found, code, "{line}\n{shown}");
    }

    /// The shares of the recovery kit.
    fn shares(&self) -> Vec<String> {
        let kit =
            fs::read_to_string(self.home.path().join(".config/kista/recovery-kit.txt")).unwrap();
        let shares = kit.lines().filter(|line| line.starts_with("Share "));
        shares.map(|line| line.split_whitespace().last().unwrap().to_owned()).collect()
    }

    fn run(&self, line: &str) {
        match LINES.iter().find(|(begins, _)| line.starts_with(begins)).map(|(_, how)| how) {
            None => self.type_in(line, &[], 0),
            Some(How::Answers(answers)) => self.type_in(line, answers, 0),
            Some(How::Code(code)) => self.type_in(line, &[], *code),
            Some(How::Endless) => {
                let mut terminal = Terminal::start(&self.shell(line));
                // The first may come before there is anybody to hear of it.
                while !terminal.has_ended() {
                    std::thread::sleep(Duration::from_millis(400));
                    terminal.type_in(INTERRUPT);
                }
                assert_eq!(terminal.end().0, 130, "{line}");
            }
            Some(How::Own(run)) => run(self, line),
            Some(How::NotRun(_)) => {}
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It ends by itself then; a test that has failed does not look.
        kill_process(Pid::from_child(&self.up), Signal::TERM).unwrap_or_default();
        drop(self.up.wait());
    }
}

/// Asks for one share; the README says no more, and three open the vault.
fn unseal(session: &Session, line: &str) {
    for (n, share) in session.shares().iter().take(3).enumerate() {
        let question = format!("share {} of 3 (hidden): ", n + 1);
        session.type_in(line, &[(&question, &format!("{share}\n"))], 0);
    }
}

/// Types the old secrets, and the new shares as they were shown.
fn rekey(session: &Session, line: &str) {
    let mut terminal = Terminal::start(&session.shell(line));
    let answer = |terminal: &mut Terminal, question: &str, answer: &str| {
        let shown = terminal.until(question);
        terminal.until_hidden();
        terminal.type_in(&format!("{answer}\n"));
        shown
    };
    answer(&mut terminal, "(hidden): ", "correct horse");
    for share in session.shares().iter().take(3) {
        answer(&mut terminal, "of 3 (hidden): ", share);
    }
    let shown = terminal.until("new share 1 of 3");
    let shares = shown.lines().filter(|line| line.starts_with("share "));
    let new: Vec<&str> = shares.map(|line| line.split_whitespace().last().unwrap()).collect();
    assert_eq!(new.len(), 5, "{shown}");
    for share in new.iter().take(3) {
        answer(&mut terminal, "to verify (hidden): ", share);
    }
    let (code, shown) = terminal.end();
    assert!(code == 0 && shown.contains("The new shares hold"), "{shown}");
}

/// The session's server stands for another one.
fn login(session: &Session, line: &str) {
    let token = session.output("kista token create --policy root");
    let line = line.replace("https://vault.example:8200", &session.address);
    session.type_in(&line, &[("token (hidden): ", &format!("{token}\n"))], 0);
}

/// Revokes the token of before; the root token comes back for what follows.
fn logout(session: &Session, line: &str) {
    session.type_in(line, &[], 0);
    let again = format!("kista login --address {}", session.address);
    session.type_in(&again, &[("token (hidden): ", &format!("{}\n", session.root))], 0);
}

/// In the shell that has the variables of the line before, where there is a curl.
fn curl(session: &Session, line: &str) {
    if !session.shell("type curl").output().unwrap().status.success() {
        return;
    }
    let answer = session.output(&format!("eval \"$(kista context env)\"; {line} --silent"));
    assert!(answer.contains("\"data\""), "{answer}");
}

/// The repository's documents.
fn documents() -> Vec<(PathBuf, String)> {
    let root = root();
    let mut files = vec![root.join("README.md")];
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    files.extend(docs.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect()
}

/// The commands of a document's blocks that are typed into a shell. Programs name their language, and
/// `tests/examples.rs` knows them.
fn typed(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut block: Option<&str> = None;
    let mut is_here = false;
    for line in text.lines() {
        match (line.strip_prefix("```"), block) {
            (Some(language), None) => block = Some(language),
            (Some(_), Some(_)) => block = None,
            (None, Some("" | "console" | "bash")) if is_here => {
                commands.last_mut().unwrap().extend(["\n", line]);
                is_here = line != "END";
            }
            (None, Some("" | "console" | "bash")) => {
                commands.push(line.trim_start_matches("$ ").to_owned());
                is_here = line.contains("<<'END'");
            }
            (None, _) => {}
        }
    }
    let words = ["kista ", "cargo ", "curl "];
    commands.retain(|line| {
        words.iter().any(|word| line.starts_with(word))
            || line.contains("| kista ")
            || line.contains("(kista ")
    });
    commands
}

/// The commands that stand in the text itself.
fn quoted(text: &str) -> Vec<String> {
    let mut quoted = Vec::new();
    let mut is_block = false;
    let mut prose = String::new();
    for line in text.lines() {
        match line.starts_with("```") {
            true => is_block = !is_block,
            false if !is_block => prose.extend([line.trim(), " "]),
            false => {}
        }
    }
    for (n, part) in prose.split('`').enumerate() {
        if n % 2 == 1 && part.starts_with("kista ") {
            quoted.push(part.to_owned());
        }
    }
    quoted
}

#[test]
fn what_is_shown_can_be_typed_as_it_stands() {
    // The README comes first, for a newcomer as for the session.
    let mut documents = documents();
    documents.sort_by_key(|(file, _)| !file.ends_with("README.md"));
    let lines: Vec<String> = documents.iter().flat_map(|(_, text)| typed(text)).collect();
    assert!(lines.len() > 60, "the documents' blocks are not found: {lines:?}");
    let session = Session::start();
    let file = |name: &str, text: &[u8]| fs::write(session.home.path().join(name), text).unwrap();
    file(".env", b"PORT=80\n");
    file("editor.sh", b"printf '{\"url\":\"edited\",\"password\":\"third\"}' > \"$1\"\n");
    file("dump.sql", b"insert\n");
    file("orders.key", &[7; 32]);
    session.output("mkdir -p ~/.local/share/bash-completion/completions");
    session.output("V=1 kista put secret/dev/db a=env:V; V=2 kista put secret/prod/db a=env:V");
    session.output("V=1 kista put secret/app/stripe api_key=env:V");
    let app = session.home.path().join("app");
    fs::write(&app, "#!/bin/sh\nexec sleep 60\n").unwrap();
    fs::set_permissions(&app, fs::Permissions::from_mode(0o755)).unwrap();
    for line in &lines {
        session.run(line);
    }
}

#[test]
fn commands_in_the_text_are_there() {
    let mut known = BTreeSet::new();
    for (file, text) in documents() {
        known.extend(quoted(&text).into_iter().map(|line| (file.clone(), line)));
    }
    assert!(known.len() > 10, "{known:?}");
    for (file, line) in known {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let is_name =
            |word: &&&str| word.chars().all(|char| char.is_ascii_lowercase() || char == '-');
        let names =
            words.iter().take_while(|word| is_name(word) && !word.starts_with('-')).copied();
        let mut names: Vec<&str> = names.collect();
        // What follows a command may be a word too, such as the name of a form.
        let help = loop {
            let output = Command::new(env!("CARGO_BIN_EXE_kista"))
                .args(&names)
                .arg("--help")
                .output()
                .unwrap();
            if output.status.success() {
                break String::from_utf8(output.stdout).unwrap();
            }
            assert!(names.pop().is_some(), "{}: {line}", file.display());
        };
        assert!(
            !names.is_empty() || words.iter().all(|word| word.starts_with(['-', 'C'])),
            "{line}"
        );
        for flag in words.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
            let flag = flag.split('=').next().unwrap();
            assert!(help.contains(flag), "{}: {line} has no {flag}", file.display());
        }
    }
}

#[test]
fn what_is_excused_is_there_to_be_excused() {
    let texts: Vec<String> = documents().into_iter().map(|(_, text)| text).collect();
    for (begins, how) in LINES {
        assert!(!matches!(how, How::NotRun("")), "{begins:?} has no reason");
        let is_there =
            texts.iter().any(|text| typed(text).iter().any(|line| line.starts_with(begins)));
        assert!(is_there, "no document has {begins:?}");
    }
}
