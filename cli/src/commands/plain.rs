//! Secrets of a KV version 1 mount: without versions, so that what is written or removed is gone.

use kista::client::{Client, Error, Fields, Named, Page, Reach, Verb, encode_text};

use super::{api, target::Target};
use crate::{
    failure::{Exit, Failure},
    server::Server,
};

/// Reads a secret.
pub(crate) async fn read(server: &Server, target: &Target, given: &str) -> Result<Fields, Failure> {
    let answer = match server.client.call(Verb::Read, &target.whole(), "", None).await {
        Ok(answer) => answer,
        Err(Error::NotFound) => return Err(absent(target, given)),
        Err(error) => return Err(server.explain(&format!("read {given}"), error).await),
    };
    answer.and_then(|answer| api::part(&answer, "data")).ok_or_else(|| absent(target, given))
}

/// Writes a secret; what was there is gone.
pub(crate) async fn write(
    server: &Server,
    target: &Target,
    fields: &Fields,
) -> Result<(), Failure> {
    match server.client.call(Verb::Write, &target.whole(), "", Some(fields.to_json())).await {
        Ok(_) => Ok(()),
        Err(error) => Err(server.explain(&format!("write {}", target.whole()), error).await),
    }
}

/// Takes a secret away for good. One that is not there is no error.
pub(crate) async fn delete(server: &Server, path: &str) -> Result<(), Failure> {
    match server.client.call(Verb::Delete, path, "", None).await {
        Ok(_) | Err(Error::NotFound) => Ok(()),
        Err(error) => Err(server.explain(&format!("delete {path}"), error).await),
    }
}

/// Names in a folder, or of all secrets below it, as [`kista::client::Kv2::names`] has them.
pub(crate) async fn names(
    client: &Client,
    folder: &str,
    reach: Reach,
    page: Page<'_>,
) -> Result<Vec<Named>, Error> {
    let verb = match reach {
        Reach::Folder => Verb::List,
        Reach::Below => Verb::Scan,
    };
    let query = format!("limit={}&after={}", page.limit, encode_text(page.after));
    let answer = match client.call(verb, folder, &query, None).await {
        Err(Error::NotFound) if !page.after.is_empty() => return Ok(Vec::new()),
        answer => answer?,
    };
    let keys = answer.and_then(|answer| api::part(&answer, "data")?.get("keys").map(|k| k.copy()));
    let keys = keys.ok_or(Error::NotFound)?;
    let names: Vec<String> = keys
        .expose_json(|json| serde_json::from_str(json))
        .map_err(|_| Error::Unexpected("its keys are no names"))?;
    Ok(names.into_iter().map(|name| Named { name, metadata: None }).collect())
}

/// The mount keeps no versions, and `wanted` needs them.
pub(crate) fn no_versions(target: &Target, wanted: &str) -> Failure {
    let whole = target.whole();
    Failure::usage(format!("{wanted} needs versions, and the mount of {whole} is KV version 1"))
        .hint(target.how_to_upgrade())
}

fn absent(target: &Target, given: &str) -> Failure {
    let whole = target.whole();
    let folder = whole.rsplit_once('/').map_or("", |(folder, _)| folder);
    Failure::new(format!("there is no {given}"))
        .hint(format!("kista ls {folder}/"))
        .exit(Exit::NotFound)
}
