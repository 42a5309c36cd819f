use data_encoding::BASE64;

use super::{
    cursor::{Cursor, push_prefixed},
    header::{HeaderError, text},
};

/// A file key wrapped by a vault, under a transit key that commits to what it encrypts.
///
/// The committing type is the only one: under another, one file could be made to open in two ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transit {
    mount: String,
    key: String,
    pub(super) version: u64,
    pub(super) wrapped: [u8; Self::WRAPPED_BYTES],
}

/// The ciphertext is none of the type that commits to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key is not of the type aes256-gcm-committing, the only one that wraps file keys")]
pub struct NotCommitting;

impl Transit {
    /// Salt, commitment, a key of 32 bytes and its tag: longer or shorter than what any other type
    /// makes of 32 bytes.
    pub const WRAPPED_BYTES: usize = 24 + 32 + 32 + 16;

    /// What a vault is to be asked for: a file key, wrapped under this transit key.
    pub fn asked(mount: &str, key: &str) -> Self {
        let (mount, key) = (mount.to_owned(), key.to_owned());
        Self { mount, key, version: 0, wrapped: [0; Self::WRAPPED_BYTES] }
    }

    /// The mount of the transit key, without a slash at its end.
    pub fn mount(&self) -> &str {
        &self.mount
    }

    /// The name of the transit key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The wrapped file key as the vault wrote it: `vault:vN:…`.
    pub fn ciphertext(&self) -> String {
        format!("vault:v{}:{}", self.version, BASE64.encode(&self.wrapped))
    }

    /// Version and bytes of what a vault wrote.
    ///
    /// # Errors
    /// [`NotCommitting`] when it is no ciphertext of a file key under the committing type.
    pub fn read_ciphertext(
        ciphertext: &str,
    ) -> Result<(u64, [u8; Self::WRAPPED_BYTES]), NotCommitting> {
        let (version, encoded) = ciphertext
            .strip_prefix("vault:v")
            .and_then(|rest| rest.split_once(':'))
            .ok_or(NotCommitting)?;
        let version = version.parse().map_err(|_| NotCommitting)?;
        let wrapped = BASE64.decode(encoded.as_bytes()).map_err(|_| NotCommitting)?;
        Ok((version, wrapped.try_into().map_err(|_| NotCommitting)?))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.encode_asked();
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.wrapped);
        out
    }

    /// What is known before a vault has answered.
    pub(super) fn encode_asked(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push_prefixed(&mut out, self.mount.as_bytes());
        push_prefixed(&mut out, self.key.as_bytes());
        out
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, HeaderError> {
        let mut cursor = Cursor::new(body);
        let mount = text(cursor.prefixed()).ok_or(HeaderError::Damaged)?;
        let key = text(cursor.prefixed()).ok_or(HeaderError::Damaged)?;
        let version = cursor.be64().ok_or(HeaderError::Damaged)?;
        let wrapped = cursor.array().ok_or(HeaderError::Damaged)?;
        if mount.is_empty() || key.is_empty() || !cursor.rest().is_empty() {
            return Err(HeaderError::Damaged);
        }
        Ok(Self { mount, key, version, wrapped })
    }
}
