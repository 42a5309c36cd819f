use std::collections::BTreeMap;

use super::{
    Class, EnableError, KeptLists, Listing, Mounts, Record, Upgrade,
    mounts::{check_path, is_protected},
    registry::Kind,
};
use crate::barrier::CommitError;

/// What is to be changed of a mount; what is none stays.
#[derive(Debug, Default)]
pub struct Tuning {
    /// A note.
    pub description: Option<String>,
    /// Options of the engine, added to those that are there.
    pub options: BTreeMap<String, String>,
    /// In seconds, 0 for the server's.
    pub default_lease_ttl: Option<u64>,
    /// Likewise.
    pub max_lease_ttl: Option<u64>,
    /// Who is told of it.
    pub listing: Option<Listing>,
    /// Kept for clients.
    pub force_no_cache: Option<bool>,
    /// Likewise.
    pub audit_request_keys: Option<Vec<String>>,
    /// Likewise.
    pub audit_response_keys: Option<Vec<String>>,
    /// Likewise.
    pub request_headers: Option<Vec<String>>,
    /// Likewise.
    pub response_headers: Option<Vec<String>>,
}

/// A mount is not changed.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// There is none.
    #[error("tune of path {0:?} failed: no mount entry found")]
    Absent(String),
    /// It is as the server needs it.
    #[error("cannot tune {0:?}")]
    Protected(String),
    /// The longest lease would be shorter than the usual one.
    #[error(
        "backend max lease TTL of {max} would be less than backend default lease TTL of {default}"
    )]
    LeaseTimes {
        /// In seconds.
        max: u64,
        /// Likewise.
        default: u64,
    },
    /// Versions are there, and version 1 has none.
    #[error("cannot downgrade mount from version 2")]
    Downgrade,
    /// There is no such version.
    #[error("there is no version {0} of KV")]
    UnknownVersion(String),
    /// The change is not stored.
    #[error("the mount cannot be stored")]
    Commit(#[from] CommitError),
}

/// A mount is not moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// There is none.
    #[error("no matching mount at {0:?}")]
    Absent(String),
    /// It has to stay.
    #[error("cannot remount {0:?}")]
    Protected(String),
    /// Nothing can be there.
    #[error("cannot remount to destination {0}")]
    Destination(String),
    /// Something is there, under or over it.
    #[error("path already in use at {0:?}")]
    PathInUse(String),
    /// The path is not one.
    #[error(transparent)]
    BadPath(EnableError),
    /// The change is not stored.
    #[error("the mount cannot be stored")]
    Commit(#[from] CommitError),
}

impl Mounts {
    /// Changes what is noted of the mount at `path` (ending in a slash). KV that is to be of
    /// version 2 is on its way there from now on, which [`Mounts::upgrade`] goes to its end; true
    /// is answered then.
    ///
    /// # Errors
    /// [`TuneError`].
    pub async fn tune(&self, path: &str, tuning: Tuning) -> Result<bool, TuneError> {
        let _one = self.changes.lock().await;
        let entry = self.at(path).ok_or_else(|| TuneError::Absent(path.to_owned()))?;
        if is_protected(path) {
            return Err(TuneError::Protected(path.to_owned()));
        }
        let before = Record::clone(&entry.record);
        let mut record = tuning.apply_to(before);
        let (default, max) = (record.default_lease_ttl, record.max_lease_ttl);
        if max != 0 && default > max {
            return Err(TuneError::LeaseTimes { max, default });
        }
        let is_upgrading = begins_upgrade(&entry.record, &mut record)?;
        if is_upgrading && entry.record.upgrade == Upgrade::None {
            self.begin_upgrade(record).await?;
        } else {
            self.store(record).await?;
        }
        Ok(is_upgrading)
    }

    /// Gives the mount at `from` the path `to`, both ending in a slash. Its data stays where it is:
    /// it lies in the mount's space, whatever the path.
    ///
    /// # Errors
    /// [`MoveError`].
    pub async fn relocate(&self, from: &str, to: &str) -> Result<(), MoveError> {
        let _one = self.changes.lock().await;
        if is_protected(from) {
            return Err(MoveError::Protected(from.to_owned()));
        }
        let entry = self.at(from).ok_or_else(|| MoveError::Absent(from.to_owned()))?;
        match check_path(to) {
            Ok(()) => {}
            Err(EnableError::Protected(_)) => return Err(MoveError::Destination(to.to_owned())),
            Err(error) => return Err(MoveError::BadPath(error)),
        }
        if let Some(taken) = self.table().conflict(to) {
            return Err(MoveError::PathInUse(taken.to_owned()));
        }
        self.store(Record { path: to.to_owned(), ..Record::clone(&entry.record) }).await?;
        Ok(())
    }
}

impl Tuning {
    /// Whether it sets lists that are kept for clients and change nothing.
    pub fn sets_lists(&self) -> bool {
        [
            &self.audit_request_keys,
            &self.audit_response_keys,
            &self.request_headers,
            &self.response_headers,
        ]
        .into_iter()
        .flatten()
        .any(|list| !list.is_empty())
    }

    pub(super) fn apply_to(self, record: Record) -> Record {
        let KeptLists {
            audit_request_keys,
            audit_response_keys,
            request_headers,
            response_headers,
        } = record.kept;
        let mut options = record.options;
        options.extend(self.options);
        Record {
            description: self.description.unwrap_or(record.description),
            options,
            default_lease_ttl: self.default_lease_ttl.unwrap_or(record.default_lease_ttl),
            max_lease_ttl: self.max_lease_ttl.unwrap_or(record.max_lease_ttl),
            listing: self.listing.unwrap_or(record.listing),
            force_no_cache: self.force_no_cache.unwrap_or(record.force_no_cache),
            kept: KeptLists {
                audit_request_keys: self.audit_request_keys.unwrap_or(audit_request_keys),
                audit_response_keys: self.audit_response_keys.unwrap_or(audit_response_keys),
                request_headers: self.request_headers.unwrap_or(request_headers),
                response_headers: self.response_headers.unwrap_or(response_headers),
            },
            ..record
        }
    }
}

/// Whether the mount goes from version 1 to 2. It keeps its version until it has arrived.
fn begins_upgrade(before: &Record, after: &mut Record) -> Result<bool, TuneError> {
    let version = |record: &Record| record.options.get("version").cloned();
    match (Kind::of_record(before), Kind::of(Class::Secret, &after.kind, version(after).as_deref()))
    {
        (Some(Kind::Kv1), Some(Kind::Kv2)) => {
            after.options.clone_from(&before.options);
            Ok(true)
        }
        (Some(Kind::Kv2), Some(Kind::Kv1)) => Err(TuneError::Downgrade),
        (Some(_), Some(_)) => Ok(false),
        (_, None) | (None, _) => Err(TuneError::UnknownVersion(version(after).unwrap_or_default())),
    }
}
