use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use super::{
    MountView, PathError,
    space::{Naming, Space},
};
use crate::{secret::SecretBytes, storage::RecordHeader};

/// Writes that are committed whole or not at all, with what must hold before.
///
/// Limits: 128 operations, a value of any length being one, and 1.5 MiB sealed. What is wrong with
/// a path or value is remembered and refused by the commit. Of two writes to one path the second
/// stays; of two expectations, which are of what lies there before the batch, the first.
#[derive(Debug, Default)]
pub struct Batch {
    wanted: Vec<Wanted>,
    refused: Option<Refused>,
    erases: bool,
}

/// What must lie at a path for its write, and the whole batch, to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Absent,
    /// Exactly the record that was read with this header.
    Header(RecordHeader),
}

/// Why a batch can never be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Path(PathError),
    Unencodable,
}

/// One operation of a batch. Where its path lies is settled by the commit: names may come under
/// another key before that.
pub(super) struct Wanted {
    space: Arc<Space>,
    path: Zeroizing<String>,
    expected: Option<Expected>,
    action: Action,
}

/// One operation at its storage key.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) key: Vec<u8>,
    pub(super) expected: Option<Expected>,
    pub(super) action: Action,
}

/// What an operation does at its key.
#[derive(Debug)]
pub(super) enum Action {
    Put(SecretBytes),
    Delete,
    /// Nothing: only the expectation counts.
    Keep,
}

impl Batch {
    /// Puts a value, whatever lies there. The value is copied, and wiped with the batch.
    pub fn put(&mut self, view: &MountView, path: &[&str], value: &[u8]) {
        self.add(view, path, None, Action::Put(SecretBytes::copy_of(value)));
    }

    /// Puts a value if what is expected lies there.
    pub fn put_if(&mut self, view: &MountView, path: &[&str], value: &[u8], expected: Expected) {
        self.add(view, path, Some(expected), Action::Put(SecretBytes::copy_of(value)));
    }

    /// Deletes what lies there, if anything.
    pub fn delete(&mut self, view: &MountView, path: &[&str]) {
        self.add(view, path, None, Action::Delete);
    }

    /// Deletes what lies there if it is what is expected.
    pub fn delete_if(&mut self, view: &MountView, path: &[&str], expected: Expected) {
        self.add(view, path, Some(expected), Action::Delete);
    }

    /// Writes nothing there, but commits the batch only if what is expected lies there.
    pub fn expect(&mut self, view: &MountView, path: &[&str], expected: Expected) {
        self.add(view, path, Some(expected), Action::Keep);
    }

    /// Has what this batch deletes or replaces erased from the data folder, soon after: its
    /// ciphertext leaves journal, snapshots and index. Takes one more operation.
    pub fn erases(&mut self) {
        self.erases = true;
    }

    pub(super) fn is_erasing(&self) -> bool {
        self.erases
    }

    /// Whether it would write nothing.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.refused.is_none()
    }

    pub(super) fn add(
        &mut self,
        view: &MountView,
        path: &[&str],
        expected: Option<Expected>,
        action: Action,
    ) {
        match view.record_path(path) {
            Ok(path) => self.add_at(view.space(), path, expected, action),
            Err(error) => self.refuse(Refused::Path(error)),
        }
    }

    pub(super) fn add_at(
        &mut self,
        space: &Arc<Space>,
        path: Zeroizing<String>,
        expected: Option<Expected>,
        action: Action,
    ) {
        let is_same = |wanted: &&mut Wanted| wanted.space.id() == space.id() && wanted.path == path;
        match self.wanted.iter_mut().find(is_same) {
            Some(wanted) => {
                wanted.expected = wanted.expected.or(expected);
                match action {
                    Action::Keep => {}
                    Action::Put(_) | Action::Delete => wanted.action = action,
                }
            }
            None => self.wanted.push(Wanted { space: Arc::clone(space), path, expected, action }),
        }
    }

    pub(super) fn refuse(&mut self, why: Refused) {
        self.refused.get_or_insert(why);
    }

    pub(super) fn into_wanted(self) -> Result<Vec<Wanted>, Refused> {
        self.refused.map_or(Ok(self.wanted), Err)
    }
}

impl Wanted {
    /// The operation at its key as names are encrypted now, and its key as they were before while
    /// records move from there.
    pub(super) fn locate(self) -> Result<(Operation, Option<Vec<u8>>), PathError> {
        let naming = self.space.naming();
        let key_by = |naming: &Arc<Naming>| naming.key_of(&self.path);
        let (key, old) = (key_by(&naming)?, naming.previous().map(key_by).transpose()?);
        Ok((Operation { key, expected: self.expected, action: self.action }, old))
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted").field("space", &self.space).finish_non_exhaustive()
    }
}
