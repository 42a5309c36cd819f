use std::time::Duration;

use tokio::time::Instant;

use super::{Mounts, Record, Upgrade};
use crate::{
    barrier::CommitError,
    clock::Timestamp,
    engines::{
        kv1::Stage,
        upgrade::{self, Copying},
    },
    gate::ApiError,
};

/// A mount is not upgraded yet; it goes on as version 1.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// A secret cannot be copied.
    #[error("the secrets of a mount cannot be copied into version 2")]
    Copy(#[from] ApiError),
    /// The change is not stored.
    #[error("the upgrade of a mount cannot be stored")]
    Commit(#[from] CommitError),
}

impl Mounts {
    /// Notes that the secrets of a mount of version 1 are copied, and has its writes written for
    /// version 2 too from now on: once this is done no other write is under way.
    pub(super) async fn begin_upgrade(&self, record: Record) -> Result<(), CommitError> {
        let record = Record { upgrade: Upgrade::Copying, ..record };
        let switch = self.wings.switch(&record);
        switch.turn(Stage::Mirrored, self.store(record)).await
    }

    /// Goes on with every upgrade that has begun, for some time; whether all are done.
    ///
    /// # Errors
    /// [`UpgradeError`]; what is copied stays copied.
    pub async fn upgrade(&self, now: Timestamp, within: Duration) -> Result<bool, UpgradeError> {
        let end = Instant::now() + within;
        for entry in self.table().all() {
            if entry.record.upgrade != Upgrade::Copying {
                continue;
            }
            let mut copying = Copying::of(&entry.view).await?;
            // What is disabled is swept: nothing may be written there behind the sweep.
            while self.is_copying(&entry.record.uuid) && copying.next(now).await? {
                if Instant::now() >= end {
                    return Ok(false);
                }
            }
            self.finish_upgrade(&entry.record.uuid).await?;
        }
        Ok(true)
    }

    fn is_copying(&self, uuid: &str) -> bool {
        let table = self.table();
        let is_it = |record: &Record| record.uuid == uuid && record.upgrade == Upgrade::Copying;
        table.all().into_iter().any(|entry| is_it(&entry.record))
    }

    /// Makes the mount version 2, while none of its requests is under way.
    async fn finish_upgrade(&self, uuid: &str) -> Result<(), CommitError> {
        let _one = self.changes.lock().await;
        let table = self.table();
        let entry = table.all().into_iter().find(|entry| entry.record.uuid == uuid);
        // Disabled, or finished by another call.
        let Some(entry) = entry.filter(|entry| entry.record.upgrade == Upgrade::Copying) else {
            return Ok(());
        };
        let mut record = Record { upgrade: Upgrade::Clearing, ..Record::clone(&entry.record) };
        record.options.insert("version".to_owned(), "2".to_owned());
        let switch = self.wings.switch(&entry.record);
        switch.turn(Stage::Over, self.store(record)).await
    }

    /// Removes what version 1 of a mount has left.
    pub(super) async fn clear(&self, record: &Record) -> Result<(), CommitError> {
        let Some(entry) = self.at(&record.full_path()) else { return Ok(()) };
        upgrade::clear(&entry.view).await?;
        let _one = self.changes.lock().await;
        // It may have been moved or disabled meanwhile; the next round looks again.
        let Some(entry) = self.at(&record.full_path()) else { return Ok(()) };
        if entry.record.uuid == record.uuid && entry.record.upgrade == Upgrade::Clearing {
            self.store(Record { upgrade: Upgrade::None, ..Record::clone(&entry.record) }).await?;
        }
        Ok(())
    }
}
