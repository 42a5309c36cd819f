use clap::Args;
use kista::client::KeyChanges;
use serde::Serialize;

use super::MountArguments;
use crate::{
    consent::Consent,
    failure::{Exit, Failure},
    output::{self, Output},
};

/// Make a new version of a key. It encrypts from now on; what older versions have encrypted still
/// decrypts.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista key rotate pii")]
pub(crate) struct Rotate {
    /// Its name
    name: String,
    #[command(flatten)]
    mount: MountArguments,
}

/// Change what a key may do. What is not named stays.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista key config pii --auto-rotate 2160h\n  \
                         kista key config pii --min-decryption 1     # after a retire too many\n  \
                         kista key config pii --deletion-allowed true")]
pub(crate) struct Config {
    /// Its name
    name: String,
    /// Versions below do not decrypt; to raise it: kista key retire
    #[arg(long, value_name = "N")]
    min_decryption: Option<u64>,
    /// Versions below do not encrypt; 0: only the newest does
    #[arg(long, value_name = "N")]
    min_encryption: Option<u64>,
    /// Whether it may be deleted
    #[arg(long, value_name = "true|false")]
    deletion_allowed: Option<bool>,
    /// It may be taken out of the vault; this cannot be taken back
    #[arg(long)]
    exportable: bool,
    /// It may be backed up as it is; this cannot be taken back
    #[arg(long)]
    allow_plaintext_backup: bool,
    /// A new version comes by itself after this time, such as 720h; 0: never
    #[arg(long, value_name = "DURATION")]
    auto_rotate: Option<String>,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    mount: MountArguments,
}

/// What a rotation has made, as `--json` tells it.
#[derive(Serialize)]
struct Rotated<'a> {
    name: &'a str,
    latest_version: u64,
    min_decryption_version: u64,
}

impl Rotate {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mount = self.mount.find()?;
        let name = &self.name;
        if let Err(error) = mount.keys().rotate(name).await {
            return Err(mount.explain(&format!("rotate the key {name}"), error).await);
        }
        let output = Output::new(self.mount.server.json);
        // Who may rotate it need not be allowed to read it.
        let Ok(key) = mount.keys().read(name).await else {
            match output.wants_json() {
                true => output.serialized(&serde_json::json!({ "name": name }))?,
                false => output::note(&format!("{name}: rotated")),
            }
            return Ok(Exit::Done);
        };
        let (newest, oldest) = (key.latest_version, key.min_decryption_version);
        if output.wants_json() {
            output.serialized(&Rotated {
                name,
                latest_version: newest,
                min_decryption_version: oldest,
            })?;
            return Ok(Exit::Done);
        }
        let before = newest.saturating_sub(1);
        output::note(&format!("{name}: v{before} → v{newest} ({})", still(oldest, before)));
        Ok(Exit::Done)
    }
}

/// Which of the versions up to `before` still decrypt.
fn still(oldest: u64, before: u64) -> String {
    if oldest > before {
        return "none before decrypts".to_owned();
    }
    if oldest == before {
        return format!("v{before} still decrypts");
    }
    format!("v{oldest}..v{before} still decrypt")
}

impl Config {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mount = self.mount.find()?;
        let name = &self.name;
        let changes = KeyChanges {
            min_decryption_version: self.min_decryption,
            min_encryption_version: self.min_encryption,
            deletion_allowed: self.deletion_allowed,
            exportable: self.exportable.then_some(true),
            allow_plaintext_backup: self.allow_plaintext_backup.then_some(true),
            auto_rotate_period: self.auto_rotate.clone(),
        };
        if serde_json::to_string(&changes).is_ok_and(|json| json == "{}") {
            return Err(Failure::usage("nothing to change was named")
                .hint(format!("kista key config --help; what is set: kista key show {name}")));
        }
        if let Some(version) = self.min_decryption {
            let key = mount.read(name).await?;
            if version > key.min_decryption_version {
                return Err(Failure::usage(
                    "raising the oldest version that decrypts shuts what is under older ones",
                )
                .hint(format!("kista key retire {name} --below {version} shows their use first")));
            }
        }
        if self.exportable || self.allow_plaintext_backup {
            let what =
                if self.exportable { "taken out of the vault" } else { "backed up as it is" };
            output::note(&format!("the key {name} may be {what} then, and that stays so"));
            self.consent.agreed("go on")?;
        }
        if let Err(error) = mount.keys().configure(name, &changes).await {
            return Err(mount.explain(&format!("configure the key {name}"), error).await);
        }
        let output = Output::new(self.mount.server.json);
        match output.wants_json() {
            true => output.serialized(&serde_json::json!({ "name": name, "changed": changes }))?,
            false => output::note(&format!("{name}: changed")),
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_still_decrypts_is_told_in_words() {
        assert_eq!(still(1, 3), "v1..v3 still decrypt");
        assert_eq!(still(3, 3), "v3 still decrypts");
        assert_eq!(still(4, 3), "none before decrypts");
    }
}
