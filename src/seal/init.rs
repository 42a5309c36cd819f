use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    barrier::Keyring,
    clock::Timestamp,
    crypto::{Argon2Params, Kek, OutOfBounds, SplitError, kdf, random, shamir},
    disk::Disk,
    secret::{Key, SecretBytes, SecretString},
};

use super::{
    copies,
    file::{MAX_SLOTS, SealFile},
    provider::Provider,
    root::Root,
    slot::{Params, Slot, SlotSummary},
};

/// A slot to be made.
#[derive(Debug)]
pub enum NewSlot {
    /// A fresh random secret, split.
    Shares(ShareCounts),
    /// A passphrase and how to stretch it.
    Passphrase(SecretString, Argon2Params),
    /// The bytes of a keyfile.
    Keyfile(Key<Kek>),
    /// A provider, and the key that it gives.
    Automatic(Provider, Key<Kek>),
}

/// What a new slot gave, in the order of the slots.
#[derive(Debug)]
pub enum Made {
    /// The shares, to be shown once and kept nowhere: y bytes then x, or the bare 32-byte secret
    /// when there is one share.
    Shares(Vec<SecretBytes>),
    /// Nothing: the passphrase is its holder's.
    Passphrase,
    /// Nothing: the keyfile is its holder's.
    Keyfile,
    /// Nothing: the provider has it.
    Automatic,
}

/// How many shares are made, and how many of them open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareCounts {
    threshold: u8,
    shares: u8,
}

/// Vault's words about share counts; on the wire they follow `invalid seal configuration: `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareCountsError {
    /// No shares.
    #[error("shares must be at least one")]
    NoShares,
    /// No threshold.
    #[error("threshold must be at least one")]
    NoThreshold,
    /// One of many would open.
    #[error("threshold must be greater than one for multiple shares")]
    OneOfMany,
    /// More shares than GF(256) has places for.
    #[error("shares must be less than 256")]
    TooMany,
    /// No number of shares would open.
    #[error("threshold cannot be larger than shares")]
    Unreachable,
}

impl ShareCounts {
    /// Takes numbers as they come from the wire. The order of the checks is Vault's.
    ///
    /// # Errors
    /// [`ShareCountsError`].
    pub fn new(threshold: i64, shares: i64) -> Result<Self, ShareCountsError> {
        if shares < 1 {
            return Err(ShareCountsError::NoShares);
        }
        if threshold < 1 {
            return Err(ShareCountsError::NoThreshold);
        }
        if shares > 1 && threshold == 1 {
            return Err(ShareCountsError::OneOfMany);
        }
        let shares = u8::try_from(shares).map_err(|_large| ShareCountsError::TooMany)?;
        let threshold = u8::try_from(threshold).map_err(|_large| ShareCountsError::Unreachable)?;
        if threshold > shares {
            return Err(ShareCountsError::Unreachable);
        }
        Ok(Self { threshold, shares })
    }

    /// Shares that open.
    pub fn threshold(self) -> u8 {
        self.threshold
    }

    /// Shares that are made.
    pub fn shares(self) -> u8 {
        self.shares
    }
}

/// Why no seal file was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// There is one already.
    #[error("{} holds a seal file already", .dir.display())]
    Exists {
        /// The folder.
        dir: PathBuf,
    },
    /// No slot that a person can open was asked for.
    #[error("a store needs a way in for a person: add shares or a passphrase")]
    NoHumanSlot,
    /// More slots than the file holds.
    #[error("a seal file holds at most 32 slots")]
    TooManySlots,
    /// A slot cannot be made.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The files could not be written.
    #[error("cannot write the seal file in {}", .dir.display())]
    Write {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

/// Why a slot cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// An empty passphrase guards nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// The passphrase cannot be stretched with these parameters, or on this machine.
    #[error("cannot stretch the passphrase")]
    Stretch(#[source] OutOfBounds),
    /// The secret could not be split.
    #[error("cannot make the shares")]
    Split(#[source] SplitError),
}

/// Makes the seal file of a new store, epoch 1, under a new root key. Blocks: Argon2id for each
/// passphrase, two synced writes.
///
/// # Errors
/// [`CreateError`]; then nothing that could open later was left behind.
pub fn create(
    disk: &Disk,
    dir: &Path,
    keyring: &Keyring,
    now: Timestamp,
    slots: Vec<NewSlot>,
) -> Result<Vec<Made>, CreateError> {
    let write_error = |cause| CreateError::Write { dir: dir.to_owned(), cause };
    if copies::exists(disk, dir).map_err(write_error)? {
        return Err(CreateError::Exists { dir: dir.to_owned() });
    }
    if slots.len() > usize::from(MAX_SLOTS) {
        return Err(CreateError::TooManySlots);
    }
    if !slots.iter().any(NewSlot::is_human) {
        return Err(CreateError::NoHumanSlot);
    }
    let root = Root::generate(keyring.store_id());
    let mut sealed = Vec::with_capacity(slots.len());
    let mut made = Vec::with_capacity(slots.len());
    for slot in slots {
        let (slot, gave) = slot.make(&root, now)?;
        sealed.push(slot);
        made.push(gave);
    }
    let bytes = SealFile::seal(&root, 1, random::array(), &sealed, keyring);
    copies::write(disk, dir, &bytes).map_err(write_error)?;
    Ok(made)
}

/// A slot whose key is known.
pub(super) struct Prepared {
    pub(super) params: Params,
    pub(super) kek: Key<Kek>,
    pub(super) made: Made,
}

impl NewSlot {
    /// Makes the slot, under this root key.
    pub(super) fn make(self, root: &Root, now: Timestamp) -> Result<(Slot, Made), SlotError> {
        let human = self.is_human();
        let Prepared { params, kek, made } = self.prepare()?;
        let summary =
            SlotSummary { slot_type: params.slot_type(), human, id: random::array(), created: now };
        Ok((Slot::wrap(root, summary, params, &kek), made))
    }

    pub(super) fn is_shares(&self) -> bool {
        matches!(self, Self::Shares(_))
    }

    fn is_human(&self) -> bool {
        match self {
            Self::Shares(_) | Self::Passphrase(..) => true,
            Self::Keyfile(_) | Self::Automatic(..) => false,
        }
    }

    fn prepare(self) -> Result<Prepared, SlotError> {
        match self {
            Self::Shares(counts) => prepare_shares(counts),
            Self::Passphrase(passphrase, argon2) => prepare_passphrase(&passphrase, argon2),
            Self::Keyfile(kek) => {
                let params = Params::Keyfile { key_id: random::array() };
                Ok(Prepared { params, kek, made: Made::Keyfile })
            }
            Self::Automatic(provider, kek) => {
                let params = Params::Automatic { provider };
                Ok(Prepared { params, kek, made: Made::Automatic })
            }
        }
    }
}

pub(super) fn prepare_shares(
    ShareCounts { threshold, shares }: ShareCounts,
) -> Result<Prepared, SlotError> {
    let kek: Key<Kek> = random::key();
    let made =
        kek.expose(|secret| shamir::split(secret, threshold, shares)).map_err(SlotError::Split)?;
    let params = Params::Shares { threshold, shares, set_id: random::array() };
    Ok(Prepared { params, kek, made: Made::Shares(made) })
}

fn prepare_passphrase(
    passphrase: &SecretString,
    argon2: Argon2Params,
) -> Result<Prepared, SlotError> {
    if passphrase.is_empty() {
        return Err(SlotError::EmptyPassphrase);
    }
    let salt: [u8; 32] = random::array();
    let kek = kdf::argon2id(passphrase, &salt, argon2).map_err(SlotError::Stretch)?;
    Ok(Prepared { params: Params::Passphrase { argon2, salt }, kek, made: Made::Passphrase })
}
