//! The anchors of an open store, which are written again whenever something has changed.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    audit::SignedCheckpoint,
    barrier::{Keyring, Position},
    clock::Clock,
    disk::Disk,
};

use super::{
    anchor::{Anchor, AnchorFile},
    checkpoint::{self, CheckpointFile},
    pair::AnchorUnusable,
};

/// Where one anchor lies, and the audit checkpoint beside it.
#[derive(Debug)]
pub struct Target {
    anchor: AnchorFile,
    checkpoint: CheckpointFile,
}

/// Writes the anchors of an open store. A file that cannot be written is told of in the log and by
/// health, and is tried again the next time.
#[derive(Debug)]
pub struct Anchors {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    targets: Vec<(Target, Held)>,
    latest: Latest,
}

/// What the anchors are to say.
#[derive(Debug, Default, Clone, Copy)]
struct Latest {
    /// Position and seal epoch; none before the first writing.
    stand: Option<(Position, u64)>,
    checkpoint: Option<SignedCheckpoint>,
}

/// What is known of one target.
#[derive(Debug, Default)]
struct Held {
    /// The point that the file names, written by whomever.
    point: Option<Position>,
    /// What was written since the store was opened.
    stand: Option<(Position, u64)>,
    checkpoint: Option<SignedCheckpoint>,
    is_failing: bool,
}

/// How a file is written: over the older of two, or over both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Older,
    Both,
}

impl Target {
    /// The anchor at a path, for this store.
    pub fn new(disk: &Disk, path: &Path, keyring: &Keyring) -> Self {
        let store_id = keyring.store_id();
        let beside = checkpoint::beside(path);
        Self {
            anchor: AnchorFile::new(disk.clone(), path.into(), keyring.anchor_mac(), store_id),
            checkpoint: CheckpointFile::new(disk.clone(), beside, keyring.anchor_mac(), store_id),
        }
    }

    /// The anchor.
    ///
    /// # Errors
    /// [`AnchorUnusable`].
    pub fn anchor(&self) -> Result<Anchor, AnchorUnusable> {
        self.anchor.read()
    }

    /// The audit checkpoint beside it.
    ///
    /// # Errors
    /// [`AnchorUnusable`].
    pub fn checkpoint(&self) -> Result<SignedCheckpoint, AnchorUnusable> {
        self.checkpoint.read()
    }

    fn put(&self, latest: &Latest, clock: &dyn Clock, held: &mut Held, over: Over) {
        // First the checkpoint, so that where an anchor is there is one too.
        let checkpoint = self.put_checkpoint(latest, held, over);
        let anchor = self.put_anchor(latest, clock, held, over);
        held.is_failing = checkpoint.is_err() || anchor.is_err();
        let files = [(self.checkpoint.path(), checkpoint), (self.anchor.path(), anchor)];
        for (file, error) in files.into_iter().filter_map(|(file, done)| Some((file, done.err()?)))
        {
            let file = file.display();
            tracing::warn!(%file, %error, "anchor_failing: the anchor cannot be written");
        }
    }

    fn put_anchor(
        &self,
        latest: &Latest,
        clock: &dyn Clock,
        held: &mut Held,
        over: Over,
    ) -> io::Result<()> {
        let Some((position, seal_epoch)) = latest.stand else { return Ok(()) };
        if over == Over::Older && held.stand == latest.stand {
            return Ok(());
        }
        let anchor = Anchor { position, seal_epoch, time: clock.now() };
        match over {
            Over::Older => self.anchor.write(&anchor)?,
            Over::Both => self.anchor.replace(&anchor)?,
        }
        held.stand = latest.stand;
        held.point = Some(position);
        Ok(())
    }

    fn put_checkpoint(&self, latest: &Latest, held: &mut Held, over: Over) -> io::Result<()> {
        match (&latest.checkpoint, over) {
            (Some(_), Over::Older) if held.checkpoint == latest.checkpoint => return Ok(()),
            (Some(new), Over::Older) => self.checkpoint.write(new)?,
            (Some(new), Over::Both) => self.checkpoint.replace(new)?,
            (None, Over::Older) => return Ok(()),
            // What lies there is another store's.
            (None, Over::Both) => self.checkpoint.remove()?,
        }
        held.checkpoint = latest.checkpoint;
        Ok(())
    }
}

impl Anchors {
    /// The writer of anchors, each with the point that it names now, if that is known.
    pub fn new(targets: Vec<(Target, Option<Position>)>, clock: Arc<dyn Clock>) -> Self {
        let held = |point| Held { point, ..Held::default() };
        let targets = targets.into_iter().map(|(target, point)| (target, held(point))).collect();
        Self { clock, state: Mutex::new(State { targets, latest: Latest::default() }) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.state().targets.is_empty()
    }

    /// Names the newest audit checkpoint that is synced. The next writing takes it along.
    pub fn note_checkpoint(&self, checkpoint: Option<SignedCheckpoint>) {
        let mut state = self.state();
        state.latest.checkpoint = checkpoint.or(state.latest.checkpoint);
    }

    /// Writes where the store stands, if anything has changed since the last time. Blocking.
    pub fn write(&self, position: Position, seal_epoch: u64) {
        let mut state = self.state();
        // Who asks may have looked before another one did who was faster.
        let stand = match state.latest.stand {
            Some((last, epoch)) if last.generation == position.generation => {
                let newer = if last.seq > position.seq { last } else { position };
                (newer, seal_epoch.max(epoch))
            }
            Some(_) | None => (position, seal_epoch),
        };
        state.latest.stand = Some(stand);
        state.put(&*self.clock, Over::Older);
    }

    /// The same under the seal file of the last writing, and nothing before the first. Blocking.
    pub fn write_position(&self, position: Position) {
        let last = self.state().latest.stand;
        if let Some((_, seal_epoch)) = last {
            self.write(position, seal_epoch);
        }
    }

    /// Writes it over all that the anchors say, of a new store or after a rollback was accepted.
    /// Blocking.
    pub fn replace(&self, position: Position, seal_epoch: u64) {
        let mut state = self.state();
        state.latest.stand = Some((position, seal_epoch));
        state.put(&*self.clock, Over::Both);
    }

    /// The points that the anchors name now.
    pub fn points(&self) -> Vec<Position> {
        let state = self.state();
        let mut points: Vec<Position> = Vec::new();
        for point in state.targets.iter().filter_map(|(_, held)| held.point) {
            if !points.contains(&point) {
                points.push(point);
            }
        }
        points
    }

    /// Anchors that could not be written the last time.
    pub fn failing(&self) -> usize {
        self.state().targets.iter().filter(|(_, held)| held.is_failing).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, clock: &dyn Clock, over: Over) {
        for (target, held) in &mut self.targets {
            target.put(&self.latest, clock, held, over);
        }
    }
}
