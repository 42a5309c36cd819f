use std::{str::FromStr, time::Duration};

use clap::Args;
use kista::{
    client::{CheckAndSet, Error, Fields, JsonValue, Verb},
    clock,
    secret::SecretString,
};

use super::{plain, target::Target, written};
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
///
/// --ttl has this version and those after it deleted by themselves, each when it is that old. A note
/// and tags stand beside the secret, in what is known of all its versions: they are no place for
/// secrets. `kista log` shows them.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista put secret/app/db url=postgres://db/app password=-\n  \
                         kista put secret/app/db url=env:DB_URL --generate password:32\n  \
                         kista put secret/app/tls key=@key.pem cert=@cert.pem --cas new\n  \
                         kista put secret/app/otp code=- --ttl 1h --note 'for the audit' --tag owner=ops")]
pub(crate) struct Put {
    /// Mount and path, such as secret/app/db
    path: Place,
    /// KEY, KEY=-, KEY=@FILE, KEY=env:NAME or KEY=VALUE
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// Write only if this is the current version, or `new`: only if there is none
    #[arg(long, value_name = "N|new")]
    cas: Option<Expected>,
    /// Delete this version, and those written after it, when it is that old; 0s: never
    #[arg(long, value_name = "DURATION", value_parser = clock::parse_duration)]
    ttl: Option<Duration>,
    /// What the secret is for, for people
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Something to know it by, such as owner=team-a; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag)]
    tag: Vec<(String, String)>,
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
        let target = Target::secret_of_any(&server, &self.path, "write").await?;
        if !target.has_versions() {
            self.refuse_what_needs_versions(&target)?;
        }
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

    /// Sets what is known of all versions. It comes first: a version's end is fixed when it is written.
    async fn describe(&self, server: &Server, target: &Target) -> Result<(), Failure> {
        let text = |text: &str| JsonValue::string(&SecretString::copy_of(text));
        let mut body = Fields::new();
        if let Some(ttl) = self.ttl {
            body.set("delete_version_after", text(&format!("{}s", ttl.as_secs())));
        }
        let note = self.note.iter().map(|note| (NOTE, note.as_str()));
        let tags = self.tag.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut custom = Fields::new();
        for (name, value) in note.chain(tags) {
            custom.set(name, text(value));
        }
        if !custom.is_empty() {
            body.set("custom_metadata", JsonValue::from(&custom));
        }
        if body.is_empty() {
            return Ok(());
        }
        let place = target.metadata_route();
        let call = async |verb| server.client.call(verb, &place, "", Some(body.to_json())).await;
        let described = match call(Verb::Patch).await {
            // The first write makes it; a patch leaves what others have set.
            Err(Error::NotFound) => call(Verb::Write).await,
            described => described,
        };
        match described {
            Ok(_) => Ok(()),
            Err(error) => Err(server.explain(&format!("describe {}", self.path), error).await),
        }
    }

    fn refuse_what_needs_versions(&self, target: &Target) -> Result<(), Failure> {
        let given = [
            ("--cas", self.cas.is_some()),
            ("--ttl", self.ttl.is_some()),
            ("--note", self.note.is_some()),
            ("--tag", !self.tag.is_empty()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => Err(plain::no_versions(target, name)),
            None => Ok(()),
        }
    }

    async fn write(
        &self,
        server: &Server,
        target: &Target,
        fields: &Fields,
    ) -> Result<Exit, Failure> {
        let output = Output::new(self.server.json);
        if !target.has_versions() {
            plain::write(server, target, fields).await?;
            return written::print_plain(&output, target, fields);
        }
        self.describe(server, target).await?;
        let expected = self.cas.map(|Expected(expected)| expected);
        let written = match target.kv2(&server.client).write(&target.path, fields, expected).await {
            Ok(written) => written,
            Err(error) => return Err(written::failure(server, "write", &self.path, error).await),
        };
        written::print(&output, target, fields, &written)
    }
}

fn tag(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some(("", _)) | None => Err("it is NAME=VALUE"),
        Some((NOTE, _)) => Err("that is --note"),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
    }
}

/// The name under which a note stands among the tags.
const NOTE: &str = "note";

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
