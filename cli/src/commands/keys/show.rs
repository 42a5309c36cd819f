use clap::Args;
use kista::client::{Error, Key, Usage as KeyUsage};
use serde::Serialize;

use super::{MountArguments, TransitMount};
use crate::{
    failure::{Exit, Failure},
    output::{Cell, Output},
};

/// List the keys of a mount.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista key ls\n  kista key ls --long")]
pub(crate) struct Ls {
    /// With type and versions; each key is read for that
    #[arg(long)]
    long: bool,
    #[command(flatten)]
    mount: MountArguments,
}

/// Show what is known of a key: its type, its versions, what it may do. Never the key itself.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista key show pii")]
pub(crate) struct Show {
    /// Its name
    name: String,
    #[command(flatten)]
    mount: MountArguments,
}

/// Show how much each version of a key is used, and when it last was.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista key usage pii")]
pub(crate) struct Usage {
    /// Its name
    name: String,
    #[command(flatten)]
    mount: MountArguments,
}

#[derive(Serialize)]
struct Names<'a> {
    mount: &'a str,
    keys: &'a [String],
}

#[derive(Serialize)]
struct InDetail<'a> {
    mount: &'a str,
    keys: &'a [Key],
}

impl Ls {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mount = self.mount.find()?;
        let names = match mount.keys().list().await {
            Ok(names) => names,
            Err(error) => return Err(mount.explain("list the keys", error).await),
        };
        let output = Output::new(self.mount.server.json);
        if !self.long {
            if output.wants_json() {
                output.serialized(&Names { mount: mount.path(), keys: &names })?;
                return Ok(Exit::Done);
            }
            for name in &names {
                output.line(name)?;
            }
            return Ok(Exit::Done);
        }
        let mut keys = Vec::with_capacity(names.len());
        for name in &names {
            keys.push(mount.read(name).await?);
        }
        if output.wants_json() {
            output.serialized(&InDetail { mount: mount.path(), keys: &keys })?;
            return Ok(Exit::Done);
        }
        let rows: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let newest = key.latest_version.to_string();
                let decrypting = key.min_decryption_version.to_string();
                [key.name, key.kind, newest, decrypting].map(Cell::Plain)
            })
            .collect();
        output.table(["NAME", "TYPE", "VERSION", "DECRYPTS FROM"], &rows)?;
        Ok(Exit::Done)
    }
}

impl Show {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mount = self.mount.find()?;
        let key = mount.read(&self.name).await?;
        let output = Output::new(self.mount.server.json);
        if output.wants_json() {
            output.serialized(&key)?;
            return Ok(Exit::Done);
        }
        let mut rows: Vec<_> = facts(&key)
            .into_iter()
            .map(|(name, value)| [name.to_owned(), value].map(Cell::Plain))
            .collect();
        for (version, made) in key.keys {
            rows.push([format!("version {version}"), made.created].map(Cell::Plain));
            for line in made.public_key.iter().flat_map(|key| key.lines()) {
                rows.push([String::new(), line.to_owned()].map(Cell::Plain));
            }
        }
        output.table(["OF THE KEY", ""], &rows)?;
        Ok(Exit::Done)
    }
}

impl Usage {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mount = self.mount.find()?;
        let usage = match mount.keys().usage(&self.name).await {
            Ok(usage) => usage,
            Err(error) => {
                let doing = format!("read the usage of the key {}", self.name);
                return Err(mount.explain(&doing, error).await);
            }
        };
        let output = Output::new(self.mount.server.json);
        if output.wants_json() {
            output.serialized(&usage)?;
            return Ok(Exit::Done);
        }
        let rows: Vec<_> = rows(&usage, 1).into_iter().map(|row| row.map(Cell::Plain)).collect();
        output.table(["VERSION", "ENCRYPTIONS", "DECRYPTIONS", "LAST USED"], &rows)?;
        Ok(Exit::Done)
    }
}

/// How much the versions from `from` on are used: version, encryptions, decryptions, last use.
fn rows(usage: &KeyUsage, from: u64) -> Vec<[String; 4]> {
    let versions = usage.versions.range(from..);
    versions
        .map(|(version, used)| {
            [
                version.to_string(),
                used.encryptions.to_string(),
                used.decryptions.to_string(),
                used.last_used.clone().unwrap_or_else(|| "never".to_owned()),
            ]
        })
        .collect()
}

/// How the versions below `below` are used, in sentences for a person who is about to end them.
/// None where the server does not count.
pub(super) async fn old_usage(
    mount: &TransitMount,
    name: &str,
    below: u64,
) -> Result<Option<Vec<String>>, Failure> {
    let usage = match mount.keys().usage(name).await {
        Ok(usage) => usage,
        Err(Error::NotFound | Error::Denied { .. } | Error::Other { status: 404 | 405, .. }) => {
            return Ok(None);
        }
        Err(error) => {
            let doing = format!("read the usage of the key {name}");
            return Err(mount.explain(&doing, error).await);
        }
    };
    let sentence = |[version, encryptions, decryptions, last]: [String; 4]| match last.as_str() {
        "never" => format!("  v{version}: never used"),
        _ => format!(
            "  v{version}: {encryptions} encryptions, {decryptions} decryptions, last used {last}"
        ),
    };
    let below: Vec<_> = rows(&usage, 0)
        .into_iter()
        .take_while(|[version, ..]| version.parse::<u64>().is_ok_and(|version| version < below))
        .map(sentence)
        .collect();
    Ok(Some(below))
}

fn facts(key: &Key) -> Vec<(&'static str, String)> {
    let yes_or_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let encrypts_from = match key.min_encryption_version {
        0 => "the newest".to_owned(),
        version => version.to_string(),
    };
    let rotates = match key.auto_rotate_period {
        0 => "by hand".to_owned(),
        seconds => format!("by itself, every {seconds} s"),
    };
    vec![
        ("name", key.name.clone()),
        ("type", key.kind.clone()),
        ("newest version", key.latest_version.to_string()),
        ("decrypts from", key.min_decryption_version.to_string()),
        ("encrypts from", encrypts_from),
        ("rotates", rotates),
        ("derived", yes_or_no(key.derived)),
        ("convergent", yes_or_no(key.convergent_encryption)),
        ("imported", yes_or_no(key.imported_key)),
        ("exportable", yes_or_no(key.exportable)),
        ("backup in the clear", yes_or_no(key.allow_plaintext_backup)),
        ("may be deleted", yes_or_no(key.deletion_allowed)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_usage_begin_where_they_are_asked_to() {
        let usage: KeyUsage = serde_json::from_str(
            r#"{"versions":{"1":{"encryptions":5,"decryptions":7,"last_used":"2026-01-01T00:00:00Z"},
                "2":{"encryptions":0,"decryptions":0,"last_used":null}},"latest_version":2}"#,
        )
        .unwrap();
        assert_eq!(rows(&usage, 2), [["2", "0", "0", "never"].map(str::to_owned)]);
        assert_eq!(rows(&usage, 1).len(), 2);
    }
}
