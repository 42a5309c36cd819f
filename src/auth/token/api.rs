use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    clock::Timestamp,
    gate::ApiError,
    route::{Fields, FromFields},
    secret::SecretString,
    token::Session,
};

/// `POST create`.
pub(super) struct CreateInput {
    pub(super) id: Option<SecretString>,
    pub(super) policies: Vec<String>,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) no_parent: bool,
    pub(super) no_default_policy: bool,
    pub(super) renewable: bool,
    pub(super) ttl: Duration,
    pub(super) explicit_max_ttl: Duration,
    pub(super) period: Duration,
    pub(super) display_name: String,
    pub(super) num_uses: u32,
}

impl FromFields for CreateInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        match fields.text("type")?.as_deref() {
            None | Some("" | "service") => {}
            Some("batch") => {
                return Err(ApiError::bad_request(
                    "batch tokens are not supported yet; leave \"type\" out for a service token",
                ));
            }
            Some(_) => return Err(ApiError::bad_request("invalid 'token_type' value")),
        }
        if fields.text("entity_alias")?.is_some_and(|alias| !alias.is_empty()) {
            return Err(ApiError::bad_request("\"entity_alias\" is not supported yet"));
        }
        let id = fields.text("id")?.filter(|id| !id.is_empty());
        let ttl = match fields.duration("ttl")? {
            Some(ttl) => Some(ttl),
            None => fields.duration("lease")?,
        };
        let num_uses = fields.integer("num_uses")?.unwrap_or(0);
        Ok(Self {
            id: id.map(SecretString::from_string),
            policies: fields.list("policies")?.unwrap_or_default(),
            meta: fields.map("meta")?.unwrap_or_default(),
            no_parent: fields.boolean("no_parent")?.unwrap_or(false),
            no_default_policy: fields.boolean("no_default_policy")?.unwrap_or(false),
            renewable: fields.boolean("renewable")?.unwrap_or(true),
            ttl: ttl.unwrap_or_default(),
            explicit_max_ttl: fields.duration("explicit_max_ttl")?.unwrap_or_default(),
            period: fields.duration("period")?.unwrap_or_default(),
            display_name: fields.text("display_name")?.unwrap_or_default(),
            num_uses: u32::try_from(num_uses)
                .map_err(|_| ApiError::bad_request("num_uses must be a whole number from 0"))?,
        })
    }
}

/// A body that names a token, or means the caller's own.
pub(super) struct TokenInput {
    pub(super) token: Option<SecretString>,
    pub(super) increment: Duration,
}

impl FromFields for TokenInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let token = fields.text("token")?.filter(|token| !token.is_empty());
        Ok(Self { token: token.map(SecretString::from_string), increment: increment(fields)? })
    }
}

/// A body that names a token by its accessor.
pub(super) struct AccessorInput {
    pub(super) accessor: String,
    pub(super) increment: Duration,
}

impl FromFields for AccessorInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let accessor = fields.text("accessor")?.unwrap_or_default();
        if accessor.is_empty() {
            return Err(ApiError::bad_request("missing accessor"));
        }
        Ok(Self { accessor, increment: increment(fields)? })
    }
}

/// Zero when none is asked for.
fn increment(fields: &Fields<'_>) -> Result<Duration, ApiError> {
    Ok(fields.duration("increment")?.unwrap_or_default())
}

/// `data` of a look-up.
#[derive(Debug, Serialize)]
pub(super) struct LookUpOutput {
    accessor: String,
    creation_time: u64,
    creation_ttl: u64,
    display_name: String,
    entity_id: &'static str,
    expire_time: Option<String>,
    explicit_max_ttl: u64,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    issue_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal_time: Option<u64>,
    meta: Option<BTreeMap<String, String>>,
    num_uses: u32,
    orphan: bool,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<u64>,
    policies: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewable: Option<bool>,
    ttl: u64,
    #[serde(rename = "type")]
    token_type: &'static str,
}

impl LookUpOutput {
    /// `id` is the token where the caller has shown it, and empty where it is known by its
    /// accessor.
    pub(super) fn of(session: &Session, id: String, now: Timestamp) -> Self {
        let entry = &session.entry;
        // Absent on a token that never ends, as with the peers.
        let ends = entry.expires.is_some();
        Self {
            accessor: entry.accessor.clone(),
            creation_time: entry.created.seconds(),
            creation_ttl: entry.ttl.as_secs(),
            display_name: entry.display_name.clone(),
            entity_id: "",
            expire_time: entry.expires.map(|expires| expires.rfc3339()),
            explicit_max_ttl: entry.explicit_max_ttl.as_secs(),
            id,
            issue_time: ends.then(|| entry.created.rfc3339()),
            last_renewal: entry.last_renewal.map(|time| time.rfc3339()),
            last_renewal_time: entry.last_renewal.map(Timestamp::seconds),
            meta: (!entry.meta.is_empty()).then(|| entry.meta.clone()),
            num_uses: entry.uses_left.unwrap_or(0),
            orphan: entry.is_orphan(),
            path: entry.path.clone(),
            period: (!entry.period.is_zero()).then(|| entry.period.as_secs()),
            policies: entry.policies.clone(),
            renewable: ends.then_some(entry.renewable),
            ttl: entry.ttl_left(now).map_or(0, |left| left.as_secs()),
            token_type: "service",
        }
    }
}

/// `data` of `LIST accessors`.
#[derive(Debug, Serialize)]
pub(super) struct AccessorsOutput {
    pub(super) keys: Vec<String>,
}
