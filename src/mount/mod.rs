//! What is mounted where: the table that a request's path is looked up in.
//!
//! Mounts change while the server runs, so the table is swapped whole; a request keeps the one it
//! began with. No two mounts lie under one another.
//!
//! - `table.rs`: [`Table`], from a path to its mount
//! - `record.rs`: [`Record`], a mount as it is stored
//! - `registry.rs`: the one file that names every wing
//! - `mounts.rs`: [`Mounts`], enable, list and disable
//! - `tune.rs`: changing and moving one; `upgrade.rs`: KV from version 1 to 2

mod mounts;
mod record;
mod registry;
mod table;
mod tune;
mod upgrade;

pub use mounts::{DisableError, EnableError, LoadError, Mounts, NewMount, SweepError};
pub use record::{Class, KeptLists, Listing, Record, SYSTEM_UUID, Upgrade};
pub use table::{Entry, Table};
pub use tune::{MoveError, TuneError, Tuning};
pub use upgrade::UpgradeError;
