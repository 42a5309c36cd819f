use clap::Args;
use kista::client::{SecretMetadata, VersionState};
use serde::Serialize;

use super::{target::Target, versions};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Cell, Output},
    reference::Place,
    server::Server,
};

/// Show the versions of a secret, the newest first: when each was written, and what became of it.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista log secret/app/db")]
pub(crate) struct Log {
    /// Mount and path, such as secret/app/db
    path: Place,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Serialize)]
struct Logged<'a> {
    path: &'a str,
    metadata: &'a SecretMetadata,
}

impl Log {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find_for(&self.server, &self.path)?;
        let target = Target::secret(&server, &self.path, "read the versions of").await?;
        let metadata = versions::known(&server, &target, &self.path).await?;
        let output = Output::new(self.server.json);
        if output.wants_json() {
            output.serialized(&Logged { path: &target.whole(), metadata: &metadata })?;
            return Ok(Exit::Done);
        }
        let rows: Vec<_> = metadata
            .versions
            .iter()
            .rev()
            .map(|(number, version)| {
                [number.to_string(), version.created_time.clone(), fate(version)].map(Cell::Plain)
            })
            .collect();
        for (name, value) in metadata.custom_metadata.iter().flatten() {
            output::note(&format!("{name}: {value}"));
        }
        output.table(["VERSION", "WRITTEN", "DELETED"], &rows)?;
        Ok(Exit::Done)
    }
}

fn fate(version: &VersionState) -> String {
    if version.destroyed { "destroyed".to_owned() } else { version.deletion_time.clone() }
}
