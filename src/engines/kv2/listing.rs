use std::collections::BTreeMap;

use super::{
    Kv2,
    api::{DetailedOutput, MetadataOutput},
    store::{self, SECRETS},
};
use crate::{
    barrier::MountView,
    engines::listing::{self, ListInput, ListOutput, Listed},
    gate::{ApiError, Permit},
    route::Reply,
};

impl Kv2 {
    /// `LIST metadata/:path`: names in a folder, folders with a slash.
    pub(super) async fn list(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<ListOutput<Listed>>, ApiError> {
        let keys = listing::names_in(permit.storage(), SECRETS, &input).await?;
        Ok(Reply::of(ListOutput { keys }))
    }

    /// `SCAN metadata/:path`: the secrets in a folder and in all folders below it.
    pub(super) async fn scan(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<ListOutput>, ApiError> {
        let keys = listing::secrets_below(permit.storage(), SECRETS, &input).await?;
        Ok(Reply::of(ListOutput { keys }))
    }

    /// `LIST detailed-metadata/:path`: as [`Self::list`], and what is known of each secret.
    pub(super) async fn list_detailed(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<DetailedOutput>, ApiError> {
        let keys = listing::names_in(permit.storage(), SECRETS, &input).await?;
        let keys = keys.iter().map(|key| key.to_string()).collect();
        detailed(permit.storage(), &input.folder, keys).await
    }

    /// `SCAN detailed-metadata/:path`: as [`Self::scan`], and what is known of each secret.
    pub(super) async fn scan_detailed(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<DetailedOutput>, ApiError> {
        let keys = listing::secrets_below(permit.storage(), SECRETS, &input).await?;
        detailed(permit.storage(), &input.folder, keys).await
    }
}

/// What is known of the secrets among `keys`; one that has gone since is left out.
async fn detailed(
    view: &MountView,
    folder: &str,
    keys: Vec<String>,
) -> Result<Reply<DetailedOutput>, ApiError> {
    let mut key_info = BTreeMap::new();
    for key in keys.iter().filter(|key| !key.ends_with('/')) {
        let path = if folder.is_empty() { key.clone() } else { format!("{folder}/{key}") };
        if let Some(held) = store::load(view, &path).await? {
            key_info.insert(key.clone(), MetadataOutput::of(held.metadata));
        }
    }
    let keys =
        keys.into_iter().filter(|key| key.ends_with('/') || key_info.contains_key(key)).collect();
    Ok(Reply::of(DetailedOutput { key_info, keys }))
}
