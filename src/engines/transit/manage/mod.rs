//! `keys/`: keys made, shown, configured, rotated, trimmed and removed.
//!
//! - `new_key.rs`: what is asked of a new key, and what does not go together
//! - `shown.rs`: a key as it is shown

mod new_key;
mod shown;

pub(super) use new_key::{HMAC_KEY_BYTES, NewKey, auto_rotate};
pub(super) use shown::{Shown, Usage, shown};

use std::{sync::Arc, time::Duration};

use super::{
    Transit, encoding,
    key::Key,
    keys::{Change, Keys},
    material,
    record::Settings,
};
use crate::{
    barrier::MountView,
    clock::Timestamp,
    engines::listing::{self, ListInput, ListOutput, Listed},
    gate::{ApiError, Permit},
    route::{Fields, FromFields, Nothing, Reply, is_name},
};

/// A key's name, from the path.
pub(super) struct Name(pub(super) String);

impl FromFields for Name {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self(fields.parameter("name").to_owned()))
    }
}

/// Names that may be: letters, digits, `_`, `-` and `.`, the last two not at either end.
pub(super) fn check_name(name: &str) -> Result<(), ApiError> {
    match is_name(name) {
        true => Ok(()),
        false => Err(ApiError::unsupported_path()),
    }
}

/// `POST keys/:name`.
pub(super) struct CreateInput {
    name: String,
    new: NewKey,
}

impl FromFields for CreateInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let name = fields.parameter("name").to_owned();
        check_name(&name)?;
        Ok(Self { name, new: NewKey::read(fields)? })
    }
}

/// `GET keys/:name?context=`.
pub(super) struct ReadInput {
    name: String,
    context: Option<String>,
}

impl FromFields for ReadInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let context = fields.query("context").filter(|context| !context.is_empty());
        Ok(Self { name: fields.parameter("name").to_owned(), context: context.map(str::to_owned) })
    }
}

/// `POST keys/:name/config`; what is not given stays.
pub(super) struct ConfigInput {
    name: String,
    min_decryption: Option<i64>,
    min_encryption: Option<i64>,
    deletion_allowed: Option<bool>,
    exportable: Option<bool>,
    allow_plaintext_backup: Option<bool>,
    auto_rotate: Option<Duration>,
}

impl FromFields for ConfigInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            name: fields.parameter("name").to_owned(),
            min_decryption: fields.integer("min_decryption_version")?,
            min_encryption: fields.integer("min_encryption_version")?,
            deletion_allowed: fields.boolean("deletion_allowed")?,
            exportable: fields.boolean("exportable")?,
            allow_plaintext_backup: fields.boolean("allow_plaintext_backup")?,
            auto_rotate: auto_rotate(fields)?,
        })
    }
}

/// `POST keys/:name/trim`.
pub(super) struct TrimInput {
    name: String,
    min_available: Option<i64>,
}

impl FromFields for TrimInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            name: fields.parameter("name").to_owned(),
            min_available: fields.integer("min_available_version")?,
        })
    }
}

impl Transit {
    /// `POST keys/:name`; one that is there stays as it is.
    pub(super) async fn create(
        &self,
        permit: &Permit<'_>,
        input: CreateInput,
    ) -> Result<Reply<Shown>, ApiError> {
        input.new.check()?;
        if let Some(key) = self.keys.get(permit.storage(), &input.name).await? {
            return Ok(Reply::of(shown(&key, None)?).with_warning(exists_already(&input.name)));
        }
        let (key, is_new) = self.make(permit, &input.name, &input.new).await?;
        let reply = Reply::of(shown(&key, None)?);
        Ok(if is_new { reply } else { reply.with_warning(exists_already(&input.name)) })
    }

    /// Makes the key that `encrypt/:name` did not find.
    pub(super) async fn upsert(
        &self,
        permit: &Permit<'_>,
        name: &str,
        new: NewKey,
    ) -> Result<Arc<Key>, ApiError> {
        if self.configuration(permit.storage()).await?.disable_upsert {
            return Err(ApiError::bad_request("encryption key not found"));
        }
        check_name(name)?;
        new.check()?;
        if !new.kind.encrypts() {
            return Err(ApiError::bad_request(format!(
                "message encryption not supported for key type {}",
                new.kind.word()
            )));
        }
        Ok(self.make(permit, name, &new).await?.0)
    }

    async fn make(
        &self,
        permit: &Permit<'_>,
        name: &str,
        new: &NewKey,
    ) -> Result<(Arc<Key>, bool), ApiError> {
        let record = material::generate(new.kind, new.key_size, permit.now()).await?;
        self.keys.create(permit.storage(), name, new.settings(), vec![(1, record)]).await
    }

    /// `GET keys/:name`.
    pub(super) async fn read(
        &self,
        permit: &Permit<'_>,
        input: ReadInput,
    ) -> Result<Reply<Shown>, ApiError> {
        let key = self.keys.get(permit.storage(), &input.name).await?;
        let key = key.ok_or_else(ApiError::not_found)?;
        let context = input.context.as_deref().map(encoding::decode).transpose();
        let context = context.map_err(ApiError::bad_request)?;
        let shown = match &context {
            Some(context) => context.expose(|context| shown(&key, Some(context)))?,
            None => shown(&key, None)?,
        };
        Ok(Reply::of(shown))
    }

    /// `LIST keys`.
    pub(super) async fn list(
        &self,
        permit: &Permit<'_>,
        input: ListInput,
    ) -> Result<Reply<ListOutput<Listed>>, ApiError> {
        let keys = listing::names_in(permit.storage(), "keys", &input).await?;
        Ok(Reply::of(ListOutput { keys }))
    }

    /// `DELETE keys/:name`.
    pub(super) async fn delete(
        &self,
        permit: &Permit<'_>,
        Name(name): Name,
    ) -> Result<Reply<Nothing>, ApiError> {
        let refused =
            |why: &str| ApiError::bad_request(format!("error deleting policy {name}: {why}"));
        let check = |key: &Key| match key.settings.deletion_allowed {
            true => Ok(()),
            false => Err(refused("deletion is not allowed for this key")),
        };
        let removed = self.keys.remove(permit.storage(), &name, check).await?;
        removed.ok_or_else(|| refused("could not delete key; not found"))?;
        Ok(Reply::nothing())
    }

    /// `POST keys/:name/config`.
    pub(super) async fn configure(
        &self,
        permit: &Permit<'_>,
        input: ConfigInput,
    ) -> Result<Reply<Shown>, ApiError> {
        let name = &input.name;
        let mut warnings = Vec::new();
        let changed = self.keys.change(permit.storage(), name, |key| {
            warnings = in_use_below(key, input.min_decryption);
            configured(key, &input, &mut warnings).map(Change::from)
        });
        let key = changed.await?.ok_or_else(|| {
            ApiError::bad_request(format!("no existing key named {name} could be found"))
        })?;
        Ok(Reply::of(shown(&key, None)?).with_warnings(warnings))
    }

    /// `POST keys/:name/rotate`.
    pub(super) async fn rotate(
        &self,
        permit: &Permit<'_>,
        Name(name): Name,
    ) -> Result<Reply<Shown>, ApiError> {
        let key = self.keys.get(permit.storage(), &name).await?;
        let key = key.ok_or_else(|| ApiError::bad_request("key not found"))?;
        key.check_usable()?;
        let key = self.add_version(permit.storage(), &key, permit.now(), |_| true).await?;
        Ok(Reply::of(shown(&key, None)?))
    }

    /// Gives a key a new version that has made half of the nonces that its cipher bears.
    pub(super) async fn rotate_worn(
        &self,
        view: &MountView,
        key: &Arc<Key>,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        // Of several requests that find this, one makes the version.
        let worn = key.settings.latest;
        self.add_version(view, key, now, |now| now.settings.latest == worn).await?;
        Ok(())
    }

    /// Gives new versions to the keys whose time has come.
    pub(super) async fn rotate_due(
        &self,
        view: &MountView,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let mut result = Ok(());
        // The others have their turn in the next round.
        for name in self.keys.due(view, now).await?.into_iter().take(ROTATED_IN_A_ROUND) {
            let rotated = self.rotate_one_due(view, &name, now).await;
            result = result.and(rotated);
        }
        result
    }

    async fn rotate_one_due(
        &self,
        view: &MountView,
        name: &str,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        match self.keys.get(view, name).await? {
            Some(key) if !key.settings.soft_deleted => self.rotate_worn(view, &key, now).await,
            Some(_) | None => Ok(()),
        }
    }

    async fn add_version(
        &self,
        view: &MountView,
        key: &Arc<Key>,
        now: Timestamp,
        is_wanted: impl FnOnce(&Key) -> bool,
    ) -> Result<Arc<Key>, ApiError> {
        if !key.settings.may_rotate() {
            return Err(ApiError::bad_request(format!(
                "imported key {} does not allow rotation within Vault",
                key.name
            )));
        }
        // Made before the key is held: a pair takes its time.
        let record = material::generate(key.kind, key.settings.key_size, now).await?;
        let id = key.settings.id;
        let changed = self.keys.change(view, &key.name, |key| {
            let mut settings = key.settings.clone();
            if settings.id != id {
                return Err(ApiError::new(409, "the key was replaced meanwhile; try again"));
            }
            if !is_wanted(key) {
                return Ok(Change::from(settings));
            }
            settings.latest = settings.next()?;
            settings.imported = false;
            Ok(Change { settings, version: Some(record) })
        });
        changed.await?.ok_or_else(|| ApiError::bad_request("key not found"))
    }

    /// `POST keys/:name/trim`: versions that go for ever.
    pub(super) async fn trim(
        &self,
        permit: &Permit<'_>,
        input: TrimInput,
    ) -> Result<Reply<Shown>, ApiError> {
        let changed = self.keys.change(permit.storage(), &input.name, |key| {
            trimmed(key, input.min_available).map(Change::from)
        });
        let key = changed.await?.ok_or_else(|| ApiError::bad_request("invalid key name"))?;
        Ok(Reply::of(shown(&key, None)?))
    }

    /// `DELETE keys/:name/soft-delete`: no use of the key until it is taken back.
    pub(super) async fn soft_delete(
        &self,
        permit: &Permit<'_>,
        Name(name): Name,
    ) -> Result<Reply<Shown>, ApiError> {
        self.set_soft_deleted(permit, &name, true).await
    }

    /// `POST keys/:name/soft-delete-restore`.
    pub(super) async fn take_back(
        &self,
        permit: &Permit<'_>,
        Name(name): Name,
    ) -> Result<Reply<Shown>, ApiError> {
        self.set_soft_deleted(permit, &name, false).await
    }

    async fn set_soft_deleted(
        &self,
        permit: &Permit<'_>,
        name: &str,
        soft_deleted: bool,
    ) -> Result<Reply<Shown>, ApiError> {
        let changed = self.keys.change(permit.storage(), name, |key| {
            Ok(Change::from(Settings { soft_deleted, ..key.settings.clone() }))
        });
        let key = changed.await?.ok_or_else(|| ApiError::bad_request("key not found"))?;
        Ok(Reply::of(shown(&key, None)?))
    }

    /// `GET keys/:name/usage`: what each version was used for since it was made.
    ///
    /// Differs from Vault: it is Kista's own.
    pub(super) async fn usage(
        &self,
        permit: &Permit<'_>,
        Name(name): Name,
    ) -> Result<Reply<Usage>, ApiError> {
        let key = self.keys.get(permit.storage(), &name).await?;
        let key = key.ok_or_else(ApiError::not_found)?;
        let mut versions = Vec::with_capacity(key.versions.len());
        for version in key.versions.values() {
            let reserved = Keys::reserved(permit.storage(), &key, version).await?;
            versions.push((&**version, reserved));
        }
        Ok(Reply::of(Usage::of(&key, versions)))
    }
}

/// Keys that are due and rotated in one round of the background: pairs of RSA take seconds.
const ROTATED_IN_A_ROUND: usize = 16;

fn exists_already(name: &str) -> String {
    format!("key {name} already existed")
}

fn configured(
    key: &Key,
    input: &ConfigInput,
    warnings: &mut Vec<String>,
) -> Result<Settings, ApiError> {
    let mut settings = key.settings.clone();
    let latest = settings.latest;
    let version = |asked: i64, what: &str| {
        if asked < 0 {
            return Err(ApiError::bad_request(format!("min {what} version cannot be negative")));
        }
        u32::try_from(asked).ok().filter(|asked| *asked <= latest).ok_or_else(|| {
            ApiError::bad_request(format!(
                "cannot set min {what} version of {asked}, latest key version is {latest}"
            ))
        })
    };
    if let Some(asked) = input.min_decryption {
        settings.min_decryption = version(asked, "decryption")?;
        if settings.min_decryption == 0 {
            settings.min_decryption = 1;
            warnings.push(
                "since Vault 0.3, transit decryption numbering starts at 1; forcing minimum to 1"
                    .to_owned(),
            );
        }
    }
    if let Some(asked) = input.min_encryption {
        settings.min_encryption = version(asked, "encryption")?;
    }
    let Settings { min_decryption, min_encryption, min_available, .. } = settings;
    if min_encryption != 0 && min_encryption < min_decryption {
        return Err(ApiError::bad_request(format!(
            "cannot set min encryption/decryption values; min encryption version of \
             {min_encryption} must be greater than or equal to min decryption version of \
             {min_decryption}"
        )));
    }
    if min_decryption < min_available {
        return Err(ApiError::bad_request(format!(
            "cannot set min decryption version of {min_decryption}: versions below \
             {min_available} were trimmed"
        )));
    }
    if let Some(allowed) = input.deletion_allowed {
        settings.deletion_allowed = allowed;
    }
    // Both only ever go on: what was once handed out cannot be called back.
    settings.exportable |= input.exportable.unwrap_or(false);
    settings.allow_plaintext_backup |= input.allow_plaintext_backup.unwrap_or(false);
    if let Some(period) = input.auto_rotate {
        if !period.is_zero() && !settings.may_rotate() {
            return Err(ApiError::bad_request(
                "allow_rotation must be set to true if auto-rotation is enabled",
            ));
        }
        settings.auto_rotate = period;
    }
    Ok(settings)
}

/// Warnings for versions that a new lowest one shuts although they are still asked for.
fn in_use_below(key: &Key, min_decryption: Option<i64>) -> Vec<String> {
    let Some(lowest) = min_decryption.and_then(|lowest| u32::try_from(lowest).ok()) else {
        return Vec::new();
    };
    let shut = key.versions.range(key.settings.min_decryption..);
    let shut = shut.take_while(|(number, _)| **number < lowest);
    let in_use = shut.filter_map(|(number, version)| {
        let last_used = version.uses.last_used()?;
        let (encryptions, decryptions) = (version.uses.encryptions(), version.uses.decryptions());
        Some(format!(
            "version {number} was in use until {}: {encryptions} encryptions, {decryptions} \
             decryptions; what was not rewrapped can no longer be read",
            last_used.rfc3339()
        ))
    });
    in_use.collect()
}

fn trimmed(key: &Key, min_available: Option<i64>) -> Result<Settings, ApiError> {
    let settings = key.settings.clone();
    let refuse = |text: &str| Err(ApiError::bad_request(text));
    let Some(asked) = min_available else { return refuse("missing min_available_version") };
    if asked <= 0 {
        return refuse("minimum available version should be positive");
    }
    if asked < i64::from(settings.min_available) {
        return refuse("minimum available version cannot be decremented");
    }
    if settings.min_encryption == 0 {
        return refuse(
            "minimum available version cannot be set when minimum encryption version is not set",
        );
    }
    if asked > i64::from(settings.min_encryption) {
        return refuse(
            "minimum available version cannot be greater than minmum encryption version",
        );
    }
    if asked > i64::from(settings.min_decryption) {
        return refuse(
            "minimum available version cannot be greater than minmum decryption version",
        );
    }
    let min_available = u32::try_from(asked).map_err(ApiError::internal)?;
    Ok(Settings { min_available, ..settings })
}
