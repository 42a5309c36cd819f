use std::path::{Path, PathBuf};

use clap::Args;
use kista::config::{Config, Overrides};

use super::{
    checkup::{self, Check, asked, machine},
    up,
};
use crate::{
    arguments::ServerArguments,
    context::Context,
    failure::{Exit, Failure},
    folders::Folders,
    hygiene,
    output::Output,
    server::{self, Server},
};

/// Look at everything that may go wrong: the server, the token, and this machine.
///
/// Each line says ok, warn, fail, or skip where it cannot be seen from here, and what to do next. Of
/// a server that runs on this machine the files, the memory and the disks are looked at too: of one
/// that `kista up` serves by itself, of another one with --config.
///
/// Ends with 0, or with 10 where a line says fail.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista doctor\n  \
                         sudo -u kista kista doctor --config /etc/kista/kista.toml\n  \
                         kista doctor --json")]
pub(crate) struct Doctor {
    /// Configuration file of a server on this machine
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArguments,
}

impl Doctor {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let mut checks = asked::checks(&server).await;
        if let Some(file) = &self.config {
            match hygiene::guard_configuration(file) {
                Ok(()) => {}
                Err(failure) => checks.push(Check::failed("config", failure)),
            }
            let config = Config::load(Some(file), Overrides::default())
                .map_err(|error| Failure::of(&error).exit(Exit::Usage))?;
            checks.extend(machine::checks(&config));
        } else if let Some((config, kit)) = self.own_store(&server)? {
            checks.extend(machine::checks(&config));
            checks.extend(self::kit(&kit));
        }
        checkup::report(&checks, Output::new(self.server.json))
    }

    /// The configuration of the store that `kista up` serves at the address, and its recovery kit.
    fn own_store(&self, server: &Server) -> Result<Option<(Config, PathBuf)>, Failure> {
        let context = server::context(self.server.context.as_deref())?;
        let is_own =
            |context: &Context| context.data.is_some() && context.is_at(server.client.address());
        match context.filter(is_own) {
            Some(context) => up::configuration(&Folders::of_user()?, &context).map(Some),
            None => Ok(None),
        }
    }
}

/// The kit opens the store, and is to be elsewhere.
fn kit(kit: &Path) -> Option<Check> {
    kit.exists().then(|| {
        Check::warn(
            "kit",
            format!("the recovery kit is still in {}", kit.display()),
            "print it, move it off this machine, delete it",
        )
    })
}
