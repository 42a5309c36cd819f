//! One file for each command, or for each family of them.

mod accept_rollback;
pub(crate) mod backup;
mod compact;
pub(crate) mod context;
pub(crate) mod delete;
mod examine;
pub(crate) mod get;
mod key;
pub(crate) mod ls;
mod near;
pub(crate) mod operator;
pub(crate) mod patch;
pub(crate) mod put;
mod rekey;
mod repair;
mod rotate;
mod serve;
pub(crate) mod server;
mod slot;
pub(crate) mod status;
mod target;
pub(crate) mod up;
mod verify;
mod written;
