//! `kista config`: what a command would work with.

use clap::{Args, Subcommand};
use kista::{
    client::{Fields, JsonValue},
    secret::SecretString,
};

use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    folders::Folders,
    output::{self, Cell, Output},
    project::Project,
    server::{self, Effective},
};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    Show(Show),
}

/// Show the settings that a command would work with, with the flags given here.
///
/// A flag wins over KISTA_* variables, these over BAO_* and VAULT_*, and those over the context in
/// use. Of the token it is told whether there is one.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista config show --origin\n  \
                         kista config show --context prod --origin")]
pub(crate) struct Show {
    /// Say where each comes from too
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    server: ServerArguments,
}

impl ConfigCommand {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Show(show) => show.run(),
        }
    }
}

impl Show {
    fn run(self) -> Result<Exit, Failure> {
        let mut settings = server::settings(&self.server)?;
        settings.extend(folders());
        if let Some(project) = Project::file()? {
            settings.push(Effective {
                name: "project",
                value: project.display().to_string(),
                origin: "found from the working folder upward".to_owned(),
            });
        }
        let output = Output::new(self.server.json);
        if output.wants_json() {
            return self.print_json(output, &settings);
        }
        if self.origin {
            let rows: Vec<_> = settings
                .into_iter()
                .map(|Effective { name, value, origin }| {
                    [name.to_owned(), value, origin].map(Cell::Plain)
                })
                .collect();
            output.table(["SETTING", "VALUE", "FROM"], &rows)?;
        } else {
            let rows: Vec<_> = settings
                .into_iter()
                .map(|Effective { name, value, .. }| [name.to_owned(), value].map(Cell::Plain))
                .collect();
            output.table(["SETTING", "VALUE"], &rows)?;
        }
        Ok(Exit::Done)
    }

    /// An object of values, or with --origin of objects.
    fn print_json(&self, output: Output, settings: &[Effective]) -> Result<Exit, Failure> {
        let text = |text: &str| JsonValue::string(&SecretString::copy_of(text));
        let mut object = Fields::new();
        for Effective { name, value, origin } in settings {
            if !self.origin {
                object.set(name, text(value));
                continue;
            }
            let mut both = Fields::new();
            both.set("value", text(value));
            both.set("origin", text(origin));
            object.set(name, JsonValue::from(&both));
        }
        output.object(&object)?;
        Ok(Exit::Done)
    }
}

/// The user's folders; none without a home.
fn folders() -> Vec<Effective> {
    let Ok(folders) = Folders::of_user() else {
        output::note("without HOME there are no contexts");
        return Vec::new();
    };
    [
        ("config folder", folders.config, "XDG_CONFIG_HOME, else HOME"),
        ("data folder", folders.data, "XDG_DATA_HOME, else HOME"),
        ("state folder", folders.state, "XDG_STATE_HOME, else HOME"),
    ]
    .map(|(name, folder, origin)| Effective {
        name,
        value: folder.display().to_string(),
        origin: origin.to_owned(),
    })
    .into()
}
