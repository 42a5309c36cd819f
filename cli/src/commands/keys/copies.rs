use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use kista::{
    client::{ExportKind, Exported, Fields, JsonValue},
    secret::{SecretBytes, SecretString},
};

use super::{MountArguments, TransitMount};
use crate::{
    consent::Consent,
    failure::{Exit, Failure},
    files::{self, Existing},
    output::{self, Cell, Output, Sight},
    prompt,
};

/// Take a key out of the vault: all its versions, or one. A person sees dots unless --show is given.
///
/// The key must be exportable; the public part of a key always is. One version comes bare, without
/// a newline at its end unless a person reads it.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista key export signer --kind public --version 1\n  \
                         kista key export orders --version 2 --out orders.key")]
pub(crate) struct Export {
    /// Its name
    name: String,
    /// Which part of it; what it is for if it is left out
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// One version
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Show it on a terminal
    #[arg(long)]
    show: bool,
    /// Write the one version to a new file, for you alone; nothing is printed
    #[arg(long, value_name = "FILE", requires = "version")]
    out: Option<PathBuf>,
    #[command(flatten)]
    mount: MountArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Encryption,
    Signing,
    Hmac,
    Public,
}

/// Copy a key with all its versions, in the clear. Whoever has the copy has the key.
///
/// The key must be exportable and allow it (kista key config NAME --exportable
/// --allow-plaintext-backup). The copy can be restored here, and in the vaults whose API this is.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista key backup orders --out orders.backup\n  \
                         kista key backup orders | age -r RECIPIENT > orders.age")]
pub(crate) struct Backup {
    /// Its name
    name: String,
    /// A new file, for you alone; stdout otherwise
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    mount: MountArguments,
}

/// Make a key from its copy, read from a file or from stdin (-).
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista key restore orders.backup\n  \
                         kista key restore orders.backup --as orders-copy")]
pub(crate) struct Restore {
    /// The copy; - is stdin
    file: PathBuf,
    /// Another name than the one it had
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Replace the key of that name, whose own versions are lost
    #[arg(long, requires = "name")]
    force: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    mount: MountArguments,
}

impl Export {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mount = self.mount.find()?;
        let kind = self.kind(&mount).await?;
        let exported = match mount.keys().export(&self.name, kind, self.version).await {
            Ok(exported) => exported,
            Err(error) => {
                let doing = format!("export the key {}", self.name);
                return Err(mount.explain(&doing, error).await);
            }
        };
        let output = Output::new(self.mount.server.json).once();
        if let Some(file) = &self.out {
            return self.write(file, &exported);
        }
        if output.wants_json() {
            output.object(&fields(&exported))?;
            return Ok(Exit::Done);
        }
        let hides = output.is_to_terminal() && !self.show && kind != ExportKind::Public;
        match (self.version, exported.versions.values().next()) {
            (Some(_), Some(key)) if !hides => output.value(key)?,
            _ => {
                let sight = if hides { Sight::Masked } else { Sight::Shown };
                let rows: Vec<_> = exported
                    .versions
                    .into_iter()
                    .map(|(version, key)| {
                        [Cell::Plain(version.to_string()), Cell::Secret(key, sight)]
                    })
                    .collect();
                output.table(["VERSION", "KEY"], &rows)?;
            }
        }
        Ok(Exit::Done)
    }

    async fn kind(&self, mount: &TransitMount) -> Result<ExportKind, Failure> {
        Ok(match self.kind {
            Some(Kind::Encryption) => ExportKind::Encryption,
            Some(Kind::Signing) => ExportKind::Signing,
            Some(Kind::Hmac) => ExportKind::Hmac,
            Some(Kind::Public) => ExportKind::Public,
            None => {
                let key = mount.read(&self.name).await?;
                match (key.supports_encryption, key.supports_signing) {
                    (true, _) => ExportKind::Encryption,
                    (false, true) => ExportKind::Signing,
                    (false, false) => ExportKind::Hmac,
                }
            }
        })
    }

    fn write(&self, file: &Path, exported: &Exported) -> Result<Exit, Failure> {
        let Some(key) = exported.versions.values().next() else {
            return Err(Failure::new("the server's answer holds no key"));
        };
        let content = key.expose(|key| SecretBytes::copy_of(key.as_bytes()));
        files::place(file, &content, Existing::Kept)?;
        output::note(&format!("{}: {} bytes, for you alone", file.display(), content.len()));
        Ok(Exit::Done)
    }
}

fn fields(exported: &Exported) -> Fields {
    let text = |text: &str| JsonValue::string(&SecretString::copy_of(text));
    let mut versions = Fields::new();
    for (version, key) in &exported.versions {
        versions.set(&version.to_string(), JsonValue::string(key));
    }
    let mut fields = Fields::new();
    fields.set("name", text(&exported.name));
    fields.set("type", text(&exported.kind));
    fields.set("keys", JsonValue::from(&versions));
    fields
}

impl Backup {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mount = self.mount.find()?;
        let name = &self.name;
        let output = Output::new(self.mount.server.json).once();
        if self.out.is_none() && output.is_to_terminal() {
            return Err(Failure::usage(
                "a copy holds the key in the clear: a terminal is no place for it",
            )
            .hint(format!("kista key backup {name} --out FILE")));
        }
        let backup = match mount.keys().backup(name).await {
            Ok(backup) => backup,
            Err(error) => return Err(mount.explain(&format!("copy the key {name}"), error).await),
        };
        if let Some(file) = &self.out {
            let content = backup.expose(|text| SecretBytes::copy_of(text.as_bytes()));
            files::place(file, &content, Existing::Kept)?;
            output::note(&format!(
                "{}: {} bytes, for you alone; whoever has them has the key",
                file.display(),
                content.len()
            ));
            if output.wants_json() {
                output.serialized(&serde_json::json!({ "name": name, "file": file }))?;
            }
            return Ok(Exit::Done);
        }
        if output.wants_json() {
            let mut fields = Fields::new();
            fields.set("backup", JsonValue::string(&backup));
            output.object(&fields)?;
        } else {
            output.value(&backup)?;
        }
        Ok(Exit::Done)
    }
}

impl Restore {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mount = self.mount.find()?;
        let backup = if self.file == Path::new("-") {
            prompt::stdin_text()?
        } else {
            prompt::text(files::read(&self.file)?, &self.file.display().to_string())?
        };
        let backup = backup.expose(|text| SecretString::copy_of(text.trim()));
        let name = self.name.as_deref();
        if let (true, Some(name)) = (self.force, name) {
            output::note(&format!(
                "this replaces the key {name}; what its own versions have encrypted is lost"
            ));
            self.consent.typed("key", name)?;
        }
        if let Err(error) = mount.keys().restore(name, &backup, self.force).await {
            let failure = mount.explain("restore the key", error).await;
            if !failure.message.contains("already exists") {
                return Err(failure);
            }
            let hint = "another name: --as NAME; in its place: --as NAME --force";
            return Err(failure.hint(hint).exit(Exit::Conflict));
        }
        let output = Output::new(self.mount.server.json);
        match output.wants_json() {
            true => output.serialized(&serde_json::json!({ "name": name }))?,
            false => output::note(&format!("{}: restored", name.unwrap_or("the key"))),
        }
        Ok(Exit::Done)
    }
}
