use clap::Args;
use kista::{
    client::{Error, Fields, JsonValue, Secret},
    secret::SecretString,
};

use super::{near, target::Target};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Cell, Output, Sight},
    server::Server,
};

/// Read a secret, or one of its values.
///
/// A person sees the keys, with dots for the values; a program gets lines of key, tab and value.
/// With -k the value comes as it is, without a newline at its end unless a person reads it.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista get secret/app/db\n  \
                         kista get secret/app/db -k password | cat")]
pub(crate) struct Get {
    /// Mount and path, such as secret/app/db
    path: String,
    /// The one key whose value to print
    #[arg(short, long)]
    key: Option<String>,
    /// An earlier version
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
    /// Show the values to a person too
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    server: ServerArguments,
}

impl Get {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let target = Target::secret(&server, &self.path, "read").await?;
        let kv2 = target.kv2(&server.client);
        let read = match self.version {
            Some(version) => kv2.read_version(&target.path, version).await,
            None => kv2.read(&target.path).await,
        };
        let secret = match read {
            Ok(secret) => secret,
            Err(Error::NotFound) => return Err(self.absent(&server, &target).await),
            Err(error) => return Err(server.explain(&format!("read {}", self.path), error).await),
        };
        self.print(&target, secret)?;
        Ok(Exit::Done)
    }

    async fn absent(&self, server: &Server, target: &Target) -> Failure {
        let version = self.version.map(|version| format!("version {version} of "));
        let failure =
            Failure::new(format!("there is no {}{}", version.unwrap_or_default(), self.path))
                .exit(Exit::NotFound);
        match near::hint(server, target).await {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    fn print(&self, target: &Target, secret: Secret) -> Result<(), Failure> {
        let output = Output::new(self.server.json);
        let Secret { fields, metadata } = secret;
        let Some(fields) = fields else {
            let what = format!("version {} of {}", metadata.version, self.path);
            let why = if metadata.destroyed {
                format!("{what} was destroyed")
            } else {
                format!("{what} was deleted at {}", metadata.deletion_time)
            };
            return Err(Failure::new(why).exit(Exit::NotFound));
        };
        if let Some(key) = &self.key {
            return match fields.get(key) {
                Some(value) if output.wants_json() => output.json(value),
                Some(value) => output.value(&value.plain()),
                None => Err(self.no_key(key, &fields)),
            };
        }
        if output.wants_json() {
            let mut object = Fields::new();
            object.set("path", JsonValue::string(&SecretString::copy_of(&target.whole())));
            object.set("data", JsonValue::from(&fields));
            object.set("metadata", output::json(&metadata)?);
            return output.object(&object);
        }
        let sight =
            if output.is_to_terminal() && !self.show { Sight::Masked } else { Sight::Shown };
        let rows: Vec<_> = fields
            .iter()
            .map(|(key, value)| [Cell::Plain(key.to_owned()), Cell::Secret(value.plain(), sight)])
            .collect();
        output.table(["KEY", "VALUE"], &rows)
    }

    fn no_key(&self, key: &str, fields: &Fields) -> Failure {
        let keys: Vec<&str> = fields.iter().map(|(key, _)| key).collect();
        Failure::new(format!("{} has no key {key}", self.path))
            .hint(format!("its keys: {}", keys.join(", ")))
            .exit(Exit::NotFound)
    }
}
