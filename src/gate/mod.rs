//! The only way in and the only way out.
//!
//! [`admit`] judges a caller and gives a [`Permit`], the only source of storage; [`release`] writes
//! the audit line of an answer and gives a [`Released`], the only thing that HTTP takes. Both have
//! private fields and no other maker, so what they stand for cannot be forgotten. This folder runs
//! no handler and knows no engine.
//!
//! - `request.rs`: [`Head`], [`RequestPath`], [`Operation`]
//! - `body.rs`: [`Body`], checked before anything reads it
//! - `mounted.rs`: [`Mounted`], a mount as the gate sees it
//! - `ground.rs`: [`Ground`], what an open vault stands on
//! - `permit.rs`: [`Permit`], [`Probe`], [`admit`]
//! - `reply.rs`: what handlers answer
//! - `released.rs`, `release.rs`: [`Released`] and its makers
//! - `error.rs`: [`ApiError`]

mod body;
mod error;
mod ground;
mod mounted;
mod permit;
mod release;
mod released;
mod reply;
mod request;

pub use body::{Body, Object};
pub use error::ApiError;
pub use ground::Ground;
pub use mounted::{Access, BODY_BYTES, Boxed, Call, Mounted, Needs, Place};
pub use permit::{Permit, Probe, admit};
pub use release::{
    Public, Rejection, Slot, refuse, refuse_over_quota, reject, release, release_public,
};
pub use released::{Notes, Released};
pub use reply::{AuthReply, AuthWish, Granted, JsonText, RawReply, Shape};
pub use request::{
    Connection, Head, MAX_PATH_BYTES, Media, Operation, PathRefused, Query, RequestPath,
};
