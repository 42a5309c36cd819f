use std::fmt;

use super::Entry;

/// Names of one folder in their order, all in one buffer: a thousand of them are no thousand
/// allocations. Prints how many there are and none of them.
#[derive(Default)]
pub struct Page {
    text: String,
    names: Vec<Mark>,
}

/// Where a name ends in the text, and what has it.
struct Mark {
    end: usize,
    is_leaf: bool,
    is_folder: bool,
}

/// One name of a [`Page`], as an [`Entry`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The name, without a slash.
    pub name: &'a str,
    /// Whether a record has this name.
    pub is_leaf: bool,
    /// Whether there are records below it.
    pub is_folder: bool,
}

impl Page {
    /// Adds a name behind the others.
    pub(super) fn push(&mut self, Named { name, is_leaf, is_folder }: Named<'_>) {
        self.text.push_str(name);
        self.names.push(Mark { end: self.text.len(), is_leaf, is_folder });
    }

    /// Adds the names of another page behind its own.
    pub(super) fn append(&mut self, other: &Self) {
        other.iter().for_each(|named| self.push(named));
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Named<'_>> {
        (0..self.names.len()).filter_map(|at| self.at(at))
    }

    /// The same, each with memory of its own.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        let owned = |Named { name, is_leaf, is_folder }: Named<'_>| Entry {
            name: name.to_owned(),
            is_leaf,
            is_folder,
        };
        self.iter().map(owned).collect()
    }

    fn at(&self, at: usize) -> Option<Named<'_>> {
        let start = at.checked_sub(1).and_then(|before| self.names.get(before));
        let Mark { end, is_leaf, is_folder } = *self.names.get(at)?;
        let name = self.text.get(start.map_or(0, |mark| mark.end)..end)?;
        Some(Named { name, is_leaf, is_folder })
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({} names)", self.len())
    }
}

impl From<Vec<Entry>> for Page {
    fn from(entries: Vec<Entry>) -> Self {
        let mut page = Self::default();
        entries.iter().for_each(|entry| page.push(entry.named()));
        page
    }
}
