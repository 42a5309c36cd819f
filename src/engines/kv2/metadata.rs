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
        let now = permit.now();
        store::update(permit, &input.path, |held| {
            let mut metadata = held.unwrap_or_else(|| Metadata::new(now));
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
        let now = permit.now();
        store::update(permit, &input.path, |held| {
            let mut metadata = held.ok_or_else(ApiError::not_found)?;
            if input.is_empty {
                return Ok(Change::Nothing(()));
            }
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
        store::sweep(permit).await?;
        Ok(Reply::nothing())
    }
}
