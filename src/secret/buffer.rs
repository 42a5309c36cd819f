use std::{fmt, io};

use super::WipedBytes;

/// Bytes that grow without leaving copies behind: what they outgrow is wiped.
///
/// A plain `Vec` that is reallocated leaves its old content in freed memory.
pub struct SecretBuffer(WipedBytes);

impl SecretBuffer {
    /// An empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity).into())
    }

    /// Appends bytes.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let needed = self.0.len().saturating_add(bytes.len());
        if needed > self.0.capacity() {
            self.grow(needed);
        }
        self.0.extend_from_slice(bytes);
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        let mut larger = WipedBytes::from(Vec::with_capacity(needed.saturating_mul(2)));
        larger.extend_from_slice(&self.0);
        // The old one is wiped as it is dropped.
        self.0 = larger;
    }

    /// Takes the bytes out, still wiped on drop.
    pub fn into_wiped(self) -> WipedBytes {
        self.0
    }
}

impl io::Write for SecretBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    // JSON comes in pieces of a few bytes.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for SecretBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_keeps_what_was_written() {
        let mut buffer = SecretBuffer::with_capacity(2);
        for part in [b"abc".as_slice(), b"", b"defghijklmnop"] {
            buffer.extend_from_slice(part);
        }
        assert_eq!(buffer.into_wiped().as_slice(), b"abcdefghijklmnop");
    }
}
