use std::{
    borrow::Borrow,
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use zeroize::Zeroizing;

use super::names::{self, MAX_PATH_BYTES, MAX_SEGMENTS, PathError, check_name};
use crate::crypto::{random, siv::Siv};

/// First byte of every record's storage key (FORMAT.md 5).
pub(super) const RECORD_KEY: u8 = 0x10;
/// Ends the key of a record; a chunk's index follows it.
pub(super) const LEAF: u8 = 0x00;

/// How many encrypted folders each half of a space's cache holds, about 200 bytes each.
const CACHED_FOLDERS: usize = 2_048;

/// The random name of one mount's data, which it keeps when it is moved or renamed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpaceId(pub [u8; 16]);

impl SpaceId {
    /// The space of Kista's own tables. No random id is all zeros.
    pub const SYSTEM: Self = Self([0; 16]);

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

/// One space: its names key, and the encrypted folders used last, wiped when the last view goes.
pub(super) struct Space {
    id: SpaceId,
    siv: Siv,
    folders: Mutex<FolderCache>,
}

/// An encrypted folder: where its children's keys begin, and what stands for it as their parent.
pub(super) struct Folder {
    /// `0x10 || space id || segments`.
    pub(super) prefix: Vec<u8>,
    /// The synthetic IV of its last segment, or the space's id.
    pub(super) parent: [u8; 16],
}

impl Space {
    pub(super) fn new(id: SpaceId, siv: Siv) -> Self {
        Self { id, siv, folders: Mutex::default() }
    }

    /// The cipher of its names.
    pub(super) fn siv(&self) -> &Siv {
        &self.siv
    }

    /// The storage key of the record at `path` under the folder `above`.
    pub(super) fn record_key(&self, above: &str, path: &[&str]) -> Result<Vec<u8>, PathError> {
        let path = join(above, path)?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name.is_empty() {
            return Err(PathError::Empty);
        }
        let folder = self.folder_of(folder)?;
        let mut key = Vec::with_capacity(folder.prefix.len() + names::encoded_len(name.len()) + 1);
        key.extend_from_slice(&folder.prefix);
        names::append(&self.siv, &folder.parent, name, &mut key)?;
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
            let prefix = [&[RECORD_KEY], &self.id.0[..]].concat();
            return Ok(Arc::new(Folder { prefix, parent: self.id.0 }));
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

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("id", &self.id).finish_non_exhaustive()
    }
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
            self.old = std::mem::take(&mut self.young);
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

    fn keyring_space(id: SpaceId) -> Space {
        Space::new(id, keyring().names(id))
    }

    fn space() -> Space {
        Space::new(SpaceId::random(), Siv::new(&random::key()))
    }

    #[test]
    fn vector_of_the_format() {
        let space = keyring_space(SpaceId(vector("/names/space_id").try_into().unwrap()));
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
            let key = space().record_key("", &vec![name.as_str(); count]).unwrap();
            assert!(key.len() + 4 <= MAX_KEY_BYTES, "{length}");
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
