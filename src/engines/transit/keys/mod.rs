//! The keys of a mount: those in use are kept in memory, and each is changed by one request at a
//! time.
//!
//! - `ledger.rs`: nonces reserved before they are made, and uses written down

mod ledger;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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
    uses::Uses,
};
use crate::{
    barrier::{Batch, Expected, MountView, ReadError},
    clock::Timestamp,
    crypto::{random, rsa::RsaKey},
    gate::ApiError,
};

/// The keys of one mount, one for all its wings however often these are built.
#[derive(Debug)]
pub struct Keys {
    known: RwLock<HashMap<String, Arc<Key>>>,
    /// Of keys that were let go of to make room: nonces that are reserved, counts to be written.
    apart: Mutex<HashMap<String, Apart>>,
    /// How many are kept, 0 for all.
    limit: AtomicUsize,
    limit_is_read: Mutex<bool>,
    /// Folders of keys that are being written in more than one commit.
    in_the_making: Mutex<HashSet<String>>,
    /// Held while the mount's settings are changed.
    pub(super) configuring: tokio::sync::Mutex<()>,
    /// Held while a key is read from the store or changed, by a share of the names each.
    changes: [tokio::sync::Mutex<()>; SHARES],
    shares: RandomState,
    /// The pair with which keys to be imported are wrapped, once it was asked for.
    pub(super) wrapping: tokio::sync::Mutex<Option<Arc<RsaKey>>>,
}

/// The uses of a key that is not kept itself. Without them each time that a key is read again would
/// cost it a block of nonces, and there are but 4,096.
#[derive(Debug)]
struct Apart {
    id: [u8; 16],
    uses: BTreeMap<u32, Arc<Uses>>,
}

impl Apart {
    fn of(key: &Key) -> Self {
        let uses = key.versions.iter().map(|(number, one)| (*number, Arc::clone(&one.uses)));
        Self { id: key.settings.id, uses: uses.collect() }
    }
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
            apart: Mutex::default(),
            limit: AtomicUsize::new(0),
            limit_is_read: Mutex::default(),
            in_the_making: Mutex::default(),
            configuring: tokio::sync::Mutex::default(),
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
        let old = self.trimmed(&places, old, &settings).await?;
        let mut batch = Batch::default();
        let mut versions = old.versions.clone();
        let mut unreadable = old.unreadable.clone();
        let folder = settings.folder();
        if let Some(record) = version {
            let number = settings.latest;
            places.versions.put(&mut batch, &[&folder, &number.to_string()], &record);
            let version = Version::new(number, record, Arc::default());
            versions.insert(number, Arc::new(version));
        }
        let kept = versions.split_off(&settings.first());
        let kept_unreadable = unreadable.split_off(&settings.first());
        for trimmed in versions.keys().chain(&unreadable) {
            places.versions.delete(&mut batch, &[&folder, &trimmed.to_string()]);
            places.uses.delete(&mut batch, &[&folder, &trimmed.to_string()]);
            batch.erases();
        }
        places.keys.put(&mut batch, &[name], &settings);
        plan_rotation(&mut batch, &places, name, &settings, &kept);
        places.view.commit(batch).await?;
        let key = Key {
            name: name.to_owned(),
            kind: old.kind,
            settings,
            versions: kept,
            unreadable: kept_unreadable,
        };
        Ok(Some(self.keep(key)))
    }

    /// Trims a key of all but the last versions that are to go, in commits of bounded size. Each
    /// leaves a whole key behind, so that who breaks off begins again.
    async fn trimmed(
        &self,
        places: &Places,
        mut key: Arc<Key>,
        wanted: &Settings,
    ) -> Result<Arc<Key>, ApiError> {
        while wanted.first().saturating_sub(key.settings.first()) > TRIMMED_AT_ONCE {
            let mut batch = Batch::default();
            let folder = key.settings.folder();
            let first = key.settings.first() + TRIMMED_AT_ONCE;
            for trimmed in key.settings.first()..first {
                places.versions.delete(&mut batch, &[&folder, &trimmed.to_string()]);
                places.uses.delete(&mut batch, &[&folder, &trimmed.to_string()]);
            }
            batch.erases();
            let settings = Settings { min_available: first, ..key.settings.clone() };
            places.keys.put(&mut batch, &[&key.name], &settings);
            places.view.commit(batch).await?;
            let versions = key.versions.clone().split_off(&first);
            let unreadable = key.unreadable.clone().split_off(&first);
            let name = key.name.clone();
            key = self.keep(Key { name, kind: key.kind, settings, versions, unreadable });
        }
        Ok(key)
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
        // Another request may have completed it meanwhile, or trimmed it away.
        let before = now.versions.get(&number);
        if before.is_none_or(|before| !before.record.private.is_empty()) {
            return Err(ApiError::new(409, "the key was changed meanwhile; try again"));
        }
        let mut batch = Batch::default();
        let path = [now.settings.folder(), number.to_string()];
        places.versions.put(&mut batch, &path.each_ref().map(String::as_str), &record);
        places.view.commit(batch).await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        self.let_go(&mut known, &key.name);
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
    pub(super) async fn sweep(&self, view: &MountView) -> Result<(), ApiError> {
        let places = Places::in_space(view);
        for removed in places.view.list(&["removed"], None, usize::MAX).await? {
            if self.in_the_making(|folders| folders.contains(&removed.name)) {
                continue;
            }
            clear(&places, &removed.name).await?;
        }
        Ok(())
    }

    /// Sets how many keys are kept in memory, 0 for all.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
        *self.limit_is_read.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        self.make_room(&mut known, limit, 0);
    }

    fn in_the_making<R>(&self, with: impl FnOnce(&mut HashSet<String>) -> R) -> R {
        with(&mut self.in_the_making.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn known(&self, name: &str) -> Option<Arc<Key>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn forget(&self, name: &str) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.apart.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Lets go of a key, but for its uses.
    fn let_go(&self, known: &mut HashMap<String, Arc<Key>>, name: &str) {
        let Some(key) = known.remove(name) else { return };
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        apart.insert(name.to_owned(), Apart::of(&key));
    }

    /// Lets keys go until `more` fit in. Any will do: who wants one again reads it again.
    fn make_room(&self, known: &mut HashMap<String, Arc<Key>>, limit: usize, more: usize) {
        while limit != 0 && known.len() + more > limit {
            let Some(name) = known.keys().next().cloned() else { return };
            self.let_go(known, &name);
        }
    }

    fn keep(&self, key: Key) -> Arc<Key> {
        let key = Arc::new(key);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(&key.name);
        self.make_room(&mut known, self.limit.load(Relaxed), 1);
        known.insert(key.name.clone(), Arc::clone(&key));
        self.apart.lock().unwrap_or_else(PoisonError::into_inner).remove(&key.name);
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
        let key = load(places, name, held.value, |id, number| self.uses_of(name, id, number));
        Ok(Some(self.keep(key.await?)))
    }

    /// The uses of a version of a key that was let go of.
    fn uses_of(&self, name: &str, id: [u8; 16], number: u32) -> Option<Arc<Uses>> {
        let apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        let used = apart.get(name).filter(|used| used.id == id)?;
        used.uses.get(&number).cloned()
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
        batch: Batch,
        name: &str,
        settings: Settings,
        versions: Vec<(u32, VersionRecord)>,
    ) -> Result<Arc<Key>, ApiError> {
        let folder = settings.folder();
        let _making = Making::of(self, &folder);
        self.put_versions(places, batch, name, settings, versions).await
    }

    async fn put_versions(
        &self,
        places: &Places,
        mut batch: Batch,
        name: &str,
        settings: Settings,
        versions: Vec<(u32, VersionRecord)>,
    ) -> Result<Arc<Key>, ApiError> {
        let folder = settings.folder();
        // One commit carries a hundred versions; those before them lie there unseen until it comes,
        // and are marked as what a removed key has left until then.
        let late = versions.len().saturating_sub(VERSIONS_IN_ONE_COMMIT);
        if late > 0 {
            batch.delete(&places.view, &["removed", &folder]);
        }
        for records in versions.get(..late).unwrap_or_default().chunks(VERSIONS_IN_ONE_COMMIT) {
            let mut batch = Batch::default();
            mark_removed(&mut batch, places, &settings);
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
                (number, Arc::new(Version::new(number, record, Arc::default())))
            })
            .collect();
        plan_rotation(&mut batch, places, name, &settings, &versions);
        places.view.commit(batch).await?;
        let (name, unreadable) = (name.to_owned(), BTreeSet::new());
        Ok(self.keep(Key { name, kind, settings, versions, unreadable }))
    }
}

/// While it lives, no sweep takes the versions of a key for what a removed one has left.
struct Making<'a> {
    keys: &'a Keys,
    folder: &'a str,
}

impl<'a> Making<'a> {
    fn of(keys: &'a Keys, folder: &'a str) -> Self {
        keys.in_the_making(|folders| folders.insert(folder.to_owned()));
        Self { keys, folder }
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.keys.in_the_making(|folders| folders.remove(self.folder));
    }
}

/// A new id for a key.
pub(super) fn new_id() -> [u8; 16] {
    random::array()
}

type Versions = BTreeMap<u32, Arc<Version>>;

async fn load(
    places: &Places,
    name: &str,
    settings: Settings,
    uses_of: impl Fn([u8; 16], u32) -> Option<Arc<Uses>>,
) -> Result<Key, ApiError> {
    let kind = settings.kind().ok_or_else(|| ApiError::internal(UnknownKind))?;
    let folder = settings.folder();
    let mut versions = Versions::new();
    let mut unreadable = BTreeSet::new();
    for number in settings.first()..=settings.latest {
        let path = [folder.as_str(), &number.to_string()];
        let record = match places.versions.get(&path).await {
            Ok(Some(held)) => held.value,
            Ok(None) | Err(ReadError::Damaged) => {
                tracing::error!(version = number, "a version of a transit key cannot be read");
                unreadable.insert(number);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let uses = match uses_of(settings.id, number) {
            Some(uses) => uses,
            None => Arc::new(Uses::going_on(ledger::written_down(places, &path).await?)),
        };
        versions.insert(number, Arc::new(Version::new(number, record, uses)));
    }
    Ok(Key { name: name.to_owned(), kind, settings, versions, unreadable })
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

/// Shares of the names that are changed beside each other.
const SHARES: usize = 16;

/// A commit carries 128 operations.
const VERSIONS_IN_ONE_COMMIT: usize = 100;
/// The same: a version that goes takes two.
const TRIMMED_AT_ONCE: u32 = 50;

#[derive(Debug, thiserror::Error)]
#[error("the key is of a type that this version of kista does not have")]
struct UnknownKind;
