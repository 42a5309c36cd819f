use std::io::{self, Read, Write};

use super::header::{Header, HeaderError, LONGEST};
use crate::{
    crypto::{
        committing::{Cobblestone256, Reader, Writer},
        mac, random,
    },
    secret::Key,
};

/// Writes the header, and encrypts what is written after it. The file is whole once
/// [`finish`](Writer::finish) has returned, and what is written until then does not open.
///
/// # Errors
/// What `inner` says.
pub fn writer<W: Write>(
    header: &Header,
    key: &Key<Cobblestone256>,
    mut inner: W,
) -> io::Result<Writer<W>> {
    let prefix = header.prefix(MAGIC);
    inner.write_all(&prefix)?;
    Writer::new(key, &random::array(), &context(&prefix), inner)
}

/// A file whose header is read, and whose payload waits for the key.
#[derive(Debug)]
pub struct SealedFile<R> {
    header: Header,
    /// All bytes before the payload, as they are.
    prefix: Vec<u8>,
    inner: R,
}

/// Why this is no file of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAFile {
    /// It does not begin as one.
    #[error("it does not begin as a file that was encrypted here")]
    Magic,
    /// It ends before its payload.
    #[error("it ends in the middle of its header")]
    Short,
    /// Its header is none.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
}

impl<R: Read> SealedFile<R> {
    /// Reads the header. Nothing in it is proven until the payload opens.
    ///
    /// # Errors
    /// [`NotAFile`], as soon as it is seen to be none.
    pub fn read(mut inner: R) -> Result<Self, NotAFile> {
        let mut prefix = Vec::new();
        take(&mut inner, MAGIC.len(), &mut prefix)?;
        if prefix != MAGIC {
            return Err(NotAFile::Magic);
        }
        let mut length = Vec::new();
        take(&mut inner, 4, &mut length)?;
        prefix.extend_from_slice(&length);
        let told = u32::from_be_bytes(length.try_into().map_err(|_| NotAFile::Short)?);
        let length = usize::try_from(told).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(HeaderError::TooLong(told).into());
        }
        let mut header = Vec::with_capacity(length);
        take(&mut inner, length, &mut header)?;
        prefix.extend_from_slice(&header);
        Ok(Self { header: Header::parse(&header)?, prefix, inner })
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Begins to decrypt. Chunk after chunk is given out as its tag holds; only the end says that
    /// all of it is there.
    ///
    /// # Errors
    /// Of kind [`InvalidData`](io::ErrorKind::InvalidData) when key and header do not belong to
    /// this payload, before a byte of it is decrypted; else what reading says.
    pub fn open(self, key: &Key<Cobblestone256>) -> io::Result<Reader<R>> {
        Reader::new(key, &context(&self.prefix), self.inner)
    }
}

fn take(inner: &mut impl Read, length: usize, into: &mut Vec<u8>) -> Result<(), NotAFile> {
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    let read = inner.take(limit).read_to_end(into).map_err(NotAFile::Read)?;
    if read == length { Ok(()) } else { Err(NotAFile::Short) }
}

/// What the payload commits to: every byte before it.
pub(super) fn context(prefix: &[u8]) -> [u8; 32] {
    mac::sha256(&[b"kista/file/1\0", prefix])
}

pub(super) const MAGIC: &[u8; 8] = b"KISTAF1\n";
