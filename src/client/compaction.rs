use serde::{Deserialize, Serialize};

use super::{Capability, Error, Fields, Sys, transport::Call};

/// `GET sys/compact`, and the answer to a `POST`. Kista's own.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Compaction {
    /// `idle` or `running`.
    pub state: String,
    /// `reading`, `writing`, `checking`, `deleting` or `indexing`, while one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Bytes done in this stage.
    pub bytes_done: u64,
    /// Bytes that there are to do in it, about.
    pub bytes_total: u64,
    /// Whether something that was removed still waits to be erased.
    pub erasure_due: bool,
    /// The last one that ended since the vault was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Compacted>,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Bytes of the snapshots.
    pub snapshot_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Bytes that are free on the store's file system.
    pub free_bytes: u64,
}

/// What a compaction has come to.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
pub struct Compacted {
    /// When it ended.
    pub ended: String,
    /// `done` or `failed`.
    pub result: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Records in the new snapshot.
    pub records: u64,
}

impl Compaction {
    /// Whether none runs that was asked for.
    pub fn is_idle(&self) -> bool {
        self.state == "idle"
    }
}

impl Sys<'_> {
    /// How far a compaction is, and what the store takes on the disk. Needs `sudo`.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn compaction(&self) -> Result<Compaction, Error> {
        self.client.send(&Call::read("sys/compact".to_owned(), "")?).await?.data()
    }

    /// Compacts the store now, and erases what was removed, unless it is being done. Needs `sudo`.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn compact(&self) -> Result<Compaction, Error> {
        let body = Fields::new().to_json();
        let call = Call::write("sys/compact".to_owned(), Capability::Sudo, body)?;
        self.client.send(&call).await?.data()
    }
}
