//! The names in a folder of secrets, and in all folders below it.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{
    barrier::{Entry, MountView, Named, Page},
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
pub(super) struct ListOutput<K = Vec<String>> {
    pub(super) keys: K,
}

/// The names in a folder, those of folders with a slash; a record and a folder of one name are two.
pub(super) struct Listed {
    /// The folder with the name of the record that the page goes on behind.
    first: Option<String>,
    page: Page,
    limit: usize,
}

/// A name, which ends with a slash if it is a folder's.
pub(super) struct Key<'a> {
    name: &'a str,
    is_folder: bool,
}

impl Listed {
    /// The names in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Key<'_>> {
        let first = self.first.as_deref().map(|name| Key { name, is_folder: true });
        let page = self.page.iter().flat_map(|Named { name, is_leaf, is_folder }| {
            let leaf = is_leaf.then_some(Key { name, is_folder: false });
            leaf.into_iter().chain(is_folder.then_some(Key { name, is_folder: true }))
        });
        first.into_iter().chain(page).take(self.limit)
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        f.write_str(if self.is_folder { "/" } else { "" })
    }
}

impl Serialize for Key<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.is_folder {
            true => serializer.collect_str(self),
            false => serializer.serialize_str(self.name),
        }
    }
}

impl Serialize for Listed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// Where a folder lies, and one below it.
fn place<'a>(secrets: &'a str, folder: &'a str, below: &'a str) -> Vec<&'a str> {
    let names = folder.split('/').chain(below.split('/')).filter(|name| !name.is_empty());
    std::iter::once(secrets).chain(names).collect()
}

/// The names in a folder; 404 when there are none. `secrets` is where all secrets of the mount lie.
pub(super) async fn names_in(
    view: &MountView,
    secrets: &str,
    input: &ListInput,
) -> Result<Listed, ApiError> {
    let after = input.after.as_deref().map(|after| after.trim_end_matches('/'));
    let mut first = None;
    if let Some(leaf) = input.after.as_deref().filter(|after| !after.ends_with('/')) {
        // A page may have ended between a leaf and the folder of the same name.
        if !view.page(&place(secrets, &input.folder, leaf), None, 1).await?.is_empty() {
            first = Some(leaf.to_owned());
        }
    }
    let page = view.page(&place(secrets, &input.folder, ""), after, input.limit).await?;
    if first.is_none() && page.is_empty() {
        return Err(ApiError::not_found());
    }
    Ok(Listed { first, page, limit: input.limit })
}

/// A way through the secrets below a folder, name by name: `a`, then `a/b`, then `a!`.
pub(super) struct Walk<'a> {
    view: &'a MountView,
    /// Where all secrets of the mount lie.
    secrets: &'a str,
    folder: &'a str,
    levels: Vec<Level>,
}

/// A folder that is being walked through.
struct Level {
    /// Its path below the first folder, with a slash behind each name.
    path: String,
    /// What is still to come in it, the next one last.
    rest: Vec<Entry>,
}

/// The secrets below a folder, as [`Walk`] finds them; 404 when there are none. A page goes on
/// behind `after`.
pub(super) async fn secrets_below(
    view: &MountView,
    secrets: &str,
    input: &ListInput,
) -> Result<Vec<String>, ApiError> {
    let after = input.after.as_deref().unwrap_or_default();
    let mut walk = Walk::behind(view, secrets, &input.folder, after, input.limit).await?;
    let mut keys = Vec::new();
    while keys.len() < input.limit
        && let Some(key) = walk.next(input.limit - keys.len()).await?
    {
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(ApiError::not_found());
    }
    Ok(keys)
}

impl<'a> Walk<'a> {
    /// Begins behind a path below the folder; empty for the folder's first secret. `most` is how
    /// many secrets are wanted.
    pub(super) async fn behind(
        view: &'a MountView,
        secrets: &'a str,
        folder: &'a str,
        after: &str,
        most: usize,
    ) -> Result<Self, ApiError> {
        let mut walk = Self { view, secrets, folder, levels: Vec::new() };
        let mut path = String::new();
        for name in after.split('/').filter(|name| !name.is_empty()) {
            walk.enter(path.clone(), Some(name), most).await?;
            path = format!("{path}{name}/");
        }
        walk.enter(path, None, most).await?;
        Ok(walk)
    }

    /// The next secret's path below the folder. `most` is how many are still wanted, this one among
    /// them.
    pub(super) async fn next(&mut self, most: usize) -> Result<Option<String>, ApiError> {
        while let Some(level) = self.levels.last_mut() {
            let Some(entry) = level.rest.pop() else {
                self.levels.pop();
                continue;
            };
            let path = format!("{}{}", level.path, entry.name);
            if entry.is_leaf {
                if entry.is_folder {
                    level.rest.push(Entry { is_leaf: false, ..entry });
                }
                return Ok(Some(path));
            }
            // Each name leads to one secret at least.
            self.enter(path + "/", None, most).await?;
        }
        Ok(None)
    }

    async fn enter(
        &mut self,
        path: String,
        after: Option<&str>,
        most: usize,
    ) -> Result<(), ApiError> {
        let place = place(self.secrets, self.folder, &path);
        let mut rest = self.view.list(&place, after, most).await?;
        rest.reverse();
        self.levels.push(Level { path, rest });
        Ok(())
    }
}
