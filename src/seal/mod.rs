//! Key slots and the seal file: the only way from a secret that somebody holds to the keyring.
//!
//! The seal file (FORMAT.md 8) lives in two whole copies beside the store. It holds the slots,
//! each of which wraps the root key, and the keyring sealed under the root key. This folder never
//! touches a record and decides nothing about who may unseal.
//!
//! - `init.rs`: [`create`], [`NewSlot`], [`Made`], [`ShareCounts`]
//! - `copies.rs`: [`read`] and the two files
//! - `file.rs`: [`SealFile`], its bytes
//! - `open.rs`: [`Secret`], [`Opened`]
//! - `slot.rs`: one slot; [`SlotDetails`]
//! - `provider.rs`: what opens an automatic slot
//! - `root.rs`: the root key and what it derives
//! - `rewrite.rs`: [`OpenRoot`], which writes the file again while the store is open
//! - `slots.rs`: adding a slot, and taking one out
//! - `rekey.rs`: [`Rekey`], another root key for the slots whose secrets are shown
//! - `progress.rs`: [`UnsealProgress`], the shares given so far
//! - `anchor.rs`: [`Anchor`], where the store stood, kept elsewhere; `checkpoint.rs`: the audit
//!   checkpoint beside it; `pair.rs`: the two blocks of their files
//! - `anchors.rs`: [`Anchors`], which writes them while the store is open
//! - `keyfile.rs`: the file behind a keyfile slot

mod anchor;
mod anchors;
mod checkpoint;
mod copies;
mod file;
mod init;
mod inspect;
pub mod keyfile;
mod open;
mod pair;
mod progress;
mod provider;
mod rekey;
mod rewrite;
mod root;
mod slot;
mod slots;
#[cfg(test)]
mod tests;

pub use anchor::{Anchor, AnchorFile, Judgement};
pub use anchors::{Anchors, Target};
pub use checkpoint::CheckpointFile;
pub use copies::{Damage, Loaded, ReadError, exists, read, write};
pub use file::{MAX_BYTES as MAX_FILE_BYTES, Malformed, SealFile};
pub use init::{CreateError, Made, NewSlot, ShareCounts, ShareCountsError, SlotError, create};
pub use inspect::{Inspected, inspect};
pub use open::{OpenError, Opened, Secret};
pub use pair::{AnchorUnusable, Block, Pair};
pub use progress::{
    ShareRefused, ShareTextError, Submitted, UnsealCounts, UnsealProgress, parse_share,
};
pub use provider::{BadCredentialName, CredentialName, Provider, ProviderError, Providers};
pub use rekey::{Rekey, RekeyPlan, RekeyRefused, RekeyStatus, Rekeyed, Step, VerifyStatus};
pub use rewrite::{OpenRoot, RewriteError};
pub use slot::{OpensBy, SlotDetails, SlotMalformed, SlotSummary, SlotType};
pub use slots::SlotsError;
