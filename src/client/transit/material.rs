use std::collections::BTreeMap;

use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use super::{
    keys::{Keys, body},
    wrapping,
};
use crate::{
    client::{Capability, Error, Fields, JsonValue, transport::Call},
    secret::{SecretBytes, SecretString},
};

/// What becomes of a key that is brought to the server; `POST keys/:name/import`.
#[derive(Debug, Clone, Serialize)]
pub struct Import {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether the server may make further versions.
    pub allow_rotation: bool,
    /// Whether each context has a key of its own, which is derived from it.
    pub derived: bool,
    /// Whether its versions may be exported.
    pub exportable: bool,
    /// Whether it may be backed up as it is.
    pub allow_plaintext_backup: bool,
}

/// The key itself.
#[derive(Debug, Clone, Copy)]
pub enum KeyMaterial<'a> {
    /// The bytes of a symmetric key, or an asymmetric one as PKCS#8 in DER. It is wrapped here, for
    /// the server alone.
    Secret(&'a SecretBytes),
    /// PEM of an asymmetric key as PKCS#8, or of a public key, which verifies or encrypts only.
    Pem(&'a SecretBytes),
}

/// Why a key was not brought to the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] Error),
    /// It is not PEM of what can be imported.
    #[error("it holds neither PRIVATE KEY (PKCS#8) nor PUBLIC KEY in PEM")]
    NoPem,
    /// The server's wrapping key cannot be used, or the key is empty.
    #[error("the key cannot be wrapped: it is empty, or the server's wrapping key is no RSA key")]
    Unwrappable,
}

/// What is taken out of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportKind {
    /// What encrypts and decrypts.
    Encryption,
    /// What signs.
    Signing,
    /// What makes HMACs.
    Hmac,
    /// What verifies; needs no permission of the key's.
    Public,
}

/// Versions of a key, taken out; `data` of `GET export/:type/:name`.
#[derive(Debug)]
pub struct Exported {
    /// The key's name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// By number: base64, or PEM of asymmetric keys.
    pub versions: BTreeMap<u64, SecretString>,
}

impl ExportKind {
    fn word(self) -> &'static str {
        match self {
            Self::Encryption => "encryption-key",
            Self::Signing => "signing-key",
            Self::Hmac => "hmac-key",
            Self::Public => "public-key",
        }
    }
}

impl Keys<'_> {
    /// The RSA key that keys are wrapped with on their way to the server, in PEM.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn wrapping_key(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Shown {
            public_key: String,
        }
        let call = Call::read(format!("{}/wrapping_key", self.transit.mount), "")?;
        Ok(self.transit.client.send(&call).await?.data::<Shown>()?.public_key)
    }

    /// Brings a key to the server, wrapped so that it alone can read it.
    ///
    /// # Errors
    /// [`ImportError::Call`] with status 400 when there is a key of this name or the server refuses
    /// this one, and what any call may answer.
    pub async fn import(
        &self,
        name: &str,
        import: &Import,
        material: KeyMaterial<'_>,
    ) -> Result<(), ImportError> {
        let mut fields: Fields =
            body(import)?.expose(|json| serde_json::from_slice(json)).unwrap_or_default();
        let (member, value) = self.carried(material).await?;
        fields.set(member, value);
        let path = self.place(name, "/import");
        Ok(self.write(path, Capability::Write, fields.to_json()).await?)
    }

    /// Brings another version of a key to the server, as [`Self::import`].
    ///
    /// # Errors
    /// As [`Self::import`].
    pub async fn import_version(
        &self,
        name: &str,
        material: KeyMaterial<'_>,
    ) -> Result<(), ImportError> {
        let mut fields = Fields::new();
        let (member, value) = self.carried(material).await?;
        fields.set(member, value);
        let path = self.place(name, "/import_version");
        Ok(self.write(path, Capability::Update, fields.to_json()).await?)
    }

    /// Takes versions out of a key: one, or all where none is named.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when the key does not allow it, and what any call may
    /// answer.
    pub async fn export(
        &self,
        name: &str,
        kind: ExportKind,
        version: Option<u64>,
    ) -> Result<Exported, Error> {
        #[derive(Deserialize)]
        struct Answered {
            name: String,
            #[serde(rename = "type")]
            kind: String,
            keys: BTreeMap<u64, SecretString>,
        }
        let version = version.map(|version| format!("/{version}")).unwrap_or_default();
        let path = format!("{}/export/{}/{name}{version}", self.transit.mount, kind.word());
        let call = Call::read(path, "")?;
        let Answered { name, kind, keys } = self.transit.client.send(&call).await?.data()?;
        Ok(Exported { name, kind, versions: keys })
    }

    /// A copy of a key with all its versions, in the clear: whoever has it has the key.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when the key does not allow it, and what any call may
    /// answer.
    pub async fn backup(&self, name: &str) -> Result<SecretString, Error> {
        #[derive(Deserialize)]
        struct Copied {
            backup: SecretString,
        }
        let call = Call::read(self.transit.place("backup", name), "")?;
        Ok(self.transit.client.send(&call).await?.data::<Copied>()?.backup)
    }

    /// Makes a key from its copy, under its own name or another. With `force` it replaces one of
    /// that name.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when there is one, or the copy is not whole, and what any
    /// call may answer.
    pub async fn restore(
        &self,
        name: Option<&str>,
        backup: &SecretString,
        force: bool,
    ) -> Result<(), Error> {
        let mut fields = Fields::new();
        fields.set("backup", JsonValue::string(backup));
        fields.set("force", JsonValue::string(&SecretString::copy_of(&force.to_string())));
        let path = match name {
            Some(name) => self.transit.place("restore", name),
            None => format!("{}/restore", self.transit.mount),
        };
        self.write(path, Capability::Write, fields.to_json()).await
    }

    /// The member of a body that carries a key, and what it holds.
    async fn carried(
        &self,
        material: KeyMaterial<'_>,
    ) -> Result<(&'static str, JsonValue), ImportError> {
        let plain = match material {
            KeyMaterial::Secret(key) => return self.wrapped(key).await,
            KeyMaterial::Pem(pem) => pem,
        };
        if let Some(key) = plain.expose(private_key) {
            return self.wrapped(&key).await;
        }
        let public = plain.expose(|pem| {
            SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
            std::str::from_utf8(pem).ok().map(|pem| SecretString::copy_of(pem.trim_start()))
        });
        let public = public.ok_or(ImportError::NoPem)?;
        Ok(("public_key", JsonValue::string(&public)))
    }

    /// The same of a key that is wrapped for the server.
    async fn wrapped(&self, key: &SecretBytes) -> Result<(&'static str, JsonValue), ImportError> {
        let wrapping_key = self.wrapping_key().await?;
        let wrapped = wrapping::wrap(&wrapping_key, key).ok_or(ImportError::Unwrappable)?;
        let wrapped = SecretString::from_string(data_encoding::BASE64.encode(&wrapped));
        Ok(("ciphertext", JsonValue::string(&wrapped)))
    }
}

/// The PKCS#8 in PEM.
fn private_key(pem: &[u8]) -> Option<SecretBytes> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
    Some(SecretBytes::copy_of(key.secret_pkcs8_der()))
}
