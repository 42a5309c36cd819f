use super::{
    Kv2,
    api::{
        ListInput, ListOutput, MetadataInput, MetadataOutput, SecretPath, VersionState,
        duration_text,
    },
    store::{self, Change, Metadata},
};
use crate::{
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
        let metadata = held.metadata;
        let versions = metadata
            .versions
            .iter()
            .map(|version| (version.number, VersionState::of(version)))
            .collect();
        Ok(Reply::of(MetadataOutput {
            cas_required: metadata.cas_required,
            created_time: metadata.created.rfc3339(),
            current_version: metadata.current,
            delete_version_after: duration_text(metadata.delete_version_after),
            max_versions: metadata.max_versions,
            oldest_version: metadata.oldest,
            updated_time: metadata.updated.rfc3339(),
            versions,
            custom_metadata: (!metadata.custom.is_empty()).then_some(metadata.custom),
        }))
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
            let settings = &input.settings;
            if let Some(max_versions) = settings.max_versions {
                metadata.max_versions = max_versions;
            }
            if let Some(cas_required) = settings.cas_required {
                metadata.cas_required = cas_required;
            }
            if let Some(after) = settings.delete_version_after {
                metadata.delete_version_after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            }
            if let Some(custom) = &input.custom {
                metadata.custom.clone_from(custom);
            }
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

    /// `LIST metadata/:path`: names in a folder, folders with a slash.
    pub(super) async fn list(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<ListOutput>, ApiError> {
        let names = input.folder.split('/').filter(|name| !name.is_empty());
        let folder: Vec<&str> = std::iter::once("metadata").chain(names).collect();
        let after = input.after.as_deref().map(|after| after.trim_end_matches('/'));
        let mut keys = Vec::new();
        if let Some(leaf) = input.after.as_deref().filter(|after| !after.ends_with('/')) {
            // A page may have ended between a leaf and the folder of the same name.
            let inside: Vec<&str> = folder.iter().copied().chain([leaf]).collect();
            if !permit.storage().list(&inside, None, 1).await?.is_empty() {
                keys.push(format!("{leaf}/"));
            }
        }
        for entry in permit.storage().list(&folder, after, input.limit).await? {
            if entry.is_leaf {
                keys.push(entry.name.clone());
            }
            if entry.is_folder {
                keys.push(entry.name + "/");
            }
        }
        keys.truncate(input.limit);
        if keys.is_empty() {
            return Err(ApiError::not_found());
        }
        Ok(Reply::of(ListOutput { keys }))
    }
}
