//! `operator verify --data`: the files of a store that no server serves.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use kista::{
    backup::Key,
    clock::SystemClock,
    disk::Disk,
    seal::{self, Secret, Submitted, UnsealProgress, parse_share},
    secret::SecretString,
    storage::Options,
    vault::{self, Damaged, Examination},
};
use serde::Serialize;

use super::key::KeyArguments;
use crate::{
    failure::{Exit, Failure},
    output::{self, Cell, Output},
    progress::Progress,
};

/// Which folder, and what opens it.
#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// Read the files in this data folder instead of asking a server; nothing is changed
    #[arg(long, value_name = "DIR", conflicts_with = "wait")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArguments,
}

impl Folder {
    /// Refuses what only makes sense for a folder.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.data.is_none() && self.key.is_named() {
            return Err(Failure::usage("a server has its keys already")
                .hint("name the folder whose files are to be opened: --data DIR"));
        }
        Ok(())
    }

    /// Examines the folder and prints what is wrong.
    pub(crate) async fn examine(self, data: PathBuf, output: Output) -> Result<Exit, Failure> {
        if !data.is_dir() {
            return Err(
                Failure::new(format!("there is no folder {}", data.display())).exit(Exit::NotFound)
            );
        }
        let secret = self.secret(&data)?;
        let examined = tokio::task::spawn_blocking(move || {
            let progress = Progress::records("reading files");
            let hear = &mut |done, total| progress.show(done, total);
            vault::examine(&data, &Options::default(), secret.as_ref(), hear)
        });
        let examined = examined.await.map_err(|error| Failure::of(&error))?;
        let seen = examined.map_err(|error| {
            Failure::of(&error).hint("without a secret the structure of the files is checked")
        })?;
        show(output, &seen)?;
        if !seen.damages.is_empty() {
            return Ok(Exit::Found);
        }
        output::note(&format!(
            "{} commits and {} entries of snapshots are whole, up to commit {}",
            seen.commits, seen.entries, seen.seq
        ));
        output::note(&match seen.opened {
            Some(records) => format!("{records} records opened, and they add up: all is well"),
            None => "their structure is: to open every record, give --keyfile, --passphrase or \
                     --shares"
                .to_owned(),
        });
        Ok(Exit::Done)
    }

    fn secret(&self, data: &Path) -> Result<Option<Secret>, Failure> {
        match self.key.read()? {
            None => Ok(None),
            Some(Key::Secret(secret)) => Ok(Some(secret)),
            Some(Key::Shares(shares)) => combine(data, &shares).map(Some),
        }
    }
}

/// What enough shares of the seal file in a folder come to.
fn combine(data: &Path, shares: &[SecretString]) -> Result<Secret, Failure> {
    let none = || Failure::new("the seal file in that folder has no slot for shares");
    let counts = seal::inspect(&Disk::real(), data).shares();
    let (threshold, _) = counts.ok_or_else(none)?;
    let mut progress = UnsealProgress::new(threshold, Arc::new(SystemClock));
    for share in shares {
        let share = share.expose(parse_share).map_err(|error| Failure::of(&error))?;
        match progress.submit(share).map_err(|error| Failure::of(&error))? {
            Submitted::More | Submitted::Again => {}
            Submitted::Complete(secret) => return Ok(Secret::Shares(secret)),
        }
    }
    Err(Failure::usage(format!("{} of {threshold} shares were given", progress.given())))
}

#[derive(Serialize)]
struct Shown<'a> {
    store_id: Option<String>,
    commits: u64,
    snapshot_entries: u64,
    newest_commit: u64,
    records_opened: Option<u64>,
    damages: Vec<ShownDamage<'a>>,
}

#[derive(Serialize)]
struct ShownDamage<'a> {
    file: String,
    offset: u64,
    what: &'a str,
    first_commit: Option<u64>,
    last_commit: Option<u64>,
    records: usize,
    names: &'a [String],
}

fn show(output: Output, seen: &Examination) -> Result<(), Failure> {
    if output.wants_json() {
        let damages = seen.damages.iter().map(|damage| ShownDamage {
            file: damage.file.display().to_string(),
            offset: damage.offset,
            what: &damage.what,
            first_commit: damage.commits.map(|commits| commits.0),
            last_commit: damage.commits.map(|commits| commits.1),
            records: damage.records,
            names: &damage.names,
        });
        return output.serialized(&Shown {
            store_id: seen.store_id.map(|id| id.to_string()),
            commits: seen.commits,
            snapshot_entries: seen.entries,
            newest_commit: seen.seq,
            records_opened: seen.opened,
            damages: damages.collect(),
        });
    }
    if seen.damages.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = seen.damages.iter().map(|damage| row(damage).map(Cell::Plain)).collect();
    output.table(["FILE", "BYTE", "COMMITS", "RECORDS", "WHAT"], &rows)?;
    for damage in seen.damages.iter().filter(|damage| !damage.names.is_empty()) {
        output::note(&format!(
            "{} at byte {} held: {}",
            damage.file.display(),
            damage.offset,
            damage.names.join(", ")
        ));
    }
    output::warn(
        "nothing was changed; kista operator repair mends what is kept twice, and takes the rest from \
         a backup",
    );
    Ok(())
}

fn row(damage: &Damaged) -> [String; 5] {
    let commits = match damage.commits {
        None => String::new(),
        Some((first, last)) if first == last => first.to_string(),
        Some((first, last)) => format!("{first} to {last}"),
    };
    let records = if damage.records == 0 { String::new() } else { damage.records.to_string() };
    let file = damage.file.display().to_string();
    [file, damage.offset.to_string(), commits, records, damage.what.clone()]
}
