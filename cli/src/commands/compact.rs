use clap::Args;
use kista::client::Compaction;

use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Cell, Output},
    progress::{ASK_AGAIN, Progress},
    server::Server,
};

/// Have the server write its journal into a snapshot, and erase what was removed.
///
/// The server does so by itself when the journal has grown, and within 15 minutes of `destroy`.
/// After this no file of the data folder holds what was destroyed or replaced before; that a disk
/// has overwritten the place is another matter. The store is served meanwhile.
///
/// --json prints the answer of `sys/compact`.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator compact --wait")]
pub(crate) struct Compact {
    /// Wait until it is done
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    server: ServerArguments,
}

impl Compact {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let output = Output::new(self.server.json);
        let mut state = match server.client.sys().compact().await {
            Ok(state) => state,
            Err(error) => return Err(server.explain("compact", error).await),
        };
        if self.wait {
            state = wait(&server, state).await?;
        }
        show(output, &state)?;
        if !state.is_idle() {
            output::note("the server compacts its store\nnext:  kista operator compact --wait");
            return Ok(Exit::Done);
        }
        match state.last {
            Some(last) if last.result != "done" => {
                let why = last.reason.unwrap_or_default();
                Err(Failure::new(format!("cannot compact: {why}"))
                    .hint("all records are there as before; try again"))
            }
            _ => Ok(Exit::Done),
        }
    }
}

async fn wait(server: &Server, mut state: Compaction) -> Result<Compaction, Failure> {
    let mut progress: Option<(String, Progress)> = None;
    while !state.is_idle() {
        if let Some(stage) = state.stage {
            // Each stage counts from nothing.
            let bar = match progress.take().filter(|(at, _)| *at == stage) {
                Some((_, bar)) => bar,
                None => Progress::bytes(label(&stage)),
            };
            bar.show(state.bytes_done, state.bytes_total);
            progress = Some((stage, bar));
        }
        tokio::time::sleep(ASK_AGAIN).await;
        state = match server.client.sys().compaction().await {
            Ok(state) => state,
            Err(error) => return Err(server.explain("compact", error).await),
        };
    }
    Ok(state)
}

fn label(stage: &str) -> &'static str {
    match stage {
        "reading" => "reading the journal",
        "writing" => "writing the snapshot",
        "checking" => "reading it back",
        "indexing" => "making a new index",
        _ => "compacting",
    }
}

fn show(output: Output, state: &Compaction) -> Result<(), Failure> {
    if output.wants_json() {
        return output.serialized(state);
    }
    let row =
        |name: &str, bytes: u64| [Cell::Plain(name.to_owned()), Cell::Plain(bytes.to_string())];
    output.table(
        ["WHAT", "BYTES"],
        &[
            row("journal", state.journal_bytes),
            row("snapshots", state.snapshot_bytes),
            row("index", state.index_bytes),
            row("free", state.free_bytes),
        ],
    )
}
