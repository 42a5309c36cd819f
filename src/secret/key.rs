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

/// A key that enters its own algorithm only, lies in locked memory unless it is one of many, is
/// wiped when dropped and prints as its algorithm's name.
pub struct Key<A: Algorithm> {
    room: Room,
    algorithm: PhantomData<fn() -> A>,
}

/// Where a key lies. The first `A::KEY_BYTES` are the key.
enum Room {
    Locked(Locked<Zeroizing<[u8; LONGEST]>>),
    Common(Box<Zeroizing<[u8; LONGEST]>>),
}

impl Room {
    fn lend(&self) -> &[u8; LONGEST] {
        match self {
            Self::Locked(bytes) => bytes.lend(),
            Self::Common(bytes) => bytes,
        }
    }
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
        Self { room: Room::Locked(bytes), algorithm: PhantomData }
    }

    /// The same in memory that is wiped, but not locked: for keys of which there may be thousands.
    /// Each locked one takes a page of the few that a process may lock.
    pub fn build_common(fill: impl FnOnce(&mut [u8])) -> Self {
        const { assert!(A::KEY_BYTES <= LONGEST, "no algorithm has longer keys") };
        let mut bytes = Box::new(Zeroizing::new([0; LONGEST]));
        fill(bytes.split_at_mut(A::KEY_BYTES).0);
        Self { room: Room::Common(bytes), algorithm: PhantomData }
    }

    /// Copies a key, as [`build_common`](Self::build_common) keeps it.
    ///
    /// # Errors
    /// [`WrongLength`] when there are not exactly `A::KEY_BYTES` of them.
    pub fn common_copy_of(bytes: &[u8]) -> Result<Self, WrongLength> {
        if bytes.len() != A::KEY_BYTES {
            return Err(WrongLength { given: bytes.len(), needed: A::KEY_BYTES });
        }
        Ok(Self::build_common(|key| key.copy_from_slice(bytes)))
    }

    /// Another one of it, in memory of the same sort.
    #[must_use]
    pub fn copy(&self) -> Self {
        let fill = |copy: &mut [u8]| self.expose(|bytes| copy.copy_from_slice(bytes));
        match self.room {
            Room::Locked(_) => Self::build(fill),
            Room::Common(_) => Self::build_common(fill),
        }
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
        read(self.room.lend().split_at(A::KEY_BYTES).0)
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
