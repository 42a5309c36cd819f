use std::{path::PathBuf, sync::Arc};

use super::{Headed, IndexError, RecordHeader, memory, record::WriteRef, sled};

/// What answers reads, and takes what has become durable. Closed: one more engine is one more
/// variant, and one file that passes `conformance`.
#[derive(Debug)]
pub(super) enum Backend {
    /// The index of a folder.
    Sled(sled::Index),
    /// The memory of tests.
    Memory(Arc<memory::Platter>),
}

impl Backend {
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        match self {
            Self::Sled(index) => index.read(key, <[u8]>::to_vec),
            Self::Memory(platter) => platter.read(key, <[u8]>::to_vec),
        }
    }

    pub(super) fn header(&self, key: &[u8]) -> Result<Option<RecordHeader>, IndexError> {
        let header = match self {
            Self::Sled(index) => index.read(key, RecordHeader::of)?,
            Self::Memory(platter) => platter.read(key, RecordHeader::of)?,
        };
        Ok(header.flatten())
    }

    pub(super) fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, IndexError> {
        match self {
            Self::Sled(index) => index.list(prefix, after, limit),
            Self::Memory(platter) => platter.list(prefix, after, limit),
        }
    }

    pub(super) fn headers(&self, after: &[u8], limit: usize) -> Result<Vec<Headed>, IndexError> {
        match self {
            Self::Sled(index) => index.headers(after, limit),
            Self::Memory(platter) => platter.headers(after, limit),
        }
    }

    /// Applies writes, together with the head that covers them.
    pub(super) fn apply<'a>(
        &self,
        writes: impl Iterator<Item = WriteRef<'a>>,
        head: Option<(u64, &[u8])>,
    ) -> Result<(), IndexError> {
        match self {
            Self::Sled(index) => index.apply(writes, head),
            Self::Memory(platter) => {
                platter.change(writes);
                Ok(())
            }
        }
    }

    /// What it takes on the disk, in bytes.
    pub(super) fn bytes(&self) -> Result<u64, IndexError> {
        match self {
            Self::Sled(index) => index.bytes(),
            Self::Memory(_) => Ok(0),
        }
    }

    /// Where it lies on the disk.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::Sled(index) => Some(index.folder().into()),
            Self::Memory(_) => None,
        }
    }

    /// Closes an index that failed or is replaced.
    pub(super) fn discard(self) {
        match self {
            Self::Sled(index) => index.discard(),
            Self::Memory(_) => {}
        }
    }

    pub(super) fn flush(&self) -> Result<(), IndexError> {
        match self {
            Self::Sled(index) => index.flush(),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Hands everything to the system, so that it outlasts this process.
    pub(super) fn write_out(&self) -> Result<(), IndexError> {
        match self {
            Self::Sled(index) => index.write_out(),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Whether the next batch was told to lose.
    pub(super) fn takes_conflict(&self) -> bool {
        match self {
            Self::Sled(_) => false,
            Self::Memory(platter) => platter.takes_conflict(),
        }
    }
}
