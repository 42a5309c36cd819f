//! The newest audit checkpoint, kept beside an anchor (FORMAT.md 8.2): whoever holds the audit
//! secret can write another audit file, but not this one.

use std::path::{Path, PathBuf};

use crate::{audit::SignedCheckpoint, barrier::Position, container::cursor::Cursor};

use super::pair::{Block, Pair};

/// The file of a checkpoint.
pub type CheckpointFile = Pair<SignedCheckpoint>;

/// Where the checkpoint of an anchor lies.
pub(super) fn beside(anchor: &Path) -> PathBuf {
    let mut name = anchor.as_os_str().to_owned();
    name.push(".checkpoint");
    PathBuf::from(name)
}

impl Block for SignedCheckpoint {
    const NAME: &'static str = "the audit checkpoint beside the anchor,";
    const MAGIC: &'static [u8; 8] = b"KISTACP1";
    const FIELDS: usize = 16 + 8 + 32 + 32 + 8 + 8 + 32 + 8 + 64;

    fn fields(&self) -> Vec<u8> {
        let Self { device_id, n, previous, hash, position, time_ms, signature } = self;
        [
            device_id.as_slice(),
            &n.to_be_bytes(),
            previous,
            hash,
            &position.generation.to_be_bytes(),
            &position.seq.to_be_bytes(),
            &position.chain,
            &time_ms.to_be_bytes(),
            signature,
        ]
        .concat()
    }

    fn of(fields: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(fields);
        Some(Self {
            device_id: cursor.array()?,
            n: cursor.be64()?,
            previous: cursor.array()?,
            hash: cursor.array()?,
            position: Position {
                generation: cursor.be64()?,
                seq: cursor.be64()?,
                chain: cursor.array()?,
            },
            time_ms: cursor.be64()?,
            signature: cursor.array()?,
        })
    }

    fn rank(&self) -> [u64; 3] {
        // A device that is enabled in a restored store begins at its first line.
        [self.position.generation, self.n, self.position.seq]
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::pair::{encode, parse},
        *,
    };
    use crate::{
        crypto::{HmacSha256, Mac},
        secret::Key,
        storage::StoreId,
    };

    #[test]
    fn every_field_reads_back_and_any_changed_bit_is_refused() {
        let checkpoint = SignedCheckpoint {
            device_id: [1; 16],
            n: 2,
            previous: [3; 32],
            hash: [4; 32],
            position: Position { generation: 5, seq: 6, chain: [7; 32] },
            time_ms: 8,
            signature: [9; 64],
        };
        let key = Mac::new(&Key::<HmacSha256>::build(|key| key.fill(1)));
        let mut block = encode(&checkpoint, StoreId([2; 16]), &key);
        assert_eq!(parse(&block, StoreId([2; 16]), &key), Some(checkpoint));
        assert_eq!(parse::<SignedCheckpoint>(&block, StoreId([3; 16]), &key), None);
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse::<SignedCheckpoint>(&block, StoreId([2; 16]), &key), None, "{bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
