//! SHA-256 (FIPS 180-4), HMAC-SHA-256 (FIPS 198-1) and comparison in constant time.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::secret::{Algorithm, Key};

/// A 32-byte key of HMAC-SHA-256.
#[derive(Debug)]
pub enum HmacSha256 {}

impl Algorithm for HmacSha256 {
    const KEY_BYTES: usize = 32;
    const NAME: &'static str = "HMAC-SHA-256";
}

/// The digest of `parts`, one after the other. Join what varies in length with its length, or two
/// lists of parts may give one message.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Sha256::new();
    for part in parts {
        state.update(part);
    }
    state.finalize().into()
}

/// HMAC-SHA-256 under one key, whose two key blocks are hashed once and kept.
pub struct Mac {
    keyed: Hmac<Sha256>,
}

impl Mac {
    /// Hashes the key's blocks.
    pub fn new(key: &Key<HmacSha256>) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let keyed = key
            .expose(|bytes| Hmac::new_from_slice(bytes).expect("a key of any length is accepted"));
        Self { keyed }
    }

    /// The tag of `parts`, one after the other; as for [`sha256`], lengths are the caller's to join.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut state = self.keyed.clone();
        for part in parts {
            state.update(part);
        }
        state.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mac").finish_non_exhaustive()
    }
}

/// Whether `a` and `b` are the same bytes, in time that depends on their lengths only.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}
