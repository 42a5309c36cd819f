use std::fmt;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// Text that is wiped when dropped and prints as `[secret]`.
#[derive(Default)]
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// Takes over a string without copying it. The caller has not grown it, so no copy stays
    /// behind.
    pub fn from_string(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Copies text whose owner wipes its own copy.
    pub fn copy_of(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// Lends the text to `read`, the one scope in which it is plain.
    pub fn expose<R>(&self, read: impl FnOnce(&str) -> R) -> R {
        read(&self.0)
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// So that it may stand in a type that a program reads its secrets as. It is not written back by
/// itself: there is no `Serialize`.
impl<'de> Deserialize<'de> for SecretString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = SecretString::copy_of("hunter2");
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert!(secret.expose(|text| text == "hunter2"));
    }

    #[test]
    fn json_text_becomes_a_secret_and_other_json_does_not() {
        let secret: SecretString = serde_json::from_str(r#""a\"b""#).unwrap();
        assert!(secret.expose(|text| text == "a\"b"));
        assert!(serde_json::from_str::<SecretString>("7").is_err());
    }
}
