use clap::Args;
use kista::client::Error;
use serde::Serialize;

use super::target::Target;
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::Output,
    reference::Place,
    server::Server,
};

/// List the names in a folder. Folders end in a slash.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista ls secret/\n  kista ls secret/app/")]
pub(crate) struct Ls {
    /// Mount, or mount and folder, such as secret/app/
    path: Place,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Serialize)]
struct Listing<'a> {
    path: &'a str,
    keys: &'a [String],
}

impl Ls {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find_for(&self.server, &self.path)?;
        let target = Target::folder(&server, &self.path).await?;
        let names = match target.kv2(&server.client).list(&target.path).await {
            Ok(names) => names,
            // An empty mount is there; an empty folder is not.
            Err(Error::NotFound) if target.path.is_empty() => Vec::new(),
            Err(Error::NotFound) => {
                let failure =
                    Failure::new(format!("there is no folder {}", self.path)).exit(Exit::NotFound);
                return Err(match target.without_api_part() {
                    Some(meant) => {
                        failure.hint(format!("leave out what only the API's paths have: {meant}"))
                    }
                    None => failure.hint(format!("kista get {}", self.path.trim_end_matches('/'))),
                });
            }
            Err(error) => return Err(server.explain(&format!("list {}", self.path), error).await),
        };
        let output = Output::new(self.server.json);
        if output.wants_json() {
            output.serialized(&Listing { path: &target.whole(), keys: &names })?;
        } else {
            for name in &names {
                output.line(name)?;
            }
        }
        Ok(Exit::Done)
    }
}
