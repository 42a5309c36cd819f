use super::{Entry, Info, Integer, Policy, Whole};
use crate::{
    clock::Timestamp,
    crypto::{
        ec::{EcKey, EcPublic},
        rsa::{RsaComponents, RsaKey, RsaPublic},
    },
    engines::transit::{
        Transit, encoding, keys,
        kind::Kind,
        manage::check_name,
        material,
        record::{Derivation, LAST_VERSION, Material, Moment, Settings, VersionRecord},
        wrapping,
    },
    gate::{ApiError, Permit},
    route::{Fields, FromFields, Nothing, Reply},
    secret::SecretBytes,
};

/// `POST restore[/:name]`.
pub(in crate::engines::transit) struct RestoreInput {
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

impl Transit {
    /// `POST restore[/:name]`.
    pub(in crate::engines::transit) async fn restore(
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
