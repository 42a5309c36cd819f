use std::path::{Path, PathBuf};

use clap::Args;
use kista::{
    client::{COMMITTING, Error, Import as ImportPlan, ImportError, KeyMaterial, NewKey},
    secret::SecretBytes,
};
use serde::Serialize;

use super::{MountArguments, TransitMount};
use crate::{
    failure::{Exit, Failure},
    files,
    output::{self, Output},
    prompt,
};

/// Make a key.
///
/// Its type is aes256-gcm-committing unless --type says otherwise: it encrypts any number of values,
/// and each ciphertext opens under this key alone. The types that Vault has, where its ciphertexts
/// matter: aes128-gcm96, aes256-gcm96, chacha20-poly1305, xchacha20-poly1305. Equal ciphertexts for
/// equal values: aes256-siv. For signatures: ed25519, ecdsa-p256, ecdsa-p384, ecdsa-p521, rsa-2048,
/// rsa-3072, rsa-4096; for HMACs: hmac.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista key create pii\n  \
                         kista key create orders --type aes256-gcm96 --auto-rotate 2160h\n  \
                         kista key create tenants --derived")]
pub(crate) struct Create {
    /// Its name
    name: String,
    /// What it is
    #[arg(long = "type", value_name = "TYPE", default_value = COMMITTING)]
    kind: String,
    /// Each context has a key of its own; encryption and decryption need a --context then
    #[arg(long)]
    derived: bool,
    /// Equal values of one context give equal ciphertexts, which shows that they are equal
    #[arg(long, requires = "derived")]
    convergent: bool,
    /// It may be taken out of the vault; this cannot be taken back
    #[arg(long)]
    exportable: bool,
    /// It may be backed up as it is; this cannot be taken back
    #[arg(long)]
    allow_plaintext_backup: bool,
    /// A new version comes by itself after this time, such as 720h
    #[arg(long, value_name = "DURATION")]
    auto_rotate: Option<String>,
    /// Bytes of a key of type hmac, 32 to 512
    #[arg(long, value_name = "BYTES")]
    key_size: Option<u32>,
    #[command(flatten)]
    mount: MountArguments,
}

/// Bring a key that was made elsewhere, from a file or from stdin (-).
///
/// A symmetric key is its bytes, or with --base64 their base64; an asymmetric one is PKCS#8, in PEM
/// or DER, or a public key in PEM. It is wrapped here for the server alone. What was encrypted with
/// it elsewhere decrypts then.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista key import orders orders.key --type aes256-gcm96\n  \
                         kista key import signer key.pem --type ed25519 --allow-rotation\n  \
                         kista key import orders next.key --new-version")]
pub(crate) struct Import {
    /// Its name
    name: String,
    /// What holds it; - is stdin
    file: PathBuf,
    /// What it is
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "new_version")]
    kind: Option<String>,
    /// The file holds base64
    #[arg(long)]
    base64: bool,
    /// It is the next version of a key that was imported before
    #[arg(long, conflicts_with_all = ["kind", "allow_rotation", "derived", "exportable", "allow_plaintext_backup"])]
    new_version: bool,
    /// The server may make further versions
    #[arg(long)]
    allow_rotation: bool,
    /// Each context has a key of its own
    #[arg(long)]
    derived: bool,
    /// It may be taken out of the vault; this cannot be taken back
    #[arg(long)]
    exportable: bool,
    /// It may be backed up as it is; this cannot be taken back
    #[arg(long)]
    allow_plaintext_backup: bool,
    #[command(flatten)]
    mount: MountArguments,
}

/// What was made, as `--json` tells it.
#[derive(Serialize)]
struct Made<'a> {
    mount: &'a str,
    name: &'a str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
}

impl Create {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mount = self.mount.find()?;
        let Self { name, kind, .. } = &self;
        self.must_be_new(&mount).await?;
        let new = NewKey {
            kind: kind.clone(),
            derived: self.derived,
            convergent_encryption: self.convergent,
            exportable: self.exportable,
            allow_plaintext_backup: self.allow_plaintext_backup,
            auto_rotate_period: self.auto_rotate.clone(),
            key_size: self.key_size,
        };
        if let Err(error) = mount.keys().create(name, &new).await {
            return Err(mount.explain(&format!("make the key {name}"), error).await);
        }
        let output = Output::new(self.mount.server.json);
        if output.wants_json() {
            output.serialized(&Made { mount: mount.path(), name, kind: Some(kind) })?;
        } else {
            output::note(&format!("{name}: made, {kind}"));
        }
        Ok(Exit::Done)
    }

    /// The server keeps a key that is there as it is and answers as if it were the new one.
    async fn must_be_new(&self, mount: &TransitMount) -> Result<(), Failure> {
        let name = &self.name;
        match mount.keys().read(name).await {
            Ok(key) => Err(Failure::new(format!("there is a key {name} already, {}", key.kind))
                .hint(format!(
                    "what it may do: kista key config {name}; a new version: kista key \
                             rotate {name}"
                ))
                .exit(Exit::Conflict)),
            // Who may only make keys may go on.
            Err(Error::NotFound | Error::Denied { .. }) => Ok(()),
            Err(error) => Err(mount.explain(&format!("make the key {name}"), error).await),
        }
    }
}

impl Import {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let mount = self.mount.find()?;
        let name = &self.name;
        let content = self.content()?;
        let is_pem = content.expose(|bytes| bytes.trim_ascii_start().starts_with(b"-----BEGIN "));
        let material =
            if is_pem { KeyMaterial::Pem(&content) } else { KeyMaterial::Secret(&content) };
        let imported = match &self.kind {
            None => mount.keys().import_version(name, material).await,
            Some(kind) => {
                let plan = ImportPlan {
                    kind: kind.clone(),
                    allow_rotation: self.allow_rotation,
                    derived: self.derived,
                    exportable: self.exportable,
                    allow_plaintext_backup: self.allow_plaintext_backup,
                };
                mount.keys().import(name, &plan, material).await
            }
        };
        if let Err(error) = imported {
            return Err(self.explain(&mount, error).await);
        }
        let output = Output::new(self.mount.server.json);
        if output.wants_json() {
            output.serialized(&Made { mount: mount.path(), name, kind: self.kind.as_deref() })?;
        } else if self.new_version {
            output::note(&format!("{name}: imported as its next version"));
        } else {
            output::note(&format!("{name}: imported"));
        }
        Ok(Exit::Done)
    }

    fn content(&self) -> Result<SecretBytes, Failure> {
        let content = if self.file == Path::new("-") {
            prompt::stdin_whole()?
        } else {
            files::read(&self.file)?
        };
        if self.base64 {
            return content
                .expose(kista::client::from_base64)
                .ok_or_else(|| Failure::usage(format!("{} is not base64", self.file.display())));
        }
        Ok(content)
    }

    async fn explain(&self, mount: &TransitMount, error: ImportError) -> Failure {
        let doing = format!("import the key {}", self.name);
        match error {
            ImportError::Call(error) => {
                let failure = mount.explain(&doing, error).await;
                if failure.hint.is_some() || self.base64 {
                    return failure;
                }
                failure.hint(
                    "a symmetric key is given as its bytes; if the file holds them in base64, add \
                     --base64",
                )
            }
            ImportError::NoPem => Failure::usage(format!("cannot {doing}: {error}"))
                .hint("openssl pkcs8 -topk8 -nodes -in KEY.pem makes PKCS#8 of other forms"),
            error @ (ImportError::Unwrappable | _) => {
                Failure::new(format!("cannot {doing}: {error}"))
            }
        }
    }
}
