use clap::Args;
use serde::Serialize;

use super::{target::Target, versions};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Output},
    reference::Place,
    server::Server,
};

/// Delete the current version of a secret. Its earlier versions stay.
///
/// The version is hidden, not destroyed: `kista undelete` brings it back. A secret that is not
/// there is no error.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista delete secret/app/db")]
pub(crate) struct Delete {
    /// Mount and path, such as secret/app/db
    path: Place,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Serialize)]
struct Deleted<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

impl Delete {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find_for(&self.server, &self.path)?;
        let target = Target::secret(&server, &self.path, "delete").await?;
        if let Some(meant) = target.without_api_part() {
            output::warn(&format!(
                "this deletes the entry {:?} of the mount; without the API's part it is {meant}",
                target.path
            ));
        }
        let output = Output::new(self.server.json);
        let path = &target.whole();
        if self.dry_run {
            let current = versions::known(&server, &target, &self.path).await?.current_version;
            output::note(&format!("{path}: version {current} would be deleted"));
            output.dry_run(&Deleted { path, version: Some(current) }, "deleted")?;
            return Ok(Exit::Done);
        }
        if let Err(error) = target.kv2(&server.client).delete(&target.path).await {
            return Err(server.explain(&format!("delete {}", self.path), error).await);
        }
        if output.wants_json() {
            output.serialized(&Deleted { path, version: None })?;
        } else {
            output::note(&format!("{path}: the current version is deleted"));
        }
        Ok(Exit::Done)
    }
}
