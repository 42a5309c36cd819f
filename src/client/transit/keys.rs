use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};

use super::{Transit, wire::Body};
use crate::{
    client::{Capability, Error, Fields, transport::Call},
    clock::Timestamp,
    secret::SecretBytes,
};

/// The keys of one transit mount.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    pub(super) transit: Transit<'a>,
}

/// The type of key that commits to what it encrypts, and may encrypt any number of messages.
/// Kista's own.
pub const COMMITTING: &str = "aes256-gcm-committing";

/// A key to be made; `POST keys/:name`.
#[derive(Debug, Clone, Serialize)]
pub struct NewKey {
    /// Its type, such as [`COMMITTING`] or `ed25519`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether each context has a key of its own, which is derived from it.
    pub derived: bool,
    /// Whether a plaintext gives the same ciphertext each time; needs `derived`.
    pub convergent_encryption: bool,
    /// Whether its versions may be exported.
    pub exportable: bool,
    /// Whether it may be backed up as it is.
    pub allow_plaintext_backup: bool,
    /// A new version comes by itself after this time, such as `720h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_rotate_period: Option<String>,
    /// Bytes of a key of type `hmac`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_size: Option<u32>,
}

/// What is known of a key; `data` of `GET keys/:name`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether each context has a key of its own.
    pub derived: bool,
    /// Whether a plaintext gives the same ciphertext each time.
    #[serde(default)]
    pub convergent_encryption: bool,
    /// Whether its versions may be exported.
    pub exportable: bool,
    /// Whether it may be backed up as it is.
    pub allow_plaintext_backup: bool,
    /// Whether it may be deleted.
    pub deletion_allowed: bool,
    /// The newest version, which encrypts unless `min_encryption_version` says otherwise.
    pub latest_version: u64,
    /// Versions below are gone for good.
    #[serde(default)]
    pub min_available_version: u64,
    /// Versions below do not decrypt.
    pub min_decryption_version: u64,
    /// Versions below do not encrypt; 0: only the newest does.
    pub min_encryption_version: u64,
    /// Seconds after which a new version comes by itself; 0: never.
    #[serde(default)]
    pub auto_rotate_period: u64,
    /// Whether it was made elsewhere.
    #[serde(default)]
    pub imported_key: bool,
    /// Whether it is deleted, and can be brought back.
    #[serde(default)]
    pub soft_deleted: bool,
    /// What it can do.
    #[serde(default)]
    pub supports_encryption: bool,
    /// What it can do.
    #[serde(default)]
    pub supports_decryption: bool,
    /// What it can do.
    #[serde(default)]
    pub supports_signing: bool,
    /// What it can do.
    #[serde(default)]
    pub supports_derivation: bool,
    /// The versions that decrypt, by number.
    #[serde(default)]
    pub keys: BTreeMap<u64, KeyVersion>,
}

/// What is known of one version of a key.
#[derive(Debug, Clone, Serialize)]
pub struct KeyVersion {
    /// When it was made; RFC 3339.
    pub created: String,
    /// Of asymmetric keys, as PEM; of Ed25519 as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// What `POST keys/:name/config` changes; the rest stays.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KeyChanges {
    /// Versions below do not decrypt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_decryption_version: Option<u64>,
    /// Versions below do not encrypt; 0: only the newest does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_encryption_version: Option<u64>,
    /// Whether it may be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_allowed: Option<bool>,
    /// From now on its versions may be exported. It cannot be taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exportable: Option<bool>,
    /// From now on it may be backed up as it is. It cannot be taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_plaintext_backup: Option<bool>,
    /// A new version comes by itself after this time, such as `720h`; `0`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_rotate_period: Option<String>,
}

/// How much the versions of a key are used; `GET keys/:name/usage`, Kista's own.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Usage {
    /// By number.
    pub versions: BTreeMap<u64, VersionUsage>,
    /// The newest version.
    pub latest_version: u64,
}

/// How much one version of a key is used. After a crash a count may be too low.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct VersionUsage {
    /// Messages that it has encrypted, signed or wrapped.
    pub encryptions: u64,
    /// Messages that it has decrypted.
    pub decryptions: u64,
    /// RFC 3339; `None` where it was never used.
    pub last_used: Option<String>,
}

/// What a ciphertext is under; `POST describe/:name`, Kista's own.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Described {
    /// The version of the key.
    pub key_version: u64,
    /// The type of the key.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether that version is the one that encrypts now.
    pub is_current: bool,
}

impl Default for NewKey {
    /// A committing key that stays where it is.
    fn default() -> Self {
        Self {
            kind: COMMITTING.to_owned(),
            derived: false,
            convergent_encryption: false,
            exportable: false,
            allow_plaintext_backup: false,
            auto_rotate_period: None,
            key_size: None,
        }
    }
}

impl<'a> Keys<'a> {
    pub(super) fn new(transit: Transit<'a>) -> Self {
        Self { transit }
    }

    /// The names of the keys, in order; none where there are none.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn list(&self) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Names {
            keys: Vec<String>,
        }
        let call = Call::list(format!("{}/keys", self.transit.mount))?;
        match self.transit.client.send(&call).await {
            Ok(answer) => Ok(answer.data::<Names>()?.keys),
            Err(Error::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Makes a key. Where there is one of this name it stays as it is.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 for what cannot be, and what any call may answer.
    pub async fn create(&self, name: &str, new: &NewKey) -> Result<(), Error> {
        self.write(self.place(name, ""), Capability::Write, body(new)?).await
    }

    /// What is known of a key.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, and what any call may answer.
    pub async fn read(&self, name: &str) -> Result<Key, Error> {
        let call = Call::read(self.place(name, ""), "")?;
        self.transit.client.send(&call).await?.data()
    }

    /// Makes a new version, which encrypts from now on.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn rotate(&self, name: &str) -> Result<(), Error> {
        let body = Fields::new().to_json();
        self.write(self.place(name, "/rotate"), Capability::Write, body).await
    }

    /// Changes what a key may do.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 for what cannot be, and what any call may answer.
    pub async fn configure(&self, name: &str, changes: &KeyChanges) -> Result<(), Error> {
        self.write(self.place(name, "/config"), Capability::Update, body(changes)?).await
    }

    /// How much each version is used.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such key, or the server does not count, and what any
    /// call may answer.
    pub async fn usage(&self, name: &str) -> Result<Usage, Error> {
        let call = Call::read(self.place(name, "/usage"), "")?;
        self.transit.client.send(&call).await?.data()
    }

    /// Destroys the versions below `version`. Neither decryption nor encryption may need them.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when one does, and what any call may answer.
    pub async fn trim(&self, name: &str, version: u64) -> Result<(), Error> {
        let mut body = Body::object(0);
        body.number("min_available_version", version);
        self.write(self.place(name, "/trim"), Capability::Update, body.finish()).await
    }

    /// Deletes a key with all versions, if its configuration allows that. Nothing that was
    /// encrypted with it decrypts again.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when it is not allowed, and what any call may answer.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        self.transit.client.send(&Call::delete(self.place(name, ""))?).await?;
        Ok(())
    }

    /// What a ciphertext is under. Nothing is decrypted.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when it is none of this key's, and what any call may
    /// answer.
    pub async fn describe(&self, name: &str, ciphertext: &str) -> Result<Described, Error> {
        let mut body = Body::object(ciphertext.len());
        body.text("ciphertext", ciphertext);
        let call = Call::ask(self.transit.place("describe", name), body.finish())?;
        self.transit.client.send(&call).await?.data()
    }

    pub(super) fn place(&self, name: &str, part: &str) -> String {
        format!("{}{part}", self.transit.place("keys", name))
    }

    pub(super) async fn write(
        &self,
        path: String,
        needed: Capability,
        body: SecretBytes,
    ) -> Result<(), Error> {
        self.transit.client.send(&Call::write(path, needed, body)?).await?;
        Ok(())
    }
}

impl<'de> Deserialize<'de> for KeyVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Seconds(u64),
            Asymmetric { creation_time: String, public_key: String },
        }
        Ok(match Wire::deserialize(deserializer)? {
            Wire::Seconds(seconds) => {
                let created = Timestamp::default().plus(Duration::from_secs(seconds)).rfc3339();
                Self { created, public_key: None }
            }
            Wire::Asymmetric { creation_time, public_key } => Self {
                created: creation_time,
                public_key: Some(public_key).filter(|key| !key.is_empty()),
            },
        })
    }
}

/// What is no secret, as a body.
pub(super) fn body(value: &impl Serialize) -> Result<SecretBytes, Error> {
    let json = serde_json::to_vec(value).map_err(|_| Error::Unexpected("no JSON"))?;
    Ok(SecretBytes::from_vec(json))
}
