use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use super::{Kept, Process};

/// A server with `secret/`, and a user of it with an empty home and no terminal.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server: Process,
    pub(crate) kept: Kept,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (server, kept) = Process::init(folder.path());
        Self { folder, server, kept }
    }

    /// A new version of a secret.
    pub(crate) fn put(&self, path: &str, data: &str) {
        let body = format!("{{\"data\":{data}}}");
        let path = format!("secret/data/{path}");
        assert_eq!(self.server.call("POST", &path, &self.kept.root, &body).status, 200);
    }

    /// The data of a secret, as the server has them.
    pub(crate) fn data(&self, path: &str) -> serde_json::Value {
        let path = format!("secret/data/{path}");
        let answer = self.server.call("GET", &path, &self.kept.root, "");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["data"]["data"].clone()
    }

    /// `kista COMMAND …` as this user.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kista"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("KISTA_ADDR", self.server.address())
            .env("KISTA_TOKEN", &self.kept.root)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Asserts success; what is on stdout.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asserts the code and that stderr says this; what is on stderr.
    pub(crate) fn fails(&self, code: i32, says: &str, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
        errors
    }

    /// A file in the folder that is the user's home and current one.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }
}
