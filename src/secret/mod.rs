//! What may not leak: bytes, text and keys that are wiped on drop and never print themselves.
//!
//! The secret types have no `Clone`, `Display`, `Serialize`, `Deref` or `==`. The plain value is reached
//! through [`expose`](SecretBytes::expose), whose closure is the whole of its reach. This folder
//! computes nothing; comparing and deriving are `crypto/`'s.
//!
//! - `bytes.rs`: [`SecretBytes`]
//! - `buffer.rs`: [`SecretBuffer`], bytes that grow
//! - `text.rs`: [`SecretString`]
//! - `key.rs`: [`Key`] and [`Algorithm`]
//! - `wiped.rs`: [`WipedBytes`], plain ones, for who hands them on
//! - `locked.rs`: [`Locked`], pages that are not swapped out

mod buffer;
mod bytes;
mod key;
mod locked;
mod text;
mod wiped;

pub use buffer::SecretBuffer;
pub use bytes::SecretBytes;
pub use key::{Algorithm, Key, WrongLength};
pub(crate) use locked::scrub_stack;
pub use locked::{LockRefused, Locked, ROOM_BYTES, switch_off, try_locking, unlocked};
pub use text::SecretString;
pub use wiped::WipedBytes;
