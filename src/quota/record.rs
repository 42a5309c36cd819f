use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BadRate, Rate};
use crate::barrier::Record;

/// A quota as it is stored, under its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    /// What it is for.
    pub target: Target,
    /// Requests that each source may make in an interval.
    pub rate: f64,
    /// The interval in seconds.
    pub interval: u64,
    /// Seconds for which a source that was refused is refused whatever it asks, 0 for none.
    pub block_interval: u64,
    /// Whether namespaces below take it over, as it was asked for; kept for clients, since there
    /// are no namespaces.
    pub inheritable: Option<bool>,
}

/// What a quota is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Every path.
    Everything,
    /// A mount. It is named by its identifier, so that a quota moves with its mount and ends with
    /// it.
    Mount {
        /// The mount's identifier.
        uuid: String,
        /// The path below it, or all paths that begin so if it ends with an asterisk; empty for
        /// all of the mount.
        below: String,
    },
}

/// What holds for all quotas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Paths that no quota counts, with all that is below them.
    pub exempt_paths: Vec<String>,
    /// Whether a refused request gets lines in the audit file.
    pub audits: bool,
    /// Whether answers tell what is left.
    pub shows: bool,
}

impl Record for Quota {
    const VERSION: u8 = 1;
}

impl Record for Config {
    const VERSION: u8 = 1;
}

impl Quota {
    /// What is counted.
    ///
    /// # Errors
    /// [`BadRate`].
    pub fn counted(&self) -> Result<Rate, BadRate> {
        let seconds = Duration::from_secs;
        Rate::new(self.rate, seconds(self.interval), seconds(self.block_interval))
    }
}

impl Default for Config {
    fn default() -> Self {
        let exempt_paths = DEFAULT_EXEMPT.map(str::to_owned).to_vec();
        Self { exempt_paths, audits: false, shows: false }
    }
}

/// The peers' default: what a probe asks for, and what an operator needs when nothing else goes.
pub const DEFAULT_EXEMPT: [&str; 7] = [
    "sys/generate-recovery-token/attempt",
    "sys/generate-recovery-token/update",
    "sys/generate-root/attempt",
    "sys/generate-root/update",
    "sys/health",
    "sys/seal-status",
    "sys/unseal",
];
