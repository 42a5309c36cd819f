use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    ACCESSOR, System,
    tune::{lists_warning, of_config},
};
use crate::{
    gate::{ApiError, Permit, Query},
    mount::{Class, DisableError, EnableError, Listing, NewMount, Record, Tuning},
    route::{Fields, FromFields, Nothing, Reply},
};

/// A mount's path, with its slash.
pub(super) struct MountPath(pub(super) String);

impl FromFields for MountPath {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self(with_slash(fields.parameter("path"))))
    }
}

pub(super) fn with_slash(path: &str) -> String {
    format!("{}/", path.trim_end_matches('/'))
}

/// `POST mounts/:path`.
pub(super) struct EnableInput {
    path: String,
    new: NewMount,
}

impl FromFields for EnableInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        if fields.parameter("path").ends_with('/') {
            return Err(ApiError::bad_request("cannot write to a path ending in '/'"));
        }
        let MountPath(path) = MountPath::from_fields(fields)?;
        let kind = fields.text("type")?.unwrap_or_default();
        if kind.is_empty() {
            return Err(ApiError::bad_request("backend type must be specified as a string"));
        }
        // Clients send these with every mount; here every mount is both sealed and local.
        let _ = (fields.present("local"), fields.present("seal_wrap"));
        let config = fields.object("config")?.unwrap_or_default();
        let query = Query::default();
        let config = Fields::inside(&config, &query);
        let settings = Tuning {
            description: fields.text("description")?,
            options: fields.map("options")?.unwrap_or_default(),
            ..of_config(&config)?
        };
        let max = settings.max_lease_ttl.unwrap_or_default();
        if max != 0 && settings.default_lease_ttl.is_some_and(|default| default > max) {
            return Err(ApiError::bad_request(
                "given default lease TTL greater than given max lease TTL",
            ));
        }
        Ok(Self { path, new: NewMount { kind, settings } })
    }
}

/// A mount on the wire.
#[derive(Debug, Serialize)]
pub(super) struct MountOutput {
    accessor: String,
    config: ConfigOutput,
    /// Of engines that an operator chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecation_status: Option<&'static str>,
    description: String,
    external_entropy_access: bool,
    local: bool,
    options: Option<BTreeMap<String, String>>,
    plugin_version: &'static str,
    running_plugin_version: &'static str,
    running_sha256: &'static str,
    seal_wrap: bool,
    #[serde(rename = "type")]
    kind: String,
    uuid: String,
    /// Only where a path was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

#[derive(Debug, Serialize)]
struct ConfigOutput {
    default_lease_ttl: u64,
    max_lease_ttl: u64,
    #[serde(flatten)]
    settings: SettingsOutput,
    /// Of auth methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
}

/// Settings that a mount and its tuning show alike, the lists only where they are set.
#[derive(Debug, Serialize)]
pub(super) struct SettingsOutput {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_response_headers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audit_non_hmac_request_keys: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audit_non_hmac_response_keys: Vec<String>,
    force_no_cache: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    listing_visibility: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    passthrough_request_headers: Vec<String>,
}

impl SettingsOutput {
    pub(super) fn of(record: &Record) -> Self {
        let kept = record.kept.clone();
        Self {
            allowed_response_headers: kept.response_headers,
            audit_non_hmac_request_keys: kept.audit_request_keys,
            audit_non_hmac_response_keys: kept.audit_response_keys,
            force_no_cache: record.force_no_cache,
            listing_visibility: match record.listing {
                Listing::Unset => None,
                Listing::Hidden => Some("hidden"),
                Listing::Unauth => Some("unauth"),
            },
            passthrough_request_headers: kept.request_headers,
        }
    }
}

impl MountOutput {
    fn of(record: &Record) -> Self {
        Self {
            accessor: record.accessor.clone(),
            config: ConfigOutput {
                default_lease_ttl: record.default_lease_ttl,
                max_lease_ttl: record.max_lease_ttl,
                settings: SettingsOutput::of(record),
                token_type: match record.class {
                    Class::Secret => None,
                    Class::Auth => Some("default-service"),
                },
            },
            deprecation_status: (record.kind == "kv").then_some("supported"),
            description: record.description.clone(),
            external_entropy_access: false,
            local: record.kind == "cubbyhole",
            options: (!record.options.is_empty()).then(|| record.options.clone()),
            plugin_version: "",
            running_plugin_version: RUNNING_VERSION,
            running_sha256: "",
            seal_wrap: false,
            kind: record.kind.clone(),
            uuid: record.uuid.clone(),
            path: None,
        }
    }

    /// `sys/` itself.
    fn of_system() -> Self {
        Self::of(&Record::system(ACCESSOR))
    }
}

/// `data` of `GET internal/ui/mounts`.
#[derive(Debug, Serialize)]
pub(super) struct VisibleOutput {
    auth: BTreeMap<String, MountOutput>,
    secret: BTreeMap<String, MountOutput>,
}

impl System {
    /// `GET mounts`.
    pub(super) async fn mounts(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<BTreeMap<String, MountOutput>>, ApiError> {
        let mut mounts = self.mounts_of(Class::Secret, |_| true)?;
        mounts.insert("sys/".to_owned(), MountOutput::of_system());
        Ok(Reply::of(mounts).with_copy())
    }

    /// The mounts of one family that somebody may know of.
    pub(super) fn mounts_of(
        &self,
        class: Class,
        is_shown: impl Fn(&Record) -> bool,
    ) -> Result<BTreeMap<String, MountOutput>, ApiError> {
        let table = self.open()?.mounts.table();
        let shown = table.all().into_iter().map(|entry| &entry.record);
        let shown = shown.filter(|record| record.class == class && is_shown(record));
        Ok(shown.map(|record| (record.path.clone(), MountOutput::of(record))).collect())
    }

    /// `GET internal/ui/mounts`: the mounts that a caller may do anything in, and those that
    /// everybody is told of. Every token has its own place in the cubbyhole and at `auth/token`.
    pub(super) async fn visible_mounts(
        &self,
        permit: &Permit<'_>,
        (): (),
    ) -> Result<Reply<VisibleOutput>, ApiError> {
        let is_shown = |record: &Record| {
            record.listing == Listing::Unauth
                || permit.session().acl.any_under(&record.full_path(), permit.now())
        };
        let mut secret = self.mounts_of(Class::Secret, is_shown)?;
        let auth = self.mounts_of(Class::Auth, is_shown)?;
        if permit.session().acl.any_under("sys/", permit.now()) {
            secret.insert("sys/".to_owned(), MountOutput::of_system());
        }
        Ok(Reply::of(VisibleOutput { auth, secret }))
    }

    /// `GET mounts/:path`.
    pub(super) async fn mount_at(
        &self,
        _: &Permit<'_>,
        MountPath(path): MountPath,
    ) -> Result<Reply<MountOutput>, ApiError> {
        if path == "sys/" {
            return Ok(Reply::of(MountOutput::of_system()).with_copy());
        }
        let table = self.open()?.mounts.table();
        let entry = table.find(&path).filter(|entry| entry.record.full_path() == path);
        let entry = entry.filter(|entry| entry.record.class == Class::Secret);
        let entry = entry.ok_or_else(|| {
            // Terraform's provider matches this text.
            ApiError::bad_request(format!("No secret engine mount at {path}"))
        })?;
        Ok(Reply::of(MountOutput::of(&entry.record)).with_copy())
    }

    /// `POST mounts/:path`.
    pub(super) async fn enable_mount(
        &self,
        _: &Permit<'_>,
        input: EnableInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let warning = lists_warning(&input.new.settings);
        self.open()?.mounts.enable(&input.path, input.new).await.map_err(|error| match error {
            EnableError::Commit(error) => error.into(),
            EnableError::PathInUse(_)
            | EnableError::Protected(_)
            | EnableError::BadPath
            | EnableError::Single(_)
            | EnableError::UnknownType(_) => ApiError::bad_request(error.to_string()),
        })?;
        Ok(Reply::nothing().with_warnings(warning))
    }

    /// `DELETE mounts/:path`; absent is fine. Its data is deleted in the background.
    pub(super) async fn disable_mount(
        &self,
        _: &Permit<'_>,
        MountPath(path): MountPath,
    ) -> Result<Reply<Nothing>, ApiError> {
        let open = self.open()?;
        let gone = open.mounts.disable(&path).await.map_err(|error| match error {
            DisableError::Commit(error) => error.into(),
            error @ DisableError::Protected(_) => ApiError::bad_request(error.to_string()),
        })?;
        if let Some(gone) = gone {
            open.quotas.forget_mount(&gone.uuid).await;
        }
        Ok(Reply::nothing())
    }

    /// `GET internal/ui/mounts/:path`: the mount that a path lies in, for whoever may do anything
    /// under it. Clients ask before they read or write a secret.
    pub(super) async fn mount_of(
        &self,
        permit: &Permit<'_>,
        MountPath(path): MountPath,
    ) -> Result<Reply<MountOutput>, ApiError> {
        let table = self.open()?.mounts.table();
        let visible = table.find(&path).filter(|entry| {
            permit.session().acl.any_under(&entry.record.full_path(), permit.now())
        });
        let entry = visible.ok_or_else(|| {
            ApiError::new(
                403,
                format!(
                    "preflight capability check returned 403, please ensure client's policies \
                     grant access to path \"{path}\""
                ),
            )
        })?;
        let path = Some(entry.record.full_path());
        Ok(Reply::of(MountOutput { path, ..MountOutput::of(&entry.record) }))
    }
}

/// Built-in engines have the server's version.
const RUNNING_VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"), "+builtin.kista");
