use std::sync::PoisonError;

use super::{Apart, Keys};
use crate::{
    barrier::{Batch, MountView, ReadError},
    engines::transit::{
        key::{Key, Version},
        record::{Places, UseRecord},
        uses::{BLOCK, ROTATED_AT, SPENT_AT, Uses},
    },
    gate::ApiError,
};

/// What the store knows of a version's uses, nothing when none was written down yet.
///
/// Where the record does not open nobody knows how many nonces were made: all of them count as
/// made, so that the version encrypts no more, and still decrypts.
pub(super) async fn written_down(places: &Places, path: &[&str]) -> Result<UseRecord, ApiError> {
    match places.uses.get(path).await {
        Ok(held) => Ok(held.map(|held| held.value).unwrap_or_default()),
        Err(ReadError::Damaged) => Ok(UseRecord { reserved: SPENT_AT, ..UseRecord::default() }),
        Err(error) => Err(error.into()),
    }
}

impl Keys {
    /// Makes sure that random nonces are there for `messages` more under a version. True when the
    /// key should get a new version.
    ///
    /// # Errors
    /// 400 when the version has encrypted as much as its cipher bears.
    pub(in crate::engines::transit) async fn reserve(
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
        // A key that was removed meanwhile, or a version, leaves nothing behind.
        let now = self.get_alone(&places, &key.name).await?;
        let now = now.filter(|now| now.settings.id == key.settings.id);
        if now.is_none_or(|now| !now.versions.contains_key(&version.number)) {
            return Err(ApiError::new(409, "the key was changed meanwhile; try again"));
        }
        let path = [key.settings.folder(), version.number.to_string()];
        let path = path.each_ref().map(String::as_str);
        let stored = written_down(&places, &path).await?.reserved;
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
        // Our own are taken before anybody else can take them.
        version.uses.add(block - u64::from(messages));
        let is_latest = version.number == key.settings.latest;
        Ok(is_latest && stored + block > ROTATED_AT && key.settings.may_rotate())
    }

    /// How many nonces are reserved for a version, of those that its cipher bears; None when they
    /// are not counted.
    pub(in crate::engines::transit) async fn reserved(
        view: &MountView,
        key: &Key,
        version: &Version,
    ) -> Result<Option<u64>, ApiError> {
        if !key.kind.has_short_nonces() || key.settings.convergent {
            return Ok(None);
        }
        let places = Places::in_space(view);
        let path = [key.settings.folder(), version.number.to_string()];
        let stored = written_down(&places, &path.each_ref().map(String::as_str)).await?;
        Ok(Some(stored.reserved))
    }

    /// Writes down how often keys were used since the last call.
    ///
    /// # Errors
    /// The first that reading or committing failed with, after the others had their turn.
    pub(in crate::engines::transit) async fn write_uses(
        &self,
        view: &MountView,
    ) -> Result<(), ApiError> {
        let places = Places::in_space(view);
        let mut result = Ok(());
        for (name, used) in self.all_uses() {
            for (number, uses) in used.uses.iter().filter(|(_, uses)| uses.is_unwritten()) {
                let written = self.write_one(&places, &name, used.id, *number, uses).await;
                result = result.and(written);
            }
        }
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        apart.retain(|_, used| used.uses.values().any(|uses| uses.are_wanted()));
        result
    }

    async fn write_one(
        &self,
        places: &Places,
        name: &str,
        id: [u8; 16],
        number: u32,
        uses: &Uses,
    ) -> Result<(), ApiError> {
        let _one = self.one(name).await;
        // A key that was removed meanwhile, or a version, leaves nothing behind.
        if !self.has(name, id, number) {
            return Ok(());
        }
        let path = [data_encoding::HEXLOWER.encode(&id), number.to_string()];
        let path = path.each_ref().map(String::as_str);
        let record = uses.record(written_down(places, &path).await?.reserved);
        let mut batch = Batch::default();
        places.uses.put(&mut batch, &path, &record);
        places.view.commit(batch).await?;
        uses.written(record);
        Ok(())
    }

    /// The uses of all keys, by name, also of those that are not kept.
    fn all_uses(&self) -> Vec<(String, Apart)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.iter().map(|(name, key)| (name.clone(), Apart::of(key)));
        let apart = apart
            .iter()
            .map(|(name, used)| (name.clone(), Apart { id: used.id, uses: used.uses.clone() }));
        known.chain(apart).collect()
    }

    /// Whether a version is there, as far as that is known without reading it.
    fn has(&self, name: &str, id: [u8; 16], number: u32) -> bool {
        if let Some(key) = self.known(name) {
            return key.settings.id == id && key.versions.contains_key(&number);
        }
        let apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        apart.get(name).is_some_and(|used| used.id == id && used.uses.contains_key(&number))
    }
}
