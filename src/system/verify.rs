use serde::Serialize;

use super::System;
use crate::{
    barrier::SpaceId,
    gate::{ApiError, Permit},
    route::Reply,
    vault::{Outcome, Unsealed, Verdict},
};

/// `GET verify`, and the answer to a `POST`. Kista's own.
#[derive(Serialize)]
pub(super) struct Wire {
    /// `idle`, `waiting` to begin, or `running`.
    state: &'static str,
    records_done: u64,
    records_total: u64,
    /// Whether each read is checked for the newest record.
    reads_checked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    /// The last one that ended since the server started.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Last>,
}

#[derive(Serialize)]
struct Last {
    /// `good`, `repaired`, `tampered` or `unfinished`.
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    started: String,
    ended: String,
    records: u64,
    findings: Vec<Found>,
}

#[derive(Serialize)]
struct Found {
    fault: &'static str,
    /// The mount, or nothing when it is none that there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    mount: Option<String>,
    /// The record in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl System {
    /// `GET sys/verify`: how far a verification is, and what the last one found.
    pub(super) async fn verify_status(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<Wire>, ApiError> {
        Ok(Reply::of(self.verification()?))
    }

    /// `POST sys/verify`: begins one now, unless one is running.
    pub(super) async fn verify(&self, _: &Permit<'_>, (): ()) -> Result<Reply<Wire>, ApiError> {
        self.vault.verification().ask();
        Ok(Reply::of(self.verification()?))
    }

    fn verification(&self) -> Result<Wire, ApiError> {
        let open = self.open()?;
        let report = self.vault.verification().report();
        let state = match (report.running, report.is_wanted) {
            (Some(_), _) => "running",
            (None, true) => "waiting",
            (None, false) => "idle",
        };
        Ok(Wire {
            state,
            records_done: report.done,
            records_total: report.total,
            reads_checked: open.ground.barrier.is_fresh(),
            started: report.running.map(|started| started.rfc3339()),
            last: report.last.map(|outcome| Last::of(outcome, &open)),
        })
    }
}

impl Last {
    fn of(outcome: Outcome, open: &Unsealed) -> Self {
        let table = open.mounts.table();
        let mount_of = |space: SpaceId| {
            if space == SpaceId::SYSTEM {
                return Some("sys/".to_owned());
            }
            let mounts = table.all();
            let mount = mounts.iter().find(|entry| SpaceId(entry.record.space) == space);
            mount.map(|entry| entry.record.full_path())
        };
        let findings = outcome.findings.into_iter().map(|finding| Found {
            fault: finding.fault.word(),
            mount: finding.space.and_then(mount_of),
            path: finding.path,
        });
        let reason = match &outcome.verdict {
            Verdict::Unfinished(reason) => Some(reason.clone()),
            Verdict::Good | Verdict::Repaired | Verdict::Tampered => None,
        };
        Self {
            result: outcome.verdict.word(),
            reason,
            started: outcome.started.rfc3339(),
            ended: outcome.ended.rfc3339(),
            records: outcome.records,
            findings: findings.collect(),
        }
    }
}
