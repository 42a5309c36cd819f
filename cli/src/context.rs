//! Contexts: a server's address, how to trust it, its store's name and a token, kept under a name.

use std::{fs, io, path::PathBuf};

use kista::secret::{SecretBytes, SecretString};
use serde::{Deserialize, Serialize};

use crate::{failure::Failure, files, folders::Folders, prompt, trust::Trust};

/// The context that `kista up` makes, and that is used when no other is.
pub(crate) const LOCAL: &str = "local";

/// One context.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) token: Option<SecretString>,
    pub(crate) trust: Trust,
    /// Name of the store, once it is known; another one is refused.
    pub(crate) store: Option<String>,
    /// The folder of the store that `kista up` serves at the address.
    pub(crate) data: Option<PathBuf>,
}

/// The file of a context.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
}

impl Context {
    /// Whether it is that of the server at this address.
    pub(crate) fn is_at(&self, address: &str) -> bool {
        self.address.trim_end_matches('/') == address.trim_end_matches('/')
    }

    /// Reads the context of this name; `None` when there is none.
    pub(crate) fn load(folders: &Folders, name: &str) -> Result<Option<Self>, Failure> {
        let file = file(folders, name)?;
        let Some(bytes) = files::read_private(&file)? else { return Ok(None) };
        let text = prompt::text(bytes, &file.display().to_string())?;
        // The parser's message would quote the line, and that may be the token's.
        let stored: Stored = text.expose(|text| toml::from_str(text)).map_err(|_| {
            Failure::new(format!("the context file {} is not understood", file.display())).hint(
                "it holds `address`, and may hold `token`, `ca_file`, `certificate_file`, \
                       `store` and `data`",
            )
        })?;
        Ok(Some(Self {
            name: name.to_owned(),
            address: stored.address,
            token: stored.token.map(SecretString::from_string),
            trust: Trust { ca_file: stored.ca_file, certificate_file: stored.certificate_file },
            store: stored.store,
            data: stored.data,
        }))
    }

    /// Writes the context; what was under its name is replaced.
    pub(crate) fn save(&self, folders: &Folders) -> Result<(), Failure> {
        let stored = Stored {
            address: self.address.clone(),
            token: self.token.as_ref().map(|token| token.expose(str::to_owned)),
            ca_file: self.trust.ca_file.clone(),
            certificate_file: self.trust.certificate_file.clone(),
            store: self.store.clone(),
            data: self.data.clone(),
        };
        let text = toml::to_string(&stored);
        // Takes over, and so wipes, the copy that serializing needed.
        let _wiped = stored.token.map(SecretString::from_string);
        let text = text.map_err(|error| {
            Failure::new(format!("cannot write the context {:?}: {error}", self.name))
        })?;
        files::replace(&file(folders, &self.name)?, &SecretBytes::from_vec(text.into_bytes()))
    }
}

/// The name of the context that is used when none is named.
pub(crate) fn current(folders: &Folders) -> Result<String, Failure> {
    let file = current_file(folders);
    match fs::read_to_string(&file) {
        Ok(name) => {
            check_name(name.trim())?;
            Ok(name.trim().to_owned())
        }
        Err(error) if files::is_absent(&error) => Ok(LOCAL.to_owned()),
        Err(error) => Err(Failure::io(format!("read {}", file.display()), &error)),
    }
}

/// Has this context used when none is named.
pub(crate) fn set_current(folders: &Folders, name: &str) -> Result<(), Failure> {
    files::replace(&current_file(folders), &SecretBytes::copy_of(format!("{name}\n").as_bytes()))
}

/// Has the context of `kista up` used again.
pub(crate) fn unset_current(folders: &Folders) -> Result<(), Failure> {
    files::remove(&current_file(folders))
}

/// The names of all contexts, sorted.
pub(crate) fn names(folders: &Folders) -> Result<Vec<String>, Failure> {
    let folder = folders.config.join(FOLDER);
    let failed = |error: &io::Error| Failure::io(format!("list {}", folder.display()), error);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if files::is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed(&error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| failed(&error))?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".toml"));
        names.extend(name.filter(|name| check_name(name).is_ok()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Whether the user has a context of this name.
pub(crate) fn exists(name: &str) -> bool {
    Folders::of_user()
        .and_then(|folders| file(&folders, name))
        .is_ok_and(|file| file.try_exists().unwrap_or(false))
}

/// Refuses a name that is no file name, or would be a hidden one.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(plain) {
        return Ok(());
    }
    Err(Failure::usage(format!("{name:?} is not a name of a context"))
        .hint("use letters, digits, '-', '_' and '.'"))
}

/// The file of the context of this name.
pub(crate) fn file(folders: &Folders, name: &str) -> Result<PathBuf, Failure> {
    check_name(name)?;
    Ok(folders.config.join(FOLDER).join(format!("{name}.toml")))
}

fn current_file(folders: &Folders) -> PathBuf {
    folders.config.join("context")
}

const FOLDER: &str = "contexts";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn folders(root: &Path) -> Folders {
        Folders { config: root.join("c"), data: root.join("d"), state: root.join("s") }
    }

    #[test]
    fn a_context_comes_back_as_it_was_saved() {
        let root = tempfile::tempdir().unwrap();
        let folders = folders(root.path());
        let context = Context {
            name: LOCAL.to_owned(),
            address: "https://127.0.0.1:8200".to_owned(),
            token: Some(SecretString::copy_of("hvs.planted")),
            trust: Trust { ca_file: Some(PathBuf::from("/ca.pem")), certificate_file: None },
            store: Some("5b1c".to_owned()),
            data: None,
        };
        context.save(&folders).unwrap();
        let read = Context::load(&folders, LOCAL).unwrap().unwrap();
        assert_eq!((read.address, read.trust), (context.address, context.trust));
        assert_eq!(read.store, context.store);
        assert!(read.token.unwrap().expose(|token| token == "hvs.planted"));
        assert!(Context::load(&folders, "other").unwrap().is_none());
    }

    #[test]
    fn local_is_in_use_until_another_is() {
        let root = tempfile::tempdir().unwrap();
        let folders = folders(root.path());
        assert_eq!(current(&folders).unwrap(), LOCAL);
        set_current(&folders, "prod").unwrap();
        assert_eq!(current(&folders).unwrap(), "prod");
        unset_current(&folders).unwrap();
        assert_eq!(current(&folders).unwrap(), LOCAL);
        assert!(names(&folders).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_context_file_is_not_quoted() {
        let root = tempfile::tempdir().unwrap();
        let folders = folders(root.path());
        let file = file(&folders, LOCAL).unwrap();
        files::replace(&file, &SecretBytes::copy_of(b"token = hvs.planted")).unwrap();
        let failure = Context::load(&folders, LOCAL).unwrap_err();
        assert!(!format!("{failure:?}").contains("planted"), "{failure:?}");
    }

    #[test]
    fn a_name_that_leaves_the_folder_is_refused() {
        for name in ["", ".", "..", "../x", "a/b", ".hidden", "a b"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("prod-eu.1").is_ok());
    }
}
