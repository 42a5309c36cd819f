use std::{fmt, marker::PhantomData};

use zeroize::Zeroizing;

use super::{Locked, scrub_stack};

/// What a key is for. `crypto/` implements it for its algorithms.
pub trait Algorithm: 'static {
    /// Length of a key in bytes.
    const KEY_BYTES: usize;
    /// Name in messages and `Debug`.
    const NAME: &'static str;
}

/// A key that enters its own algorithm only, lies in locked memory, is wiped when dropped and
/// prints as its algorithm's name.
pub struct Key<A: Algorithm> {
    /// The first `A::KEY_BYTES` are the key.
    bytes: Locked<Zeroizing<[u8; LONGEST]>>,
    algorithm: PhantomData<fn() -> A>,
}

/// The bytes given have another length than the algorithm's keys.
#[derive(Debug, thiserror::Error)]
#[error("a key of {given} bytes was given where {needed} are needed")]
pub struct WrongLength {
    /// Bytes given.
    pub given: usize,
    /// Bytes needed.
    pub needed: usize,
}

impl<A: Algorithm> Key<A> {
    /// Builds a key in place: `fill` gets `A::KEY_BYTES` zeroed bytes.
    pub fn build(fill: impl FnOnce(&mut [u8])) -> Self {
        const { assert!(A::KEY_BYTES <= LONGEST, "no algorithm has longer keys") };
        let mut bytes = Locked::build(|| Zeroizing::new([0; LONGEST]));
        fill(bytes.lend_mut().split_at_mut(A::KEY_BYTES).0);
        scrub_stack();
        Self { bytes, algorithm: PhantomData }
    }

    /// Copies a key from bytes whose owner wipes its own copy.
    ///
    /// # Errors
    /// [`WrongLength`] when there are not exactly `A::KEY_BYTES` of them.
    pub fn copy_of(bytes: &[u8]) -> Result<Self, WrongLength> {
        if bytes.len() != A::KEY_BYTES {
            return Err(WrongLength { given: bytes.len(), needed: A::KEY_BYTES });
        }
        Ok(Self::build(|key| key.copy_from_slice(bytes)))
    }

    /// Lends the bytes to `read`, the one scope in which they are plain.
    pub fn expose<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        read(self.bytes.lend().split_at(A::KEY_BYTES).0)
    }
}

impl<A: Algorithm> fmt::Debug for Key<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} key]", A::NAME)
    }
}

/// The longest key there is in bytes, that of AES-256-SIV.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    struct Toy;
    impl Algorithm for Toy {
        const KEY_BYTES: usize = 4;
        const NAME: &'static str = "toy";
    }

    #[test]
    fn debug_names_the_algorithm_only() {
        let key = Key::<Toy>::build(|bytes| bytes.fill(9));
        assert_eq!(format!("{key:?}"), "[toy key]");
    }

    #[test]
    fn another_length_is_refused() {
        assert!(Key::<Toy>::copy_of(&[0; 3]).is_err());
        assert!(Key::<Toy>::copy_of(&[0; 4]).is_ok());
    }
}
