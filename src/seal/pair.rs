//! A file of two blocks, written in turn, so that a torn write leaves the older one.

use std::{
    io,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use crate::{
    crypto::{Mac, mac},
    disk::{Disk, if_there},
    storage::StoreId,
};

/// What lies in the blocks of a [`Pair`].
pub trait Block: Copy {
    /// What it is, in messages about its file.
    const NAME: &'static str;
    /// What its bytes begin with.
    const MAGIC: &'static [u8; 8];
    /// Length of its fields in bytes.
    const FIELDS: usize;

    /// Its fields, as they are written.
    fn fields(&self) -> Vec<u8>;

    /// Reads authenticated fields.
    fn of(fields: &[u8]) -> Option<Self>;

    /// Of two the one that ranks higher counts.
    fn rank(&self) -> [u64; 3];
}

/// A file that keeps two, of which the newer one counts.
#[derive(Debug)]
pub struct Pair<B> {
    disk: Disk,
    path: PathBuf,
    mac: Mac,
    store_id: StoreId,
    kind: PhantomData<B>,
}

/// Why such a file says nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorUnusable {
    /// It is not there.
    #[error("{what} {} is missing", .path.display())]
    Missing {
        /// What it would be.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// It holds nothing of this store.
    #[error("{what} {} is damaged or another store's", .path.display())]
    Foreign {
        /// What it should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The system does not give it.
    #[error("{what} {} cannot be read", .path.display())]
    Read {
        /// What it is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl<B: Block> Pair<B> {
    /// The file at a path, for this store and its anchor key.
    pub fn new(disk: Disk, path: PathBuf, mac: Mac, store_id: StoreId) -> Self {
        Self { disk, path, mac, store_id, kind: PhantomData }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What counts.
    ///
    /// # Errors
    /// [`AnchorUnusable`].
    pub fn read(&self) -> Result<B, AnchorUnusable> {
        let (what, path) = (B::NAME, self.path.clone());
        let blocks = match self.blocks() {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Err(AnchorUnusable::Missing { what, path });
            }
            Err(cause) => return Err(AnchorUnusable::Read { what, path, cause }),
            Ok(blocks) => blocks,
        };
        let newest = blocks.into_iter().flatten().max_by_key(B::rank);
        newest.ok_or(AnchorUnusable::Foreign { what, path })
    }

    /// Writes over the older of the two, and syncs it. A file that is not there is made.
    ///
    /// # Errors
    /// What the system said; `InvalidData` for a file that is something else, which is left alone.
    pub fn write(&self, new: &B) -> io::Result<()> {
        if !self.is_there()? {
            return self.make(new);
        }
        let [first, second] = self.blocks()?.map(|block| block.map(|block| block.rank()));
        self.put(new, if first > second { &[1] } else { &[0] })
    }

    /// Writes over both: what they said before no longer counts.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    pub fn replace(&self, new: &B) -> io::Result<()> {
        if self.is_there()? { self.put(new, &[0, 1]) } else { self.make(new) }
    }

    /// Takes the file away, if it is there.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    pub fn remove(&self) -> io::Result<()> {
        self.is_there()?;
        if_there(self.disk.remove_file(&self.path))?;
        self.sync_folder()
    }

    /// Whether there is a file to write over. One that somebody has named by mistake is none.
    fn is_there(&self) -> io::Result<bool> {
        if !self.disk.exists(&self.path)? {
            return Ok(false);
        }
        let bytes = match self.disk.read(&self.path, 2 * BLOCK as u64) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(not_ours()),
            read => read?,
        };
        let begins = |block: &[u8]| block.starts_with(OURS);
        let is_empty = bytes.iter().all(|byte| *byte == 0);
        if is_empty || bytes.chunks(BLOCK).any(begins) { Ok(true) } else { Err(not_ours()) }
    }

    fn put(&self, new: &B, blocks: &[u64]) -> io::Result<()> {
        let file = self.disk.open_rw(&self.path)?;
        for block in blocks {
            file.write_all_at(&self.block(new), block * BLOCK as u64)?;
        }
        file.sync_data()
    }

    fn make(&self, new: &B) -> io::Result<()> {
        let file = self.disk.create_new(&self.path)?;
        file.write_all_at(&[self.block(new), vec![0; BLOCK]].concat(), 0)?;
        file.sync_all()?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> io::Result<()> {
        match self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => self.disk.sync_dir(folder),
            None => self.disk.sync_dir(Path::new(".")),
        }
    }

    fn block(&self, new: &B) -> Vec<u8> {
        encode(new, self.store_id, &self.mac)
    }

    pub(super) fn blocks(&self) -> io::Result<[Option<B>; 2]> {
        let bytes = match self.disk.read(&self.path, 2 * BLOCK as u64) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Vec::new(),
            read => read?,
        };
        let block = |at: usize| {
            let bytes = bytes.get(at * BLOCK..(at + 1) * BLOCK)?;
            parse(bytes, self.store_id, &self.mac)
        };
        Ok([block(0), block(1)])
    }
}

/// magic || store id || fields || HMAC-SHA-256(anchor key, all before) || zeros
pub(super) fn encode<B: Block>(block: &B, store_id: StoreId, key: &Mac) -> Vec<u8> {
    let mut bytes = [B::MAGIC, store_id.0.as_slice(), &block.fields()].concat();
    let tag = key.tag(&[&bytes]);
    bytes.extend_from_slice(&tag);
    bytes.resize(BLOCK, 0);
    bytes
}

/// Reads a whole block; `None` for one that is damaged or not this store's.
pub(super) fn parse<B: Block>(block: &[u8], store_id: StoreId, key: &Mac) -> Option<B> {
    let (before, rest) = block.split_at_checked(B::MAGIC.len() + store_id.0.len() + B::FIELDS)?;
    let (tag, zeros) = rest.split_first_chunk::<32>()?;
    if !mac::equal(&key.tag(&[before]), tag) || zeros.iter().any(|byte| *byte != 0) {
        return None;
    }
    let fields = before.strip_prefix(B::MAGIC)?.strip_prefix(&store_id.0)?;
    B::of(fields)
}

fn not_ours() -> io::Error {
    let text = "it holds something else and is left alone: remove it, or name another file";
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// What both kinds of block begin with.
const OURS: &[u8] = b"KISTA";
/// Bytes of one block: a sector, which a disk writes whole or not at all.
pub(super) const BLOCK: usize = 512;
