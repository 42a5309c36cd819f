//! `backup/` and `restore/`: a whole key as one JSON object in base64, in the form of the peers.
//!
//! Whatever a restored object lacks, or has that does not fit, is refused before anything is
//! written: the peers take much of it and lose the key at a later step.
//!
//! - `restore.rs`: reading one, and everything it may lack

mod restore;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Transit,
    encoding::{self, SecretText},
    key::{Key, Version},
    keys::Change,
    kind::Kind,
    material::{self, Asymmetric},
    record::{Derivation, Material, Moment, Settings},
};
use crate::{
    crypto::{decimal, ec::EcPublic, pem, rsa::RsaKey},
    gate::{ApiError, Permit},
    route::Reply,
    secret::{SecretBuffer, SecretBytes},
};

/// `data` of a backup.
#[derive(Debug, Serialize)]
pub(super) struct BackedUp {
    backup: SecretText,
}

#[derive(Serialize, Deserialize)]
struct Whole {
    policy: Option<Policy>,
    archived_keys: Option<Archive>,
}

#[derive(Serialize, Deserialize)]
struct Archive {
    keys: Vec<Entry>,
}

/// The peers' record of a key. Times of rotation are in nanoseconds; two names begin with a
/// capital.
#[derive(Serialize, Deserialize)]
struct Policy {
    #[serde(default)]
    name: String,
    keys: Option<BTreeMap<String, Entry>>,
    #[serde(default)]
    derived: bool,
    #[serde(default)]
    kdf: u8,
    #[serde(default)]
    convergent_encryption: bool,
    #[serde(default)]
    exportable: bool,
    #[serde(default)]
    min_decryption_version: u32,
    #[serde(default)]
    min_encryption_version: u32,
    #[serde(default)]
    latest_version: u32,
    #[serde(default)]
    archive_version: u32,
    #[serde(default)]
    archive_min_version: u32,
    #[serde(default)]
    min_available_version: u32,
    #[serde(default)]
    deletion_allowed: bool,
    #[serde(default)]
    convergent_version: i64,
    #[serde(rename = "type")]
    kind: Option<u8>,
    #[serde(default)]
    backup_info: Option<Info>,
    #[serde(default)]
    restore_info: Option<Info>,
    #[serde(default)]
    allow_plaintext_backup: bool,
    #[serde(default)]
    version_template: String,
    #[serde(default)]
    storage_prefix: String,
    #[serde(default)]
    auto_rotate_period: u64,
    #[serde(default, rename = "Imported")]
    imported: bool,
    #[serde(default, rename = "AllowImportedKeyRotation")]
    allows_rotation: bool,
    #[serde(default)]
    soft_deleted: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    key_size: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
struct Info {
    time: String,
    version: u32,
}

/// A version. Numbers of pairs are JSON integers of any length.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Entry {
    key: Option<String>,
    hmac_key: Option<String>,
    time: String,
    ec_x: Option<Integer>,
    ec_y: Option<Integer>,
    ec_d: Option<Integer>,
    rsa_key: Option<RsaPair>,
    rsa_public_key: Option<RsaHalf>,
    public_key: String,
    convergent_version: i64,
    creation_time: u64,
    certificate_chain: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct RsaPair {
    #[serde(rename = "N")]
    n: Option<Integer>,
    #[serde(rename = "E")]
    e: Option<Integer>,
    #[serde(rename = "D")]
    d: Option<Integer>,
    #[serde(rename = "Primes")]
    primes: Option<Vec<Integer>>,
    /// Written for the peers; reckoned anew when read.
    #[serde(default, rename = "Precomputed", skip_deserializing)]
    precomputed: Precomputed,
}

#[derive(Default, Serialize)]
struct Precomputed {
    #[serde(rename = "Dp")]
    dp: Option<Integer>,
    #[serde(rename = "Dq")]
    dq: Option<Integer>,
    #[serde(rename = "Qinv")]
    qinv: Option<Integer>,
    #[serde(rename = "CRTValues")]
    more: [(); 0],
}

#[derive(Serialize, Deserialize)]
struct RsaHalf {
    #[serde(rename = "N")]
    n: Option<Integer>,
    #[serde(rename = "E")]
    e: Option<Integer>,
}

/// An integer of up to 1,233 digits, as its digits.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Integer(Box<RawValue>);

impl Integer {
    fn of(bytes: &[u8]) -> Result<Self, ApiError> {
        let digits = decimal::digits_of(bytes).expose(str::to_owned);
        RawValue::from_string(digits).map(Self).map_err(ApiError::internal)
    }

    /// Big-endian bytes; None for a negative one, a fraction, or more digits than any key has.
    fn bytes(&self) -> Option<SecretBytes> {
        decimal::number_of(self.0.get())
    }
}

impl Transit {
    /// `GET backup/:name`.
    pub(super) async fn backup(
        &self,
        permit: &Permit<'_>,
        super::manage::Name(name): super::manage::Name,
    ) -> Result<Reply<BackedUp>, ApiError> {
        let now = permit.now();
        let refuse = |text: &str| Err(ApiError::bad_request(text));
        let changed = self.keys.change(permit.storage(), &name, |key| {
            key.check_usable()?;
            if !key.settings.exportable {
                return refuse("exporting is disallowed on the policy");
            }
            if !key.settings.allow_plaintext_backup {
                return refuse("plaintext backup is disallowed on the policy");
            }
            let version = key.settings.latest;
            let backed_up = Some(Moment { time: now, version });
            Ok(Change::from(Settings { backed_up, ..key.settings.clone() }))
        });
        let key = changed.await?;
        let key = key.ok_or_else(|| ApiError::bad_request(format!("key {name:?} not found")))?;
        let kind = key.kind;
        let write = move || {
            let mut json = SecretBuffer::with_capacity(4 * 1024);
            serde_json::to_writer(&mut json, &whole_of(&key)?).map_err(ApiError::internal)?;
            json.extend_from_slice(b"\n");
            Ok(BackedUp { backup: SecretText(encoding::encode(&json.into_wiped())) })
        };
        Ok(Reply::of(material::aside(kind, write).await?))
    }
}

fn whole_of(key: &Key) -> Result<Whole, ApiError> {
    let settings = &key.settings;
    if let Some(number) = key.unreadable.first() {
        return Err(ApiError::bad_request(format!(
            "version {number} of the key is damaged, and a backup would lack it; trim it first, or \
             restore the key from an earlier backup"
        )));
    }
    let info = |moment: Moment| Info { time: moment.time.rfc3339(), version: moment.version };
    let readable = key.versions.range(settings.min_decryption..);
    let policy = Policy {
        name: key.name.clone(),
        keys: Some(
            readable
                .map(|(number, version)| Ok((number.to_string(), entry_of(key, version)?)))
                .collect::<Result<_, ApiError>>()?,
        ),
        derived: settings.derived,
        kdf: match settings.kdf {
            Derivation::Hkdf if settings.derived => 1,
            Derivation::Hkdf | Derivation::Counter => 0,
        },
        convergent_encryption: settings.convergent,
        exportable: settings.exportable,
        min_decryption_version: settings.min_decryption,
        min_encryption_version: settings.min_encryption,
        latest_version: settings.latest,
        archive_version: settings.latest,
        archive_min_version: settings.min_available,
        min_available_version: settings.min_available,
        deletion_allowed: settings.deletion_allowed,
        convergent_version: if settings.convergent { -1 } else { 0 },
        kind: Some(settings.kind_code),
        backup_info: settings.backed_up.map(info),
        restore_info: settings.restored.map(info),
        allow_plaintext_backup: settings.allow_plaintext_backup,
        version_template: String::new(),
        storage_prefix: String::new(),
        auto_rotate_period: u64::try_from(settings.auto_rotate.as_nanos())
            .map_err(ApiError::internal)?,
        imported: settings.imported,
        allows_rotation: settings.allows_rotation,
        soft_deleted: settings.soft_deleted,
        key_size: settings.key_size,
    };
    // Untrimmed, the first place is that of a version 0, which never was.
    let mut keys = Vec::new();
    if settings.min_available == 0 {
        keys.push(Entry { time: "0001-01-01T00:00:00Z".to_owned(), ..Entry::default() });
    }
    for version in key.versions.values() {
        keys.push(entry_of(key, version)?);
    }
    Ok(Whole { policy: Some(policy), archived_keys: Some(Archive { keys }) })
}

fn entry_of(key: &Key, version: &Version) -> Result<Entry, ApiError> {
    let record = &version.record;
    let text = |material: &Material| {
        (!material.is_empty()).then(|| material.expose(encoding::encode).to_string())
    };
    let mut entry = Entry {
        hmac_key: text(if key.kind == Kind::Hmac { &record.private } else { &record.hmac }),
        time: record.created.rfc3339(),
        convergent_version: if key.settings.convergent { 3 } else { 0 },
        creation_time: record.created.seconds(),
        ..Entry::default()
    };
    let damaged = || ApiError::bad_request("the stored key is damaged");
    if !key.kind.has_public_half() {
        entry.key = text(&record.private);
        return Ok(entry);
    }
    match Asymmetric::of_record(key.kind, record).ok_or_else(damaged)? {
        Asymmetric::Ed25519(_) | Asymmetric::Ed25519Public(_) => {
            entry.key = text(&record.private);
            entry.public_key = encoding::encode(&record.public).to_string();
        }
        Asymmetric::Ec(pair) => {
            entry.ec_d = Some(pair.scalar().expose(Integer::of)?);
            put_point(&mut entry, pair.public())?;
        }
        Asymmetric::EcPublic(public) => put_point(&mut entry, &public)?,
        Asymmetric::Rsa(pair) => entry.rsa_key = Some(rsa_pair(&pair)?),
        Asymmetric::RsaPublic(public) => {
            entry.rsa_public_key = Some(RsaHalf {
                n: Some(Integer::of(public.n())?),
                e: Some(Integer::of(public.e())?),
            });
        }
    }
    Ok(entry)
}

fn put_point(entry: &mut Entry, public: &EcPublic) -> Result<(), ApiError> {
    let (x, y) = public.point();
    entry.ec_x = Some(Integer::of(x)?);
    entry.ec_y = Some(Integer::of(y)?);
    entry.public_key = pem::encode("PUBLIC KEY", &public.to_spki());
    Ok(())
}

fn rsa_pair(pair: &RsaKey) -> Result<RsaPair, ApiError> {
    let parts = pair.components();
    Ok(RsaPair {
        n: Some(Integer::of(&parts.n)?),
        e: Some(Integer::of(&parts.e)?),
        d: Some(parts.d.expose(Integer::of)?),
        primes: Some(vec![parts.p.expose(Integer::of)?, parts.q.expose(Integer::of)?]),
        precomputed: Precomputed {
            dp: Some(parts.dp.expose(Integer::of)?),
            dq: Some(parts.dq.expose(Integer::of)?),
            qinv: Some(parts.qinv.expose(Integer::of)?),
            more: [],
        },
    })
}
