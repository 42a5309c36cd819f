use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use zeroize::Zeroizing;

/// Plain bytes that are wiped when dropped.
///
/// What `Zeroizing<Vec<u8>>` is, and quicker: that writes zeros byte by byte over what is there,
/// and at once over room that is spare. So all of it is made spare first.
#[derive(Default)]
pub struct WipedBytes(Zeroizing<Vec<u8>>);

impl From<Vec<u8>> for WipedBytes {
    /// Takes over a buffer without copying it. The caller has not grown it, so no copy stays
    /// behind.
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl Drop for WipedBytes {
    fn drop(&mut self) {
        self.0.clear();
    }
}

impl Deref for WipedBytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for WipedBytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl AsRef<[u8]> for WipedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for WipedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}
