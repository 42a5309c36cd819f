//! Reading what a program starts with: each secret once, waiting for a vault that is not there yet.

use std::{collections::HashMap, rc::Rc, time::Duration};

use clap::Args;
use kista::{
    client::{Fields, JsonValue},
    clock, crypto,
};
use tokio::time::{self, Instant};

use crate::{
    arguments::ConnectionArguments,
    commands::{reading, target::Target},
    failure::{Exit, Failure},
    output,
    reference::{Place, Reference},
    server::Server,
};

/// How to read, as it is typed.
#[derive(Debug, Args)]
pub(crate) struct FetchArguments {
    /// While no vault answers or it is sealed, try again for so long, such as 60s
    #[arg(long, value_name = "DURATION", value_parser = clock::parse_duration)]
    wait: Option<Duration>,
}

/// Reads secrets, each once.
#[derive(Debug)]
pub(crate) struct Fetcher<'a> {
    connection: &'a ConnectionArguments,
    give_up: Option<Instant>,
    has_told: bool,
    servers: HashMap<Option<String>, Rc<Server>>,
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
            servers: HashMap::new(),
            read: HashMap::new(),
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
        let fields = Rc::new(self.patiently(&server, place, *version).await?);
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

    /// Reads, again while what is in the way may pass and there is time left. A refusal stands.
    async fn patiently(
        &mut self,
        server: &Server,
        place: &Place,
        version: Option<u64>,
    ) -> Result<Fields, Failure> {
        let Some(give_up) = self.give_up else { return read(server, place, version).await };
        let mut pause = FIRST_PAUSE;
        let mut last: Option<Failure> = None;
        loop {
            let failure = match time::timeout_at(give_up, read(server, place, version)).await {
                Ok(Err(failure)) if failure.is_passing => failure,
                Ok(ended) => return ended,
                Err(_) => return Err(last.unwrap_or_else(|| too_slow(server, place))),
            };
            if Instant::now() + pause >= give_up {
                return Err(failure);
            }
            if !self.has_told {
                self.has_told = true;
                output::note(&format!("waiting for the vault: {}", failure.message));
            }
            last = Some(failure);
            time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

async fn read(server: &Server, place: &Place, version: Option<u64>) -> Result<Fields, Failure> {
    let target = Target::secret(server, place, "read").await?;
    let (fields, _) = reading::version(server, &target, place, version).await?;
    Ok(fields)
}

fn too_slow(server: &Server, place: &Place) -> Failure {
    let address = server.client.address();
    let failure = Failure::new(format!("cannot read {place}: {address} has not answered in time"));
    Failure { is_passing: true, ..failure }
        .hint("is it the right address? give it longer with --wait")
        .exit(Exit::Unavailable)
}

/// Between half of it and all of it: programs that start together should not ask together.
fn jittered(pause: Duration) -> Duration {
    let [random] = crypto::random::array();
    pause.mul_f64(0.5 + f64::from(random) / 512.0)
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
