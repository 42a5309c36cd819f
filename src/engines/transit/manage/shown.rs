use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    clock::Timestamp,
    engines::transit::{
        key::{Key, Version},
        kind::Kind,
        material,
        record::{Derivation, Moment, Settings},
    },
    gate::ApiError,
};

/// A key as it is shown.
#[derive(Debug, Serialize)]
pub(in crate::engines::transit) struct Shown {
    allow_plaintext_backup: bool,
    auto_rotate_period: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup_info: Option<ShownMoment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    convergent_encryption: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    convergent_encryption_version: Option<i8>,
    deletion_allowed: bool,
    derived: bool,
    exportable: bool,
    imported_key: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    imported_key_allow_rotation: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kdf: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kdf_mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<BTreeMap<String, ShownVersion>>,
    latest_version: u32,
    min_available_version: u32,
    min_decryption_version: u32,
    min_encryption_version: u32,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    restore_info: Option<ShownMoment>,
    soft_deleted: bool,
    supports_decryption: bool,
    supports_derivation: bool,
    supports_encryption: bool,
    supports_signing: bool,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Debug, Serialize)]
struct ShownMoment {
    time: String,
    version: u32,
}

impl From<Moment> for ShownMoment {
    fn from(moment: Moment) -> Self {
        Self { time: moment.time.rfc3339(), version: moment.version }
    }
}

/// A version: of symmetric kinds only when it was made.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ShownVersion {
    Made(u64),
    Public {
        certificate_chain: &'static str,
        creation_time: String,
        name: &'static str,
        public_key: String,
    },
}

/// `GET keys/:name/usage`.
#[derive(Debug, Serialize)]
pub(in crate::engines::transit) struct Usage {
    latest_version: u32,
    versions: BTreeMap<String, VersionUsage>,
}

#[derive(Debug, Serialize)]
struct VersionUsage {
    encryptions: u64,
    decryptions: u64,
    last_used: Option<String>,
    /// Of types whose random nonces are counted: how many are, in blocks that end with a seal.
    #[serde(skip_serializing_if = "Option::is_none")]
    nonces_reserved: Option<u64>,
}

impl Usage {
    /// Of every version there is, with how many nonces are reserved for it.
    pub(in crate::engines::transit) fn of(
        key: &Key,
        versions: Vec<(&Version, Option<u64>)>,
    ) -> Self {
        let versions = versions.into_iter().map(|(version, nonces_reserved)| {
            let usage = VersionUsage {
                encryptions: version.uses.encryptions(),
                decryptions: version.uses.decryptions(),
                last_used: version.uses.last_used().map(Timestamp::rfc3339),
                nonces_reserved,
            };
            (version.number.to_string(), usage)
        });
        Self { latest_version: key.settings.latest, versions: versions.collect() }
    }
}

/// A key as it is shown; a context makes the public half of a derived pair.
pub(in crate::engines::transit) fn shown(
    key: &Key,
    context: Option<&[u8]>,
) -> Result<Shown, ApiError> {
    let Settings { derived, convergent, imported, .. } = key.settings;
    let settings = &key.settings;
    let kind = key.kind;
    Ok(Shown {
        allow_plaintext_backup: settings.allow_plaintext_backup,
        auto_rotate_period: settings.auto_rotate.as_secs(),
        backup_info: settings.backed_up.map(ShownMoment::from),
        convergent_encryption: derived.then_some(convergent),
        convergent_encryption_version: convergent.then_some(-1),
        deletion_allowed: settings.deletion_allowed,
        derived,
        exportable: settings.exportable,
        imported_key: imported,
        imported_key_allow_rotation: imported.then_some(settings.allows_rotation),
        kdf: derived.then_some(match settings.kdf {
            Derivation::Hkdf => "hkdf_sha256",
            Derivation::Counter => "hmac-sha256-counter",
        }),
        kdf_mode: (derived && settings.kdf == Derivation::Counter).then_some("hmac-sha256-counter"),
        key_size: (kind == Kind::Hmac).then_some(settings.key_size),
        keys: (kind != Kind::Hmac).then(|| shown_versions(key, context)).transpose()?,
        latest_version: settings.latest,
        min_available_version: settings.min_available,
        min_decryption_version: settings.min_decryption,
        min_encryption_version: settings.min_encryption,
        name: key.name.clone(),
        restore_info: settings.restored.map(ShownMoment::from),
        soft_deleted: settings.soft_deleted,
        supports_decryption: kind.encrypts(),
        supports_derivation: kind.derives(),
        supports_encryption: kind.encrypts(),
        supports_signing: kind.signs(),
        kind: kind.word(),
    })
}

fn shown_versions(
    key: &Key,
    context: Option<&[u8]>,
) -> Result<BTreeMap<String, ShownVersion>, ApiError> {
    let readable = key.versions.range(key.settings.min_decryption..);
    let shown = readable.map(|(number, version)| {
        let shown = if key.kind.has_public_half() {
            ShownVersion::Public {
                certificate_chain: "",
                creation_time: version.record.created.rfc3339(),
                name: material::pair_name(key.kind),
                public_key: key.public_text(version, context)?,
            }
        } else {
            ShownVersion::Made(version.record.created.seconds())
        };
        Ok((number.to_string(), shown))
    });
    shown.collect()
}
