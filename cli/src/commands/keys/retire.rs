use clap::Args;
use kista::client::{Key, KeyChanges};
use serde::Serialize;

use super::{MountArguments, TransitMount, show};
use crate::{
    consent::Consent,
    failure::{Exit, Failure},
    output::{self, Output},
};

/// Have old versions of a key decrypt no more, after showing how they are used.
///
/// What is still under them is shut then: bring it under the newest version first (kista rewrap).
/// It can be taken back (kista key config NAME --min-decryption N), unless --destroy is given, which
/// takes those versions away for good.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista key usage pii\n  kista key retire pii --below 3")]
pub(crate) struct Retire {
    /// Its name
    name: String,
    /// The oldest version that goes on decrypting
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    below: u64,
    /// Destroy the older versions
    #[arg(long)]
    destroy: bool,
    /// Show how they are used, and retire none
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    mount: MountArguments,
}

/// Take a key away, with all its versions. What was encrypted with it is lost.
///
/// Its configuration must allow it: kista key config NAME --deletion-allowed true.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista key rm old")]
pub(crate) struct Rm {
    /// Its name
    name: String,
    /// Show how it is used, and take nothing away
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    mount: MountArguments,
}

/// What has become of a key's versions, as `--json` tells it.
#[derive(Serialize)]
struct Retired<'a> {
    name: &'a str,
    min_decryption_version: u64,
    destroyed: bool,
}

impl Retire {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mount = self.mount.find()?;
        let key = mount.read(&self.name).await?;
        self.check(&key)?;
        let what = if self.destroy { "are destroyed, for good" } else { "decrypt no more" };
        output::note(&format!("versions of {} below {} {what}:", self.name, self.below));
        tell_usage(&mount, &self.name, self.below).await?;
        let output = Output::new(self.mount.server.json);
        let retired = Retired {
            name: &self.name,
            min_decryption_version: self.below,
            destroyed: self.destroy,
        };
        if self.dry_run {
            output.dry_run(&retired, "retired")?;
            return Ok(Exit::Done);
        }
        self.consent.typed("key", &self.name)?;
        self.retire(&mount, &key).await?;
        if output.wants_json() {
            output.serialized(&retired)?;
        } else {
            output::note(&format!("{}: decrypts from v{} on", self.name, self.below));
        }
        Ok(Exit::Done)
    }

    fn check(&self, key: &Key) -> Result<(), Failure> {
        let (name, below) = (&self.name, self.below);
        if below > key.latest_version {
            return Err(Failure::usage(format!(
                "the newest version of {name} is {}, and it stays",
                key.latest_version
            ))
            .hint(format!("a newer one first: kista key rotate {name}")));
        }
        let is_done = if self.destroy {
            key.min_available_version >= below
        } else {
            key.min_decryption_version >= below
        };
        if is_done {
            let done = if self.destroy { "are gone already" } else { "decrypt no more as it is" };
            return Err(Failure::new(format!("versions of {name} below {below} {done}"))
                .hint(format!("kista key show {name}")));
        }
        Ok(())
    }

    async fn retire(&self, mount: &TransitMount, key: &Key) -> Result<(), Failure> {
        let keys = mount.keys();
        let mut changes = KeyChanges::default();
        if key.min_decryption_version < self.below {
            changes.min_decryption_version = Some(self.below);
        }
        let is_lower = key.min_encryption_version < self.below;
        // Trimming wants to be told that nothing older encrypts either.
        if is_lower && (self.destroy || key.min_encryption_version != 0) {
            changes.min_encryption_version = Some(self.below);
        }
        let mut done = keys.configure(&self.name, &changes).await;
        if self.destroy && done.is_ok() {
            done = keys.trim(&self.name, self.below).await;
        }
        match done {
            Ok(()) => Ok(()),
            Err(error) => {
                let doing = format!("retire versions of the key {}", self.name);
                Err(mount.explain(&doing, error).await)
            }
        }
    }
}

impl Rm {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mount = self.mount.find()?;
        let name = &self.name;
        let key = mount.read(name).await?;
        if !key.deletion_allowed {
            return Err(Failure::new(format!("the key {name} may not be deleted"))
                .hint(format!("allow it first: kista key config {name} --deletion-allowed true")));
        }
        let versions = key.latest_version;
        output::note(&format!(
            "this takes {name} away ({}, {versions} versions); what was encrypted with it is lost:",
            key.kind
        ));
        tell_usage(&mount, name, u64::MAX).await?;
        let output = Output::new(self.mount.server.json);
        if self.dry_run {
            output.dry_run(&serde_json::json!({ "name": name }), "taken away")?;
            return Ok(Exit::Done);
        }
        self.consent.typed("key", name)?;
        if let Err(error) = mount.keys().delete(name).await {
            return Err(mount.explain(&format!("delete the key {name}"), error).await);
        }
        match output.wants_json() {
            true => output.serialized(&serde_json::json!({ "name": name }))?,
            false => output::note(&format!("{name}: taken away")),
        }
        Ok(Exit::Done)
    }
}

async fn tell_usage(mount: &TransitMount, name: &str, below: u64) -> Result<(), Failure> {
    match show::old_usage(mount, name, below).await? {
        Some(lines) => lines.iter().for_each(|line| output::note(line)),
        None => output::note("  how they are used is not known: the server does not tell"),
    }
    Ok(())
}
