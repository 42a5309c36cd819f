use sha2::{Digest as _, Sha256};

use super::{HeadAt, StoreId, batch, cursor::Cursor};

/// Journal records begin at multiples of this many bytes.
pub(super) const BLOCK: usize = 512;
/// Length of what stands before a record's body.
pub(super) const FRONT_BYTES: usize = 56;
/// Length of the chain value that ends a record.
pub(super) const CHAIN_BYTES: usize = 32;
/// No body is longer, whatever its length says (FORMAT.md 7).
pub(super) const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;

const MAGIC: &[u8; 4] = b"KJR1";
const CHAIN_LABEL: &[u8] = b"kista/journal/1\0";
const PUT: u8 = 1;
const DELETE: u8 = 2;
/// op, key length, record length.
const WRITE_OVERHEAD: usize = 9;

/// A put (with its record) or a delete (without).
pub(super) type WriteRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// The random name of a segment, carried by each of its records.
pub(super) type SegmentId = [u8; 8];

/// Where a record stands in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) segment_id: SegmentId,
    pub(super) prev_chain: [u8; 32],
}

/// What can be read of a record before its body: enough to recognise it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    pub(super) place: Place,
    pub(super) body_bytes: u64,
}

impl Front {
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        if &cursor.array::<4>()? != MAGIC {
            return None;
        }
        let body_bytes = u64::from(cursor.be32()?);
        let place =
            Place { seq: cursor.be64()?, segment_id: cursor.array()?, prev_chain: cursor.array()? };
        (body_bytes <= MAX_BODY_BYTES).then_some(Self { place, body_bytes })
    }
}

/// A record with everything but its sealed head and its chain value.
#[derive(Debug)]
pub(super) struct Draft {
    bytes: Vec<u8>,
}

impl Draft {
    pub(super) fn new<'a>(
        place: &Place,
        writes: impl Iterator<Item = WriteRef<'a>> + Clone,
        head_len: usize,
    ) -> Self {
        let length = record_len(writes.clone(), head_len);
        let mut bytes = Vec::with_capacity(padded(length) + BLOCK);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&be32(length - FRONT_BYTES - CHAIN_BYTES));
        bytes.extend_from_slice(&place.seq.to_be_bytes());
        bytes.extend_from_slice(&place.segment_id);
        bytes.extend_from_slice(&place.prev_chain);
        bytes.extend_from_slice(&be32(writes.clone().count()));
        for (key, record) in writes {
            bytes.push(if record.is_some() { PUT } else { DELETE });
            push_lp(&mut bytes, key);
            if let Some(record) = record {
                push_lp(&mut bytes, record);
            }
        }
        bytes.extend_from_slice(&be32(head_len));
        Self { bytes }
    }

    /// SHA-256 of everything before the sealed head, which the head binds.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }

    /// Adds the sealed head, of the length announced, and the chain value, which is returned too.
    pub(super) fn finish(self, store_id: StoreId, sealed: &[u8]) -> (Vec<u8>, [u8; 32]) {
        let mut bytes = self.bytes;
        bytes.extend_from_slice(sealed);
        let chain = chain(store_id, &bytes);
        bytes.extend_from_slice(&chain);
        (bytes, chain)
    }
}

/// A whole record, its structure and chain value checked; its head is for the seal to judge.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) place: Place,
    pub(super) writes: Vec<WriteRef<'a>>,
    before_head: &'a [u8],
    pub(super) sealed: &'a [u8],
    pub(super) chain: [u8; 32],
}

impl<'a> Record<'a> {
    /// Reads a record of exactly these bytes (without padding); `None` for anything else.
    pub(super) fn decode(store_id: StoreId, bytes: &'a [u8]) -> Option<Self> {
        let front = Front::decode(bytes)?;
        let (before, &written) = bytes.split_last_chunk::<CHAIN_BYTES>()?;
        let chain = chain(store_id, before);
        if chain != written {
            return None;
        }
        let body = before.get(FRONT_BYTES..)?;
        if u64::try_from(body.len()) != Ok(front.body_bytes) {
            return None;
        }
        let mut cursor = Cursor::new(body);
        let writes = decode_writes(&mut cursor)?;
        let sealed = cursor.lp()?;
        if !cursor.is_empty() {
            return None;
        }
        let before_head = before.strip_suffix(sealed)?;
        Some(Self { place: front.place, writes, before_head, sealed, chain })
    }

    /// What its head is bound to. Costs as much as the chain value: only who opens heads asks.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.before_head).into()
    }

    /// What the seal opens.
    pub(super) fn head(&self) -> HeadAt<'a> {
        HeadAt {
            seq: self.place.seq,
            prev_chain: self.place.prev_chain,
            digest: self.digest(),
            sealed: self.sealed,
        }
    }

    /// The writes, a put with the place of its record in bytes from the beginning of this one.
    pub(super) fn places(&self) -> impl Iterator<Item = (&'a [u8], Option<(usize, &'a [u8])>)> {
        let mut at = FRONT_BYTES + 4;
        self.writes.iter().map(move |&(key, record)| {
            at += WRITE_OVERHEAD - 4 + key.len();
            let place = record.map(|record| {
                at += 4 + record.len();
                (at - record.len(), record)
            });
            (key, place)
        })
    }

    /// Bytes that this record takes in the journal.
    pub(super) fn padded_len(&self) -> usize {
        padded(self.before_head.len() + self.sealed.len() + CHAIN_BYTES)
    }
}

fn decode_writes<'a>(cursor: &mut Cursor<'a>) -> Option<Vec<WriteRef<'a>>> {
    let count = cursor.be32()?;
    // Grown as they are read: a count is no reason to reserve memory.
    let mut writes = Vec::new();
    for _ in 0..count {
        let op = cursor.byte()?;
        let key = cursor.lp()?;
        batch::check_key(key).ok()?;
        let record = match op {
            PUT => Some(cursor.lp()?),
            DELETE => None,
            _ => return None,
        };
        if let Some(record) = record {
            batch::check_record(record).ok()?;
        }
        writes.push((key, record));
    }
    Some(writes)
}

/// Length in bytes of the record of these writes, without padding.
pub(super) fn record_len<'a>(writes: impl Iterator<Item = WriteRef<'a>>, head_len: usize) -> usize {
    let writes: usize = writes
        .map(|(key, record)| match record {
            Some(record) => WRITE_OVERHEAD + key.len() + record.len(),
            None => WRITE_OVERHEAD - 4 + key.len(),
        })
        .sum();
    FRONT_BYTES + 4 + writes + 4 + head_len + CHAIN_BYTES
}

/// The next multiple of a block.
pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(BLOCK)
}

/// Checksum and link in one (FORMAT.md 7).
fn chain(store_id: StoreId, before: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(CHAIN_LABEL)
        .chain_update(store_id.0)
        .chain_update(before)
        .finalize()
        .into()
}

fn push_lp(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&be32(part.len()));
    bytes.extend_from_slice(part);
}

#[expect(clippy::expect_used, reason = "a group holds 4 MiB and one batch more at most")]
fn be32(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("a journal record is shorter than 4 GiB").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER as HEX;

    use super::*;

    /// Bytes of the format's vectors, by JSON pointer below `/journal`.
    fn given(pointer: &str) -> Vec<u8> {
        let file = include_str!("../../tests/vectors/format.json");
        let vectors: serde_json::Value = serde_json::from_str(file).unwrap();
        let text = vectors["journal"].pointer(pointer).and_then(serde_json::Value::as_str);
        HEX.decode(text.unwrap().as_bytes()).unwrap()
    }

    fn store_id() -> StoreId {
        StoreId(given("/store_id").try_into().unwrap())
    }

    fn draft() -> Draft {
        let (key, record) = (given("/writes/0/key"), given("/writes/0/record"));
        let place = Place {
            seq: 42,
            segment_id: given("/segment_id").try_into().unwrap(),
            prev_chain: given("/prev_chain").try_into().unwrap(),
        };
        let writes = [(key.as_slice(), Some(record.as_slice()))];
        Draft::new(&place, writes.iter().copied(), given("/sealed_head").len())
    }

    /// The journal record of the format's vectors.
    fn vector() -> (Vec<u8>, [u8; 32]) {
        draft().finish(store_id(), &given("/sealed_head"))
    }

    #[test]
    fn record_and_chain_equal_the_vector() {
        assert_eq!(draft().bytes, given("/before_sealed_head"));
        assert_eq!(draft().digest().as_slice(), given("/digest"));
        let (bytes, chain) = vector();
        assert_eq!(bytes.len(), 564);
        assert_eq!(chain.as_slice(), given("/chain"));
    }

    #[test]
    fn record_reads_back() {
        let (bytes, chain) = vector();
        let record = Record::decode(store_id(), &bytes).unwrap();
        assert_eq!(record.place.seq, 42);
        assert_eq!(record.chain, chain);
        assert_eq!(record.sealed, given("/sealed_head"));
        assert_eq!(record.writes.len(), 1);
        assert_eq!(record.writes[0].0, given("/writes/0/key"));
        assert_eq!(record.writes[0].1.unwrap(), given("/writes/0/record"));
        let (_, place) = record.places().next().unwrap();
        let (at, found) = place.unwrap();
        assert_eq!(&bytes[at..at + found.len()], given("/writes/0/record"));
        assert_eq!(record.padded_len(), 1_024);
        assert_eq!(record.digest().as_slice(), given("/digest"));
    }

    #[test]
    fn every_flipped_bit_and_every_stump_is_refused() {
        let (bytes, _) = vector();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(store_id(), &flipped).is_none(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Record::decode(store_id(), &bytes[..length]).is_none(), "length {length}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(Record::decode(store_id(), &longer).is_none());
    }

    #[test]
    fn another_store_does_not_read_it() {
        let (bytes, _) = vector();
        assert!(Record::decode(StoreId([0; 16]), &bytes).is_none());
    }

    #[test]
    fn lengths_that_lie_are_refused_though_the_chain_holds() {
        let (bytes, _) = vector();
        let body = FRONT_BYTES;
        // The count, the key's length, the record's length, the head's length.
        for at in [body, body + 5, body + 9 + 133, body + 4 + 254] {
            for lie in [0_u32, 1, 0x7fff_ffff, u32::MAX] {
                let mut forged = bytes[..bytes.len() - CHAIN_BYTES].to_vec();
                if forged[at..at + 4] == lie.to_be_bytes() {
                    continue;
                }
                forged[at..at + 4].copy_from_slice(&lie.to_be_bytes());
                let chain = chain(store_id(), &forged);
                forged.extend_from_slice(&chain);
                assert!(Record::decode(store_id(), &forged).is_none(), "{lie} at {at}");
            }
        }
    }
}
