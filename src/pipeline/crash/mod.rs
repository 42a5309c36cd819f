//! The life of a vault on a simulated disk, ended at every operation and with every fault.
//!
//! What it must show: after any crash the store opens, or was never made; every acknowledged change
//! is there; the one that was under way is there whole or not at all; nothing that was gone is
//! back; every record opens and they are those that the newest commit counts (the vault opens with
//! `freshness = "strict"`, which verifies first).
//!
//! - `site.rs`: a vault over a simulated disk, asked as HTTP would ask it
//! - `life.rs`: what was done when, and what is certain after it
//! - `lines.rs`: the two lines of a request whose first waits for the second
//! - `check.rs`: what must be true of a disk that a crash has left
//! - `ends.rs`: a life ended at every operation
//! - `crashes.rs`: a long life with a little of everything
//! - `slots.rs`: slots added and dropped
//! - `recoveries.rs`: a crash while the store recovers from one
//! - `rollbacks.rs`: a rollback accepted
//! - `backups.rs`: a backup made and restored
//! - `upgrades.rs`: a mount on its way from version 1 of KV to 2
//! - `faults.rs`: a short life, with each call to the disk failing in each way
//!
//! `KISTA_CRASH_LONG=1` looks at every point instead of a sample (`just crash`).

mod backups;
mod check;
mod crashes;
mod ends;
mod faults;
mod life;
mod lines;
mod recoveries;
mod rollbacks;
mod site;
mod slots;
mod upgrades;

/// Whether every point is looked at.
fn is_long() -> bool {
    std::env::var_os("KISTA_CRASH_LONG").is_some()
}
