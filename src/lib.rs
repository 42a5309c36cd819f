//! Kista: a secrets and encryption vault that speaks the HTTP API of Vault.
//!
//! The library is layered: a module uses only those listed before it. `docs/ARCHITECTURE.md` draws
//! the floors, `docs/FORMAT.md` says what each byte on disk means.

pub mod clock;
pub mod config;
pub mod json;

pub mod disk;
pub mod secret;
pub mod storage;

pub mod crypto;

pub mod container;

pub mod audit;
pub mod barrier;
pub mod seal;

pub mod lease;
pub mod policy;
pub mod quota;
pub mod rotation;

pub mod token;

pub mod gate;

pub mod route;

pub mod auth;
pub mod engines;

pub mod mount;

pub mod vault;

pub mod backup;

pub mod jobs;

pub mod system;

pub mod pipeline;

pub mod http;

#[cfg(feature = "client")]
pub mod client;
