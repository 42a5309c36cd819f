use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::Arc,
};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::{
    Class, Entry, Record, Table, Tuning, Upgrade,
    registry::{Kind, Wings},
};
use crate::{
    barrier::{Barrier, Batch, Collection, CommitError, ReadError, SpaceId},
    clock::Timestamp,
    engines::kv2,
    gate::ApiError,
    token,
};

/// The mounts of an open vault.
pub struct Mounts {
    barrier: Arc<Barrier>,
    pub(super) wings: Wings,
    records: Collection<Record>,
    table: ArcSwap<Table>,
    /// One change at a time: each looks at the table and then replaces it.
    pub(super) changes: Mutex<()>,
}

impl fmt::Debug for Mounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mounts")
    }
}

/// What is asked of a new mount.
#[derive(Debug, Default)]
pub struct NewMount {
    /// Its type, `kv` or its alias `kv-v2`.
    pub kind: String,
    /// What is set of it from the beginning.
    pub settings: Tuning,
}

/// The table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The records cannot be read.
    #[error("the mount table cannot be read")]
    Read(#[from] ReadError),
    /// A record names a type that this version lacks.
    #[error("the mount {path} is of type {kind}, which this version of kista does not have")]
    UnknownType {
        /// Where.
        path: String,
        /// What.
        kind: String,
    },
}

/// A mount is not made.
#[derive(Debug, thiserror::Error)]
pub enum EnableError {
    /// The path is that of a mount, or lies under or over one.
    #[error("path is already in use at {0}")]
    PathInUse(String),
    /// The path belongs to the server.
    #[error("cannot mount {0:?}")]
    Protected(String),
    /// The path is not one.
    #[error("the path of a mount has 1 to 255 bytes and no glob characters")]
    BadPath,
    /// There is no such type.
    #[error("plugin not found in the catalog: {0}")]
    UnknownType(String),
    /// Every store has one mount of this type, and no other.
    #[error("mount type of {0:?} is not mountable")]
    Single(String),
    /// It is not stored.
    #[error("the mount cannot be stored")]
    Commit(#[from] CommitError),
}

/// What removed mounts have left is not deleted.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Reading failed.
    #[error("removed mounts cannot be read")]
    Read(#[from] ReadError),
    /// Deleting failed.
    #[error("removed mounts cannot be deleted")]
    Commit(#[from] CommitError),
    /// The keys of a transit mount are not looked after.
    #[error("the keys of a mount cannot be looked after")]
    Keys(#[from] ApiError),
}

/// A mount is not taken away.
#[derive(Debug, thiserror::Error)]
pub enum DisableError {
    /// The server needs it.
    #[error("cannot unmount {0:?}")]
    Protected(String),
    /// The change is not stored.
    #[error("the mount cannot be removed")]
    Commit(#[from] CommitError),
}

impl Mounts {
    /// Writes the mounts that every store has.
    ///
    /// # Errors
    /// What the commit fails with.
    pub async fn create(barrier: &Arc<Barrier>) -> Result<(), CommitError> {
        let record = Record {
            description: "token based credentials".to_owned(),
            ..Record::new(Class::Auth, "token", "token/")
        };
        let mut batch = Batch::default();
        records(barrier).put(&mut batch, &[&record.uuid], &record);
        barrier.commit(batch).await
    }

    /// Reads the table.
    ///
    /// # Errors
    /// [`LoadError`] when a record does not open or names a type that is not there.
    pub async fn load(
        barrier: &Arc<Barrier>,
        tokens: &Arc<token::Store>,
    ) -> Result<Self, LoadError> {
        let records = records(barrier);
        let wings = Wings::new(Arc::clone(tokens));
        let entries = Self::read(barrier, &records, &wings).await?;
        Ok(Self {
            barrier: Arc::clone(barrier),
            wings,
            records,
            table: ArcSwap::from_pointee(Table::of(entries)),
            changes: Mutex::new(()),
        })
    }

    /// Reads the table again: what it was read from was found to be wrong.
    ///
    /// # Errors
    /// [`LoadError`]; the table stays as it was.
    pub async fn reload(&self) -> Result<(), LoadError> {
        let _one = self.changes.lock().await;
        let entries = Self::read(&self.barrier, &self.records, &self.wings).await?;
        self.table.store(Arc::new(Table::of(entries)));
        Ok(())
    }

    async fn read(
        barrier: &Arc<Barrier>,
        records: &Collection<Record>,
        wings: &Wings,
    ) -> Result<Vec<Entry>, LoadError> {
        let build = |record: Record| {
            let (path, kind) = (record.full_path(), record.kind.clone());
            entry_of(barrier, wings, record).ok_or(LoadError::UnknownType { path, kind })
        };
        let mut entries = vec![build(Record::cubbyhole())?];
        for item in records.list(&[], None, usize::MAX).await? {
            let Some(held) = records.get(&[&item.name]).await? else { continue };
            if !held.value.is_removed {
                entries.push(build(held.value)?);
            }
        }
        Ok(entries)
    }

    /// The table as it is now.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Mounts an engine at `path` (ending in a slash).
    ///
    /// # Errors
    /// [`EnableError`] for a path that is taken or protected, or an unknown type.
    pub async fn enable(&self, path: &str, new: NewMount) -> Result<(), EnableError> {
        check_path(path)?;
        let NewMount { kind, mut settings } = new;
        let kind = resolve(kind, &mut settings.options)?;
        let _one = self.changes.lock().await;
        let table = self.table();
        if let Some(taken) = table.conflict(path) {
            return Err(EnableError::PathInUse(taken.to_owned()));
        }
        let record = settings.apply_to(Record::new(Class::Secret, &kind, path));
        self.store(record).await?;
        Ok(())
    }

    /// Stores a record and puts it into the table, in the place of the one that is there. Held
    /// meanwhile: [`Self::changes`].
    ///
    /// # Errors
    /// What the commit fails with; the table stays as it was.
    pub(super) async fn store(&self, record: Record) -> Result<(), CommitError> {
        let mut batch = Batch::default();
        self.records.put(&mut batch, &[&record.uuid], &record);
        self.barrier.commit(batch).await?;
        let table = self.table();
        let uuid = record.uuid.clone();
        let others = table.all().into_iter().filter(|entry| entry.record.uuid != uuid).cloned();
        // A type that is not known was refused before it came here.
        let changed = entry_of(&self.barrier, &self.wings, record);
        self.table.store(Arc::new(Table::of(others.chain(changed))));
        Ok(())
    }

    /// The identifiers of all mounts that are stored, also of those whose type is not known here.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn recorded(&self) -> Result<HashSet<String>, ReadError> {
        let items = self.records.list(&[], None, usize::MAX).await?;
        Ok(items.into_iter().map(|item| item.name).collect())
    }

    /// The mount that lies at a path.
    pub(super) fn at(&self, path: &str) -> Option<Entry> {
        let table = self.table();
        table.find(path).filter(|entry| entry.record.full_path() == path).cloned()
    }

    /// Takes the mount at `path` away and returns it; absent is fine. One small commit makes it
    /// true, and [`Mounts::sweep`] deletes the data afterwards.
    ///
    /// # Errors
    /// [`DisableError`] for a mount that the server needs.
    pub async fn disable(&self, path: &str) -> Result<Option<Arc<Record>>, DisableError> {
        if is_protected(path) {
            return Err(DisableError::Protected(path.to_owned()));
        }
        let _one = self.changes.lock().await;
        let table = self.table();
        let Some(entry) = self.at(path) else { return Ok(None) };
        let removed = Record { is_removed: true, ..Record::clone(&entry.record) };
        let mut batch = Batch::default();
        self.records.put(&mut batch, &[&removed.uuid], &removed);
        self.barrier.commit(batch).await?;
        let entries = table.all().into_iter().filter(|entry| entry.record.uuid != removed.uuid);
        self.table.store(Arc::new(Table::of(entries.cloned())));
        self.wings.forget(&removed);
        Ok(Some(entry.record))
    }

    /// Deletes what removed mounts have left, version 1 of upgraded ones, and what work inside the
    /// others has left that broke off, in bounded commits; what a crash interrupts is taken up by
    /// the next call.
    ///
    /// # Errors
    /// The first that reading or committing failed with, after the others had their turn.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), SweepError> {
        let mut result = Ok(());
        for item in self.records.list(&[], None, usize::MAX).await? {
            // What one mount cannot do keeps none of the others waiting.
            let swept = self.sweep_one(&item.name, now).await;
            result = result.and(swept);
        }
        result
    }

    async fn sweep_one(&self, uuid: &str, now: Timestamp) -> Result<(), SweepError> {
        let Some(held) = self.records.get(&[uuid]).await? else { return Ok(()) };
        let record = held.value;
        if !record.is_removed {
            return self.sweep_inside(&record, now).await;
        }
        self.barrier.view(SpaceId(record.space)).remove_all(&[]).await?;
        let mut batch = Batch::default();
        self.records.delete(&mut batch, &[uuid]);
        self.barrier.commit(batch).await?;
        Ok(())
    }

    /// Writes down what mounts keep in memory until the next sweep, before the vault is sealed.
    ///
    /// # Errors
    /// What reading or committing fails with.
    pub async fn settle(&self) -> Result<(), SweepError> {
        let mut result = Ok(());
        for entry in self.table().all() {
            if Kind::of_record(&entry.record) == Some(Kind::Transit) {
                let settled = self.wings.transit(&entry.record).settle(&entry.view).await;
                result = result.and(settled);
            }
        }
        Ok(result?)
    }

    async fn sweep_inside(&self, record: &Record, now: Timestamp) -> Result<(), SweepError> {
        if record.upgrade == Upgrade::Clearing {
            self.clear(record).await?;
        }
        let view = self.barrier.view(SpaceId(record.space));
        match Kind::of_record(record) {
            Some(Kind::Kv2) => kv2::sweep(&view, now).await?,
            Some(Kind::Transit) => self.wings.transit(record).sweep(&view, now).await?,
            Some(Kind::Kv1 | Kind::Cubbyhole | Kind::Token) | None => {}
        }
        Ok(())
    }
}

fn records(barrier: &Arc<Barrier>) -> Collection<Record> {
    Collection::new(barrier.view(SpaceId::SYSTEM).under(&["mounts"]))
}

/// The type; Vault's alias `kv-v2` is one with an option.
fn resolve(kind: String, options: &mut BTreeMap<String, String>) -> Result<String, EnableError> {
    let kind = if kind == "kv-v2" {
        options.insert("version".to_owned(), "2".to_owned());
        "kv".to_owned()
    } else {
        kind
    };
    let version = options.get("version").map(String::as_str);
    match (Kind::of(Class::Secret, &kind, version), version) {
        (Some(known), _) if known.is_single() => Err(EnableError::Single(kind)),
        (Some(_), _) => Ok(kind),
        (None, Some(version)) => Err(EnableError::UnknownType(format!("{kind} version {version}"))),
        (None, None) => Err(EnableError::UnknownType(kind)),
    }
}

/// A record as requests reach it; None when its type is not known.
fn entry_of(barrier: &Arc<Barrier>, wings: &Wings, record: Record) -> Option<Entry> {
    let mounted = wings.build(&record)?;
    let view = barrier.view(SpaceId(record.space));
    Some(Entry { record: Arc::new(record), mounted, view })
}

pub(super) fn check_path(path: &str) -> Result<(), EnableError> {
    if is_protected(path) {
        return Err(EnableError::Protected(path.to_owned()));
    }
    // A mount named `+` or `a*` could not be told from a pattern in a policy.
    if path.len() < 2 || path.len() > 256 || path.contains(['*', '+']) {
        return Err(EnableError::BadPath);
    }
    Ok(())
}

pub(super) fn is_protected(path: &str) -> bool {
    ["sys/", "auth/", "audit/", "cubbyhole/", "identity/"]
        .iter()
        .any(|taken| path.starts_with(taken))
}
