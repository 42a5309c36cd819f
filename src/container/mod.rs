//! Files and values that are encrypted outside the vault, with a key that something else opens
//! (FORMAT.md 13).
//!
//! ```text
//! "KISTAF1\n" | lp(header) | Cobblestone-256(file key, context of all bytes before it)
//! ```
//!
//! Nothing here asks a server or reads a file: callers bring keys and streams. The payload commits
//! to the whole header, so that an edited header, or a stanza of another file, opens nothing.
//!
//! - `header.rs`: [`Header`], what a file says of itself
//! - `transit.rs`: [`Transit`], a file key wrapped by a vault
//! - `passphrase.rs`: [`Passphrase`], a file key wrapped under a passphrase
//! - `file.rs`: [`writer`] and [`SealedFile`], streams of any length
//! - `value.rs`: [`SealedValue`], short messages under one key
//! - `cursor.rs`: reading fixed layouts, of the seal file too

pub(crate) mod cursor;
mod file;
mod header;
mod passphrase;
mod transit;
mod value;

#[cfg(test)]
mod tests;

pub use file::{NotAFile, SealedFile, writer};
pub use header::{Header, HeaderError, Stanza};
pub use passphrase::Passphrase;
pub use transit::{NotCommitting, Transit};
pub use value::{SealedValue, is_value, seal_value};
