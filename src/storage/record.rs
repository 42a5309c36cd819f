use sha2::{Digest as _, Sha256};

use super::{StoreId, batch, cursor::Cursor};

/// Journal records begin at multiples of this many bytes.
pub(super) const BLOCK: usize = 512;
/// Length of what stands before a record's body.
pub(super) const FRONT_BYTES: usize = 56;
/// Length of the chain value that ends a record.
pub(super) const CHAIN_BYTES: usize = 32;
/// No body is longer, whatever its length says (FORMAT.md, Journal).
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
    pub(super) digest: [u8; 32],
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
        let digest = Sha256::digest(before.strip_suffix(sealed)?).into();
        Some(Self { place: front.place, writes, digest, sealed, chain })
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

/// Checksum and link in one (FORMAT.md, Journal).
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

    const KEY: &str = "10c0c1c2c3c4c5c6c7c8c9cacbcccdcecf010137f33f589cf5415b8e2a3e202153810b31926dbe202076411139ccc9654c110189114fa791cbe90b692f49bfed27c431001f833864a0de61dd9e49762c649baa0227df157b8592e93714bf8ff23d308c2c8a834d4ccbd4772bfa82e3b4f8cb2aa589455dd711e89074fd84ab76bb1050be00";
    const RECORD: &str = "0101000000000007000102030405060708090a0b0c0d0e0f1011121314151617dceefe8afcd0d3c2e81da0f41497be9b8b35b96c84ac35e9592aadf6c11023ce9ac08a054e2f052d8a33fa169c9a6c5ac06ae6ca2a26e9ff467cab4b8f710209363704a7302bb52f1fb16606ca7b1077";
    const SEALED: &str = "010100000000000718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2fc7da03dd4060902fa3822a6bf99de3097d33e9827881eebbc5b6e785e6d52e56e5d7aa637d84b1b23215bc34c1c5e1dab6f92b3036f1299303172dc35d79913b5adb4f3826e4f9c31dfb616981feafba5499910e6bd043a9f4aa0e3ac0e0a91a76546727d0fd14381821ece426435d7292fbb71446e282b8f4c9cd33078de5fc29dffc4f5e37d3f406f2cb765a0d6d3a4050315731d8b80dd2a1c00b5536d4a0462c1a2d6f306ab623a54e49c39d8594abc623343694";
    const CHAIN: &str = "c4456c32585430f559d99171ad341b1b758a0e83f93280c69f0deba8a244a02d";

    fn store_id() -> StoreId {
        let mut next = 0x9f;
        StoreId([0; 16].map(|_: u8| {
            next += 1;
            next
        }))
    }

    /// The journal record of FORMAT.md's vectors.
    fn vector() -> (Vec<u8>, [u8; 32]) {
        let hex = |text: &str| HEX.decode(text.as_bytes()).unwrap();
        let (key, record, sealed) = (hex(KEY), hex(RECORD), hex(SEALED));
        let place = Place { seq: 42, segment_id: [0x66; 8], prev_chain: [0x55; 32] };
        let writes = [(key.as_slice(), Some(record.as_slice()))];
        let draft = Draft::new(&place, writes.iter().copied(), sealed.len());
        draft.finish(store_id(), &sealed)
    }

    #[test]
    fn record_and_chain_equal_the_vector() {
        let (bytes, chain) = vector();
        assert_eq!(bytes.len(), 564);
        assert_eq!(HEX.encode(&chain), CHAIN);
    }

    #[test]
    fn record_reads_back() {
        let (bytes, chain) = vector();
        let record = Record::decode(store_id(), &bytes).unwrap();
        assert_eq!(record.place.seq, 42);
        assert_eq!(record.chain, chain);
        assert_eq!(HEX.encode(record.sealed), SEALED);
        assert_eq!(record.writes.len(), 1);
        assert_eq!(HEX.encode(record.writes[0].0), KEY);
        assert_eq!(HEX.encode(record.writes[0].1.unwrap()), RECORD);
        let before_head = bytes.len() - CHAIN_BYTES - record.sealed.len();
        assert_eq!(record.digest, <[u8; 32]>::from(Sha256::digest(&bytes[..before_head])));
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
