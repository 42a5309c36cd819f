//! `encrypt/`, `decrypt/`, `rewrap/`, `datakey/` and `describe/`.

use std::sync::Arc;

use serde::{Serialize, ser::SerializeMap};

use super::{
    Transit, ciphertext,
    encoding::{self, Base64},
    items::{Answer, Failures, Items, Outcome, Wrong},
    key::{Key, Version},
    kind::Kind,
    locker::{Locker, NotOpened},
    manage::NewKey,
};
use crate::{
    clock::Timestamp,
    crypto::random,
    gate::{ApiError, Permit},
    route::{Fields, FromFields, Reply},
    secret::SecretBytes,
};

/// What goes beside a plaintext and a ciphertext.
struct Beside {
    context: Option<SecretBytes>,
    aad: SecretBytes,
}

impl Beside {
    fn read(fields: &Fields<'_>) -> Result<Self, Wrong> {
        let context = fields.text("context")?.map(|text| encoding::decode(&text)).transpose()?;
        let aad = fields.text("associated_data")?.unwrap_or_default();
        let aad = encoding::decode(&aad).map_err(|error| format!("associated_data: {error}"))?;
        Ok(Self { context, aad })
    }

    fn has_context(&self) -> bool {
        self.context.as_ref().is_some_and(|context| !context.is_empty())
    }

    fn context<R>(&self, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        match &self.context {
            Some(context) => context.expose(|context| read(Some(context))),
            None => read(None),
        }
    }
}

/// `POST encrypt/:name`.
pub(super) struct EncryptInput {
    name: String,
    items: Items<Plain>,
    /// What is made when there is no key of the name.
    new: NewKey,
}

struct Plain {
    plaintext: SecretBytes,
    beside: Beside,
    /// The item's own, else that beside the batch. Differs from Vault, which ignores the latter.
    key_version: i64,
}

impl FromFields for EncryptInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let name = fields.parameter("name").to_owned();
        if name.is_empty() {
            return Err(ApiError::bad_request("cannot write to a path ending in '/'"));
        }
        let key_version = fields.integer("key_version")?.unwrap_or(0);
        let items = Items::read(fields, |fields| {
            let text = match fields.present("plaintext") {
                None => return Err(Wrong::Batch("missing plaintext to encrypt".to_owned())),
                Some(_) => fields.text("plaintext")?.unwrap_or_default(),
            };
            let text = zeroize::Zeroizing::new(text);
            Ok(Plain {
                plaintext: encoding::decode(&text)?,
                beside: Beside::read(fields)?,
                key_version: fields.integer("key_version")?.unwrap_or(key_version),
            })
        })?;
        Ok(Self { name, items, new: NewKey::of_upsert(fields)? })
    }
}

/// A ciphertext that was made.
#[derive(Debug)]
pub(super) struct Encrypted {
    ciphertext: String,
    key_version: u32,
    /// Of a rewrap: whether it is another key version than before.
    changed: Option<bool>,
}

impl Outcome for Encrypted {
    fn failed<M: SerializeMap>(_: &mut M) -> Result<(), M::Error> {
        Ok(())
    }

    fn done<M: SerializeMap>(&self, map: &mut M, _: bool) -> Result<(), M::Error> {
        map.serialize_entry("ciphertext", &self.ciphertext)?;
        map.serialize_entry("key_version", &self.key_version)?;
        if let Some(changed) = self.changed {
            map.serialize_entry("changed", &changed)?;
        }
        Ok(())
    }
}

/// `POST decrypt/:name` and `POST rewrap/:name`.
pub(super) struct DecryptInput {
    name: String,
    items: Items<Locked>,
}

struct Locked {
    ciphertext: String,
    beside: Beside,
    /// Of a rewrap.
    key_version: i64,
}

impl FromFields for DecryptInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let key_version = fields.integer("key_version")?.unwrap_or(0);
        let items = Items::read(fields, |fields| {
            let ciphertext = fields.text("ciphertext")?.unwrap_or_default();
            if ciphertext.is_empty() {
                return Err("missing ciphertext to decrypt".into());
            }
            Ok(Locked {
                ciphertext,
                beside: Beside::read(fields)?,
                key_version: fields.integer("key_version")?.unwrap_or(key_version),
            })
        })?;
        Ok(Self { name: fields.parameter("name").to_owned(), items })
    }
}

/// A plaintext that was opened.
#[derive(Debug)]
pub(super) struct Decrypted(Base64);

impl Outcome for Decrypted {
    fn failed<M: SerializeMap>(map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("plaintext", "")
    }

    fn done<M: SerializeMap>(&self, map: &mut M, _: bool) -> Result<(), M::Error> {
        map.serialize_entry("plaintext", &self.0)
    }
}

/// `POST datakey/plaintext|wrapped/:name`.
pub(super) struct DatakeyInput {
    name: String,
    shows_plaintext: bool,
    bytes: usize,
    beside: Beside,
    key_version: i64,
}

impl FromFields for DatakeyInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let shows_plaintext = match fields.parameter("kind") {
            "plaintext" => true,
            "wrapped" => false,
            _ => {
                return Err(ApiError::bad_request(
                    "Invalid path, must be 'plaintext' or 'wrapped'",
                ));
            }
        };
        let bytes = match fields.integer("bits")?.unwrap_or(256) {
            128 => 16,
            256 => 32,
            512 => 64,
            _ => return Err(ApiError::bad_request("invalid bit length")),
        };
        let beside = Beside::read(fields).map_err(|wrong| match wrong {
            Wrong::Item(text) | Wrong::Batch(text) => ApiError::bad_request(text),
        })?;
        Ok(Self {
            name: fields.parameter("name").to_owned(),
            shows_plaintext,
            bytes,
            beside,
            key_version: fields.integer("key_version")?.unwrap_or(0),
        })
    }
}

/// `data` of a data key.
#[derive(Debug, Serialize)]
pub(super) struct Datakey {
    ciphertext: String,
    key_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<Base64>,
}

/// What a ciphertext says of itself.
#[derive(Debug)]
pub(super) struct Described {
    key_version: u32,
    kind: &'static str,
    is_current: bool,
    is_readable: bool,
}

impl Outcome for Described {
    fn failed<M: SerializeMap>(_: &mut M) -> Result<(), M::Error> {
        Ok(())
    }

    fn done<M: SerializeMap>(&self, map: &mut M, _: bool) -> Result<(), M::Error> {
        map.serialize_entry("key_version", &self.key_version)?;
        map.serialize_entry("type", self.kind)?;
        map.serialize_entry("is_current", &self.is_current)?;
        map.serialize_entry("is_readable", &self.is_readable)
    }
}

impl Transit {
    /// `POST encrypt/:name`; makes the key when there is none.
    pub(super) async fn encrypt(
        &self,
        permit: &Permit<'_>,
        input: EncryptInput,
    ) -> Result<Reply<Answer<Encrypted>>, ApiError> {
        let EncryptInput { name, items, new } = input;
        let key = match self.keys.get(permit.storage(), &name).await? {
            Some(key) => key,
            // It went after the caller's right to use it was looked at.
            None if !permit.creates() => {
                return Err(ApiError::bad_request("encryption key not found"));
            }
            None => {
                let has_context =
                    items.wishes().next().is_some_and(|plain| plain.beside.has_context());
                self.upsert(permit, &name, new.with_context(has_context)).await?
            }
        };
        key.check_usable()?;
        check_encrypts(key.kind)?;
        self.reserve(permit, &key, items.wishes().map(|plain| plain.key_version)).await?;
        let now = permit.now();
        let is_slow = key.kind.is_rsa();
        let done = items.map_aside(is_slow, move |plain| {
            let version = version_to_make(&key, plain.key_version)?;
            let sealed = plain
                .plaintext
                .expose(|plaintext| seal(&key, version, &plain.beside, plaintext))?;
            version.uses.count_encryptions(1, now);
            Ok(Encrypted {
                ciphertext: ciphertext::format(version.number, &sealed),
                key_version: version.number,
                changed: None,
            })
        });
        done.await?.answer(Failures::Tell)
    }

    /// `POST decrypt/:name`.
    pub(super) async fn decrypt(
        &self,
        permit: &Permit<'_>,
        input: DecryptInput,
    ) -> Result<Reply<Answer<Decrypted>>, ApiError> {
        let key = match self.key_to_read(permit, &input.name).await {
            Ok(key) => key,
            Err(error) => {
                input.items.wishes().for_each(open_in_vain);
                return Err(error);
            }
        };
        let now = permit.now();
        let is_slow = key.kind.is_rsa();
        let done = input.items.map_aside(is_slow, move |locked| {
            let (_, plaintext) = open(&key, &locked, now)?;
            Ok(Decrypted(Base64::of(plaintext)))
        });
        done.await?.answer(Failures::Tell)
    }

    /// `POST rewrap/:name`: the same plaintext, context and associated data under another version.
    pub(super) async fn rewrap(
        &self,
        permit: &Permit<'_>,
        input: DecryptInput,
    ) -> Result<Reply<Answer<Encrypted>>, ApiError> {
        let key = self.key_to_read(permit, &input.name).await?;
        self.reserve(permit, &key, input.items.wishes().map(|locked| locked.key_version)).await?;
        let now = permit.now();
        let is_slow = key.kind.is_rsa();
        let done = input.items.map_aside(is_slow, move |locked| {
            let (before, plaintext) = open(&key, &locked, now)?;
            let version = version_to_make(&key, locked.key_version)?;
            let sealed =
                plaintext.expose(|plaintext| seal(&key, version, &locked.beside, plaintext))?;
            version.uses.count_encryptions(1, now);
            Ok(Encrypted {
                ciphertext: ciphertext::format(version.number, &sealed),
                key_version: version.number,
                changed: Some(version.number != before),
            })
        });
        // The peers answer 200 here, whatever became of the items.
        done.await?.answer(Failures::InItems)
    }

    /// `POST datakey/plaintext|wrapped/:name`: a new random key, and itself encrypted.
    pub(super) async fn datakey(
        &self,
        permit: &Permit<'_>,
        input: DatakeyInput,
    ) -> Result<Reply<Datakey>, ApiError> {
        let key = self.key_to_read(permit, &input.name).await?;
        self.reserve(permit, &key, std::iter::once(input.key_version)).await?;
        let refused = |text: String| ApiError::bad_request(text);
        let version = version_to_make(&key, input.key_version).map_err(refused)?;
        let plaintext = SecretBytes::build(input.bytes, random::fill);
        let sealed = plaintext
            .expose(|plaintext| seal(&key, version, &input.beside, plaintext))
            .map_err(refused)?;
        version.uses.count_encryptions(1, permit.now());
        Ok(Reply::of(Datakey {
            ciphertext: ciphertext::format(version.number, &sealed),
            key_version: version.number,
            plaintext: input.shows_plaintext.then(|| Base64::of(plaintext)),
        }))
    }

    /// `POST describe/:name`: what a ciphertext says of itself, without opening it.
    ///
    /// Differs from Vault: it is Kista's own.
    pub(super) async fn describe(
        &self,
        permit: &Permit<'_>,
        input: DecryptInput,
    ) -> Result<Reply<Answer<Described>>, ApiError> {
        let key = self.key_to_read(permit, &input.name).await?;
        let describe = |locked: Locked| {
            let parts = parse(&locked.ciphertext)?;
            let number = u32::try_from(parts.version)
                .ok()
                .filter(|number| *number <= key.settings.latest)
                .ok_or("invalid ciphertext: version is too new")?;
            Ok(Described {
                key_version: number,
                kind: key.kind.word(),
                is_current: number == key.settings.latest,
                is_readable: key.version_to_read(parts.version).is_ok(),
            })
        };
        input.items.map(describe).answer(Failures::InItems)
    }

    /// The key of a request that makes none.
    async fn key_to_read(&self, permit: &Permit<'_>, name: &str) -> Result<Arc<Key>, ApiError> {
        let key = self.keys.get(permit.storage(), name).await?;
        let key = key.ok_or_else(|| ApiError::bad_request("encryption key not found"))?;
        key.check_usable()?;
        check_encrypts(key.kind)?;
        Ok(key)
    }

    /// Makes sure of nonces for as many messages as versions are asked for; a key that has made
    /// half of those that its cipher bears gets a new version.
    async fn reserve(
        &self,
        permit: &Permit<'_>,
        key: &Arc<Key>,
        asked: impl Iterator<Item = i64>,
    ) -> Result<(), ApiError> {
        if !key.kind.has_short_nonces() {
            return Ok(());
        }
        let mut wanted: Vec<(&Arc<Version>, u32)> = Vec::new();
        for version in asked.filter_map(|asked| key.version_to_make(asked).ok()) {
            match wanted.iter_mut().find(|(known, _)| known.number == version.number) {
                Some((_, messages)) => *messages += 1,
                None => wanted.push((version, 1)),
            }
        }
        for (version, messages) in wanted {
            if self.keys.reserve(permit.storage(), key, version, messages).await? {
                self.rotate_worn(permit.storage(), key, permit.now()).await?;
            }
        }
        Ok(())
    }
}

fn check_encrypts(kind: Kind) -> Result<(), ApiError> {
    match kind.encrypts() {
        true => Ok(()),
        false => Err(ApiError::bad_request(format!(
            "message encryption not supported for key type {}",
            kind.word()
        ))),
    }
}

fn version_to_make(key: &Key, asked: i64) -> Result<&Arc<Version>, String> {
    key.version_to_make(asked).map_err(|error| error.of_encryption().to_owned())
}

fn seal(
    key: &Key,
    version: &Version,
    beside: &Beside,
    plaintext: &[u8],
) -> Result<Vec<u8>, String> {
    if key.kind.is_rsa() {
        refuse_beside_rsa(beside)?;
        return key.encrypt_rsa(version, plaintext);
    }
    let mut made = None;
    let locker = beside
        .context(|context| key.locker(version, context, &mut made).map_err(|error| error.text()))?;
    let sealed = beside.aad.expose(|aad| locker.seal(version.number, aad, plaintext));
    sealed.ok_or_else(|| "the plaintext cannot be encrypted".to_owned())
}

/// Opens an item under the version that it names, which is told too.
fn open(key: &Key, locked: &Locked, now: Timestamp) -> Result<(u32, SecretBytes), String> {
    let parts = parse(&locked.ciphertext)?;
    let version =
        key.version_to_read(parts.version).map_err(|error| error.of_reading("ciphertext"))?;
    let sealed = encoding::decode(parts.encoded)
        .map_err(|_| "invalid ciphertext: could not decode base64".to_owned())?;
    let opened = sealed.expose(|sealed| {
        if key.kind.is_rsa() {
            refuse_beside_rsa(&locked.beside)?;
            return key.decrypt_rsa(version, sealed);
        }
        let mut made = None;
        let locker = locked.beside.context(|context| {
            key.locker(version, context, &mut made).map_err(|error| error.text())
        })?;
        let opened = locked.beside.aad.expose(|aad| locker.open(version.number, aad, sealed));
        opened.map_err(|error: NotOpened| error.text().to_owned())
    })?;
    version.uses.count_decryptions(1, now);
    Ok((version.number, opened))
}

/// As much work as [`open`] does under a key of the usual type: the time of an answer does not tell
/// whether there is a key.
fn open_in_vain(locked: &Locked) {
    let Ok(parts) = parse(&locked.ciphertext) else { return };
    let Ok(sealed) = encoding::decode(parts.encoded) else { return };
    let opened = Locker::new(Kind::Aes256Gcm, &[0; 32]).map(|locker| {
        sealed.expose(|sealed| locked.beside.aad.expose(|aad| locker.open(1, aad, sealed)))
    });
    drop(std::hint::black_box(opened));
}

/// OAEP binds no data here; to ignore it would promise what is not kept.
fn refuse_beside_rsa(beside: &Beside) -> Result<(), String> {
    match beside.aad.is_empty() {
        true => Ok(()),
        false => Err("associated_data is not supported for RSA keys".to_owned()),
    }
}

fn parse(text: &str) -> Result<ciphertext::Parts<'_>, String> {
    ciphertext::parse(text).map_err(|error| format!("invalid ciphertext: {}", error.word()))
}
