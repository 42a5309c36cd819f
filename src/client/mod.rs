//! The HTTPS client: how Rust programs and the command line talk to a Kista, Vault or OpenBao
//! server.
//!
//! It knows the wire and nothing of the server. Certificates are always verified, plain HTTP is
//! spoken to loopback addresses only, redirects and proxies are not followed, so the token goes to
//! the address that was given and nowhere else.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use kista::client::Client;
//!
//! #[derive(serde::Deserialize)]
//! struct Login { url: String, password: String }
//!
//! let client = Client::from_env()?;
//! let secret = client.kv2("secret").read("app/db").await?;
//! let login: Login = secret.deserialize()?;
//! # let _ = (login.url, login.password);
//! # Ok(())
//! # }
//! ```
//!
//! - `builder.rs`: [`Builder`], what a client is made from
//! - `environment.rs`: [`Environment`], the variables it may come from
//! - `tls.rs`: whom it trusts; `pin.rs`: [`Pin`], one certificate and no other
//! - `transport.rs`: one call: URL, headers, retries, body
//! - `retry.rs`: which calls may be sent again, and when
//! - `error.rs`: [`Error`]
//! - `value.rs`: [`Fields`] and [`JsonValue`], JSON whose text is kept
//! - `kv2.rs`: [`Kv2`], secrets with versions; `listing.rs`: their names, page by page;
//!   `tree.rs`: their histories and folders, copied, moved and removed
//! - `transit/`: [`Transit`], values that the server encrypts
//! - `logical.rs`: any route
//! - `sys.rs`: [`Sys`], the state of the server; `rotation.rs`: its keys;
//!   `compaction.rs`: its files; `slots.rs`: the ways to the root key
//! - `token.rs`: [`OwnToken`], the token that the client holds

mod builder;
mod compaction;
mod environment;
mod error;
mod kv2;
mod listing;
mod logical;
mod pin;
mod retry;
mod rotation;
mod slots;
mod sys;
mod tls;
mod token;
mod transit;
mod transport;
mod tree;
mod value;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use builder::{BuildError, Builder};
pub use compaction::{Compacted, Compaction};
pub use environment::{Environment, Setting};
pub use error::{Capability, Error};
pub use kv2::{CheckAndSet, Kv2, Secret, SecretMetadata, VersionMetadata, VersionState};
pub use listing::{Named, Page, Reach};
pub use logical::Verb;
pub use pin::Pin;
pub use rotation::{
    DestroyedNames, DestroyedTerm, KeyStatus, NamesRotation, NewSchedule, Rotation,
    RotationSchedule,
};
pub use slots::{AddedSlot, NewSlot, Rekey, RekeyPlan, RekeySecret, Slot};
pub use sys::{
    Found, Health, Initialised, MountInfo, SealStatus, Sys, UnsealKey, Verification, Verified,
};
pub use token::{OwnToken, TokenInfo};
pub use transit::{
    Binding, COMMITTING, Cached, DataKey, DataKeyBits, Described, Encrypted, ExportKind, Exported,
    Import, ImportError, Key, KeyChanges, KeyMaterial, KeyVersion, Keys, Limits, LocalError,
    NewKey, Refused, Rewrapped, ToDecrypt, ToEncrypt, Transit, Usage, VersionUsage, from_base64,
    is_cached_value,
};
pub use transport::{Client, encode_text};
pub use tree::{Existing, Removal, TreeDone};
pub use value::{Fields, JsonValue, NotJson};
