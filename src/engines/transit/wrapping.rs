//! Keys that come from elsewhere: `wrapping_key`, `keys/:name/import` and `import_version`.
//!
//! ```text
//! ciphertext = RSA-OAEP(wrapping key, ephemeral AES-256 key) || AES-KWP(ephemeral key, target)
//! ```
//!
//! OAEP is RFC 8017 §7.1, KWP is RFC 5649. The target is the raw key of symmetric types and of
//! `hmac`, else PKCS#8.

use std::sync::Arc;

use serde::Serialize;

use super::{
    Transit, encoding,
    key::{Key, Unusable},
    keys::{self, Change},
    kind::Kind,
    manage::{self, HMAC_KEY_BYTES, check_name},
    material::{self, Asymmetric},
    record::{Derivation, Material, Places, Settings, VersionRecord, WrappingKey},
};
use crate::{
    barrier::{Batch, MountView},
    crypto::{
        Hash, keywrap, pem, random,
        rsa::{OaepHash, RsaKey},
    },
    gate::{ApiError, Permit},
    route::{Fields, FromFields, Nothing, Reply},
    secret::SecretBytes,
};

/// The hash of OAEP and of its mask that a word names.
pub(super) fn oaep_hash(word: &str) -> Result<OaepHash, ApiError> {
    let hash = match word.to_ascii_uppercase().as_str() {
        "" | "SHA256" => Hash::Sha2_256,
        "SHA1" => Hash::Sha1,
        "SHA224" => Hash::Sha2_224,
        "SHA384" => Hash::Sha2_384,
        "SHA512" => Hash::Sha2_512,
        _ => return Err(ApiError::bad_request(format!("unknown hash function: {word}"))),
    };
    OaepHash::of(hash).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// `data` of `wrapping_key`.
#[derive(Debug, Serialize)]
pub(super) struct PublicKey {
    public_key: String,
}

/// Key material that is given: wrapped, or the public half alone.
enum Given {
    Wrapped { ciphertext: SecretBytes, hash: OaepHash },
    Public(String),
}

impl Given {
    fn read(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let hash = oaep_hash(&fields.text("hash_function")?.unwrap_or_default())?;
        let ciphertext = fields.text("ciphertext")?.filter(|text| !text.is_empty());
        let public = fields.text("public_key")?.filter(|text| !text.is_empty());
        match (ciphertext, public) {
            (Some(_), Some(_)) => Err(ApiError::bad_request(
                "only one of the following fields, ciphertext and public_key, can be set",
            )),
            (Some(text), None) => {
                let ciphertext = encoding::decode(&text).map_err(ApiError::bad_request)?;
                Ok(Self::Wrapped { ciphertext, hash })
            }
            (None, public) => Ok(Self::Public(public.unwrap_or_default())),
        }
    }
}

/// `POST keys/:name/import`.
pub(super) struct ImportInput {
    name: String,
    kind: Kind,
    given: Given,
    settings: Settings,
}

impl FromFields for ImportInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let name = fields.parameter("name").to_owned();
        check_name(&name)?;
        let word = fields.text("type")?.filter(|word| !word.is_empty());
        let word = word.as_deref().unwrap_or("aes256-gcm96");
        let kind = Kind::of_word(word)
            .ok_or_else(|| ApiError::bad_request(format!("unknown key type: {word}")))?;
        let given = Given::read(fields)?;
        let derived = fields.boolean("derived")?.unwrap_or(false);
        if fields.boolean("convergent_encryption")?.unwrap_or(false) {
            return Err(ApiError::bad_request(
                "import cannot be used on keys with convergent encryption enabled",
            ));
        }
        if derived && !kind.derives() {
            return Err(ApiError::bad_request(format!(
                "key derivation and convergent encryption not supported for keys of type {word}"
            )));
        }
        if derived && matches!(given, Given::Public(_)) {
            return Err(ApiError::bad_request(
                "a derived key needs its private half: nothing can be derived from a public_key",
            ));
        }
        let allows_rotation = fields.boolean("allow_rotation")?.unwrap_or(false);
        let auto_rotate = manage::auto_rotate(fields)?.unwrap_or_default();
        if !auto_rotate.is_zero() && !allows_rotation {
            return Err(ApiError::bad_request(
                "allow_rotation must be set to true if auto-rotation is enabled",
            ));
        }
        let settings = Settings {
            derived,
            // As the peers have it, so that their ciphertexts open.
            kdf: if derived && kind.message().is_some() {
                Derivation::Counter
            } else {
                Derivation::Hkdf
            },
            exportable: fields.boolean("exportable")?.unwrap_or(false),
            allow_plaintext_backup: fields.boolean("allow_plaintext_backup")?.unwrap_or(false),
            imported: true,
            allows_rotation,
            auto_rotate,
            ..Settings::new(keys::new_id(), kind)
        };
        Ok(Self { name, kind, given, settings })
    }
}

/// `POST keys/:name/import_version`.
pub(super) struct ImportVersionInput {
    name: String,
    given: Given,
    /// A version whose public half is there already and whose private one is given now.
    version: Option<i64>,
}

impl FromFields for ImportVersionInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            name: fields.parameter("name").to_owned(),
            given: Given::read(fields)?,
            version: fields.integer("version")?,
        })
    }
}

impl Transit {
    /// `GET wrapping_key`.
    pub(super) async fn wrapping_key(
        &self,
        permit: &Permit<'_>,
        (): (),
    ) -> Result<Reply<PublicKey>, ApiError> {
        let pair = self.wrapping_pair(permit.storage()).await?;
        let public_key = pem::encode("PUBLIC KEY", &pair.public().to_spki());
        Ok(Reply::of(PublicKey { public_key }))
    }

    /// `POST keys/:name/import`.
    pub(super) async fn import(
        &self,
        permit: &Permit<'_>,
        input: ImportInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let view = permit.storage();
        let exists = || {
            ApiError::bad_request(
                "the import path cannot be used with an existing key; use import-version to \
                 rotate an existing imported key",
            )
        };
        if self.keys.get(view, &input.name).await?.is_some() {
            return Err(exists());
        }
        let record = self.unwrapped(permit, input.kind, input.given).await?;
        let mut settings = input.settings;
        if input.kind == Kind::Hmac {
            let length = record.private.expose(<[u8]>::len);
            settings.key_size = u32::try_from(length).map_err(ApiError::internal)?;
        }
        let versions = vec![(1, record)];
        let (_, is_new) = self.keys.create(view, &input.name, settings, versions).await?;
        if is_new { Ok(Reply::nothing()) } else { Err(exists()) }
    }

    /// `POST keys/:name/import_version`.
    pub(super) async fn import_version(
        &self,
        permit: &Permit<'_>,
        input: ImportVersionInput,
    ) -> Result<Reply<Nothing>, ApiError> {
        let view = permit.storage();
        let key = self.keys.get(view, &input.name).await?;
        let key = key.ok_or_else(|| {
            ApiError::bad_request(format!(
                "no key found with name {}; to import a new key, use the import/ endpoint",
                input.name
            ))
        })?;
        key.check_usable()?;
        if !key.settings.imported {
            return Err(ApiError::bad_request(
                "the import_version endpoint can only be used with an imported key",
            ));
        }
        let record = self.unwrapped(permit, key.kind, input.given).await?;
        if let Some(version) = input.version {
            return self.complete(view, &key, version, record).await;
        }
        let id = key.settings.id;
        let changed = self.keys.change(view, &input.name, |key| {
            check_same(key, id)?;
            let mut settings = key.settings.clone();
            settings.latest = settings.next()?;
            Ok(Change { settings, version: Some(record) })
        });
        changed.await?.ok_or_else(ApiError::not_found)?;
        Ok(Reply::nothing())
    }

    /// Puts the private half beside a public one.
    async fn complete(
        &self,
        view: &MountView,
        key: &Arc<Key>,
        number: i64,
        record: VersionRecord,
    ) -> Result<Reply<Nothing>, ApiError> {
        let number = u32::try_from(number).ok();
        let known = number.and_then(|number| key.versions.get(&number));
        let known = known
            .ok_or_else(|| ApiError::bad_request("version does not exist or cannot be found"))?;
        if record.private.is_empty() {
            return Err(ApiError::bad_request(
                "the version has its public key; give its private key, wrapped, as ciphertext",
            ));
        }
        if !known.record.private.is_empty() {
            return Err(ApiError::bad_request("private key imported, key cannot be updated"));
        }
        if known.record.public != record.public {
            return Err(ApiError::bad_request(
                "the private key is not that of the version's public key",
            ));
        }
        self.keys.complete(view, key, known.number, record).await?;
        Ok(Reply::nothing())
    }

    /// The record of a version that is given.
    async fn unwrapped(
        &self,
        permit: &Permit<'_>,
        kind: Kind,
        given: Given,
    ) -> Result<VersionRecord, ApiError> {
        let now = permit.now();
        match given {
            Given::Public(text) => {
                if !kind.has_public_half() {
                    return Err(ApiError::bad_request(
                        "provided type does not support public_key import",
                    ));
                }
                let public = material::public_of(kind, &text).map_err(importing)?;
                let (private, hmac) = (Material::empty(), Material::empty());
                Ok(VersionRecord { created: now, private, public, hmac })
            }
            Given::Wrapped { ciphertext, hash } => {
                let pair = self.wrapping_pair(permit.storage()).await?;
                // RSA takes its time.
                let work = move || ciphertext.expose(|blob| unwrap(&pair, hash, blob));
                let target =
                    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)??;
                let checked = target.expose(|target| material::imported(kind, target, now));
                checked.map_err(importing)
            }
        }
    }

    /// The pair of the mount, made when it is first asked for.
    async fn wrapping_pair(&self, view: &MountView) -> Result<Arc<RsaKey>, ApiError> {
        let mut known = self.keys.wrapping.lock().await;
        if let Some(pair) = &*known {
            return Ok(Arc::clone(pair));
        }
        let places = Places::in_space(view);
        let pair = match places.wrapping.get(&["pair"]).await? {
            Some(held) => held.value.private.expose(RsaKey::from_pkcs8),
            None => {
                let pair = material::search_primes(|| RsaKey::generate(WRAPPING_BITS)).await?;
                let pair = pair.map_err(ApiError::internal)?;
                let mut batch = Batch::default();
                let record = WrappingKey { private: Material::of(pair.to_pkcs8()) };
                places.wrapping.put(&mut batch, &["pair"], &record);
                places.view.commit(batch).await?;
                Ok(pair)
            }
        };
        let pair = Arc::new(pair.map_err(ApiError::internal)?);
        *known = Some(Arc::clone(&pair));
        Ok(pair)
    }
}

pub(super) fn check_same(key: &Key, id: [u8; 16]) -> Result<(), ApiError> {
    match key.settings.id == id {
        true => Ok(()),
        false => Err(ApiError::new(409, "the key was replaced meanwhile; try again")),
    }
}

fn importing(why: String) -> ApiError {
    ApiError::bad_request(format!("error importing key: {why}"))
}

/// Takes a wrapped key out. One text for whatever does not fit: the head must not be an oracle.
fn unwrap(pair: &RsaKey, hash: OaepHash, blob: &[u8]) -> Result<SecretBytes, ApiError> {
    let (head, body) = blob
        .split_at_checked(pair.bits() / 8)
        .filter(|(_, body)| !body.is_empty())
        .ok_or_else(|| ApiError::bad_request("provided ciphertext is too short"))?;
    let refused = || {
        ApiError::bad_request(
            "the wrapped key does not open: wrapped for another key, with another hash function, \
             or damaged",
        )
    };
    let ephemeral = pair.decrypt_oaep(hash, head).map_err(|_| refused())?;
    let target = ephemeral.expose(|kek| match kek.try_into() {
        Ok(kek) => keywrap::unwrap(kek, body).map_err(|_| refused()),
        Err(_) => Err(refused()),
    })?;
    Ok(target)
}

/// Wraps key material for the holder of an RSA key.
pub(super) fn wrap(
    destination: &Asymmetric,
    hash: OaepHash,
    target: &[u8],
) -> Result<Vec<u8>, ApiError> {
    let public = destination
        .rsa_public()
        .ok_or_else(|| ApiError::bad_request("only RSA keys can wrap others"))?;
    let ephemeral = zeroize::Zeroizing::new(random::array::<32>());
    let mut wrapped = public
        .encrypt_oaep(hash, &*ephemeral)
        .map_err(|_| ApiError::bad_request("the destination key cannot wrap with this hash"))?;
    wrapped.extend_from_slice(&keywrap::wrap(&ephemeral, target));
    Ok(wrapped)
}

/// What is wrapped of stored material: PKCS#8 of Ed25519, which is stored as seed and public key.
pub(super) fn target_of(kind: Kind, private: &[u8]) -> Result<SecretBytes, ApiError> {
    if kind != Kind::Ed25519 {
        return Ok(SecretBytes::copy_of(private));
    }
    let target = material::ed25519_pkcs8(private);
    target.ok_or_else(|| ApiError::bad_request(Unusable::Damaged.text()))
}

/// Bits of the pair that wraps, as the peers' clients expect.
const WRAPPING_BITS: usize = 4_096;

/// Whether raw bytes have the length of a kind's keys.
pub(super) fn fits(kind: Kind, length: usize) -> bool {
    if kind == Kind::Hmac {
        return u32::try_from(length).is_ok_and(|length| HMAC_KEY_BYTES.contains(&length));
    }
    kind.key_bytes() == Some(length)
}
