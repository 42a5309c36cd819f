//! Going through the names of a mount page by page, and printing them so.

use kista::client::{Error, Named, Page, Reach};
use serde::Serialize;

use super::{plain, target::Target};
use crate::{
    failure::{Exit, Failure},
    output::{Output, Reading},
    server::Server,
};

/// The names in a folder, or in it and below, one page after the other.
///
/// All below a folder is one SCAN where the token may, else a LIST of each folder, since policies
/// written for servers without SCAN grant only that.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    server: &'a Server,
    target: &'a Target,
    detail: Detail,
    limit: usize,
    way: Way,
}

/// What is asked of each name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    Name,
    Metadata,
}

/// How the rest is fetched.
#[derive(Debug)]
enum Way {
    /// The pages of one listing.
    Pages {
        reach: Reach,
        after: String,
    },
    /// Folders that are being listed, the innermost last.
    Folders(Vec<Folder>),
    Done,
}

#[derive(Debug)]
struct Folder {
    /// From the first folder, with a slash at its end; empty for that one.
    path: String,
    /// Names of the last page that are still to be looked at, the next one last.
    rest: Vec<Named>,
    /// The last name of that page.
    after: String,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        server: &'a Server,
        target: &'a Target,
        reach: Reach,
        detail: Detail,
    ) -> Self {
        let limit = match detail {
            Detail::Name => NAMES_A_PAGE,
            Detail::Metadata => DETAILED_NAMES_A_PAGE,
        };
        Self { server, target, detail, limit, way: Way::Pages { reach, after: String::new() } }
    }

    /// The next names, as paths from the folder; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Named>>, Failure> {
        loop {
            match &mut self.way {
                Way::Done => return Ok(None),
                Way::Folders(_) => return self.next_of_folders().await,
                Way::Pages { reach, after } => {
                    let (reach, after) = (*reach, after.clone());
                    match self.fetch("", reach, &after).await {
                        Ok(names) => return Ok(self.turn_page(reach, names)),
                        Err(error)
                            if reach == Reach::Below && after.is_empty() && is_no_scan(&error) =>
                        {
                            self.way = Way::Folders(vec![Folder::unread(String::new())]);
                        }
                        // An empty mount is there; an empty folder is not.
                        Err(Error::NotFound) if self.target.path.is_empty() => self.way = Way::Done,
                        Err(Error::NotFound) => return Err(self.no_folder()),
                        Err(error) => return Err(self.failure("", error).await),
                    }
                }
            }
        }
    }

    fn turn_page(&mut self, reach: Reach, names: Vec<Named>) -> Option<Vec<Named>> {
        match names.last() {
            // A page that is not full is the last one; an older server knows no pages at all.
            Some(last) if names.len() == self.limit => {
                self.way = Way::Pages { reach, after: last.name.clone() };
            }
            Some(_) | None => self.way = Way::Done,
        }
        Some(names).filter(|names| !names.is_empty())
    }

    /// The secrets up to the next folder, which is gone into.
    async fn next_of_folders(&mut self) -> Result<Option<Vec<Named>>, Failure> {
        let mut found = Vec::new();
        while found.len() < self.limit {
            let Way::Folders(folders) = &mut self.way else { break };
            let Some(folder) = folders.last_mut() else {
                self.way = Way::Done;
                break;
            };
            let Some(named) = folder.rest.pop() else {
                let (path, after) = (folder.path.clone(), folder.after.clone());
                self.fetch_more(&path, &after).await?;
                continue;
            };
            let name = format!("{}{}", folder.path, named.name);
            if name.ends_with('/') {
                folders.push(Folder::unread(name));
            } else {
                found.push(Named { name, metadata: named.metadata });
            }
        }
        Ok(Some(found).filter(|found| !found.is_empty()))
    }

    /// Reads the next page of the innermost folder, or leaves it when there is none.
    async fn fetch_more(&mut self, path: &str, after: &str) -> Result<(), Failure> {
        let mut names = match self.fetch(path, Reach::Folder, after).await {
            Ok(names) => names,
            // It has gone since its name was read, or the first folder is not there.
            Err(Error::NotFound) if !path.is_empty() || self.target.path.is_empty() => Vec::new(),
            Err(Error::NotFound) => return Err(self.no_folder()),
            Err(error) => return Err(self.failure(path, error).await),
        };
        let Way::Folders(folders) = &mut self.way else { return Ok(()) };
        match (names.last(), folders.last_mut()) {
            // A server that knows no pages answers with the same names again.
            (Some(last), Some(folder)) if last.name != folder.after => {
                folder.after.clone_from(&last.name);
                names.reverse();
                folder.rest = names;
            }
            _ => drop(folders.pop()),
        }
        Ok(())
    }

    async fn fetch(&self, below: &str, reach: Reach, after: &str) -> Result<Vec<Named>, Error> {
        let folder = format!("{}/{below}", self.target.path.trim_end_matches('/'));
        let folder = folder.trim_matches('/');
        let page = Page { after, limit: self.limit };
        if !self.target.has_versions() {
            let folder = self.target.with_path(folder).whole();
            return plain::names(&self.server.client, &folder, reach, page).await;
        }
        let kv2 = self.target.kv2(&self.server.client);
        match self.detail {
            Detail::Name => kv2.names(folder, reach, page).await,
            Detail::Metadata => kv2.names_in_detail(folder, reach, page).await,
        }
    }

    async fn failure(&self, below: &str, error: Error) -> Failure {
        let folder = self.target.whole();
        let folder = folder.trim_end_matches('/');
        self.server.explain(&format!("list {folder}/{below}"), error).await
    }

    fn no_folder(&self) -> Failure {
        let whole = self.target.whole();
        let whole = whole.trim_end_matches('/');
        let failure = Failure::new(format!("there is no folder {whole}/")).exit(Exit::NotFound);
        match self.target.without_api_part() {
            Some(meant) => {
                failure.hint(format!("leave out what only the API's paths have: {meant}"))
            }
            None => failure.hint(format!("kista get {whole}")),
        }
    }
}

impl Folder {
    fn unread(path: String) -> Self {
        Self { path, rest: Vec::new(), after: String::new() }
    }
}

/// Whether the token may not SCAN, or the server cannot: one that takes it for a read finds
/// nothing.
fn is_no_scan(error: &Error) -> bool {
    matches!(
        error,
        Error::Denied { .. } | Error::NotFound | Error::Other { status: 404 | 405 | 501, .. }
    )
}

/// Prints entries as they come: a line each, or one JSON object whose last member is their list.
#[derive(Debug)]
pub(crate) struct Printer {
    output: Output,
    /// How the object begins, until that is printed: what fails before prints nothing.
    head: Option<String>,
    printed: u64,
}

impl Printer {
    /// Of the names below `path`; `list` is the name of the list in the object.
    pub(crate) fn new(output: Output, path: &str, list: &str) -> Result<Self, Failure> {
        let head = match output.wants_json() {
            true => Some(format!("{{\"path\":{},\"{list}\":[", as_json(&path)?)),
            false => None,
        };
        Ok(Self { output, head, printed: 0 })
    }

    /// Prints these, each as a line and as JSON.
    pub(crate) fn print<T: Serialize>(
        &mut self,
        entries: &[T],
        line: impl Fn(&T) -> String,
    ) -> Result<Reading, Failure> {
        let mut text = self.head.take().unwrap_or_default();
        for entry in entries {
            if !self.output.wants_json() {
                text.push_str(&line(entry));
                text.push('\n');
                continue;
            }
            if self.printed > 0 {
                text.push(',');
            }
            text.push_str(&as_json(entry)?);
            self.printed += 1;
        }
        self.output.part(&text)
    }

    pub(crate) fn end(self) -> Result<(), Failure> {
        if self.output.wants_json() {
            self.output.part(&format!("{}]}}\n", self.head.unwrap_or_default()))?;
        }
        Ok(())
    }
}

fn as_json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::new(format!("cannot write the answer as JSON: {error}")))
}

const NAMES_A_PAGE: usize = 1_000;
const DETAILED_NAMES_A_PAGE: usize = 200;
