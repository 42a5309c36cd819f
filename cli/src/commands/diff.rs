use std::str::FromStr;

use clap::Args;
use kista::client::{Fields, JsonValue};
use kista::secret::SecretString;

use super::{changes::Changes, reading, target::Target};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Output, Sight},
    reference::{Place, Reference, ReferenceError},
    server::Server,
};

/// Show which keys differ between two secrets, or two versions of one. Ends with 10 if any do.
///
/// With one path: its last version against the one before it, or the version given against the
/// current one. Values are shown with --show alone.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista diff secret/app/db\n  \
                         kista diff secret/app/db@1 secret/app/db@3\n  \
                         kista diff secret/dev/db secret/prod/db")]
pub(crate) struct Diff {
    /// Mount and path, such as secret/app/db or secret/app/db@2
    #[arg(value_name = "PATH[@N]")]
    from: Version,
    /// What to compare it with
    #[arg(value_name = "PATH[@N]")]
    to: Option<Version>,
    /// Show the values too
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// A secret, and one of its versions: `PATH`, `PATH@N` or `kista://PATH?version=N`.
#[derive(Debug, Clone)]
struct Version {
    place: Place,
    number: Option<u64>,
}

/// What was read for one side.
struct Side {
    path: String,
    number: u64,
    fields: Fields,
}

impl FromStr for Version {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (path, number) = match text.rsplit_once('@') {
            Some((path, number)) if !Reference::is_long(text) => match number.parse() {
                Ok(0) => return Err(ReferenceError::Version),
                Ok(number) => (path, Some(number)),
                Err(_) => (text, None),
            },
            Some(_) | None => (text, None),
        };
        match path.parse()? {
            Reference { key: Some(_), .. } => Err(ReferenceError::Key),
            Reference { place, version, .. } => Ok(Self { place, number: version.or(number) }),
        }
    }
}

impl Diff {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let (from, to) = self.sides().await?;
        let changes = Changes::between(&from.fields, &to.fields);
        let sight = if self.show { Sight::Shown } else { Sight::Masked };
        let output = Output::new(self.server.json);
        if output.wants_json() {
            let mut object = Fields::new();
            object.set("from", from.json()?);
            object.set("to", to.json()?);
            object.set("changes", changes.json(sight));
            output.object(&object)?;
        } else {
            let names = format!("{}@{} and {}@{}", from.path, from.number, to.path, to.number);
            match changes.is_empty() {
                true => output::note(&format!("{names} hold the same")),
                false => output::note(&format!("{names} differ:")),
            }
            output.lines(&changes.lines(sight))?;
        }
        Ok(if changes.is_empty() { Exit::Done } else { Exit::Found })
    }

    async fn sides(&self) -> Result<(Side, Side), Failure> {
        if let Some(to) = &self.to {
            return Ok((self.read(&self.from).await?, self.read(to).await?));
        }
        let place = self.from.place.clone();
        let current = self.read(&Version { place: place.clone(), number: None }).await?;
        let number = match self.from.number {
            Some(number) => number,
            None if current.number > 1 => current.number - 1,
            None => {
                return Err(Failure::usage(format!("{place} has only one version"))
                    .hint("name what to compare it with: kista diff PATH PATH"));
            }
        };
        Ok((self.read(&Version { place, number: Some(number) }).await?, current))
    }

    async fn read(&self, version: &Version) -> Result<Side, Failure> {
        let server = Server::find_for(&self.server, &version.place)?;
        let target = Target::secret(&server, &version.place, "read").await?;
        let read = reading::version(&server, &target, &version.place, version.number).await;
        let (fields, metadata) = read?;
        Ok(Side { path: target.whole(), number: metadata.version, fields })
    }
}

impl Side {
    fn json(&self) -> Result<JsonValue, Failure> {
        let mut object = Fields::new();
        object.set("path", JsonValue::string(&SecretString::copy_of(&self.path)));
        object.set("version", output::json(&self.number)?);
        Ok(JsonValue::from(&object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_behind_an_at_sign() {
        let parts = |text: &str| {
            let Version { place, number } = text.parse().unwrap();
            (place.to_string(), number)
        };
        assert_eq!(parts("secret/a@3"), ("secret/a".to_owned(), Some(3)));
        assert_eq!(parts("secret/a@b.org"), ("secret/a@b.org".to_owned(), None));
        assert_eq!(parts("secret/a@b.org@2"), ("secret/a@b.org".to_owned(), Some(2)));
        assert_eq!(parts("kista://secret/a@3"), ("secret/a@3".to_owned(), None));
        assert_eq!(parts("kista://secret/a?version=3"), ("secret/a".to_owned(), Some(3)));
        assert!("secret/a@0".parse::<Version>().is_err());
        assert!("secret/a#k".parse::<Version>().is_err());
    }
}
