use std::{
    io, mem,
    sync::{Arc, OnceLock},
};

use crate::{
    audit::chain::{Link, SignedCheckpoint},
    clock::Timestamp,
    disk::DiskFile,
};

/// An open file, and the lines that wait to be written to it.
///
/// Lines of requests that run at the same time are written with one write(2): a page of a growing
/// file costs the system as much as making some lines, and twenty lines touch few more than one.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) file: Arc<DiskFile>,
    /// Bytes of whole lines.
    pub(super) length: u64,
    /// Whether bytes of an unfinished line may lie behind them.
    pub(super) torn: bool,
    /// Whether something was written since the last sync.
    pub(super) dirty: bool,
    /// Bytes that were synced.
    pub(super) synced: u64,
    /// How the chain ends in the file.
    pub(super) written: End,
    /// How it ends with the lines that wait.
    pub(super) end: End,
    /// Why the last write failed, if it did.
    pub(super) error: Option<String>,
    queue: Queue,
    /// Room of a batch that was written.
    spare: Vec<u8>,
}

/// How a chain ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) link: Link,
    pub(super) checkpoint: Link,
    /// The same in full, if it was written since the file was opened.
    pub(super) signed: Option<SignedCheckpoint>,
    pub(super) checkpoint_time: Timestamp,
    /// Lines that could not be written since the last checkpoint.
    pub(super) missed: u64,
}

/// What becomes of lines that are written together.
type Outcome = OnceLock<Result<(), String>>;

/// Lines that wait, and what becomes of them.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    lines: u64,
    outcome: Arc<Outcome>,
}

/// What becomes of lines that were queued.
pub(super) type Ticket = Arc<Outcome>;

/// Lines on their way into the file.
pub(super) struct Batch {
    file: Arc<DiskFile>,
    at: u64,
    torn: bool,
    queue: Queue,
    end: End,
}

impl Writer {
    pub(super) fn new(file: Arc<DiskFile>, length: u64, end: End) -> Self {
        Self {
            file,
            length,
            torn: false,
            dirty: false,
            synced: 0,
            written: end,
            end,
            error: None,
            queue: Queue::default(),
            spare: Vec::new(),
        }
    }

    /// Puts a whole line, the chain's next one, to those that wait.
    pub(super) fn push(&mut self, line: &[u8], link: Link) {
        self.queue.bytes.extend_from_slice(line);
        self.queue.lines += 1;
        self.end.link = link;
    }

    /// For what waits now.
    pub(super) fn ticket(&self) -> Ticket {
        Arc::clone(&self.queue.outcome)
    }

    /// What waits, to be written outside of any lock on the writer and then given to
    /// [`settle`](Self::settle), before the next is taken.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if self.queue.lines == 0 {
            return None;
        }
        let room = Queue { bytes: mem::take(&mut self.spare), ..Queue::default() };
        Some(Batch {
            file: Arc::clone(&self.file),
            at: self.length,
            torn: self.torn,
            queue: mem::replace(&mut self.queue, room),
            end: self.end,
        })
    }

    /// Takes notice of what became of a batch. When it failed the chain goes on from where it was
    /// before, so that lines which came meanwhile have failed too; all are told.
    pub(super) fn settle(&mut self, batch: Batch, written: &io::Result<()>) {
        let Batch { at, mut queue, end, torn, .. } = batch;
        let outcome = match written {
            Ok(()) => {
                self.length = at.saturating_add(queue.bytes.len() as u64);
                self.dirty = true;
                self.written = end;
                Ok(())
            }
            Err(cause) => {
                self.refuse(&cause.to_string());
                self.written.missed = self.end.missed.saturating_add(queue.lines);
                self.end = self.written;
                Err(cause.to_string())
            }
        };
        self.torn = torn;
        queue.tell(outcome);
        queue.bytes.clear();
        // One huge batch does not stay for the life of the file.
        queue.bytes.shrink_to(SPARE_BYTES);
        self.spare = queue.bytes;
    }

    /// Gives up what waits.
    pub(super) fn refuse(&mut self, error: &str) {
        let lost = mem::take(&mut self.queue);
        self.written.missed = self.written.missed.saturating_add(lost.lines);
        self.end = self.written;
        lost.tell(Err(error.to_owned()));
    }
}

impl Queue {
    fn tell(&self, outcome: Result<(), String>) {
        // Each queue is told once: it was taken out of the writer for that.
        drop(self.outcome.set(outcome));
    }
}

impl Batch {
    /// One write(2) for all of it. What a failed one left behind is cut off again, so that the next
    /// line does not begin in the middle of it.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.at)?;
            self.torn = false;
        }
        self.file.write_all_at(&self.queue.bytes, self.at).inspect_err(|_| {
            self.torn = self.file.set_len(self.at).is_err();
        })
    }
}

/// Room that is kept for the next batch.
const SPARE_BYTES: usize = 256 * 1024;
