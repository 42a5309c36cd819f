//! `kista key`: the keys that encrypt values for programs.
//!
//! - `create.rs`: a new key, or one that was made elsewhere
//! - `show.rs`: which keys there are, and what is known of them
//! - `change.rs`: rotation and configuration
//! - `retire.rs`: the end of old versions, and of keys
//! - `copies.rs`: keys taken out and put back

mod change;
mod copies;
mod create;
mod retire;
mod show;

use clap::{Args, Subcommand};
use kista::client::{Client, Error, Keys};

use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    server::Server,
};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    Create(create::Create),
    Ls(show::Ls),
    Show(show::Show),
    Rotate(change::Rotate),
    Usage(show::Usage),
    Retire(retire::Retire),
    Import(create::Import),
    Export(copies::Export),
    Backup(copies::Backup),
    Restore(copies::Restore),
    Config(change::Config),
    Rm(retire::Rm),
}

impl KeyCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Create(create) => create.run().await,
            Self::Ls(ls) => ls.run().await,
            Self::Show(show) => show.run().await,
            Self::Rotate(rotate) => rotate.run().await,
            Self::Usage(usage) => usage.run().await,
            Self::Retire(retire) => retire.run().await,
            Self::Import(import) => import.run().await,
            Self::Export(export) => export.run().await,
            Self::Backup(backup) => backup.run().await,
            Self::Restore(restore) => restore.run().await,
            Self::Config(config) => config.run().await,
            Self::Rm(rm) => rm.run().await,
        }
    }
}

/// Where keys are, as it is typed.
#[derive(Debug, Clone, Args)]
pub(crate) struct MountArguments {
    /// The mount of the keys
    #[arg(long, value_name = "PATH", default_value = "transit")]
    mount: String,
    #[command(flatten)]
    pub(crate) server: ServerArguments,
}

/// A transit mount of a server.
#[derive(Debug)]
pub(crate) struct TransitMount {
    pub(crate) server: Server,
    path: String,
}

impl MountArguments {
    pub(crate) fn find(&self) -> Result<TransitMount, Failure> {
        let path = self.mount.trim_matches('/').to_owned();
        Ok(TransitMount { server: Server::find(&self.server)?, path })
    }
}

impl TransitMount {
    /// Its path, without a slash at its end.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn client(&self) -> &Client {
        &self.server.client
    }

    fn keys(&self) -> Keys<'_> {
        self.client().transit(&self.path).keys()
    }

    /// Says what cannot be done to a key, and what to do next.
    pub(crate) async fn explain(&self, doing: &str, error: Error) -> Failure {
        let messages = if let Error::Other { messages, .. } = &error { &messages[..] } else { &[] };
        let says = |text: &str| messages.iter().any(|message| message.contains(text));
        let is_unmounted = says("no handler for route");
        let is_absent = matches!(error, Error::NotFound) || says("encryption key not found");
        let failure = self.server.explain(doing, error).await;
        let at =
            if self.path == "transit" { String::new() } else { format!(" --mount {}", self.path) };
        if is_unmounted {
            let path = if at.is_empty() { String::new() } else { format!(" --path {}", self.path) };
            return Failure::new(format!("cannot {doing}: no keys are mounted at {}/", self.path))
                .hint(format!("kista secrets enable transit{path}"))
                .exit(Exit::NotFound);
        }
        if is_absent {
            return Failure::new(format!("cannot {doing}: there is no such key at {}/", self.path))
                .hint(format!(
                    "those there are: kista key ls{at}; a new one: kista key create NAME{at}"
                ))
                .exit(Exit::NotFound);
        }
        failure
    }

    /// Fails where there is no such key: the server makes one of the name it is given, and then a
    /// mistyped name encrypts with a new key. Who may not look goes on.
    pub(crate) async fn must_have(&self, name: &str, doing: &str) -> Result<(), Failure> {
        match self.keys().read(name).await {
            Err(error @ Error::NotFound) => Err(self.explain(doing, error).await),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// What is known of a key.
    async fn read(&self, name: &str) -> Result<kista::client::Key, Failure> {
        match self.keys().read(name).await {
            Ok(key) => Ok(key),
            Err(error) => Err(self.explain(&format!("read the key {name}"), error).await),
        }
    }
}
