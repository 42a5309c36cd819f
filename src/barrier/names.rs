use zeroize::Zeroizing;

use crate::crypto::siv::Siv;

/// Limit of one segment in bytes.
pub const MAX_SEGMENT_BYTES: usize = 255;
/// Limit of a path's segments, those of the view included.
pub const MAX_SEGMENTS: usize = 32;
/// Limit of a path in bytes: its segments, those of the view included, joined by slashes.
pub const MAX_PATH_BYTES: usize = 1_024;

/// Padded lengths that a segment may have; its code is the place in this list, from 1
/// (FORMAT.md 5).
const BUCKETS: [usize; 5] = [16, 32, 64, 128, 256];

/// Length of the code and the synthetic IV before a segment's ciphertext.
const SEGMENT_FRONT: usize = 17;

/// Why a path names nothing that could be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// No segment at all, where a record is meant.
    #[error("the path is empty")]
    Empty,
    /// Two slashes in a row, or one at an end.
    #[error("the path holds an empty segment")]
    EmptySegment,
    /// `.` or `..`.
    #[error("the path is relative")]
    Relative,
    /// A slash inside a segment, or a control character.
    #[error("the path holds a character that no name may hold")]
    Character,
    /// Over [`MAX_SEGMENT_BYTES`].
    #[error("a segment of the path is longer than {MAX_SEGMENT_BYTES} bytes")]
    SegmentTooLong,
    /// Over [`MAX_SEGMENTS`].
    #[error("the path has more than {MAX_SEGMENTS} segments")]
    TooManySegments,
    /// Over [`MAX_PATH_BYTES`].
    #[error("the path is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
}

/// Refuses what cannot be the name of one segment, so that a name has one encoding only.
///
/// # Errors
/// [`PathError`]: empty, `.` or `..`, over 255 bytes, a slash or a control character in it.
pub fn check_name(name: &str) -> Result<(), PathError> {
    if name.is_empty() {
        return Err(PathError::EmptySegment);
    }
    if name.len() > MAX_SEGMENT_BYTES {
        return Err(PathError::SegmentTooLong);
    }
    if matches!(name, "." | "..") {
        return Err(PathError::Relative);
    }
    if name.chars().any(|c| c == '/' || c.is_control()) {
        return Err(PathError::Character);
    }
    Ok(())
}

/// A stored segment that does not open, or is not the one encoding of its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NameDamaged;

/// One encrypted segment inside a storage key.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    code: u8,
    /// Synthetic IV: a PRF value of the name and of the whole path above it, and so what stands for
    /// this segment as the parent of the next.
    pub(super) siv: &'a [u8; 16],
    ciphertext: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Splits the segment off that `bytes` begin with; `None` if they do not begin with one.
    pub(super) fn split_off(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&code, rest) = bytes.split_first()?;
        let bucket = *BUCKETS.get(usize::from(code).checked_sub(1)?)?;
        let (siv, rest) = rest.split_first_chunk()?;
        let (ciphertext, rest) = rest.split_at_checked(bucket)?;
        Some((Self { code, siv, ciphertext }, rest))
    }

    /// Length in a storage key, in bytes.
    pub(super) fn len(&self) -> usize {
        SEGMENT_FRONT + self.ciphertext.len()
    }

    /// Opens the name under its parent.
    pub(super) fn open(&self, siv: &Siv, parent: &[u8; 16]) -> Result<String, NameDamaged> {
        let padded = siv.open(parent, self.siv, self.ciphertext).map_err(|_| NameDamaged)?;
        padded.expose(|padded| unpad(self.code, padded)).ok_or(NameDamaged)
    }
}

/// Appends the encrypted segment of `name` to a key and returns what stands for it as a parent.
/// The name has passed [`check_name`].
pub(super) fn append(
    siv: &Siv,
    parent: &[u8; 16],
    name: &str,
    key: &mut Vec<u8>,
) -> Result<[u8; 16], PathError> {
    let length = u8::try_from(name.len()).map_err(|_| PathError::SegmentTooLong)?;
    let (code, bucket) = bucket_of(name.len()).ok_or(PathError::SegmentTooLong)?;
    let mut padded = Zeroizing::new(Vec::with_capacity(bucket));
    padded.push(length);
    padded.extend_from_slice(name.as_bytes());
    padded.resize(bucket, 0);
    // RFC 5297 §2.4, with the parent as the one component of associated data.
    let (synthetic, ciphertext) = siv.seal(parent, &padded);
    key.push(code);
    key.extend_from_slice(&synthetic);
    key.extend_from_slice(&ciphertext);
    Ok(synthetic)
}

/// Length in a storage key of the segment of a name of `length` bytes, at most.
pub(super) fn encoded_len(length: usize) -> usize {
    SEGMENT_FRONT + bucket_of(length).map_or(0, |(_, bucket)| bucket)
}

/// The code and length of the smallest bucket that fits the length byte and the name.
fn bucket_of(length: usize) -> Option<(u8, usize)> {
    (1..).zip(BUCKETS).find(|&(_, bucket)| length < bucket)
}

/// The name in a padded segment, if this is the one way to pad it and the name is one.
fn unpad(code: u8, padded: &[u8]) -> Option<String> {
    let (&length, rest) = padded.split_first()?;
    let (name, zeros) = rest.split_at_checked(length.into())?;
    let smallest = bucket_of(name.len())?.0 == code;
    let name = std::str::from_utf8(name).ok()?;
    let whole = smallest && zeros.iter().all(|&byte| byte == 0) && check_name(name).is_ok();
    whole.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::vector, *};
    use crate::{crypto::random, secret::Key};

    const PARENT: [u8; 16] = [7; 16];

    fn siv() -> Siv {
        Siv::new(&random::key())
    }

    fn encode(siv: &Siv, parent: &[u8; 16], name: &str) -> Vec<u8> {
        let mut key = Vec::new();
        append(siv, parent, name, &mut key).unwrap();
        key
    }

    fn decode(siv: &Siv, parent: &[u8; 16], key: &[u8]) -> Result<String, NameDamaged> {
        let (segment, rest) = Segment::split_off(key).ok_or(NameDamaged)?;
        assert!(rest.is_empty());
        segment.open(siv, parent)
    }

    /// A segment as a careless writer with the key would make it.
    fn forge(siv: &Siv, code: u8, padded: &[u8]) -> Vec<u8> {
        let (synthetic, ciphertext) = siv.seal(&PARENT, padded);
        [&[code], &synthetic[..], &ciphertext].concat()
    }

    #[test]
    fn vectors_of_the_format() {
        let siv = Siv::new(&Key::copy_of(&vector("/names/key")).unwrap());
        let mut parent = vector("/names/space_id").try_into().unwrap();
        for (n, name) in ["data", "billing", "database-password"].iter().enumerate() {
            let mut key = Vec::new();
            let next = append(&siv, &parent, name, &mut key).unwrap();
            assert_eq!(key, vector(&format!("/names/segments/{n}/segment")));
            assert_eq!(decode(&siv, &parent, &key).as_deref(), Ok(*name));
            parent = next;
        }
    }

    #[test]
    fn every_length_takes_the_smallest_bucket_and_opens_again() {
        let siv = siv();
        for length in 1..=MAX_SEGMENT_BYTES {
            let name = "é".repeat(length / 2) + &"x".repeat(length % 2);
            let key = encode(&siv, &PARENT, &name);
            let bucket = BUCKETS.into_iter().find(|bucket| length < *bucket).unwrap();
            assert_eq!(key.len(), 17 + bucket, "{length}");
            assert_eq!(key.len(), encoded_len(length));
            assert_eq!(decode(&siv, &PARENT, &key).unwrap(), name);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for (name, error) in [
            ("", PathError::EmptySegment),
            (".", PathError::Relative),
            ("..", PathError::Relative),
            ("a/b", PathError::Character),
            ("a\0", PathError::Character),
            ("a\u{85}", PathError::Character),
            (&"x".repeat(256), PathError::SegmentTooLong),
        ] {
            assert_eq!(check_name(name), Err(error), "{name:?}");
        }
        for name in ["...", ".a", "a b+%", "ü", &"x".repeat(255)] {
            assert_eq!(check_name(name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn one_name_differs_under_two_parents_and_two_keys() {
        let (one, other) = (siv(), siv());
        let key = encode(&one, &PARENT, "app");
        assert_eq!(key, encode(&one, &PARENT, "app"));
        assert_ne!(key, encode(&one, &[8; 16], "app"));
        assert_ne!(key, encode(&other, &PARENT, "app"));
        assert_eq!(decode(&one, &[8; 16], &key), Err(NameDamaged));
        assert_eq!(decode(&other, &PARENT, &key), Err(NameDamaged));
    }

    #[test]
    fn another_encoding_of_a_name_is_refused() {
        let siv = siv();
        let padded = |bucket: usize, name: &[u8]| {
            let mut padded = vec![u8::try_from(name.len()).unwrap()];
            padded.extend_from_slice(name);
            padded.resize(bucket, 0);
            padded
        };
        assert!(decode(&siv, &PARENT, &forge(&siv, 1, &padded(16, b"app"))).is_ok());
        for forged in [
            forge(&siv, 2, &padded(32, b"app")),
            forge(&siv, 1, &padded(16, b"")),
            forge(&siv, 1, &padded(16, b"..")),
            forge(&siv, 1, &padded(16, b"a/b")),
            forge(&siv, 1, &padded(16, &[0xff])),
            forge(&siv, 1, &[3, b'a', b'p', b'p', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            forge(&siv, 1, &[16; 16]),
        ] {
            assert_eq!(decode(&siv, &PARENT, &forged), Err(NameDamaged));
        }
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let siv = siv();
        let key = encode(&siv, &PARENT, "app");
        for bit in 8..key.len() * 8 {
            let mut flipped = key.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&siv, &PARENT, &flipped), Err(NameDamaged), "bit {bit}");
        }
    }

    #[test]
    fn stumps_are_no_segments() {
        let key = encode(&siv(), &PARENT, "app");
        assert!(Segment::split_off(&key[..32]).is_none());
        assert!(Segment::split_off(&[]).is_none());
        for code in [0, 6, 0xff] {
            let mut key = key.clone();
            key[0] = code;
            assert!(Segment::split_off(&key).is_none());
        }
    }
}
