use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use super::{
    Backend, Batch, Change, CommitError, CommitSeal, CompactError, HeadPlace, Precondition,
    RecordHeader, StoreId, WriteError,
    attach::Folder,
    compact::Goal,
    journal::{RollError, Writer},
    memory::Platter,
    record::{Draft, Place, SegmentId, WriteRef, padded, record_len},
    usage::Figures,
};

/// Requests that wait for the committer; more wait in their own tasks.
const QUEUE: usize = 1_024;
/// One group, and so one journal record, holds at most this many requests…
const GROUP_REQUESTS: usize = 1_024;
/// … and takes no further one from this many bytes on (4 MiB).
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// How long closing waits for room in a full queue before it looks again.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// A head may list a term more than the one before, and so be this much longer, in bytes.
const HEAD_GROWTH: usize = 512;

/// Where journal records go.
#[derive(Debug)]
pub(super) enum Log {
    /// Segments in a folder.
    Segments(Writer),
    /// The memory of tests.
    Memory(Arc<Platter>),
}

impl Log {
    fn make_room(
        &mut self,
        length: usize,
        seq: u64,
        prev_chain: [u8; 32],
    ) -> Result<SegmentId, RollError> {
        match self {
            Self::Segments(writer) => writer.make_room(length, seq, prev_chain),
            Self::Memory(_) => Ok(SegmentId::default()),
        }
    }

    /// Bytes that a record of this length takes from what is free.
    fn takes_from_disk(&self, length: usize) -> u64 {
        match self {
            Self::Segments(writer) => writer.takes_from_disk(length),
            Self::Memory(_) => 0,
        }
    }

    fn append(&mut self, record: Vec<u8>) -> Result<(), WriteError> {
        match self {
            Self::Segments(writer) => writer.append(record),
            Self::Memory(platter) => platter.append(record),
        }
    }
}

/// The handle to the one thread that writes: many requests, one record, one sync.
#[derive(Debug)]
pub(super) struct Committer {
    sender: mpsc::Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread starts with.
pub(super) struct Start {
    pub(super) store_id: StoreId,
    pub(super) index: Arc<ArcSwap<Backend>>,
    pub(super) log: Log,
    pub(super) seal: Box<dyn CommitSeal>,
    pub(super) seq: u64,
    pub(super) chain: [u8; 32],
    pub(super) figures: Arc<Figures>,
    /// Of a store in a folder.
    pub(super) folder: Option<Folder>,
    /// Where to say that it is time to compact, if somebody listens.
    pub(super) compaction: Option<std_mpsc::SyncSender<()>>,
    /// Why writing has ended. It is never tried again: after a failed sync the kernel may have
    /// dropped the pages and call the next sync a success.
    pub(super) failed: Option<Arc<WriteError>>,
}

/// A way to hand in requests.
#[derive(Clone, Debug)]
pub(super) struct Submit(mpsc::Sender<Message>);

impl Submit {
    /// Hands in a checked batch of `bytes` bytes; `None` when the committer is gone.
    pub(super) async fn submit(
        self,
        batch: Batch,
        bytes: usize,
    ) -> Option<Result<u64, CommitError>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Message::Commit(Request { batch, bytes, answer })).await.ok()?;
        Some(answered.await.ok()?.outcome)
    }

    /// Hands in what is to be run between two groups; `None` when the committer is gone.
    pub(super) async fn look(self, look: Look) -> Option<()> {
        self.0.send(Message::Look(look)).await.ok()
    }
}

/// A way to ask the committer's thread that does not keep it alive.
#[derive(Clone, Debug)]
pub(super) struct WeakSubmit(mpsc::WeakSender<Message>);

impl WeakSubmit {
    /// Hands in what is to be run between two groups; false when the committer is gone. Blocking.
    pub(super) fn between(&self, look: Look) -> bool {
        let Some(sender) = self.0.upgrade() else { return false };
        send_blocking(&sender, Message::Look(look))
    }
}

/// Hands in a message from a thread that may wait. Not `blocking_send`, which panics on an async
/// thread instead of blocking it.
fn send_blocking(sender: &mpsc::Sender<Message>, mut message: Message) -> bool {
    loop {
        message = match sender.try_send(message) {
            Ok(()) => return true,
            Err(TrySendError::Closed(_)) => return false,
            Err(TrySendError::Full(unsent)) => unsent,
        };
        thread::sleep(FULL_QUEUE_PAUSE);
    }
}

impl Committer {
    pub(super) fn start(start: Start) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let worker = Worker { state: start, receiver };
        let thread =
            thread::Builder::new().name("kista-committer".into()).spawn(move || worker.run())?;
        Ok(Self { sender, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn submitter(&self) -> Submit {
        Submit(self.sender.clone())
    }

    pub(super) fn weak_submitter(&self) -> WeakSubmit {
        WeakSubmit(self.sender.downgrade())
    }

    /// Has the Close record written and the index flushed behind all that was handed in, and waits
    /// for the thread's end. Blocking.
    pub(super) fn close(&self) -> Result<(), Arc<WriteError>> {
        let (done, closed) = std_mpsc::sync_channel(1);
        send_blocking(&self.sender, Message::Close(done));
        let outcome = closed.recv().ok();
        self.join();
        outcome.unwrap_or_else(|| Err(Arc::new(WriteError::Stopped)))
    }

    fn join(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // Its panic has been told by the requests that it left unanswered.
            drop(thread.join());
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // The last sender but for this one is gone, so this ends the thread.
        let (closed, _) = mpsc::channel(1);
        self.sender = closed;
        self.join();
    }
}

enum Message {
    Commit(Request),
    Look(Look),
    Close(Closer),
}

/// What comes behind a group.
enum Then {
    Look(Look),
    Close(Closer),
}

/// Runs on the committer's thread between two groups.
pub(super) type Look = Box<dyn FnOnce(&mut Start) + Send>;

/// Where the one who closes waits.
type Closer = std_mpsc::SyncSender<Result<(), Arc<WriteError>>>;

struct Request {
    batch: Batch,
    bytes: usize,
    answer: oneshot::Sender<Answer>,
}

/// What became of a batch.
struct Answer {
    outcome: Result<u64, CommitError>,
    /// The batch goes back to where it was made, and is freed there: the allocator makes a thread
    /// wait that frees what another one's memory was taken for.
    _batch: Batch,
}

/// What the thread owns.
struct Worker {
    state: Start,
    receiver: mpsc::Receiver<Message>,
}

impl Worker {
    fn run(mut self) {
        while let Some(message) = self.receiver.blocking_recv() {
            let (group, then) = self.gather(message);
            self.commit(group);
            let done = match then {
                None => continue,
                Some(Then::Look(look)) => {
                    look(&mut self.state);
                    continue;
                }
                Some(Then::Close(done)) => done,
            };
            let outcome = self.close();
            // Answer those who came too late before the one who closes goes on.
            self.receiver.close();
            while let Ok(message) = self.receiver.try_recv() {
                if let Message::Commit(request) = message {
                    tell(request, Err(CommitError::Closed));
                }
            }
            // Dropped first: whoever hears of the end may open the folder again at once.
            drop(self);
            drop(done.send(outcome));
            return;
        }
    }

    /// Takes what waits, without waiting for more: while a sync runs, the next group gathers.
    fn gather(&mut self, first: Message) -> (Vec<Request>, Option<Then>) {
        // Whoever is ready to run hands in first: where all cores are busy, groups are half as long
        // again.
        thread::yield_now();
        let mut group = Vec::new();
        let mut bytes = 0;
        let mut message = Some(first);
        while let Some(taken) = message {
            match taken {
                Message::Commit(request) => {
                    bytes += request.bytes;
                    group.push(request);
                }
                Message::Look(look) => return (group, Some(Then::Look(look))),
                Message::Close(done) => return (group, Some(Then::Close(done))),
            }
            let full = group.len() >= GROUP_REQUESTS || bytes >= GROUP_BYTES;
            message = if full { None } else { self.receiver.try_recv().ok() };
        }
        (group, None)
    }

    /// Judges a group, writes what passes as one record, and answers all.
    ///
    /// A loser is answered after the sync too: it may have lost to a neighbour that is not durable
    /// before.
    fn commit(&mut self, group: Vec<Request>) {
        let verdicts = match self.state.prepare(&group) {
            Err(refusal) => group.iter().map(|_| Err(refusal.clone())).collect(),
            Ok(()) => self.state.judge(&group),
        };
        let mut answer = Ok(self.state.seq);
        if verdicts.iter().any(Result::is_ok) {
            let accepted = group.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_ok());
            let writes = accepted.flat_map(|(request, _)| writes_of(&request.batch));
            answer = self.state.write(writes);
        }
        for (request, verdict) in group.into_iter().zip(verdicts) {
            let answer = match (&answer, verdict) {
                (Ok(seq), Ok(())) => Ok(*seq),
                (Ok(_), Err(refused)) => Err(refused),
                (Err(cause), _) => Err(CommitError::Failed(Arc::clone(cause))),
            };
            tell(request, answer);
        }
    }

    fn close(&mut self) -> Result<(), Arc<WriteError>> {
        self.state.write(std::iter::empty())?;
        let flushed = self.state.index.load().flush();
        flushed.map_err(|error| Arc::new(WriteError::Index(error)))
    }
}

/// What the record under each key will be once the group is written, of keys looked at so far.
type Overlay<'g> = HashMap<&'g [u8], Option<RecordHeader>>;

impl Start {
    /// Says of each request whether it is written, in their order: each sees those before it.
    fn judge(&mut self, group: &[Request]) -> Vec<Result<(), CommitError>> {
        let mut overlay = Overlay::new();
        group.iter().map(|request| self.judge_one(&request.batch, &mut overlay)).collect()
    }

    fn judge_one<'g>(
        &mut self,
        batch: &'g Batch,
        overlay: &mut Overlay<'g>,
    ) -> Result<(), CommitError> {
        if self.index.load().takes_conflict() {
            return Err(CommitError::Conflict);
        }
        for precondition in &batch.preconditions {
            let expected = match precondition {
                Precondition::Absent(_) => None,
                Precondition::Header(_, header) => Some(*header),
            };
            if self.header(precondition.key(), overlay)? != expected {
                return Err(CommitError::Conflict);
            }
        }
        // Kept apart until the seal agrees: a refused batch leaves no trace.
        let mut own = Overlay::new();
        let mut changes = Vec::with_capacity(batch.writes.len());
        for (key, record) in writes_of(batch) {
            let old = match own.get(key) {
                Some(header) => *header,
                None => self.header(key, overlay)?,
            };
            let new = record.and_then(RecordHeader::of);
            own.insert(key, new);
            changes.push(Change { key, old, new });
        }
        self.seal.stage(&changes).map_err(|_| CommitError::StaleTerm)?;
        overlay.extend(own);
        Ok(())
    }

    /// Looks a key up, in the index once for each group: what is expected is mostly what is
    /// written.
    fn header<'g>(
        &self,
        key: &'g [u8],
        overlay: &mut Overlay<'g>,
    ) -> Result<Option<RecordHeader>, CommitError> {
        if let Some(header) = overlay.get(key) {
            return Ok(*header);
        }
        let header = match self.seal.is_absent(key) {
            true => None,
            false => {
                let header = self.index.load().header(key);
                header.map_err(|error| CommitError::Index(Arc::new(error)))?
            }
        };
        overlay.insert(key, header);
        Ok(header)
    }

    /// Makes room for the longest record that a group can come to, before anything is staged: a
    /// full disk refuses a group, and the next one may find space again.
    fn prepare(&mut self, group: &[Request]) -> Result<(), CommitError> {
        if let Some(cause) = &self.failed {
            return Err(CommitError::Failed(Arc::clone(cause)));
        }
        let writes = group.iter().flat_map(|request| writes_of(&request.batch));
        let length = record_len(writes, self.seal.head_len() + HEAD_GROWTH);
        self.check_space(length)?;
        match self.log.make_room(length, self.seq + 1, self.chain) {
            Ok(_) => Ok(()),
            Err(RollError::NoSpace) => Err(self.no_space(length)),
            Err(RollError::Failed(error)) => Err(CommitError::Failed(self.fail(error))),
        }
    }

    /// Refuses what would go into the reserve. The index takes from it what it needs for what was
    /// committed before, so that it never meets a full disk.
    fn check_space(&self, length: usize) -> Result<(), CommitError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let needed = folder.options.reserve_bytes + self.log.takes_from_disk(length);
        let free = self.free_bytes();
        if free < needed { Err(CommitError::NoSpace { free, needed }) } else { Ok(()) }
    }

    /// What is free; if nobody knows, the disk itself will tell.
    fn free_bytes(&self) -> u64 {
        let free = self.folder.as_ref().map(|folder| folder.disk().free_bytes(&folder.path));
        free.and_then(Result::ok).unwrap_or(u64::MAX)
    }

    fn no_space(&self, length: usize) -> CommitError {
        let needed = self.log.takes_from_disk(length);
        CommitError::NoSpace { free: self.free_bytes(), needed }
    }

    fn fail(&mut self, error: WriteError) -> Arc<WriteError> {
        let cause = Arc::new(error);
        self.failed = Some(Arc::clone(&cause));
        cause
    }

    /// Whether a new segment can begin without a commit waiting for it to be written.
    pub(super) fn is_segment_ready(&mut self) -> bool {
        match &mut self.log {
            Log::Segments(writer) => writer.is_next_ready(),
            Log::Memory(_) => true,
        }
    }

    /// Begins a new segment, so that those before it can be compacted. `None` when there is no
    /// commit yet.
    pub(super) fn roll(&mut self) -> Result<Option<Goal>, CompactError> {
        if let Some(cause) = &self.failed {
            return Err(CompactError::Failed(Arc::clone(cause)));
        }
        let (Log::Segments(writer), 1..) = (&mut self.log, self.seq) else { return Ok(None) };
        let goal = Goal { seq: self.seq, counted: self.figures.behind() };
        match writer.roll_now(self.seq + 1, self.chain) {
            Ok(()) => {}
            Err(RollError::NoSpace) => {
                let needed = writer.segment_bytes();
                return Err(CompactError::NoSpace { free: self.free_bytes(), needed });
            }
            Err(RollError::Failed(error)) => return Err(CompactError::Failed(self.fail(error))),
        }
        // A head of its own behind the snapshot, for an index to name: that of the snapshot's
        // sequence goes with the segments.
        self.write(std::iter::empty()).map_err(CompactError::Failed)?;
        Ok(Some(goal))
    }

    /// Writes one record, syncs it, brings it into the index, and returns its sequence.
    fn write<'a>(
        &mut self,
        writes: impl Iterator<Item = WriteRef<'a>> + Clone,
    ) -> Result<u64, Arc<WriteError>> {
        if let Some(cause) = &self.failed {
            return Err(Arc::clone(cause));
        }
        self.try_write(writes).map_err(|error| self.fail(error))
    }

    fn try_write<'a>(
        &mut self,
        writes: impl Iterator<Item = WriteRef<'a>> + Clone,
    ) -> Result<u64, WriteError> {
        let (seq, prev_chain) = (self.seq + 1, self.chain);
        let head_len = self.seal.head_len();
        let length = record_len(writes.clone(), head_len);
        let room = self.log.make_room(length, seq, prev_chain);
        let segment_id = room.map_err(RollError::into_error)?;
        let draft = Draft::new(&Place { seq, segment_id, prev_chain }, writes.clone(), head_len);
        let sealed = self.seal.seal(&HeadPlace { seq, prev_chain, digest: draft.digest() });
        if sealed.len() != head_len {
            return Err(WriteError::HeadLength { announced: head_len, given: sealed.len() });
        }
        let (record, chain) = draft.finish(self.store_id, &sealed);
        self.log.append(record)?;
        (self.seq, self.chain) = (seq, chain);
        let keys = writes.clone().map(|(key, _)| key.len());
        self.figures.count_bytes(padded(length), keys);
        self.figures.set_seq(seq);
        self.index.load().apply(writes, Some((seq, &sealed))).map_err(WriteError::Index)?;
        self.seal.durable(seq, chain);
        self.call_for_compaction();
        Ok(seq)
    }

    fn call_for_compaction(&self) {
        let (Some(folder), Some(compaction)) = (&self.folder, &self.compaction) else { return };
        if self.figures.is_due(&folder.options) {
            // One call is enough.
            compaction.try_send(()).ok();
        }
    }
}

/// The writes of a batch, as the journal and the index take them.
fn writes_of(batch: &Batch) -> impl Iterator<Item = WriteRef<'_>> + Clone {
    batch.writes.iter().map(|write| (write.key.as_slice(), write.record.as_deref()))
}

fn tell(request: Request, outcome: Result<u64, CommitError>) {
    let Request { batch, answer, .. } = request;
    // Nobody listens when the caller was dropped while waiting; the batch stands all the same.
    drop(answer.send(Answer { outcome, _batch: batch }));
}
