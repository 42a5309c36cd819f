//! The HTTPS client: how Rust programs and the command line talk to a Kista, Vault or OpenBao
//! server.
//!
//! It knows the wire and nothing of the server. Certificates are always verified, plain HTTP is
//! spoken to loopback addresses only, redirects and proxies are not followed, so the token goes to
//! the address that was given and nowhere else.
//!
//! A service that waits for its vault, fetches a secret, keeps its token alive and hears of
//! changes:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use kista::{client::Client, secret::SecretString};
//!
//! #[derive(serde::Deserialize)]
//! struct Login {
//!     url: String,
//!     password: SecretString, // wiped when dropped, hidden in Debug
//! }
//!
//! # fn connect(_: &str, _: &SecretString) {}
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::from_env()?; // KISTA_ADDR, KISTA_TOKEN, KISTA_CACERT; or VAULT_…
//! client.wait_until_ready(Duration::from_secs(60)).await?;
//! let token = client.own_token().keep_alive().await?;
//! let mut login = client.kv2("secret").watch::<Login>("app/db", Duration::from_secs(10));
//! loop {
//!     tokio::select! {
//!         found = login.next() => {
//!             let found = found?;
//!             connect(&found.value.url, &found.value.password);
//!         }
//!         why = token.ended() => return Err(why.into()),
//!     }
//! }
//! # }
//! ```
//!
//! Reads are sent again, with jitter, on connection errors, 412, 429 and 503; writes only where
//! nothing can have run ([`Builder::retries`]).
//!
//! - `builder.rs`: [`Builder`], what a client is made from
//! - `environment.rs`: [`Environment`], the variables it may come from
//! - `tls.rs`: whom it trusts; `pin.rs`: [`Pin`], one certificate and no other
//! - `transport.rs`: one call: URL, headers, retries, body
//! - `retry.rs`: which calls may be sent again, and when; [`Backoff`]
//! - `ready.rs`: waiting for a vault that is sealed or not there yet
//! - `error.rs`: [`Error`]
//! - `value.rs`: [`Fields`] and [`JsonValue`], JSON whose text is kept
//! - `kv2.rs`: [`Kv2`], secrets with versions; `listing.rs`: their names, page by page;
//!   `tree.rs`: their histories and folders, copied, moved and removed; `typed.rs`: as types of the
//!   program; `metadata.rs`: what is set of them; `watcher.rs`: [`SecretWatcher`], told of changes
//! - `transit/`: [`Transit`], values that the server encrypts
//! - `logical.rs`: any route
//! - `sys.rs`: [`Sys`], the state of the server; `rotation.rs`: its keys;
//!   `compaction.rs`: its files; `slots.rs`: the ways to the root key
//! - `token.rs`: [`OwnToken`], the token that the client holds; `lifetime.rs`:
//!   [`LifetimeWatcher`], which renews it in the background

mod builder;
mod compaction;
mod environment;
mod error;
mod kv2;
mod lifetime;
mod listing;
mod logical;
mod metadata;
mod pin;
mod ready;
mod retry;
mod rotation;
mod slots;
mod sys;
mod tls;
mod token;
mod transit;
mod transport;
mod tree;
mod typed;
mod value;
mod watcher;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use builder::{BuildError, Builder};
pub use compaction::{Compacted, Compaction};
pub use environment::{Environment, Setting};
pub use error::{Capability, Error, Unready};
pub use kv2::{CheckAndSet, Kv2, Secret, SecretMetadata, VersionMetadata, VersionState};
pub use lifetime::{Lifetime, LifetimeEnd, LifetimeWatcher};
pub use listing::{Named, Page, Reach};
pub use logical::Verb;
pub use metadata::MetadataChanges;
pub use pin::Pin;
pub use retry::Backoff;
pub use rotation::{
    DestroyedNames, DestroyedTerm, KeyStatus, NamesRotation, NewSchedule, Rotation,
    RotationSchedule,
};
pub use slots::{AddedSlot, NewSlot, Rekey, RekeyPlan, RekeySecret, Slot};
pub use sys::{
    Found, Health, Initialised, MountInfo, SealStatus, Sys, UnsealKey, Verification, Verified,
};
pub use token::{OwnToken, Renewed, TokenInfo};
pub use transit::{
    Binding, COMMITTING, Cached, DataKey, DataKeyBits, Described, Encrypted, ExportKind, Exported,
    Import, ImportError, Key, KeyChanges, KeyMaterial, KeyVersion, Keys, Limits, LocalError,
    NewKey, Refused, Rewrapped, ToDecrypt, ToEncrypt, Transit, Usage, VersionUsage, from_base64,
    is_cached_value,
};
pub use transport::{Client, encode_text};
pub use tree::{Existing, Removal, TreeDone};
pub use typed::{Versioned, exposed};
pub use value::{Fields, JsonValue, NotJson};
pub use watcher::SecretWatcher;
