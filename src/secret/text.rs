use std::fmt;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = SecretString::copy_of("hunter2");
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert!(secret.expose(|text| text == "hunter2"));
    }
}
