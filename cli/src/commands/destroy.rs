use clap::{ArgGroup, Args};
use serde::Serialize;

use super::{target::Target, versions};
use crate::{
    arguments::ServerArguments,
    consent::Consent,
    failure::{Exit, Failure},
    output::{self, Output},
    reference::Place,
    server::Server,
};

/// Destroy versions of a secret for good, or the whole secret with all its versions.
///
/// What is destroyed is erased from the store's files within a quarter of an hour (`kista operator
/// compact` does it at once); backups keep what they hold. It asks before, unless --yes is given.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista destroy secret/app/db --version 1 --version 2\n  \
                   kista destroy secret/app/db --all",
    group = ArgGroup::new("what").required(true)
)]
pub(crate) struct Destroy {
    /// Mount and path, such as secret/app/db
    path: Place,
    /// Version to destroy; may be given again
    #[arg(long, value_name = "N", group = "what", value_parser = clap::value_parser!(u64).range(1..))]
    version: Vec<u64>,
    /// Destroy every version, and what is known of the secret
    #[arg(long, group = "what")]
    all: bool,
    /// Say what would be destroyed, and destroy nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Serialize)]
struct Destroyed<'a> {
    path: &'a str,
    versions: &'a [u64],
    all: bool,
}

impl Destroy {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find_for(&self.server, &self.path)?;
        let target = Target::secret(&server, &self.path, "destroy").await?;
        let metadata = versions::known(&server, &target, &self.path).await?;
        versions::check_kept(&metadata, &self.version, &self.path)?;
        let versions: Vec<u64> =
            if self.all { metadata.versions.into_keys().collect() } else { self.version.clone() };
        let numbers: Vec<String> = versions.iter().map(u64::to_string).collect();
        let whole = target.whole();
        let what = match self.all {
            true => format!("{whole} with all its versions ({})", numbers.join(", ")),
            false => format!("version {} of {whole}", numbers.join(", ")),
        };
        let output = Output::new(self.server.json);
        let destroyed = Destroyed { path: &whole, versions: &versions, all: self.all };
        if self.dry_run {
            output::note(&format!("this would destroy {what}, for good"));
            output.dry_run(&destroyed, "destroyed")?;
            return Ok(Exit::Done);
        }
        if !self.consent.is_given() {
            output::note(&format!("this destroys {what}, for good"));
        }
        self.consent.typed("path", &whole)?;
        let kv2 = target.kv2(&server.client);
        let done = match self.all {
            true => kv2.destroy(&target.path).await,
            false => kv2.destroy_versions(&target.path, &versions).await,
        };
        if let Err(error) = done {
            return Err(server.explain(&format!("destroy {}", self.path), error).await);
        }
        if output.wants_json() {
            output.serialized(&destroyed)?;
        } else {
            output::note(&format!("destroyed: {what}"));
        }
        Ok(Exit::Done)
    }
}
