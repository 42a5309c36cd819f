use super::{
    Kv2,
    api::{ConfigOutput, Settings, duration_text},
    store::{self, CONFIG, Config},
};
use crate::{
    barrier::Batch,
    gate::{ApiError, Permit},
    route::{Nothing, Reply},
};

/// How many versions are kept when neither the secret nor the mount says otherwise.
pub(super) const DEFAULT_MAX_VERSIONS: u32 = 10;

impl Kv2 {
    /// The mount's defaults.
    pub(super) async fn config(&self, permit: &Permit<'_>) -> Result<Config, ApiError> {
        let held = store::configs(permit.storage()).get(CONFIG).await?;
        Ok(held.map_or_else(Config::default, |held| held.value))
    }

    /// `GET config`.
    pub(super) async fn read_config(
        &self,
        permit: &Permit<'_>,
        (): (),
    ) -> Result<Reply<ConfigOutput>, ApiError> {
        let config = self.config(permit).await?;
        Ok(Reply::of(ConfigOutput {
            cas_required: config.cas_required,
            delete_version_after: duration_text(config.delete_version_after),
            max_versions: config.max_versions,
            metadata_cas_required: config.metadata_cas_required,
        }))
    }

    /// `POST config`.
    pub(super) async fn write_config(
        &self,
        permit: &Permit<'_>,
        input: Settings,
    ) -> Result<Reply<Nothing>, ApiError> {
        let mut config = self.config(permit).await?;
        if let Some(max_versions) = input.max_versions {
            config.max_versions = max_versions;
        }
        if let Some(cas_required) = input.cas_required {
            config.cas_required = cas_required;
        }
        if let Some(after) = input.delete_version_after {
            config.delete_version_after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        }
        if let Some(metadata_cas_required) = input.metadata_cas_required {
            config.metadata_cas_required = metadata_cas_required;
        }
        let mut batch = Batch::default();
        store::configs(permit.storage()).put(&mut batch, CONFIG, &config);
        permit.commit(batch).await?;
        Ok(Reply::nothing())
    }
}
