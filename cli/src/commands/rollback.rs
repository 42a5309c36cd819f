use clap::Args;
use kista::client::{CheckAndSet, Fields};

use super::{changes::Changes, reading, target::Target, versions, written};
use crate::{
    arguments::ServerArguments,
    consent::Consent,
    failure::{Exit, Failure},
    output::{self, Output},
    reference::Place,
    server::Server,
};

/// Write an earlier version of a secret again, as its newest one.
///
/// The versions between stay. It shows which keys change, and asks; what somebody else writes
/// meanwhile is not overwritten.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista rollback secret/app/db --to 3\n  \
                         kista rollback secret/app/db --to 3 --dry-run")]
pub(crate) struct Rollback {
    /// Mount and path, such as secret/app/db
    path: Place,
    /// The version to write again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    to: u64,
    /// Show what would change, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: ServerArguments,
}

impl Rollback {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find_for(&self.server, &self.path)?;
        let target = Target::secret(&server, &self.path, "roll back").await?;
        let path = target.whole();
        let known = versions::known(&server, &target, &self.path).await?;
        versions::check_kept(&known, &[self.to], &self.path)?;
        let current = known.current_version;
        let (fields, _) = reading::version(&server, &target, &self.path, Some(self.to)).await?;
        let before = match reading::version(&server, &target, &self.path, Some(current)).await {
            Ok((before, _)) => Some(before),
            // Deleted: all of its keys come back.
            Err(failure) if failure.exit == Exit::NotFound => None,
            Err(failure) => return Err(failure),
        };
        let output = Output::new(self.server.json);
        let nothing = Fields::new();
        let changes = Changes::between(before.as_ref().unwrap_or(&nothing), &fields);
        if before.is_some() && changes.is_empty() {
            let why = format!("{path}: version {current} holds the same as {}", self.to);
            Changes::none(output, &path, &why)?;
            return Ok(Exit::Done);
        }
        output::note(&format!("{path}: from version {current} back to {}:", self.to));
        changes.note();
        if self.dry_run {
            changes.dry_run(output, &path)?;
            return Ok(Exit::Done);
        }
        self.consent.agreed("write it")?;
        let expected = Some(CheckAndSet::Version(current));
        match target.kv2(&server.client).write(&target.path, &fields, expected).await {
            Ok(written) => written::print(&output, &target, &fields, &written),
            Err(error) => Err(written::failure(&server, "write", &self.path, error).await),
        }
    }
}
