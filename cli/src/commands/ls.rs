use clap::Args;
use kista::client::{Named, Reach, SecretMetadata};
use serde::Serialize;

use super::{
    below, plain,
    target::Target,
    walk::{Detail, Printer, Walk},
};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Output, Reading},
    reference::Place,
    server::Server,
};

/// List the names in a folder; those of folders end in a slash. Without a path: the mounts.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista ls secret/\n  kista ls -r secret/app/\n  \
                         kista ls --long secret/app/")]
pub(crate) struct Ls {
    /// Mount, or mount and folder, such as secret/app/
    path: Option<Place>,
    /// All secrets in the folder and in the folders below it
    #[arg(short, long)]
    recursive: bool,
    /// With the version of each, whether it is deleted, and when it was last changed
    #[arg(short, long)]
    long: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// A line of a long listing.
#[derive(Serialize)]
struct Entry {
    name: String,
    metadata: Option<SecretMetadata>,
}

impl Ls {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let Some(path) = &self.path else { return self.mounts().await };
        let server = Server::find_for(&self.server, path)?;
        let target = Target::folder_of_any(&server, path).await?;
        if self.long && !target.has_versions() {
            return Err(plain::no_versions(&target, "--long"));
        }
        let folder = below::as_folder(&target.whole());
        let reach = if self.recursive { Reach::Below } else { Reach::Folder };
        let detail = if self.long { Detail::Metadata } else { Detail::Name };
        let walk = Walk::new(&server, &target, reach, detail);
        if self.long {
            self.print_long(walk, &folder).await?;
        } else {
            self.print_names(walk, &folder).await?;
        }
        Ok(Exit::Done)
    }

    async fn print_names(&self, mut walk: Walk<'_>, path: &str) -> Result<(), Failure> {
        let output = Output::new(self.server.json);
        let mut printer = Printer::new(output, path, "keys")?;
        while let Some(page) = walk.next().await? {
            let names: Vec<String> = page.into_iter().map(|named| named.name).collect();
            if printer.print(&names, |name| output::printable(name))? == Reading::Ended {
                return Ok(());
            }
        }
        printer.end()
    }

    async fn print_long(&self, mut walk: Walk<'_>, path: &str) -> Result<(), Failure> {
        let output = Output::new(self.server.json);
        let mut next = walk.next().await?;
        let mut printer = Printer::new(output, path, "entries")?;
        if next.is_some() && output.is_to_terminal() && !output.wants_json() {
            output.line(&columns(["VERSION", "STATE", "CHANGED", "NAME"]))?;
        }
        while let Some(page) = next {
            let entries: Vec<Entry> = page.into_iter().map(Entry::of).collect();
            if printer.print(&entries, |entry| entry.line(output))? == Reading::Ended {
                return Ok(());
            }
            next = walk.next().await?;
        }
        printer.end()
    }

    async fn mounts(&self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let mounts = match server.client.sys().mounts().await {
            Ok(mounts) => mounts,
            Err(error) => return Err(server.explain("list the mounts", error).await),
        };
        let paths: Vec<String> = mounts.into_iter().map(|mount| mount.path).collect();
        let mut printer = Printer::new(Output::new(self.server.json), "", "keys")?;
        printer.print(&paths, |path| output::printable(path))?;
        printer.end()?;
        Ok(Exit::Done)
    }
}

impl Entry {
    fn of(Named { name, metadata }: Named) -> Self {
        Self { name, metadata }
    }

    fn line(&self, output: Output) -> String {
        let name = output::printable(&self.name);
        let Some(metadata) = &self.metadata else { return row(output, ["", "", "", &name]) };
        let current = metadata.versions.get(&metadata.current_version);
        let state = match current {
            Some(version) if version.destroyed => "destroyed",
            Some(version) if !version.deletion_time.is_empty() => "deleted",
            Some(_) => "kept",
            None => "empty",
        };
        row(output, [&metadata.current_version.to_string(), state, &metadata.updated_time, &name])
    }
}

/// Columns for a person, tabs for a program.
fn row(output: Output, [version, state, changed, name]: [&str; 4]) -> String {
    if !output.is_to_terminal() {
        return [version, state, changed, name].join("\t");
    }
    // To the second: 2026-01-01T00:00:00.
    let changed: String = changed.chars().take(19).collect();
    columns([version, state, &changed, name])
}

fn columns([version, state, changed, name]: [&str; 4]) -> String {
    format!("{version:>7}  {state:<9}  {changed:<19}  {name}")
}
