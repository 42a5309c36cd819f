//! The names in a folder of secrets, and in all folders below it.

use serde::Serialize;

use crate::{
    barrier::{Entry, MountView},
    gate::ApiError,
    route::{Fields, FromFields},
};

/// What `LIST` and `SCAN` ask for: the folder of the path, and `after` and `limit` of the query.
pub(super) struct ListInput {
    pub(super) folder: String,
    after: Option<String>,
    limit: usize,
}

impl FromFields for ListInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let limit = fields.query_integer::<usize>("limit")?.filter(|limit| *limit != 0);
        Ok(Self {
            folder: fields.parameter("path").trim_end_matches('/').to_owned(),
            after: fields.query("after").filter(|after| !after.is_empty()).map(str::to_owned),
            limit: limit.unwrap_or(usize::MAX),
        })
    }
}

/// `data` of a list.
#[derive(Debug, Serialize)]
pub(super) struct ListOutput {
    pub(super) keys: Vec<String>,
}

/// Where a folder lies, and one below it.
fn place<'a>(secrets: &'a str, folder: &'a str, below: &'a str) -> Vec<&'a str> {
    let names = folder.split('/').chain(below.split('/')).filter(|name| !name.is_empty());
    std::iter::once(secrets).chain(names).collect()
}

/// The names in a folder, those of folders with a slash; 404 when there are none. `secrets` is where all
/// secrets of the mount lie.
pub(super) async fn names_in(
    view: &MountView,
    secrets: &str,
    input: &ListInput,
) -> Result<Vec<String>, ApiError> {
    let after = input.after.as_deref().map(|after| after.trim_end_matches('/'));
    let mut keys = Vec::new();
    if let Some(leaf) = input.after.as_deref().filter(|after| !after.ends_with('/')) {
        // A page may have ended between a leaf and the folder of the same name.
        if !view.list(&place(secrets, &input.folder, leaf), None, 1).await?.is_empty() {
            keys.push(format!("{leaf}/"));
        }
    }
    for entry in view.list(&place(secrets, &input.folder, ""), after, input.limit).await? {
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

/// The secrets below a folder, name by name: `a`, then `a/b`, then `a!`; 404 when there are none. A page
/// goes on behind `after`.
pub(super) async fn secrets_below(
    view: &MountView,
    secrets: &str,
    input: &ListInput,
) -> Result<Vec<String>, ApiError> {
    let mut keys: Vec<String> = Vec::new();
    let mut levels = levels_behind(view, secrets, input).await?;
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
            levels.push(level_at(view, secrets, &input.folder, path + "/", None, most).await?);
        }
    }
    if keys.is_empty() {
        return Err(ApiError::not_found());
    }
    Ok(keys)
}

/// The folders that a page begins in, from the first one to the one that has the name of `after`.
async fn levels_behind(
    view: &MountView,
    secrets: &str,
    input: &ListInput,
) -> Result<Vec<Level>, ApiError> {
    let (folder, limit) = (&input.folder, input.limit);
    let mut path = String::new();
    let mut levels = Vec::new();
    let after = input.after.as_deref().unwrap_or_default();
    for name in after.split('/').filter(|name| !name.is_empty()) {
        levels.push(level_at(view, secrets, folder, path.clone(), Some(name), limit).await?);
        path = format!("{path}{name}/");
    }
    levels.push(level_at(view, secrets, folder, path, None, limit).await?);
    Ok(levels)
}

async fn level_at(
    view: &MountView,
    secrets: &str,
    folder: &str,
    path: String,
    after: Option<&str>,
    limit: usize,
) -> Result<Level, ApiError> {
    let mut rest = view.list(&place(secrets, folder, &path), after, limit).await?;
    rest.reverse();
    Ok(Level { path, rest })
}
