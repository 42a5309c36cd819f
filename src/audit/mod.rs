//! A line for each request and each answer, hashed and chained, before anything leaves.
//!
//! A device writes Vault's JSON lines with a keyed digest in the place of every value, links each
//! line to the one before, and signs a checkpoint of the chain now and then (FORMAT.md 9). This
//! folder decides nothing about a request and keeps no plaintext; who has to write a line is the
//! gate's matter.
//!
//! - `record.rs`: [`Entry`] and its parts, what a line says; [`Admitted`], a line that waited
//! - `notice.rs`: [`Notice`], what the server itself has to tell
//! - `digest.rs`: the digests of values
//! - `json.rs`: writing members in order
//! - `chain.rs`: the link between lines, and checkpoints; [`SignedCheckpoint`], one kept elsewhere
//! - `tail.rs`: what a file ends with, when it is opened again
//! - `device/`: [`DeviceConfig`], one file, and the lines that wait for it
//! - `broker.rs`: [`Broker`], all devices
//! - `verify.rs`: [`Verifier`], the check of a file

mod broker;
mod chain;
mod device;
mod digest;
mod json;
mod notice;
mod record;
mod tail;
#[cfg(test)]
mod tests;
mod verify;

pub use broker::{AuditError, Broker, DeviceFailure, DeviceHealth, OpenError};
pub use chain::SignedCheckpoint;
pub use device::DeviceConfig;
pub use notice::Notice;
pub use record::{
    Admitted, AuthPart, Entry, Kind, MountPart, PolicyResults, RequestPart, ResponsePart,
};
pub use tail::{Finding, named_position};
pub use verify::{BadLine, LineFault, Verified, Verifier, VerifyError};
