use clap::Args;
use kista::client::UnsealKey;

use super::status;
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Output},
    prompt::{self, Person},
    server::Server,
};

/// Open a vault that stays sealed because an anchor says that its store is an older one.
///
/// What was written after the older store's last commit is lost, or lies in another copy. The
/// shares or the passphrase are asked for again; the store goes on in a new generation, the anchors
/// are written over, and the audit log says so.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista status\n  kista operator accept-rollback\n  \
                   kista operator accept-rollback --passphrase")]
pub(crate) struct AcceptRollback {
    /// Give the passphrase of a slot instead of shares
    #[arg(long)]
    passphrase: bool,
    /// Accept without asking
    #[arg(long)]
    yes: bool,
    /// Ask for nothing: read stdin, a share on each line
    #[arg(long)]
    no_input: bool,
    #[command(flatten)]
    server: ServerArguments,
}

impl AcceptRollback {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let before = match server.client.sys().seal_status().await {
            Ok(status) => status,
            Err(error) => return Err(server.explain("accept the rollback", error).await),
        };
        if !before.warnings.iter().any(|warning| warning == "rollback_detected") {
            return Err(Failure::new("nothing says that the store was rolled back")
                .hint("kista operator unseal"));
        }
        let person = Person::look(self.no_input);
        if !self.yes {
            let line = person.line("type older to open the older store", "--yes accepts it")?;
            if line != "older" {
                return Err(Failure::new("nothing was changed"));
            }
        }
        let secrets = if self.passphrase { 1 } else { before.threshold.max(1) };
        let mut lines = match person {
            Person::Present => Vec::new(),
            Person::Absent => prompt::stdin_lines()?,
        }
        .into_iter();
        let mut after = before;
        for n in 1..=secrets {
            let label = match self.passphrase {
                true => "passphrase".to_owned(),
                false => format!("share {n} of {secrets}"),
            };
            let secret = match person {
                Person::Present => person.hidden(&label, "")?,
                Person::Absent => lines.next().ok_or_else(|| {
                    Failure::usage(format!("stdin holds no line for the {label}"))
                })?,
            };
            let key = match self.passphrase {
                true => UnsealKey::Passphrase(secret),
                false => UnsealKey::Share(secret),
            };
            after = match server.client.sys().accept_rollback(key).await {
                Ok(status) => status,
                Err(error) => return Err(server.explain("accept the rollback", error).await),
            };
        }
        if !after.sealed {
            output::note("the older store is open, in a new generation");
        }
        status::print(&server, &after, Output::new(self.server.json))?;
        Ok(Exit::Done)
    }
}
