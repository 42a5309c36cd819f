//! The names that may follow what somebody has typed of a path.

use kista::client::{Error, Fields, Page, Reach, Verb};

use super::{api, plain, target::Target};
use crate::server::Server;

/// The names of mounts for nothing, of a folder for `mount/…/`, of a secret's keys for `…#`; `None`
/// where the server does not tell.
pub(crate) async fn below(server: &Server, known: &str) -> Option<Vec<String>> {
    if known.is_empty() {
        // Those that the token may see, unlike sys/mounts, which only operators may.
        let answer =
            server.client.call(Verb::Read, "sys/internal/ui/mounts", "", None).await.ok()??;
        let mounts = api::part(&answer, "data")?;
        let mounts = mounts.get("secret")?.expose_json(|json| serde_json::from_str::<Fields>(json));
        return Some(mounts.ok()?.iter().map(|(path, _)| path.to_owned()).collect());
    }
    if let Some(path) = known.strip_suffix('#') {
        return keys(server, path).await;
    }
    let target = Target::folder_of_any(server, known).await.ok()?;
    let page = Page { after: "", limit: MOST };
    let folder = target.path.trim_end_matches('/');
    let names = if target.has_versions() {
        target.kv2(&server.client).names(folder, Reach::Folder, page).await
    } else {
        let folder = target.with_path(folder).whole();
        plain::names(&server.client, &folder, Reach::Folder, page).await
    };
    match names {
        Ok(names) => Some(names.into_iter().map(|named| named.name).collect()),
        Err(Error::NotFound) => Some(Vec::new()),
        Err(_) => None,
    }
}

async fn keys(server: &Server, path: &str) -> Option<Vec<String>> {
    let target = Target::secret(server, path, "read").await.ok()?;
    target.kv2(&server.client).keys(&target.path).await.ok()
}

/// More than anybody reads through.
const MOST: usize = 500;
