//! Reading what a program starts with: each secret once, waiting for a vault that is not there yet.

use std::{collections::HashMap, rc::Rc, time::Duration};

use clap::Args;
use kista::{
    client::{Backoff, Fields, JsonValue, Lifetime, LifetimeEnd, LifetimeWatcher},
    clock,
};
use tokio::time::{self, Instant};

use crate::{
    arguments::ConnectionArguments,
    commands::reading,
    failure::{Exit, Failure},
    offline::{Copied, Copies, NoCopy, Offline},
    output,
    reference::{Place, Reference},
    server::Server,
    variables::{Variables, Wanted},
};

/// How to read, as it is typed.
#[derive(Debug, Args)]
pub(crate) struct FetchArguments {
    /// While no vault answers or it is sealed, try again for so long, such as 60s
    #[arg(long, value_name = "DURATION", value_parser = clock::parse_duration)]
    wait: Option<Duration>,
    /// Whether to keep a sealed copy on this machine of what is read, and to use it
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Offline::Off)]
    offline: Offline,
    /// The oldest copy to use
    #[arg(long, value_name = "DURATION", value_parser = clock::parse_duration, default_value = "24h")]
    offline_max_age: Duration,
}

impl FetchArguments {
    /// Refuses what never asks the vault, where changes are waited for.
    pub(crate) fn refuse_only_copies(&self) -> Result<(), Failure> {
        if self.offline != Offline::Only {
            return Ok(());
        }
        Err(Failure::usage(
            "a copy does not change, so with --offline only there is nothing to watch",
        )
        .hint("--offline fallback asks the vault, and begins with a copy where it must"))
    }
}

/// Who has chosen the name of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chosen {
    OnCommandLine,
    /// A file that was looked for: it may not set what steers programs.
    InFoundFile,
}

/// Reads secrets, each once.
#[derive(Debug)]
pub(crate) struct Fetcher<'a> {
    connection: &'a ConnectionArguments,
    give_up: Option<Instant>,
    has_told: bool,
    /// Whether it reads what it has read before.
    is_again: bool,
    offline: Offline,
    max_age: Duration,
    servers: HashMap<Option<String>, Rc<Server>>,
    /// The tokens that are kept alive, by context; `None` is one that cannot be.
    tokens: HashMap<Option<String>, Option<LifetimeWatcher>>,
    read: HashMap<Asked, Rc<Fields>>,
}

/// Context, mount and path, version.
type Asked = (Option<String>, String, Option<u64>);

impl<'a> Fetcher<'a> {
    pub(crate) fn new(connection: &'a ConnectionArguments, arguments: &FetchArguments) -> Self {
        Self {
            connection,
            give_up: arguments.wait.map(|wait| Instant::now() + wait),
            has_told: false,
            is_again: false,
            offline: arguments.offline,
            max_age: arguments.offline_max_age,
            servers: HashMap::new(),
            tokens: HashMap::new(),
            read: HashMap::new(),
        }
    }

    /// Forgets what was read, to read it again. It does not wait then, nor use copies: who has read
    /// once has something newer.
    pub(crate) fn begin_again(&mut self) {
        self.read.clear();
        self.give_up = None;
        self.is_again = true;
    }

    /// Has the tokens that it reads with renewed in the background, for whoever reads again and
    /// again. Told of is one that will end all the same.
    pub(crate) async fn keep_tokens(&mut self) {
        for (context, server) in &self.servers {
            if !self.tokens.contains_key(context) {
                let kept = match server.client.own_token().keep_alive().await {
                    Ok(kept) => Some(kept),
                    Err(error) if error.is_passing() => continue,
                    // One that may not look itself up is left alone; what it reads, it reads.
                    Err(_) => None,
                };
                self.tokens.insert(context.clone(), kept);
            }
        }
        for token in self.tokens.values_mut() {
            let lifetime = token.as_ref().map(LifetimeWatcher::lifetime);
            if let Some(Lifetime::Ended { why, until }) = lifetime {
                *token = None;
                output::warn(&ending(&why, until.saturating_duration_since(Instant::now())));
            }
        }
    }

    /// Fetches what is wanted, and adds the variables that it makes.
    pub(crate) async fn add_to(
        &mut self,
        variables: &mut Variables<'_>,
        wanted: &Wanted,
        chosen: Chosen,
    ) -> Result<(), Failure> {
        let Wanted { reference, name } = wanted;
        let path = &*reference.place;
        let Some(key) = &reference.key else {
            return variables.add_secret(path, &*self.secret(reference).await?);
        };
        let value = self.value(reference, key).await?.plain();
        let origin = format!("{path}#{key}");
        match (name, chosen) {
            (None, _) => variables.add_key(path, key, value),
            (Some(name), Chosen::OnCommandLine) => variables.add_named(name, value, origin),
            (Some(name), Chosen::InFoundFile) => variables.add_found(name, value, origin),
        }
    }

    /// The values of a secret.
    pub(crate) async fn secret(&mut self, reference: &Reference) -> Result<Rc<Fields>, Failure> {
        let Reference { place, version, .. } = reference;
        let asked = (place.context.clone(), place.to_string(), *version);
        if let Some(fields) = self.read.get(&asked) {
            return Ok(Rc::clone(fields));
        }
        let server = self.server(place)?;
        let fields = Rc::new(match self.offline {
            Offline::Off => self.patiently(&server, place, *version).await?,
            Offline::Fallback => self.with_fallback(&server, place, *version).await?,
            Offline::Only => self.copy(&server, place, *version, None)?,
        });
        self.read.insert(asked, Rc::clone(&fields));
        Ok(fields)
    }

    /// The value of a key of what a reference leads to, or its default.
    pub(crate) async fn value(
        &mut self,
        reference: &Reference,
        key: &str,
    ) -> Result<JsonValue, Failure> {
        let fields = self.secret(reference).await;
        let value = fields.and_then(|fields| reading::value(&reference.place, key, &fields));
        reading::or_default(reference, value)
    }

    fn server(&mut self, place: &Place) -> Result<Rc<Server>, Failure> {
        if let Some(server) = self.servers.get(&place.context) {
            return Ok(Rc::clone(server));
        }
        let server = Rc::new(Server::find_for(self.connection, place)?);
        self.servers.insert(place.context.clone(), Rc::clone(&server));
        Ok(server)
    }

    /// Reads and keeps a copy; uses the copy where what is in the way is no refusal. After a
    /// refusal there is no copy any more.
    async fn with_fallback(
        &mut self,
        server: &Server,
        place: &Place,
        version: Option<u64>,
    ) -> Result<Fields, Failure> {
        let read = self.patiently(server, place, version).await;
        let entry = server.entry(place, version);
        let copies = Copies::of_user(self.max_age)?;
        match (read, entry) {
            (Ok(fields), Some(entry)) => {
                let store = server.store_id().await;
                if let Err(failure) = copies.keep(entry, &store, &fields) {
                    output::warn(&format!("no copy of {place} is kept: {}", failure.message));
                }
                Ok(fields)
            }
            (Err(failure), _) if failure.is_passing && !self.is_again => {
                self.copy(server, place, version, Some(failure))
            }
            (Err(failure), Some(entry))
                if matches!(failure.exit, Exit::Denied | Exit::NotFound) =>
            {
                copies.forget(entry)?;
                Err(failure)
            }
            (read, _) => read,
        }
    }

    /// The copy of a secret, and tells that it is one. `instead` is why the vault's is not to be
    /// had.
    fn copy(
        &self,
        server: &Server,
        place: &Place,
        version: Option<u64>,
        instead: Option<Failure>,
    ) -> Result<Fields, Failure> {
        let found = match server.entry(place, version) {
            Some(entry) => Copies::of_user(self.max_age)?.find(entry),
            None => Err(NoCopy::None),
        };
        match (found, instead) {
            (Ok(Copied { fields, age }), instead) => {
                let why = instead.map(|failure| format!(" ({})", failure.message));
                output::warn(&format!(
                    "{place} is from this machine's copy, {} old{}",
                    clock::format_duration(age),
                    why.unwrap_or_default()
                ));
                Ok(fields)
            }
            (Err(none), Some(failure)) => {
                Err(Failure { message: format!("{}; offline: {none}", failure.message), ..failure })
            }
            (Err(none), None) => Err(Failure::new(format!("cannot read {place} offline: {none}"))
                .hint("--offline fallback keeps one while a vault answers")
                .exit(Exit::Unavailable)),
        }
    }

    /// Reads, again while what is in the way may pass and there is time left. A refusal stands.
    async fn patiently(
        &mut self,
        server: &Server,
        place: &Place,
        version: Option<u64>,
    ) -> Result<Fields, Failure> {
        let Some(give_up) = self.give_up else { return read(server, place, version).await };
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut last: Option<Failure> = None;
        loop {
            let failure = match time::timeout_at(give_up, read(server, place, version)).await {
                Ok(Err(failure)) if failure.is_passing => failure,
                Ok(ended) => return ended,
                Err(_) => return Err(last.unwrap_or_else(|| too_slow(server, place))),
            };
            let pause = backoff.pause();
            if Instant::now() + pause >= give_up {
                return Err(failure);
            }
            if !self.has_told {
                self.has_told = true;
                output::note(&format!("waiting for the vault: {}", failure.message));
            }
            last = Some(failure);
            time::sleep(pause).await;
        }
    }
}

async fn read(server: &Server, place: &Place, version: Option<u64>) -> Result<Fields, Failure> {
    reading::fields(server, place, version).await
}

/// Why a token ends, and when.
fn ending(why: &LifetimeEnd, left: Duration) -> String {
    match Duration::from_secs(left.as_secs()) {
        Duration::ZERO => format!("{why}: it ends now"),
        left => format!("{why}: it ends in {}", clock::format_duration(left)),
    }
}

fn too_slow(server: &Server, place: &Place) -> Failure {
    let address = server.client.address();
    let failure = Failure::new(format!("cannot read {place}: {address} has not answered in time"));
    Failure { is_passing: true, ..failure }
        .hint("is it the right address? give it longer with --wait")
        .exit(Exit::Unavailable)
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
