use super::{
    Kv2,
    api::VersionsInput,
    store::{self, Change, Version},
};
use crate::{
    gate::{ApiError, Permit},
    route::{Nothing, Reply},
};

impl Kv2 {
    /// `POST delete/:path`: hides versions.
    pub(super) async fn delete_versions(
        &self,
        permit: &Permit<'_>,
        input: VersionsInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let now = permit.now();
        change_versions(permit, input, |version| {
            let changes = !version.is_gone(now);
            if changes {
                version.deletion = Some(now);
            }
            changes
        })
        .await
    }

    /// `POST undelete/:path`: shows hidden versions again; destroyed ones stay destroyed.
    pub(super) async fn undelete_versions(
        &self,
        permit: &Permit<'_>,
        input: VersionsInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        change_versions(permit, input, |version| {
            !version.is_destroyed && version.deletion.take().is_some()
        })
        .await
    }

    /// `POST destroy/:path`: takes the values of versions away for good.
    pub(super) async fn destroy_versions(
        &self,
        permit: &Permit<'_>,
        input: VersionsInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        change_versions(permit, input, |version| {
            !std::mem::replace(&mut version.is_destroyed, true)
        })
        .await
    }
}

/// Lets `change` alter each version named; versions and paths that are not there are passed over.
async fn change_versions(
    permit: &Permit<'_>,
    input: VersionsInput,
    change: impl Fn(&mut Version) -> bool,
) -> Result<Reply<Nothing>, ApiError> {
    let now = permit.now();
    store::update(permit, &input.path, |held| {
        let Some(mut metadata) = held else { return Ok(Change::Nothing(())) };
        let mut is_changed = false;
        for number in &input.versions {
            if let Some(version) = metadata.version_mut(*number) {
                is_changed |= change(version);
            }
        }
        if !is_changed {
            return Ok(Change::Nothing(()));
        }
        metadata.updated = now;
        Ok(Change::Write { metadata: Box::new(metadata), value: None, answer: () })
    })
    .await?;
    Ok(Reply::nothing())
}
