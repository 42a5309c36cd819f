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

/// Bring deleted versions of a secret back: the current one, or those that are named.
///
/// What was destroyed does not come back.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista undelete secret/app/db\n  \
                         kista undelete secret/app/db --version 3 --version 4")]
pub(crate) struct Undelete {
    /// Mount and path, such as secret/app/db
    path: Place,
    /// A version other than the current one; may be given again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    version: Vec<u64>,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Serialize)]
struct Undeleted<'a> {
    path: &'a str,
    versions: &'a [u64],
}

impl Undelete {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find_for(&self.server, &self.path)?;
        let target = Target::secret(&server, &self.path, "undelete").await?;
        let metadata = versions::known(&server, &target, &self.path).await?;
        let mut versions = self.version.clone();
        if versions.is_empty() {
            versions.push(metadata.current_version);
        }
        versions::check_kept(&metadata, &versions, &self.path)?;
        let is_destroyed =
            |version: &&u64| metadata.versions.get(version).is_some_and(|v| v.destroyed);
        if let Some(version) = versions.iter().find(is_destroyed) {
            let why = format!("version {version} of {} was destroyed", self.path);
            return Err(Failure::new(why)
                .hint(format!("kista log {}", self.path))
                .exit(Exit::NotFound));
        }
        let kv2 = target.kv2(&server.client);
        if let Err(error) = kv2.undelete_versions(&target.path, &versions).await {
            return Err(server.explain(&format!("undelete {}", self.path), error).await);
        }
        let output = Output::new(self.server.json);
        let path = &target.whole();
        if output.wants_json() {
            output.serialized(&Undeleted { path, versions: &versions })?;
        } else {
            let numbers: Vec<String> = versions.iter().map(u64::to_string).collect();
            output::note(&format!("{path}: back again: version {}", numbers.join(", ")));
        }
        Ok(Exit::Done)
    }
}
