use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{Unsealed, Vault};
use crate::{
    audit::Notice,
    barrier::{Barrier, Finding, Pace, Progress, Reads, ScanError, Verified},
    clock::{Clock, Timestamp},
    config::{self, Freshness},
};

/// The verification of a vault's store: when it is due, how far it is, what it came to.
#[derive(Debug)]
pub struct Verification {
    settings: config::Verify,
    clock: Arc<dyn Clock>,
    progress: Progress,
    wake: Notify,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whoever asked does not want to wait for its time.
    is_wanted: bool,
    due: Option<Instant>,
    running: Option<Timestamp>,
    last: Option<Outcome>,
}

/// What a verification has come to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What it says of the store.
    pub verdict: Verdict,
    /// Records seen.
    pub records: u64,
    /// What was wrong, of a repaired store before the repair.
    pub findings: Vec<Finding>,
}

/// What a verification says of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every record opens, and they are those that the newest commit counts.
    Good,
    /// The index was wrong and was rebuilt from the journal; now all is well.
    Repaired,
    /// The records are not those that the newest commit counts, and the vault was sealed.
    Tampered,
    /// It broke off, and this is why; it says nothing of the store.
    Unfinished(String),
}

impl Verdict {
    /// One word, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Repaired => "repaired",
            Self::Tampered => "tampered",
            Self::Unfinished(_) => "unfinished",
        }
    }
}

/// What can be told of a verification at any time.
#[derive(Clone, Debug)]
pub struct Report {
    /// When the one that is running began.
    pub running: Option<Timestamp>,
    /// Records that it has opened.
    pub done: u64,
    /// Records that there were when it began.
    pub total: u64,
    /// Whether one was asked for and has not begun.
    pub is_wanted: bool,
    /// The last one that ended.
    pub last: Option<Outcome>,
}

impl Verification {
    pub(super) fn new(settings: config::Verify, clock: Arc<dyn Clock>) -> Self {
        let (progress, wake, inner) = (Progress::default(), Notify::new(), Mutex::default());
        Self { settings, clock, progress, wake, inner }
    }

    /// Asks for one now, at full speed. One that is running is enough.
    pub fn ask(&self) {
        let mut inner = self.inner();
        if inner.running.is_none() {
            inner.is_wanted = true;
            self.wake.notify_one();
        }
    }

    /// Waits until somebody asks for one, or for a moment.
    pub async fn asked(&self) {
        drop(tokio::time::timeout(POLL, self.wake.notified()).await);
    }

    /// How it stands.
    pub fn report(&self) -> Report {
        let inner = self.inner();
        let (done, total) = self.progress.counts();
        Report {
            running: inner.running,
            done,
            total,
            is_wanted: inner.is_wanted,
            last: inner.last.clone(),
        }
    }

    /// What `sys/health` and `sys/seal-status` warn of.
    pub(super) fn warnings(&self, is_sealed: bool) -> Vec<String> {
        let report = self.report();
        let mut warnings = Vec::new();
        if is_sealed && report.running.is_some() {
            warnings.push(format!("verifying: {} of {} records", report.done, report.total));
        }
        match report.last.map(|last| last.verdict) {
            Some(Verdict::Tampered) => warnings.push(TAMPERED.to_owned()),
            Some(Verdict::Repaired) => warnings.push("index_repaired".to_owned()),
            Some(Verdict::Unfinished(_)) => warnings.push("not_verified".to_owned()),
            Some(Verdict::Good) | None => {}
        }
        warnings
    }

    /// The next one is due as soon as the vault is open.
    pub(super) fn opened(&self) {
        self.inner().due = Some(Instant::now());
    }

    /// Whether one is due, and how fast it should go.
    fn take_due(&self, barrier: &Barrier) -> Option<Pace> {
        let mut inner = self.inner();
        if std::mem::take(&mut inner.is_wanted) {
            return Some(Pace::Full);
        }
        let is_due = inner.due.is_none_or(|due| due <= Instant::now());
        (barrier.takes_suspicion() || is_due).then_some(Pace::Background)
    }

    async fn run(&self, barrier: &Barrier, pace: Pace) -> Option<Outcome> {
        let started = self.clock.now();
        self.inner().running = Some(started);
        let _ended = Ended(self);
        let reads = match self.settings.freshness {
            Freshness::Background | Freshness::Strict => Reads::Checked,
            Freshness::Off => Reads::Unchecked,
        };
        let (verdict, records, findings) = match barrier.verify(pace, reads, &self.progress).await {
            // Sealed meanwhile: no result, and no news.
            Err(ScanError::Closed) => return None,
            Err(error) => (Verdict::Unfinished(reason(&error)), 0, Vec::new()),
            Ok(Verified { records, found, .. }) if found.is_empty() => {
                (Verdict::Good, records, found)
            }
            Ok(Verified { records, found, left }) if left.is_empty() => {
                (Verdict::Repaired, records, found)
            }
            Ok(Verified { records, left, .. }) => (Verdict::Tampered, records, left),
        };
        let outcome = Outcome { started, ended: self.clock.now(), verdict, records, findings };
        self.inner().last = Some(outcome.clone());
        Some(outcome)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// However it ends, it runs no more.
struct Ended<'a>(&'a Verification);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        inner.running = None;
        let is_unfinished =
            inner.last.as_ref().is_some_and(|last| matches!(last.verdict, Verdict::Unfinished(_)));
        let rest =
            if is_unfinished { self.0.settings.every.min(RETRY) } else { self.0.settings.every };
        inner.due = Instant::now().checked_add(rest);
    }
}

impl Vault {
    #[cfg(test)]
    pub(super) fn be_strict(&mut self) {
        let settings = Arc::get_mut(&mut self.settings).expect("nothing else has it yet");
        settings.verify.freshness = Freshness::Strict;
        let verification = Verification::new(self.settings.verify, Arc::clone(&self.clock));
        self.verification = Arc::new(verification);
    }

    /// The verification of the store.
    pub fn verification(&self) -> &Arc<Verification> {
        &self.verification
    }

    /// What an operator should know, sealed or not.
    pub fn warnings(&self) -> Vec<String> {
        let open = self.unsealed();
        let mut warnings = self.verification.warnings(open.is_none());
        warnings.extend(open.iter().flat_map(|open| open.warnings()));
        if self.door().rollback_detected {
            warnings.push("rollback_detected".to_owned());
        }
        warnings
    }

    /// Verifies the store if that is due: sees and opens every record, rebuilds the index when they
    /// are not those of the newest commit, and seals the vault when that does not help.
    pub async fn verify_if_due(&self) {
        let Some(open) = self.unsealed() else { return };
        let Some(pace) = self.verification.take_due(&open.ground.barrier) else { return };
        let barrier = Arc::clone(&open.ground.barrier);
        // The vault may be sealed meanwhile, and whoever seals waits for those who hold it.
        let held = Arc::downgrade(&open);
        drop(open);
        let Some(outcome) = self.verification.run(&barrier, pace).await else { return };
        drop(barrier);
        let Some(open) = held.upgrade() else { return };
        self.act_on(&outcome, &open).await;
        drop(open);
        if outcome.verdict == Verdict::Tampered {
            self.seal().await;
        }
    }

    /// The verification that a strict vault opens with; whether it may open.
    pub(super) async fn verify_first(&self, open: &Unsealed) -> bool {
        if self.settings.verify.freshness != Freshness::Strict {
            self.verification.opened();
            return true;
        }
        let Some(outcome) = self.verification.run(&open.ground.barrier, Pace::Full).await else {
            return false;
        };
        self.act_on(&outcome, open).await;
        match outcome.verdict {
            Verdict::Good | Verdict::Repaired => true,
            Verdict::Tampered | Verdict::Unfinished(_) => false,
        }
    }

    /// Tells what came out, and forgets what was read from an index that was wrong.
    async fn act_on(&self, outcome: &Outcome, open: &Unsealed) {
        let Outcome { records, findings, .. } = outcome;
        let findings = findings.len() as u64;
        match &outcome.verdict {
            Verdict::Good => tracing::info!(records, "the store is verified"),
            Verdict::Unfinished(reason) => {
                tracing::warn!(reason, "the store could not be verified");
            }
            Verdict::Repaired => {
                tracing::warn!(records, findings, "the index was wrong and has been rebuilt");
                // Sessions hang on the policies, and are loaded again too.
                open.ground.policies.forget();
                if let Err(error) = open.mounts.reload().await {
                    tracing::error!(%error, "the mounts cannot be read again");
                }
                if let Err(error) = open.quotas.reload().await {
                    tracing::error!(%error, "the quotas cannot be read again");
                }
                audited(open, &Notice::IndexRepaired { findings });
            }
            Verdict::Tampered => {
                tracing::error!(records, findings, "{TAMPERED}");
                audited(open, &Notice::Tampered { findings });
            }
        }
    }
}

/// An error with what caused it.
fn reason(error: &dyn Error) -> String {
    let (mut text, mut under) = (error.to_string(), error.source());
    while let Some(cause) = under {
        text = format!("{text}: {cause}");
        under = cause.source();
    }
    text
}

fn audited(open: &Unsealed, notice: &Notice<'_>) {
    if let Err(error) = open.ground.audit.notice(notice) {
        tracing::error!(%error, "the verification cannot be audited");
    }
}

/// What is said of a store whose records are not those that it should have.
pub(super) const TAMPERED: &str = "tampered: the stored records are not those of the newest commit";
/// When one that broke off is tried again at the latest.
const RETRY: Duration = Duration::from_secs(600);
/// How long a wish that nobody heard waits at most.
const POLL: Duration = Duration::from_secs(1);
