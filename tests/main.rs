//! Tests of the whole: one binary, so that everything is linked once.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "plain code is clearer in tests and their helpers"
)]

mod architecture;
mod forged;
mod source;
