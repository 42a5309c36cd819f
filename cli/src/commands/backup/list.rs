use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use kista::backup::{self, BundleError, Summary};
use serde::Serialize;

use super::{Told, about, open};
use crate::{
    failure::{Exit, Failure},
    output::{self, Cell, Output},
};

/// Show what backups say of themselves: their store, when they were made, and the terms inside.
///
/// A term that a rotation has destroyed lives on in the backups from before: --term names them.
/// Only the front of each file is read, and nothing proves it; `kista backup verify` does.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista backup ls /var/backups/kista\n  \
    kista backup ls --term 1 /var/backups/kista")]
pub(crate) struct List {
    /// Backups, or folders of them [default: this folder]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only those with something under this term
    #[arg(long, value_name = "N")]
    term: Option<u32>,
    /// Print JSON, one array
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let output = Output::new(self.json);
        let paths = if self.paths.is_empty() { vec![PathBuf::from(".")] } else { self.paths };
        let mut found = Vec::new();
        for path in &paths {
            look(path, &mut found)?;
        }
        found.retain(|(_, summary)| self.term.is_none_or(|term| summary.terms.contains(&term)));
        found.sort_by_key(|(file, summary)| (summary.created, file.clone()));
        if output.wants_json() {
            let listed = found.iter().map(|(file, summary)| Listed::of(file, summary));
            output.serialized(&listed.collect::<Vec<_>>())?;
            return Ok(Exit::Done);
        }
        if found.is_empty() {
            output::note("no backups there");
            return Ok(Exit::Done);
        }
        let rows: Vec<_> = found.iter().map(|(file, summary)| row(file, summary)).collect();
        output.table(
            ["FILE", "MADE", "STORE", "GENERATION", "COMMIT", "TERMS", "SEAL FILE"],
            &rows,
        )?;
        Ok(Exit::Done)
    }
}

/// Looks at a file that was named, or at all that lie in a folder, of which others are none.
fn look(path: &Path, found: &mut Vec<(PathBuf, Summary)>) -> Result<(), Failure> {
    if !path.is_dir() {
        let summary = backup::look(open(path)?.0).map_err(|error| about(path, &error))?;
        found.push((path.to_owned(), summary));
        return Ok(());
    }
    let failed = |error| Failure::io(format!("read the folder {}", path.display()), &error);
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if !file.is_file() {
            continue;
        }
        match backup::look(open(&file)?.0) {
            Ok(summary) => found.push((file, summary)),
            // Something else, or one that is being written.
            Err(BundleError::Magic | BundleError::Short { .. }) => {}
            Err(error) => output::warn(&about(&file, &error).message),
        }
    }
    Ok(())
}

fn row(file: &Path, summary: &Summary) -> [Cell; 7] {
    let told = Told::of(summary);
    let terms: Vec<_> = summary.terms.iter().map(ToString::to_string).collect();
    [
        file.display().to_string(),
        told.created,
        told.store_id,
        told.generation.to_string(),
        told.sequence.to_string(),
        terms.join(", "),
        if told.has_seal_file { "inside" } else { "left out" }.to_owned(),
    ]
    .map(Cell::Plain)
}

/// One backup, as --json prints it.
#[derive(Serialize)]
struct Listed<'a> {
    file: String,
    #[serde(flatten)]
    told: Told<'a>,
}

impl<'a> Listed<'a> {
    fn of(file: &Path, summary: &'a Summary) -> Self {
        Self { file: file.display().to_string(), told: Told::of(summary) }
    }
}
