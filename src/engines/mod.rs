//! Secret engines: wings that are mounted under a path of the operator's choice.
//!
//! They hold no storage: what they read and write comes from the [`Permit`](crate::gate::Permit) of
//! a request that the gate has let in.
//!
//! - `kv1/`: secrets without versions
//! - `kv2/`: versioned secrets
//! - `cubbyhole.rs`: secrets of one token
//! - `transit/`: encryption for those who keep the data themselves
//! - `plain.rs`: secrets that are one record each
//! - `upgrade.rs`: from the first to the second
//! - `path.rs`, `listing.rs`, `value.rs`: what both name, list and carry

pub mod cubbyhole;
pub mod kv1;
pub mod kv2;
mod listing;
mod path;
mod plain;
pub mod transit;
pub mod upgrade;
mod value;

use crate::gate::ApiError;

/// How often a write is tried against others to the same secret. Each round at least one of them
/// wins.
const TRIES: usize = 1_000;

fn too_many_writes() -> ApiError {
    ApiError::new(503, "too many writes to one secret at once; try again")
}
