use std::str::FromStr;

use clap::Args;
use kista::client::{CheckAndSet, Fields};

use super::{target::Target, written};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Output},
    reference::Place,
    server::Server,
    values::{self, SourceArguments},
};

/// Write a secret: a new version that holds these keys and no others.
///
/// Without keys it asks for them. KEY=- asks for the value, or reads it from stdin, less one line
/// break at its end; KEY=@FILE takes a file to the last byte; KEY=env:NAME takes a variable.
/// --generate makes a value, as an empty answer does, and tells its strength. KEY=VALUE works, with
/// a warning: other users' process lists and your shell's history show it.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista put secret/app/db url=postgres://db/app password=-\n  \
                         kista put secret/app/db url=env:DB_URL --generate password:32\n  \
                         kista put secret/app/tls key=@key.pem cert=@cert.pem --cas new")]
pub(crate) struct Put {
    /// Mount and path, such as secret/app/db
    path: Place,
    /// KEY, KEY=-, KEY=@FILE, KEY=env:NAME or KEY=VALUE
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// Write only if this is the current version, or `new`: only if there is none
    #[arg(long, value_name = "N|new")]
    cas: Option<Expected>,
    #[command(flatten)]
    sources: SourceArguments,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Debug, Clone, Copy)]
struct Expected(CheckAndSet);

impl FromStr for Expected {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("new", _) | (_, Ok(0)) => Ok(Self(CheckAndSet::New)),
            (_, Ok(version)) => Ok(Self(CheckAndSet::Version(version))),
            (_, Err(_)) => Err("neither a version nor `new`"),
        }
    }
}

impl Put {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let assignments = self.sources.assignments(&self.keys)?;
        let server = Server::find_for(&self.server, &self.path)?;
        // The path is looked up first: who is asked for a secret should not type it in vain.
        let target = Target::secret(&server, &self.path, "write").await?;
        if let Some(meant) = target.without_api_part() {
            output::warn(&format!(
                "this writes the entry {:?} of the mount; without the API's part it is {meant}",
                target.path
            ));
        }
        let sources = self.sources.look();
        let fields = if assignments.is_empty() {
            values::ask(sources.person)?
        } else {
            values::fetch(&assignments, sources)?
        };
        self.write(&server, &target, &fields).await
    }

    async fn write(
        &self,
        server: &Server,
        target: &Target,
        fields: &Fields,
    ) -> Result<Exit, Failure> {
        let expected = self.cas.map(|Expected(expected)| expected);
        let written = match target.kv2(&server.client).write(&target.path, fields, expected).await {
            Ok(written) => written,
            Err(error) => return Err(written::failure(server, "write", &self.path, error).await),
        };
        written::print(&Output::new(self.server.json), target, fields, &written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cas_is_a_version_or_new() {
        let parse = |text: &str| text.parse::<Expected>().map(|Expected(expected)| expected);
        assert_eq!(parse("new"), Ok(CheckAndSet::New));
        assert_eq!(parse("0"), Ok(CheckAndSet::New));
        assert_eq!(parse("7"), Ok(CheckAndSet::Version(7)));
        assert!(parse("-1").is_err() && parse("old").is_err());
    }
}
