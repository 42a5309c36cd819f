//! Anchors: where the store stood, kept where whoever writes to the data folder cannot write
//! (FORMAT.md 8.2). They name only what is durable, so no crash moves the store behind one.

use std::cmp::Ordering;

use crate::{barrier::Position, clock::Timestamp, container::cursor::Cursor, storage::Standing};

use super::pair::{Block, Pair};

/// One point of the store, as an anchor names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Generation, sequence and chain value.
    pub position: Position,
    /// Epoch of the seal file.
    pub seal_epoch: u64,
    /// When it was written.
    pub time: Timestamp,
}

/// The file of an anchor.
pub type AnchorFile = Pair<Anchor>;

/// What an anchor says of a store that opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The store goes on from where the anchor was written, or from a later generation.
    Good,
    /// The anchor names a commit that neither the journal nor the points kept in the store reach.
    Stale,
    /// The store, or its seal file, is older than the anchor, or another one.
    Rollback,
}

impl Anchor {
    /// Judges what can be judged before the journal is read.
    pub fn judge_early(&self, generation: u64, seal_epoch: u64) -> Judgement {
        match self.position.generation.cmp(&generation) {
            // A restored store goes on with the seal file of its backup.
            Ordering::Less => Judgement::Good,
            Ordering::Equal if self.seal_epoch <= seal_epoch => Judgement::Good,
            Ordering::Equal | Ordering::Greater => Judgement::Rollback,
        }
    }

    /// Judges by what the journal says of the anchor's commit, and the points kept in the store.
    pub fn judge(&self, generation: u64, standing: Standing, kept: &[Position]) -> Judgement {
        if self.position.generation < generation {
            return Judgement::Good;
        }
        match standing {
            Standing::Equal => Judgement::Good,
            Standing::Differs => Judgement::Rollback,
            Standing::Unknown => self.judge_by(kept),
        }
    }

    fn judge_by(&self, kept: &[Position]) -> Judgement {
        let named = |kept: &&Position| {
            (kept.generation, kept.seq) == (self.position.generation, self.position.seq)
        };
        match kept.iter().find(named) {
            Some(kept) if kept.chain == self.position.chain => Judgement::Good,
            Some(_) => Judgement::Rollback,
            None => Judgement::Stale,
        }
    }
}

impl Block for Anchor {
    const NAME: &'static str = "the anchor";
    const MAGIC: &'static [u8; 8] = b"KISTAAN1";
    const FIELDS: usize = 8 + 8 + 32 + 8 + 8;

    fn fields(&self) -> Vec<u8> {
        let Self { position: Position { generation, seq, chain }, seal_epoch, time } = self;
        [
            generation.to_be_bytes().as_slice(),
            &seq.to_be_bytes(),
            chain,
            &seal_epoch.to_be_bytes(),
            &time.millis().to_be_bytes(),
        ]
        .concat()
    }

    fn of(fields: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(fields);
        let position =
            Position { generation: cursor.be64()?, seq: cursor.be64()?, chain: cursor.array()? };
        let seal_epoch = cursor.be64()?;
        Some(Self { position, seal_epoch, time: Timestamp::from_millis(cursor.be64()?) })
    }

    fn rank(&self) -> [u64; 3] {
        // A seal file can change without a commit.
        [self.position.generation, self.position.seq, self.seal_epoch]
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{
        super::pair::{AnchorUnusable, BLOCK, encode, parse},
        *,
    };
    use crate::{
        crypto::{HmacSha256, Mac},
        disk::{Disk, simulated},
        secret::Key,
        storage::StoreId,
    };

    fn key(byte: u8) -> Mac {
        Mac::new(&Key::<HmacSha256>::build(|key| key.fill(byte)))
    }

    fn at(generation: u64, seq: u64) -> Anchor {
        let position = Position { generation, seq, chain: [u8::try_from(seq).unwrap(); 32] };
        Anchor { position, seal_epoch: 1, time: Timestamp::from_millis(1_767_225_600_000) }
    }

    fn file(disk: &Disk) -> AnchorFile {
        AnchorFile::new(disk.clone(), "/anchor".into(), key(1), StoreId([1; 16]))
    }

    #[test]
    fn vectors_of_the_format() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/format.json")).unwrap();
        let vector = &vectors["anchor"];
        let bytes = |name: &str| {
            data_encoding::HEXLOWER.decode(vector[name].as_str().unwrap().as_bytes()).unwrap()
        };
        let number = |name: &str| vector[name].as_u64().unwrap();
        let mac = Mac::new(&Key::<HmacSha256>::copy_of(&bytes("key")).unwrap());
        let store_id = StoreId(bytes("store_id").try_into().unwrap());
        let chain = bytes("chain").try_into().unwrap();
        let anchor = Anchor {
            position: Position { generation: number("generation"), seq: number("seq"), chain },
            seal_epoch: number("seal_epoch"),
            time: Timestamp::from_millis(number("time_ms")),
        };
        let mut block = bytes("anchor");
        block.resize(BLOCK, 0);
        assert_eq!(encode(&anchor, store_id, &mac), block);
        assert_eq!(parse(&block, store_id, &mac), Some(anchor));
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse::<Anchor>(&block, store_id, &mac), None, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn the_newest_of_two_counts_and_the_older_is_written_over() {
        let (disk, _) = simulated();
        let file = file(&disk);
        assert!(matches!(file.read(), Err(AnchorUnusable::Missing { .. })));
        for anchor in [at(1, 3), at(1, 4), at(1, 9), at(2, 5), at(2, 6)] {
            file.write(&anchor).unwrap();
            assert_eq!(file.read().unwrap(), anchor);
        }
        assert_eq!(file.blocks().unwrap().map(|block| block.unwrap().position.seq), [6, 5]);
        file.replace(&at(1, 1)).unwrap();
        assert_eq!(file.read().unwrap(), at(1, 1));
    }

    #[test]
    fn a_newer_seal_file_counts_without_a_commit() {
        let (disk, _) = simulated();
        let file = file(&disk);
        for seq in 1..=2 {
            file.write(&at(1, seq)).unwrap();
            for seal_epoch in 2..6 {
                file.write(&Anchor { seal_epoch, ..at(1, seq) }).unwrap();
                assert_eq!(file.read().unwrap().seal_epoch, seal_epoch);
            }
        }
    }

    #[test]
    fn a_crash_in_a_write_leaves_the_anchor_before_or_the_new_one() {
        let (disk, simulator) = simulated();
        file(&disk).write(&at(1, 1)).unwrap();
        let mut durable = simulator.operations();
        for seq in 2..6 {
            file(&disk).write(&at(1, seq)).unwrap();
            for n in durable..=simulator.operations() {
                for crash in simulator.crashes(n, seq) {
                    let read = file(&crash.disk).read().unwrap().position.seq;
                    let lowest = if n == simulator.operations() { seq } else { seq - 1 };
                    assert!((lowest..=seq).contains(&read), "{read} at {n}: {}", crash.what);
                }
            }
            durable = simulator.operations();
        }
    }

    #[test]
    fn another_stores_anchor_and_other_bytes_say_nothing() {
        let (disk, _) = simulated();
        file(&disk).write(&at(1, 1)).unwrap();
        let path = Path::new("/anchor");
        let foreign = AnchorFile::new(disk.clone(), path.into(), key(1), StoreId([2; 16]));
        assert!(matches!(foreign.read(), Err(AnchorUnusable::Foreign { .. })));
        let other_key = AnchorFile::new(disk.clone(), path.into(), key(2), StoreId([1; 16]));
        assert!(matches!(other_key.read(), Err(AnchorUnusable::Foreign { .. })));
        for length in [0, 100, 511, 2_000] {
            disk.open_rw(path).unwrap().set_len(0).unwrap();
            disk.open_rw(path).unwrap().set_len(length).unwrap();
            assert!(matches!(file(&disk).read(), Err(AnchorUnusable::Foreign { .. })), "{length}");
        }
    }

    #[test]
    fn a_file_that_is_something_else_is_left_alone() {
        let (disk, _) = simulated();
        let path = Path::new("/anchor");
        disk.create_new(path).unwrap();
        let put = |bytes: &[u8]| {
            let file = disk.open_rw(path).unwrap();
            file.set_len(0).unwrap();
            file.write_all_at(bytes, 0).unwrap();
        };
        for theirs in [&b"root:x:0:0::/root:/bin/sh\n"[..], &[b'K'; 1024], &[0; 1025]] {
            put(theirs);
            for refused in
                [file(&disk).write(&at(1, 1)), file(&disk).replace(&at(1, 1)), file(&disk).remove()]
            {
                assert!(refused.unwrap_err().to_string().contains("name another file"));
            }
            assert_eq!(disk.read(path, 4096).unwrap(), theirs);
        }
        for ours in [&b""[..], &[0; 700], b"KISTAAN1"] {
            put(ours);
            file(&disk).write(&at(1, 1)).unwrap();
            assert_eq!(file(&disk).read().unwrap(), at(1, 1));
        }
    }

    #[test]
    fn each_row_of_the_table() {
        let anchor = at(2, 10);
        let kept = |chain: u8| [Position { generation: 2, seq: 10, chain: [chain; 32] }];
        assert_eq!(anchor.judge_early(1, 1), Judgement::Rollback, "a later generation");
        assert_eq!(anchor.judge_early(2, 0), Judgement::Rollback, "a later seal file");
        assert_eq!(anchor.judge_early(2, 1), Judgement::Good);
        assert_eq!(anchor.judge_early(3, 0), Judgement::Good, "a restored store");
        assert_eq!(anchor.judge(2, Standing::Equal, &[]), Judgement::Good);
        assert_eq!(anchor.judge(2, Standing::Differs, &kept(10)), Judgement::Rollback, "a fork");
        assert_eq!(anchor.judge(3, Standing::Differs, &[]), Judgement::Good, "an older generation");
        assert_eq!(anchor.judge(2, Standing::Unknown, &kept(10)), Judgement::Good);
        assert_eq!(anchor.judge(2, Standing::Unknown, &kept(11)), Judgement::Rollback);
        assert_eq!(anchor.judge(2, Standing::Unknown, &[]), Judgement::Stale);
    }
}
