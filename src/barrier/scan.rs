use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Barrier, ReadError,
    finding::{Fault, Finding, Place},
    large::LargeHead,
    record,
    watch::{Step, StepError},
};
use crate::storage::{self, CompactError, RecordHeader};

/// Most findings that are told one by one.
const FINDINGS: usize = 100;
/// How many records are opened before others get their turn.
const TURN: usize = 16;
/// How often a chunk is looked at again when its value may be changing.
const LOOKS: usize = 3;

/// How fast a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it can, with others getting their turns.
    Full,
    /// Rests for twice the time that it has worked.
    Background,
}

/// Whether reads are held against a freshness table, which a first good scan makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// From the first good scan on.
    Checked,
    /// Never, or as a scan before has left it.
    Unchecked,
}

/// How far a verification is; read from elsewhere while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Records that this scan has opened, and records there were when it began.
    pub fn counts(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    fn begin(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }
}

/// What a scan of the whole store has come to.
#[derive(Debug)]
pub struct Scanned {
    /// Records seen.
    pub records: u64,
    /// What is wrong; nothing when all is well. The first hundred.
    pub findings: Vec<Finding>,
}

/// What a verification has come to.
#[derive(Debug)]
pub struct Verified {
    /// Records seen by the last scan.
    pub records: u64,
    /// What was wrong at first.
    pub found: Vec<Finding>,
    /// What is wrong still, after the index was made again.
    pub left: Vec<Finding>,
}

/// Why a scan has no result. It says nothing about the records.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// Another one is running.
    #[error("the store is being verified already")]
    Running,
    /// The state is not known any more.
    #[error("writing has failed, so there is no state to verify against; restart the server")]
    WritingFailed,
    /// The index is wrong, and there is no way to build another one now.
    #[error("the index is wrong and cannot be rebuilt yet")]
    Rebuild(#[source] CompactError),
    /// Storage is closed.
    #[error("the store is closed")]
    Closed,
}

impl Barrier {
    /// Sees every record of the index once, opens it, and holds the sums against the newest head
    /// (FORMAT.md 6). Commits go on meanwhile; each waits for a step at most.
    ///
    /// Dropped half-way it is given up.
    ///
    /// # Errors
    /// [`ScanError`]; what is wrong with the records is no error but a finding.
    pub async fn scan(
        &self,
        pace: Pace,
        reads: Reads,
        progress: &Progress,
    ) -> Result<Scanned, ScanError> {
        let _one = self.scanning.try_lock().map_err(|_| ScanError::Running)?;
        let shared = Arc::clone(&self.shared);
        let begun = self.store.hold(move |_| (shared.watch.begin(reads), shared.watch.records()));
        let (number, records) = begun.await.map_err(|_| ScanError::Closed)?;
        let _given_up = GiveUp { barrier: self, number };
        progress.begin(records);
        let mut scan = Scan { barrier: self, records: 0, value: None, findings: Vec::new() };
        loop {
            let begun = Instant::now();
            let Some(step) = scan.step(number).await? else { break };
            let is_last = step.end.is_some();
            scan.open(step, progress).await?;
            if is_last {
                break;
            }
            match pace {
                Pace::Full => tokio::task::yield_now().await,
                Pace::Background => tokio::time::sleep(begun.elapsed().min(LONGEST_STEP) * 2).await,
            }
        }
        Ok(Scanned { records: scan.records, findings: scan.findings })
    }

    /// Scans the store; what is wrong may be the index alone, and then it is made again and scanned
    /// again.
    ///
    /// # Errors
    /// [`ScanError`].
    pub async fn verify(
        &self,
        pace: Pace,
        reads: Reads,
        progress: &Progress,
    ) -> Result<Verified, ScanError> {
        let first = self.scan(pace, reads, progress).await?;
        if first.findings.is_empty() {
            let (found, left) = (Vec::new(), Vec::new());
            return Ok(Verified { records: first.records, found, left });
        }
        if let Err(error) = self.rebuild_index().await? {
            tracing::error!(%error, "the index is wrong and cannot be rebuilt");
            let left = first.findings.clone();
            return Ok(Verified { records: first.records, found: first.findings, left });
        }
        let second = self.scan(pace, reads, progress).await?;
        Ok(Verified { records: second.records, found: first.findings, left: second.findings })
    }

    /// Builds the index from snapshot and journal; the inner error says that these are no better.
    async fn rebuild_index(&self) -> Result<Result<(), CompactError>, ScanError> {
        loop {
            let store = self.store.clone();
            let rebuilt = tokio::task::spawn_blocking(move || store.rebuild_index()).await;
            match rebuilt.unwrap_or(Err(CompactError::Closed)) {
                Ok(()) => return Ok(Ok(())),
                Err(CompactError::Closed) => return Err(ScanError::Closed),
                // A compaction: the index is still wrong after it.
                Err(CompactError::Running) => tokio::time::sleep(COMPACTION_PAUSE).await,
                Err(
                    error @ (CompactError::Unreadable(_)
                    | CompactError::NotTheState { .. }
                    | CompactError::Unsteady { .. }),
                ) => return Ok(Err(error)),
                Err(error) => return Err(ScanError::Rebuild(error)),
            }
        }
    }

    /// Whether reads are checked by the freshness table: after the first good scan.
    pub fn is_fresh(&self) -> bool {
        self.shared.watch.is_fresh()
    }

    /// Whether somebody has met a record that is not the newest one under its key since this was
    /// asked last: then it is time to verify.
    pub fn takes_suspicion(&self) -> bool {
        self.shared.watch.takes_suspicion()
    }
}

/// How long a rebuild waits before it looks again whether a compaction has ended.
const COMPACTION_PAUSE: Duration = Duration::from_millis(200);
/// A step is a few milliseconds; one that took longer has waited, not worked.
const LONGEST_STEP: Duration = Duration::from_millis(50);

/// Gives the scan up when it ends, however it ends.
struct GiveUp<'a> {
    barrier: &'a Barrier,
    number: u64,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.barrier.shared.watch.give_up(self.number);
    }
}

struct Scan<'a> {
    barrier: &'a Barrier,
    records: u64,
    /// The value in chunks that was met last: its key, and how many chunks it has.
    value: Option<(Vec<u8>, u32)>,
    findings: Vec<Finding>,
}

impl Scan<'_> {
    /// Takes a step; `None` when the index cannot be read, which is a finding.
    async fn step(&mut self, number: u64) -> Result<Option<Step>, ScanError> {
        let (shared, terms) = (Arc::clone(&self.barrier.shared), self.barrier.terms.load_full());
        let step = self.barrier.store.hold(move |held| shared.watch.step(number, &terms, held));
        match step.await.map_err(|_| ScanError::Closed)? {
            Ok(step) => Ok(Some(step)),
            Err(StepError::Index(error)) => {
                tracing::error!(%error, "the index cannot be read");
                self.findings.push(Finding::of_all(Fault::Index));
                Ok(None)
            }
            Err(StepError::WritingFailed) => Err(ScanError::WritingFailed),
            Err(StepError::Over) => Err(ScanError::Running),
        }
    }

    /// Opens what a step has seen.
    async fn open(&mut self, step: Step, progress: &Progress) -> Result<(), ScanError> {
        for (place, (key, header, is_stale)) in step.seen.into_iter().enumerate() {
            let fault = match is_stale {
                true => Some(Fault::Stale),
                false => self.fault_of(&key, header).await?,
            };
            if let Some(fault) = fault {
                self.find(&key, fault);
            }
            self.records += 1;
            progress.done.store(self.records, Ordering::Relaxed);
            if place % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        if step.end == Some(false) {
            self.findings.truncate(FINDINGS - 1);
            self.findings.push(Finding::of_all(Fault::Sums));
        }
        Ok(())
    }

    fn find(&mut self, key: &[u8], fault: Fault) {
        if self.findings.len() < FINDINGS {
            self.findings.push(Finding::at(&self.barrier.keyring.load(), key, fault));
        }
    }

    /// Opens the record under a key as it is now: it may have been replaced since it was seen, and
    /// both are accounted for.
    async fn fault_of(
        &mut self,
        key: &[u8],
        header: Option<RecordHeader>,
    ) -> Result<Option<Fault>, ScanError> {
        let Some(place) = Place::parse(key) else { return Ok(Some(Fault::Foreign)) };
        if let Some((value, index)) = place.chunk {
            return self.chunk(value, index, key).await;
        }
        if header.is_some_and(|header| record::is_head(header.as_bytes())) {
            self.value = self.chunks_of(key).await?.map(|chunks| (key.to_vec(), chunks));
        }
        fault(self.barrier.read(key).await.map(drop))
    }

    /// A chunk has been opened with its value, if it belongs to one.
    async fn chunk(
        &mut self,
        value: &[u8],
        index: u32,
        key: &[u8],
    ) -> Result<Option<Fault>, ScanError> {
        let met = self.value.as_ref().filter(|(met, _)| met == value);
        if met.is_some_and(|(_, chunks)| index <= *chunks) {
            return Ok(None);
        }
        // The value may have been replaced since.
        for _ in 0..LOOKS {
            let chunks = self.chunks_of(value).await?.unwrap_or(0);
            self.value = Some((value.to_vec(), chunks));
            let is_there = match self.barrier.store.get(key).await {
                Ok(record) => record.is_some(),
                Err(error) => return fault(Err(error.into())),
            };
            if index <= chunks || !is_there {
                return Ok(None);
            }
        }
        Ok(Some(Fault::Orphan))
    }

    /// How many chunks the value under a key has now; `None` when it is none in chunks.
    async fn chunks_of(&self, key: &[u8]) -> Result<Option<u32>, ScanError> {
        match self.barrier.store.get(key).await {
            Ok(Some(record)) if record::is_head(&record) => {
                let head = LargeHead::open(&self.barrier.terms.load(), key, &record);
                Ok(head.ok().map(|head| head.chunks()))
            }
            Ok(_) | Err(storage::ReadError::Index(_)) => Ok(None),
            Err(storage::ReadError::Closed) => Err(ScanError::Closed),
        }
    }
}

/// What a read that should have gone well means.
fn fault(read: Result<(), ReadError>) -> Result<Option<Fault>, ScanError> {
    match read {
        Ok(()) => Ok(None),
        Err(ReadError::Storage(storage::ReadError::Closed)) => Err(ScanError::Closed),
        Err(ReadError::Storage(storage::ReadError::Index(_))) => Ok(Some(Fault::Index)),
        Err(ReadError::Stale) => Ok(Some(Fault::Stale)),
        Err(ReadError::Damaged | ReadError::Layout { .. } | ReadError::Path(_)) => {
            Ok(Some(Fault::Damaged))
        }
    }
}
