use super::{
    Kv2,
    api::{MetadataInput, MetadataOutput, MetadataPatch},
    store::{self, Change, Metadata},
};
use crate::{
    engines::path::SecretPath,
    gate::{ApiError, Permit},
    route::{Nothing, Reply},
};

impl Kv2 {
    /// `GET metadata/:path`.
    pub(super) async fn read_metadata(
        &self,
        permit: &Permit<'_>,
        SecretPath(path): SecretPath,
    ) -> Result<Reply<MetadataOutput>, ApiError> {
        let held = store::load(permit.storage(), &path).await?.ok_or_else(ApiError::not_found)?;
        Ok(Reply::of(MetadataOutput::of(held.metadata)))
    }

    /// `POST metadata/:path`: settings and notes; makes the entry when there is no version yet.
    pub(super) async fn write_metadata(
        &self,
        permit: &Permit<'_>,
        input: MetadataInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        if input.is_empty() {
            return Ok(Reply::nothing());
        }
        let is_cas_required = self.config(permit).await?.metadata_cas_required;
        let now = permit.now();
        store::update(permit, &input.path, |held| {
            let mut metadata = held.unwrap_or_else(|| Metadata::new(now));
            check_cas(input.cas, is_cas_required, &metadata)?;
            metadata.metadata_version += 1;
            metadata.updated = now;
            input.settings.apply_to(&mut metadata);
            if let Some(custom) = &input.custom {
                metadata.custom.clone_from(custom);
            }
            Ok(Change::Write { metadata: Box::new(metadata), value: None, answer: () })
        })
        .await?;
        Ok(Reply::nothing())
    }

    /// `PATCH metadata/:path`: a merge patch of settings and notes of a secret that is there.
    pub(super) async fn patch_metadata(
        &self,
        permit: &Permit<'_>,
        input: MetadataPatch,
    ) -> Result<Reply<Nothing>, ApiError> {
        let is_cas_required = self.config(permit).await?.metadata_cas_required;
        let now = permit.now();
        store::update(permit, &input.path, |held| {
            let mut metadata = held.ok_or_else(ApiError::not_found)?;
            if input.is_empty {
                return Ok(Change::Nothing(()));
            }
            check_cas(input.cas, is_cas_required, &metadata)?;
            metadata.metadata_version += 1;
            metadata.updated = now;
            metadata.custom = input.notes(&metadata.custom)?;
            input.settings.apply_to(&mut metadata);
            Ok(Change::Write { metadata: Box::new(metadata), value: None, answer: () })
        })
        .await?;
        Ok(Reply::nothing())
    }

    /// `DELETE metadata/:path`: the secret with all its versions.
    pub(super) async fn delete_metadata(
        &self,
        permit: &Permit<'_>,
        SecretPath(path): SecretPath,
    ) -> Result<Reply<Nothing>, ApiError> {
        store::update(permit, &path, |_| Ok(Change::Remove(()))).await?;
        store::sweep(permit.storage()).await?;
        Ok(Reply::nothing())
    }
}

/// Whether the caller has seen the settings and notes that it changes; 0 means that there are none
/// yet.
fn check_cas(given: Option<i64>, is_required: bool, metadata: &Metadata) -> Result<(), ApiError> {
    match given {
        None if is_required || metadata.metadata_cas_required => {
            Err(ApiError::bad_request("metadata check-and-set parameter required for this call"))
        }
        Some(given) if u64::try_from(given) != Ok(metadata.metadata_version) => {
            Err(ApiError::bad_request(
                "metadata check-and-set parameter did not match the current version",
            ))
        }
        Some(_) | None => Ok(()),
    }
}
