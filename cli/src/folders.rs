//! Where files go: the folders of the XDG Base Directory Specification.

use std::{env, ffi::OsString, path::PathBuf};

use crate::failure::Failure;

/// Kista's folders of one user. None is made before it is needed.
#[derive(Debug)]
pub(crate) struct Folders {
    /// Contexts, keyfile, certificates.
    pub(crate) config: PathBuf,
    /// The store.
    pub(crate) data: PathBuf,
    /// The audit file.
    pub(crate) state: PathBuf,
}

impl Folders {
    /// Those of the user who runs this.
    pub(crate) fn of_user() -> Result<Self, Failure> {
        Self::from(|name| env::var_os(name))
    }

    fn from(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, Failure> {
        let folder = |variable: &str, under_home: &str| {
            // The specification has relative paths ignored.
            let given = lookup(variable).map(PathBuf::from).filter(|path| path.is_absolute());
            let base = match given {
                Some(path) => path,
                None => home(&lookup)
                    .ok_or_else(|| {
                        Failure::new("neither HOME nor the XDG variables say where files go")
                            .hint(format!("set HOME or {variable}"))
                    })?
                    .join(under_home),
            };
            Ok(base.join("kista"))
        };
        Ok(Self {
            config: folder("XDG_CONFIG_HOME", ".config")?,
            data: folder("XDG_DATA_HOME", ".local/share")?,
            state: folder("XDG_STATE_HOME", ".local/state")?,
        })
    }
}

fn home(lookup: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    lookup("HOME").map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Folders, Failure> {
        Folders::from(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_variables_win_over_home_unless_they_are_relative() {
        let folders =
            of(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d"), ("XDG_STATE_HOME", "state")]).unwrap();
        assert_eq!(folders.config, PathBuf::from("/h/.config/kista"));
        assert_eq!(folders.data, PathBuf::from("/d/kista"));
        assert_eq!(folders.state, PathBuf::from("/h/.local/state/kista"));
    }

    #[test]
    fn without_home_the_failure_says_what_to_set() {
        let failure = of(&[]).unwrap_err();
        assert!(failure.hint.unwrap().contains("XDG_CONFIG_HOME"));
    }
}
