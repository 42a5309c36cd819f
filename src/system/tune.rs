use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    System,
    mounts::{MountPath, SettingsOutput},
};
use crate::{
    gate::{ApiError, Permit},
    mount::{Listing, TuneError, Tuning},
    route::{Fields, FromFields, Nothing, Reply},
};

/// `POST mounts/:path/tune`.
pub(super) struct TuneInput {
    path: String,
    tuning: Tuning,
}

impl FromFields for TuneInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let MountPath(path) = MountPath::from_fields(fields)?;
        if fields.raw("token_type").is_some() {
            return Err(ApiError::bad_request("'token_type' can only be modified on auth mounts"));
        }
        let tuning = Tuning {
            description: fields.text("description")?,
            options: fields.map("options")?.unwrap_or_default(),
            ..of_config(fields)?
        };
        Ok(Self { path, tuning })
    }
}

/// Lease time in seconds; `system` is the server's.
fn seconds(fields: &Fields<'_>, name: &str) -> Result<Option<u64>, ApiError> {
    if fields.text(name)?.as_deref() == Some("system") {
        return Ok(Some(0));
    }
    Ok(fields.duration(name)?.map(|duration| duration.as_secs()))
}

/// What a new mount has in its `config`, and a tuning beside the rest.
pub(super) fn of_config(fields: &Fields<'_>) -> Result<Tuning, ApiError> {
    Ok(Tuning {
        default_lease_ttl: seconds(fields, "default_lease_ttl")?,
        max_lease_ttl: seconds(fields, "max_lease_ttl")?,
        listing: listing(fields)?,
        force_no_cache: fields.boolean("force_no_cache")?,
        audit_request_keys: fields.list("audit_non_hmac_request_keys")?,
        audit_response_keys: fields.list("audit_non_hmac_response_keys")?,
        request_headers: fields.list("passthrough_request_headers")?,
        response_headers: fields.list("allowed_response_headers")?,
        ..Tuning::default()
    })
}

/// `listing_visibility`.
fn listing(fields: &Fields<'_>) -> Result<Option<Listing>, ApiError> {
    match fields.text("listing_visibility")?.as_deref() {
        None => Ok(None),
        Some("") => Ok(Some(Listing::Unset)),
        Some("hidden") => Ok(Some(Listing::Hidden)),
        Some("unauth") => Ok(Some(Listing::Unauth)),
        Some(other) => Err(ApiError::bad_request(format!("invalid listing_visibility {other}"))),
    }
}

/// What to say to one who sets lists that change nothing.
pub(super) fn lists_warning(tuning: &Tuning) -> Option<String> {
    tuning.sets_lists().then(|| {
        "kept and shown, but without effect: audit lines digest every value, and engines neither get nor \
         set headers (audit_non_hmac_*_keys, passthrough_request_headers, allowed_response_headers)"
            .to_owned()
    })
}

/// `data` of `GET mounts/:path/tune`.
#[derive(Debug, Serialize)]
pub(super) struct TuningOutput {
    /// In seconds, those in force.
    default_lease_ttl: u64,
    description: String,
    max_lease_ttl: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    settings: SettingsOutput,
}

impl System {
    /// `GET mounts/:path/tune`, of auth methods too: `mounts/auth/:path/tune`.
    pub(super) async fn tuning(
        &self,
        permit: &Permit<'_>,
        MountPath(path): MountPath,
    ) -> Result<Reply<TuningOutput>, ApiError> {
        self.tuning_of(permit, &path)
    }

    /// `GET auth/:path/tune`.
    pub(super) async fn auth_tuning(
        &self,
        permit: &Permit<'_>,
        MountPath(path): MountPath,
    ) -> Result<Reply<TuningOutput>, ApiError> {
        self.tuning_of(permit, &format!("auth/{path}"))
    }

    fn tuning_of(&self, permit: &Permit<'_>, path: &str) -> Result<Reply<TuningOutput>, ApiError> {
        let table = self.open()?.mounts.table();
        let entry = table.find(path).filter(|entry| entry.record.full_path() == path);
        let record = &entry
            .ok_or_else(|| {
                ApiError::bad_request(format!("cannot fetch sysview for path \"{path}\""))
            })?
            .record;
        let in_force = |own: u64, server: Duration| if own == 0 { server.as_secs() } else { own };
        Ok(Reply::of(TuningOutput {
            default_lease_ttl: in_force(record.default_lease_ttl, permit.ttl().default),
            description: record.description.clone(),
            max_lease_ttl: in_force(record.max_lease_ttl, permit.ttl().max),
            options: (!record.options.is_empty()).then(|| record.options.clone()),
            settings: SettingsOutput::of(record),
        })
        .with_copy())
    }

    /// `POST mounts/:path/tune`. `options.version` 2 of KV makes the secrets the first versions of
    /// their kind; the mount is in use all the while.
    ///
    /// Differs from Vault: it stays a mount of version 1 until all of them are copied, and none of
    /// its requests is refused meanwhile. With many of them that is after the answer.
    pub(super) async fn tune(
        &self,
        permit: &Permit<'_>,
        input: TuneInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let open = self.open()?;
        let mut warnings = Vec::from_iter(lists_warning(&input.tuning));
        let is_upgrading =
            open.mounts.tune(&input.path, input.tuning).await.map_err(|error| match error {
                TuneError::Commit(error) => error.into(),
                TuneError::Absent(_)
                | TuneError::Protected(_)
                | TuneError::LeaseTimes { .. }
                | TuneError::Downgrade
                | TuneError::UnknownVersion(_) => ApiError::bad_request(error.to_string()),
            })?;
        if is_upgrading {
            let is_done = open.mounts.upgrade(permit.now(), WAIT).await;
            let is_done = is_done.map_err(ApiError::internal)?;
            warnings.push(upgrade_warning(&input.path, is_done));
        }
        Ok(Reply::nothing().with_warnings(warnings))
    }
}

fn upgrade_warning(path: &str, is_done: bool) -> String {
    if is_done {
        return format!(
            "{path} is a mount of version 2 now, and its secrets are their first versions: paths and \
             policies need data/ or metadata/ behind {path}"
        );
    }
    format!(
        "the secrets of {path} are being copied into version 2; until that is done, which \
         sys/mounts/{path}tune shows, it goes on as a mount of version 1"
    )
}

/// How long a call waits for the copying; the background goes on with what is left.
const WAIT: Duration = Duration::from_secs(20);
