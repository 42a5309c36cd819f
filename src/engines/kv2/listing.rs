use std::collections::BTreeMap;

use super::{
    Kv2,
    api::{DetailedOutput, ListInput, ListOutput, MetadataOutput},
    store,
};
use crate::{
    barrier::{Entry, MountView},
    gate::{ApiError, Permit},
    route::Reply,
};

impl Kv2 {
    /// `LIST metadata/:path`: names in a folder, folders with a slash.
    pub(super) async fn list(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<ListOutput>, ApiError> {
        let keys = names_in(permit.storage(), &input).await?;
        Ok(Reply::of(ListOutput { keys }))
    }

    /// `SCAN metadata/:path`: the secrets in a folder and in all folders below it.
    pub(super) async fn scan(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<ListOutput>, ApiError> {
        let keys = secrets_below(permit.storage(), &input).await?;
        Ok(Reply::of(ListOutput { keys }))
    }

    /// `LIST detailed-metadata/:path`: as [`Self::list`], and what is known of each secret.
    pub(super) async fn list_detailed(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<DetailedOutput>, ApiError> {
        let keys = names_in(permit.storage(), &input).await?;
        detailed(permit.storage(), &input.folder, keys).await
    }

    /// `SCAN detailed-metadata/:path`: as [`Self::scan`], and what is known of each secret.
    pub(super) async fn scan_detailed(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<DetailedOutput>, ApiError> {
        let keys = secrets_below(permit.storage(), &input).await?;
        detailed(permit.storage(), &input.folder, keys).await
    }
}

/// Where the names of a mount's secrets lie, and where a folder lies among them.
fn place<'a>(folder: &'a str, below: &'a str) -> Vec<&'a str> {
    let names = folder.split('/').chain(below.split('/')).filter(|name| !name.is_empty());
    std::iter::once("metadata").chain(names).collect()
}

/// The names in a folder.
async fn names_in(view: &MountView, input: &ListInput) -> Result<Vec<String>, ApiError> {
    let after = input.after.as_deref().map(|after| after.trim_end_matches('/'));
    let mut keys = Vec::new();
    if let Some(leaf) = input.after.as_deref().filter(|after| !after.ends_with('/')) {
        // A page may have ended between a leaf and the folder of the same name.
        if !view.list(&place(&input.folder, leaf), None, 1).await?.is_empty() {
            keys.push(format!("{leaf}/"));
        }
    }
    for entry in view.list(&place(&input.folder, ""), after, input.limit).await? {
        if entry.is_leaf {
            keys.push(entry.name.clone());
        }
        if entry.is_folder {
            keys.push(entry.name + "/");
        }
    }
    keys.truncate(input.limit);
    if keys.is_empty() {
        return Err(ApiError::not_found());
    }
    Ok(keys)
}

/// A folder that is being walked through.
struct Level {
    /// Its path below the first folder, with a slash behind each name.
    path: String,
    /// What is still to come in it, the next one last.
    rest: Vec<Entry>,
}

/// The secrets below a folder, name by name: `a`, then `a/b`, then `a!`. A page goes on behind `after`.
async fn secrets_below(view: &MountView, input: &ListInput) -> Result<Vec<String>, ApiError> {
    let mut keys: Vec<String> = Vec::new();
    let mut levels = levels_behind(view, input).await?;
    while let Some(level) = levels.last_mut()
        && keys.len() < input.limit
    {
        let Some(entry) = level.rest.pop() else {
            levels.pop();
            continue;
        };
        let path = format!("{}{}", level.path, entry.name);
        if entry.is_leaf {
            keys.push(path.clone());
        }
        if entry.is_folder {
            // Each name leads to one secret at least.
            let most = input.limit - keys.len();
            levels.push(level_at(view, &input.folder, path + "/", None, most).await?);
        }
    }
    if keys.is_empty() {
        return Err(ApiError::not_found());
    }
    Ok(keys)
}

/// The folders that a page begins in, from the first one to the one that has the name of `after`.
async fn levels_behind(view: &MountView, input: &ListInput) -> Result<Vec<Level>, ApiError> {
    let (folder, limit) = (&input.folder, input.limit);
    let mut path = String::new();
    let mut levels = Vec::new();
    let after = input.after.as_deref().unwrap_or_default();
    for name in after.split('/').filter(|name| !name.is_empty()) {
        levels.push(level_at(view, folder, path.clone(), Some(name), limit).await?);
        path = format!("{path}{name}/");
    }
    levels.push(level_at(view, folder, path, None, limit).await?);
    Ok(levels)
}

async fn level_at(
    view: &MountView,
    folder: &str,
    path: String,
    after: Option<&str>,
    limit: usize,
) -> Result<Level, ApiError> {
    let mut rest = view.list(&place(folder, &path), after, limit).await?;
    rest.reverse();
    Ok(Level { path, rest })
}

/// What is known of the secrets among `keys`; one that has gone since is left out.
async fn detailed(
    view: &MountView,
    folder: &str,
    keys: Vec<String>,
) -> Result<Reply<DetailedOutput>, ApiError> {
    let mut key_info = BTreeMap::new();
    for key in keys.iter().filter(|key| !key.ends_with('/')) {
        let path = if folder.is_empty() { key.clone() } else { format!("{folder}/{key}") };
        if let Some(held) = store::load(view, &path).await? {
            key_info.insert(key.clone(), MetadataOutput::of(held.metadata));
        }
    }
    let keys =
        keys.into_iter().filter(|key| key.ends_with('/') || key_info.contains_key(key)).collect();
    Ok(Reply::of(DetailedOutput { key_info, keys }))
}
