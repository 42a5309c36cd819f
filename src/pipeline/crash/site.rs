use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    clock::{Clock, ManualClock, Timestamp},
    config::{AuditFile, AuditFormat, Freshness, Verify},
    disk::Disk,
    gate::{Connection, Head, Media, Operation, Query, RequestPath},
    pipeline::Kista,
    secret::{SecretBytes, SecretString},
    storage::Options,
    token::TtlLimits,
    vault::{Settings, StartError, Vault, Verdict},
};

/// Where vaults are started. The real folder carries nothing but the lock.
#[derive(Clone)]
pub(super) struct Site {
    folder: Arc<TempDir>,
    clock: Arc<ManualClock>,
    name: &'static str,
}

/// A vault that runs over a disk.
pub(super) struct Running {
    pub(super) kista: Kista,
    /// Ids of calls that were answered, so that the audit file has two lines of each.
    heard: Mutex<Vec<String>>,
}

/// Status and body of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    id: String,
    is_audited: bool,
}

impl Site {
    pub(super) fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)));
        Self { folder: Arc::new(tempfile::tempdir().unwrap()), clock, name: "data" }
    }

    /// The same with another data folder.
    pub(super) fn with_folder(&self, name: &'static str) -> Self {
        Self { name, ..self.clone() }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Turns the clock, so that what is made later differs.
    pub(super) fn turn_on(&self) {
        self.clock.advance(Duration::from_secs(1));
    }

    pub(super) fn start(&self, disk: &Disk) -> Result<Running, StartError> {
        let mut vault = self.start_vault(disk);
        // The last holder of the one before may not have let go of the lock yet.
        for _ in 0..LOCK_TRIES {
            if !matches!(vault, Err(StartError::Lock(_))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            vault = self.start_vault(disk);
        }
        Ok(Running { kista: Kista::new(vault?), heard: Mutex::default() })
    }

    fn start_vault(&self, disk: &Disk) -> Result<Vault, StartError> {
        let hour = Duration::from_secs(3600);
        let ttl = TtlLimits { default: hour, max: hour };
        let settings = Settings {
            verify: Verify { freshness: Freshness::Strict, ..Verify::default() },
            storage: Options {
                disk: disk.clone(),
                segment_bytes: SEGMENT_BYTES,
                ..Options::default()
            },
            audit_file: Some(AuditFile {
                path: PathBuf::from(AUDIT),
                hash_paths: false,
                format: AuditFormat::default(),
            }),
            anchors: vec![PathBuf::from(ANCHOR)],
            ..Settings::new(self.data(), ttl)
        };
        Vault::start(settings, Arc::clone(&self.clock) as Arc<dyn Clock>)
    }
}

impl Running {
    /// One request, as the HTTP layer would hand it on.
    pub(super) async fn call(
        &self,
        token: &str,
        operation: Operation,
        path: &str,
        body: &str,
    ) -> Answer {
        let path = path.to_owned();
        let (kista, token, body) = (self.kista.clone(), token.to_owned(), body.to_owned());
        let answer = call(kista, token, operation, path, body).await;
        self.hear(&answer);
        answer
    }

    /// Keeps in mind that a call was answered.
    pub(super) fn hear(&self, answer: &Answer) {
        if answer.is_audited {
            self.lock_heard().push(answer.id.clone());
        }
    }

    /// Ids of the calls that were answered since this was asked last.
    pub(super) fn take_heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.lock_heard())
    }

    fn lock_heard(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unseals with a share of one; whether it opens.
    pub(super) async fn unseal(&self, share: &str) -> bool {
        let body = format!("{{\"key\":{share:?}}}");
        let answer = self.call("", Operation::Write, "sys/unseal", &body).await;
        answer.status == 200 && answer.body["sealed"] == false
    }

    /// The same for a store that an anchor has shown to be an older one.
    pub(super) async fn accept_rollback(&self, share: &str) -> bool {
        let body = format!("{{\"key\":{share:?},\"accept_rollback\":true}}");
        let answer = self.call("", Operation::Write, "sys/unseal", &body).await;
        answer.status == 200 && answer.body["sealed"] == false
    }

    /// Does what the audit thread does each second; whether all that was written is synced then.
    pub(super) fn sync_audit(&self) -> bool {
        let Some(open) = self.kista.vault().unsealed() else { return false };
        open.ground.audit.tick_now();
        open.ground.audit.health().iter().all(|device| device.error.is_none())
    }

    /// What was not as it was left when the vault was opened.
    pub(super) fn notices(&self) -> Vec<String> {
        self.kista.vault().unsealed().map(|open| open.notices.clone()).unwrap_or_default()
    }

    /// Whether the verification that it opened with found all well.
    pub(super) fn is_verified(&self) -> bool {
        let last = self.kista.vault().verification().report().last;
        last.is_some_and(|outcome| outcome.verdict == Verdict::Good)
    }

    /// Ends the process as a crash would: nothing is closed. Its jobs end too, and the lock is
    /// free.
    pub(super) async fn vanish(self) {
        let vault = Arc::downgrade(self.kista.vault());
        drop(self);
        for _ in 0..10_000 {
            if vault.strong_count() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("something holds the vault");
    }
}

/// One request; also for those that run beside each other.
pub(super) async fn call(
    kista: Kista,
    token: String,
    operation: Operation,
    path: String,
    body: String,
) -> Answer {
    let media = if operation == Operation::Patch { Media::MergePatch } else { Media::Json };
    let is_told = !token.is_empty() && path != "sys/seal";
    let token = (!token.is_empty()).then(|| SecretString::from_string(token));
    let remote = SocketAddr::from(([127, 0, 0, 1], 40_000));
    let id = format!("00000000-0000-4000-8000-{:012x}", CALLS.fetch_add(1, Ordering::Relaxed));
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    let head = Head {
        id: id.clone(),
        operation,
        path: RequestPath::parse(path).unwrap(),
        query: Query::parse(query).unwrap(),
        token,
        namespace: None,
        wrap_ttl: None,
        media,
        connection: Connection { remote, client_certificate: None },
    };
    let released = match kista.begin(Box::new(head)).await {
        Ok(begun) => begun.call(SecretBytes::copy_of(body.as_bytes())).await,
        Err(released) => released,
    };
    let (status, _, body) = released.into_parts();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    // Sealed there is no audit key; what failed may have failed for want of a line.
    Answer { status, body, id, is_audited: is_told && status < 500 && status != 503 }
}

/// Replaces a file on a simulated disk, durably; `None` takes it away.
pub(super) fn put_file(disk: &Disk, path: &Path, content: Option<&[u8]>) {
    drop(disk.remove_file(path));
    if let Some(content) = content {
        let file = disk.create_new(path).unwrap();
        file.write_all_at(content, 0).unwrap();
        file.sync_all().unwrap();
    }
    disk.sync_dir(path.parent().unwrap()).unwrap();
}

/// The content of a file on a simulated disk; `None` when there is none.
pub(super) fn file_content(disk: &Disk, path: &Path) -> Option<Vec<u8>> {
    disk.exists(path).unwrap().then(|| disk.read(path, u64::MAX).unwrap())
}

/// Calls so far, of all lives: none has another's id.
static CALLS: AtomicU64 = AtomicU64::new(1);
/// The anchor and the audit checkpoint beside it, each with what it holds.
pub(super) struct Anchors(Vec<(&'static str, Option<Vec<u8>>)>);

impl Anchors {
    pub(super) fn on(disk: &Disk) -> Self {
        let files = [ANCHOR, "/anchor.checkpoint"];
        Self(files.map(|file| (file, file_content(disk, Path::new(file)))).into())
    }

    /// Puts them beside another store.
    pub(super) fn put(&self, disk: &Disk) {
        for (file, content) in &self.0 {
            put_file(disk, Path::new(file), content.as_deref());
        }
    }
}

/// The audit file and the anchor, on the simulated disk.
pub(super) const AUDIT: &str = "/audit.log";
const ANCHOR: &str = "/anchor";
/// How often a lock is asked for that is held, a millisecond apart.
const LOCK_TRIES: usize = 5_000;
/// Small, so that a life fills several.
const SEGMENT_BYTES: u64 = 32 * 1024;
