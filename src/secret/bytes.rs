use std::fmt;

use super::WipedBytes;

/// Bytes that are wiped when dropped and print as `[secret]`.
pub struct SecretBytes(WipedBytes);

impl SecretBytes {
    /// Builds `length` bytes in place: `fill` gets them zeroed.
    pub fn build(length: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = WipedBytes::from(vec![0; length]);
        fill(&mut bytes);
        Self(bytes)
    }

    /// Takes over a buffer without copying it. The caller has not grown it, so no copy stays
    /// behind.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// Copies bytes whose owner wipes its own copy.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec().into())
    }

    /// Lends the bytes to `read`, the one scope in which they are plain.
    pub fn expose<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        read(&self.0)
    }

    /// Takes the bytes out, still wiped on drop, for a caller that hands them on as its answer.
    pub fn into_wiped(self) -> WipedBytes {
        self.0
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = SecretBytes::copy_of(b"hunter2");
        assert_eq!(format!("{secret:?}"), "[secret]");
    }

    #[test]
    fn build_fills_in_place() {
        let secret = SecretBytes::build(4, |bytes| bytes.fill(7));
        assert!(secret.expose(|bytes| bytes == [7; 4]));
        assert_eq!(secret.len(), 4);
    }
}
