//! What `cp`, `mv` and `rm` share: one secret or all below a folder, by as many calls as it takes.

use kista::client::{Error, Reach, TreeDone};
use serde::Serialize;

use super::{
    plain,
    target::Target,
    walk::{Detail, Walk},
};
use crate::{
    failure::{Exit, Failure},
    output::{self, Output, Reading},
    progress::Progress,
    reference::Place,
    server::Server,
};

/// What a command is for: a secret, or a folder, whose path inside the mount ends in a slash or is
/// empty.
pub(crate) async fn subject(
    server: &Server,
    given: &Place,
    is_folder: bool,
    verb: &str,
) -> Result<Target, Failure> {
    let target = subject_of_any(server, given, is_folder, verb).await?;
    match target.has_versions() {
        true => Ok(target),
        false => Err(plain::no_versions(&target, "this")),
    }
}

/// The same, of a mount of version 1 too.
pub(crate) async fn subject_of_any(
    server: &Server,
    given: &Place,
    is_folder: bool,
    verb: &str,
) -> Result<Target, Failure> {
    if !is_folder {
        return Target::secret_of_any(server, given, verb).await;
    }
    let mut target = Target::folder_of_any(server, given).await?;
    target.path = as_folder(&target.path);
    Ok(target)
}

/// The path of a folder as the routes want it.
pub(crate) fn as_folder(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{}/", path.trim_end_matches('/')) }
}

/// So many secrets, in words.
pub(crate) fn count(secrets: u64) -> String {
    if secrets == 1 { "1 secret".to_owned() } else { format!("{secrets} secrets") }
}

/// Every secret that would be touched, by its path inside the mount.
pub(crate) async fn paths(server: &Server, target: &Target) -> Result<Vec<String>, Failure> {
    if !target.path.is_empty() && !target.path.ends_with('/') {
        if !target.has_versions() {
            plain::read(server, target, &target.whole()).await?;
            return Ok(vec![target.path.clone()]);
        }
        return match target.kv2(&server.client).metadata(&target.path).await {
            Ok(_) => Ok(vec![target.path.clone()]),
            Err(error) => Err(server.explain(&format!("look at {}", target.whole()), error).await),
        };
    }
    let mut folder = target.clone();
    folder.path = target.path.trim_end_matches('/').to_owned();
    let mut walk = Walk::new(server, &folder, Reach::Below, Detail::Name);
    let mut paths = Vec::new();
    while let Some(page) = walk.next().await? {
        paths.extend(page.into_iter().map(|named| format!("{}{}", target.path, named.name)));
    }
    Ok(paths)
}

/// One secret of a dry run.
#[derive(Serialize)]
struct Planned {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

/// Shows what would be done.
pub(crate) async fn show(
    output: &Output,
    server: &Server,
    from: &Target,
    to: Option<&Target>,
) -> Result<Exit, Failure> {
    let planned = paths(server, from).await?.into_iter().map(|path| {
        let new = to.map(|to| {
            let name = path.strip_prefix(&from.path).unwrap_or_default();
            to.with_path(&format!("{}{name}", to.path)).whole()
        });
        Planned { path: from.with_path(&path).whole(), to: new }
    });
    let planned: Vec<Planned> = planned.collect();
    if output.wants_json() {
        output.serialized(&planned)?;
        return Ok(Exit::Done);
    }
    for Planned { path, to } in &planned {
        let path = output::printable(path);
        let line = match to {
            Some(to) => format!("{path} -> {}\n", output::printable(to)),
            None => format!("{path}\n"),
        };
        if output.part(&line)? == Reading::Ended {
            break;
        }
    }
    let secrets = u64::try_from(planned.len()).unwrap_or(u64::MAX);
    output::note(&format!("{}; nothing was done", count(secrets)));
    Ok(Exit::Done)
}

/// Work that broke off, and how many secrets were done before.
#[derive(Debug)]
pub(crate) struct Broken {
    done: u64,
    error: Error,
}

/// Makes a call again until it is finished, each going on where the last one ended.
pub(crate) async fn to_the_end(
    doing: &'static str,
    call: impl AsyncFn(Option<String>) -> Result<TreeDone, Error>,
) -> Result<TreeDone, Broken> {
    let progress = Progress::records(doing);
    let mut done = TreeDone { secrets: 0, skipped: 0, left: 0, finished: false, after: None };
    while !done.finished {
        let next = call(done.after.take()).await;
        let next = next.map_err(|error| Broken { done: done.secrets, error })?;
        done = TreeDone {
            secrets: done.secrets + next.secrets,
            skipped: done.skipped + next.skipped,
            ..next
        };
        progress.show(done.secrets, done.secrets + done.left);
    }
    Ok(done)
}

/// Says why work broke off, what it needs where it was denied, and what was done before.
pub(crate) async fn explain(server: &Server, doing: &str, needed: &str, broken: Broken) -> Failure {
    let Broken { done, error } = broken;
    let is_denied = matches!(error, Error::Denied { .. });
    let mut failure = server.explain(doing, error).await;
    if is_denied {
        failure = failure.hint(format!("a policy of the token must grant {needed}"));
    }
    if done > 0 {
        failure.message = format!(
            "{}; {} done before that: the same command again goes on",
            failure.message,
            if done == 1 { "1 secret was".to_owned() } else { format!("{done} secrets were") }
        );
    }
    failure
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn part(secrets: u64, left: u64, after: Option<&str>) -> TreeDone {
        let after = after.map(str::to_owned);
        TreeDone { secrets, skipped: 1, left, finished: left == 0, after }
    }

    #[tokio::test]
    async fn calls_go_on_where_the_last_one_ended_and_are_counted_together() {
        let asked = RefCell::new(Vec::new());
        let call = async |after: Option<String>| {
            asked.borrow_mut().push(after.clone());
            Ok(match after.as_deref() {
                None => part(60, 50, Some("m")),
                Some("m") => part(30, 20, Some("x")),
                Some(_) => part(20, 0, None),
            })
        };
        let done = to_the_end("moving", call).await.unwrap();
        assert_eq!((done.secrets, done.skipped, done.finished), (110, 3, true));
        assert_eq!(*asked.borrow(), [None, Some("m".to_owned()), Some("x".to_owned())]);
    }

    #[tokio::test]
    async fn what_breaks_off_tells_how_much_was_done() {
        let call = async |after: Option<String>| match after {
            None => Ok(part(60, 50, Some("m"))),
            Some(_) => Err(Error::Sealed),
        };
        let broken = to_the_end("moving", call).await.unwrap_err();
        assert_eq!(broken.done, 60);
    }

    #[test]
    fn a_folder_has_one_slash_at_its_end() {
        assert_eq!(["", "a", "a/", "a/b//"].map(as_folder), ["", "a/", "a/", "a/b/"]);
    }
}
