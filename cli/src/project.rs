//! `.kista.toml`, the file of a project that says what its program starts with. It holds no secret.

use std::{
    env, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::process::getuid;
use serde::Deserialize;

use crate::{
    failure::{Exit, Failure},
    variables::Wanted,
};

/// What the file says.
#[derive(Debug)]
pub(crate) struct Project {
    /// What `kista run` is to fetch when nothing else is named.
    pub(crate) env: Vec<Wanted>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(default)]
    run: Run,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    #[serde(default)]
    env: Vec<String>,
}

impl Project {
    /// The file of the working folder, or of the nearest folder above that has one.
    pub(crate) fn find() -> Result<Option<Self>, Failure> {
        let folder =
            env::current_dir().map_err(|error| Failure::io("find the working folder", &error))?;
        Self::find_above(&folder)
    }

    /// Where that file is.
    pub(crate) fn file() -> Result<Option<PathBuf>, Failure> {
        let folder =
            env::current_dir().map_err(|error| Failure::io("find the working folder", &error))?;
        Self::file_above(&folder)
    }

    fn find_above(folder: &Path) -> Result<Option<Self>, Failure> {
        Self::file_above(folder)?.map(|file| Self::read(&file)).transpose()
    }

    fn file_above(folder: &Path) -> Result<Option<PathBuf>, Failure> {
        for folder in folder.ancestors() {
            let file = folder.join(NAME);
            match fs::metadata(&file) {
                Ok(metadata) => {
                    refuse_of_others(&file, &metadata)?;
                    return Ok(Some(file));
                }
                Err(error) if is_absence(&error) => {}
                Err(error) => {
                    return Err(Failure::io(format!("look at {}", file.display()), &error));
                }
            }
        }
        Ok(None)
    }

    fn read(file: &Path) -> Result<Self, Failure> {
        let shown = file.display().to_string();
        let text = fs::read_to_string(file)
            .map_err(|error| Failure::io(format!("read {shown}"), &error))?;
        let Stored { run } = toml::from_str(&text).map_err(|error| {
            Failure::usage(format!("{shown} is not understood: {}", error.message())).hint(
                "it may hold [run] with env = [\"secret/app/db\", \"secret/app/mail#key=NAME\"]",
            )
        })?;
        let wanted = |text: &String| {
            text.parse().map_err(|error| Failure::usage(format!("{shown}: env: {error}")))
        };
        let env = run.env.iter().map(wanted).collect::<Result<_, _>>()?;
        Ok(Self { env })
    }
}

/// A file that was looked for, not named, is only obeyed if nobody else can have put it there: in
/// `/tmp`, every user of the machine might.
fn refuse_of_others(file: &Path, metadata: &fs::Metadata) -> Result<(), Failure> {
    let owner = metadata.uid();
    let whose = if owner != 0 && owner != getuid().as_raw() {
        "another user's"
    } else if metadata.mode() & 0o002 != 0 {
        "anybody's to change"
    } else {
        return Ok(());
    };
    Err(Failure::new(format!("{} is {whose}, so it is not obeyed", file.display()))
        .hint("name what to fetch with -e, or make the file yours: chown, chmod o-w")
        .exit(Exit::Usage))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
    )
}

const NAME: &str = ".kista.toml";

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn the_nearest_file_above_is_read() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let write = |folder: &str, text: &str| fs::write(root.path().join(folder).join(NAME), text);
        write("", "[run]\nenv = [\"secret/far\"]").unwrap();
        write("a", "[run]\nenv = [\"secret/app\", \"secret/b#k=NAME\"]").unwrap();
        let project = Project::find_above(&inner).unwrap().unwrap();
        assert_eq!(project.env.len(), 2);
        assert_eq!(project.env[1].name.as_deref(), Some("NAME"));
    }

    #[test]
    fn a_file_that_is_not_understood_or_not_ones_own_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(NAME);
        for text in ["[run]\nenvs = []", "[run]\nenv = [\"secret/a#\"]", "run = 1", "["] {
            fs::write(&file, text).unwrap();
            assert_eq!(Project::find_above(root.path()).unwrap_err().exit, Exit::Usage, "{text}");
        }
        fs::write(&file, "").unwrap();
        assert!(Project::find_above(root.path()).unwrap().unwrap().env.is_empty());
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        assert!(Project::find_above(root.path()).is_err());
    }
}
