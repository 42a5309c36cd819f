//! `kista token`: tokens are made, shown, renewed and revoked. A token itself is printed once, when
//! it is made, and is never an argument: another one is named by its accessor.

use clap::{Args, Subcommand};
use kista::{
    client::{Fields, JsonValue, Verb},
    secret::SecretString,
};

use super::api;
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Cell, Output},
    server::Server,
};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    Create(Box<Create>),
    /// Show what the token in use may do and when it ends, or another one by its accessor.
    #[command(before_help = "Example:\n  kista token show\n  kista token show --accessor ACCESSOR")]
    Show {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Have the token in use, or another one, live longer.
    #[command(before_help = "Example:\n  kista token renew --increment 2h")]
    Renew {
        /// For how long from now; the server's and the token's own limits hold
        #[arg(long, value_name = "DURATION")]
        increment: Option<String>,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Revoke a token by its accessor, and those that were made with it. The one in use: kista
    /// logout.
    #[command(before_help = "Example:\n  kista token revoke ACCESSOR")]
    Revoke {
        /// The token's other name, which `create` and `show` print
        accessor: String,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// List the accessors of all tokens. Needs sudo.
    #[command(before_help = "Example:\n  kista token ls")]
    Ls {
        #[command(flatten)]
        server: ServerArguments,
    },
}

/// Which token is meant.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Another token than the one in use, by its other name
    #[arg(long)]
    accessor: Option<String>,
}

/// Make a token. It is printed bare, and never again; its accessor is told on stderr.
///
/// Without --policy it has those of the token in use, which makes another root token of a root
/// token. It ends with the token that made it, unless it is an --orphan.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista token create --policy app --ttl 24h | install -m 600 /dev/stdin token\n  \
                         kista token create --policy app --period 1h --display-name api --json"
)]
pub(crate) struct Create {
    /// What it may do; may be given again
    #[arg(long, value_name = "NAME")]
    policy: Vec<String>,
    /// How long it lives unless it is renewed, such as 24h
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// No renewal takes it beyond this age
    #[arg(long, value_name = "DURATION")]
    explicit_max_ttl: Option<String>,
    /// Each renewal gives it so long, for ever; needs sudo
    #[arg(long, value_name = "DURATION")]
    period: Option<String>,
    /// After so many uses it is gone
    #[arg(long, value_name = "N")]
    uses: Option<u32>,
    /// Its name in audit lines
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// It does not end with the token that makes it; needs sudo
    #[arg(long)]
    orphan: bool,
    /// It cannot be renewed
    #[arg(long)]
    not_renewable: bool,
    /// Leave the policy "default" out
    #[arg(long)]
    no_default_policy: bool,
    #[command(flatten)]
    server: ServerArguments,
}

impl TokenCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Create(create) => create.run().await,
            Self::Show { which, server } => show(&which, &server).await,
            Self::Renew { increment, which, server } => renew(increment, &which, &server).await,
            Self::Revoke { accessor, server } => revoke(&accessor, &server).await,
            Self::Ls { server } => list(&server).await,
        }
    }
}

impl Create {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let path = if self.orphan { "auth/token/create-orphan" } else { "auth/token/create" };
        let answer = api::call(&server, Verb::Write, path, Some(self.body().to_json())).await?;
        let auth = answer.as_ref().and_then(|answer| api::part(answer, "auth"));
        let auth = auth.ok_or_else(|| Failure::new("the server's answer holds no token"))?;
        let output = Output::new(self.server.json).once();
        if output.wants_json() {
            output.object(&auth)?;
            return Ok(Exit::Done);
        }
        let token = auth.get("client_token");
        let token = token.ok_or_else(|| Failure::new("the server's answer holds no token"))?;
        output.value(&token.plain())?;
        output::note(&format!(
            "accessor: {}   policies: {}",
            text(&auth, "accessor"),
            names(&auth)
        ));
        Ok(Exit::Done)
    }

    fn body(&self) -> Fields {
        let mut body = Fields::new();
        let text = |value: &str| JsonValue::string(&SecretString::copy_of(value));
        if !self.policy.is_empty() {
            let policies: Vec<_> = self.policy.iter().map(|name| text(name)).collect();
            body.set("policies", JsonValue::list(&policies));
        }
        for (name, value) in [
            ("ttl", &self.ttl),
            ("explicit_max_ttl", &self.explicit_max_ttl),
            ("period", &self.period),
            ("display_name", &self.display_name),
        ] {
            if let Some(value) = value {
                body.set(name, text(value));
            }
        }
        if let Some(uses) = self.uses {
            body.set("num_uses", text(&uses.to_string()));
        }
        if self.not_renewable {
            body.set("renewable", text("false"));
        }
        if self.no_default_policy {
            body.set("no_default_policy", text("true"));
        }
        body
    }
}

async fn show(which: &Which, arguments: &ServerArguments) -> Result<Exit, Failure> {
    let server = Server::find(arguments)?;
    let answer = match &which.accessor {
        None => api::call(&server, Verb::Read, "auth/token/lookup-self", None).await?,
        Some(accessor) => by_accessor(&server, "lookup-accessor", accessor, None).await?,
    };
    let data = answer.as_ref().and_then(|answer| api::part(answer, "data")).unwrap_or_default();
    let output = Output::new(arguments.json);
    if output.wants_json() {
        output.object(&without_token(&data))?;
        return Ok(Exit::Done);
    }
    let plain = |name: &str| [Cell::Plain(name.to_owned()), Cell::Plain(text(&data, name))];
    let mut rows: Vec<_> = SHOWN.into_iter().map(plain).collect();
    rows.push([Cell::Plain("policies".to_owned()), Cell::Plain(names(&data))]);
    output.table(["OF THE TOKEN", ""], &rows)?;
    Ok(Exit::Done)
}

async fn renew(
    increment: Option<String>,
    which: &Which,
    arguments: &ServerArguments,
) -> Result<Exit, Failure> {
    let server = Server::find(arguments)?;
    let mut body = Fields::new();
    if let Some(increment) = increment {
        body.set("increment", JsonValue::string(&SecretString::from_string(increment)));
    }
    let answer = match &which.accessor {
        None => {
            let body = Some(body.to_json());
            api::call(&server, Verb::Write, "auth/token/renew-self", body).await?
        }
        Some(accessor) => by_accessor(&server, "renew-accessor", accessor, Some(body)).await?,
    };
    let auth = answer.as_ref().and_then(|answer| api::part(answer, "auth")).unwrap_or_default();
    let output = Output::new(arguments.json);
    if output.wants_json() {
        output.object(&without_token(&auth))?;
    } else {
        output::note(&format!("renewed: it lives for {} s now", text(&auth, "lease_duration")));
    }
    Ok(Exit::Done)
}

async fn revoke(accessor: &str, arguments: &ServerArguments) -> Result<Exit, Failure> {
    let server = Server::find(arguments)?;
    by_accessor(&server, "revoke-accessor", accessor, None).await?;
    let note = format!("the token of {accessor} is revoked");
    Output::new(arguments.json).done("accessor", accessor, &note)
}

async fn list(arguments: &ServerArguments) -> Result<Exit, Failure> {
    let server = Server::find(arguments)?;
    let answer = api::call(&server, Verb::List, "auth/token/accessors", None).await;
    let answer = answer.map_err(|failure| {
        if failure.exit != Exit::Denied {
            return failure;
        }
        failure
            .hint("a policy of the token must grant \"list\" and \"sudo\" on auth/token/accessors")
    })?;
    let data = answer.as_ref().and_then(|answer| api::part(answer, "data")).unwrap_or_default();
    let output = Output::new(arguments.json);
    if output.wants_json() {
        output.object(&data)?;
        return Ok(Exit::Done);
    }
    for accessor in list_of(&data, "keys") {
        output.line(&accessor)?;
    }
    Ok(Exit::Done)
}

/// Calls a route that names a token by its accessor.
async fn by_accessor(
    server: &Server,
    route: &str,
    accessor: &str,
    body: Option<Fields>,
) -> Result<Option<JsonValue>, Failure> {
    if accessor.starts_with("hvs.") || accessor.starts_with("hvb.") {
        return Err(Failure::usage("that is a token, not its accessor").hint(
            "the process list and the shell's history show it now: revoke it, and use its accessor",
        ));
    }
    let mut body = body.unwrap_or_default();
    body.set("accessor", JsonValue::string(&SecretString::copy_of(accessor)));
    let path = format!("auth/token/{route}");
    api::call(server, Verb::Write, &path, Some(body.to_json())).await
}

/// What is told of a token, less the token.
fn without_token(data: &Fields) -> Fields {
    let mut told = Fields::new();
    for (name, value) in data.iter().filter(|(name, _)| !matches!(*name, "id" | "client_token")) {
        told.set(name, value.copy());
    }
    told
}

/// A member that is no secret, as text.
fn text(data: &Fields, name: &str) -> String {
    data.get(name).map(|value| value.plain().expose(str::to_owned)).unwrap_or_default()
}

fn names(data: &Fields) -> String {
    list_of(data, "policies").join(", ")
}

fn list_of(data: &Fields, name: &str) -> Vec<String> {
    let list = data.get(name);
    list.and_then(|list| list.expose_json(|json| serde_json::from_str(json).ok()))
        .unwrap_or_default()
}

/// What `show` tells of a token, beside its policies.
const SHOWN: [&str; 9] = [
    "accessor",
    "display_name",
    "path",
    "creation_ttl",
    "ttl",
    "expire_time",
    "num_uses",
    "renewable",
    "orphan",
];
