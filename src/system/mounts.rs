use std::collections::BTreeMap;

use serde::Serialize;

use super::{ACCESSOR, System};
use crate::{
    gate::{ApiError, Object, Permit, Query},
    mount::{Class, DisableError, EnableError, NewMount, Record},
    route::{Fields, FromFields, Nothing, Reply},
};

/// A mount's path, with its slash.
pub(super) struct MountPath(String);

impl FromFields for MountPath {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self(with_slash(fields.parameter("path"))))
    }
}

fn with_slash(path: &str) -> String {
    format!("{}/", path.trim_end_matches('/'))
}

/// `POST mounts/:path`.
pub(super) struct EnableInput {
    path: String,
    new: NewMount,
}

impl FromFields for EnableInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let MountPath(path) = MountPath::from_fields(fields)?;
        let kind = fields.text("type")?.unwrap_or_default();
        if kind.is_empty() {
            return Err(ApiError::bad_request("backend type must be specified as a string"));
        }
        // Clients send these with every mount; here every mount is both sealed and local.
        let _ = (fields.present("local"), fields.present("seal_wrap"));
        let config = fields.object("config")?.unwrap_or_default();
        let (default_lease_ttl, max_lease_ttl) = lease_times(&config)?;
        let new = NewMount {
            kind,
            description: fields.text("description")?.unwrap_or_default(),
            options: fields.map("options")?.unwrap_or_default(),
            default_lease_ttl,
            max_lease_ttl,
        };
        Ok(Self { path, new })
    }
}

fn lease_times(config: &Object<'_>) -> Result<(u64, u64), ApiError> {
    let query = Query::default();
    let fields = Fields::inside(config, &query);
    let seconds = |name: &str| -> Result<u64, ApiError> {
        Ok(fields.duration(name)?.map_or(0, |duration| duration.as_secs()))
    };
    let (default, max) = (seconds("default_lease_ttl")?, seconds("max_lease_ttl")?);
    if max != 0 && default > max {
        return Err(ApiError::bad_request("default_lease_ttl is longer than max_lease_ttl"));
    }
    Ok((default, max))
}

/// A mount on the wire.
#[derive(Debug, Serialize)]
pub(super) struct MountOutput {
    accessor: String,
    config: ConfigOutput,
    deprecation_status: &'static str,
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
    force_no_cache: bool,
    max_lease_ttl: u64,
}

impl MountOutput {
    fn of(record: &Record) -> Self {
        Self {
            accessor: record.accessor.clone(),
            config: ConfigOutput {
                default_lease_ttl: record.default_lease_ttl,
                force_no_cache: false,
                max_lease_ttl: record.max_lease_ttl,
            },
            deprecation_status: "supported",
            description: record.description.clone(),
            external_entropy_access: false,
            local: false,
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

    /// `sys/` itself, which has no record.
    fn of_system() -> Self {
        let record = Record {
            description: "system endpoints used for control, policy and debugging".to_owned(),
            accessor: ACCESSOR.to_owned(),
            uuid: String::new(),
            ..Record::new(Class::Secret, "system", "sys/")
        };
        Self::of(&record)
    }
}

impl System {
    /// `GET mounts`.
    pub(super) async fn mounts(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<BTreeMap<String, MountOutput>>, ApiError> {
        let table = self.open()?.mounts.table();
        let secret = table.all().into_iter().filter(|entry| entry.record.class == Class::Secret);
        let mut mounts: BTreeMap<_, _> = secret
            .map(|entry| (entry.record.path.clone(), MountOutput::of(&entry.record)))
            .collect();
        mounts.insert("sys/".to_owned(), MountOutput::of_system());
        Ok(Reply::of(mounts).with_copy())
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
        self.open()?.mounts.enable(&input.path, input.new).await.map_err(|error| match error {
            EnableError::Commit(error) => error.into(),
            EnableError::PathInUse(_)
            | EnableError::Protected(_)
            | EnableError::BadPath
            | EnableError::UnknownType(_) => ApiError::bad_request(error.to_string()),
        })?;
        Ok(Reply::nothing())
    }

    /// `DELETE mounts/:path`; absent is fine. Its data is deleted in the background.
    pub(super) async fn disable_mount(
        &self,
        _: &Permit<'_>,
        MountPath(path): MountPath,
    ) -> Result<Reply<Nothing>, ApiError> {
        self.open()?.mounts.disable(&path).await.map_err(|error| match error {
            DisableError::Commit(error) => error.into(),
            error @ DisableError::Protected(_) => ApiError::bad_request(error.to_string()),
        })?;
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
