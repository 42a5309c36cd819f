//! What is mounted where: the table that a request's path is looked up in.
//!
//! Mounts change while the server runs, so the table is swapped whole; a request keeps the one it
//! began with. No two mounts lie under one another.
//!
//! - `table.rs`: [`Table`], from a path to its mount
//! - `record.rs`: [`Record`], a mount as it is stored
//! - `registry.rs`: the one file that names every wing
//! - `mounts.rs`: [`Mounts`], enable, list and disable

mod mounts;
mod record;
mod registry;
mod table;

pub use mounts::{DisableError, EnableError, LoadError, Mounts, NewMount, SweepError};
pub use record::{Class, Record};
pub use table::{Entry, Table};
