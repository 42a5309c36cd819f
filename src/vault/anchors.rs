//! Anchors of an open vault: what they say when it opens, and when they are written.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Settings, UnsealError, Unsealed, Vault};
use crate::{
    audit::{self, Broker, Notice},
    barrier::{
        Barrier, Batch, Collection, CommitError, Keyring, Opened, Position, ReadError, Record,
        SpaceId,
    },
    clock::{Clock, Timestamp},
    config::AnchorPolicy,
    seal::{Anchor, AnchorFile, AnchorUnusable, Judgement},
    storage::Point,
};

/// Whether a rollback keeps the vault sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rollback {
    /// It does.
    Refused,
    /// A person has accepted it: the store goes on in the next generation.
    Accepted,
}

/// What the anchors say before the journal is read.
#[derive(Debug)]
pub(super) struct Said {
    files: Vec<AnchorFile>,
    /// Those of the store's own generation, and the point that each names.
    anchors: Vec<Anchor>,
    unusable: Vec<AnchorUnusable>,
}

/// Writes the anchors of an open vault.
#[derive(Debug)]
pub struct Anchors {
    files: Vec<AnchorFile>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was written last, by position and seal epoch.
    written: Option<(Position, u64)>,
    /// When the points were kept last, and the commit that did it: it does not count as a change.
    kept: Option<(Timestamp, u64)>,
    /// Files that could not be written last time.
    failing: usize,
}

/// Points that anchors named, for anchors older than the journal; the newest come last.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct KeptPoints {
    points: Vec<(u64, u64, [u8; 32])>,
}

impl Record for KeptPoints {
    const VERSION: u8 = 1;
}

/// The points that a store keeps could not be kept.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum KeepError {
    /// They cannot be read.
    Read(#[from] ReadError),
    /// They cannot be written.
    Commit(#[from] CommitError),
    /// A task of ours broke off.
    Task(#[from] tokio::task::JoinError),
}

impl Said {
    /// Asks the anchors. Blocking.
    pub(super) fn ask(
        settings: &Settings,
        keyring: &Keyring,
        generation: u64,
        seal_epoch: u64,
        rollback: Rollback,
    ) -> Result<Self, UnsealError> {
        let disk = &settings.storage.disk;
        let file = |path: &std::path::PathBuf| {
            AnchorFile::new(disk.clone(), path, keyring.anchor_mac(), keyring.store_id())
        };
        let files: Vec<_> = settings.anchors.iter().map(file).collect();
        let (mut anchors, mut unusable) = (Vec::new(), Vec::new());
        for file in &files {
            match file.read() {
                Ok(anchor) => anchors.push(anchor),
                Err(error) => unusable.push(error),
            }
        }
        if rollback == Rollback::Accepted {
            return Ok(Self { files, anchors: Vec::new(), unusable });
        }
        if settings.anchor_policy == AnchorPolicy::Required
            && let Some(error) = unusable.pop()
        {
            return Err(UnsealError::AnchorRequired(error));
        }
        let is_early =
            |anchor: &&Anchor| anchor.judge_early(generation, seal_epoch) == Judgement::Rollback;
        if let Some(anchor) = anchors.iter().find(is_early) {
            return Err(UnsealError::RollbackDetected { seq: anchor.position.seq });
        }
        anchors.retain(|anchor| anchor.position.generation == generation);
        Ok(Self { files, anchors, unusable })
    }

    /// The commits that they name.
    pub(super) fn points(&self) -> Vec<Point> {
        let point = |anchor: &Anchor| Point {
            seq: anchor.position.seq,
            chain: Some(anchor.position.chain),
        };
        self.anchors.iter().map(point).collect()
    }

    /// The highest sequence named.
    pub(super) fn highest(&self) -> Option<u64> {
        self.anchors.iter().map(|anchor| anchor.position.seq).max()
    }

    /// Judges what the journal says of the points, which are the first of those that it was asked
    /// for. Gives words for health.
    pub(super) async fn judge(
        &self,
        barrier: &Arc<Barrier>,
        found: &Opened,
    ) -> Result<Vec<&'static str>, UnsealError> {
        let generation = barrier.position().generation;
        let kept = match kept_points(barrier).get(POINTS).await? {
            Some(kept) => kept.value.positions().collect(),
            None => Vec::new(),
        };
        let mut words = Vec::new();
        for (anchor, standing) in self.anchors.iter().zip(&found.points) {
            match anchor.judge(generation, *standing, &kept) {
                Judgement::Good => {}
                Judgement::Stale => words.push("anchor_stale"),
                Judgement::Rollback => {
                    return Err(UnsealError::RollbackDetected { seq: anchor.position.seq });
                }
            }
        }
        words.extend(self.unusable.iter().map(|_| "anchor_unusable"));
        Ok(words)
    }

    /// Tells log and audit of what was found.
    pub(super) fn tell(&self, audit: &Broker, words: &[&str]) -> Result<(), audit::AuditError> {
        for error in &self.unusable {
            tracing::warn!(%error, "anchor_unusable: nothing shows a rollback of the store");
            audit.notice(&Notice::AnchorUnusable { reason: &error.to_string() })?;
        }
        if words.contains(&"anchor_stale") {
            tracing::warn!("anchor_stale: the anchor is older than what the store can tell");
            audit.notice(&Notice::AnchorStale)?;
        }
        Ok(())
    }

    pub(super) fn writer(self, clock: &Arc<dyn Clock>) -> Anchors {
        Anchors { files: self.files, clock: Arc::clone(clock), state: Mutex::default() }
    }
}

impl Anchors {
    /// Writes where the store stands, if that or the seal file has changed since the last time.
    /// Blocking. A file that fails is told of in the log and by health, and is tried again.
    pub(super) fn write(&self, position: Position, seal_epoch: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.files.is_empty() || state.is_written(position, seal_epoch) {
            return;
        }
        state.failing = self.put(position, seal_epoch, AnchorFile::write);
        if state.failing == 0 {
            state.written = Some((position, seal_epoch));
        }
    }

    /// Writes it over all that the anchors say, after a rollback was accepted.
    pub(super) fn replace(&self, position: Position, seal_epoch: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failing = self.put(position, seal_epoch, AnchorFile::replace);
    }

    fn put(
        &self,
        position: Position,
        seal_epoch: u64,
        write: fn(&AnchorFile, &Anchor) -> io::Result<()>,
    ) -> usize {
        let anchor = Anchor { position, seal_epoch, time: self.clock.now() };
        let mut failing = 0;
        for file in &self.files {
            if let Err(error) = write(file, &anchor) {
                failing += 1;
                let file = file.path().display();
                tracing::warn!(%file, %error, "anchor_failing: the anchor cannot be written");
            }
        }
        failing
    }

    /// Anchors that could not be written the last time.
    pub(super) fn failing(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failing
    }

    /// The point to be kept in the store now, if it is time for one.
    fn point_due(&self) -> Option<Position> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (position, _) = state.written?;
        let is_new = state.kept.is_none_or(|(time, seq)| {
            position.seq > seq && self.clock.now().since(time) >= KEEP_EVERY
        });
        is_new.then_some(position)
    }

    fn kept(&self, seq: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.kept = Some((self.clock.now(), seq));
    }
}

impl State {
    fn is_written(&self, position: Position, seal_epoch: u64) -> bool {
        let Some((written, epoch)) = self.written else { return false };
        let is_kept_only = self.kept.is_some_and(|(_, seq)| seq == position.seq);
        epoch == seal_epoch && (written == position || is_kept_only)
    }
}

impl KeptPoints {
    fn positions(&self) -> impl Iterator<Item = Position> + '_ {
        self.points.iter().map(|&(generation, seq, chain)| Position { generation, seq, chain })
    }

    fn push(&mut self, position: Position) {
        let Position { generation, seq, chain } = position;
        self.points.push((generation, seq, chain));
        let over = self.points.len().saturating_sub(MOST_POINTS);
        self.points.drain(..over);
    }
}

impl Vault {
    /// Writes the anchors of the open vault, if something has changed, and now and then keeps the
    /// point that they name in the store itself, for an anchor that outlives the journal.
    ///
    /// # Errors
    /// [`KeepError`]: the anchors themselves are written.
    pub async fn anchor(&self) -> Result<(), KeepError> {
        let Some(open) = self.unsealed() else { return Ok(()) };
        anchor(&open).await?;
        let Some(position) = open.anchors.point_due() else { return Ok(()) };
        let barrier = &open.ground.barrier;
        let records = kept_points(barrier);
        let mut kept = records.get(POINTS).await?.map(|held| held.value).unwrap_or_default();
        kept.push(position);
        let mut batch = Batch::default();
        records.put(&mut batch, POINTS, &kept);
        barrier.commit(batch).await?;
        open.anchors.kept(barrier.position().seq);
        Ok(())
    }
}

/// Writes the anchors, if something has changed.
pub(super) async fn anchor(open: &Arc<Unsealed>) -> Result<(), tokio::task::JoinError> {
    let epoch = open.root.lock().await.epoch();
    let within = Arc::clone(open);
    tokio::task::spawn_blocking(move || {
        within.anchors.write(within.ground.barrier.position(), epoch);
    })
    .await
}

fn kept_points(barrier: &Arc<Barrier>) -> Collection<KeptPoints> {
    Collection::new(barrier.view(SpaceId::SYSTEM).under(&["seal"]))
}

const POINTS: &[&str] = &["anchors"];
/// Points that are kept.
const MOST_POINTS: usize = 64;
/// Time between two of them.
const KEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(600);
