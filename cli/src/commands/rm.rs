use clap::Args;
use kista::client::Removal;
use serde::Serialize;

use super::{below, plain, target::Target};
use crate::{
    arguments::ServerArguments,
    consent::Consent,
    failure::{Exit, Failure},
    output::{self, Output},
    progress::Progress,
    reference::Place,
    server::Server,
};

/// Delete the current version of a secret, or with -r of every secret below a folder.
///
/// What is deleted is hidden, and `kista undelete` brings it back; --destroy takes the secrets away
/// for good, with all their versions. Of a folder the path is to be typed, unless --yes is given. A
/// mount of KV version 1 has no versions: what is removed there is gone.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista rm secret/app/db\n  kista rm -r secret/app/old/ --dry-run"
)]
pub(crate) struct Rm {
    /// Secret or folder, such as secret/app/db or secret/app/
    path: Place,
    /// Every secret below the folder
    #[arg(short, long)]
    recursive: bool,
    /// Take all versions away, for good
    #[arg(long)]
    destroy: bool,
    #[command(flatten)]
    consent: Consent,
    /// Show what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// What was done, as `--json` tells it.
#[derive(Serialize)]
struct Removed<'a> {
    path: &'a str,
    secrets: u64,
    destroyed: bool,
}

impl Rm {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        if self.path.ends_with('/') && !self.recursive {
            return Err(Failure::usage(format!("{} is a folder", self.path))
                .hint(format!("all below it: kista rm -r {}", self.path)));
        }
        let server = Server::find_for(&self.server, &self.path)?;
        let target =
            below::subject_of_any(&server, &self.path, self.recursive, self.verb()).await?;
        let output = Output::new(self.server.json);
        if self.dry_run {
            return below::show(&output, &server, &target, None).await;
        }
        let is_final = self.destroy || !target.has_versions();
        if (self.recursive || is_final) && !self.consent.is_given() {
            self.confirm(&server, &target, is_final).await?;
        }
        if !target.has_versions() {
            return Self::remove_plain(&server, &target, &output).await;
        }
        let kv2 = target.kv2(&server.client);
        let removal = if self.destroy { Removal::Destroy } else { Removal::Delete };
        let call =
            async |after: Option<String>| kv2.remove(&target.path, removal, after.as_deref()).await;
        let doing = format!("{} {}", self.verb(), self.path);
        let done = match below::to_the_end("removing", call).await {
            Ok(done) => done,
            Err(broken) => {
                return Err(below::explain(&server, &doing, self.needed(), broken).await);
            }
        };
        let path = &target.whole();
        if output.wants_json() {
            let (secrets, destroyed) = (done.secrets, self.destroy);
            output.serialized(&Removed { path, secrets, destroyed })?;
        } else {
            let word = if self.destroy { "destroyed" } else { "deleted" };
            output::note(&format!("{word}: {} at {path}", below::count(done.secrets)));
        }
        Ok(Exit::Done)
    }

    /// Removes the secrets of a mount without versions, one after the other.
    async fn remove_plain(
        server: &Server,
        target: &Target,
        output: &Output,
    ) -> Result<Exit, Failure> {
        let paths = below::paths(server, target).await?;
        let progress = Progress::records("removing");
        let total = paths.len() as u64;
        for (done, path) in (0..).zip(&paths) {
            progress.show(done, total);
            if let Err(failure) = plain::delete(server, &target.with_path(path).whole()).await {
                progress.aside(|| output::note(&format!("removed so far: {}", below::count(done))));
                return Err(failure);
            }
        }
        drop(progress);
        let path = &target.whole();
        if output.wants_json() {
            output.serialized(&Removed { path, secrets: total, destroyed: true })?;
        } else {
            output::note(&format!("destroyed: {} at {path}", below::count(total)));
        }
        Ok(Exit::Done)
    }

    /// Has the path typed by a person who did not say --yes.
    async fn confirm(
        &self,
        server: &Server,
        target: &Target,
        is_final: bool,
    ) -> Result<(), Failure> {
        let secrets = below::paths(server, target).await?.len();
        let secrets = below::count(u64::try_from(secrets).unwrap_or(u64::MAX));
        let whole = target.whole();
        let what = if is_final { "destroys, for good, " } else { "deletes " };
        output::note(&format!("this {what}{secrets} at {whole}"));
        self.consent.typed("path", &whole)
    }

    fn verb(&self) -> &'static str {
        if self.destroy { "destroy" } else { "delete" }
    }

    /// What a policy must grant.
    fn needed(&self) -> &'static str {
        if self.destroy {
            "on each secret \"delete\" of metadata/, on a folder \"list\" of metadata/"
        } else {
            "on each secret \"delete\" of data/, on a folder \"list\" of metadata/"
        }
    }
}
