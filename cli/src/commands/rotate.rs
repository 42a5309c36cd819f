use std::time::Duration;

use clap::{Args, Subcommand};
use kista::client::{Error, KeyStatus, NamesRotation, NewSchedule, Rotation, RotationSchedule};

use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Cell, Output},
    progress::Progress,
    server::Server,
};

/// Make a new key for what is stored, seal every record again under it, and destroy the old one.
///
/// The new key, a term, is in use when this ends. Records follow in the background while the server
/// goes on serving; when the last one is under the new term, the old term is taken out of journal,
/// snapshots and seal file. A crash loses nothing: the server goes on where it stood.
///
/// Paths are encrypted under a key of their own, which this leaves alone. --names gives them a new
/// one and moves every record to its new place; whoever held the old key can read no path in later
/// copies of the data folder.
///
/// --json prints the answer of `sys/rotate/status`.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista operator rotate --wait\n  kista operator rotate --names --wait\n  \
                   kista operator rotate status\n  kista operator rotate config --interval 720h",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Rotate {
    #[command(subcommand)]
    command: Option<RotateCommand>,
    /// Make a new key for the paths of what is stored, in place of a new term
    #[arg(long)]
    names: bool,
    /// Wait until the old key is destroyed
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Debug, Subcommand)]
enum RotateCommand {
    Status(RotateStatus),
    Config(RotateConfig),
}

impl Rotate {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Some(RotateCommand::Status(status)) => return status.run().await,
            Some(RotateCommand::Config(config)) => return config.run().await,
            None => {}
        }
        let server = Server::find(&self.server)?;
        let output = Output::new(self.server.json);
        let begun = match self.names {
            true => server.client.sys().rotate_names().await,
            false => server.client.sys().rotate().await,
        };
        if let Err(error) = begun {
            return Err(server.explain("rotate", error).await);
        }
        let state = match self.wait {
            true => wait(&server).await?,
            false => ask(&server).await?,
        };
        show(output, &state)
    }
}

/// How far a rotation is, and which terms are gone.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator rotate status --wait")]
struct RotateStatus {
    /// Wait until no rotation is under way
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    server: ServerArguments,
}

impl RotateStatus {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let state = match self.wait {
            true => wait(&server).await?,
            false => ask(&server).await?,
        };
        show(Output::new(self.server.json), &state)
    }
}

/// Show or change when a new term comes by itself.
///
/// --json prints the answer of `sys/rotate/config`.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator rotate config --interval 720h")]
struct RotateConfig {
    /// Whether a new term comes by itself at all
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
    /// Seals after which one comes, 1000000 to 3865470566
    #[arg(long, value_name = "N")]
    max_operations: Option<u64>,
    /// Time after which one comes, 24h at least; 0 for never
    #[arg(long, value_name = "DURATION")]
    interval: Option<String>,
    #[command(flatten)]
    server: ServerArguments,
}

impl RotateConfig {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let output = Output::new(self.server.json);
        let new = NewSchedule {
            enabled: self.enabled,
            max_operations: self.max_operations,
            interval: self.interval,
        };
        let changes = new.enabled.is_some() || new.max_operations.is_some();
        if (changes || new.interval.is_some())
            && let Err(error) = server.client.sys().set_rotation_schedule(&new).await
        {
            return Err(server.explain("change when keys rotate", error).await);
        }
        let schedule: RotationSchedule = match server.client.sys().rotation_schedule().await {
            Ok(schedule) => schedule,
            Err(error) => return Err(server.explain("read when keys rotate", error).await),
        };
        if output.wants_json() {
            output.serialized(&schedule)?;
            return Ok(Exit::Done);
        }
        let interval = match schedule.interval.as_str() {
            "0" => "never".to_owned(),
            interval => interval.to_owned(),
        };
        let rows = [
            ("enabled", schedule.enabled.to_string()),
            ("max operations", schedule.max_operations.to_string()),
            ("interval", interval),
        ];
        output.table(["KEY", "VALUE"], &rows.map(row))?;
        Ok(Exit::Done)
    }
}

/// Show the term that seals, and how often it has.
///
/// --json prints `term`, `install_time` and `encryptions`, as Vault's command does.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator key-status")]
pub(crate) struct ShowKeyStatus {
    #[command(flatten)]
    server: ServerArguments,
}

impl ShowKeyStatus {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let output = Output::new(self.server.json);
        let status: KeyStatus = match server.client.sys().key_status().await {
            Ok(status) => status,
            Err(error) => return Err(server.explain("read the key's status", error).await),
        };
        if output.wants_json() {
            output.serialized(&status)?;
            return Ok(Exit::Done);
        }
        let rows = [
            ("term", status.term.to_string()),
            ("made", status.install_time),
            ("seals", status.encryptions.to_string()),
        ];
        output.table(["KEY", "VALUE"], &rows.map(row))?;
        Ok(Exit::Done)
    }
}

async fn ask(server: &Server) -> Result<Rotation, Failure> {
    match server.client.sys().rotation().await {
        Ok(state) => Ok(state),
        Err(error) => Err(server.explain("read how far the rotation is", error).await),
    }
}

/// Has everything sealed again under a new term and moved to new names, and waits until the old
/// keys of both are destroyed.
pub(super) async fn destroy_old_keys(server: &Server) -> Result<(), Failure> {
    if let Err(error) = server.client.sys().rotate().await {
        return Err(server.explain("rotate", error).await);
    }
    // Names may be moving to a key that an old seal file holds: another one comes after it.
    idle(server).await?;
    if let Err(error) = server.client.sys().rotate_names().await {
        return Err(server.explain("rotate the key of names", error).await);
    }
    idle(server).await
}

async fn idle(server: &Server) -> Result<(), Failure> {
    match wait(server).await?.error {
        None => Ok(()),
        Some(error) => Err(Failure::new(format!("the rotation does not go on: {error}"))
            .hint("the server tries again: kista operator rotate status --wait")),
    }
}

/// Waits until no rotation is under way, or one does not go on.
async fn wait(server: &Server) -> Result<Rotation, Failure> {
    let mut sealing = None;
    let mut moving = None;
    loop {
        let state = match server.client.sys().rotation().await {
            Ok(state) => state,
            Err(error @ Error::Sealed) => {
                let failure = server.explain("wait for the rotation", error).await;
                return Err(failure
                    .hint("once it is unsealed it goes on where it stood: kista operator unseal"));
            }
            Err(error) => return Err(server.explain("wait for the rotation", error).await),
        };
        if state.is_idle() || state.error.is_some() {
            return Ok(state);
        }
        let (progress, left, total) = match state.step.as_str() {
            "idle" => {
                drop(sealing.take());
                let progress = moving.get_or_insert_with(|| Progress::records("moving"));
                (progress, state.names.records_left, state.names.records_total)
            }
            _ => {
                let progress = sealing.get_or_insert_with(|| Progress::records("sealing again"));
                (progress, state.records_left, state.records_total)
            }
        };
        progress.show(total.saturating_sub(left), total);
        tokio::time::sleep(PAUSE).await;
    }
}

fn show(output: Output, state: &Rotation) -> Result<Exit, Failure> {
    if output.wants_json() {
        output.serialized(state)?;
    } else {
        let mut rows = vec![
            ("step", state.step.clone()),
            ("term", format!("{}, made {}", state.term, state.install_time)),
            ("seals", state.encryptions.to_string()),
        ];
        if state.step != "idle" {
            let terms: Vec<_> = state.retiring.iter().map(u32::to_string).collect();
            rows.push(("retiring", terms.join(", ")));
            rows.push((
                "records left",
                format!("{} of {}", state.records_left, state.records_total),
            ));
        }
        let gone = state.destroyed.iter();
        rows.extend(
            gone.map(|gone| ("destroyed", format!("{}, at {}", gone.term, gone.destroyed_at))),
        );
        rows.extend(rows_of(&state.names));
        output.table(["KEY", "VALUE"], &rows.into_iter().map(row).collect::<Vec<_>>())?;
    }
    match &state.error {
        Some(error) => Err(Failure::new(format!("the rotation does not go on: {error}"))
            .hint("kista operator verify --wait")),
        None if state.is_idle() => Ok(Exit::Done),
        None => {
            output::note(
                "it goes on in the background\nnext:  kista operator rotate status --wait",
            );
            Ok(Exit::Done)
        }
    }
}

/// What is told of the key of names.
fn rows_of(names: &NamesRotation) -> Vec<(&'static str, String)> {
    let mut rows = vec![("names", format!("generation {}, {}", names.generation, names.step))];
    if names.step == "move" {
        rows.push(("names left", format!("{} of {}", names.records_left, names.records_total)));
    }
    let gone = names.destroyed.iter();
    rows.extend(gone.map(|gone| {
        ("names destroyed", format!("generation {}, at {}", gone.generation, gone.destroyed_at))
    }));
    rows
}

fn row((key, value): (&str, String)) -> [Cell; 2] {
    [Cell::Plain(key.to_owned()), Cell::Plain(value)]
}

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(200);
