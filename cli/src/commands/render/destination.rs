//! The file that a template becomes.

use std::{
    env, fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use kista::{
    client::{Fields, JsonValue},
    secret::{SecretBytes, SecretString},
};

use crate::{
    failure::Failure,
    files::{self, Existing},
    hygiene,
    output::{self, Output},
};

/// A file, and who may use it.
#[derive(Debug)]
pub(super) struct Destination {
    file: PathBuf,
    mode: u32,
}

/// Whether a file holds something else than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Changed,
    Unchanged,
}

impl Destination {
    pub(super) fn new(file: &Path, mode: u32) -> Result<Self, Failure> {
        match file.symlink_metadata() {
            Ok(found) if !found.is_file() && !found.is_symlink() => {
                return Err(Failure::usage(format!("{} is no file", file.display()))
                    .hint("name the file itself, or leave -o out to have it on stdout"));
            }
            Ok(_) | Err(_) => {}
        }
        if mode & 0o007 != 0 {
            output::warn(&format!(
                "every user of this machine will be able to use {} (mode {mode:04o})",
                file.display()
            ));
        }
        Ok(Self { file: file.to_owned(), mode })
    }

    /// What lies in a work tree is sooner or later committed.
    pub(super) fn refuse_in_work_tree(&self) -> Result<(), Failure> {
        let folder = match self.file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        let folder = folder
            .canonicalize()
            .map_err(|error| Failure::io(format!("write into {}", folder.display()), &error))?;
        if !folder.ancestors().any(|folder| folder.join(".git").exists()) {
            return Ok(());
        }
        let Some(name) = self.file.file_name() else { return Ok(()) };
        match is_ignored(&folder, Path::new(name)) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Failure::new(format!(
                "{} would lie in a git work tree, where it is not ignored",
                self.file.display()
            ))
            .hint("add it to .gitignore, or write elsewhere; --force writes it all the same")),
        }
    }

    /// Replaces the file, whole or not at all, unless it holds just this.
    pub(super) fn write(&self, text: &SecretString) -> Result<Written, Failure> {
        if self.holds(text)? {
            return Ok(Written::Unchanged);
        }
        let content = text.expose(|text| SecretBytes::copy_of(text.as_bytes()));
        files::place_for(&self.file, &content, Existing::Replaced, self.mode)?;
        Ok(Written::Changed)
    }

    /// Tells what was done.
    pub(super) fn report(&self, output: Output, written: Written) -> Result<(), Failure> {
        let (file, is_changed) = (self.file.display(), written == Written::Changed);
        if output.wants_json() {
            let mut object = Fields::new();
            let file = SecretString::copy_of(&file.to_string());
            object.set("file", JsonValue::string(&file));
            object.set("changed", output::json(&is_changed)?);
            return output.object(&object);
        }
        if is_changed {
            output::note(&format!("{file}: written (mode {:04o})", self.mode));
        }
        Ok(())
    }

    /// Whether the file holds this already; who may use it is set right by the way.
    fn holds(&self, text: &SecretString) -> Result<bool, Failure> {
        if self.file.is_symlink() {
            return Ok(false);
        }
        let found = match fs::read(&self.file) {
            Ok(bytes) => SecretBytes::from_vec(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            // It may still be replaced, which says if it may not.
            Err(_) => return Ok(false),
        };
        if !found.expose(|found| text.expose(|text| found == text.as_bytes())) {
            return Ok(false);
        }
        let failed = |error: io::Error| {
            Failure::io(format!("set who may use {}", self.file.display()), &error)
        };
        let permissions = fs::metadata(&self.file).map_err(failed)?;
        if permissions.mode() & 0o7777 != self.mode {
            fs::set_permissions(&self.file, fs::Permissions::from_mode(self.mode))
                .map_err(failed)?;
        }
        Ok(true)
    }
}

/// What git says; the index does not count, since what is tracked is not ignored.
fn is_ignored(folder: &Path, name: &Path) -> io::Result<bool> {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(["check-ignore", "--quiet", "--"]).arg(name);
    // Of whatever repository the caller works on, it is asked about the one around the file.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
        git.env_remove(name);
    }
    for name in hygiene::TOKENS {
        git.env_remove(name);
    }
    git.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(git.status()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_only_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out");
        let destination = Destination { file: file.clone(), mode: 0o640 };
        let text = SecretString::copy_of("x");
        assert_eq!(destination.write(&text).unwrap(), Written::Changed);
        let inode = fs::metadata(&file).unwrap().ino();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(destination.write(&text).unwrap(), Written::Unchanged);
        let after = fs::metadata(&file).unwrap();
        assert_eq!((after.ino(), after.mode() & 0o777), (inode, 0o640));
        assert_eq!(destination.write(&SecretString::copy_of("y")).unwrap(), Written::Changed);
        assert_eq!(fs::read(&file).unwrap(), b"y");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_work_tree_takes_only_what_it_ignores() {
        let folder = tempfile::tempdir().unwrap();
        let destination = |name: &str| Destination { file: folder.path().join(name), mode: 0o600 };
        destination("out").refuse_in_work_tree().unwrap();
        let made = Command::new("git").arg("-C").arg(folder.path()).args(["init", "-q"]).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("there is no git: not tested");
            return;
        }
        let refused = destination("out").refuse_in_work_tree().unwrap_err();
        assert!(refused.hint.unwrap().contains(".gitignore"));
        fs::write(folder.path().join(".gitignore"), "out\n").unwrap();
        destination("out").refuse_in_work_tree().unwrap();
        assert!(destination("other").refuse_in_work_tree().is_err());
    }
}
