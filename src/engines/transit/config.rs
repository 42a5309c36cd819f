//! `config/keys` and `cache-config`: settings of the mount.

use serde::Serialize;

use super::{
    Transit,
    record::{Configuration, Places},
};
use crate::{
    barrier::{Batch, MountView},
    gate::{ApiError, Permit},
    route::{Fields, FromFields, Reply},
};

/// `POST config/keys`.
pub(super) struct KeysInput {
    disable_upsert: Option<bool>,
}

impl FromFields for KeysInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self { disable_upsert: fields.boolean("disable_upsert")? })
    }
}

/// `data` of `config/keys`.
#[derive(Debug, Serialize)]
pub(super) struct KeysConfig {
    disable_upsert: bool,
}

/// `POST cache-config`.
pub(super) struct CacheInput {
    size: u64,
}

impl FromFields for CacheInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let size = fields.integer("size")?.unwrap_or(0);
        match u64::try_from(size) {
            Ok(size) if size == 0 || size >= 10 => Ok(Self { size }),
            Ok(_) | Err(_) => {
                Err(ApiError::bad_request("size must be 0 or a value greater or equal to 10"))
            }
        }
    }
}

/// `data` of `cache-config`.
#[derive(Debug, Serialize)]
pub(super) struct CacheConfig {
    size: u64,
}

impl Transit {
    /// `GET config/keys`.
    pub(super) async fn read_config(
        &self,
        permit: &Permit<'_>,
        (): (),
    ) -> Result<Reply<KeysConfig>, ApiError> {
        let configuration = self.configuration(permit.storage()).await?;
        Ok(Reply::of(KeysConfig { disable_upsert: configuration.disable_upsert }))
    }

    /// `POST config/keys`.
    pub(super) async fn write_config(
        &self,
        permit: &Permit<'_>,
        input: KeysInput,
    ) -> Result<Reply<KeysConfig>, ApiError> {
        let changed = self.reconfigure(permit.storage(), |configuration| {
            if let Some(disable) = input.disable_upsert {
                configuration.disable_upsert = disable;
            }
        });
        Ok(Reply::of(KeysConfig { disable_upsert: changed.await?.disable_upsert }))
    }

    /// `GET cache-config`.
    pub(super) async fn read_cache(
        &self,
        permit: &Permit<'_>,
        (): (),
    ) -> Result<Reply<CacheConfig>, ApiError> {
        let configuration = self.configuration(permit.storage()).await?;
        Ok(Reply::of(CacheConfig { size: configuration.cache_size }))
    }

    /// `POST cache-config`; it holds from now on.
    pub(super) async fn write_cache(
        &self,
        permit: &Permit<'_>,
        input: CacheInput,
    ) -> Result<Reply<CacheConfig>, ApiError> {
        let size = input.size;
        let changed = self.reconfigure(permit.storage(), |configuration| {
            configuration.cache_size = size;
        });
        let size = changed.await?.cache_size;
        self.keys.set_limit(usize::try_from(size).unwrap_or(0));
        Ok(Reply::of(CacheConfig { size }))
    }

    pub(super) async fn configuration(&self, view: &MountView) -> Result<Configuration, ApiError> {
        let stored = Places::in_space(view).configuration.get(&["mount"]).await?;
        Ok(stored.map(|held| held.value).unwrap_or_default())
    }

    async fn reconfigure(
        &self,
        view: &MountView,
        change: impl FnOnce(&mut Configuration),
    ) -> Result<Configuration, ApiError> {
        let _one = self.keys.configuring.lock().await;
        let places = Places::in_space(view);
        let mut configuration = self.configuration(view).await?;
        change(&mut configuration);
        let mut batch = Batch::default();
        places.configuration.put(&mut batch, &["mount"], &configuration);
        places.view.commit(batch).await?;
        Ok(configuration)
    }
}
