use zeroize::Zeroizing;

use super::term::{HEADER_BYTES, Sealed, Term, Terms, be32};
use crate::{secret::SecretBytes, storage::StoreId};

/// Longest value of one record in bytes; longer ones are cut into chunks (FORMAT.md 4).
pub(super) const MAX_VALUE_BYTES: usize = 7_680;

const LABEL: &[u8] = b"kista/record/1\0";
/// Length of the value's length, which stands before it in the plaintext.
const LENGTH_BYTES: usize = 4;
/// Shortest padded plaintext: what is shorter all looks alike.
const MIN_PADDED: usize = 64;

/// What a record is, bound by its flags and associated data.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    /// A whole value.
    Value,
    /// The head of a value in chunks.
    Head,
    /// One chunk.
    Chunk {
        /// Names the value that it belongs to.
        value_id: &'a [u8; 16],
        /// Whether the value ends with it.
        last: bool,
    },
}

/// A record that does not open in its place. There is one variant on purpose: it says nothing on
/// what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damaged;

impl Kind<'_> {
    fn flags(self) -> u8 {
        match self {
            Self::Value => 0,
            Self::Head => 1,
            Self::Chunk { .. } => 2,
        }
    }
}

/// Seals a value of up to [`MAX_VALUE_BYTES`] for one place. `random` is fresh.
pub(super) fn seal(
    term: &Term,
    key: &[u8],
    kind: Kind<'_>,
    value: &[u8],
    random: &[u8; 32],
) -> Vec<u8> {
    let header = term.header(kind.flags());
    let aad = associated_data(term.store_id, &header, key, kind);
    let padded = pad(value);
    let nonce = term.nonce(random, &aad, &padded);
    Term::seal(term.records(), &header, &nonce, &aad, &padded)
}

/// Opens a record in its place.
pub(super) fn open(
    terms: &Terms,
    key: &[u8],
    kind: Kind<'_>,
    record: &[u8],
) -> Result<SecretBytes, Damaged> {
    let sealed = Sealed::parse(record).ok_or(Damaged)?;
    if sealed.flags() != kind.flags() {
        return Err(Damaged);
    }
    let term = sealed.term(terms).ok_or(Damaged)?;
    let aad = associated_data(term.store_id, sealed.header, key, kind);
    let padded = sealed.open(term.records(), &aad).ok_or(Damaged)?;
    unpad(padded)
}

/// Whether a record says that it is the head of a value in chunks. Only opening it proves that.
pub(super) fn is_head(record: &[u8]) -> bool {
    Sealed::parse(record).is_some_and(|sealed| sealed.flags() == Kind::Head.flags())
}

/// This store, this key, this term; for a chunk also its value and the end (FORMAT.md 4). It
/// says nothing about time.
fn associated_data(
    store_id: StoreId,
    header: &[u8; HEADER_BYTES],
    key: &[u8],
    kind: Kind<'_>,
) -> Vec<u8> {
    let mut aad = Vec::with_capacity(LABEL.len() + 16 + HEADER_BYTES + 4 + key.len() + 17);
    aad.extend_from_slice(LABEL);
    aad.extend_from_slice(&store_id.0);
    aad.extend_from_slice(header);
    aad.extend_from_slice(&be32(key.len()));
    aad.extend_from_slice(key);
    match kind {
        Kind::Value | Kind::Head => {}
        Kind::Chunk { value_id, last } => {
            aad.extend_from_slice(value_id);
            aad.push(last.into());
        }
    }
    aad
}

fn pad(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = padded_len(value.len());
    let mut padded = Zeroizing::new(Vec::with_capacity(length));
    padded.extend_from_slice(&be32(value.len()));
    padded.extend_from_slice(value);
    padded.resize(length, 0);
    padded
}

/// Takes the value out of its padding, of which there is one for each length.
fn unpad(padded: SecretBytes) -> Result<SecretBytes, Damaged> {
    let mut padded = padded.into_wiped();
    let length = {
        let (length, rest) = padded.split_first_chunk::<LENGTH_BYTES>().ok_or(Damaged)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Damaged)?;
        let (_, zeros) = rest.split_at_checked(length).ok_or(Damaged)?;
        if padded_len(length) != padded.len() || zeros.iter().any(|&byte| byte != 0) {
            return Err(Damaged);
        }
        length
    };
    padded.drain(..LENGTH_BYTES);
    padded.truncate(length);
    // The same allocation goes on, and is wiped to its whole capacity.
    Ok(SecretBytes::from_vec(std::mem::take(&mut *padded)))
}

/// Length of the plaintext of a value: Padme (Nikitin et al. 2019, section 4) of the value and its
/// length field, at least 64 bytes; at most 12 % longer than what it hides.
fn padded_len(value: usize) -> usize {
    let length = value.saturating_add(LENGTH_BYTES);
    let exponent = length.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1 << exponent.saturating_sub(kept)) - 1;
    (length.saturating_add(mask) & !mask).max(MIN_PADDED)
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{counting, store_id, terms, terms_in, two_terms, vector},
        *,
    };

    /// What is around a padded plaintext: header, nonce, tag.
    const AROUND: usize = 8 + 24 + 16;
    const VALUE: &[u8] = br#"{"password":"hunter2"}"#;

    /// Seals under a nonce of the vectors, which nothing but a test may choose.
    fn seal_with(key: &[u8], kind: Kind<'_>, value: &[u8], nonce: u8) -> Vec<u8> {
        let terms = terms();
        let term = terms.active();
        let header = term.header(kind.flags());
        let aad = associated_data(term.store_id, &header, key, kind);
        Term::seal(term.records(), &header, &counting(nonce), &aad, &pad(value))
    }

    fn opens(terms: &Terms, key: &[u8], kind: Kind<'_>, record: &[u8]) -> Option<Vec<u8>> {
        open(terms, key, kind, record).ok().map(|value| value.expose(<[u8]>::to_vec))
    }

    #[test]
    fn vector_of_a_record() {
        let (key, record) = (vector("/records/0/storage_key"), vector("/records/0/record"));
        assert_eq!(seal_with(&key, Kind::Value, VALUE, 0), record);
        assert_eq!(opens(&terms(), &key, Kind::Value, &record).as_deref(), Some(VALUE));
        assert_eq!(record.len(), AROUND + 64);
    }

    #[test]
    fn vector_of_a_chunk() {
        let (key, record) = (vector("/records/1/storage_key"), vector("/records/1/record"));
        let kind = Kind::Chunk { value_id: &counting(0xf0), last: true };
        assert_eq!(seal_with(&key, kind, b"tail", 0x48), record);
        assert_eq!(opens(&terms(), &key, kind, &record).as_deref(), Some(&b"tail"[..]));
    }

    #[test]
    fn vector_of_a_hedged_nonce() {
        let terms = terms();
        let key = vector("/records/0/storage_key");
        let aad = associated_data(store_id(), &terms.active().header(0), &key, Kind::Value);
        let nonce = terms.active().nonce(&[0x44; 32], &aad, &pad(VALUE));
        assert_eq!(nonce.to_vec(), vector("/hedged_nonce/nonce"));
    }

    #[test]
    fn values_of_every_length_open_again() {
        let terms = terms();
        for length in (0..=300).chain([7_679, MAX_VALUE_BYTES]) {
            let value = vec![7; length];
            let record = seal(terms.active(), b"key", Kind::Value, &value, &[1; 32]);
            assert_eq!(record.len(), AROUND + padded_len(length));
            assert_eq!(opens(&terms, b"key", Kind::Value, &record), Some(value));
        }
        assert_eq!(AROUND + padded_len(MAX_VALUE_BYTES), 7_984);
    }

    #[test]
    fn padme_hides_lengths_at_the_cost_of_an_eighth() {
        for (value, padded) in [(0, 64), (60, 64), (61, 72), (1_000, 1_024), (7_680, 7_936)] {
            assert_eq!(padded_len(value), padded, "{value}");
        }
        for value in 60..20_000 {
            let (length, padded) = (value + LENGTH_BYTES, padded_len(value));
            assert!(padded >= length && (padded - length) * 100 <= length * 12, "{value}");
        }
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let (key, record) = (vector("/records/0/storage_key"), vector("/records/0/record"));
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opens(&terms(), &key, Kind::Value, &flipped), None, "bit {bit}");
        }
        for length in 0..record.len() {
            assert_eq!(opens(&terms(), &key, Kind::Value, &record[..length]), None);
        }
    }

    #[test]
    fn a_record_opens_in_its_own_place_only() {
        let terms = terms();
        let (id, other) = (counting(0xf0), counting(0xe0));
        let chunk = Kind::Chunk { value_id: &id, last: true };
        let seal = |kind| seal(terms.active(), b"key", kind, b"value", &[1; 32]);
        let opens = |terms: &Terms, key: &[u8], kind: Kind<'_>, record: &[u8]| {
            opens(terms, key, kind, record).is_some()
        };

        assert!(opens(&terms, b"key", Kind::Value, &seal(Kind::Value)));
        assert!(opens(&two_terms(), b"key", Kind::Value, &seal(Kind::Value)));
        assert!(!opens(&terms, b"yek", Kind::Value, &seal(Kind::Value)));
        assert!(!opens(&terms, b"key", Kind::Head, &seal(Kind::Value)));
        assert!(!opens(&terms, b"key", chunk, &seal(Kind::Value)));
        let elsewhere = terms_in(StoreId([9; 16]));
        assert!(!opens(&elsewhere, b"key", Kind::Value, &seal(Kind::Value)));

        assert!(opens(&terms, b"key", chunk, &seal(chunk)));
        for kind in [
            Kind::Chunk { value_id: &id, last: false },
            Kind::Chunk { value_id: &other, last: true },
            Kind::Value,
        ] {
            assert!(!opens(&terms, b"key", kind, &seal(chunk)));
        }
    }

    #[test]
    fn a_record_of_another_term_is_refused() {
        let record = seal(two_terms().active(), b"key", Kind::Value, b"value", &[1; 32]);
        assert!(opens(&two_terms(), b"key", Kind::Value, &record).is_some());
        assert!(opens(&terms(), b"key", Kind::Value, &record).is_none());
        let mut claimed = record;
        claimed[7] = 7;
        assert!(opens(&two_terms(), b"key", Kind::Value, &claimed).is_none());
    }

    #[test]
    fn padding_that_is_not_the_one_padding_is_refused() {
        let terms = terms();
        let forge = |padded: &[u8]| {
            let header = terms.active().header(0);
            let aad = associated_data(store_id(), &header, b"key", Kind::Value);
            let nonce = terms.active().nonce(&[1; 32], &aad, padded);
            let record = Term::seal(terms.active().records(), &header, &nonce, &aad, padded);
            opens(&terms, b"key", Kind::Value, &record)
        };
        let padded = |length: u32, total: usize| {
            let mut padded = length.to_be_bytes().to_vec();
            padded.resize(total, 0);
            padded
        };
        assert!(forge(&padded(10, 64)).is_some());
        assert!(forge(&padded(10, 72)).is_none());
        assert!(forge(&padded(10, 63)).is_none());
        assert!(forge(&padded(61, 64)).is_none());
        assert!(forge(&padded(u32::MAX, 64)).is_none());
        assert!(forge(&[0, 0]).is_none());
        let mut dirty = padded(10, 64);
        dirty[63] = 1;
        assert!(forge(&dirty).is_none());
    }

    #[test]
    fn a_repeated_random_still_gives_other_nonces_to_other_inputs() {
        let terms = terms();
        let nonce = |aad: &[u8], text: &[u8]| terms.active().nonce(&[1; 32], aad, text);
        assert_eq!(nonce(b"a", b"b"), nonce(b"a", b"b"));
        assert_ne!(nonce(b"a", b"b"), nonce(b"ab", b""));
        assert_ne!(nonce(b"a", b"b"), nonce(b"a", b"c"));
        assert_ne!(nonce(b"a", b"b"), nonce(b"c", b"b"));
    }

    #[test]
    fn nonces_do_not_repeat() {
        let terms = terms();
        let mut nonces = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let random = crate::crypto::random::array();
            assert!(nonces.insert(terms.active().nonce(&random, b"", b"")));
        }
    }
}
