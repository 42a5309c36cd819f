use super::{
    fields::Fields,
    record::{self, Damaged, Kind, MAX_VALUE_BYTES},
    term::{Term, Terms},
};
use crate::{
    crypto::random,
    secret::SecretBytes,
    storage::{MAX_BATCH_BYTES, Write},
};

/// Length of a head's value in bytes: total, number of chunks, value id.
const HEAD_BYTES: usize = 8 + 4 + 16;

/// The head of a value in chunks (FORMAT.md 4). The key, the value id and the last flag bind each
/// chunk to its place; the head binds their number and the whole length.
#[derive(Debug)]
pub(super) struct LargeHead {
    total: usize,
    chunks: u32,
    value_id: [u8; 16],
}

/// Seals a value for its key: one record, or a head and its chunks, in the order of their keys.
pub(super) fn seal(term: &Term, key: &[u8], value: &[u8]) -> Vec<Write> {
    if value.len() <= MAX_VALUE_BYTES {
        let record = record::seal(term, key, Kind::Value, value, &random::array());
        return vec![Write { key: key.to_vec(), record: Some(record) }];
    }
    let chunks = value.len().div_ceil(MAX_VALUE_BYTES);
    // One call to the system for all their nonces.
    let mut randoms = vec![0; 32 * (chunks + 1)];
    random::fill(&mut randoms);
    let (randoms, _) = randoms.as_chunks::<32>();
    let head = LargeHead { total: value.len(), chunks: number(chunks), value_id: random::array() };
    let mut writes = Vec::with_capacity(chunks + 1);
    let mut put = |key: Vec<u8>, kind, value: &[u8], random| {
        let record = record::seal(term, &key, kind, value, random);
        writes.push(Write { key, record: Some(record) });
    };
    let mut randoms = randoms.iter();
    if let Some(random) = randoms.next() {
        put(key.to_vec(), Kind::Head, &head.encode(), random);
    }
    for ((index, chunk), random) in (1..).zip(value.chunks(MAX_VALUE_BYTES)).zip(randoms) {
        put(chunk_key(key, index), head.chunk(index), chunk, random);
    }
    writes
}

/// The key of a chunk, from 1.
pub(super) fn chunk_key(key: &[u8], index: u32) -> Vec<u8> {
    [key, &index.to_be_bytes()].concat()
}

/// Which chunk of the value at `key` a key is of; `None` if of none.
pub(super) fn chunk_index(key: &[u8], chunk: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(chunk.strip_prefix(key)?.try_into().ok()?))
}

impl LargeHead {
    /// Opens a head in its place.
    pub(super) fn open(terms: &Terms, key: &[u8], record: &[u8]) -> Result<Self, Damaged> {
        let value = record::open(terms, key, Kind::Head, record)?;
        value.expose(Self::parse).ok_or(Damaged)
    }

    fn encode(&self) -> Vec<u8> {
        let total = u64::try_from(self.total).unwrap_or(u64::MAX);
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(&total.to_be_bytes());
        bytes.extend_from_slice(&self.chunks.to_be_bytes());
        bytes.extend_from_slice(&self.value_id);
        bytes
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(value);
        let total = usize::try_from(fields.be64()?).ok()?;
        let (chunks, value_id) = (fields.be32()?, *fields.bytes()?);
        fields.end()?;
        // No batch could have written a longer one, so none is believed.
        let fits = (MAX_VALUE_BYTES + 1..=MAX_BATCH_BYTES).contains(&total);
        let counted = number(total.div_ceil(MAX_VALUE_BYTES)) == chunks;
        (fits && counted).then_some(Self { total, chunks, value_id })
    }

    /// Length of the whole value in bytes.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Number of chunks.
    pub(super) fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Opens one chunk in its place and checks its length.
    pub(super) fn open_chunk(
        &self,
        terms: &Terms,
        key: &[u8],
        index: u32,
        record: &[u8],
    ) -> Result<SecretBytes, Damaged> {
        let chunk = record::open(terms, &chunk_key(key, index), self.chunk(index), record)?;
        let before = usize::try_from(index.saturating_sub(1)).map_err(|_| Damaged)?;
        let left = self.total.saturating_sub(before.saturating_mul(MAX_VALUE_BYTES));
        (chunk.len() == left.min(MAX_VALUE_BYTES)).then_some(chunk).ok_or(Damaged)
    }

    fn chunk(&self, index: u32) -> Kind<'_> {
        Kind::Chunk { value_id: &self.value_id, last: index == self.chunks }
    }
}

/// A number of chunks; a batch holds a few hundred at most.
fn number(chunks: usize) -> u32 {
    u32::try_from(chunks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::terms, *};

    fn sealed(length: usize) -> (Vec<u8>, Vec<Write>) {
        let value: Vec<u8> = (0..=250).cycle().take(length).collect();
        let writes = seal(terms().active(), b"key", &value);
        (value, writes)
    }

    fn record(write: &Write) -> &[u8] {
        write.record.as_deref().unwrap()
    }

    #[test]
    fn a_value_is_one_record_or_a_head_and_full_chunks() {
        for (length, writes) in [(7_679, 1), (7_680, 1), (7_681, 3), (15_360, 3), (1 << 20, 138)] {
            let (_, sealed) = sealed(length);
            assert_eq!(sealed.len(), writes, "{length}");
            assert!(sealed.is_sorted_by(|one, next| one.key < next.key));
            assert!(sealed.iter().all(|write| record(write).len() < 8_192));
        }
    }

    #[test]
    fn chunks_open_in_their_own_place_only() {
        let terms = terms();
        let (value, writes) = sealed(20_000);
        let head = LargeHead::open(&terms, b"key", record(&writes[0])).unwrap();
        assert_eq!((head.total(), head.chunks()), (20_000, 3));
        let mut whole = Vec::new();
        for (index, write) in (1..).zip(&writes[1..]) {
            assert_eq!(write.key, chunk_key(b"key", index));
            let chunk = head.open_chunk(&terms, b"key", index, record(write)).unwrap();
            chunk.expose(|chunk| whole.extend_from_slice(chunk));
        }
        assert_eq!(whole, value);

        let (_, other) = sealed(20_000);
        assert!(head.open_chunk(&terms, b"key", 1, record(&other[1])).is_err());
        assert!(head.open_chunk(&terms, b"key", 1, record(&writes[2])).is_err());
        assert!(head.open_chunk(&terms, b"key", 4, record(&writes[3])).is_err());
    }

    #[test]
    fn a_head_that_does_not_count_its_chunks_is_refused() {
        let head = |total, chunks| LargeHead { total, chunks, value_id: [7; 16] }.encode();
        assert!(LargeHead::parse(&head(7_681, 2)).is_some());
        assert!(LargeHead::parse(&head(MAX_BATCH_BYTES, 205)).is_some());
        assert!(LargeHead::parse(&head(7_681, 1)).is_none());
        assert!(LargeHead::parse(&head(7_680, 1)).is_none());
        assert!(LargeHead::parse(&head(15_361, 2)).is_none());
        assert!(LargeHead::parse(&head(usize::MAX, u32::MAX)).is_none());
        assert!(LargeHead::parse(&head(7_681, 2)[..27]).is_none());
    }

    #[test]
    fn a_last_chunk_of_another_length_is_refused() {
        let terms = terms();
        let value_id = [7; 16];
        let head = LargeHead { total: 7_690, chunks: 2, value_id };
        let chunk = |length: usize| {
            let kind = Kind::Chunk { value_id: &value_id, last: true };
            let key = chunk_key(b"key", 2);
            let record = record::seal(terms.active(), &key, kind, &vec![0; length], &[1; 32]);
            head.open_chunk(&terms, b"key", 2, &record).is_ok()
        };
        assert!(chunk(10));
        assert!(!chunk(9));
        assert!(!chunk(11));
    }
}
