use std::{fmt, io, path::PathBuf};

use crate::{barrier::Keyring, disk::Disk, storage::StoreId};

use super::{
    copies,
    file::SealFile,
    root::Root,
    slot::{Slot, SlotDetails},
};

/// The root key of an open store, and the slots that lead to it: what a change of the seal file
/// needs. Dropping it wipes the key.
pub struct OpenRoot {
    disk: Disk,
    dir: PathBuf,
    content: Content,
    /// Epoch of the file in force.
    epoch: u64,
    /// The highest epoch that a write has begun with. A write that broke off may have left it in a
    /// copy, and two different files must never share one.
    tried: u64,
}

/// What a seal file says beside the keyring.
struct Content {
    key: NamedRoot,
    slots: Vec<Slot>,
}

/// A root key and its name.
pub(super) struct NamedRoot {
    pub(super) root: Root,
    pub(super) id: [u8; 16],
}

/// The seal file could not be written again. What held before still holds in the open vault.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the seal file in {}; {}", .dir.display(), outcome(*.is_restored))]
pub struct RewriteError {
    /// The folder.
    pub dir: PathBuf,
    /// Whether both copies say again what they said before.
    pub is_restored: bool,
    /// What the system said.
    #[source]
    pub cause: io::Error,
}

impl OpenRoot {
    pub(super) fn new(disk: Disk, dir: PathBuf, file: SealFile, root: Root) -> Self {
        let epoch = file.epoch();
        let (root_id, slots) = file.into_parts();
        let content = Content { key: NamedRoot { root, id: root_id }, slots };
        Self { disk, dir, content, epoch, tried: epoch }
    }

    /// The store that the key is of.
    pub fn store_id(&self) -> StoreId {
        *self.root().store_id()
    }

    /// Names the root key; another one after each rekey.
    pub fn root_id(&self) -> [u8; 16] {
        self.content.key.id
    }

    /// Epoch of the seal file in force.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Epoch that the next file will have.
    pub fn next_epoch(&self) -> u64 {
        self.tried.saturating_add(1)
    }

    /// Threshold and number of the shares, if there is a slot of shares.
    pub fn shares(&self) -> Option<(u8, u8)> {
        self.slots_in_order().iter().find_map(Slot::shares)
    }

    /// What may be told of each slot, in order.
    pub fn slots(&self) -> impl Iterator<Item = SlotDetails> + '_ {
        self.slots_in_order().iter().map(Slot::details)
    }

    pub(super) fn root(&self) -> &Root {
        &self.content.key.root
    }

    pub(super) fn slots_in_order(&self) -> &[Slot] {
        &self.content.slots
    }

    /// Writes both copies again with the next epoch, which is returned, the same slots and this
    /// keyring, of which `before` is in force. Blocking: two synced writes.
    ///
    /// A crash at any byte leaves the old file or the new one. What the new one leaves out is gone
    /// only once this has returned.
    ///
    /// # Errors
    /// [`RewriteError`]; then the old keyring is written back, as far as the disk lets it.
    pub fn rewrite(&mut self, keyring: &Keyring, before: &Keyring) -> Result<u64, RewriteError> {
        let epoch = self.begin_epoch();
        let Content { key, slots } = &self.content;
        match self.write(epoch, key, slots, keyring) {
            Ok(()) => {
                self.epoch = epoch;
                Ok(epoch)
            }
            Err(cause) => Err(self.take_back(before, cause)),
        }
    }

    /// The same with other slots, and with another root key if one is given.
    pub(super) fn replace(
        &mut self,
        key: Option<NamedRoot>,
        slots: Vec<Slot>,
        keyring: &Keyring,
    ) -> Result<u64, RewriteError> {
        let epoch = self.begin_epoch();
        let under = key.as_ref().unwrap_or(&self.content.key);
        match self.write(epoch, under, &slots, keyring) {
            Ok(()) => {
                self.epoch = epoch;
                self.content.slots = slots;
                if let Some(key) = key {
                    self.content.key = key;
                }
                Ok(epoch)
            }
            Err(cause) => Err(self.take_back(keyring, cause)),
        }
    }

    /// Writes back what holds after a write that broke off: who gave the order is told that it
    /// failed, so its file must not be the one that opens next time.
    fn take_back(&mut self, keyring: &Keyring, cause: io::Error) -> RewriteError {
        let epoch = self.begin_epoch();
        let Content { key, slots } = &self.content;
        let is_restored = self.write(epoch, key, slots, keyring).is_ok();
        if is_restored {
            self.epoch = epoch;
        }
        RewriteError { dir: self.dir.clone(), is_restored, cause }
    }

    fn begin_epoch(&mut self) -> u64 {
        self.tried = self.next_epoch();
        self.tried
    }

    fn write(
        &self,
        epoch: u64,
        key: &NamedRoot,
        slots: &[Slot],
        keyring: &Keyring,
    ) -> io::Result<()> {
        let bytes = SealFile::seal(&key.root, epoch, key.id, slots, keyring);
        copies::write(&self.disk, &self.dir, &bytes)
    }
}

impl fmt::Debug for OpenRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenRoot").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

fn outcome(is_restored: bool) -> &'static str {
    if is_restored {
        "it is as it was before"
    } else {
        "nor could what was there be written back: mend the disk, then make the same change again"
    }
}
