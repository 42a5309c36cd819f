use std::{
    borrow::Borrow,
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use super::{
    names::{self, MAX_PATH_BYTES, MAX_SEGMENTS, PathError, check_name},
    roster::{Rosters, Tenure},
};
use crate::crypto::{random, siv::Siv};

/// First byte of the storage key of a record whose names are of the first generation
/// (FORMAT.md 5).
const FIRST_NAMES: u8 = 0x10;
/// The same of a later generation, whose number follows.
const LATER_NAMES: u8 = 0x11;
/// Ends the key of a record; a chunk's index follows it.
pub(super) const LEAF: u8 = 0x00;

/// How many encrypted paths each half of a space's cache holds, about 300 bytes each.
const CACHED_FOLDERS: usize = 2_048;

/// The random name of one mount's data, which it keeps when it is moved or renamed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpaceId(pub [u8; 16]);

impl SpaceId {
    /// The space of Kista's own tables. No random id is all zeros.
    pub const SYSTEM: Self = Self([0; 16]);

    /// The space of the cubbyholes, which every store has.
    pub const CUBBYHOLE: Self = Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// Makes a new one.
    pub fn random() -> Self {
        Self(random::array())
    }
}

impl fmt::Debug for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which secret of the names lineage names are encrypted under, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamesGeneration(pub u32);

impl NamesGeneration {
    const FIRST: Self = Self(1);

    /// What all storage keys of this generation begin with.
    pub(super) fn range(self) -> Vec<u8> {
        if self == Self::FIRST {
            return vec![FIRST_NAMES];
        }
        [&[LATER_NAMES], &self.0.to_be_bytes()[..]].concat()
    }

    /// Splits off what [`range`](Self::range) makes; `None` if a key begins with no such thing.
    pub(super) fn split_off(key: &[u8]) -> Option<(Self, &[u8])> {
        match key.split_first()? {
            (&FIRST_NAMES, rest) => Some((Self::FIRST, rest)),
            (&LATER_NAMES, rest) => {
                let (number, rest) = rest.split_first_chunk()?;
                let generation = Self(u32::from_be_bytes(*number));
                (generation > Self::FIRST).then_some((generation, rest))
            }
            _ => None,
        }
    }
}

/// One space, and how its names are encrypted now. Its keys are wiped when the last view goes.
pub(super) struct Space {
    id: SpaceId,
    naming: ArcSwap<Naming>,
}

impl Space {
    pub(super) fn new(id: SpaceId, naming: Naming) -> Self {
        Self { id, naming: ArcSwap::from_pointee(naming) }
    }

    pub(super) fn id(&self) -> SpaceId {
        self.id
    }

    /// How its names are encrypted now. What is read by it is to be read again if it found nothing
    /// and is [not current](Self::is_current) any more.
    pub(super) fn naming(&self) -> Arc<Naming> {
        self.naming.load_full()
    }

    /// Whether names have been encrypted as `naming` does until now.
    pub(super) fn is_current(&self, naming: &Arc<Naming>) -> bool {
        Arc::ptr_eq(&self.naming.load(), naming)
    }

    /// Has its names encrypted otherwise from now on.
    pub(super) fn rename(&self, naming: Naming) {
        self.naming.store(Arc::new(naming));
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The names of one space under one generation, and the encrypted paths used last.
pub(super) struct Naming {
    id: SpaceId,
    generation: NamesGeneration,
    siv: Siv,
    /// Where records lie that have not moved to this generation yet, while they move.
    previous: Option<Arc<Self>>,
    folders: Mutex<FolderCache>,
    tenure: OnceLock<Tenure>,
}

/// An encrypted folder: where its children's keys begin, and what stands for it as their parent.
pub(super) struct Folder {
    /// `range || space id || segments`.
    pub(super) prefix: Vec<u8>,
    /// The synthetic IV of its last segment, or the space's id.
    pub(super) parent: [u8; 16],
}

impl Naming {
    pub(super) fn new(
        id: SpaceId,
        generation: NamesGeneration,
        siv: Siv,
        previous: Option<Self>,
    ) -> Self {
        let (previous, folders) = (previous.map(Arc::new), Mutex::default());
        Self { id, generation, siv, previous, folders, tenure: OnceLock::new() }
    }

    /// Keeps rosters of its folders for no longer than itself.
    pub(super) fn bind(&self, rosters: &Arc<Rosters>) {
        self.tenure.get_or_init(|| Tenure::new(rosters, self.prefix()));
    }

    /// What the keys of the space begin with.
    fn prefix(&self) -> Vec<u8> {
        [&self.generation.range()[..], &self.id.0].concat()
    }

    /// The cipher of its names.
    pub(super) fn siv(&self) -> &Siv {
        &self.siv
    }

    /// The names that go, while records move.
    pub(super) fn previous(&self) -> Option<&Arc<Self>> {
        self.previous.as_ref()
    }

    /// The storage key of the record at `path` under the folder `above`.
    #[cfg(test)]
    pub(super) fn record_key(&self, above: &str, path: &[&str]) -> Result<Vec<u8>, PathError> {
        self.key_of(&record_path(above, path)?)
    }

    /// The storage key of a path that [`record_path`] made.
    pub(super) fn key_of(&self, path: &str) -> Result<Vec<u8>, PathError> {
        // From the cache too: one request asks for the same record up to three times, and the next
        // one is often for it again.
        let folder = self.folder_of(path)?;
        let mut key = Vec::with_capacity(folder.prefix.len() + 1);
        key.extend_from_slice(&folder.prefix);
        key.push(LEAF);
        Ok(key)
    }

    /// The folder at `path` under the folder `above`; no path at all is `above` itself.
    pub(super) fn folder(&self, above: &str, path: &[&str]) -> Result<Arc<Folder>, PathError> {
        self.folder_of(&join(above, path)?)
    }

    /// The folder of a joined path whose names and limits are checked.
    fn folder_of(&self, path: &str) -> Result<Arc<Folder>, PathError> {
        if path.is_empty() {
            return Ok(Arc::new(Folder { prefix: self.prefix(), parent: self.id.0 }));
        }
        if let Some(folder) = self.cache(|folders| folders.get(path)) {
            return Ok(folder);
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let above = self.folder_of(above)?;
        let mut prefix = Vec::with_capacity(above.prefix.len() + names::encoded_len(name.len()));
        prefix.extend_from_slice(&above.prefix);
        let parent = names::append(&self.siv, &above.parent, name, &mut prefix)?;
        let folder = Arc::new(Folder { prefix, parent });
        self.cache(|folders| folders.insert(path, Arc::clone(&folder)));
        Ok(folder)
    }

    fn cache<R>(&self, with: impl FnOnce(&mut FolderCache) -> R) -> R {
        // A panic cannot leave a folder half in the cache, so a poisoned one serves on.
        with(&mut self.folders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Joins the path of a record, which has a name, to the folder above it.
pub(super) fn record_path(above: &str, path: &[&str]) -> Result<Zeroizing<String>, PathError> {
    let path = join(above, path)?;
    if path.is_empty() { Err(PathError::Empty) } else { Ok(path) }
}

/// Joins a path to the folder above it and checks names and limits. No name holds a slash, so the
/// text is the path.
pub(super) fn join(above: &str, path: &[&str]) -> Result<Zeroizing<String>, PathError> {
    let length = path.iter().map(|name| name.len() + 1).sum::<usize>() + above.len();
    let mut joined = Zeroizing::new(String::with_capacity(length));
    joined.push_str(above);
    for name in path {
        check_name(name)?;
        if !joined.is_empty() {
            joined.push('/');
        }
        joined.push_str(name);
    }
    if joined.len() > MAX_PATH_BYTES {
        return Err(PathError::TooLong);
    }
    if joined.split('/').count() > MAX_SEGMENTS {
        return Err(PathError::TooManySegments);
    }
    Ok(joined)
}

/// The folders used last, in two halves: a full young half becomes the old one, and what is asked
/// for again comes back from there. Bounded without keeping an order.
#[derive(Default)]
struct FolderCache {
    young: HashMap<FolderPath, Arc<Folder>>,
    old: HashMap<FolderPath, Arc<Folder>>,
}

impl FolderCache {
    fn get(&mut self, path: &str) -> Option<Arc<Folder>> {
        if let Some(folder) = self.young.get(path) {
            return Some(Arc::clone(folder));
        }
        let (path, folder) = self.old.remove_entry(path)?;
        self.make_room();
        self.young.insert(path, Arc::clone(&folder));
        Some(folder)
    }

    fn insert(&mut self, path: &str, folder: Arc<Folder>) {
        self.make_room();
        self.young.insert(FolderPath(Zeroizing::new(path.to_owned())), folder);
    }

    fn make_room(&mut self) {
        if self.young.len() >= CACHED_FOLDERS {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
    }
}

/// A path in the cache, wiped when it leaves.
#[derive(PartialEq, Eq)]
struct FolderPath(Zeroizing<String>);

impl Borrow<str> for FolderPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

// As `str` hashes, so that it can be looked up by one.
impl Hash for FolderPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{keyring, vector},
        *,
    };
    use crate::storage::MAX_KEY_BYTES;

    fn later_space() -> Naming {
        let (id, siv) = (SpaceId::random(), Siv::new(&random::key()));
        Naming::new(id, NamesGeneration(2), siv, None)
    }

    fn space() -> Naming {
        let (id, siv) = (SpaceId::random(), Siv::new(&random::key()));
        Naming::new(id, NamesGeneration::FIRST, siv, None)
    }

    #[test]
    fn vector_of_the_format() {
        let space = keyring().naming(SpaceId(vector("/names/space_id").try_into().unwrap()));
        for _cached in [false, true] {
            let key = space.record_key("data", &["billing", "database-password"]).unwrap();
            assert_eq!(key, vector("/names/storage_key"));
        }
    }

    #[test]
    fn a_path_is_one_key_however_it_is_split() {
        let space = space();
        let key = space.record_key("", &["a", "b", "c"]).unwrap();
        assert_eq!(space.record_key("a", &["b", "c"]).unwrap(), key);
        assert_eq!(space.record_key("a/b", &["c"]).unwrap(), key);
        let folder = space.folder("a", &["b"]).unwrap();
        assert!(key.starts_with(&folder.prefix));
        assert_eq!(space.folder("a/b", &[]).unwrap().prefix, folder.prefix);
    }

    #[test]
    fn a_slash_inside_a_name_makes_no_folder() {
        assert_eq!(space().record_key("", &["a/b"]), Err(PathError::Character));
        assert_eq!(space().record_key("a", &[""]), Err(PathError::EmptySegment));
        assert_eq!(space().record_key("", &[]), Err(PathError::Empty));
    }

    #[test]
    fn paths_are_limited_with_what_is_above_them() {
        let space = space();
        let folders = ["a/"; 31].concat();
        let folders = folders.trim_end_matches('/');
        assert!(space.record_key(folders, &["b"]).is_ok());
        assert_eq!(space.record_key(folders, &["b", "c"]), Err(PathError::TooManySegments));
        let long = ["x".repeat(255), "x".repeat(255), "x".repeat(255), "x".repeat(255)];
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        assert!(space.record_key("", &long).is_ok());
        assert_eq!(space.record_key("y", &long), Err(PathError::TooLong));
    }

    #[test]
    fn the_longest_key_is_one_that_storage_takes() {
        for (length, count) in [(31, 32), (32, 31), (64, 15), (128, 7), (255, 4)] {
            let name = "x".repeat(length);
            let key = later_space().record_key("", &vec![name.as_str(); count]).unwrap();
            assert!(key.len() + 4 <= MAX_KEY_BYTES, "{length}");
        }
    }

    #[test]
    fn a_key_tells_its_generation_in_one_way_only() {
        for generation in [1, 2, 256, u32::MAX].map(NamesGeneration) {
            let key = [&generation.range()[..], &[7; 20]].concat();
            assert_eq!(NamesGeneration::split_off(&key), Some((generation, &[7; 20][..])));
        }
        for other in [&[][..], &[0x11, 0, 0, 0, 1], &[0x11, 0, 0, 0, 0], &[0x11, 0, 0], &[0x12]] {
            assert_eq!(NamesGeneration::split_off(other), None);
        }
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let space = space();
        let first = space.folder("", &["first"]).unwrap();
        for n in 0..10 * CACHED_FOLDERS {
            space.folder("", &[&n.to_string()]).unwrap();
            if n % 100 == 0 {
                assert!(Arc::ptr_eq(&first, &space.folder("", &["first"]).unwrap()));
            }
        }
        let cached = space.cache(|folders| folders.young.len() + folders.old.len());
        assert!(cached <= 2 * CACHED_FOLDERS);
    }
}
