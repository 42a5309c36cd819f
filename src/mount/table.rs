use std::{collections::HashMap, fmt, sync::Arc};

use super::Record;
use crate::{barrier::MountView, gate::Mounted};

/// From a path to its mount.
#[derive(Debug, Default)]
pub struct Table {
    entries: HashMap<String, Entry>,
}

/// A mount in the table.
#[derive(Clone)]
pub struct Entry {
    /// As it is stored.
    pub record: Arc<Record>,
    /// As requests reach it.
    pub mounted: Arc<dyn Mounted>,
    /// Its data. Held here so that its names key is not derived anew for each request.
    pub view: MountView,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({})", self.record.kind)
    }
}

impl Table {
    /// A table of these mounts.
    pub fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        let keyed = entries.into_iter().map(|entry| (entry.record.full_path(), entry));
        Self { entries: keyed.collect() }
    }

    /// The mount that `path` lies in. Since none lies under another, the first prefix that fits is
    /// the longest.
    pub fn find(&self, path: &str) -> Option<&Entry> {
        let ends = path.match_indices('/').map(|(at, _)| at + 1);
        let found =
            ends.filter_map(|end| path.get(..end)).find_map(|prefix| self.entries.get(prefix));
        // `x` alone means the mount `x/`.
        found.or_else(|| self.entries.get(&format!("{path}/")))
    }

    /// A mount whose path is under or over `path` (which ends in a slash), or the same.
    pub fn conflict(&self, path: &str) -> Option<&str> {
        self.entries
            .keys()
            .find(|taken| taken.starts_with(path) || path.starts_with(taken.as_str()))
            .map(String::as_str)
    }

    /// Every mount, sorted by path.
    pub fn all(&self) -> Vec<&Entry> {
        let mut entries: Vec<_> = self.entries.values().collect();
        entries.sort_by_key(|entry| entry.record.full_path());
        entries
    }
}
