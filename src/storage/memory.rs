//! A store in memory, for tests and development; it fails on command.

use super::Store;

/// The other end of a store in memory: makes it fail, and opens its records again.
#[derive(Clone, Debug)]
pub struct Faults {}

impl Faults {
    /// From now on every append to the journal fails.
    pub fn fail_appends(&self) {}

    /// From now on every sync of the journal fails; what was appended is lost at [`reopen`](Self::reopen).
    pub fn fail_syncs(&self) {}

    /// From now on every read fails, or answers again.
    pub fn fail_reads(&self, _fail: bool) {}

    /// The next batch, whatever it holds, loses against another writer.
    pub fn conflict_next(&self) {}

    /// The same records in another store, as after a restart: not attached, no faults.
    pub fn reopen(&self) -> (Store, Faults) {
        (Store {}, self.clone())
    }
}
