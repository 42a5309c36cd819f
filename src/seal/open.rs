use crate::{
    barrier::Keyring,
    crypto::{Kek, OutOfBounds, kdf},
    secret::{Key, SecretBytes, SecretString},
};

use super::{
    copies::Loaded,
    file::SealFile,
    provider::{Provider, Providers},
    rewrite::OpenRoot,
    root::Root,
    slot::{Params, Slot},
};

/// What somebody shows to open the store.
#[derive(Debug)]
pub enum Secret {
    /// The secret that enough shares combine to.
    Shares(SecretBytes),
    /// A passphrase; it is stretched with Argon2id, which takes about half a second.
    Passphrase(SecretString),
    /// The bytes of a keyfile.
    Keyfile(Key<Kek>),
    /// Whatever the machine gives.
    Automatic(Providers),
}

/// What an opened seal file gives.
#[derive(Debug)]
pub struct Opened {
    /// The keys of the store.
    pub keyring: Keyring,
    /// The file's epoch, now proven: the barrier compares it with the head's lowest.
    pub epoch: u64,
    /// What changes the file.
    pub root: OpenRoot,
}

/// Why a secret does not open the seal file. Every variant a caller can provoke has one text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No slot opens with this secret.
    #[error("unseal failed")]
    Failed,
    /// This machine cannot stretch any passphrase as the slot asks, right or wrong.
    #[error("cannot stretch the passphrase")]
    Stretch(#[source] OutOfBounds),
    /// A slot opens, but the file around it is not the one that its root key sealed: somebody put
    /// a slot of another time or store into it, or changed it and its checksum.
    #[error("unseal failed")]
    Forged(#[source] Forged),
    /// The keyring is authentic and yet not readable: a newer version wrote it.
    #[error("unseal failed")]
    Keyring(#[source] crate::barrier::KeyringError),
}

/// The cause behind [`OpenError::Forged`], for the log.
#[derive(Debug, thiserror::Error)]
#[error(
    "a slot of the seal file opens, but the file is not the one sealed with it; restore both copies from a backup"
)]
pub struct Forged;

impl Loaded {
    /// Opens the keyring with a secret. Blocks for the time of Argon2id, once for each passphrase
    /// slot, when the secret is a passphrase.
    ///
    /// # Errors
    /// [`OpenError`], whose text never says what was wrong with the secret.
    pub fn open(self, secret: &Secret) -> Result<Opened, OpenError> {
        let root = self.file.root_of(secret)?;
        let keyring = self.file.keyring(&root)?;
        let epoch = self.file.epoch();
        let root = OpenRoot::new(self.disk, self.dir, self.file, root);
        Ok(Opened { keyring, epoch, root })
    }
}

impl SealFile {
    /// The root key that a secret leads to.
    pub(super) fn root_of(&self, secret: &Secret) -> Result<Root, OpenError> {
        for slot in self.slots_in_order() {
            let Some(kek) = slot.kek(secret).map_err(OpenError::Stretch)? else { continue };
            if let Some(root) = slot.unwrap(&self.store_id(), &kek) {
                return Ok(root);
            }
        }
        Err(OpenError::Failed)
    }

    /// The order is FORMAT.md's: nothing of the file is believed before its MAC holds.
    pub(super) fn keyring(&self, root: &Root) -> Result<Keyring, OpenError> {
        if !self.is_sealed_by(root) {
            return Err(OpenError::Forged(Forged));
        }
        let plaintext = self.keyring_plaintext(root).ok_or(OpenError::Forged(Forged))?;
        Keyring::decode(&self.store_id(), &plaintext).map_err(OpenError::Keyring)
    }
}

impl Slot {
    /// The key of this slot that `secret` leads to; `None` when it is a secret for other slots.
    pub(super) fn kek(&self, secret: &Secret) -> Result<Option<Key<Kek>>, OutOfBounds> {
        Ok(match (&self.params, secret) {
            (Params::Passphrase { argon2, salt }, Secret::Passphrase(passphrase)) => {
                Some(kdf::argon2id(passphrase, salt, *argon2)?)
            }
            (Params::Shares { .. }, Secret::Shares(secret)) => secret.expose(Key::copy_of).ok(),
            (Params::Keyfile { .. }, Secret::Keyfile(key)) => key.expose(Key::copy_of).ok(),
            (Params::Automatic { provider }, Secret::Automatic(providers)) => {
                automatic(providers, provider)
            }
            (
                Params::Passphrase { .. }
                | Params::Shares { .. }
                | Params::Keyfile { .. }
                | Params::Automatic { .. },
                _,
            ) => None,
        })
    }
}

fn automatic(providers: &Providers, provider: &Provider) -> Option<Key<Kek>> {
    match providers.key(provider) {
        Ok(key) => Some(key),
        Err(error) => {
            tracing::warn!(%error, "an automatic slot gives no key");
            None
        }
    }
}
