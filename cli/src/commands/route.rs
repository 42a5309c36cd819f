//! `kista read`, `kista write` and `kista list`: any route, as Vault's users know it.

use clap::Args;
use kista::client::{Fields, JsonValue, Verb};
use serde::Serialize;

use super::{api, body};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Cell, Output, Sight},
    server::Server,
    values::SourceArguments,
};

/// Read any path of the API. Secrets are read with `kista get`.
///
/// A person sees dots for values outside sys/ and auth/, unless --show is given.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista read sys/key-status\n  kista read cubbyhole/note --show"
)]
pub(crate) struct Read {
    /// What comes after /v1/, such as sys/key-status
    path: String,
    /// The one key whose value to print
    #[arg(short, long)]
    key: Option<String>,
    /// Show the values to a person too
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// Write to any path of the API. Secrets are written with `kista put`.
///
/// The body is made of KEY=-, KEY=@FILE, KEY=env:NAME and KEY=VALUE, all of them texts, or is JSON
/// from stdin (-) or from a file (@FILE). What the server answers is printed.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista write cubbyhole/note text=-\n  \
                         kista write -f sys/rotate\n  echo '{\"type\":\"kv\"}' | kista write sys/mounts/old -")]
pub(crate) struct Write {
    /// What comes after /v1/, such as cubbyhole/note
    path: String,
    /// KEY=…, or - or @FILE for all of the body
    #[arg(value_name = "KEY", required_unless_present_any = ["force", "generate"])]
    body: Vec<String>,
    /// Write without a body
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    sources: SourceArguments,
    #[command(flatten)]
    server: ServerArguments,
}

/// List the names below any path of the API. Folders of secrets are listed with `kista ls`.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista list sys/policies/acl\n  kista list auth/token/accessors"
)]
pub(crate) struct List {
    /// What comes after /v1/, such as sys/policies/acl
    path: String,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Serialize)]
struct Listing<'a> {
    path: &'a str,
    keys: &'a [String],
}

impl Read {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let answer = api::call(&server, Verb::Read, &self.path, None).await?;
        let output = Output::new(self.server.json);
        let Some(answer) = answer else { return Ok(Exit::Done) };
        let fields = contents(&answer)?;
        if let Some(key) = &self.key {
            let value = fields.get(key).ok_or_else(|| no_key(&self.path, key, &fields))?;
            match output.wants_json() {
                true => output.json(value)?,
                false => output.value(&value.plain())?,
            }
            return Ok(Exit::Done);
        }
        let is_plain = ["sys/", "auth/"].iter().any(|part| self.path.starts_with(part));
        let hides = output.is_to_terminal() && !self.show && !is_plain;
        print(output, &answer, &fields, if hides { Sight::Masked } else { Sight::Shown })?;
        Ok(Exit::Done)
    }
}

impl Write {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let body = body::read(&self.body, &self.sources)?;
        let answer = api::call(&server, Verb::Write, &self.path, Some(body)).await?;
        // What a write answers may be shown once only, such as a token.
        let output = Output::new(self.server.json).once();
        match answer {
            Some(answer) => print(output, &answer, &contents(&answer)?, Sight::Shown)?,
            None if output.wants_json() => output.object(&Fields::new())?,
            None => output::note(&format!("{}: written", self.path)),
        }
        Ok(Exit::Done)
    }
}

impl List {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let answer = api::call(&server, Verb::List, &self.path, None).await?;
        let data = answer.as_ref().and_then(|answer| api::part(answer, "data"));
        let keys = data.as_ref().and_then(|data| data.get("keys"));
        let keys: Vec<String> = keys
            .and_then(|keys| keys.expose_json(|json| serde_json::from_str(json)).ok())
            .ok_or_else(|| Failure::new(format!("what {} answers is no list", self.path)))?;
        let output = Output::new(self.server.json);
        if output.wants_json() {
            output.serialized(&Listing { path: &self.path, keys: &keys })?;
            return Ok(Exit::Done);
        }
        for key in &keys {
            output.line(key)?;
        }
        Ok(Exit::Done)
    }
}

/// What an answer is about: its `data`, else its `auth`, else all of it, as of routes without an
/// envelope.
fn contents(answer: &JsonValue) -> Result<Fields, Failure> {
    let found = api::part(answer, "data").or_else(|| api::part(answer, "auth"));
    found.map_or_else(
        || {
            answer.expose_json(|json| serde_json::from_str(json)).map_err(|_| {
                Failure::new("what the server answers is no object of keys and values")
            })
        },
        Ok,
    )
}

fn print(output: Output, answer: &JsonValue, fields: &Fields, sight: Sight) -> Result<(), Failure> {
    if output.wants_json() {
        return output.json(answer);
    }
    let rows: Vec<_> = fields
        .iter()
        .map(|(key, value)| [Cell::Plain(key.to_owned()), Cell::Secret(value.plain(), sight)])
        .collect();
    output.table(["KEY", "VALUE"], &rows)
}

fn no_key(path: &str, key: &str, fields: &Fields) -> Failure {
    let keys: Vec<&str> = fields.iter().map(|(key, _)| key).collect();
    Failure::new(format!("{path} has no key {key}"))
        .hint(format!("its keys: {}", keys.join(", ")))
        .exit(Exit::NotFound)
}
