use std::{collections::HashMap, fmt};

use super::{
    Head, Keyring, KeyringError, Record, SpaceId, collection,
    finding::{Fault, Finding, Place},
    large::LargeHead,
    record::{self, Kind},
    state::State,
    tally::Tally,
    term::Terms,
};
use crate::{
    crypto::mac,
    secret::SecretBytes,
    storage::{HeadAt, Inspect, RecordHeader, SnapshotAt},
};

/// Looks at a stopped store with its keys: every head and every record of journal and snapshots
/// must open, and the records add up to what the heads count.
///
/// In memory it keeps a header for each live record, 100 to 150 MB for a million.
pub struct Inspector {
    keyring: Keyring,
    terms: Terms,
    /// Commits up to this one are behind the state that the others follow.
    base: u64,
    headers: HashMap<[u8; 16], (Vec<u8>, RecordHeader)>,
    /// Records of the folder `mounts` of Kista's own space, by their keys: whose names they tell.
    mounts: HashMap<Vec<u8>, SecretBytes>,
    /// Heads of values in chunks, by their keys.
    large: HashMap<Vec<u8>, LargeHead>,
    newest: Option<Head>,
    snapshot: Option<(Head, Tally)>,
    records: u64,
}

impl Inspector {
    /// One with these keys.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn new(keyring: Keyring) -> Result<Self, KeyringError> {
        let terms = keyring.terms()?;
        Ok(Self {
            keyring,
            terms,
            base: 0,
            headers: HashMap::new(),
            mounts: HashMap::new(),
            large: HashMap::new(),
            newest: None,
            snapshot: None,
            records: 0,
        })
    }

    /// Records opened.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The space and the path of a key, when its names open.
    pub fn place_of(&self, key: &[u8]) -> (Option<SpaceId>, Option<String>) {
        let Finding { space, path, .. } = Finding::at(&self.keyring, key, Fault::Damaged);
        (space, path)
    }

    /// Opens a record in its place.
    fn open(&mut self, key: &[u8], record: &[u8]) -> Result<(), String> {
        let place = Place::parse(key).ok_or("a key that is never written")?;
        let opens = match place.chunk {
            Some((value, index)) => self.large.get(value).is_some_and(|head| {
                index <= head.chunks() && head.open_chunk(&self.terms, value, index, record).is_ok()
            }),
            None if record::is_head(record) => {
                let head = LargeHead::open(&self.terms, key, record).ok();
                let opens = head.is_some();
                self.large.extend(head.map(|head| (key.to_vec(), head)));
                opens
            }
            None => match record::open(&self.terms, key, Kind::Value, record) {
                Ok(value) => {
                    if self.is_mount(key) {
                        self.mounts.insert(key.to_vec(), value);
                    }
                    true
                }
                Err(_) => false,
            },
        };
        if !opens {
            return Err("a record does not open in its place".to_owned());
        }
        self.records += 1;
        Ok(())
    }

    /// The records of mounts that opened, of those that decode.
    pub fn mounts<T: Record>(&self) -> impl Iterator<Item = T> {
        self.mounts.values().filter_map(|value| value.expose(collection::decode::<T>).ok())
    }

    fn is_mount(&self, key: &[u8]) -> bool {
        if Place::parse(key).is_none_or(|place| place.space != SpaceId::SYSTEM) {
            return false;
        }
        let (_, path) = self.place_of(key);
        path.is_some_and(|path| path.starts_with(MOUNTS))
    }

    /// Keeps what stands under a key.
    fn keep(&mut self, key: &[u8], record: Option<&[u8]>) {
        let digest = mac::sha256(&[key]);
        let Some(name) = digest.first_chunk::<16>().copied() else { return };
        match record.and_then(RecordHeader::of) {
            Some(header) => drop(self.headers.insert(name, (key.to_vec(), header))),
            None => drop(self.headers.remove(&name)),
        }
    }
}

impl Inspect for Inspector {
    fn begins(&mut self, seq: u64) {
        self.base = seq;
    }

    fn commit(&mut self, at: &HeadAt<'_>, writes: &[(&[u8], Option<&[u8]>)]) -> Result<(), String> {
        if at.seq <= self.base {
            return Ok(());
        }
        let head = Head::open(&self.terms, self.keyring.store_id(), at);
        for (key, record) in writes {
            self.keep(key, *record);
        }
        let mut opens = Ok(());
        for (key, record) in writes.iter().filter_map(|(key, record)| Some((key, (*record)?))) {
            opens = opens.and(self.open(key, record));
        }
        self.newest = Some(head.ok_or("the commit's head does not open under these keys")?);
        opens
    }

    fn snapshot(&mut self, at: &SnapshotAt<'_>) -> Result<(), String> {
        let head = Head::open_snapshot(&self.terms, self.keyring.store_id(), at);
        // One that is not the base is held against nothing but itself.
        self.snapshot = None;
        let head = head.ok_or("the snapshot's head does not open under these keys")?;
        self.snapshot = Some((head, Tally::default()));
        Ok(())
    }

    fn entry(&mut self, key: &[u8], record: &[u8]) -> Result<(), String> {
        if let Some((_, tally)) = &mut self.snapshot {
            tally.add(&self.terms, key, RecordHeader::of(record).as_ref());
        }
        if self.newest.is_none() {
            self.keep(key, Some(record));
        }
        self.open(key, record)
    }

    fn snapshot_ends(&mut self) -> Result<(), String> {
        let Some((head, tally)) = self.snapshot.take() else { return Ok(()) };
        let is_right = tally.equals(&State::of(&head.terms));
        if self.newest.is_none() {
            self.newest = Some(head);
        }
        if is_right {
            Ok(())
        } else {
            Err("the snapshot's records are not those that its head counts".to_owned())
        }
    }

    fn journal_ends(&mut self) -> Result<(), String> {
        let Some(head) = &self.newest else { return Ok(()) };
        let mut tally = Tally::default();
        for (key, header) in self.headers.values() {
            tally.add(&self.terms, key, Some(header));
        }
        let is_right = tally.equals(&State::of(&head.terms));
        // Not needed any more, and large.
        self.headers = HashMap::new();
        if is_right {
            Ok(())
        } else {
            Err("the records are not those that the newest commit counts".to_owned())
        }
    }
}

/// Where the mounts' records lie in Kista's own space.
const MOUNTS: &str = "mounts/";

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").field("records", &self.records).finish_non_exhaustive()
    }
}
