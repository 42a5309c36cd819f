//! Bytes as clients write and read them.

use std::fmt;

use base64::{DecodeError, Engine as _, engine::general_purpose::STANDARD};
use data_encoding::HEXLOWER;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::secret::SecretBytes;

/// Decodes standard base64 with padding, in which line ends are skipped. The text of the error
/// names the byte at which it ends to be base64.
pub(super) fn decode(text: &str) -> Result<SecretBytes, String> {
    match decode_whole(text) {
        Err(_) if text.contains(['\r', '\n']) => {
            let joined: Zeroizing<String> =
                Zeroizing::new(text.chars().filter(|one| !matches!(one, '\r' | '\n')).collect());
            decode_whole(&joined)
        }
        outcome => outcome,
    }
    .map_err(|position| format!("illegal base64 data at input byte {position}"))
}

fn decode_whole(text: &str) -> Result<SecretBytes, usize> {
    let mut outcome = Ok(0);
    let bytes = SecretBytes::build(base64::decoded_len_estimate(text.len()), |buffer| {
        outcome = STANDARD.decode_slice_unchecked(text, buffer);
    });
    match outcome {
        Ok(length) => Ok(cut(bytes, length)),
        Err(DecodeError::InvalidByte(position, _)) => Err(position),
        Err(DecodeError::InvalidLastSymbol { offset, .. }) => Err(offset),
        Err(DecodeError::InvalidLength(_) | DecodeError::InvalidPadding) => Err(text.len() / 4 * 4),
    }
}

/// The first bytes, without a copy of them.
fn cut(bytes: SecretBytes, length: usize) -> SecretBytes {
    let mut bytes = bytes.into_wiped();
    bytes.truncate(length);
    SecretBytes::from_vec(std::mem::take(&mut bytes))
}

/// Secret bytes that go out as base64.
#[derive(Debug, Default)]
pub(super) struct Base64(Option<SecretBytes>);

impl Base64 {
    pub(super) fn of(bytes: SecretBytes) -> Self {
        Self(Some(bytes))
    }
}

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(bytes) = &self.0 else { return serializer.serialize_str("") };
        let text = bytes.expose(encode);
        serializer.serialize_str(&text)
    }
}

/// Base64 of what may be secret, in a buffer of its final length.
pub(super) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let length = base64::encoded_len(bytes.len(), true).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(length));
    STANDARD.encode_string(bytes, &mut text);
    text
}

/// Text that may be secret.
pub(super) struct SecretText(pub(super) Zeroizing<String>);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Serialize for SecretText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// `format` of hashes and random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Hex,
    Base64,
}

impl Format {
    pub(super) fn of_word(word: &str) -> Option<Self> {
        match word {
            "hex" => Some(Self::Hex),
            "base64" => Some(Self::Base64),
            _ => None,
        }
    }

    pub(super) fn encode(self, bytes: &[u8]) -> SecretText {
        SecretText(match self {
            Self::Hex => Zeroizing::new(HEXLOWER.encode(bytes)),
            Self::Base64 => encode(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_is_named_as_clients_know_it() {
        let position = |text| decode(text).map(|_| ()).unwrap_err();
        assert_eq!(position("***"), "illegal base64 data at input byte 0");
        assert_eq!(position("aGVsbG8"), "illegal base64 data at input byte 4");
        assert_eq!(position("not base64!"), "illegal base64 data at input byte 3");
    }

    #[test]
    fn line_ends_are_skipped() {
        assert!(decode("aGVs\r\nbG8=\n").unwrap().expose(|bytes| bytes == b"hello"));
        assert!(decode("").unwrap().is_empty());
    }
}
