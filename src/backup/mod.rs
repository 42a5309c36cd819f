//! Backups: one file that holds a store as it stood at one commit.
//!
//! A backup is a copy of files that never change and of the journal up to one commit, so it is
//! consistent by construction, and no key is needed to make one: what is in it is sealed, and opens
//! with a slot secret of its time. It is verified by being opened, and restored beside the old
//! store, never over it.
//!
//! - `create.rs`: [`create`], [`create_file`]
//! - `restore.rs`: [`look`], [`check`], [`restore`]
//! - `proof.rs`: [`prove`], which opens what was restored
//! - `repair.rs`: [`repair`], which mends a store from what is kept twice
//! - `bundle.rs`: the bytes (FORMAT.md 10)
//! - `damage.rs`: any change of them is refused

mod bundle;
mod create;
#[cfg(test)]
mod damage;
mod proof;
mod repair;
mod restore;
#[cfg(test)]
mod tests;

pub use bundle::{BundleError, Part, Summary};
pub use create::{CreateError, SealCopy, create, create_file};
pub use proof::{Key, ProofError, Proven, prove};
pub use repair::{Mended, Remedy, RepairError, Repaired, repair};
pub use restore::{RestoreError, check, look, restore};
