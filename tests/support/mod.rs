//! What whole-vault tests stand on.
//!
//! - `vault.rs`: [`TestVault`], the library's vault over a folder that goes away
//! - `transit.rs`: requests to a transit mount
//! - `process.rs`: [`Process`], the real binary over such a folder
//! - `site.rs`: [`Site`], a user of that binary
//! - `terminal.rs`: [`Terminal`], a person's terminal
//! - `snapshot.rs`: [`snapshot`], what was printed before

mod process;
mod site;
mod snapshot;
mod terminal;
pub(crate) mod transit;
mod vault;

pub(crate) use process::{Kept, Process};
pub(crate) use site::Site;
pub(crate) use snapshot::snapshot;
pub(crate) use terminal::{INTERRUPT, Terminal};
pub(crate) use vault::{TestVault, files_under};

/// Status and text of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON; an empty one is `null`.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}
