use clap::{Args, ValueEnum};
use kista::{
    client::{Fields, JsonValue, Verb},
    secret::SecretBytes,
};

use super::body;
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Output},
    server::Server,
    values::SourceArguments,
};

/// Call any route of the API, and print the whole answer as JSON.
///
/// The body is made of KEY=-, KEY=@FILE, KEY=env:NAME and KEY=VALUE, all of them texts, or is JSON
/// from stdin (-) or from a file (@FILE).
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista api GET sys/seal-status\n  \
                         kista api LIST 'secret/metadata/app?limit=10'\n  \
                         kista api POST sys/mounts/team type=kv-v2 --curl")]
pub(crate) struct Api {
    /// GET, LIST, SCAN, POST, PUT, PATCH or DELETE
    #[arg(ignore_case = true)]
    method: Method,
    /// What comes after /v1/, with a query behind '?' where one is needed
    path: String,
    /// KEY=… for the body, or - or @FILE for all of it
    #[arg(value_name = "KEY")]
    body: Vec<String>,
    /// Print the curl command that does this instead; it reads the token from $VAULT_TOKEN
    #[arg(long)]
    curl: bool,
    #[command(flatten)]
    sources: SourceArguments,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    Get,
    List,
    Scan,
    Post,
    Put,
    Patch,
    Delete,
}

impl Api {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let path = self.path.trim_start_matches('/');
        let path = path.strip_prefix("v1/").unwrap_or(path);
        let output = Output::new(self.server.json);
        let has_body = !self.body.is_empty() || self.sources.makes();
        if has_body && !self.method.takes_body() {
            return Err(Failure::usage(format!("{} has no body", self.method.name()))
                .hint("what a read asks for is in the query: PATH?name=value"));
        }
        if self.curl {
            if has_body {
                output::note("the command reads the body, which is JSON, from stdin");
            }
            output.line(&server.curl(self.method.name(), path, has_body))?;
            return Ok(Exit::Done);
        }
        let body = match self.method.takes_body() {
            true => Some(body::read(&self.body, &self.sources)?),
            false => None,
        };
        let answer = call(&server, self.method.verb(), path, body).await?;
        if let Some(answer) = answer {
            output.json(&answer)?;
        }
        Ok(Exit::Done)
    }
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::List => "LIST",
            Self::Scan => "SCAN",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    fn verb(self) -> Verb {
        match self {
            Self::Get => Verb::Read,
            Self::List => Verb::List,
            Self::Scan => Verb::Scan,
            Self::Post | Self::Put => Verb::Write,
            Self::Patch => Verb::Patch,
            Self::Delete => Verb::Delete,
        }
    }

    fn takes_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

/// Calls a route that the user has named; a query may follow the path.
pub(crate) async fn call(
    server: &Server,
    verb: Verb,
    path: &str,
    body: Option<SecretBytes>,
) -> Result<Option<JsonValue>, Failure> {
    let (bare, query) = path.split_once('?').unwrap_or((path, ""));
    let doing = match verb {
        Verb::Read => "read",
        Verb::List | Verb::Scan => "list",
        Verb::Write => "write",
        Verb::Patch => "patch",
        Verb::Delete => "delete",
    };
    match server.client.call(verb, bare, query, body).await {
        Ok(answer) => Ok(answer),
        Err(error) => Err(server.explain(&format!("{doing} {bare}"), error).await),
    }
}

/// What an answer's envelope holds under a name; nothing where that is absent or `null`.
pub(crate) fn part(answer: &JsonValue, name: &str) -> Option<Fields> {
    let envelope = answer.expose_json(|json| serde_json::from_str::<Fields>(json)).ok()?;
    envelope.get(name)?.expose_json(|json| serde_json::from_str(json)).ok()
}
