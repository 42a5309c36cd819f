use super::{
    cursor::Cursor,
    header::{Header, HeaderError, LONGEST},
};
use crate::{
    crypto::{
        OpenFailed,
        committing::{self, Cobblestone256},
        mac, random,
    },
    secret::{Key, SecretBytes},
};

/// A short message, sealed under a key that seals others too.
///
/// It is a file but for two things: its first bytes, and that it binds associated data which are
/// not in it.
#[derive(Debug)]
pub struct SealedValue<'a> {
    header: Header,
    prefix: &'a [u8],
    payload: &'a [u8],
}

/// Seals a message. The header is that under which the key was wrapped.
pub fn seal_value(
    header: &Header,
    key: &Key<Cobblestone256>,
    associated_data: &[u8],
    plaintext: &[u8],
) -> Vec<u8> {
    let mut sealed = header.prefix(MAGIC);
    let context = context(&sealed, associated_data);
    // 192 random bits for each message: no number of them under one key matters.
    let payload = committing::seal(key, &random::array(), &context, plaintext);
    sealed.extend_from_slice(&payload);
    sealed
}

/// Whether the bytes begin as a sealed value.
pub fn is_value(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl<'a> SealedValue<'a> {
    /// Reads the header. Nothing in it is proven until the value opens.
    ///
    /// # Errors
    /// [`HeaderError`] when it is none.
    pub fn read(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let mut cursor = Cursor::new(bytes);
        if cursor.take(MAGIC.len()) != Some(MAGIC) {
            return Err(HeaderError::Damaged);
        }
        let header = cursor.prefixed().ok_or(HeaderError::Damaged)?;
        if header.len() > LONGEST {
            return Err(HeaderError::TooLong(u32::try_from(header.len()).unwrap_or(u32::MAX)));
        }
        let header = Header::parse(header)?;
        let payload = cursor.rest();
        let (prefix, payload) = bytes.split_at(bytes.len() - payload.len());
        Ok(Self { header, prefix, payload })
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`OpenFailed`] for another key, header or associated data, and for changed bytes.
    pub fn open(
        &self,
        key: &Key<Cobblestone256>,
        associated_data: &[u8],
    ) -> Result<SecretBytes, OpenFailed> {
        committing::open(key, &context(self.prefix, associated_data), self.payload)
    }
}

/// What a value commits to: every byte before its payload, and the associated data.
fn context(prefix: &[u8], associated_data: &[u8]) -> [u8; 32] {
    // Below 64 KiB and a few bytes.
    let length = u32::try_from(prefix.len()).unwrap_or(u32::MAX).to_be_bytes();
    mac::sha256(&[b"kista/value/1\0", &length, prefix, associated_data])
}

const MAGIC: &[u8; 8] = b"KISTAV1\n";
