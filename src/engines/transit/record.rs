//! What is stored of a key: its settings, one record for each version, and how much a version has
//! been used.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize, de};

use super::kind::Kind;
use crate::{
    barrier::{Collection, MountView, Record},
    clock::Timestamp,
    gate::ApiError,
    secret::SecretBytes,
};

/// No key has more versions. Each one is a record, and a key that is read reads them all.
pub(super) const LAST_VERSION: u32 = 1 << 24;

/// A key, without its versions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Names the folder of its versions: a new key of an old name finds nothing of the old one's.
    pub(super) id: [u8; 16],
    pub(super) kind_code: u8,
    pub(super) derived: bool,
    pub(super) kdf: Derivation,
    pub(super) convergent: bool,
    pub(super) exportable: bool,
    pub(super) allow_plaintext_backup: bool,
    pub(super) deletion_allowed: bool,
    pub(super) soft_deleted: bool,
    pub(super) imported: bool,
    /// Whether an imported key may be rotated here.
    pub(super) allows_rotation: bool,
    /// Length in bytes of keys of type `hmac`, else 0.
    pub(super) key_size: u32,
    pub(super) latest: u32,
    pub(super) min_decryption: u32,
    /// 0: the latest.
    pub(super) min_encryption: u32,
    /// 0: nothing was trimmed.
    pub(super) min_available: u32,
    /// Zero: never.
    pub(super) auto_rotate: Duration,
    pub(super) backed_up: Option<Moment>,
    pub(super) restored: Option<Moment>,
}

/// How a context makes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Derivation {
    /// HKDF-SHA-256 without salt (RFC 5869).
    Hkdf,
    /// HMAC-SHA-256 in counter mode (SP 800-108r1 §4.1), as the peers have it for imported keys.
    Counter,
}

/// When a backup was taken or restored, and of which version.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Moment {
    pub(super) time: Timestamp,
    pub(super) version: u32,
}

impl Record for Settings {
    const VERSION: u8 = 1;
}

impl Settings {
    /// A key with one version and every switch off.
    pub(super) fn new(id: [u8; 16], kind: Kind) -> Self {
        Self {
            id,
            kind_code: kind.code(),
            derived: false,
            kdf: Derivation::Hkdf,
            convergent: false,
            exportable: false,
            allow_plaintext_backup: false,
            deletion_allowed: false,
            soft_deleted: false,
            imported: false,
            allows_rotation: false,
            key_size: 0,
            latest: 1,
            min_decryption: 1,
            min_encryption: 0,
            min_available: 0,
            auto_rotate: Duration::ZERO,
            backed_up: None,
            restored: None,
        }
    }

    /// None when a later version of Kista has written it.
    pub(super) fn kind(&self) -> Option<Kind> {
        Kind::of_code(self.kind_code)
    }

    /// The folder of its versions and of their uses.
    pub(super) fn folder(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.id)
    }

    /// The first version that is still there.
    pub(super) fn first(&self) -> u32 {
        self.min_available.max(1)
    }

    /// The number of the version after the latest.
    pub(super) fn next(&self) -> Result<u32, ApiError> {
        let next = self.latest.checked_add(1).filter(|next| *next <= LAST_VERSION);
        next.ok_or_else(|| ApiError::bad_request("the key has as many versions as there may be"))
    }

    /// Whether new versions may be made here.
    pub(super) fn may_rotate(&self) -> bool {
        !self.imported || self.allows_rotation
    }
}

/// The key material of one version. It never changes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct VersionRecord {
    pub(super) created: Timestamp,
    /// Symmetric and `hmac`: the key. Ed25519: seed and public key. Else PKCS#8. Empty when only
    /// the public half was imported.
    pub(super) private: Material,
    /// Ed25519: 32 bytes. RSA and ECDSA: SubjectPublicKeyInfo. Else empty.
    pub(super) public: Vec<u8>,
    /// The key of `hmac/`.
    pub(super) hmac: Material,
}

impl Record for VersionRecord {
    const VERSION: u8 = 1;
}

/// How much one version has been used.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct UseRecord {
    /// Random nonces that may have been made, in whole blocks: never fewer than were.
    pub(super) reserved: u64,
    /// Since the version was made, as far as they have been written down.
    pub(super) encryptions: u64,
    pub(super) decryptions: u64,
    pub(super) last_used: Option<Timestamp>,
}

impl Record for UseRecord {
    const VERSION: u8 = 1;
}

/// When a key is to be rotated by itself. One record for each such key, so that the search for them
/// does not read all keys.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Due {
    pub(super) at: Timestamp,
}

impl Record for Due {
    const VERSION: u8 = 1;
}

/// The configuration of a mount.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Configuration {
    /// Whether encrypting with an absent key makes none.
    pub(super) disable_upsert: bool,
    /// Keys that are kept in memory, 0 for all.
    pub(super) cache_size: u64,
}

impl Record for Configuration {
    const VERSION: u8 = 1;
}

/// The pair with which keys to be imported are wrapped: PKCS#8 of RSA-4096.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WrappingKey {
    pub(super) private: Material,
}

impl Record for WrappingKey {
    const VERSION: u8 = 1;
}

/// Where the records of a mount lie.
pub(super) struct Places {
    pub(super) view: MountView,
    pub(super) keys: Collection<Settings>,
    pub(super) versions: Collection<VersionRecord>,
    pub(super) uses: Collection<UseRecord>,
    pub(super) rotations: Collection<Due>,
    pub(super) configuration: Collection<Configuration>,
    pub(super) wrapping: Collection<WrappingKey>,
}

impl Places {
    pub(super) fn in_space(view: &MountView) -> Self {
        Self {
            view: view.clone(),
            keys: Collection::new(view.under(&["keys"])),
            versions: Collection::new(view.under(&["versions"])),
            uses: Collection::new(view.under(&["uses"])),
            rotations: Collection::new(view.under(&["rotations"])),
            configuration: Collection::new(view.under(&["config"])),
            wrapping: Collection::new(view.under(&["wrapping"])),
        }
    }
}

/// Secret bytes inside a record.
pub(super) struct Material(SecretBytes);

impl Material {
    pub(super) fn of(bytes: SecretBytes) -> Self {
        Self(bytes)
    }

    pub(super) fn copy_of(bytes: &[u8]) -> Self {
        Self(SecretBytes::copy_of(bytes))
    }

    pub(super) fn empty() -> Self {
        Self::copy_of(&[])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn expose<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        self.0.expose(read)
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Serialize for Material {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.expose(|bytes| serializer.serialize_bytes(bytes))
    }
}

impl<'de> Deserialize<'de> for Material {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Copying;

        impl de::Visitor<'_> for Copying {
            type Value = Material;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Material, E> {
                Ok(Material::copy_of(bytes))
            }
        }
        deserializer.deserialize_bytes(Copying)
    }
}
