//! `kista policy`: what tokens may do.

use std::{fs, path::PathBuf, sync::Arc};

use clap::{Args, Subcommand};
use kista::{
    client::{Fields, JsonValue, Verb},
    clock::{Clock, SystemClock},
    policy::{self, Acl},
    secret::{SecretBytes, SecretString},
};
use serde::Serialize;

use super::api;
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    files,
    output::{self, Output},
    prompt,
    server::Server,
};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// List the names of all policies.
    #[command(before_help = "Example:\n  kista policy ls")]
    Ls {
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Print a policy.
    #[command(before_help = "Example:\n  kista policy get app")]
    Get {
        /// Its name
        name: String,
        #[command(flatten)]
        server: ServerArguments,
    },
    Put(Put),
    Test(Test),
    /// Remove a policy. Tokens that have it lose what it grants, at once.
    #[command(before_help = "Example:\n  kista policy rm app")]
    Rm {
        /// Its name
        name: String,
        #[command(flatten)]
        server: ServerArguments,
    },
}

/// Write a policy from a file, or from stdin (-). It holds from the next request on.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista policy put app app.hcl")]
pub(crate) struct Put {
    /// Its name
    name: String,
    /// HCL or JSON; - is stdin
    file: PathBuf,
    #[command(flatten)]
    server: ServerArguments,
}

/// Print what the policy of a file grants on a path, before it is put. No server is asked.
///
/// Ends with 4 where a capability that was named is not granted.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista policy test app.hcl secret/data/app/db read update")]
pub(crate) struct Test {
    /// HCL or JSON; - is stdin
    file: PathBuf,
    /// Path of the API, such as secret/data/app/db
    path: String,
    /// What must be granted: create, read, update, patch, delete, list, scan, sudo
    capabilities: Vec<String>,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Tested<'a> {
    path: &'a str,
    capabilities: &'a [&'static str],
}

impl PolicyCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Ls { server } => list(&server).await,
            Self::Get { name, server } => get(&name, &server).await,
            Self::Put(put) => put.run().await,
            Self::Test(test) => test.run(),
            Self::Rm { name, server } => {
                let found = Server::find(&server)?;
                api::call(&found, Verb::Delete, &route(&name), None).await?;
                done(&server, &name, "removed")
            }
        }
    }
}

async fn list(arguments: &ServerArguments) -> Result<Exit, Failure> {
    let server = Server::find(arguments)?;
    let answer = api::call(&server, Verb::List, "sys/policies/acl", None).await?;
    let data = answer.as_ref().and_then(|answer| api::part(answer, "data")).unwrap_or_default();
    let output = Output::new(arguments.json);
    if output.wants_json() {
        output.object(&data)?;
        return Ok(Exit::Done);
    }
    let names = data.get("keys").map(|keys| {
        keys.expose_json(|json| serde_json::from_str::<Vec<String>>(json)).unwrap_or_default()
    });
    for name in names.unwrap_or_default() {
        output.line(&name)?;
    }
    Ok(Exit::Done)
}

async fn get(name: &str, arguments: &ServerArguments) -> Result<Exit, Failure> {
    let server = Server::find(arguments)?;
    let answer = match api::call(&server, Verb::Read, &route(name), None).await {
        Err(failure) if failure.exit == Exit::NotFound => {
            return Err(Failure::new(format!("there is no policy {name}"))
                .hint("kista policy ls")
                .exit(Exit::NotFound));
        }
        answer => answer?,
    };
    let data = answer.as_ref().and_then(|answer| api::part(answer, "data")).unwrap_or_default();
    let output = Output::new(arguments.json);
    match data.get("policy") {
        Some(_) if output.wants_json() => output.object(&data)?,
        Some(text) => output.value(&text.plain())?,
        None => return Err(Failure::new(format!("the server's answer holds no policy {name}"))),
    }
    Ok(Exit::Done)
}

impl Put {
    async fn run(self) -> Result<Exit, Failure> {
        let text = read(&self.file)?;
        // What is wrong is told with its line, before anything is sent.
        parse(&self.name, &text)?;
        let server = Server::find(&self.server)?;
        let mut body = Fields::new();
        body.set("policy", JsonValue::string(&text));
        api::call(&server, Verb::Write, &route(&self.name), Some(body.to_json())).await?;
        done(&self.server, &self.name, "written")
    }
}

impl Test {
    fn run(self) -> Result<Exit, Failure> {
        let policy = Arc::new(parse("tested", &read(&self.file)?)?);
        let granted = Acl::compile(&[policy]).capabilities(&self.path, SystemClock.now());
        let output = Output::new(self.json);
        if output.wants_json() {
            output.serialized(&Tested { path: &self.path, capabilities: &granted })?;
        } else {
            output.line(&granted.join(", "))?;
        }
        let missing: Vec<&str> = self
            .capabilities
            .iter()
            .map(String::as_str)
            .filter(|wanted| !granted.contains(wanted))
            .collect();
        if missing.is_empty() {
            return Ok(Exit::Done);
        }
        output::note(&format!("not granted on {}: {}", self.path, missing.join(", ")));
        Ok(Exit::Denied)
    }
}

fn parse(name: &str, text: &SecretString) -> Result<policy::Policy, Failure> {
    text.expose(|text| policy::parse(name, text))
        .map_err(|error| Failure::new(format!("cannot read the policy: {error}")))
}

fn read(file: &PathBuf) -> Result<SecretString, Failure> {
    if file.as_os_str() == "-" {
        return prompt::stdin_text();
    }
    let bytes = fs::read(file).map_err(|error| files::unreadable(file, &error))?;
    prompt::text(SecretBytes::from_vec(bytes), &file.display().to_string())
}

fn route(name: &str) -> String {
    format!("sys/policies/acl/{name}")
}

fn done(arguments: &ServerArguments, name: &str, what: &str) -> Result<Exit, Failure> {
    Output::new(arguments.json).done("name", name, &format!("policy {name}: {what}"))
}
