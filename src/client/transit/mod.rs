//! The transit engine: values that the server encrypts and does not keep.
//!
//! Whatever has many items sends them in requests of up to a thousand. Plaintexts are
//! [`SecretBytes`]; ciphertexts are text, as the server writes it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use kista::client::{Binding, Client, ToDecrypt, ToEncrypt};
//! use kista::secret::SecretBytes;
//!
//! let client = Client::from_env()?;
//! let transit = client.transit("transit");
//! let emails = [SecretBytes::copy_of(b"ana@x.org"), SecretBytes::copy_of(b"bo@x.org")];
//! let items: Vec<_> = emails.iter().map(ToEncrypt::from).collect();
//! for sealed in transit.encrypt_many("pii", &items).await? {
//!     let sealed = sealed?;
//!     let item = ToDecrypt { ciphertext: &sealed.ciphertext, binding: Binding::default() };
//!     let _plain = transit.decrypt_many("pii", &[item]).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - `batch.rs`: encrypting, decrypting and rewrapping, many at a time or one
//! - `data_key.rs`: [`DataKey`], keys to encrypt with elsewhere
//! - `file_key.rs`: keys for files and values that are encrypted here, wrapped by the vault
//! - `cached.rs`: [`Cached`], one such key for many values
//! - `keys.rs`: [`Keys`], the keys of the mount; `material.rs`: keys in and out of it
//! - `wrapping.rs`: how a key travels to the server
//! - `wire.rs`: bodies of base64 in memory that is wiped

mod batch;
mod cached;
mod data_key;
mod file_key;
mod keys;
mod material;
mod wire;
mod wrapping;

#[cfg(test)]
mod tests;

pub use batch::{Binding, Encrypted, Refused, Rewrapped, ToDecrypt, ToEncrypt};
pub use cached::{Cached, Limits, is_cached_value};
pub use data_key::{DataKey, DataKeyBits};
pub use file_key::LocalError;
pub use keys::{
    COMMITTING, Described, Key, KeyChanges, KeyVersion, Keys, NewKey, Usage, VersionUsage,
};
pub use material::{ExportKind, Exported, Import, ImportError, KeyMaterial};

pub use wire::from_base64;

use super::Client;

/// One transit mount.
#[derive(Debug, Clone, Copy)]
pub struct Transit<'a> {
    client: &'a Client,
    mount: &'a str,
}

impl<'a> Transit<'a> {
    pub(super) fn new(client: &'a Client, mount: &'a str) -> Self {
        Self { client, mount }
    }

    /// The keys of the mount.
    pub fn keys(&self) -> Keys<'a> {
        Keys::new(*self)
    }

    fn place(&self, verb: &str, key: &str) -> String {
        format!("{}/{verb}/{key}", self.mount)
    }
}
