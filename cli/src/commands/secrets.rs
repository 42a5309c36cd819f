//! `kista secrets`: the mounts of secrets.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use kista::{
    client::{Fields, JsonValue, Verb},
    secret::SecretString,
};

use super::api;
use crate::{
    arguments::ServerArguments,
    consent::Consent,
    failure::{Exit, Failure},
    output::{self, Cell, Output},
    server::Server,
};

#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// List the mounts.
    #[command(before_help = "Example:\n  kista secrets ls")]
    Ls {
        #[command(flatten)]
        server: ServerArguments,
    },
    Enable(Enable),
    Disable(Disable),
}

/// Mount an engine, such as kv, for new secrets.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista secrets enable kv --path team\n  \
                         kista secrets enable kv --path old --version 1")]
pub(crate) struct Enable {
    /// The engine
    engine: String,
    /// Where; the engine's name if it is left out
    #[arg(long)]
    path: Option<String>,
    /// Of kv: 2 keeps versions, 1 does not
    #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u8).range(1..=2))]
    version: Option<u8>,
    /// What it is for
    #[arg(long, default_value = "")]
    description: String,
    #[command(flatten)]
    server: ServerArguments,
}

/// Take a mount away, with everything in it. It asks for the mount's name before.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista secrets disable team")]
pub(crate) struct Disable {
    /// The mount
    path: String,
    /// Say what would go, and take nothing away
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: ServerArguments,
}

impl SecretsCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Ls { server } => list(&server).await,
            Self::Enable(enable) => enable.run().await,
            Self::Disable(disable) => disable.run().await,
        }
    }
}

async fn list(arguments: &ServerArguments) -> Result<Exit, Failure> {
    let server = Server::find(arguments)?;
    let mounts = match server.client.sys().mounts().await {
        Ok(mounts) => mounts,
        Err(error) => return Err(server.explain("list the mounts", error).await),
    };
    let output = Output::new(arguments.json);
    if output.wants_json() {
        output.serialized(&mounts)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = mounts
        .into_iter()
        .map(|mount| {
            let version = mount.options.and_then(|mut options| options.remove("version"));
            [mount.path, mount.kind, version.unwrap_or_default(), mount.description]
                .map(Cell::Plain)
        })
        .collect();
    output.table(["PATH", "TYPE", "VERSION", "DESCRIPTION"], &rows)?;
    Ok(Exit::Done)
}

impl Enable {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let text = |text: &str| JsonValue::string(&SecretString::copy_of(text));
        let mut body = Fields::new();
        body.set("type", text(&self.engine));
        body.set("description", text(&self.description));
        // Who mounts kv today means the one that `up` makes, with versions.
        let version = self.version.or((self.engine == "kv").then_some(2));
        if let Some(version) = version {
            let mut options = Fields::new();
            options.set("version", text(&version.to_string()));
            body.set("options", JsonValue::from(&options));
        }
        let path = self.path.as_deref().unwrap_or(&self.engine).trim_matches('/');
        api::call(&server, Verb::Write, &format!("sys/mounts/{path}"), Some(body.to_json()))
            .await?;
        done(&self.server, path, "mounted")
    }
}

impl Disable {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let path = self.path.trim_matches('/');
        let mounts = match server.client.sys().mounts().await {
            Ok(mounts) => mounts,
            Err(error) => return Err(server.explain("list the mounts", error).await),
        };
        if !mounts.iter().any(|mount| mount.path.trim_end_matches('/') == path) {
            return Err(Failure::new(format!("nothing is mounted at {path}/"))
                .hint("kista secrets ls")
                .exit(Exit::NotFound));
        }
        if !self.consent.is_given() {
            output::note(&format!("this takes {path}/ away, and everything in it for good"));
        }
        if self.dry_run {
            let what = BTreeMap::from([("path", format!("{path}/"))]);
            Output::new(self.server.json).dry_run(&what, "taken away")?;
            return Ok(Exit::Done);
        }
        self.consent.typed("mount", path)?;
        api::call(&server, Verb::Delete, &format!("sys/mounts/{path}"), None).await?;
        done(&self.server, path, "taken away")
    }
}

fn done(arguments: &ServerArguments, path: &str, what: &str) -> Result<Exit, Failure> {
    let output = Output::new(arguments.json);
    if output.wants_json() {
        let mut object = Fields::new();
        object.set("path", JsonValue::string(&SecretString::from_string(format!("{path}/"))));
        output.object(&object)?;
    } else {
        output::note(&format!("{path}/: {what}"));
    }
    Ok(Exit::Done)
}
