//! What a user may have meant who named what is not there.

use kista::client::{Error, Page, Reach};

use super::{below, target::Target};
use crate::server::Server;

/// How many names are looked at in one place.
const MOST: usize = 500;

/// The hint for a secret that is not there: the path without `data/`, or names like it.
///
/// The folder is listed as the user; who may not list it gets no names.
pub(crate) async fn hint(server: &Server, target: &Target) -> Option<String> {
    if let Some(meant) = target.without_api_part() {
        return Some(format!("leave out what only the API's paths have: {meant}"));
    }
    let mut path = target.path.as_str();
    // The folder itself may be spelled wrongly, so the first one above that is there is looked into.
    let (folder, name, names) = loop {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        match candidates(server, target, folder, name).await {
            Ok(names) => break (folder, name, names),
            Err(Error::NotFound) if !folder.is_empty() => path = folder,
            Err(_) => return None,
        }
    };
    let folder = target.with_path(&below::as_folder(folder)).whole();
    let near = nearest(name, &names);
    if near.is_empty() {
        return Some(format!("kista ls {folder}"));
    }
    let near: Vec<String> = near.iter().map(|name| format!("{folder}{name}")).collect();
    Some(format!("near it: {}", near.join(", ")))
}

/// The hint for a path that no mount holds: mounts like its first name, where the token sees them.
pub(super) async fn mount(server: &Server, path: &str) -> String {
    let mounts = server.client.sys().mounts().await.unwrap_or_default();
    let mounts: Vec<String> = mounts.into_iter().map(|mount| mount.path).collect();
    let first = path.split('/').next().unwrap_or_default();
    match nearest(first, &mounts).as_slice() {
        [] if mounts.is_empty() => {
            "a path begins with its mount, such as secret/; kista token show tells which policies the \
             token has"
                .to_owned()
        }
        [] => "a path begins with its mount: kista secrets ls; another one: kista secrets enable kv \
               --path NAME"
            .to_owned(),
        near => format!("near it are the mounts {}", near.join(", ")),
    }
}

/// Names of a folder: all of a small one; of a large one those at its beginning, and those that begin
/// with the first half of the name.
async fn candidates(
    server: &Server,
    target: &Target,
    folder: &str,
    name: &str,
) -> Result<Vec<String>, Error> {
    let kv2 = target.kv2(&server.client);
    let page = async |after| kv2.names(folder, Reach::Folder, Page { after, limit: MOST }).await;
    let mut names = page("").await?;
    if names.len() >= MOST {
        names.extend(page(first_half(name)).await.unwrap_or_default());
    }
    Ok(names.into_iter().map(|named| named.name).collect())
}

fn first_half(name: &str) -> &str {
    let middle = name.chars().count().div_ceil(2);
    name.char_indices().nth(middle).and_then(|(at, _)| name.get(..at)).unwrap_or(name)
}

/// Up to three names like the one given, nearest first.
fn nearest<'a>(name: &str, names: &'a [String]) -> Vec<&'a str> {
    let most = name.chars().count() / 3 + 1;
    let mut near: Vec<(usize, &str)> = names
        .iter()
        .map(|candidate| {
            let bare = candidate.trim_end_matches('/');
            let begins = bare.starts_with(name) || name.starts_with(bare);
            (if begins { 1 } else { distance(name, bare) }, candidate.as_str())
        })
        .filter(|(distance, _)| *distance <= most)
        .collect();
    near.sort();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Characters to insert, delete or replace to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (n, x) in a.chars().enumerate() {
        let mut diagonal = n;
        let mut left = n + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = n + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "ab", 2),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("db", "bd", 2),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn the_first_half_ends_with_a_character() {
        for (name, half) in
            [("payments", "paym"), ("\u{e9}\u{e9}\u{e9}", "\u{e9}\u{e9}"), ("a", "a"), ("", "")]
        {
            assert_eq!(first_half(name), half);
        }
    }

    #[test]
    fn names_like_the_one_given_come_nearest_first() {
        let names = ["database/", "db", "db-old", "mail", "da"].map(str::to_owned);
        assert_eq!(nearest("dv", &names), ["da", "db"]);
        assert_eq!(nearest("db-", &names), ["db", "db-old", "da"]);
        assert!(nearest("payments", &names).is_empty());
        let twice = ["mail", "db", "mail"].map(str::to_owned);
        assert_eq!(nearest("mall", &twice), ["mail"]);
    }
}
