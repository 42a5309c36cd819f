//! Kista's own routes for a secret with its whole history, or a folder of them: `tree/copy`,
//! `tree/move`, `tree/delete` and `tree/destroy`.
//!
//! Who may do it is who may do it by hand: every secret's rights are asked before the first is
//! touched, and one that is denied refuses all. What fits one commit is done in one; more is done
//! in several, as long as a call may take, and the answer says where the next one goes on.
//!
//! - `api.rs`: wire types; `rights.rs`: what a caller must be allowed
//! - `transfer.rs`: secrets under other paths; `copy.rs`: one with its history
//! - `records.rs`: what that takes of a commit

mod api;
mod copy;
mod records;
mod rights;
mod transfer;

use std::time::Duration;

pub(super) use copy::sweep;
use tokio::time::Instant;

use self::{
    api::{DoneOutput, Existing, RemoveInput, TransferInput},
    records::Size,
    rights::{Act, Removal, Rights, Way},
    transfer::Transfer,
};
use super::{
    Kv2,
    store::{self, SECRETS},
};
use crate::{
    barrier::{Batch, CommitError},
    engines::{TRIES, listing::Walk, too_many_writes},
    gate::{ApiError, Permit},
    route::Reply,
};

impl Kv2 {
    /// `POST tree/copy/:path`.
    pub(super) async fn copy_tree(
        &self,
        permit: &Permit<'_>,
        input: TransferInput,
    ) -> Result<Reply<DoneOutput>, ApiError> {
        transfer(permit, input, Way::Copy).await
    }

    /// `POST tree/move/:path`.
    pub(super) async fn move_tree(
        &self,
        permit: &Permit<'_>,
        input: TransferInput,
    ) -> Result<Reply<DoneOutput>, ApiError> {
        transfer(permit, input, Way::Move).await
    }

    /// `POST tree/delete/:path`: hides the newest version of each secret.
    pub(super) async fn delete_tree(
        &self,
        permit: &Permit<'_>,
        input: RemoveInput,
    ) -> Result<Reply<DoneOutput>, ApiError> {
        remove(permit, input, Removal::Delete).await
    }

    /// `POST tree/destroy/:path`: takes each secret away with all its versions.
    pub(super) async fn destroy_tree(
        &self,
        permit: &Permit<'_>,
        input: RemoveInput,
    ) -> Result<Reply<DoneOutput>, ApiError> {
        remove(permit, input, Removal::Destroy).await
    }
}

/// What a call is for: one secret, or all below a folder.
#[derive(Debug)]
struct Subject {
    /// Ends in a slash, or is empty, where it is a folder.
    path: String,
    /// A path below the folder, behind which it goes on.
    after: String,
}

impl Subject {
    fn is_folder(&self) -> bool {
        self.path.is_empty() || self.path.ends_with('/')
    }

    /// The secrets that are there, by their paths below the folder; of one secret an empty one.
    ///
    /// # Errors
    /// 404 when there is none, unless this goes on with others.
    async fn secrets(&self, permit: &Permit<'_>) -> Result<Vec<String>, ApiError> {
        let view = permit.storage();
        if !self.is_folder() {
            let is_there = store::exists(view, &self.path).await?;
            return if is_there { Ok(vec![String::new()]) } else { Err(ApiError::not_found()) };
        }
        let folder = self.path.trim_end_matches('/');
        let mut walk = Walk::behind(view, SECRETS, folder, &self.after, usize::MAX).await?;
        let mut found = Vec::new();
        while let Some(path) = walk.next(usize::MAX).await? {
            found.push(path);
        }
        if found.is_empty() && self.after.is_empty() {
            return Err(ApiError::not_found());
        }
        Ok(found)
    }
}

async fn transfer(
    permit: &Permit<'_>,
    input: TransferInput,
    way: Way,
) -> Result<Reply<DoneOutput>, ApiError> {
    let rights = Rights::of(permit, Act::Transfer(way));
    rights.check_subject(&input.subject)?;
    let existing = input.check()?;
    let secrets = input.subject.secrets(permit).await?;
    let mut transfers = Vec::with_capacity(secrets.len());
    let mut skipped = 0;
    for name in secrets {
        let transfer = Transfer::of(&input.subject.path, &input.to, name);
        rights.check(&transfer.from, Some(&transfer.to))?;
        if store::exists(permit.storage(), &transfer.to).await? {
            match existing {
                Existing::Skip => {
                    skipped += 1;
                    continue;
                }
                Existing::Fail => return Err(taken(&transfer.to)),
            }
        }
        transfers.push(transfer);
    }
    let mut done = Done::new(skipped);
    while done.count < transfers.len() && done.has_time() {
        let rest = transfers.get(done.count..).unwrap_or_default();
        let moved = transfer_some(permit, way, rest).await?;
        done.passed(moved, rest.get(moved.saturating_sub(1)).map(|last| last.name.as_str()));
    }
    Ok(Reply::of(done.output(transfers.len())))
}

/// Transfers the first of these in one commit, as many as it carries.
async fn transfer_some(
    permit: &Permit<'_>,
    way: Way,
    transfers: &[Transfer],
) -> Result<usize, ApiError> {
    for _ in 0..TRIES {
        let mut batch = Batch::default();
        let filled = transfer::fill(&mut batch, permit, way, transfers).await?;
        if batch.is_empty() {
            return Ok(filled.secrets);
        }
        match permit.commit(batch).await {
            Ok(()) => return Ok(filled.secrets),
            Err(CommitError::Conflict) => {
                for copy in filled.marked {
                    copy.discard(permit.storage()).await?;
                }
                for transfer in transfers.iter().take(filled.secrets) {
                    if store::exists(permit.storage(), &transfer.to).await? {
                        return Err(taken(&transfer.to));
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(too_many_writes())
}

async fn remove(
    permit: &Permit<'_>,
    input: RemoveInput,
    removal: Removal,
) -> Result<Reply<DoneOutput>, ApiError> {
    let rights = Rights::of(permit, Act::Remove(removal));
    rights.check_subject(&input.subject)?;
    let secrets = input.subject.secrets(permit).await?;
    let path = |name: &str| format!("{}{name}", input.subject.path);
    for name in &secrets {
        rights.check(&path(name), None)?;
    }
    let mut done = Done::new(0);
    while done.count < secrets.len() && done.has_time() {
        let rest = secrets.get(done.count..).unwrap_or_default();
        let some: Vec<_> = rest.iter().take(REMOVED_AT_ONCE).map(|name| path(name)).collect();
        let removed = remove_some(permit, removal, &some).await?;
        done.passed(removed, rest.get(removed.saturating_sub(1)).map(String::as_str));
    }
    if removal == Removal::Destroy {
        store::sweep(permit.storage()).await?;
    }
    Ok(Reply::of(done.output(secrets.len())))
}

/// Removes the first of these in one commit, as many as it carries.
async fn remove_some(
    permit: &Permit<'_>,
    removal: Removal,
    paths: &[String],
) -> Result<usize, ApiError> {
    for _ in 0..TRIES {
        let mut batch = Batch::default();
        let count = add_removals(&mut batch, permit, removal, paths).await?;
        if batch.is_empty() {
            return Ok(count);
        }
        match permit.commit(batch).await {
            Ok(()) => return Ok(count),
            Err(CommitError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(too_many_writes())
}

/// Adds removals to a batch, as many as it carries; one at least.
async fn add_removals(
    batch: &mut Batch,
    permit: &Permit<'_>,
    removal: Removal,
    paths: &[String],
) -> Result<usize, ApiError> {
    let view = permit.storage();
    let mut size = Size::default();
    for (count, path) in paths.iter().enumerate() {
        let Some(held) = store::load(view, path).await? else { continue };
        let fits = size.add(match removal {
            Removal::Destroy => records::size_destroyed(&held),
            Removal::Delete => records::size_of_record(&held)?,
        });
        if !fits && !batch.is_empty() {
            return Ok(count);
        }
        match removal {
            Removal::Destroy => store::remove(batch, view, path, &held),
            Removal::Delete => store::add_deletion(batch, view, path, &held, permit.now())?,
        }
    }
    Ok(paths.len())
}

fn taken(path: &str) -> ApiError {
    ApiError::bad_request(format!(
        "there is a secret at {path} already: nothing was done to it; `existing` \"skip\" passes over such"
    ))
}

/// How far a call has come.
struct Done {
    count: usize,
    skipped: usize,
    last: String,
    end: Instant,
}

impl Done {
    fn new(skipped: usize) -> Self {
        Self { count: 0, skipped, last: String::new(), end: Instant::now() + LONGEST }
    }

    fn has_time(&self) -> bool {
        self.count == 0 || Instant::now() < self.end
    }

    fn passed(&mut self, count: usize, last: Option<&str>) {
        self.count += count;
        self.last = last.unwrap_or_default().to_owned();
    }

    fn output(self, all: usize) -> DoneOutput {
        let is_finished = self.count == all;
        DoneOutput {
            secrets: self.count,
            skipped: self.skipped,
            left: all - self.count,
            finished: is_finished,
            after: (!is_finished).then_some(self.last),
        }
    }
}

/// How long one call works: a client shows how far it is, and its time does not run out.
const LONGEST: Duration = Duration::from_secs(5);
/// Most secrets of one commit of removals, an operation each at least.
const REMOVED_AT_ONCE: usize = 120;
