//! Anchors of an open vault: what they say when it opens, what the store keeps for them, and when
//! they are written.

use std::sync::Arc;

use super::{Settings, UnsealError, Unsealed, Vault};
use crate::{
    audit::{self, Broker, Notice, SignedCheckpoint},
    barrier::{
        Barrier, Batch, Collection, CommitError, Keyring, Opened, Position, ReadError, Record,
        SpaceId,
    },
    clock::Clock,
    config::AnchorPolicy,
    seal::{Anchor, AnchorUnusable, Anchors, Judgement, Target},
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
    /// Who writes them from now on.
    pub(super) writer: Arc<Anchors>,
    /// Audit checkpoints that lie beside them.
    pub(super) checkpoints: Vec<SignedCheckpoint>,
    /// Those of the store's own generation, and the point that each names.
    anchors: Vec<Anchor>,
    unusable: Vec<AnchorUnusable>,
    /// What lies where an audit checkpoint should.
    no_checkpoints: Vec<AnchorUnusable>,
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
enum KeepError {
    /// They cannot be read.
    Read(#[from] ReadError),
    /// They cannot be written.
    Commit(#[from] CommitError),
}

impl Said {
    /// Asks the anchors. Blocking.
    pub(super) fn ask(
        settings: &Settings,
        clock: &Arc<dyn Clock>,
        keyring: &Keyring,
        generation: u64,
        seal_epoch: u64,
        rollback: Rollback,
    ) -> Result<Self, UnsealError> {
        let mut read = Read::default();
        let disk = &settings.storage.disk;
        let target = |path: &std::path::PathBuf| read.target(Target::new(disk, path, keyring));
        let targets: Vec<_> = settings.anchors.iter().map(target).collect();
        let signed = |checkpoint: &SignedCheckpoint| {
            let keys = keyring.audit_keys(&checkpoint.device_id);
            checkpoint.is_signed(&keys.checkpoints.public_key())
        };
        read.checkpoints.retain(signed);
        let writer = Arc::new(Anchors::new(targets, Arc::clone(clock)));
        let Read { mut anchors, mut unusable, checkpoints, no_checkpoints } = read;
        if rollback == Rollback::Accepted {
            anchors.clear();
            return Ok(Self { writer, checkpoints, anchors, unusable, no_checkpoints });
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
        Ok(Self { writer, checkpoints, anchors, unusable, no_checkpoints })
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
    /// for. Gives words for health. Asked before the audit devices are opened.
    pub(super) async fn judge(
        &mut self,
        barrier: &Arc<Barrier>,
        found: &Opened,
    ) -> Result<Vec<&'static str>, UnsealError> {
        let generation = barrier.position().generation;
        let kept: Vec<_> = match kept_points(barrier).get(POINTS).await? {
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
        if barrier.audit_mark().get().n == 0 {
            // There is no audit file, or none had been named yet: nothing was to be kept.
            self.no_checkpoints.retain(|error| !matches!(error, AnchorUnusable::Missing { .. }));
        }
        words.extend(self.unusable.iter().map(|_| "anchor_unusable"));
        words.extend(self.no_checkpoints.iter().map(|_| "anchor_checkpoint_unusable"));
        Ok(words)
    }

    /// Tells log and audit of what was found.
    pub(super) fn tell(&self, audit: &Broker, words: &[&str]) -> Result<(), audit::AuditError> {
        for error in &self.unusable {
            tracing::warn!(%error, "anchor_unusable: nothing shows a rollback of the store");
            audit.notice(&Notice::AnchorUnusable { reason: &error.to_string() })?;
        }
        for error in &self.no_checkpoints {
            tracing::warn!(
                %error,
                "anchor_checkpoint_unusable: nothing shows that the audit file was cut"
            );
            audit.notice(&Notice::AnchorCheckpointUnusable { reason: &error.to_string() })?;
        }
        if words.contains(&"anchor_stale") {
            tracing::warn!("anchor_stale: the anchor is older than what the store can tell");
            audit.notice(&Notice::AnchorStale)?;
        }
        Ok(())
    }
}

/// What the files of all anchors hold.
#[derive(Default)]
struct Read {
    anchors: Vec<Anchor>,
    unusable: Vec<AnchorUnusable>,
    checkpoints: Vec<SignedCheckpoint>,
    no_checkpoints: Vec<AnchorUnusable>,
}

impl Read {
    /// Reads one, and gives it with the point that it names.
    fn target(&mut self, target: Target) -> (Target, Option<Position>) {
        let point = match target.anchor() {
            Ok(anchor) => {
                self.anchors.push(anchor);
                Some(anchor.position)
            }
            Err(error) => {
                self.unusable.push(error);
                None
            }
        };
        match target.checkpoint() {
            Ok(checkpoint) => self.checkpoints.push(checkpoint),
            // Where the anchor itself is missing, that is told.
            Err(AnchorUnusable::Missing { .. }) if point.is_none() => {}
            Err(error) => self.no_checkpoints.push(error),
        }
        (target, point)
    }
}

impl KeptPoints {
    fn positions(&self) -> impl Iterator<Item = Position> + '_ {
        self.points.iter().map(|&(generation, seq, chain)| Position { generation, seq, chain })
    }

    /// Takes points in, the newest last; whether any is new.
    fn take(&mut self, points: &[Position]) -> bool {
        let before = self.points.clone();
        for Position { generation, seq, chain } in points {
            let point = (*generation, *seq, *chain);
            // What an anchor still names goes last again, so that it is not the first to go.
            self.points.retain(|kept| *kept != point);
            self.points.push(point);
        }
        let over = self.points.len().saturating_sub(MOST_POINTS);
        self.points.drain(..over);
        self.points != before
    }
}

impl Vault {
    /// Writes the anchors of the open vault, if something has changed.
    ///
    /// # Errors
    /// When a task of ours broke off.
    pub async fn anchor(&self) -> Result<(), tokio::task::JoinError> {
        match self.unsealed() {
            Some(open) => anchor(&open).await,
            None => Ok(()),
        }
    }
}

/// Writes the anchors, if something has changed.
pub(super) async fn anchor(open: &Arc<Unsealed>) -> Result<(), tokio::task::JoinError> {
    let epoch = open.root.lock().await.epoch();
    let within = Arc::clone(open);
    tokio::task::spawn_blocking(move || {
        within.anchors.note_checkpoint(within.ground.audit.checkpoint());
        within.anchors.write(within.ground.barrier.position(), epoch);
    })
    .await
}

/// Sees to it that no compaction takes from the store what an anchor is judged by: the point that
/// each names is kept in the store first, then the anchors are written, so that they name what
/// stays in the journal. Blocking calls follow on the compaction's thread, never on one of
/// `runtime`'s own.
pub(super) fn guard_compaction(
    barrier: &Arc<Barrier>,
    anchors: &Arc<Anchors>,
    runtime: tokio::runtime::Handle,
) {
    if anchors.is_empty() {
        return;
    }
    let (weak, anchors) = (Arc::downgrade(barrier), Arc::clone(anchors));
    barrier.before_deleting(move || {
        let Some(barrier) = weak.upgrade() else { return };
        if let Err(error) = runtime.block_on(keep(&barrier, &anchors.points())) {
            tracing::warn!(
                %error,
                "the points of anchors are not kept: one that is not written again may become stale"
            );
        }
        anchors.write_position(barrier.position());
    });
}

async fn keep(barrier: &Arc<Barrier>, points: &[Position]) -> Result<(), KeepError> {
    let records = kept_points(barrier);
    let mut kept = records.get(POINTS).await?.map(|held| held.value).unwrap_or_default();
    if kept.take(points) {
        let mut batch = Batch::default();
        records.put(&mut batch, POINTS, &kept);
        barrier.commit(batch).await?;
    }
    Ok(())
}

fn kept_points(barrier: &Arc<Barrier>) -> Collection<KeptPoints> {
    Collection::new(barrier.view(SpaceId::SYSTEM).under(&["seal"]))
}

const POINTS: &[&str] = &["anchors"];
/// Points that are kept.
const MOST_POINTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_points_that_anchors_still_name_outlive_the_others() {
        let at = |seq| Position { generation: 1, seq, chain: [1; 32] };
        let mut kept = KeptPoints::default();
        let unreachable = at(7);
        for seq in 100..200 {
            assert!(kept.take(&[unreachable, at(seq)]));
        }
        assert!(!kept.take(&[unreachable, at(199)]));
        let points: Vec<_> = kept.positions().collect();
        assert_eq!(points.len(), MOST_POINTS);
        assert!(points.contains(&unreachable) && points.contains(&at(199)));
        assert!(!points.contains(&at(100)));
    }
}
