//! The first start: from nothing to an open store, safe to be killed at any step.
//!
//! Killed before the seal file is whole, there is no store, and the next start begins again with
//! the same keyfile. After it the store opens by its keyfile; a root token that was not kept is
//! made anew, and a kit that was not written is told of.

use std::path::Path;

use kista::{
    crypto::Kek,
    mount::{NewMount, Tuning},
    pipeline::Kista,
    seal::{NewSlot, ShareCounts, keyfile},
    secret::{Key, SecretBytes, SecretString},
};

use super::{kit, places::Places};
use crate::{commands::serve, failure::Failure, files, output};

/// Makes the store, with a keyfile slot and shares, writes the recovery kit, opens the store and
/// mounts `secret/`. Returns the root token.
pub(super) async fn start(kista: &Kista, places: &Places) -> Result<SecretString, Failure> {
    let key = ensure_keyfile(&places.keyfile)?;
    if let Some(moved) = kit::move_away(&places.kit)? {
        output::warn(&format!("the recovery kit of an earlier store is now {}", moved.display()));
    }
    files::replace(&places.kit_pending, &SecretBytes::copy_of(b""))?;
    let counts = ShareCounts::new(i64::from(THRESHOLD), i64::from(SHARES))
        .map_err(|error| Failure::of(&error))?;
    let slots = vec![NewSlot::Keyfile(key), NewSlot::Shares(counts)];
    let made = kista.vault().initialize(slots).await.map_err(|error| Failure::of(&error))?;
    kit::write(&places.kit, &places.data, THRESHOLD, &made.shares)?;
    files::remove(&places.kit_pending)?;
    serve::unseal(kista, &places.keyfile).await?;
    mount_secrets(kista).await?;
    Ok(made.root_token)
}

/// Mounts KV version 2 at `secret/`, unless something is there.
pub(super) async fn mount_secrets(kista: &Kista) -> Result<(), Failure> {
    let Some(open) = kista.vault().unsealed() else { return Ok(()) };
    if open.mounts.table().find(SECRETS).is_some() {
        return Ok(());
    }
    let new = NewMount {
        kind: "kv-v2".to_owned(),
        settings: Tuning { description: Some("key/value secrets".to_owned()), ..Tuning::default() },
    };
    open.mounts.enable(SECRETS, new).await.map_err(|error| Failure::of(&error))
}

/// Reads the keyfile, or makes one under another name first, so that no start finds half of it.
fn ensure_keyfile(file: &Path) -> Result<Key<Kek>, Failure> {
    if !file.exists() {
        let unfinished = file.with_extension("key.unfinished");
        files::remove(&unfinished)?;
        keyfile::create(&unfinished).map_err(|error| Failure::of(&error))?;
        files::rename(&unfinished, file)?;
    }
    keyfile::read(file).map_err(|error| Failure::of(&error))
}

/// Shares made, and how many of them open.
pub(super) const SHARES: u8 = 5;
pub(super) const THRESHOLD: u8 = 3;

const SECRETS: &str = "secret/";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_keyfile_is_made_once_and_a_half_made_one_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seal.key");
        fs::write(folder.path().join("seal.key.unfinished"), "half").unwrap();
        let made = ensure_keyfile(&file).unwrap();
        let read = ensure_keyfile(&file).unwrap();
        assert!(made.expose(|made| read.expose(|read| made == read)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
