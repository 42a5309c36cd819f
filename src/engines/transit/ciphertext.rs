//! `vault:vN:BASE64`: how ciphertexts, signatures and HMACs name the version of their key.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What stands before the version.
const PREFIX: &str = "vault:v";

/// A text taken apart. The version is not checked against any key yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// As it was written; negative ones are older than any key.
    pub(super) version: i64,
    pub(super) encoded: &'a str,
}

/// What is wrong with the frame of a text, in the words after `invalid ciphertext: ` that clients
/// know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    NoPrefix,
    Fields,
    Version,
}

impl Malformed {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::NoPrefix => "no prefix",
            Self::Fields => "wrong number of fields",
            Self::Version => "version number could not be decoded",
        }
    }
}

/// Takes a text apart. Version 0 is read as 1: the oldest servers wrote it so.
pub(super) fn parse(text: &str) -> Result<Parts<'_>, Malformed> {
    let rest = text.strip_prefix(PREFIX).ok_or(Malformed::NoPrefix)?;
    let (version, encoded) = rest.split_once(':').ok_or(Malformed::Fields)?;
    let version = match version.parse().map_err(|_| Malformed::Version)? {
        0 => 1,
        version => version,
    };
    Ok(Parts { version, encoded })
}

/// Writes bytes made under a version.
pub(super) fn format(version: u32, bytes: &[u8]) -> String {
    let mut text = format!("{PREFIX}{version}:");
    STANDARD.encode_string(bytes, &mut text);
    text
}

/// The same around text that is encoded already.
pub(super) fn format_encoded(version: u32, encoded: &str) -> String {
    format!("{PREFIX}{version}:{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = format(12, b"hello");
        assert_eq!(text, "vault:v12:aGVsbG8=");
        assert_eq!(parse(&text), Ok(Parts { version: 12, encoded: "aGVsbG8=" }));
    }

    #[test]
    fn each_mistake_has_its_word() {
        assert_eq!(parse("hello"), Err(Malformed::NoPrefix));
        assert_eq!(parse("vault:v3"), Err(Malformed::Fields));
        assert_eq!(parse("vault:vx:AA=="), Err(Malformed::Version));
        assert_eq!(parse("vault:v0:AA==").map(|parts| parts.version), Ok(1));
        assert_eq!(parse("vault:v-1:AA==").map(|parts| parts.version), Ok(-1));
    }
}
