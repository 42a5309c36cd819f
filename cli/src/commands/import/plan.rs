//! What the secrets of a file change in the vault, and doing it.

use kista::{
    client::{CheckAndSet, Error, Fields, JsonValue, Secret},
    secret::SecretString,
};

use super::source::Imported;
use crate::{
    commands::{changes, target::Target, written},
    failure::{Exit, Failure},
    output::{self, Output},
    progress::Progress,
    server::Server,
};

/// All that is to be written.
#[derive(Debug)]
pub(super) struct Plan(Vec<Step>);

/// One secret.
#[derive(Debug)]
struct Step {
    target: Target,
    /// What it is to hold.
    fields: Fields,
    /// The version that the plan was made for.
    expected: CheckAndSet,
    added: Vec<String>,
    changed: Vec<String>,
    /// Keys that stay since the vault has them otherwise.
    kept: Vec<String>,
    same: usize,
}

impl Plan {
    /// Reads what is there. `keep` is whether the vault's values stay where they differ.
    pub(super) async fn make(
        server: &Server,
        secrets: Vec<Imported>,
        keep: bool,
    ) -> Result<Self, Failure> {
        let total = secrets.len() as u64;
        let progress = Progress::records("compare");
        let mut steps: Vec<Step> = Vec::with_capacity(secrets.len());
        for (done, Imported { path, fields }) in (0..).zip(secrets) {
            progress.show(done, total);
            // Mounts do not nest, so most secrets are in the mount of the one before.
            let near = steps.last().and_then(|step| step.target.beside(&path));
            let target = match near {
                Some(target) => target,
                None => Target::secret(server, &path, "write").await?,
            };
            steps.push(Step::make(server, target, &fields, keep).await?);
        }
        Ok(Self(steps))
    }

    /// Tells a person what would change.
    pub(super) fn note(&self) {
        for step in self.0.iter().filter(|step| !step.is_empty() || !step.kept.is_empty()) {
            output::note(&format!("{}:", step.target.whole()));
            for (sign, keys) in [('+', &step.added), ('~', &step.changed), ('=', &step.kept)] {
                for key in keys {
                    let why = if sign == '=' { " (the vault's value stays)" } else { "" };
                    output::change(sign, &format!("{key}{why}"));
                }
            }
        }
        let unchanged = self.0.iter().filter(|step| step.is_empty()).count();
        if unchanged > 0 {
            let word = if unchanged == 1 { "secret holds" } else { "secrets hold" };
            output::note(&format!("{unchanged} {word} all of it already"));
        }
    }

    /// The keys that the vault has otherwise, and that would be overwritten.
    pub(super) fn conflicts(&self) -> Vec<String> {
        let of = |step: &Step| {
            let path = step.target.whole();
            step.changed.iter().map(|key| format!("{path}#{key}")).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// The plan as JSON; of a dry run, or when nothing had to be done.
    pub(super) fn json(&self, is_dry: bool) -> Result<Fields, Failure> {
        let each: Result<Vec<JsonValue>, Failure> =
            self.0.iter().map(|step| step.json(None)).collect();
        report(&each?, is_dry)
    }

    /// Writes it, one secret after the other; what cannot be written does not hold up the rest.
    pub(super) async fn carry_out(self, server: &Server, output: &Output) -> Result<Exit, Failure> {
        let total = self.0.iter().filter(|step| !step.is_empty()).count() as u64;
        let progress = Progress::records("import");
        let (mut done, mut failed) = (0, Vec::new());
        let mut reports = Vec::with_capacity(self.0.len());
        for step in self.0 {
            if step.is_empty() {
                reports.push(step.json(None)?);
                continue;
            }
            progress.show(done, total);
            match step.write(server).await {
                Ok(version) => {
                    done += 1;
                    reports.push(step.json(Some(Ok(version)))?);
                    if !output.wants_json() {
                        progress.aside(|| output.line(&step.line(version)))?;
                    }
                }
                Err(failure) => {
                    reports.push(step.json(Some(Err(&failure)))?);
                    progress.aside(|| output::failure(&failure));
                    failed.push(failure);
                    // Without a vault the rest would fail in the same way.
                    if failed.last().is_some_and(|failure| failure.is_passing) {
                        break;
                    }
                }
            }
        }
        drop(progress);
        if output.wants_json() {
            output.object(&report(&reports, false)?)?;
        }
        Ok(match failed.first() {
            None => Exit::Done,
            Some(failure) => {
                output::note(&format!(
                    "{done} of {total} secrets were written; the same command goes on with the rest"
                ));
                if done == 0 { failure.exit } else { Exit::Partial }
            }
        })
    }
}

impl Step {
    async fn make(
        server: &Server,
        target: Target,
        wanted: &Fields,
        keep: bool,
    ) -> Result<Self, Failure> {
        let (mut fields, expected) = match target.kv2(&server.client).read(&target.path).await {
            Ok(Secret { fields, metadata }) => {
                (fields.unwrap_or_default(), CheckAndSet::Version(metadata.version))
            }
            Err(Error::NotFound) => (Fields::new(), CheckAndSet::New),
            Err(error) => {
                return Err(server.explain(&format!("read {}", target.whole()), error).await);
            }
        };
        let (mut added, mut changed, mut kept, mut same) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (key, value) in wanted.iter() {
            match fields.get(key) {
                Some(old) if changes::is_same(old, value) => {
                    same += 1;
                    continue;
                }
                Some(_) if keep => {
                    kept.push(key.to_owned());
                    continue;
                }
                Some(_) => changed.push(key.to_owned()),
                None => added.push(key.to_owned()),
            }
            fields.set(key, value.copy());
        }
        Ok(Self { target, fields, expected, added, changed, kept, same })
    }

    /// Whether there is nothing to write.
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty()
    }

    async fn write(&self, server: &Server) -> Result<u64, Failure> {
        let kv2 = self.target.kv2(&server.client);
        match kv2.write(&self.target.path, &self.fields, Some(self.expected)).await {
            Ok(written) => Ok(written.version),
            Err(error) => Err(written::failure(server, "write", &self.target.whole(), error).await),
        }
    }

    fn line(&self, version: u64) -> String {
        let mut line = format!("{}  version {version}", self.target.whole());
        for (what, keys) in [("added", &self.added), ("changed", &self.changed)] {
            if !keys.is_empty() {
                line.push_str(&format!("  {what}: {}", keys.join(", ")));
            }
        }
        line
    }

    fn json(&self, done: Option<Result<u64, &Failure>>) -> Result<JsonValue, Failure> {
        let text = |text: &str| JsonValue::string(&SecretString::copy_of(text));
        let mut object = Fields::new();
        object.set("path", text(&self.target.whole()));
        object.set("added", output::json(&self.added)?);
        object.set("changed", output::json(&self.changed)?);
        object.set("kept", output::json(&self.kept)?);
        object.set("same", output::json(&self.same)?);
        match done {
            Some(Ok(version)) => object.set("version", output::json(&version)?),
            Some(Err(failure)) => object.set("error", text(&failure.message)),
            None => {}
        }
        Ok(JsonValue::from(&object))
    }
}

fn report(secrets: &[JsonValue], is_dry: bool) -> Result<Fields, Failure> {
    let mut object = Fields::new();
    object.set("dry_run", output::json(&is_dry)?);
    object.set("secrets", JsonValue::list(secrets));
    Ok(object)
}
