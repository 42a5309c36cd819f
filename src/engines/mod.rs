//! Secret engines: wings that are mounted under a path of the operator's choice.
//!
//! They hold no storage: what they read and write comes from the [`Permit`](crate::gate::Permit) of a
//! request that the gate has let in.
//!
//! - `kv2/`: versioned secrets

pub mod kv2;
