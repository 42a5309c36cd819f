use super::System;
use crate::{
    gate::{ApiError, Permit},
    route::{Nothing, Reply},
};

impl System {
    /// `POST sys/seal`: the keys are wiped once this answer's audit line is written.
    pub(super) async fn seal(&self, _: &Permit<'_>, (): ()) -> Result<Reply<Nothing>, ApiError> {
        Ok(Reply::then_seal())
    }
}
