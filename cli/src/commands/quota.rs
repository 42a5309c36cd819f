//! `kista quota`: how often a client may ask.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use kista::{
    client::Verb,
    clock::{format_duration, parse_duration},
    secret::SecretBytes,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::api;
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{Cell, Output},
    server::Server,
};

#[derive(Debug, Subcommand)]
pub(crate) enum QuotaCommand {
    /// List the quotas.
    #[command(before_help = "Example:\n  kista quota ls")]
    Ls {
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Print a quota.
    #[command(before_help = "Example:\n  kista quota show app")]
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        server: ServerArguments,
    },
    Set(Set),
    /// Remove a quota.
    #[command(before_help = "Example:\n  kista quota rm app")]
    Rm {
        /// Its name
        name: String,
        #[command(flatten)]
        server: ServerArguments,
    },
    Config(Config),
}

/// Set how many requests each client address may send to a path; in place of what the quota was.
///
/// Of the quotas that fit a path the most specific counts, alone. One without --path counts all
/// requests that no other counts, those of kista among them.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista quota set app --path secret/ --rate 100\n  \
                         kista quota set logins --path auth/token/ --rate 20 --per 1m --block 5m\n  \
                         kista quota set reports --path 'secret/data/reports/*' --rate 5")]
pub(crate) struct Set {
    /// Its name
    name: String,
    /// Requests that may come at once, and then in each --per
    #[arg(long, value_name = "N")]
    rate: f64,
    /// How long --rate is for
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "1s")]
    per: Duration,
    /// A mount, or a path in one; all that begins so if it ends with *
    #[arg(long, default_value = "")]
    path: String,
    /// Refuse a client that was refused for so long, whatever it asks
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    block: Option<Duration>,
    #[command(flatten)]
    server: ServerArguments,
}

/// Print what holds for all quotas, or change it; what is not named stays.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista quota config\n  kista quota config --headers on\n  \
                         kista quota config --exempt sys/health --exempt sys/unseal")]
pub(crate) struct Config {
    /// Tell in the headers of answers what is left
    #[arg(long, value_name = "on|off")]
    headers: Option<Switch>,
    /// Write refused requests to the audit file
    #[arg(long, value_name = "on|off")]
    audit: Option<Switch>,
    /// A path that no quota counts, with all below it; these in place of those that are set
    #[arg(long, value_name = "PATH")]
    exempt: Vec<String>,
    /// Count every path
    #[arg(long, conflicts_with = "exempt")]
    no_exempt: bool,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// `data` of `sys/quotas/rate-limit/:name`.
#[derive(Debug, Serialize, Deserialize)]
struct Quota {
    name: String,
    path: String,
    rate: serde_json::Number,
    /// Seconds.
    interval: u64,
    /// Seconds.
    block_interval: u64,
}

/// `data` of `sys/quotas/config`.
#[derive(Debug, Serialize, Deserialize)]
struct Settings {
    enable_rate_limit_response_headers: bool,
    enable_rate_limit_audit_logging: bool,
    /// `null` for none, as with Vault.
    #[serde(deserialize_with = "null_is_empty")]
    rate_limit_exempt_paths: Vec<String>,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

impl QuotaCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Ls { server } => list(&server).await,
            Self::Show { name, server } => show(&name, &server).await,
            Self::Set(set) => set.run().await,
            Self::Rm { name, server } => {
                let found = Server::find(&server)?;
                api::call(&found, Verb::Delete, &route(&name), None).await?;
                done(&server, &name, "removed")
            }
            Self::Config(config) => config.run().await,
        }
    }
}

async fn list(arguments: &ServerArguments) -> Result<Exit, Failure> {
    let server = Server::find(arguments)?;
    let names = match read::<Keys>(&server, Verb::List, ROUTE).await {
        Ok(Keys { keys }) => keys,
        Err(failure) if failure.exit == Exit::NotFound => Vec::new(),
        Err(failure) => return Err(failure),
    };
    let mut quotas = Vec::with_capacity(names.len());
    for name in names {
        match read::<Quota>(&server, Verb::Read, &route(&name)).await {
            Ok(quota) => quotas.push(quota),
            // Removed meanwhile.
            Err(failure) if failure.exit == Exit::NotFound => {}
            Err(failure) => return Err(failure),
        }
    }
    let output = Output::new(arguments.json);
    if output.wants_json() {
        #[derive(Serialize)]
        struct Listed {
            quotas: Vec<Quota>,
        }
        output.serialized(&Listed { quotas })?;
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = quotas.iter().map(row).collect();
    output.table(["NAME", "PATH", "RATE", "BLOCK"], &rows)?;
    Ok(Exit::Done)
}

async fn show(name: &str, arguments: &ServerArguments) -> Result<Exit, Failure> {
    let server = Server::find(arguments)?;
    let quota = match read::<Quota>(&server, Verb::Read, &route(name)).await {
        Err(failure) if failure.exit == Exit::NotFound => {
            return Err(Failure::new(format!("there is no quota {name}"))
                .hint("kista quota ls")
                .exit(Exit::NotFound));
        }
        quota => quota?,
    };
    let output = Output::new(arguments.json);
    if output.wants_json() {
        output.serialized(&quota)?;
    } else {
        output.table(["NAME", "PATH", "RATE", "BLOCK"], &[row(&quota)])?;
    }
    Ok(Exit::Done)
}

fn row(quota: &Quota) -> [Cell; 4] {
    let path = if quota.path.is_empty() { "everything" } else { &quota.path };
    let rate = format!("{} in {}", quota.rate, words(quota.interval));
    let block =
        if quota.block_interval == 0 { "-".to_owned() } else { words(quota.block_interval) };
    [quota.name.clone(), path.to_owned(), rate, block].map(Cell::Plain)
}

fn words(seconds: u64) -> String {
    format_duration(Duration::from_secs(seconds))
}

impl Set {
    async fn run(self) -> Result<Exit, Failure> {
        if self.per < Duration::from_secs(1) {
            return Err(Failure::usage("--per is a second or more")
                .hint("a rate of 100 in 100ms is one of 1000 in 1s"));
        }
        let server = Server::find(&self.server)?;
        let body = json(&serde_json::json!({
            "path": self.path,
            "rate": self.rate,
            "interval": self.per.as_secs(),
            "block_interval": self.block.unwrap_or_default().as_secs(),
        }))?;
        api::call(&server, Verb::Write, &route(&self.name), Some(body)).await?;
        done(&self.server, &self.name, "counts from the next request on")
    }
}

impl Config {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let mut settings = read::<Settings>(&server, Verb::Read, CONFIG).await?;
        if self.changes() {
            let is_on = |switch: Option<Switch>, before| match switch {
                None => before,
                Some(switch) => switch == Switch::On,
            };
            let headers = &mut settings.enable_rate_limit_response_headers;
            *headers = is_on(self.headers, *headers);
            let audit = &mut settings.enable_rate_limit_audit_logging;
            *audit = is_on(self.audit, *audit);
            if self.no_exempt || !self.exempt.is_empty() {
                settings.rate_limit_exempt_paths = self.exempt;
            }
            api::call(&server, Verb::Write, CONFIG, Some(json(&settings)?)).await?;
        }
        let output = Output::new(self.server.json);
        if output.wants_json() {
            output.serialized(&settings)?;
            return Ok(Exit::Done);
        }
        let switch = |is_on| if is_on { "on" } else { "off" }.to_owned();
        let rows = [
            ["headers".to_owned(), switch(settings.enable_rate_limit_response_headers)],
            ["audit".to_owned(), switch(settings.enable_rate_limit_audit_logging)],
            ["exempt".to_owned(), settings.rate_limit_exempt_paths.join(", ")],
        ];
        output.table(["SETTING", "VALUE"], &rows.map(|row| row.map(Cell::Plain)))?;
        Ok(Exit::Done)
    }

    fn changes(&self) -> bool {
        self.headers.is_some() || self.audit.is_some() || self.no_exempt || !self.exempt.is_empty()
    }
}

/// What a route answers under `data`.
async fn read<T: DeserializeOwned>(server: &Server, verb: Verb, path: &str) -> Result<T, Failure> {
    #[derive(Deserialize)]
    struct Envelope<T> {
        data: T,
    }
    let answer = api::call(server, verb, path, None).await?;
    let read = |json: &str| serde_json::from_str::<Envelope<T>>(json);
    let envelope = answer.and_then(|answer| answer.expose_json(read).ok());
    envelope
        .map(|envelope| envelope.data)
        .ok_or_else(|| Failure::new(format!("the server's answer to {path} is not understood")))
}

fn json(value: &impl Serialize) -> Result<SecretBytes, Failure> {
    serde_json::to_vec(value).map(SecretBytes::from_vec).map_err(|error| Failure::of(&error))
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

fn route(name: &str) -> String {
    format!("{ROUTE}/{name}")
}

fn done(arguments: &ServerArguments, name: &str, what: &str) -> Result<Exit, Failure> {
    Output::new(arguments.json).done("name", name, &format!("quota {name}: {what}"))
}

const ROUTE: &str = "sys/quotas/rate-limit";
const CONFIG: &str = "sys/quotas/config";
