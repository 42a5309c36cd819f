use std::str::FromStr;

use clap::Args;
use kista::client::{Fields, JsonValue};
use kista::secret::SecretString;

use super::{changes::Changes, reading, target::Target};
use crate::{
    arguments::ServerArguments,
    context,
    failure::{Exit, Failure},
    output::{self, Output, Sight},
    reference::{Place, Reference, ReferenceError},
    server::Server,
};

/// Show which keys differ between two secrets, or two versions of one. Ends with 10 if any do.
///
/// With one path: its last version against the one before it, or the version given against the
/// current one. With --env the one path is looked at in two environments: where it holds {env}, each
/// name stands for that; else the names are contexts. Values are shown with --show alone.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista diff secret/app/db\n  \
                         kista diff secret/app/db@1 secret/app/db@3\n  \
                         kista diff secret/dev/db secret/prod/db\n  \
                         kista diff 'secret/{env}/db' --env dev,prod")]
pub(crate) struct Diff {
    /// Mount and path, such as secret/app/db or secret/app/db@2
    #[arg(value_name = "PATH[@N]")]
    from: Version,
    /// What to compare it with
    #[arg(value_name = "PATH[@N]")]
    to: Option<Version>,
    /// Two environments to compare the path in: names for {env} in it, or contexts
    #[arg(long, value_name = "A,B", value_parser = environments, conflicts_with = "to")]
    env: Option<(String, String)>,
    /// Show the values too
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// A secret, and one of its versions: `PATH`, `PATH@N` or `kista://PATH?version=N`.
#[derive(Debug, Clone)]
pub(crate) struct Version {
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
            output.changes(&changes.lines(sight))?;
        }
        Ok(if changes.is_empty() { Exit::Done } else { Exit::Found })
    }

    async fn sides(&self) -> Result<(Side, Side), Failure> {
        if let Some((a, b)) = &self.env {
            return Ok((self.read(&self.from.of(a)?).await?, self.read(&self.from.of(b)?).await?));
        }
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
        let path = match &version.place.context {
            Some(context) => format!("kista://{context}/{}", target.whole()),
            None => target.whole(),
        };
        Ok(Side { path, number: metadata.version, fields })
    }
}

impl Version {
    /// The same in an environment.
    fn of(&self, environment: &str) -> Result<Self, Failure> {
        let place = if self.place.contains(ENVIRONMENT) {
            self.place.with_path(&self.place.replace(ENVIRONMENT, environment))
        } else if context::exists(environment) {
            self.place.in_context(environment)
        } else {
            return Err(Failure::usage(format!(
                "{} holds no {ENVIRONMENT}, and there is no context {environment:?}",
                self.place
            ))
            .hint("kista diff 'secret/{env}/db' --env dev,prod; or kista context ls"));
        };
        Ok(Self { place, number: self.number })
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

fn environments(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once(',') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() && !b.contains(',') && a != b => {
            Ok((a.to_owned(), b.to_owned()))
        }
        Some(_) | None => Err("two different names, such as dev,prod"),
    }
}

/// What each name of --env stands for in a path.
const ENVIRONMENT: &str = "{env}";

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
        let of = |name: &str| "secret/{env}/a@2".parse::<Version>().unwrap().of(name).unwrap();
        assert_eq!((&*of("dev").place, of("dev").number), ("secret/dev/a", Some(2)));
        assert!("secret/a".parse::<Version>().unwrap().of("no-such-context").is_err());
        assert!(environments("a").is_err() && environments("a,a").is_err());
        assert!("secret/a@0".parse::<Version>().is_err());
        assert!("secret/a#k".parse::<Version>().is_err());
    }
}
