use crate::{barrier::Keyring, clock::Timestamp};

use super::{
    Made, NewSlot, OpenRoot, RewriteError, SlotError,
    file::MAX_SLOTS,
    slot::{Slot, SlotDetails, SlotSummary, SlotType},
};

/// Why the slots stay as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotsError {
    /// More slots than the file holds.
    #[error("a seal file holds at most 32 slots; drop one first")]
    TooMany,
    /// Two sets of shares would leave open which of them a share counts for.
    #[error("there are shares already; a rekey replaces them: kista operator rekey")]
    SecondShares,
    /// No slot has this id.
    #[error("there is no such slot; list them: kista operator slot ls")]
    NoSuchSlot,
    /// Nobody could open the store any more.
    #[error("it is the last slot that a person can open; add another one first")]
    LastHuman,
    /// The slot cannot be made.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The seal file cannot be written.
    #[error(transparent)]
    Write(#[from] RewriteError),
}

impl OpenRoot {
    /// Adds a slot, which needs nothing but the root key. Blocking: Argon2id for a passphrase, two
    /// synced writes.
    ///
    /// # Errors
    /// [`SlotsError`]; the slots are as they were.
    pub fn add(
        &mut self,
        slot: NewSlot,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<(SlotDetails, Made), SlotsError> {
        let mut slots = self.slots_in_order().to_vec();
        if slots.len() >= usize::from(MAX_SLOTS) {
            return Err(SlotsError::TooMany);
        }
        if slot.is_shares() && slots.iter().any(is_shares) {
            return Err(SlotsError::SecondShares);
        }
        let (slot, made) = slot.make(self.root(), now)?;
        let details = slot.details();
        slots.push(slot);
        self.replace(None, slots, keyring)?;
        Ok((details, made))
    }

    /// Takes a slot out and keeps the root key: an older copy of the seal file and the slot's
    /// secret still lead to it, and so to the store. Only a rekey shuts them out.
    ///
    /// # Errors
    /// [`SlotsError`]; the slots are as they were.
    pub fn drop_keeping_root(
        &mut self,
        id: [u8; 16],
        keyring: &Keyring,
    ) -> Result<SlotSummary, SlotsError> {
        let mut slots = self.slots_in_order().to_vec();
        let at = slots.iter().position(|slot| slot.summary.id == id);
        let dropped = slots.remove(at.ok_or(SlotsError::NoSuchSlot)?).summary;
        if !slots.iter().any(|slot| slot.summary.human) {
            return Err(SlotsError::LastHuman);
        }
        self.replace(None, slots, keyring)?;
        Ok(dropped)
    }
}

fn is_shares(slot: &Slot) -> bool {
    slot.summary.slot_type == SlotType::Shares
}
