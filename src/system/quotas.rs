use std::time::Duration;

use serde::{Serialize, Serializer};

use super::System;
use crate::{
    gate::{ApiError, Permit},
    mount::{Class, Record, SYSTEM_UUID},
    quota::{Config, PutError, Quota, Target},
    route::{Fields, FromFields, Nothing, Reply, is_name},
    vault::Unsealed,
};

/// `POST quotas/config`.
pub(super) struct ConfigInput {
    exempt_paths: Option<Vec<String>>,
    audits: bool,
    shows: bool,
}

impl FromFields for ConfigInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        // The peers take one text for one path, a comma being part of it.
        let exempt_paths = match fields.raw(EXEMPT_PATHS) {
            Some(raw) if !raw.starts_with('[') => fields
                .text(EXEMPT_PATHS)?
                .map(|path| if path.is_empty() { vec![] } else { vec![path] }),
            Some(_) | None => fields.list(EXEMPT_PATHS)?,
        };
        Ok(Self {
            exempt_paths,
            audits: fields.boolean("enable_rate_limit_audit_logging")?.unwrap_or(false),
            shows: fields.boolean("enable_rate_limit_response_headers")?.unwrap_or(false),
        })
    }
}

/// `data` of `GET quotas/config`.
#[derive(Debug, Serialize)]
pub(super) struct ConfigOutput {
    enable_rate_limit_audit_logging: bool,
    enable_rate_limit_response_headers: bool,
    rate_limit_exempt_paths: Vec<String>,
}

/// The name in a quota's path.
pub(super) struct QuotaName(String);

impl FromFields for QuotaName {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let name = fields.parameter("name");
        if !is_name(name) {
            return Err(ApiError::unsupported_path());
        }
        Ok(Self(name.to_owned()))
    }
}

/// `POST quotas/rate-limit/:name`.
pub(super) struct QuotaInput {
    name: String,
    path: String,
    role: String,
    rate: f64,
    interval: Duration,
    block_interval: Duration,
    inheritable: Option<bool>,
}

impl FromFields for QuotaInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let QuotaName(name) = QuotaName::from_fields(fields)?;
        // Vault knows one type, and its clients send it.
        if fields.text("type")?.is_some_and(|kind| !matches!(kind.as_str(), "" | "rate-limit")) {
            return Err(ApiError::bad_request("the one type of quotas here is rate-limit"));
        }
        let rate = match fields.text("rate")? {
            Some(text) => text.trim().parse().map_err(|_| unusable("rate", "expected a number"))?,
            None => 0.0,
        };
        Ok(Self {
            name,
            path: fields.text("path")?.unwrap_or_default().trim_matches('/').to_owned(),
            role: fields.text("role")?.unwrap_or_default(),
            rate,
            interval: duration(fields, "interval")?,
            block_interval: duration(fields, "block_interval")?,
            inheritable: fields.boolean("inheritable")?,
        })
    }
}

fn duration(fields: &Fields<'_>, name: &str) -> Result<Duration, ApiError> {
    let given = fields.duration(name);
    let given = given.map_err(|error| unusable(name, &error.public.join("; ")))?;
    Ok(given.unwrap_or_default())
}

fn unusable(field: &str, why: &str) -> ApiError {
    let text =
        format!("Field validation failed: error converting input for field {field:?}: {why}");
    ApiError::bad_request(text)
}

impl QuotaInput {
    /// The quota that is asked for, its path held against the mounts that are there.
    fn quota(&self, open: &Unsealed) -> Result<Quota, ApiError> {
        let target = self.target(open)?;
        let is_global = target == Target::Everything;
        match self.inheritable {
            Some(true) if !is_global => {
                return Err(ApiError::bad_request(
                    "'inheritable' is for quotas of namespaces; leave it out, or leave the path out",
                ));
            }
            Some(false) if is_global => {
                return Err(ApiError::bad_request(
                    "a quota without a path counts everything: 'inheritable' cannot be false",
                ));
            }
            Some(_) | None => {}
        }
        // Less than a second counts as none, and no interval as one second, as with the peers.
        let interval = self.interval.as_secs().max(1);
        let block_interval = self.block_interval.as_secs();
        let (rate, inheritable) = (self.rate, self.inheritable);
        let quota = Quota { target, rate, interval, block_interval, inheritable };
        quota.counted().map_err(|_| ApiError::bad_request("'rate' is invalid"))?;
        Ok(quota)
    }

    fn target(&self, open: &Unsealed) -> Result<Target, ApiError> {
        if self.path.is_empty() {
            if !self.role.is_empty() {
                return Err(ApiError::bad_request(
                    "a quota with a role needs an auth mount's path",
                ));
            }
            return Ok(Target::Everything);
        }
        let path = format!("{}/", self.path);
        let record = mount_of(open, &path);
        let record =
            record.ok_or_else(|| ApiError::bad_request(format!("invalid mount path {path:?}")))?;
        let mount = record.full_path();
        if !self.role.is_empty() {
            return Err(ApiError::bad_request(match record.class {
                Class::Secret => format!(
                    "Mount path {mount:?} is not a valid auth method and therefore unsuitable for \
                     use with role-based quotas"
                ),
                Class::Auth => "quotas of a role are not supported; leave 'role' out".to_owned(),
            }));
        }
        let below = path.strip_prefix(&mount).unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Target::Mount { uuid: record.uuid, below })
    }
}

/// The mount that a path, which ends in a slash, lies in.
fn mount_of(open: &Unsealed, path: &str) -> Option<Record> {
    if path.starts_with("sys/") {
        return Some(Record::system(super::ACCESSOR));
    }
    open.mounts.table().find(path).map(|entry| Record::clone(&entry.record))
}

/// `data` of `GET quotas/rate-limit/:name`.
#[derive(Debug, Serialize)]
pub(super) struct QuotaOutput {
    name: String,
    r#type: &'static str,
    path: String,
    role: &'static str,
    rate: Number,
    interval: u64,
    block_interval: u64,
    /// Only where it was asked for, as in Vault before 1.15.
    #[serde(skip_serializing_if = "Option::is_none")]
    inheritable: Option<bool>,
}

/// A number without a fraction is shown without a point, as Go does.
#[derive(Debug)]
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(number) = *self;
        if number.fract() != 0.0 || number.abs() > EXACT {
            return serializer.serialize_f64(number);
        }
        #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
        serializer.serialize_i64(number as i64)
    }
}

impl QuotaOutput {
    /// None for one whose mount is gone.
    fn of(name: String, quota: Quota, open: &Unsealed) -> Option<Self> {
        Some(Self {
            name,
            r#type: "rate-limit",
            path: path_of(&quota.target, open)?,
            role: "",
            rate: Number(quota.rate),
            interval: quota.interval,
            block_interval: quota.block_interval,
            inheritable: quota.inheritable,
        })
    }
}

fn path_of(target: &Target, open: &Unsealed) -> Option<String> {
    let Target::Mount { uuid, below } = target else { return Some(String::new()) };
    if uuid == SYSTEM_UUID {
        return Some(format!("sys/{below}"));
    }
    let table = open.mounts.table();
    let entry = table.all().into_iter().find(|entry| entry.record.uuid == *uuid)?;
    Some(format!("{}{below}", entry.record.full_path()))
}

/// `data` of `LIST quotas/rate-limit`.
#[derive(Debug, Serialize)]
pub(super) struct QuotaList {
    keys: Vec<String>,
}

impl System {
    /// `GET quotas/config`.
    pub(super) async fn quota_config(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<ConfigOutput>, ApiError> {
        let config = self.open()?.quotas.config();
        Ok(Reply::of(ConfigOutput {
            enable_rate_limit_audit_logging: config.audits,
            enable_rate_limit_response_headers: config.shows,
            rate_limit_exempt_paths: config.exempt_paths,
        }))
    }

    /// `POST quotas/config`: a switch that is not given is off.
    ///
    /// Differs from Vault: exempt paths that are not given stay. Who turns a switch would otherwise
    /// have the probes and the unsealing counted too.
    pub(super) async fn write_quota_config(
        &self,
        _: &Permit<'_>,
        input: ConfigInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let quotas = &self.open()?.quotas;
        let ConfigInput { exempt_paths, audits, shows } = input;
        let exempt_paths = exempt_paths.unwrap_or_else(|| quotas.config().exempt_paths);
        quotas.set_config(Config { exempt_paths, audits, shows }).await?;
        Ok(Reply::nothing())
    }

    /// `LIST quotas/rate-limit`.
    pub(super) async fn list_quotas(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<QuotaList>, ApiError> {
        let open = self.open()?;
        let named = open.quotas.all().into_iter();
        let keys: Vec<_> =
            named.filter_map(|(name, quota)| path_of(&quota.target, &open).map(|_| name)).collect();
        if keys.is_empty() {
            return Err(ApiError::not_found());
        }
        Ok(Reply::of(QuotaList { keys }))
    }

    /// `GET quotas/rate-limit/:name`.
    pub(super) async fn read_quota(
        &self,
        _: &Permit<'_>,
        QuotaName(name): QuotaName,
    ) -> Result<Reply<QuotaOutput>, ApiError> {
        let open = self.open()?;
        let quota = open.quotas.get(&name);
        let shown = quota.and_then(|quota| QuotaOutput::of(name, quota, &open));
        shown.map(Reply::of).ok_or_else(ApiError::not_found)
    }

    /// `POST quotas/rate-limit/:name`: it counts from the next request on.
    pub(super) async fn write_quota(
        &self,
        _: &Permit<'_>,
        input: QuotaInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let open = self.open()?;
        let quota = input.quota(&open)?;
        open.quotas.put(&input.name, quota).await.map_err(|error| match error {
            PutError::Commit(error) => error.into(),
            PutError::Rate(_) | PutError::Similar(_) | PutError::TooMany => {
                ApiError::bad_request(error.to_string())
            }
        })?;
        Ok(Reply::nothing())
    }

    /// `DELETE quotas/rate-limit/:name`; absent is fine.
    pub(super) async fn delete_quota(
        &self,
        _: &Permit<'_>,
        QuotaName(name): QuotaName,
    ) -> Result<Reply<Nothing>, ApiError> {
        self.open()?.quotas.delete(&name).await?;
        Ok(Reply::nothing())
    }
}

const EXEMPT_PATHS: &str = "rate_limit_exempt_paths";
/// Whole numbers up to this one are exact in 64-bit floating point.
const EXACT: f64 = 9_007_199_254_740_992.0;
