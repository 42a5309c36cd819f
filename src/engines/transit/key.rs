//! A key as requests use it: settings, versions, and their ciphers once they are wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, OnceLock},
};

use super::{
    kind::Kind,
    locker::Locker,
    material::Asymmetric,
    record::{Settings, VersionRecord},
    uses::Uses,
};
use crate::gate::ApiError;

/// One state of a key. A change makes another; who holds this one goes on with it.
pub(super) struct Key {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) settings: Settings,
    pub(super) versions: BTreeMap<u32, Arc<Version>>,
    /// Versions whose records do not open. The others go on.
    pub(super) unreadable: BTreeSet<u32>,
}

/// One version. It is the same in every state of its key.
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) record: VersionRecord,
    pub(super) uses: Arc<Uses>,
    locker: OnceLock<Option<Locker>>,
    pair: OnceLock<Option<Asymmetric>>,
}

impl Version {
    pub(super) fn new(number: u32, record: VersionRecord, uses: Arc<Uses>) -> Self {
        Self { number, record, uses, locker: OnceLock::new(), pair: OnceLock::new() }
    }
}

impl Key {
    /// Refuses a key that is softly deleted.
    pub(super) fn check_usable(&self) -> Result<(), ApiError> {
        match self.settings.soft_deleted {
            true => Err(ApiError::bad_request("refusing to use soft-deleted key")),
            false => Ok(()),
        }
    }

    /// The version that encrypts, signs and makes HMACs when a request asks for `asked`, 0 for the
    /// newest.
    pub(super) fn version_to_make(&self, asked: i64) -> Result<&Arc<Version>, NoVersion> {
        let Settings { latest, min_encryption, min_decryption, .. } = self.settings;
        // What nobody could open again is not made.
        let lowest = min_encryption.max(min_decryption);
        let number = match asked {
            0 => latest,
            _ if asked < 0 => return Err(NoVersion::Negative),
            _ if asked > i64::from(latest) => return Err(NoVersion::TooHigh),
            _ if asked < i64::from(lowest) => return Err(NoVersion::TooLow),
            _ => u32::try_from(asked).map_err(|_| NoVersion::TooHigh)?,
        };
        self.version(number)
    }

    /// The version that decrypts and verifies what was made under `given`.
    pub(super) fn version_to_read(&self, given: i64) -> Result<&Arc<Version>, NoVersion> {
        if given > i64::from(self.settings.latest) {
            return Err(NoVersion::TooHigh);
        }
        if given < i64::from(self.settings.min_decryption) {
            return Err(NoVersion::TooLow);
        }
        let number = u32::try_from(given).map_err(|_| NoVersion::TooLow)?;
        self.version(number)
    }

    fn version(&self, number: u32) -> Result<&Arc<Version>, NoVersion> {
        self.versions.get(&number).ok_or(match self.unreadable.contains(&number) {
            true => NoVersion::Damaged,
            false => NoVersion::TooLow,
        })
    }

    /// What encrypts with a version: its own cipher, or the one that a context makes.
    pub(super) fn locker<'a>(
        &self,
        version: &'a Version,
        context: Option<&[u8]>,
        made: &'a mut Option<Locker>,
    ) -> Result<&'a Locker, Unusable> {
        let private = &version.record.private;
        let locker = if self.settings.derived {
            let context = context.filter(|context| !context.is_empty());
            let context = context.ok_or(Unusable::ContextMissing)?;
            *made = private.expose(|key| Locker::derived(self.kind, &self.settings, key, context));
            made.as_ref()
        } else {
            let new = || private.expose(|key| Locker::new(self.kind, key));
            version.locker.get_or_init(new).as_ref()
        };
        locker.ok_or(Unusable::Damaged)
    }

    /// The pair of a version of an asymmetric kind.
    pub(super) fn pair<'a>(
        &self,
        version: &'a Version,
        context: Option<&[u8]>,
        made: &'a mut Option<Asymmetric>,
    ) -> Result<&'a Asymmetric, Unusable> {
        let record = &version.record;
        let pair = if self.settings.derived {
            let context = context.filter(|context| !context.is_empty());
            let context = context.ok_or(Unusable::ContextMissing)?;
            // Of nothing but a context everybody could make the same pair.
            if record.private.is_empty() {
                return Err(Unusable::Damaged);
            }
            *made = record.private.expose(|key| Asymmetric::derived(key, context));
            made.as_ref()
        } else {
            let new = || Asymmetric::of_record(self.kind, record);
            version.pair.get_or_init(new).as_ref()
        };
        pair.ok_or(Unusable::Damaged)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {:?})", self.name, self.kind)
    }
}

/// A version that may not be used for what is asked. Each use has its own words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoVersion {
    Negative,
    TooHigh,
    TooLow,
    /// Its record does not open.
    Damaged,
}

impl NoVersion {
    /// The words of `encrypt`.
    pub(super) fn of_encryption(self) -> &'static str {
        match self {
            Self::Negative => "requested version for encryption is negative",
            Self::TooHigh => {
                "requested version for encryption is higher than the latest key version"
            }
            Self::TooLow => {
                "requested version for encryption is less than the minimum encryption key version"
            }
            Self::Damaged => DAMAGED,
        }
    }

    /// The words for what was made with a version.
    pub(super) fn of_reading(self, what: &str) -> String {
        match self {
            Self::TooHigh => format!("invalid {what}: version is too new"),
            Self::Negative | Self::TooLow => TOO_OLD.to_owned(),
            Self::Damaged => DAMAGED.to_owned(),
        }
    }
}

const DAMAGED: &str = "the stored version of the key is damaged; restore the key from a backup";
const TOO_OLD: &str = "ciphertext or signature version is disallowed by policy (too old)";

/// A version cannot be put to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    ContextMissing,
    /// The record does not hold what its key's kind says.
    Damaged,
}

impl Unusable {
    pub(super) fn text(self) -> String {
        match self {
            Self::ContextMissing => "missing 'context' for key derivation; the key was created \
                                     using a derived key, which means additional, per-request \
                                     information must be included in order to perform operations \
                                     with the key"
                .to_owned(),
            Self::Damaged => {
                "the stored key does not fit its type; restore it from a backup".to_owned()
            }
        }
    }
}
