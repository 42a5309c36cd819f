use std::time::Duration;

use clap::Args;
use kista::client::{Error, Found, Verification, Verified};

use super::examine::Folder;
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Cell, Output},
    progress::Progress,
    server::Server,
};

/// Have the server verify its whole store: every record is opened, and all of them are held
/// against the newest commit.
///
/// The server does so by itself after each unseal and daily; the store is served meanwhile. An
/// index that is wrong is rebuilt from the journal; when that does not help the vault is sealed.
///
/// With --data it reads the files of a stopped server itself, and names each damage by file, byte
/// and what it held. Nothing is changed. Without a secret it checks their structure; with the
/// secret of a key slot every record is opened.
///
/// Ends with 10 when something was found, repaired or not. --json prints the answer of
/// `sys/verify`, or what the files hold.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator verify --wait\n  \
                         kista operator verify --data /var/lib/kista --keyfile seal.key")]
pub(crate) struct Verify {
    /// Wait for the result
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    server: ServerArguments,
}

impl Verify {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        self.folder.check()?;
        let output = Output::new(self.server.json);
        if let Some(data) = self.folder.data.clone() {
            return self.folder.examine(data, output).await;
        }
        let server = Server::find(&self.server)?;
        let before = self.ask(&server, Ask::State).await?;
        let begun = self.ask(&server, Ask::Begin).await?;
        if !self.wait {
            return show(output, &begun, before.last.as_ref());
        }
        let ended = self.wait(&server, &before).await?;
        show(output, &ended, ended.last.as_ref())
    }

    async fn wait(&self, server: &Server, before: &Verification) -> Result<Verification, Failure> {
        let progress = Progress::records("verifying");
        let ended = |last: &Option<Verified>| last.as_ref().map(|last| last.ended.clone());
        loop {
            let state = self.ask(server, Ask::State).await?;
            if state.is_idle() && ended(&state.last) != ended(&before.last) {
                return Ok(state);
            }
            progress.show(state.records_done, state.records_total);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&self, server: &Server, ask: Ask) -> Result<Verification, Failure> {
        let sys = server.client.sys();
        let answer = match ask {
            Ask::State => sys.verification().await,
            Ask::Begin => sys.verify().await,
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(Error::Sealed) => {
                // It may have sealed itself for what it found.
                let status = sys.seal_status().await;
                let found = status.ok().into_iter().flat_map(|status| status.warnings);
                match found.into_iter().find(|warning| warning.starts_with("tampered")) {
                    Some(found) => Err(Failure::new(found)
                        .hint("the vault is sealed; its log tells more, and a backup may help")
                        .exit(Exit::Found)),
                    None => Err(server.explain("verify", Error::Sealed).await),
                }
            }
            Err(error) => Err(server.explain("verify", error).await),
        }
    }
}

#[derive(Clone, Copy)]
enum Ask {
    State,
    Begin,
}

/// Prints the state and what a verification has found.
fn show(output: Output, state: &Verification, result: Option<&Verified>) -> Result<Exit, Failure> {
    if output.wants_json() {
        output.serialized(state)?;
    }
    if !state.is_idle() {
        output::note("the server verifies its store\nnext:  kista operator verify --wait");
        return Ok(Exit::Done);
    }
    let Some(result) = result else { return Ok(Exit::Done) };
    if !output.wants_json() {
        let rows: Vec<_> = result.findings.iter().map(row).collect();
        if !rows.is_empty() {
            output.table(["FAULT", "MOUNT", "RECORD"], &rows)?;
        }
    }
    let records = result.records;
    match result.result.as_str() {
        "good" => {
            output::note(&format!("{records} records verified: all is well"));
            return Ok(Exit::Done);
        }
        "repaired" => output::warn(&format!(
            "the index was wrong and has been rebuilt; {records} records verified, all is well now"
        )),
        "tampered" => output::warn("the stored records are not those of the newest commit"),
        _ => {
            let why = result.reason.as_deref().unwrap_or("the server does not say why");
            return Err(Failure::new(format!("cannot verify: {why}")));
        }
    }
    Ok(Exit::Found)
}

fn row(found: &Found) -> [Cell; 3] {
    let text = |text: &Option<String>| Cell::Plain(text.clone().unwrap_or_default());
    [Cell::Plain(found.fault.clone()), text(&found.mount), text(&found.path)]
}

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(200);
