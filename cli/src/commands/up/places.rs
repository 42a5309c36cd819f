//! Where `up` keeps what it makes.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{
    context::{self, Context, LOCAL},
    failure::Failure,
    folders::Folders,
};

/// The folders and files of one store, and the name of its context.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) context: String,
    /// The file of the context.
    pub(super) context_file: PathBuf,
    /// The store.
    pub(super) data: PathBuf,
    /// Opens the store at start; kept apart from it.
    pub(super) keyfile: PathBuf,
    /// The shares.
    pub(super) kit: PathBuf,
    /// Stands from before the store is made until the kit is written.
    pub(super) kit_pending: PathBuf,
    /// The CA and the server's certificate.
    pub(super) certificates: PathBuf,
    /// The audit file.
    pub(super) audit: PathBuf,
}

impl Places {
    /// The places of the store whose context has this name. Those of `local` are the folders
    /// themselves; any other store has a folder of its own in each of them.
    pub(super) fn find(
        folders: &Folders,
        context: &str,
        data: Option<&Path>,
        known: Option<&Context>,
    ) -> Result<Self, Failure> {
        let given = data.map(absolute).transpose()?;
        let own = |folder: &Path| {
            if context == LOCAL { folder.to_owned() } else { folder.join("stores").join(context) }
        };
        let remembered = known.and_then(|known| known.data.clone());
        if known.is_some() && remembered.is_none() {
            return Err(Failure::new(format!("the context {context:?} is another server's"))
                .hint("kista up --context NAME makes a store with a context of its own"));
        }
        if let (Some(given), Some(remembered)) = (&given, &remembered)
            && given != remembered
        {
            return Err(Failure::new(format!(
                "the context {context:?} is that of the store in {}",
                remembered.display()
            ))
            .hint(format!(
                "kista up --data {} --context NAME makes another store beside it",
                given.display()
            )));
        }
        let config = own(&folders.config);
        Ok(Self {
            context: context.to_owned(),
            context_file: context::file(folders, context)?,
            data: given.or(remembered).unwrap_or_else(|| default_data(folders, context)),
            keyfile: config.join("seal.key"),
            kit: config.join("recovery-kit.txt"),
            kit_pending: config.join("recovery-kit.pending"),
            certificates: config.join("tls"),
            audit: own(&folders.state).join("audit.log"),
        })
    }
}

/// Not inside the data folder of `local`, which is a store itself.
fn default_data(folders: &Folders, context: &str) -> PathBuf {
    if context == LOCAL {
        return folders.data.clone();
    }
    folders.data.with_file_name(format!("kista-{context}"))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::io(format!("use the folder {}", path.display()), &error))
}

/// The path with `~` for the home folder, as a person would write it.
pub(super) fn shown(path: &Path) -> String {
    let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    match home.and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Trust;

    fn folders() -> Folders {
        Folders { config: "/c/kista".into(), data: "/d/kista".into(), state: "/s/kista".into() }
    }

    fn known(data: Option<&str>) -> Context {
        Context {
            name: LOCAL.to_owned(),
            address: String::new(),
            token: None,
            trust: Trust::default(),
            store: None,
            data: data.map(PathBuf::from),
        }
    }

    #[test]
    fn the_local_store_is_in_the_folders_themselves() {
        let places = Places::find(&folders(), LOCAL, None, None).unwrap();
        assert_eq!(places.data, Path::new("/d/kista"));
        assert_eq!(places.keyfile, Path::new("/c/kista/seal.key"));
        assert_eq!(places.audit, Path::new("/s/kista/audit.log"));
    }

    #[test]
    fn another_store_shares_no_file_with_it() {
        let places = Places::find(&folders(), "test", None, None).unwrap();
        assert_eq!(places.data, Path::new("/d/kista-test"));
        assert_eq!(places.keyfile, Path::new("/c/kista/stores/test/seal.key"));
        assert_eq!(places.audit, Path::new("/s/kista/stores/test/audit.log"));
    }

    #[test]
    fn a_context_stays_with_its_store() {
        let find = |data: Option<&str>, known: &Context| {
            Places::find(&folders(), LOCAL, data.map(Path::new), Some(known))
        };
        assert_eq!(find(None, &known(Some("/x"))).unwrap().data, Path::new("/x"));
        assert!(find(Some("/x"), &known(Some("/x"))).is_ok());
        assert!(find(Some("/y"), &known(Some("/x"))).unwrap_err().hint.is_some());
        assert!(find(None, &known(None)).is_err());
    }
}
