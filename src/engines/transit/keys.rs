//! The keys of a mount: those in use are kept in memory, and each is changed by one request at a
//! time.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::MutexGuard;

use super::{
    key::{Key, Version},
    record::{Due, Places, Settings, VersionRecord},
    uses::{BLOCK, ROTATED_AT, SPENT_AT, Uses},
};
use crate::{
    barrier::{Batch, Expected, MountView},
    clock::Timestamp,
    crypto::{random, rsa::RsaKey},
    gate::ApiError,
};

/// The keys of one mount, one for all its wings however often these are built.
#[derive(Debug)]
pub struct Keys {
    known: RwLock<HashMap<String, Arc<Key>>>,
    /// How many are kept, 0 for all.
    limit: AtomicUsize,
    limit_is_read: Mutex<bool>,
    /// Held while a key is read from the store or changed, by a share of the names each.
    changes: [tokio::sync::Mutex<()>; SHARES],
    shares: RandomState,
    /// The pair with which keys to be imported are wrapped, once it was asked for.
    pub(super) wrapping: tokio::sync::Mutex<Option<Arc<RsaKey>>>,
}

/// What becomes of a key.
pub(super) struct Change {
    pub(super) settings: Settings,
    /// A version that is added; its number is the new settings' latest.
    pub(super) version: Option<VersionRecord>,
}

impl From<Settings> for Change {
    fn from(settings: Settings) -> Self {
        Self { settings, version: None }
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            known: RwLock::default(),
            limit: AtomicUsize::new(0),
            limit_is_read: Mutex::default(),
            changes: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            shares: RandomState::new(),
            wrapping: tokio::sync::Mutex::default(),
        }
    }
}

impl Keys {
    /// The key of a name.
    pub(super) async fn get(
        &self,
        view: &MountView,
        name: &str,
    ) -> Result<Option<Arc<Key>>, ApiError> {
        if let Some(key) = self.known(name) {
            return Ok(Some(key));
        }
        let _one = self.one(name).await;
        self.get_alone(&Places::in_space(view), name).await
    }

    /// Whether there is a key of a name.
    pub(super) async fn contains(&self, view: &MountView, name: &str) -> Result<bool, ApiError> {
        if self.known(name).is_some() {
            return Ok(true);
        }
        Ok(view.contains(&["keys", name]).await?)
    }

    /// Makes a key; the one that is there already, and false, when there is one.
    pub(super) async fn create(
        &self,
        view: &MountView,
        name: &str,
        settings: Settings,
        versions: Vec<(u32, VersionRecord)>,
    ) -> Result<(Arc<Key>, bool), ApiError> {
        let _one = self.one(name).await;
        let places = Places::in_space(view);
        if let Some(key) = self.get_alone(&places, name).await? {
            return Ok((key, false));
        }
        let mut batch = Batch::default();
        batch.expect(&places.view, &["keys", name], Expected::Absent);
        Ok((self.put(&places, batch, name, settings, versions).await?, true))
    }

    /// Puts a key in the place of another, whose versions go.
    pub(super) async fn replace(
        &self,
        view: &MountView,
        name: &str,
        settings: Settings,
        versions: Vec<(u32, VersionRecord)>,
    ) -> Result<Arc<Key>, ApiError> {
        let _one = self.one(name).await;
        let places = Places::in_space(view);
        let old = self.get_alone(&places, name).await?;
        let mut batch = Batch::default();
        if let Some(old) = &old {
            mark_removed(&mut batch, &places, &old.settings);
        }
        let key = self.put(&places, batch, name, settings, versions).await?;
        if let Some(old) = old {
            clear(&places, &old.settings.folder()).await?;
        }
        Ok(key)
    }

    /// Changes a key as `decide` says, while nobody else changes it; None when there is none.
    pub(super) async fn change(
        &self,
        view: &MountView,
        name: &str,
        decide: impl FnOnce(&Key) -> Result<Change, ApiError>,
    ) -> Result<Option<Arc<Key>>, ApiError> {
        let _one = self.one(name).await;
        let places = Places::in_space(view);
        let Some(old) = self.get_alone(&places, name).await? else { return Ok(None) };
        let Change { settings, version } = decide(&old)?;
        let mut batch = Batch::default();
        let mut versions = old.versions.clone();
        let folder = settings.folder();
        if let Some(record) = version {
            let number = settings.latest;
            places.versions.put(&mut batch, &[&folder, &number.to_string()], &record);
            let version = Version::new(number, record, Uses::default());
            versions.insert(number, Arc::new(version));
        }
        let kept = versions.split_off(&settings.first());
        for trimmed in versions.keys() {
            places.versions.delete(&mut batch, &[&folder, &trimmed.to_string()]);
            places.uses.delete(&mut batch, &[&folder, &trimmed.to_string()]);
            batch.erases();
        }
        places.keys.put(&mut batch, &[name], &settings);
        plan_rotation(&mut batch, &places, name, &settings, &kept);
        places.view.commit(batch).await?;
        let key = Key { name: name.to_owned(), kind: old.kind, settings, versions: kept };
        Ok(Some(self.keep(key)))
    }

    /// Puts a version whose private half was missing in the place of itself.
    pub(super) async fn complete(
        &self,
        view: &MountView,
        key: &Key,
        number: u32,
        record: VersionRecord,
    ) -> Result<(), ApiError> {
        let _one = self.one(&key.name).await;
        let places = Places::in_space(view);
        let now = self.get_alone(&places, &key.name).await?;
        let now = now.filter(|now| now.settings.id == key.settings.id);
        let now = now.ok_or_else(ApiError::not_found)?;
        let mut batch = Batch::default();
        let path = [now.settings.folder(), number.to_string()];
        places.versions.put(&mut batch, &path.each_ref().map(String::as_str), &record);
        places.view.commit(batch).await?;
        self.forget(&key.name);
        Ok(())
    }

    /// Takes a key away with all its versions; None when there is none.
    pub(super) async fn remove(
        &self,
        view: &MountView,
        name: &str,
        check: impl FnOnce(&Key) -> Result<(), ApiError>,
    ) -> Result<Option<()>, ApiError> {
        let _one = self.one(name).await;
        let places = Places::in_space(view);
        let Some(old) = self.get_alone(&places, name).await? else { return Ok(None) };
        check(&old)?;
        let mut batch = Batch::default();
        mark_removed(&mut batch, &places, &old.settings);
        places.keys.delete(&mut batch, &[name]);
        places.rotations.delete(&mut batch, &[name]);
        self.forget(name);
        places.view.commit(batch).await?;
        clear(&places, &old.settings.folder()).await?;
        Ok(Some(()))
    }

    /// Makes sure that random nonces are there for `messages` more under a version. True when the
    /// key should get a new version.
    ///
    /// # Errors
    /// 400 when the version has encrypted as much as its cipher bears.
    pub(super) async fn reserve(
        &self,
        view: &MountView,
        key: &Key,
        version: &Version,
        messages: u32,
    ) -> Result<bool, ApiError> {
        if !key.kind.has_short_nonces() || key.settings.convergent || version.uses.take(messages) {
            return Ok(false);
        }
        let _one = self.one(&key.name).await;
        if version.uses.take(messages) {
            return Ok(false);
        }
        let places = Places::in_space(view);
        let path = [key.settings.folder(), version.number.to_string()];
        let path = path.each_ref().map(String::as_str);
        let stored = places.uses.get(&path).await?.map_or(0, |held| held.value.reserved);
        let block = BLOCK.max(u64::from(messages));
        if stored.saturating_add(block) > SPENT_AT {
            return Err(ApiError::bad_request(format!(
                "version {} of the key has encrypted as many messages as its cipher bears; rotate \
                 the key",
                version.number,
            )));
        }
        let record = version.uses.record(stored + block);
        let mut batch = Batch::default();
        places.uses.put(&mut batch, &path, &record);
        places.view.commit(batch).await?;
        version.uses.written(record);
        version.uses.add(block);
        let is_latest = version.number == key.settings.latest;
        let has_room = version.uses.take(messages);
        debug_assert!(has_room, "the block holds the messages");
        Ok(is_latest && stored + block > ROTATED_AT && key.settings.may_rotate())
    }

    /// Writes down how often keys were used since the last call.
    pub(super) async fn write_uses(&self, view: &MountView) -> Result<(), ApiError> {
        let places = Places::in_space(view);
        for key in self.all() {
            for version in key.versions.values().filter(|version| version.uses.is_unwritten()) {
                let _one = self.one(&key.name).await;
                // A key that was removed meanwhile leaves nothing behind.
                if self.known(&key.name).is_none_or(|now| now.settings.id != key.settings.id) {
                    break;
                }
                let path = [key.settings.folder(), version.number.to_string()];
                let path = path.each_ref().map(String::as_str);
                let stored = places.uses.get(&path).await?.map_or(0, |held| held.value.reserved);
                let record = version.uses.record(stored);
                let mut batch = Batch::default();
                places.uses.put(&mut batch, &path, &record);
                places.view.commit(batch).await?;
                version.uses.written(record);
            }
        }
        Ok(())
    }

    /// Names of the keys whose time for a new version has come.
    pub(super) async fn due(
        &self,
        view: &MountView,
        now: Timestamp,
    ) -> Result<Vec<String>, ApiError> {
        let places = Places::in_space(view);
        let mut due = Vec::new();
        for entry in places.rotations.list(&[], None, usize::MAX).await? {
            let held = places.rotations.get(&[&entry.name]).await?;
            if held.is_some_and(|held| held.value.at <= now) {
                due.push(entry.name);
            }
        }
        Ok(due)
    }

    /// Removes what removed keys have left when that broke off.
    pub(super) async fn sweep(view: &MountView) -> Result<(), ApiError> {
        let places = Places::in_space(view);
        for removed in places.view.list(&["removed"], None, usize::MAX).await? {
            clear(&places, &removed.name).await?;
        }
        Ok(())
    }

    /// Sets how many keys are kept in memory, 0 for all.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
        *self.limit_is_read.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut known, limit, 0);
    }

    fn known(&self, name: &str) -> Option<Arc<Key>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn all(&self) -> Vec<Arc<Key>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn forget(&self, name: &str) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn keep(&self, key: Key) -> Arc<Key> {
        let key = Arc::new(key);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(&key.name);
        make_room(&mut known, self.limit.load(Relaxed), 1);
        known.insert(key.name.clone(), Arc::clone(&key));
        key
    }

    /// The right to read a key from the store or to change it.
    async fn one(&self, name: &str) -> MutexGuard<'_, ()> {
        let share = usize::try_from(self.shares.hash_one(name) % SHARES as u64).unwrap_or(0);
        #[expect(clippy::indexing_slicing, reason = "the share is below their number")]
        self.changes[share].lock().await
    }

    /// As [`Self::get`], for who holds the name.
    async fn get_alone(&self, places: &Places, name: &str) -> Result<Option<Arc<Key>>, ApiError> {
        if let Some(key) = self.known(name) {
            return Ok(Some(key));
        }
        self.read_limit(places).await?;
        let Some(held) = places.keys.get(&[name]).await? else { return Ok(None) };
        let key = load(places, name, held.value).await?;
        Ok(Some(self.keep(key)))
    }

    async fn read_limit(&self, places: &Places) -> Result<(), ApiError> {
        let is_read = *self.limit_is_read.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_read {
            let stored = places.configuration.get(&["mount"]).await?;
            let limit = stored.map_or(0, |held| held.value.cache_size);
            self.set_limit(usize::try_from(limit).unwrap_or(0));
        }
        Ok(())
    }

    async fn put(
        &self,
        places: &Places,
        mut batch: Batch,
        name: &str,
        settings: Settings,
        versions: Vec<(u32, VersionRecord)>,
    ) -> Result<Arc<Key>, ApiError> {
        let folder = settings.folder();
        // One commit carries a hundred versions; those before them lie there unseen until it comes.
        let late = versions.len().saturating_sub(VERSIONS_IN_ONE_COMMIT);
        for records in versions.get(..late).unwrap_or_default().chunks(VERSIONS_IN_ONE_COMMIT) {
            let mut batch = Batch::default();
            for (number, record) in records {
                places.versions.put(&mut batch, &[&folder, &number.to_string()], record);
            }
            places.view.commit(batch).await?;
        }
        for (number, record) in versions.get(late..).unwrap_or_default() {
            places.versions.put(&mut batch, &[&folder, &number.to_string()], record);
        }
        places.keys.put(&mut batch, &[name], &settings);
        let kind = settings.kind().ok_or_else(|| ApiError::internal(UnknownKind))?;
        let versions = versions
            .into_iter()
            .map(|(number, record)| {
                (number, Arc::new(Version::new(number, record, Uses::default())))
            })
            .collect();
        plan_rotation(&mut batch, places, name, &settings, &versions);
        places.view.commit(batch).await?;
        Ok(self.keep(Key { name: name.to_owned(), kind, settings, versions }))
    }
}

/// A new id for a key.
pub(super) fn new_id() -> [u8; 16] {
    random::array()
}

type Versions = std::collections::BTreeMap<u32, Arc<Version>>;

async fn load(places: &Places, name: &str, settings: Settings) -> Result<Key, ApiError> {
    let kind = settings.kind().ok_or_else(|| ApiError::internal(UnknownKind))?;
    let folder = settings.folder();
    let mut versions = Versions::new();
    for number in settings.first()..=settings.latest {
        let path = [folder.as_str(), &number.to_string()];
        let held = places.versions.get(&path).await?;
        let record = held.ok_or_else(|| ApiError::internal(VersionMissing { number }))?.value;
        let uses = places.uses.get(&path).await?.map(|held| held.value).unwrap_or_default();
        versions.insert(number, Arc::new(Version::new(number, record, Uses::going_on(uses))));
    }
    Ok(Key { name: name.to_owned(), kind, settings, versions })
}

/// Says when the next version is due, or that none is.
fn plan_rotation(
    batch: &mut Batch,
    places: &Places,
    name: &str,
    settings: &Settings,
    versions: &Versions,
) {
    let newest = versions.get(&settings.latest).map(|version| version.record.created);
    match newest {
        Some(created) if !settings.auto_rotate.is_zero() && settings.may_rotate() => {
            let at = created.plus(settings.auto_rotate);
            places.rotations.put(batch, &[name], &Due { at });
        }
        Some(_) | None => places.rotations.delete(batch, &[name]),
    }
}

/// Names the folder of a key that goes, so that a sweep finds it when the removal breaks off.
fn mark_removed(batch: &mut Batch, places: &Places, settings: &Settings) {
    batch.put(&places.view, &["removed", &settings.folder()], b"");
    batch.erases();
}

/// Deletes what lies in the folder of a removed key, and then its mark.
async fn clear(places: &Places, folder: &str) -> Result<(), ApiError> {
    places.view.remove_all(&["versions", folder]).await?;
    places.view.remove_all(&["uses", folder]).await?;
    let mut batch = Batch::default();
    batch.delete(&places.view, &["removed", folder]);
    batch.erases();
    places.view.commit(batch).await?;
    Ok(())
}

/// Lets keys go until `more` fit in. Any will do: who wants one again reads it again.
fn make_room(known: &mut HashMap<String, Arc<Key>>, limit: usize, more: usize) {
    while limit != 0 && known.len() + more > limit {
        let Some(name) = known.keys().next().cloned() else { return };
        known.remove(&name);
    }
}

/// Shares of the names that are changed beside each other.
const SHARES: usize = 16;

/// A commit carries 128 operations.
const VERSIONS_IN_ONE_COMMIT: usize = 100;

#[derive(Debug, thiserror::Error)]
#[error("the key is of a type that this version of kista does not have")]
struct UnknownKind;

#[derive(Debug, thiserror::Error)]
#[error("version {number} of the key is missing")]
struct VersionMissing {
    number: u32,
}
