use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    clock::{Clock, ManualClock, Timestamp},
    config::{Freshness, Verify},
    disk::Disk,
    gate::{Connection, Head, Media, Operation, Query, RequestPath},
    pipeline::Kista,
    secret::{SecretBytes, SecretString},
    storage::Options,
    token::TtlLimits,
    vault::{Settings, StartError, Vault, Verdict},
};

/// Where vaults are started. The real folder carries nothing but the lock.
pub(super) struct Site {
    folder: TempDir,
    clock: Arc<ManualClock>,
}

/// A vault that runs over a disk.
pub(super) struct Running {
    pub(super) kista: Kista,
}

/// Status and body of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Site {
    pub(super) fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)));
        Self { folder: tempfile::tempdir().unwrap(), clock }
    }

    pub(super) fn start(&self, disk: &Disk) -> Result<Running, StartError> {
        let hour = Duration::from_secs(3600);
        let ttl = TtlLimits { default: hour, max: hour };
        let settings = Settings {
            verify: Verify { freshness: Freshness::Strict, ..Verify::default() },
            storage: Options {
                disk: disk.clone(),
                segment_bytes: SEGMENT_BYTES,
                ..Options::default()
            },
            ..Settings::new(self.folder.path().join("data"), ttl)
        };
        let vault = Vault::start(settings, Arc::clone(&self.clock) as Arc<dyn Clock>)?;
        Ok(Running { kista: Kista::new(vault) })
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
        call(self.kista.clone(), token.to_owned(), operation, path.to_owned(), body.to_owned())
            .await
    }

    /// Unseals with a share of one; whether it opens.
    pub(super) async fn unseal(&self, share: &str) -> bool {
        let body = format!("{{\"key\":{share:?}}}");
        let answer = self.call("", Operation::Write, "sys/unseal", &body).await;
        answer.status == 200 && answer.body["sealed"] == false
    }

    /// Whether the verification that it opened with found all well.
    pub(super) fn is_verified(&self) -> bool {
        let last = self.kista.vault().verification().report().last;
        last.is_some_and(|outcome| outcome.verdict == Verdict::Good)
    }

    /// Ends the process as a crash would: nothing is closed. Its jobs end too, and the lock is free.
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
    let token = (!token.is_empty()).then(|| SecretString::from_string(token));
    let remote = SocketAddr::from(([127, 0, 0, 1], 40_000));
    let head = Head {
        id: "00000000-0000-4000-8000-000000000000".to_owned(),
        operation,
        path: RequestPath::parse(&path).unwrap(),
        query: Query::default(),
        token,
        namespace: None,
        wrap_ttl: None,
        media,
        connection: Connection { remote, client_certificate: None },
    };
    let released = match kista.begin(head).await {
        Ok(begun) => begun.call(SecretBytes::copy_of(body.as_bytes())).await,
        Err(released) => released,
    };
    let (status, _, body) = released.into_parts();
    Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() }
}

/// Small, so that a life fills several.
const SEGMENT_BYTES: u64 = 32 * 1024;
