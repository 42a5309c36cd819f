use super::{MountView, PathError};
use crate::{secret::SecretBytes, storage::RecordHeader};

/// Writes that are committed whole or not at all, with what must hold before.
///
/// Limits: 128 operations, a value of any length being one, and 1.5 MiB sealed. What is wrong with
/// a path or value is remembered and refused by the commit. Of two writes to one path the second
/// stays; of two expectations, which are of what lies there before the batch, the first.
#[derive(Debug, Default)]
pub struct Batch {
    operations: Vec<Operation>,
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

/// One operation of a batch.
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
        self.operations.is_empty() && self.refused.is_none()
    }

    pub(super) fn add(
        &mut self,
        view: &MountView,
        path: &[&str],
        expected: Option<Expected>,
        action: Action,
    ) {
        let key = match view.record_key(path) {
            Ok(key) => key,
            Err(error) => return self.refuse(Refused::Path(error)),
        };
        match self.operations.iter_mut().find(|operation| operation.key == key) {
            Some(operation) => {
                operation.expected = operation.expected.or(expected);
                match action {
                    Action::Keep => {}
                    Action::Put(_) | Action::Delete => operation.action = action,
                }
            }
            None => self.operations.push(Operation { key, expected, action }),
        }
    }

    pub(super) fn refuse(&mut self, why: Refused) {
        self.refused.get_or_insert(why);
    }

    pub(super) fn operations(&self) -> Result<&[Operation], Refused> {
        self.refused.map_or(Ok(&self.operations), Err)
    }

    /// Adds an operation whose key is known.
    pub(super) fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
    }
}
