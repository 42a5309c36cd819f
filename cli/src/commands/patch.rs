use clap::Args;
use kista::client::{Error, Fields, JsonValue};

use super::{near, target::Target, written};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::Output,
    reference::Place,
    server::Server,
    values::{self, SourceArguments},
};

/// Change some keys of a secret: a new version in which the other keys stay as they are.
///
/// Values are given as to `kista put`. The server does the change in one step, so that of two
/// patches at once none is lost. The token needs the capability "patch".
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista patch secret/app/db password=-\n  \
                         kista patch secret/app/db host=env:DB_HOST --remove port --cas 3")]
pub(crate) struct Patch {
    /// Mount and path, such as secret/app/db
    path: Place,
    /// KEY, KEY=-, KEY=@FILE, KEY=env:NAME or KEY=VALUE
    #[arg(value_name = "KEY", required_unless_present_any = ["remove", "generate"])]
    keys: Vec<String>,
    /// Take this key away; may be given again
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,
    /// Change only if this is the current version
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    cas: Option<u64>,
    #[command(flatten)]
    sources: SourceArguments,
    #[command(flatten)]
    server: ServerArguments,
}

impl Patch {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let assignments = self.sources.assignments(&self.keys)?;
        let server = Server::find_for(&self.server, &self.path)?;
        // The path is looked up first: who is asked for a secret should not type it in vain.
        let target = Target::secret(&server, &self.path, "patch").await?;
        let fields = self.with_removed(values::fetch(&assignments, self.sources.look())?)?;
        match target.kv2(&server.client).patch(&target.path, &fields, self.cas).await {
            Ok(written) => {
                let output = Output::new(self.server.json);
                written::print_patched(&output, &target, &fields, &self.remove, &written)
            }
            Err(Error::NotFound) => Err(self.absent(&server, &target).await),
            Err(error) => Err(written::failure(&server, "patch", &self.path, error).await),
        }
    }

    fn with_removed(&self, mut fields: Fields) -> Result<Fields, Failure> {
        for key in &self.remove {
            if fields.get(key).is_some() {
                return Err(Failure::usage(format!("{key} is both set and removed")));
            }
            fields.set(key, JsonValue::null());
        }
        Ok(fields)
    }

    async fn absent(&self, server: &Server, target: &Target) -> Failure {
        let path = &self.path;
        let known = target.kv2(&server.client).metadata(&target.path).await;
        if known.is_ok_and(|metadata| metadata.current_version > 0) {
            return Failure::new(format!("the current version of {path} is deleted"))
                .hint(format!(
                    "kista undelete {path}, or write another one: kista put {path} KEY=-"
                ))
                .exit(Exit::NotFound);
        }
        let near = near::hint(server, target).await;
        Failure::new(format!("there is no {path} to patch"))
            .hint(match near {
                Some(near) => format!("{near}; or make it: kista put {path} KEY=-"),
                None => format!("make it: kista put {path} KEY=-"),
            })
            .exit(Exit::NotFound)
    }
}
