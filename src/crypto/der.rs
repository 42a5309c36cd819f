//! The DER of keys and signatures (X.690 §10): just the types that they are made of, read
//! strictly and written in one way.

use zeroize::Zeroizing;

use crate::secret::SecretBytes;

/// Why bytes or numbers are not the key asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The encoding is another one, or is damaged.
    #[error("the key is not {expected}")]
    Form {
        /// What was asked for.
        expected: &'static str,
    },
    /// A key for another algorithm or curve.
    #[error("the key is of another kind than {expected}")]
    Kind {
        /// The algorithm or curves asked for.
        expected: &'static str,
    },
    /// Coordinates of no point of the curve.
    #[error("the public key is no point of the curve {curve}")]
    OffCurve {
        /// The curve's name.
        curve: &'static str,
    },
    /// A private number that is zero, or the curve's order or above.
    #[error("the private key is not within the order of the curve {curve}")]
    OutOfRange {
        /// The curve's name.
        curve: &'static str,
    },
    /// A modulus of another length.
    #[error("an RSA key of {bits} bits is not supported; make one of 2048, 3072 or 4096")]
    Bits {
        /// Length of the modulus.
        bits: usize,
    },
    /// A public exponent that is even, below 65537 or longer than 33 bits.
    #[error("the public exponent is not supported; make an RSA key with 65537")]
    Exponent,
    /// Parts that do not belong together, as public and private ones must.
    #[error("the parts of the key do not belong together")]
    Inconsistent,
}

/// Reads values that stand one after the other.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The values in `bytes`.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The values of the one sequence that `bytes` are.
    pub(super) fn of_sequence(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Self::new(bytes);
        let inner = outer.value(SEQUENCE)?;
        outer.end().map(|()| Self::new(inner))
    }

    /// The content of the next value when it has this tag; else the value is still the next.
    pub(super) fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (length, rest) = length_of(self.rest.strip_prefix(&[tag])?)?;
        let (content, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(content)
    }

    /// A number that is not negative, without leading zeros: 0 has no bytes.
    pub(super) fn unsigned(&mut self) -> Option<&'a [u8]> {
        match self.value(INTEGER)? {
            [0] => Some(&[]),
            // The zero keeps the number from being negative, and stands nowhere else (§8.3.2).
            [0, rest @ ..] => (*rest.first()? >= 0x80).then_some(rest),
            number => (*number.first()? < 0x80).then_some(number),
        }
    }

    /// A bit string of whole bytes.
    pub(super) fn bits(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.value(tag)?.strip_prefix(&[0])
    }

    /// That no value is left.
    pub(super) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

/// The length that `bytes` begin with, and the bytes behind it. Lengths that could be written
/// shorter are not DER (§10.1), and no key needs more than two bytes for one.
fn length_of(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    match first {
        0..=0x7f => Some((usize::from(first), rest)),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (length >= 0x80).then_some((usize::from(length), rest))
        }
        0x82 => {
            let (&length, rest) = rest.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes(length));
            (length >= 0x100).then_some((length, rest))
        }
        _ => None,
    }
}

/// A value with this tag whose content is `parts`, allocated once.
///
/// # Panics
/// When the content is 64 KiB or longer, which no key is.
pub(super) fn value(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    #[expect(clippy::expect_used, reason = "keys are shorter by far")]
    let [high, low] = u16::try_from(length).expect("a key is below 64 KiB").to_be_bytes();
    let mut value = Zeroizing::new(Vec::with_capacity(length + 4));
    match (high, low) {
        (0, 0..=0x7f) => value.extend([tag, low]),
        (0, _) => value.extend([tag, 0x81, low]),
        _ => value.extend([tag, 0x82, high, low]),
    }
    for part in parts {
        value.extend_from_slice(part);
    }
    value
}

/// A sequence of values, allocated once.
pub(super) fn sequence<const N: usize>(values: &[Zeroizing<Vec<u8>>; N]) -> Zeroizing<Vec<u8>> {
    value(SEQUENCE, &values.each_ref().map(|value| value.as_slice()))
}

/// A number that is not negative, from big-endian bytes.
pub(super) fn unsigned(number: &[u8]) -> Zeroizing<Vec<u8>> {
    let number = without_zeros(number);
    let sign: &[u8] = if number.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    value(INTEGER, &[sign, number])
}

/// `number` without leading zeros.
pub(super) fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.split_at(zeros).1
}

/// What a PKCS#8 private key holds (RFC 5208 §5; RFC 5958 §2 with a public key).
pub(super) struct PrivateKeyInfo<'a> {
    /// The content of the AlgorithmIdentifier.
    pub(super) algorithm: &'a [u8],
    /// The key in the algorithm's own encoding.
    pub(super) key: &'a [u8],
    /// The public key, in version 2 and there optional.
    pub(super) public: Option<&'a [u8]>,
}

impl<'a> PrivateKeyInfo<'a> {
    /// Reads either version; attributes are passed over.
    pub(super) fn read(der: &'a [u8]) -> Result<Self, InvalidKey> {
        Self::parse(der).ok_or(InvalidKey::Form { expected: "a PKCS#8 private key in DER" })
    }

    fn parse(der: &'a [u8]) -> Option<Self> {
        let mut info = Reader::of_sequence(der)?;
        let second = match info.unsigned()? {
            [] => false,
            [1] => true,
            _ => return None,
        };
        let algorithm = info.value(SEQUENCE)?;
        let key = info.value(OCTET_STRING)?;
        let _attributes = info.value(CONTEXT_0);
        let public = if second { info.bits(CONTEXT_1_PRIMITIVE) } else { None };
        info.end().map(|()| Self { algorithm, key, public })
    }

    /// Writes version 1, which all readers take.
    pub(super) fn write(algorithm: &[u8], key: &[u8]) -> SecretBytes {
        let parts = [unsigned(&[]), value(SEQUENCE, &[algorithm]), value(OCTET_STRING, &[key])];
        secret(sequence(&parts))
    }
}

/// Reads a SubjectPublicKeyInfo (RFC 5280 §4.1): the content of its AlgorithmIdentifier, and the
/// key in the algorithm's own encoding.
pub(super) fn read_public(der: &[u8]) -> Result<(&[u8], &[u8]), InvalidKey> {
    let read = || {
        let mut info = Reader::of_sequence(der)?;
        let (algorithm, key) = (info.value(SEQUENCE)?, info.bits(BIT_STRING)?);
        info.end().map(|()| (algorithm, key))
    };
    read().ok_or(InvalidKey::Form { expected: "a public key (SubjectPublicKeyInfo) in DER" })
}

/// Writes a SubjectPublicKeyInfo.
pub(super) fn write_public(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let parts = [value(SEQUENCE, &[algorithm]), value(BIT_STRING, &[&[0], key])];
    sequence(&parts).to_vec()
}

/// Hands a written key over without a copy.
pub(super) fn secret(mut written: Zeroizing<Vec<u8>>) -> SecretBytes {
    SecretBytes::from_vec(std::mem::take(&mut *written))
}

// The tags of X.690 §8.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const SEQUENCE: u8 = 0x30;
/// The optional fields of keys: explicit, or implicit ones of a constructed type.
pub(super) const CONTEXT_0: u8 = 0xa0;
pub(super) const CONTEXT_1: u8 = 0xa1;
const CONTEXT_1_PRIMITIVE: u8 = 0x81;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_read_in_their_one_form() {
        let long = [&[OCTET_STRING, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        assert_eq!(Reader::new(&long).value(OCTET_STRING), Some(&[7; 256][..]));
        let refused: [&[u8]; 9] = [
            &[],
            &[OCTET_STRING],
            &[OCTET_STRING, 2, 7],
            &[OCTET_STRING, 0x80, 7, 0, 0],
            &[OCTET_STRING, 0x81, 1, 7],
            &[OCTET_STRING, 0x82, 0, 1, 7],
            &[OCTET_STRING, 0x83, 0, 0, 1, 7],
            &[OCTET_STRING, 0x81],
            &[INTEGER, 1, 7],
        ];
        for bytes in refused {
            assert_eq!(Reader::new(bytes).value(OCTET_STRING), None, "{bytes:x?}");
        }
    }

    #[test]
    fn numbers_are_read_in_their_one_form() {
        let read = |bytes: &'static [u8]| Reader::new(bytes).unsigned();
        assert_eq!(read(&[INTEGER, 1, 0]), Some(&[][..]));
        assert_eq!(read(&[INTEGER, 1, 0x7f]), Some(&[0x7f][..]));
        assert_eq!(read(&[INTEGER, 2, 0, 0x80]), Some(&[0x80][..]));
        let refused: [&[u8]; 4] =
            [&[INTEGER, 0], &[INTEGER, 1, 0x80], &[INTEGER, 2, 0, 0x7f], &[INTEGER, 2, 0, 0]];
        for bytes in refused {
            assert_eq!(read(bytes), None, "{bytes:x?}");
        }
    }

    #[test]
    fn bytes_behind_and_other_versions_are_refused() {
        let written = PrivateKeyInfo::write(&[6, 1, 42], &[1, 2, 3]);
        written.expose(|written| {
            let read = PrivateKeyInfo::read(written).unwrap();
            assert_eq!(
                (read.algorithm, read.key, read.public),
                (&[6, 1, 42][..], &[1, 2, 3][..], None)
            );
            assert!(PrivateKeyInfo::read(&[written, &[0]].concat()).is_err());
            let mut other = written.to_vec();
            other[4] = 2;
            assert!(PrivateKeyInfo::read(&other).is_err());
        });
        let public = write_public(&[6, 1, 42], &[1, 2, 3]);
        assert_eq!(read_public(&public), Ok((&[6, 1, 42][..], &[1, 2, 3][..])));
        assert!(read_public(&[&public[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(number: Vec<u8>, content: Vec<u8>) {
            let written = [unsigned(&number), value(OCTET_STRING, &[&content])];
            let written = sequence(&written);
            let mut reader = Reader::of_sequence(&written).unwrap();
            prop_assert_eq!(reader.unsigned(), Some(without_zeros(&number)));
            prop_assert_eq!(reader.value(OCTET_STRING), Some(&content[..]));
            prop_assert!(reader.end().is_some());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            prop_assert!(PrivateKeyInfo::read(&bytes).is_err());
            prop_assert!(read_public(&bytes).is_err());
        }
    }
}
