use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::{barrier::Keyring, storage::StoreId};

use super::{
    copies,
    file::SealFile,
    root::Root,
    slot::{Slot, SlotSummary},
};

/// The root key of an open store, and the slots that lead to it: what a change of the seal file
/// needs. Dropping it wipes the key.
pub struct OpenRoot {
    dir: PathBuf,
    pub(super) content: Content,
    /// Epoch of the file in force.
    epoch: u64,
    /// The highest epoch that a write has begun with. A write that broke off may have left it in a
    /// copy, and two different files must never share one.
    tried: u64,
}

/// What a seal file says beside the keyring.
pub(super) struct Content {
    pub(super) root: Root,
    pub(super) root_id: [u8; 16],
    pub(super) slots: Vec<Slot>,
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
    pub(super) fn new(dir: &Path, file: SealFile, root: Root) -> Self {
        let epoch = file.epoch();
        let (root_id, slots) = file.into_parts();
        let content = Content { root, root_id, slots };
        Self { dir: dir.to_owned(), content, epoch, tried: epoch }
    }

    /// The store that the key is of.
    pub fn store_id(&self) -> StoreId {
        *self.content.root.store_id()
    }

    /// Names the root key; another one after each rekey.
    pub fn root_id(&self) -> [u8; 16] {
        self.content.root_id
    }

    /// Epoch of the seal file in force.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What may be told of each slot, in order.
    pub fn slots(&self) -> impl Iterator<Item = SlotSummary> + '_ {
        self.content.slots.iter().map(|slot| slot.summary)
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
        let epoch = self.next_epoch();
        match self.write(epoch, &self.content, keyring) {
            Ok(()) => {
                self.epoch = epoch;
                Ok(epoch)
            }
            Err(cause) => Err(self.take_back(before, cause)),
        }
    }

    /// Writes back what holds after a write that broke off: who gave the order is told that it
    /// failed, so its file must not be the one that opens next time.
    fn take_back(&mut self, keyring: &Keyring, cause: io::Error) -> RewriteError {
        let epoch = self.next_epoch();
        let is_restored = self.write(epoch, &self.content, keyring).is_ok();
        if is_restored {
            self.epoch = epoch;
        }
        RewriteError { dir: self.dir.clone(), is_restored, cause }
    }

    fn next_epoch(&mut self) -> u64 {
        self.tried = self.tried.saturating_add(1);
        self.tried
    }

    fn write(&self, epoch: u64, content: &Content, keyring: &Keyring) -> io::Result<()> {
        let Content { root, root_id, slots } = content;
        let bytes = SealFile::seal(root, epoch, *root_id, slots, keyring);
        copies::write(&self.dir, &bytes)
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
