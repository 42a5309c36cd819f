//! `kista up --dev`: a server for tests that leaves nothing.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The real binary with this home, which stays empty.
fn kista(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kista"));
    command.args(arguments).env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin");
    command.current_dir(home).stdin(Stdio::null());
    command
}

/// A server that does not outlive its test.
pub(crate) struct Server(Child);

impl Server {
    /// Ends it, so that it takes away what it kept in memory.
    pub(crate) fn end(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where the test has come to its end.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts one; with how to reach it.
pub(crate) fn start(home: &Path) -> (Server, Value) {
    let mut command = kista(home, &["up", "--dev", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Server(child), serde_json::from_str(&line).unwrap())
}

fn ask(home: &Path, made: &Value, arguments: &[&str]) -> Output {
    let mut command = kista(home, arguments);
    for name in ["VAULT_ADDR", "VAULT_CACERT", "VAULT_TOKEN"] {
        command.env(name, made[name].as_str().unwrap());
    }
    command.env("V", "planted").output().unwrap()
}

fn folder(made: &Value) -> std::path::PathBuf {
    let authority = Path::new(made["VAULT_CACERT"].as_str().unwrap());
    authority.parent().unwrap().parent().unwrap().to_owned()
}

#[test]
fn a_server_in_memory_serves_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (child, made) = start(home.path());
    assert!(made["VAULT_ADDR"].as_str().unwrap().starts_with("https://127.0.0.1:"), "{made}");
    assert!(ask(home.path(), &made, &["put", "secret/a", "k=env:V"]).status.success());
    let read = ask(home.path(), &made, &["get", "secret/a#k"]);
    assert_eq!(String::from_utf8(read.stdout).unwrap(), "planted");
    // Sealed, the share opens it again.
    assert!(ask(home.path(), &made, &["operator", "seal"]).status.success());
    let share = home.path().join("share");
    fs::write(&share, made["share"].as_str().unwrap()).unwrap();
    let mut unseal = kista(home.path(), &["operator", "unseal"]);
    unseal.env("VAULT_ADDR", made["VAULT_ADDR"].as_str().unwrap());
    unseal.env("VAULT_CACERT", made["VAULT_CACERT"].as_str().unwrap());
    unseal.stdin(fs::File::open(&share).unwrap());
    let output = unseal.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_file(share).unwrap();
    let kept = folder(&made);
    assert!(kept.exists() && !kept.starts_with(home.path()));
    child.end();
    assert!(!kept.exists());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn what_a_killed_one_leaves_the_next_one_takes_away() {
    let home = tempfile::tempdir().unwrap();
    let (mut killed, made) = start(home.path());
    killed.0.kill().unwrap();
    killed.0.wait().unwrap();
    assert!(folder(&made).exists());
    let (mut next, other) = start(home.path());
    assert!(!folder(&made).exists() && folder(&other).exists());
    assert_ne!(made["VAULT_TOKEN"], other["VAULT_TOKEN"]);
    kill_process(Pid::from_child(&next.0), Signal::INT).unwrap();
    assert_eq!(next.0.wait().unwrap().code(), Some(0));
    let output = kista(home.path(), &["up", "--dev", "--data", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
