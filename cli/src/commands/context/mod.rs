//! Contexts: what is known of servers, by name.
//!
//! - `add.rs`: one without a token; `kista login` makes one with it
//! - `env.rs`: one as variables for other clients

mod add;
mod env;

use clap::{Args, Subcommand};
use serde::Serialize;

use self::{add::Add, env::Env};
use crate::{
    consent::Consent,
    context::{self, Context},
    failure::{Exit, Failure},
    files,
    folders::Folders,
    output::{self, Cell, Output},
    server,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    Ls(Ls),
    Use(Use),
    Add(Add),
    Rm(Rm),
    Show(Show),
    Env(Env),
}

impl ContextCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Ls(ls) => ls.run(),
            Self::Use(used) => used.run(),
            Self::Add(add) => add.run().await,
            Self::Rm(rm) => rm.run(),
            Self::Show(show) => show.run(),
            Self::Env(env) => env.run(),
        }
    }
}

/// List the contexts; the one in use is marked.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista context ls",
    after_help = "Exit codes: 0 listed (also when there is none), 1 error, 2 usage."
)]
pub(crate) struct Ls {
    /// Print JSON, one array
    #[arg(long)]
    json: bool,
}

/// Use this context when none is named.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista context use prod",
    after_help = "Exit codes: 0 done, 1 error, 2 usage, 3 no such context."
)]
pub(crate) struct Use {
    /// Name of the context
    name: String,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

/// Forget a context: address, certificate and token. The token is not revoked.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista logout --context old && kista context rm old",
    after_help = "Exit codes: 0 removed, 1 error, 2 usage or not confirmed, 3 no such context."
)]
pub(crate) struct Rm {
    /// Name of the context
    name: String,
    #[command(flatten)]
    consent: Consent,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

/// Show what a context holds, less its token.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista context show prod",
    after_help = "Exit codes: 0 shown, 1 error, 2 usage, 3 no such context."
)]
pub(crate) struct Show {
    /// Name of the context [default: the one in use]
    #[arg(env = "KISTA_CONTEXT")]
    name: Option<String>,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

/// A context as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    in_use: bool,
    address: String,
    token: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

/// A context that is no more, as it is printed.
#[derive(Debug, Serialize)]
struct Removed<'a> {
    name: &'a str,
}

impl Shown {
    fn of(context: &Context, current: &str) -> Self {
        let text = |path: &Option<std::path::PathBuf>| {
            path.as_ref().map(|path| path.display().to_string())
        };
        Self {
            name: context.name.clone(),
            in_use: context.name == current,
            address: context.address.clone(),
            token: if context.token.is_some() { "kept" } else { "none" },
            ca_file: text(&context.trust.ca_file),
            certificate_file: text(&context.trust.certificate_file),
            store: context.store.clone(),
            data: text(&context.data),
        }
    }
}

impl Ls {
    fn run(&self) -> Result<Exit, Failure> {
        let folders = Folders::of_user()?;
        let current = context::current(&folders)?;
        let mut shown = Vec::new();
        for name in context::names(&folders)? {
            match Context::load(&folders, &name) {
                Ok(Some(context)) => shown.push(Shown::of(&context, &current)),
                Ok(None) => {}
                // One bad file does not hide the others.
                Err(failure) => output::warn(&failure.message),
            }
        }
        let output = Output::new(self.json);
        if output.wants_json() {
            output.serialized(&shown)?;
            return Ok(Exit::Done);
        }
        if shown.is_empty() {
            output::note("no context yet\nnext:  kista up, or kista login --address URL");
            return Ok(Exit::Done);
        }
        let mark = |shown: &Shown| if shown.in_use { "*" } else { "" }.to_owned();
        let rows: Vec<_> = shown
            .iter()
            .map(|one| [mark(one), one.name.clone(), one.address.clone(), one.token.to_owned()])
            .map(|row| row.map(Cell::Plain))
            .collect();
        output.table(["IN USE", "NAME", "ADDRESS", "TOKEN"], &rows)?;
        Ok(Exit::Done)
    }
}

impl Use {
    fn run(&self) -> Result<Exit, Failure> {
        let context = server::known_context(Some(&self.name))?;
        context::set_current(&Folders::of_user()?, &context.name)?;
        let output = Output::new(self.json);
        if output.wants_json() {
            output.serialized(&Shown::of(&context, &context.name))?;
        } else {
            output::note(&format!("in use: {:?}, {}", context.name, context.address));
        }
        Ok(Exit::Done)
    }
}

impl Rm {
    fn run(&self) -> Result<Exit, Failure> {
        let folders = Folders::of_user()?;
        let file = context::file(&folders, &self.name)?;
        if !context::exists(&self.name) {
            return Err(server::no_context(&self.name));
        }
        // One that cannot be read may hold a token too.
        let holds_token = Context::load(&folders, &self.name)
            .map_or(true, |c| c.is_some_and(|c| c.token.is_some()));
        if holds_token && !self.consent.is_given() {
            output::note("it holds a token, which stays good: kista logout revokes it first");
            self.consent.typed("name", &self.name)?;
        }
        files::remove(&file)?;
        files::remove(&file.with_extension("pem"))?;
        if context::current(&folders)? == self.name {
            context::unset_current(&folders)?;
        }
        let output = Output::new(self.json);
        if output.wants_json() {
            output.serialized(&Removed { name: &self.name })?;
        } else {
            output::note(&format!("removed: the context {:?}", self.name));
        }
        Ok(Exit::Done)
    }
}

impl Show {
    fn run(&self) -> Result<Exit, Failure> {
        let context = server::known_context(self.name.as_deref())?;
        let shown = Shown::of(&context, &context::current(&Folders::of_user()?)?);
        let output = Output::new(self.json);
        if output.wants_json() {
            output.serialized(&shown)?;
            return Ok(Exit::Done);
        }
        let in_use = if shown.in_use { "yes" } else { "no" }.to_owned();
        let rows: Vec<[Cell; 2]> = [
            ("name", Some(shown.name)),
            ("in use", Some(in_use)),
            ("address", Some(shown.address)),
            ("token", Some(shown.token.to_owned())),
            ("CA file", shown.ca_file),
            ("certificate", shown.certificate_file),
            ("store", shown.store),
            ("data", shown.data),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some([Cell::Plain(key.to_owned()), Cell::Plain(value?)]))
        .collect();
        output.table(["KEY", "VALUE"], &rows)?;
        Ok(Exit::Done)
    }
}
