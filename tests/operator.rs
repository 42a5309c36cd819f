//! The operator's commands against the real server: passphrase, slots, rekey.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::support::Process;

/// A server without a store, and the command line that speaks to it.
struct Site {
    folder: tempfile::TempDir,
    server: Process,
    token: String,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Process::start(folder.path()).unwrap();
        Self { folder, server, token: String::new() }
    }

    fn run(&self, arguments: &[&str], stdin: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kista"))
            .arg("operator")
            .args(arguments)
            .args(["--address", &self.server.address()])
            .env_clear()
            .env("HOME", self.folder.path())
            .env("KISTA_TOKEN", &self.token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn json(&self, arguments: &[&str], stdin: &str) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat(), stdin);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn refused(&self, arguments: &[&str], stdin: &str) -> String {
        let output = self.run(arguments, stdin);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn seal(&self) {
        assert!(self.run(&["seal"], "").status.success());
    }

    fn kinds(&self) -> Vec<String> {
        let listed = self.json(&["slot", "ls"], "");
        let slots = listed["slots"].as_array().unwrap().iter();
        slots.map(|slot| text(&slot["type"])).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn shares(made: &Value) -> Vec<String> {
    made["unseal_keys_b64"].as_array().unwrap().iter().map(text).collect()
}

#[test]
fn a_store_of_a_passphrase_gets_shares_a_keyfile_and_another_root_key() {
    let mut site = Site::new();
    let empty = site.refused(&["init", "--passphrase", "--no-input"], "\n");
    assert!(empty.contains("the passphrase is empty"), "{empty}");
    let made = site.json(&["init", "--passphrase", "--no-input"], "correct horse\n");
    assert_eq!((shares(&made), &made["unseal_shares"]), (vec![], &Value::from(0)));
    site.token = text(&made["root_token"]);
    let wrong = site.refused(&["unseal", "--passphrase", "--no-input"], "wrong");
    assert!(wrong.contains("unseal failed"), "{wrong}");
    let open = site.json(&["unseal", "--passphrase", "--no-input"], "correct horse");
    assert_eq!((&open["sealed"], &open["t"]), (&Value::from(false), &Value::from(0)));

    let added = site.json(&["slot", "add", "shares", "--shares", "3", "--threshold", "2"], "");
    assert_eq!(shares(&added).len(), 3);
    let file = site.folder.path().join("seal.key");
    site.json(&["slot", "add", "keyfile", path(&file)], "");
    assert_eq!(std::fs::read(&file).unwrap().len(), 32);
    assert_eq!(site.kinds(), ["passphrase", "shares", "keyfile"]);
    let twice = site.refused(&["slot", "add", "shares"], "");
    assert!(twice.contains("there are shares already"), "{twice}");

    // The server does not read that keyfile by itself, so its slot goes, which must be agreed to.
    let old = shares(&added);
    let lines = format!("correct horse\n{}\n{}\n", old[0], old[2]);
    let rekey = ["rekey", "--shares", "2", "--threshold", "2", "--no-input"];
    let asked = site.refused(&rekey, &lines);
    assert!(asked.contains("these will be gone: a keyfile"), "{asked}");
    let status = site.json(&["rekey", "status"], "");
    assert_eq!(status["started"], false);
    let wrong = site.refused(&[&rekey[..], &["--yes"]].concat(), "wrong\nwrong\nwrong\n");
    assert!(wrong.contains("nothing was changed; begin again"), "{wrong}");
    let made = site.json(&[&rekey[..], &["--yes"]].concat(), &lines);
    let new = shares(&made);
    assert_eq!(new.len(), 2);
    assert_eq!(site.kinds(), ["passphrase", "shares"]);
    site.seal();
    let refused = site.refused(&["unseal", "--no-input"], &format!("{}\n{}\n", old[0], old[2]));
    assert!(refused.contains("unseal failed"), "{refused}");
    let open = site.json(&["unseal", "--no-input"], &new.join("\n"));
    assert_eq!(open["sealed"], false);

    let listed = site.json(&["slot", "ls"], "");
    let passphrase = text(&listed["slots"][0]["id"]);
    let drop = ["slot", "drop", &passphrase[..8], "--no-input", "--yes"];
    site.json(&drop, &new.join("\n"));
    assert_eq!(site.kinds(), ["shares"]);
    let last = text(&site.json(&["slot", "ls"], "")["slots"][0]["id"]);
    let last = site.refused(&["slot", "drop", &last], "");
    assert!(last.contains("the last slot that a person can open"), "{last}");
    let none = site.refused(&["accept-rollback", "--yes"], "");
    assert!(none.contains("nothing says that the store was rolled back"), "{none}");
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
