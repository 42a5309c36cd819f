//! `cp` and `mv`: a secret with its whole history, or a folder of them, under another path.

use clap::Args;
use kista::client::{Existing, TreeDone};
use serde::Serialize;

use super::{below, target::Target};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Output},
    reference::Place,
    server::Server,
};

/// Copy a secret with all its versions, or a folder of them, inside its mount.
///
/// A folder ends in a slash, or is given with -r. Versions keep their numbers and times; settings
/// and notes go with them. Where a secret is at a new path already nothing at all is copied, unless
/// --skip-existing passes over such.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista cp secret/app/db secret/app/db-old\n  \
                         kista cp -r secret/app/dev/ secret/app/staging/ --dry-run")]
pub(crate) struct Cp {
    #[command(flatten)]
    transfer: Transfer,
}

/// Move a secret with all its versions, or a folder of them, inside its mount.
///
/// A folder ends in a slash, or is given with -r. What fits one commit (60 secrets) moves at once;
/// a larger folder moves in several, each secret whole in one of them. Where a secret is at a new
/// path already nothing at all is moved, unless --skip-existing passes over such.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista mv secret/app/db secret/app/database\n  \
                         kista mv -r secret/app/ secret/apps/api/ --dry-run")]
pub(crate) struct Mv {
    #[command(flatten)]
    transfer: Transfer,
}

#[derive(Debug, Args)]
struct Transfer {
    /// Secret or folder, such as secret/app/db or secret/app/
    from: Place,
    /// Its new path in the same mount; a secret given a folder keeps its name there
    to: Place,
    /// All below a folder
    #[arg(short, long)]
    recursive: bool,
    /// Pass over secrets whose new path is taken
    #[arg(long)]
    skip_existing: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Copy,
    Move,
}

/// What was done, as `--json` tells it.
#[derive(Serialize)]
struct Done<'a> {
    from: &'a str,
    to: &'a str,
    secrets: u64,
    skipped: u64,
}

impl Cp {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        self.transfer.run(Way::Copy).await
    }
}

impl Mv {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        self.transfer.run(Way::Move).await
    }
}

impl Transfer {
    async fn run(self, way: Way) -> Result<Exit, Failure> {
        let server = Server::find_for(&self.server, &self.from)?;
        let is_folder = self.recursive || self.from.ends_with('/');
        let from = below::subject(&server, &self.from, is_folder, way.verb()).await?;
        let to = self.new_place(&server, &from, is_folder).await?;
        let output = Output::new(self.server.json);
        if self.dry_run {
            return below::show(&output, &server, &from, Some(&to)).await;
        }
        let done = self.carry_out(way, &server, &from, &to).await?;
        let (from, to) = (&from.whole(), &to.whole());
        if output.wants_json() {
            let TreeDone { secrets, skipped, .. } = done;
            output.serialized(&Done { from, to, secrets, skipped })?;
        } else {
            let skipped = match done.skipped {
                0 => String::new(),
                skipped => format!(", {skipped} passed over: their new paths are taken"),
            };
            output::note(&format!(
                "{}: {} from {from} to {to}{skipped}",
                way.done(),
                below::count(done.secrets)
            ));
        }
        Ok(Exit::Done)
    }

    /// Where it goes, which must be in the same mount.
    async fn new_place(
        &self,
        server: &Server,
        from: &Target,
        is_folder: bool,
    ) -> Result<Target, Failure> {
        if self.to.context.is_some() && self.to.context != self.from.context {
            return Err(Failure::usage("both paths must be on one server"));
        }
        let mut to = Target::folder(server, &self.to).await?;
        if !to.is_in_mount_of(from) {
            return Err(Failure::usage(format!(
                "{} and {} are in two mounts, and a history cannot leave its mount",
                self.from, self.to
            ))
            .hint(format!(
                "what the newest version holds: kista get {} --json, and kista put",
                self.from
            )));
        }
        if is_folder {
            to.path = below::as_folder(&to.path);
        } else if self.to.ends_with('/') || to.path.is_empty() {
            let name = from.path.rsplit('/').next().unwrap_or_default();
            to.path = format!("{}{name}", below::as_folder(&to.path));
        }
        Ok(to)
    }

    async fn carry_out(
        &self,
        way: Way,
        server: &Server,
        from: &Target,
        to: &Target,
    ) -> Result<TreeDone, Failure> {
        let kv2 = from.kv2(&server.client);
        let existing = if self.skip_existing { Existing::Skip } else { Existing::Fail };
        let call = async |after: Option<String>| {
            let after = after.as_deref();
            match way {
                Way::Copy => kv2.copy(&from.path, &to.path, existing, after).await,
                Way::Move => kv2.rename(&from.path, &to.path, existing, after).await,
            }
        };
        let doing = format!("{} {} to {}", way.verb(), self.from, self.to);
        match below::to_the_end(way.doing(), call).await {
            Ok(done) => Ok(done),
            Err(broken) => Err(below::explain(server, &doing, way.needed(), broken).await),
        }
    }
}

impl Way {
    fn verb(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Move => "move",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Copy => "copying",
            Self::Move => "moving",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Copy => "copied",
            Self::Move => "moved",
        }
    }

    /// What a policy must grant.
    fn needed(self) -> &'static str {
        match self {
            Self::Copy => {
                "on each secret \"read\" of data/ and metadata/, on its new path \"create\" of data/ and \
                 \"update\" of metadata/, on a folder \"list\" of metadata/"
            }
            Self::Move => {
                "on each secret \"read\" of data/, \"read\" and \"delete\" of metadata/, on its new path \
                 \"create\" of data/ and \"update\" of metadata/, on a folder \"list\" of metadata/"
            }
        }
    }
}
