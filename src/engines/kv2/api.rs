use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::value::RawValue;

use super::store::{Metadata, Version};
use crate::{
    clock::format_duration,
    engines::{
        path::SecretPath,
        value::{RawJson, check_size},
    },
    gate::ApiError,
    route::{Fields, FromFields},
    secret::SecretBytes,
};

/// `GET data/:path?version=N`.
pub(super) struct ReadInput {
    pub(super) path: String,
    /// None: the newest.
    pub(super) version: Option<u64>,
}

impl FromFields for ReadInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let version = fields.query_integer("version")?.filter(|version| *version != 0);
        Ok(Self { path: fields.parameter("path").to_owned(), version })
    }
}

/// `GET subkeys/:path?version=N&depth=N`.
pub(super) struct SubkeysInput {
    pub(super) secret: ReadInput,
    /// Levels of keys that are shown.
    pub(super) depth: usize,
}

impl FromFields for SubkeysInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        // As with the peers, 0 means all of them, and less than that one.
        let depth = match fields.query_integer::<i64>("depth")?.unwrap_or(0) {
            0 => usize::MAX,
            depth => usize::try_from(depth).unwrap_or(1),
        };
        Ok(Self { secret: ReadInput::from_fields(fields)?, depth })
    }
}

/// `POST data/:path`, and `PATCH` of it.
pub(super) struct WriteInput {
    pub(super) path: String,
    pub(super) cas: Option<i64>,
    /// A JSON object, or `null`, as it was written.
    pub(super) data: SecretBytes,
}

impl FromFields for WriteInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let SecretPath(path) = SecretPath::of_write(fields)?;
        let data =
            fields.present("data").ok_or_else(|| ApiError::bad_request("no data provided"))?;
        if data != "null" && !data.starts_with('{') {
            return Err(ApiError::bad_request("data must be a JSON object"));
        }
        check_size(data.len())?;
        let cas = match fields.object("options")? {
            Some(options) => cas(options.get("cas").map(RawValue::get))?,
            None => None,
        };
        Ok(Self { path, cas, data: SecretBytes::copy_of(data.as_bytes()) })
    }
}

/// `null` is 0, and a text of digits is taken.
fn cas(value: Option<&str>) -> Result<Option<i64>, ApiError> {
    let Some(text) = value else { return Ok(None) };
    if text == "null" {
        return Ok(Some(0));
    }
    text.trim_matches('"')
        .parse()
        .map(Some)
        .map_err(|_| ApiError::bad_request("error parsing check-and-set parameter"))
}

/// `POST delete|undelete|destroy/:path`.
pub(super) struct VersionsInput {
    pub(super) path: String,
    pub(super) versions: Vec<u64>,
}

impl FromFields for VersionsInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let SecretPath(path) = SecretPath::of_write(fields)?;
        let versions = fields.integers("versions")?.unwrap_or_default();
        if versions.is_empty() {
            return Err(ApiError::bad_request("No version number provided"));
        }
        Ok(Self { path, versions })
    }
}

/// `POST metadata/:path`; what is not given stays.
pub(super) struct MetadataInput {
    pub(super) path: String,
    /// The version of the metadata that the caller has seen, 0 for none.
    pub(super) cas: Option<i64>,
    pub(super) settings: Settings,
    pub(super) custom: Option<BTreeMap<String, String>>,
}

impl FromFields for MetadataInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let SecretPath(path) = SecretPath::of_write(fields)?;
        let custom = fields.map("custom_metadata")?;
        if let Some(custom) = &custom {
            check_custom(custom)?;
        }
        let cas = cas(fields.present("metadata_cas"))?;
        Ok(Self { path, cas, settings: Settings::from_fields(fields)?, custom })
    }
}

/// `PATCH metadata/:path`, a merge patch: `null` takes a setting back to its default.
pub(super) struct MetadataPatch {
    pub(super) path: String,
    /// As in [`MetadataInput`].
    pub(super) cas: Option<i64>,
    pub(super) settings: Settings,
    /// New notes; `None` takes one away.
    pub(super) custom: BTreeMap<String, Option<String>>,
    /// Whether all older notes go.
    pub(super) clears_custom: bool,
    /// Whether none of its members was given; such a patch does nothing.
    pub(super) is_empty: bool,
}

impl FromFields for MetadataPatch {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let SecretPath(path) = SecretPath::of_write(fields)?;
        let is_null = |name| fields.present(name) == Some("null");
        let mut settings = Settings::from_fields(fields)?;
        if is_null("max_versions") {
            settings.max_versions = Some(0);
        }
        if is_null("cas_required") {
            settings.cas_required = Some(false);
        }
        if is_null("metadata_cas_required") {
            settings.metadata_cas_required = Some(false);
        }
        if is_null("delete_version_after") {
            settings.delete_version_after = Some(Duration::ZERO);
        }
        let custom = fields.map_with_nulls("custom_metadata")?;
        let clears_custom = is_null("custom_metadata");
        let is_empty = settings.is_empty() && custom.is_none() && !clears_custom;
        Ok(Self {
            path,
            cas: cas(fields.present("metadata_cas"))?,
            settings,
            custom: custom.unwrap_or_default(),
            clears_custom,
            is_empty,
        })
    }
}

impl MetadataPatch {
    /// The notes that come of those before.
    ///
    /// # Errors
    /// 400 when they are too many or too long.
    pub(super) fn notes(
        &self,
        before: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ApiError> {
        let mut notes = if self.clears_custom { BTreeMap::new() } else { before.clone() };
        for (name, note) in &self.custom {
            match note {
                Some(note) => notes.insert(name.clone(), note.clone()),
                None => notes.remove(name),
            };
        }
        check_custom(&notes)?;
        Ok(notes)
    }
}

impl MetadataInput {
    /// Whether none of its fields was given; such a write does nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.custom.is_none() && self.settings.is_empty()
    }
}

/// `POST config`, and the same members of `POST metadata/:path`; what is not given stays.
pub(super) struct Settings {
    pub(super) max_versions: Option<u32>,
    pub(super) cas_required: Option<bool>,
    pub(super) metadata_cas_required: Option<bool>,
    pub(super) delete_version_after: Option<Duration>,
}

impl FromFields for Settings {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let max_versions = fields
            .integer("max_versions")?
            .map(|number| {
                u32::try_from(number)
                    .map_err(|_| ApiError::bad_request("max_versions must be 0 or more"))
            })
            .transpose()?;
        Ok(Self {
            max_versions,
            cas_required: fields.boolean("cas_required")?,
            metadata_cas_required: fields.boolean("metadata_cas_required")?,
            delete_version_after: fields.duration("delete_version_after")?,
        })
    }
}

impl Settings {
    /// Takes over what was given.
    pub(super) fn apply_to(&self, metadata: &mut Metadata) {
        if let Some(max_versions) = self.max_versions {
            metadata.max_versions = max_versions;
        }
        if let Some(cas_required) = self.cas_required {
            metadata.cas_required = cas_required;
        }
        if let Some(metadata_cas_required) = self.metadata_cas_required {
            metadata.metadata_cas_required = metadata_cas_required;
        }
        if let Some(after) = self.delete_version_after {
            metadata.delete_version_after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        }
    }

    fn is_empty(&self) -> bool {
        self.max_versions.is_none()
            && self.cas_required.is_none()
            && self.metadata_cas_required.is_none()
            && self.delete_version_after.is_none()
    }
}

/// At most 64 keys of 128 bytes with values of 512 bytes, as with the peers.
fn check_custom(custom: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if custom.len() > 64 {
        return Err(ApiError::bad_request("custom_metadata holds more than 64 keys"));
    }
    let fits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && !text.chars().any(char::is_control)
    };
    if custom.iter().any(|(key, value)| !fits(key, 128) || !fits(value, 512)) {
        return Err(ApiError::bad_request(
            "custom_metadata keys have 1 to 128 printable bytes, values 1 to 512",
        ));
    }
    Ok(())
}

/// `data` of a read.
#[derive(Debug, Serialize)]
pub(super) struct ReadOutput {
    pub(super) data: Option<RawJson>,
    pub(super) metadata: VersionOutput,
}

/// `data` of `GET subkeys/:path`.
#[derive(Debug, Serialize)]
pub(super) struct SubkeysOutput {
    pub(super) metadata: VersionOutput,
    pub(super) subkeys: Option<RawJson>,
}

/// What is told of one version.
#[derive(Debug, Serialize)]
pub(super) struct VersionOutput {
    pub(super) created_time: String,
    pub(super) custom_metadata: Option<BTreeMap<String, String>>,
    pub(super) deletion_time: String,
    pub(super) destroyed: bool,
    pub(super) version: u64,
}

impl VersionOutput {
    pub(super) fn of(version: &Version, custom: BTreeMap<String, String>) -> Self {
        Self {
            created_time: version.created.rfc3339(),
            custom_metadata: (!custom.is_empty()).then_some(custom),
            deletion_time: deletion_time(version),
            destroyed: version.is_destroyed,
            version: version.number,
        }
    }
}

fn deletion_time(version: &Version) -> String {
    version.deletion.map_or_else(String::new, |deletion| deletion.rfc3339())
}

/// `data` of a detailed list.
#[derive(Debug, Serialize)]
pub(super) struct DetailedOutput {
    /// Of each secret among the keys; folders have none.
    pub(super) key_info: BTreeMap<String, MetadataOutput>,
    pub(super) keys: Vec<String>,
}

/// `data` of `GET metadata/:path`.
#[derive(Debug, Serialize)]
pub(super) struct MetadataOutput {
    pub(super) cas_required: bool,
    pub(super) created_time: String,
    pub(super) current_metadata_version: u64,
    pub(super) current_version: u64,
    pub(super) custom_metadata: Option<BTreeMap<String, String>>,
    pub(super) delete_version_after: String,
    pub(super) max_versions: u32,
    pub(super) metadata_cas_required: bool,
    pub(super) oldest_version: u64,
    pub(super) updated_time: String,
    pub(super) versions: BTreeMap<u64, VersionState>,
}

impl MetadataOutput {
    pub(super) fn of(metadata: Metadata) -> Self {
        let versions = metadata
            .versions
            .iter()
            .map(|version| (version.number, VersionState::of(version)))
            .collect();
        Self {
            cas_required: metadata.cas_required,
            created_time: metadata.created.rfc3339(),
            current_metadata_version: metadata.metadata_version,
            current_version: metadata.current,
            delete_version_after: duration_text(metadata.delete_version_after),
            max_versions: metadata.max_versions,
            metadata_cas_required: metadata.metadata_cas_required,
            oldest_version: metadata.oldest,
            updated_time: metadata.updated.rfc3339(),
            versions,
            custom_metadata: (!metadata.custom.is_empty()).then_some(metadata.custom),
        }
    }
}

/// One entry of `versions` in [`MetadataOutput`].
#[derive(Debug, Serialize)]
pub(super) struct VersionState {
    pub(super) created_time: String,
    pub(super) deletion_time: String,
    pub(super) destroyed: bool,
}

impl VersionState {
    fn of(version: &Version) -> Self {
        Self {
            created_time: version.created.rfc3339(),
            deletion_time: deletion_time(version),
            destroyed: version.is_destroyed,
        }
    }
}

/// `data` of `GET config`.
#[derive(Debug, Serialize)]
pub(super) struct ConfigOutput {
    pub(super) cas_required: bool,
    pub(super) delete_version_after: String,
    pub(super) max_versions: u32,
    pub(super) metadata_cas_required: bool,
}

/// Nanoseconds in Go's form.
pub(super) fn duration_text(nanos: u64) -> String {
    format_duration(Duration::from_nanos(nanos))
}
