//! Tests of the whole: one binary, so that everything is linked once.
//!
//! - `architecture.rs`, `forged.rs`: what must not be written
//! - `routes.rs`: the library's vault, asked without HTTP

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "plain code is clearer in tests and their helpers"
)]

mod architecture;
mod forged;
mod routes;
mod source;
mod support;
