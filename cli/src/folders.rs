//! Where files go: the folders of the XDG Base Directory Specification.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

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

/// A folder whose files lie in memory alone, and that this user may write: `$XDG_RUNTIME_DIR`, else
/// `/dev/shm`.
pub(crate) fn in_memory() -> Option<PathBuf> {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let places = runtime.into_iter().chain([PathBuf::from("/dev/shm")]);
    places.filter(|place| place.is_absolute()).find(|place| place.is_dir() && is_in_memory(place))
}

/// Whether the files of a folder lie in memory alone, and this user may write there.
#[cfg(target_os = "linux")]
pub(crate) fn is_in_memory(folder: &Path) -> bool {
    // The magic numbers of tmpfs and ramfs (linux/magic.h).
    let found = rustix::fs::statfs(folder)
        .is_ok_and(|found| matches!(u64::try_from(found.f_type), Ok(0x0102_1994 | 0x8584_58f6)));
    found && rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_in_memory(_folder: &Path) -> bool {
    false
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
