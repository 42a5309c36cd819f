//! `kista edit`: a secret in the user's editor.
//!
//! - `form.rs`: a secret as text, and back
//! - `workshop.rs`: where the text lies meanwhile, in memory, and the editor on it

mod form;
mod workshop;

use clap::Args;
use kista::client::{CheckAndSet, Error, Fields, Secret};

use self::{form::Form, workshop::Workshop};
use super::{changes::Changes, target::Target, written};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Output},
    prompt::Person,
    reference::Place,
    server::Server,
};

/// Edit a secret in your editor ($VISUAL, else $EDITOR, else vi).
///
/// The text lies in memory (XDG_RUNTIME_DIR or /dev/shm, for you alone) and is wiped however the
/// command ends. A mistake opens the editor again. Nothing is written where nothing has changed, or
/// the file was emptied; what somebody else writes meanwhile is not overwritten. A secret that is
/// not there is made.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista edit secret/app/db\n  \
                         EDITOR='code --wait' kista edit secret/app/db --format env")]
pub(crate) struct Edit {
    /// Mount and path, such as secret/app/db
    path: Place,
    /// How the secret is shown: `env` for texts alone, `json` and `yaml` for any values
    #[arg(long, value_enum, default_value_t = Form::Json)]
    format: Form,
    /// Show what would change, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Ask for nothing: a mistake ends it
    #[arg(long)]
    no_input: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// What the editing began with.
struct Before {
    fields: Fields,
    expected: CheckAndSet,
}

impl Edit {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find_for(&self.server, &self.path)?;
        let target = Target::secret(&server, &self.path, "edit").await?;
        let output = Output::new(self.server.json);
        let path = target.whole();
        let mut before = self.read(&server, &target).await?;
        // Signals are caught from here on, so that the text is wiped on any of them.
        let mut workshop = Workshop::open(&path, self.format.ending())?;
        workshop.put(&self.format.write(&before.fields)?)?;
        loop {
            let text = workshop.edit().await?;
            if text.expose(|text| text.trim().is_empty()) {
                Changes::none(output, &path, "the file is empty: nothing was written")?;
                return Ok(Exit::Done);
            }
            let fields = match self.format.read(&text) {
                Ok(fields) => fields,
                Err(mistake) => {
                    self.again(&mut workshop, Failure::new(format!("not saved: {mistake}")))
                        .await?;
                    continue;
                }
            };
            let changes = Changes::between(&before.fields, &fields);
            if changes.is_empty() {
                Changes::none(output, &path, "nothing has changed: nothing was written")?;
                return Ok(Exit::Done);
            }
            output::note(&format!("{path}:"));
            changes.note();
            if self.dry_run {
                changes.dry_run(output, &path)?;
                return Ok(Exit::Done);
            }
            let kv2 = target.kv2(&server.client);
            match kv2.write(&target.path, &fields, Some(before.expected)).await {
                Ok(written) => {
                    return written::print(&output, &target, &fields, &written);
                }
                Err(error) => {
                    let is_conflict = matches!(error, Error::CasConflict);
                    let failure = written::failure(&server, "write", &self.path, error).await;
                    self.again(&mut workshop, failure).await?;
                    if is_conflict {
                        before = self.read_newer(&server, &target, before).await?;
                    }
                }
            }
        }
    }

    async fn read(&self, server: &Server, target: &Target) -> Result<Before, Failure> {
        match target.kv2(&server.client).read(&target.path).await {
            Ok(Secret { fields, metadata }) => Ok(Before {
                fields: fields.unwrap_or_default(),
                expected: CheckAndSet::Version(metadata.version),
            }),
            Err(Error::NotFound) => {
                Ok(Before { fields: Fields::new(), expected: CheckAndSet::New })
            }
            Err(error) => Err(server.explain(&format!("read {}", self.path), error).await),
        }
    }

    /// Reads what somebody else has written, and tells which keys it has changed.
    async fn read_newer(
        &self,
        server: &Server,
        target: &Target,
        before: Before,
    ) -> Result<Before, Failure> {
        let newer = self.read(server, target).await?;
        output::note("somebody else has written it meanwhile, and changed:");
        Changes::between(&before.fields, &newer.fields).note();
        output::note("what you save now comes after that");
        Ok(newer)
    }

    /// Asks a person to mend what has failed; where there is none, it stays failed.
    async fn again(&self, workshop: &mut Workshop, failure: Failure) -> Result<(), Failure> {
        let person = Person::look(self.no_input);
        if person == Person::Absent {
            return Err(failure);
        }
        output::failure(&failure);
        match workshop.ask(person, "open the editor again").await? {
            true => Ok(()),
            false => Err(Failure::new("nothing was written").exit(failure.exit)),
        }
    }
}
