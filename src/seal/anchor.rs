//! Anchors: where the store stood, kept where whoever writes to the data folder cannot write
//! (FORMAT.md 8.2). They name only what is durable, so no crash moves the store behind one.

use std::{
    cmp::Ordering,
    io,
    path::{Path, PathBuf},
};

use crate::{
    barrier::Position,
    clock::Timestamp,
    crypto::{Mac, mac},
    disk::Disk,
    storage::{Standing, StoreId},
};

use super::cursor::Cursor;

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

/// A file that keeps two anchors, written in turn, so that a torn write leaves the older one.
#[derive(Debug)]
pub struct AnchorFile {
    disk: Disk,
    path: PathBuf,
    mac: Mac,
    store_id: StoreId,
}

/// Why an anchor file says nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorUnusable {
    /// It is not there.
    #[error("the anchor {} is missing", .0.display())]
    Missing(PathBuf),
    /// It holds no anchor of this store.
    #[error("{} holds no anchor of this store", .0.display())]
    Foreign(PathBuf),
    /// The system does not give it.
    #[error("the anchor {} cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

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

    fn encode(&self, store_id: StoreId, key: &Mac) -> Vec<u8> {
        let Self { position: Position { generation, seq, chain }, seal_epoch, time } = self;
        let mut bytes = [
            MAGIC,
            &store_id.0,
            &generation.to_be_bytes(),
            &seq.to_be_bytes(),
            chain,
            &seal_epoch.to_be_bytes(),
            &time.millis().to_be_bytes(),
        ]
        .concat();
        let tag = key.tag(&[&bytes]);
        bytes.extend_from_slice(&tag);
        bytes
    }

    fn parse(bytes: &[u8], store_id: StoreId, key: &Mac) -> Option<Self> {
        let (before, rest) = bytes.split_at_checked(BYTES - MAC)?;
        let (tag, zeros) = rest.split_first_chunk::<MAC>()?;
        if !mac::equal(&key.tag(&[before]), tag) || zeros.iter().any(|byte| *byte != 0) {
            return None;
        }
        let mut cursor = Cursor::new(before);
        if cursor.take(MAGIC.len())? != MAGIC || cursor.array()? != store_id.0 {
            return None;
        }
        let position =
            Position { generation: cursor.be64()?, seq: cursor.be64()?, chain: cursor.array()? };
        let seal_epoch = cursor.be64()?;
        Some(Self { position, seal_epoch, time: Timestamp::from_millis(cursor.be64()?) })
    }

    fn rank(&self) -> (u64, u64) {
        (self.position.generation, self.position.seq)
    }
}

impl AnchorFile {
    /// The file at a path, for this store and its anchor key.
    pub fn new(disk: Disk, path: &Path, mac: Mac, store_id: StoreId) -> Self {
        Self { disk, path: path.to_owned(), mac, store_id }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The anchor that counts: of the two the one with the higher generation and sequence.
    ///
    /// # Errors
    /// [`AnchorUnusable`].
    pub fn read(&self) -> Result<Anchor, AnchorUnusable> {
        let slots = self.slots().map_err(|cause| {
            let path = self.path.clone();
            if cause.kind() == io::ErrorKind::NotFound {
                AnchorUnusable::Missing(path)
            } else {
                AnchorUnusable::Read { path, cause }
            }
        })?;
        let newest = slots.into_iter().flatten().max_by_key(Anchor::rank);
        newest.ok_or_else(|| AnchorUnusable::Foreign(self.path.clone()))
    }

    /// Writes an anchor over the older of the two, and syncs it. A file that is not there is made.
    ///
    /// # Errors
    /// What the system said.
    pub fn write(&self, anchor: &Anchor) -> io::Result<()> {
        if !self.disk.exists(&self.path)? {
            return self.make(anchor);
        }
        let [first, second] = self.slots()?.map(|slot| slot.map(|anchor| anchor.rank()));
        self.put(anchor, if first > second { &[1] } else { &[0] })
    }

    /// Writes an anchor over both: what they said before no longer counts.
    ///
    /// # Errors
    /// What the system said.
    pub fn replace(&self, anchor: &Anchor) -> io::Result<()> {
        if self.disk.exists(&self.path)? { self.put(anchor, &[0, 1]) } else { self.make(anchor) }
    }

    fn put(&self, anchor: &Anchor, slots: &[u64]) -> io::Result<()> {
        let file = self.disk.open_rw(&self.path)?;
        for slot in slots {
            file.write_all_at(&self.block(anchor), slot * SLOT as u64)?;
        }
        file.sync_data()
    }

    fn make(&self, anchor: &Anchor) -> io::Result<()> {
        let file = self.disk.create_new(&self.path)?;
        file.write_all_at(&[self.block(anchor), vec![0; SLOT]].concat(), 0)?;
        file.sync_all()?;
        match self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => self.disk.sync_dir(folder),
            None => self.disk.sync_dir(Path::new(".")),
        }
    }

    fn block(&self, anchor: &Anchor) -> Vec<u8> {
        let mut block = anchor.encode(self.store_id, &self.mac);
        block.resize(SLOT, 0);
        block
    }

    fn slots(&self) -> io::Result<[Option<Anchor>; 2]> {
        let bytes = match self.disk.read(&self.path, 2 * SLOT as u64) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Vec::new(),
            read => read?,
        };
        let slot = |at: usize| {
            let bytes = bytes.get(at * SLOT..(at + 1) * SLOT)?;
            Anchor::parse(bytes, self.store_id, &self.mac)
        };
        Ok([slot(0), slot(1)])
    }
}

const MAGIC: &[u8] = b"KISTAAN1";
const SLOT: usize = 512;
const MAC: usize = 32;
const BYTES: usize = 8 + 16 + 8 + 8 + 32 + 8 + 8 + MAC;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::HmacSha256, disk::simulated, secret::Key};

    fn key(byte: u8) -> Mac {
        Mac::new(&Key::<HmacSha256>::build(|key| key.fill(byte)))
    }

    fn at(generation: u64, seq: u64) -> Anchor {
        let position = Position { generation, seq, chain: [u8::try_from(seq).unwrap(); 32] };
        Anchor { position, seal_epoch: 1, time: Timestamp::from_millis(1_767_225_600_000) }
    }

    fn file(disk: &Disk) -> AnchorFile {
        AnchorFile::new(disk.clone(), Path::new("/anchor"), key(1), StoreId([1; 16]))
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
        assert_eq!(anchor.encode(store_id, &mac), bytes("anchor"));
        let mut block = bytes("anchor");
        block.resize(SLOT, 0);
        assert_eq!(Anchor::parse(&block, store_id, &mac), Some(anchor));
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Anchor::parse(&block, store_id, &mac), None, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn the_newest_of_two_counts_and_the_older_is_written_over() {
        let (disk, _) = simulated();
        let file = file(&disk);
        assert!(matches!(file.read(), Err(AnchorUnusable::Missing(_))));
        for anchor in [at(1, 3), at(1, 4), at(1, 9), at(2, 5), at(2, 6)] {
            file.write(&anchor).unwrap();
            assert_eq!(file.read().unwrap(), anchor);
        }
        assert_eq!(file.slots().unwrap().map(|slot| slot.unwrap().position.seq), [6, 5]);
        file.replace(&at(1, 1)).unwrap();
        assert_eq!(file.read().unwrap(), at(1, 1));
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
        let foreign = AnchorFile::new(disk.clone(), path, key(1), StoreId([2; 16]));
        assert!(matches!(foreign.read(), Err(AnchorUnusable::Foreign(_))));
        let other_key = AnchorFile::new(disk.clone(), path, key(2), StoreId([1; 16]));
        assert!(matches!(other_key.read(), Err(AnchorUnusable::Foreign(_))));
        for length in [0, 100, 511, 2_000] {
            disk.open_rw(path).unwrap().set_len(0).unwrap();
            disk.open_rw(path).unwrap().set_len(length).unwrap();
            assert!(matches!(file(&disk).read(), Err(AnchorUnusable::Foreign(_))), "{length}");
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
