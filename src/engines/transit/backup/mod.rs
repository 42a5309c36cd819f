//! `backup/` and `restore/`: a whole key as one JSON object in base64, in the form of the peers.
//!
//! Whatever a restored object lacks, or has that does not fit, is refused before anything is
//! written: the peers take much of it and lose the key at a later step.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Transit,
    encoding::{self, SecretText},
    key::{Key, Version},
    keys::{self, Change},
    kind::Kind,
    manage::check_name,
    material::{self, Asymmetric},
    record::{Derivation, LAST_VERSION, Material, Moment, Settings, VersionRecord},
    wrapping,
};
use crate::{
    clock::Timestamp,
    crypto::{
        decimal,
        ec::{EcKey, EcPublic},
        pem,
        rsa::{RsaComponents, RsaKey, RsaPublic},
    },
    gate::{ApiError, Permit},
    route::{Fields, FromFields, Nothing, Reply},
    secret::{SecretBuffer, SecretBytes},
};

/// `data` of a backup.
#[derive(Debug, Serialize)]
pub(super) struct BackedUp {
    backup: SecretText,
}

/// `POST restore[/:name]`.
pub(super) struct RestoreInput {
    name: String,
    backup: SecretBytes,
    force: bool,
}

impl FromFields for RestoreInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let name = fields.parameter("name").to_owned();
        if name.contains('/') {
            return Err(ApiError::bad_request("key names cannot be paths"));
        }
        let text = fields.text("backup")?.filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| ApiError::bad_request("'backup' must be supplied"))?;
        let backup = encoding::decode(&zeroize::Zeroizing::new(text));
        Ok(Self {
            name,
            backup: backup.map_err(ApiError::bad_request)?,
            force: fields.boolean("force")?.unwrap_or(false),
        })
    }
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
            Ok(BackedUp { backup: SecretText(encoding::encode(&json.into_zeroizing())) })
        };
        Ok(Reply::of(material::aside(kind, write).await?))
    }

    /// `POST restore[/:name]`.
    pub(super) async fn restore(
        &self,
        permit: &Permit<'_>,
        input: RestoreInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let now = permit.now();
        let RestoreInput { name, backup, force } = input;
        // RSA pairs take their time to be checked.
        let work = move || backup.expose(|json| Restored::read(json, now));
        let restored = tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?;
        let restored = restored.map_err(|why| {
            ApiError::bad_request(format!("the backup cannot be restored: {why}"))
        })?;
        let name = if name.is_empty() { restored.name } else { name };
        if check_name(&name).is_err() {
            return Err(ApiError::bad_request(format!("{name:?} is no name for a key")));
        }
        let (settings, versions) = (restored.settings, restored.versions);
        let view = permit.storage();
        if force {
            self.keys.replace(view, &name, settings, versions).await?;
            return Ok(Reply::nothing());
        }
        let (_, is_new) = self.keys.create(view, &name, settings, versions).await?;
        match is_new {
            true => Ok(Reply::nothing()),
            false => Err(ApiError::bad_request(format!("key {name:?} already exists"))),
        }
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

/// A backup that is whole.
struct Restored {
    name: String,
    settings: Settings,
    versions: Vec<(u32, VersionRecord)>,
}

impl Restored {
    fn read(json: &[u8], now: Timestamp) -> Result<Self, String> {
        let whole: Whole = serde_json::from_slice(json)
            .map_err(|error| format!("no JSON object of a key, at column {}", error.column()))?;
        let policy = whole.policy.ok_or("it has no policy")?;
        let archive = whole.archived_keys.ok_or("it has no archived_keys")?;
        let settings = settings_of(&policy, now)?;
        let kind = settings.kind().ok_or("its type is not known")?;
        let versions = versions_of(kind, &settings, archive.keys)?;
        check_listed(&policy, kind, &settings, &versions)?;
        if kind == Kind::Hmac && !wrapping::fits(kind, settings.key_size as usize) {
            return Err("its key_size is not one of keys".to_owned());
        }
        Ok(Self { name: policy.name, settings, versions })
    }
}

fn settings_of(policy: &Policy, now: Timestamp) -> Result<Settings, String> {
    let code = policy.kind.ok_or("its type is missing")?;
    let kind = Kind::of_code(code).ok_or_else(|| format!("its type {code} is not known"))?;
    let latest = policy.latest_version;
    let within = |number: u32, name: &str| match number <= latest {
        true => Ok(number),
        false => Err(format!("its {name} of {number} is beyond its latest version {latest}")),
    };
    if latest > LAST_VERSION {
        return Err(format!("its latest_version of {latest} is more than a key can have"));
    }
    if latest == 0 {
        return Err("its latest_version is less than 1".to_owned());
    }
    let min_decryption = within(policy.min_decryption_version, "min_decryption_version")?;
    let min_encryption = within(policy.min_encryption_version, "min_encryption_version")?;
    if min_decryption == 0 {
        return Err("its min_decryption_version is less than 1".to_owned());
    }
    if min_encryption != 0 && min_encryption < min_decryption {
        return Err("its min_encryption_version is below its min_decryption_version".to_owned());
    }
    let min_available = policy.min_available_version;
    if min_available > min_decryption || policy.archive_min_version != min_available {
        return Err("its min_available_version does not fit its other versions".to_owned());
    }
    if policy.derived && !kind.derives() || policy.convergent_encryption && !policy.derived {
        return Err(format!("keys of type {} are not derived like this", kind.word()));
    }
    if policy.convergent_encryption && !kind.converges() {
        return Err(format!("keys of type {} are not convergent", kind.word()));
    }
    if !policy.version_template.is_empty() || !policy.storage_prefix.is_empty() {
        return Err("it is not a key of a transit mount".to_owned());
    }
    let auto_rotate = std::time::Duration::from_nanos(policy.auto_rotate_period);
    if !auto_rotate.is_zero() && auto_rotate.as_secs() < 3_600 {
        return Err("its auto_rotate_period is less than an hour".to_owned());
    }
    let moment = |info: &Info| {
        let time = Timestamp::from_rfc3339(&info.time)?;
        Some(Moment { time, version: info.version })
    };
    Ok(Settings {
        derived: policy.derived,
        kdf: match policy.kdf {
            0 if !policy.derived => Derivation::Hkdf,
            // It makes 32 bytes, and keys that take more would end in zeros.
            0 if kind.message().is_some() && !policy.convergent_encryption => Derivation::Counter,
            // Whose pairs are derived in one way only.
            0 if kind == Kind::Ed25519 => Derivation::Counter,
            0 => return Err(format!("its kdf 0 makes no keys of type {}", kind.word())),
            1 => Derivation::Hkdf,
            other => return Err(format!("its kdf {other} is not known")),
        },
        convergent: policy.convergent_encryption,
        exportable: policy.exportable,
        allow_plaintext_backup: policy.allow_plaintext_backup,
        deletion_allowed: policy.deletion_allowed,
        soft_deleted: policy.soft_deleted,
        imported: policy.imported,
        allows_rotation: policy.allows_rotation,
        key_size: if kind == Kind::Hmac { policy.key_size } else { 0 },
        latest,
        min_decryption,
        min_encryption,
        min_available,
        auto_rotate,
        backed_up: policy.backup_info.as_ref().and_then(moment),
        restored: Some(Moment { time: now, version: latest }),
        ..Settings::new(keys::new_id(), kind)
    })
}

/// The versions of an archive, in which every version that was not trimmed has its place.
fn versions_of(
    kind: Kind,
    settings: &Settings,
    archive: Vec<Entry>,
) -> Result<Vec<(u32, VersionRecord)>, String> {
    let wanted = u64::from(settings.latest - settings.min_available) + 1;
    if archive.len() as u64 != wanted {
        return Err(format!("its archive has {} entries, not {wanted}", archive.len()));
    }
    let numbered = (settings.min_available..).zip(archive).filter(|(number, _)| *number != 0);
    numbered
        .map(|(number, entry)| {
            let record = record_of(kind, settings, &entry)
                .map_err(|why| format!("version {number}: {why}"))?;
            Ok((number, record))
        })
        .collect()
}

/// The policy lists the versions that decrypt once more: they must be those of the archive.
fn check_listed(
    policy: &Policy,
    kind: Kind,
    settings: &Settings,
    versions: &[(u32, VersionRecord)],
) -> Result<(), String> {
    let listed = policy.keys.as_ref().ok_or("its policy has no keys")?;
    let readable = || versions.iter().filter(|(number, _)| *number >= settings.min_decryption);
    if listed.len() != readable().count() {
        return Err("the keys of its policy are not the versions that decrypt".to_owned());
    }
    for (number, archived) in readable() {
        let entry = listed
            .get(&number.to_string())
            .ok_or_else(|| format!("version {number} is missing in its policy"))?;
        let record =
            record_of(kind, settings, entry).map_err(|why| format!("version {number}: {why}"))?;
        let same = |a: &Material, b: &Material| {
            a.expose(|a| b.expose(|b| crate::crypto::mac::equal(a, b)))
        };
        let is_same = same(&record.private, &archived.private)
            && same(&record.hmac, &archived.hmac)
            && record.public == archived.public;
        if !is_same {
            return Err(format!("version {number} differs between its policy and its archive"));
        }
    }
    Ok(())
}

fn record_of(kind: Kind, settings: &Settings, entry: &Entry) -> Result<VersionRecord, String> {
    if settings.convergent && entry.convergent_version != 3 {
        return Err("only version 3 of convergent encryption is known".to_owned());
    }
    let created = Timestamp::from_rfc3339(&entry.time).ok_or("its time cannot be read")?;
    let bytes = |text: &Option<String>| text.as_deref().map(encoding::decode).transpose();
    let hmac = match bytes(&entry.hmac_key)? {
        Some(hmac) if kind == Kind::Hmac => {
            drop(hmac);
            Material::copy_of(&[])
        }
        Some(hmac) => Material::of(hmac),
        None => Material::empty(),
    };
    let built = if kind.is_ecdsa() {
        ec_record(kind, entry)?
    } else if kind.is_rsa() {
        rsa_record(kind, entry)?
    } else {
        let key = bytes(&entry.key)?;
        match key {
            Some(key) if kind == Kind::Ed25519 => {
                key.expose(|key| material::ed25519_of_both(key, &entry.public_key))?
            }
            Some(key) if wrapping::fits(kind, key.len()) => (Material::of(key), Vec::new()),
            Some(_) => return Err(format!("its key is not of the length of {}", kind.word())),
            None if kind == Kind::Ed25519 && !settings.derived => {
                (Material::empty(), material::public_of(kind, &entry.public_key)?)
            }
            None => return Err("it has no key".to_owned()),
        }
    };
    let (private, public) = built;
    if hmac.is_empty() && kind != Kind::Hmac && !private.is_empty() {
        return Err("it has no hmac_key".to_owned());
    }
    Ok(VersionRecord { created, private, public, hmac })
}

fn ec_record(kind: Kind, entry: &Entry) -> Result<(Material, Vec<u8>), String> {
    let curve = kind.curve().ok_or("it is of no curve")?;
    let number = |given: &Option<Integer>, name: &str| {
        given.as_ref().and_then(Integer::bytes).ok_or_else(|| format!("it has no {name}"))
    };
    let (x, y) = (number(&entry.ec_x, "ec_x")?, number(&entry.ec_y, "ec_y")?);
    let public = x.expose(|x| y.expose(|y| EcPublic::from_point(curve, x, y)));
    let public = public.map_err(|_| "its point is not on its curve")?.to_spki();
    if entry.ec_d.is_none() {
        return Ok((Material::empty(), public));
    }
    let pair = number(&entry.ec_d, "ec_d")?.expose(|d| EcKey::from_scalar(curve, d));
    let pair = pair.map_err(|_| "its ec_d is no private key of its curve")?;
    match pair.public().to_spki() == public {
        true => Ok((Material::of(pair.to_pkcs8()), public)),
        false => Err("its ec_d is not that of its point".to_owned()),
    }
}

fn rsa_record(kind: Kind, entry: &Entry) -> Result<(Material, Vec<u8>), String> {
    let number = |given: Option<&Integer>, name: &str| {
        given.and_then(Integer::bytes).ok_or_else(|| format!("it has no {name}"))
    };
    let open = |bytes: SecretBytes| bytes.expose(<[u8]>::to_vec);
    let Some(pair) = &entry.rsa_key else {
        let half = entry.rsa_public_key.as_ref().ok_or("it has no rsa_key")?;
        let n = open(number(half.n.as_ref(), "rsa_public_key.N")?);
        let e = open(number(half.e.as_ref(), "rsa_public_key.E")?);
        let public = RsaPublic::new(&n, &e).map_err(|error| error.to_string())?;
        material::check_bits(kind, public.bits())?;
        return Ok((Material::empty(), public.to_spki()));
    };
    let primes = pair.primes.as_deref().unwrap_or_default();
    let [p, q] = primes else { return Err("its rsa_key has not two primes".to_owned()) };
    let parts = RsaComponents::of_primes(
        open(number(pair.n.as_ref(), "rsa_key.N")?),
        open(number(pair.e.as_ref(), "rsa_key.E")?),
        number(pair.d.as_ref(), "rsa_key.D")?,
        number(Some(p), "rsa_key.Primes")?,
        number(Some(q), "rsa_key.Primes")?,
    );
    let pair = RsaKey::from_components(parts.ok_or("the numbers of its rsa_key do not fit")?);
    let pair = pair.map_err(|error| error.to_string())?;
    material::check_bits(kind, pair.bits())?;
    Ok((Material::of(pair.to_pkcs8()), pair.public().to_spki()))
}
