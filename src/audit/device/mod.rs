//! One audit file: the chain of its lines, and who may write next.
//!
//! - `writer.rs`: the lines that wait, and the file that they go to

#[cfg(test)]
mod tests;
mod writer;

use std::{
    cell::RefCell,
    fmt, io, mem,
    path::PathBuf,
    slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::task::yield_now;

use crate::{
    barrier::{self, AuditKeys, AuditMark, Position},
    clock::Clock,
    crypto::{Mac, SigningKey},
    disk::Disk,
};

use super::{
    chain::{Checkpoint, Link, Reason, SignedCheckpoint, finish},
    digest::{Digester, Scratch},
    notice::Notice,
    record::{Admitted, Entry, ROOM_BYTES, Renderer},
    tail::{self, Finding, Tail},
    verify::Verifier,
};
use writer::{End, Ticket, Writer};

/// One audit file, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Its name, for log and health.
    pub name: String,
    /// Its random id, kept in the store: chain and keys hang on it.
    pub id: [u8; 16],
    /// The file. It is made with mode 0600 when it is not there; its folder has to be.
    pub path: PathBuf,
    /// Whether the names in paths, and the names inside `data`, are digested like values.
    pub hash_paths: bool,
}

/// What all devices share.
pub(super) struct Surroundings {
    pub(super) disk: Disk,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) position: Box<dyn Fn() -> Position + Send + Sync>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// One audit file and its chain.
#[derive(Debug)]
pub(super) struct Device {
    config: DeviceConfig,
    digester: Digester,
    chain_key: Mac,
    sign: SigningKey,
    /// Where the store's head learns of synced checkpoints, for the device whose they are.
    mark: Option<AuditMark>,
    /// A checkpoint of it that was kept elsewhere, which the file has to reach.
    kept: Option<SignedCheckpoint>,
    /// The last checkpoint that is synced.
    synced: Mutex<Option<SignedCheckpoint>>,
    surroundings: Arc<Surroundings>,
    state: Mutex<State>,
    /// Held by who writes to the file, or ends the writing. Taken before `state`, which is not held
    /// while something is written.
    turn: Mutex<()>,
}

#[derive(Debug)]
enum State {
    Open(Box<Writer>),
    /// It could not be opened or synced; `missed` lines went by since. From `doubtful` on nobody
    /// knows which bytes the disk has.
    Failed {
        error: String,
        missed: u64,
        doubtful: Option<u64>,
    },
    Closed,
}

impl Device {
    pub(super) fn new(
        config: DeviceConfig,
        keys: AuditKeys,
        mark: Option<AuditMark>,
        kept: Option<SignedCheckpoint>,
        surroundings: Arc<Surroundings>,
    ) -> Self {
        let error = "it was not opened yet".to_owned();
        Self {
            config,
            digester: Digester::new(keys.leaves),
            chain_key: keys.chain,
            sign: keys.checkpoints,
            mark,
            kept,
            synced: Mutex::default(),
            surroundings,
            state: Mutex::new(State::Failed { error, missed: 0, doubtful: None }),
            turn: Mutex::default(),
        }
    }

    pub(super) fn config(&self) -> &DeviceConfig {
        &self.config
    }

    /// The last checkpoint that is synced.
    pub(super) fn synced(&self) -> Option<SignedCheckpoint> {
        *self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the device cannot write now, if so.
    pub(super) fn error(&self) -> Option<String> {
        match &*self.state() {
            State::Open(writer) => writer.error.clone(),
            State::Failed { error, .. } => Some(error.clone()),
            State::Closed => Some(CLOSED.to_owned()),
        }
    }

    /// Opens the file, checks its end, and begins with a synced checkpoint.
    pub(super) fn open(&self) -> io::Result<Vec<Finding>> {
        let mark = self.mark.as_ref().map(AuditMark::get);
        let mark = mark.map(|mark| Link { n: mark.n, h: mark.hash });
        let kept = self.kept.as_ref().map(SignedCheckpoint::link);
        let marks: Vec<_> = mark.into_iter().chain(kept).collect();
        let verifier = Verifier {
            device_id: self.config.id,
            public_key: self.sign.public_key(),
            chain_key: Some(&self.chain_key),
        };
        let tail = tail::open(&self.surroundings.disk, &self.config.path, &verifier, &marks)?;
        let (missed, doubtful) = match &*self.state() {
            State::Failed { missed, doubtful, .. } => (*missed, *doubtful),
            State::Open(_) | State::Closed => (0, None),
        };
        let end = End {
            link: tail.link,
            checkpoint: tail.link,
            signed: None,
            checkpoint_time: self.surroundings.clock.now(),
            missed,
        };
        let mut writer = Writer::new(Arc::clone(&tail.file), tail.length, end);
        let begun = self.begin(&mut writer, &tail, doubtful);
        if begun.is_err() {
            // What never reaches the disk, though a later sync goes well, is to be written anew.
            drop(writer.file.set_len(tail.length));
        }
        begun?;
        self.tell(&writer.written.checkpoint, writer.written.signed);
        *self.state() = State::Open(Box::new(writer));
        Ok(tail.findings)
    }

    /// Writes the first lines, and syncs them and what is there.
    fn begin(&self, writer: &mut Writer, tail: &Tail, doubtful: Option<u64>) -> io::Result<()> {
        let (disk, path) = (&self.surroundings.disk, &self.config.path);
        if let Some(from) = doubtful {
            tail::write_again(disk, path, from, tail.length)?;
        }
        self.checkpoint(writer, Reason::Start { partial_bytes: tail.partial_bytes });
        for finding in &tail.findings {
            let mut body = Vec::new();
            let now = self.surroundings.clock.now();
            finding.with_notice(|notice| notice.body(now, &mut body));
            if !body.is_empty() {
                self.append(writer, slice::from_mut(&mut body));
            }
        }
        if let Some(mut batch) = writer.take() {
            let written = batch.write();
            writer.settle(batch, &written);
            written?;
        }
        writer.file.sync_data()?;
        // A file is there after a power cut only when its folder is synced too, and an opening
        // before this one may have made it and come no further.
        match tail::sync_folder(disk, path) {
            // Somebody else made it, in a folder that is closed to us.
            Err(cause) if tail.length > 0 && cause.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
        writer.dirty = false;
        writer.synced = writer.length;
        Ok(())
    }

    /// Puts the line of an entry to those that wait, before it that of a request which has waited
    /// for its answer. They are built outside the lock, in room that the thread uses again.
    pub(super) fn queue(
        &self,
        entry: &Entry<'_>,
        before: Option<Admitted<'_>>,
    ) -> Result<Ticket, String> {
        let hash_paths = self.config.hash_paths;
        ROOM.with_borrow_mut(|Room { scratch, bodies }| {
            bodies.iter_mut().for_each(Vec::clear);
            let mut renderer = Renderer { digester: &self.digester, hash_paths, scratch };
            let queued = match before {
                None => {
                    let [body, _] = &mut *bodies;
                    renderer.body(entry, body);
                    self.queue_bodies(slice::from_mut(body))
                }
                Some(admitted) => {
                    renderer.bodies(admitted, entry, bodies);
                    self.queue_bodies(bodies)
                }
            };
            for body in bodies {
                // One huge body does not stay for the life of the thread.
                body.truncate(ROOM_BYTES);
                body.shrink_to(ROOM_BYTES);
            }
            queued
        })
    }

    /// Has what was queued written, with what whoever is ready to run now has to add: the more come
    /// at once, the larger a write is.
    pub(super) async fn written(&self, ticket: Ticket) -> Result<(), String> {
        yield_now().await;
        self.write_with_others(&ticket)
    }

    /// Writes one notice's line.
    pub(super) fn notice(&self, notice: &Notice<'_>) -> Result<(), String> {
        let mut body = Vec::new();
        notice.body(self.surroundings.clock.now(), &mut body);
        let ticket = self.queue_bodies(slice::from_mut(&mut body))?;
        self.write_with_others(&ticket)
    }

    /// What has to happen now and then: a checkpoint when its time has come, a sync, and another
    /// attempt to open what could not be opened.
    pub(super) fn tick(&self) {
        let reopen = {
            let mut state = self.state();
            match &mut *state {
                State::Open(writer) => {
                    let end = &writer.end;
                    let age = self.surroundings.clock.now().since(end.checkpoint_time);
                    if end.link.n > end.checkpoint.n && age >= CHECKPOINT_AGE {
                        self.checkpoint(writer, Reason::Interval);
                    }
                    false
                }
                State::Failed { .. } => true,
                State::Closed => false,
            }
        };
        if reopen && self.open().is_ok() {
            tracing::info!(device = %self.config.name, "audit device writes again");
        }
        self.sync();
    }

    /// Ends the chain with a synced checkpoint. No line is taken after it.
    pub(super) fn close(&self) {
        if let State::Open(writer) = &mut *self.state() {
            self.checkpoint(writer, Reason::Seal);
        }
        self.sync();
        let _turn = self.turn();
        let mut state = self.state();
        if let State::Open(writer) = &mut *state {
            writer.refuse(CLOSED);
        }
        *state = State::Closed;
    }

    fn queue_bodies(&self, bodies: &mut [Vec<u8>]) -> Result<Ticket, String> {
        match &mut *self.state() {
            State::Open(writer) => {
                self.append(writer, bodies);
                let ticket = writer.ticket();
                if writer.end.link.n - writer.end.checkpoint.n >= CHECKPOINT_LINES {
                    // It is synced by the next tick, so that no request waits for a disk.
                    self.checkpoint(writer, Reason::Interval);
                }
                Ok(ticket)
            }
            State::Failed { error, missed, .. } => {
                *missed = missed.saturating_add(bodies.len() as u64);
                Err(error.clone())
            }
            State::Closed => Err(CLOSED.to_owned()),
        }
    }

    fn checkpoint(&self, writer: &mut Writer, reason: Reason) {
        let now = self.surroundings.clock.now();
        let checkpoint = Checkpoint {
            device_id: self.config.id,
            n: writer.end.link.n.saturating_add(1),
            previous: writer.end.link.h,
            position: (self.surroundings.position)(),
            time_ms: now.millis(),
        };
        let mut body = Vec::with_capacity(CHECKPOINT_BYTES);
        let signature = checkpoint.body(now, reason, writer.end.missed, &self.sign, &mut body);
        self.append(writer, slice::from_mut(&mut body));
        let Checkpoint { device_id, n, previous, position, time_ms } = checkpoint;
        let link = writer.end.link;
        let hash = link.h;
        let signed =
            SignedCheckpoint { device_id, n, previous, hash, position, time_ms, signature };
        writer.end =
            End { link, checkpoint: link, signed: Some(signed), checkpoint_time: now, missed: 0 };
    }

    /// Makes bodies lines, and puts them to those that wait.
    fn append(&self, writer: &mut Writer, bodies: &mut [Vec<u8>]) {
        for body in bodies {
            let link = writer.end.link.next(&self.config.id, body);
            finish(body, &link, &self.chain_key);
            writer.push(body, link);
        }
    }

    /// Writes what was queued, and all that waits with it, unless somebody has done so.
    fn write_with_others(&self, ticket: &Ticket) -> Result<(), String> {
        if ticket.get().is_none() {
            let turn = self.turn();
            // Who had the turn before may have written it; what came since is others' to write, when
            // they are back and more has come.
            if ticket.get().is_none() {
                self.write(&turn);
            }
        }
        // Whoever takes lines tells what became of them before the turn is another's.
        ticket.get().cloned().unwrap_or_else(|| Err(CLOSED.to_owned()))
    }

    /// Writes what waits.
    fn write(&self, _turn: &MutexGuard<'_, ()>) {
        let taken = match &mut *self.state() {
            State::Open(writer) => writer.take(),
            State::Failed { .. } | State::Closed => None,
        };
        let Some(mut batch) = taken else { return };
        let written = batch.write();
        // Nobody closes it meanwhile: that takes the turn.
        if let State::Open(writer) = &mut *self.state() {
            writer.settle(batch, &written);
            self.note(writer, written.as_ref().err());
        }
    }

    /// Syncs outside the lock, so that requests go on writing meanwhile, and then tells the head of
    /// the last checkpoint that was written before.
    fn sync(&self) {
        self.write(&self.turn());
        let (file, checkpoint, signed, length) = match &mut *self.state() {
            State::Open(writer) if writer.dirty => {
                writer.dirty = false;
                let End { checkpoint, signed, .. } = writer.written;
                (Arc::clone(&writer.file), checkpoint, signed, writer.length)
            }
            State::Open(_) | State::Failed { .. } | State::Closed => return,
        };
        match file.sync_data() {
            Ok(()) => {
                let mut before = length;
                if let State::Open(writer) = &mut *self.state() {
                    before = mem::replace(&mut writer.synced, length);
                }
                self.tell(&checkpoint, signed);
                file.release_cache(before..length);
            }
            Err(cause) => self.fail(&cause),
        }
    }

    /// After a failed sync nobody knows which bytes the disk has: the file is not gone on with as
    /// if they were there, but opened and checked again, and they are written again.
    fn fail(&self, cause: &io::Error) {
        tracing::error!(device = %self.config.name, error = %cause, "audit device cannot sync");
        let _turn = self.turn();
        let mut state = self.state();
        if let State::Open(writer) = &mut *state {
            let error = cause.to_string();
            writer.refuse(&error);
            let (missed, doubtful) = (writer.written.missed, Some(writer.synced));
            *state = State::Failed { error, missed, doubtful };
        }
    }

    /// Tells head and anchors of a checkpoint that is synced.
    fn tell(&self, checkpoint: &Link, signed: Option<SignedCheckpoint>) {
        *self.synced.lock().unwrap_or_else(PoisonError::into_inner) = signed;
        if let Some(mark) = &self.mark {
            mark.set(barrier::Checkpoint { n: checkpoint.n, hash: checkpoint.h });
        }
    }

    /// Keeps the last result for health, and logs when it changes.
    fn note(&self, writer: &mut Writer, error: Option<&io::Error>) {
        match (error, writer.error.is_some()) {
            (Some(cause), false) => {
                tracing::error!(device = %self.config.name, error = %cause, "audit device cannot write");
            }
            (None, true) => {
                tracing::info!(device = %self.config.name, "audit device writes again");
            }
            (Some(_), true) | (None, false) => {}
        }
        writer.error = error.map(ToString::to_string);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// What building the lines of one request takes.
#[derive(Default)]
struct Room {
    scratch: Scratch,
    bodies: [Vec<u8>; 2],
}

const CLOSED: &str = "it is closed";

/// Lines between two checkpoints (FORMAT.md 9).
const CHECKPOINT_LINES: u64 = 1000;

/// Time between two checkpoints, when there are lines between them (FORMAT.md 9).
const CHECKPOINT_AGE: Duration = Duration::from_secs(60);

/// About what a checkpoint's line takes.
const CHECKPOINT_BYTES: usize = 1024;
