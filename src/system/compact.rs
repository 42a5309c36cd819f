use serde::Serialize;

use super::System;
use crate::{
    gate::{ApiError, Permit},
    route::Reply,
    storage::{Stage, Usage},
    vault::{CompactionEnd, Unsealed},
};

/// `GET compact`, and the answer to a `POST`. Kista's own.
#[derive(Serialize)]
pub(super) struct Wire {
    /// `idle` or `running`.
    state: &'static str,
    /// What it does: `reading`, `writing`, `checking`, `deleting` or `indexing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'static str>,
    bytes_done: u64,
    bytes_total: u64,
    /// Whether something that was removed still waits to be erased.
    erasure_due: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Last>,
    journal_bytes: u64,
    snapshot_bytes: u64,
    index_bytes: u64,
    free_bytes: u64,
}

#[derive(Serialize)]
struct Last {
    ended: String,
    /// `done` or `failed`.
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    records: u64,
}

impl System {
    /// `GET sys/compact`: how far a compaction is, and what the store takes on the disk.
    pub(super) async fn compaction(&self, _: &Permit<'_>, (): ()) -> Result<Reply<Wire>, ApiError> {
        Ok(Reply::of(Wire::of(&*self.open()?).await?))
    }

    /// `POST sys/compact`: begins one now, unless one is running.
    pub(super) async fn compact(&self, _: &Permit<'_>, (): ()) -> Result<Reply<Wire>, ApiError> {
        let open = self.open()?;
        open.compaction.start(&open.ground.barrier, self.vault.clock());
        Ok(Reply::of(Wire::of(&open).await?))
    }
}

impl Wire {
    async fn of(open: &Unsealed) -> Result<Self, ApiError> {
        let barrier = &open.ground.barrier;
        let report = open.compaction.report();
        let erasure_due = barrier.erasure_due().await.map_err(ApiError::internal)?.is_some();
        let usage = barrier.usage().map_err(ApiError::internal)?;
        let Usage { journal_bytes, snapshot_bytes, index_bytes, free_bytes, .. } = usage;
        let (done, total) = report.progress.map_or((0, 0), |at| (at.done, at.total));
        Ok(Self {
            state: if report.is_running { "running" } else { "idle" },
            stage: report.progress.map(|at| word(at.stage)),
            bytes_done: done,
            bytes_total: total,
            erasure_due,
            last: report.last.map(Last::of),
            journal_bytes,
            snapshot_bytes,
            index_bytes,
            free_bytes,
        })
    }
}

impl Last {
    fn of(end: CompactionEnd) -> Self {
        let ended = end.at.rfc3339();
        match end.outcome {
            Ok(compacted) => {
                Self { ended, result: "done", reason: None, records: compacted.records }
            }
            Err(reason) => Self { ended, result: "failed", reason: Some(reason), records: 0 },
        }
    }
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Reading => "reading",
        Stage::Writing => "writing",
        Stage::Checking => "checking",
        Stage::Deleting => "deleting",
        Stage::Indexing => "indexing",
    }
}
