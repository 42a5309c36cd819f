//! `kista import`: files of secrets into the vault.
//!
//! - `source.rs`: what a file holds, and which secrets that makes
//! - `plan.rs`: what each of them changes in the vault, and doing it

mod plan;
mod source;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use self::{plan::Plan, source::Form};
use crate::{
    arguments::ServerArguments,
    consent::Consent,
    failure::{Exit, Failure},
    output::{self, Output},
    reference::Place,
    server::Server,
};

/// Take secrets from a file into the vault.
///
/// dotenv makes one secret, each NAME a key. In json and yaml a map whose values are all maps is a
/// folder, and every other map is a secret; a name may hold slashes. So {"db": {"password": "x"},
/// "mail": {"key": "y"}} makes PATH/db and PATH/mail, and without PATH the outermost names begin
/// with a mount. --one takes the whole file for one secret.
///
/// Keys that the vault has and the file has not stay. Where a key is there with another value, it
/// asks. A secret that somebody else writes meanwhile is not overwritten. Values are taken as they
/// are, kista:// references too: `kista run` and `kista render` follow those.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista import dotenv .env secret/app/dev --dry-run\n  \
                         kista import json secrets.json secret/team\n  \
                         sops decrypt prod.yaml | kista import yaml - secret/app/prod --yes")]
pub(crate) struct Import {
    /// How the file is written
    #[arg(value_name = "FORM", value_enum)]
    form: Form,
    /// The file; - reads stdin
    #[arg(value_name = "FILE")]
    source: PathBuf,
    /// Where it goes: of one secret its path, of several the folder
    #[arg(value_name = "PATH", conflicts_with = "to")]
    destination: Option<Place>,
    /// The same as PATH
    #[arg(long, value_name = "PATH")]
    to: Option<Place>,
    /// Take the whole file for one secret, whatever its values are
    #[arg(long)]
    one: bool,
    /// What becomes of a key that the vault has with another value
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnConflict::Ask)]
    on_conflict: OnConflict,
    /// Show what would change, and write nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: ServerArguments,
}

/// What becomes of a key that the vault has with another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnConflict {
    /// A person says, or --yes: all of them become the file's
    Ask,
    /// It stays as the vault has it
    Skip,
    /// It becomes the file's, in a new version
    NewVersion,
    /// Nothing at all is written, and it ends with 6
    Fail,
}

impl Import {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let to = self.destination.as_ref().or(self.to.as_ref());
        let text = source::text(&self.source)?;
        let shown = source::shown(&self.source);
        let secrets = self.form.secrets(&text, &shown, to.map(|to| &**to), self.one)?;
        let server = match to {
            Some(to) => Server::find_for(&self.server, to)?,
            None => Server::find(&self.server)?,
        };
        let plan = Plan::make(&server, secrets, self.on_conflict == OnConflict::Skip).await?;
        let output = Output::new(self.server.json);
        plan.note();
        if self.dry_run {
            output::note("dry run: nothing was written");
            if output.wants_json() {
                output.object(&plan.json(true)?)?;
            }
            return Ok(Exit::Done);
        }
        self.agree(&plan)?;
        let exit = plan.carry_out(&server, &output).await?;
        if self.source.as_os_str() != "-" && exit == Exit::Done {
            output::note(&format!("{shown} still holds the values in the clear: remove it"));
        }
        Ok(exit)
    }

    fn agree(&self, plan: &Plan) -> Result<(), Failure> {
        let keys = plan.conflicts();
        let count = keys.len();
        match self.on_conflict {
            _ if keys.is_empty() => Ok(()),
            OnConflict::Skip | OnConflict::NewVersion => Ok(()),
            OnConflict::Ask => self.consent.agreed(&match count {
                1 => "overwrite the value marked with ~".to_owned(),
                _ => format!("overwrite the {count} values marked with ~"),
            }),
            OnConflict::Fail => Err(Failure::new(format!(
                "nothing was written: the vault has another value of {}",
                keys.join(", ")
            ))
            .hint(
                "--on-conflict skip keeps the vault's, --on-conflict new-version takes the file's",
            )
            .exit(Exit::Conflict)),
        }
    }
}
