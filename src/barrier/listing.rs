use std::{collections::BinaryHeap, mem};

use super::{
    Named, ReadError,
    names::Segment,
    space::{Folder, LEAF, Naming},
};
use crate::storage::Store;

/// Greater than any byte that follows a segment, and than any first byte of a chunk's index.
const PAST: u8 = 0xff;
/// How many keys a walk asks storage for: at first, at least, at most.
const FIRST_PAGE: usize = 32;
const SMALLEST_PAGE: usize = 2;
const LARGEST_PAGE: usize = 1_024;

/// One name in a folder. A record and a folder may have the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, without a slash.
    pub name: String,
    /// Whether a record has this name.
    pub is_leaf: bool,
    /// Whether there are records below it.
    pub is_folder: bool,
}

impl Entry {
    /// The same, borrowed.
    pub(super) fn named(&self) -> Named<'_> {
        Named { name: &self.name, is_leaf: self.is_leaf, is_folder: self.is_folder }
    }
}

/// The smallest names after a given one, as many as are asked for, whatever order they come in.
pub(super) struct Names<'a> {
    after: Option<&'a str>,
    limit: usize,
    smallest: BinaryHeap<Entry>,
}

impl<'a> Names<'a> {
    pub(super) fn new(after: Option<&'a str>, limit: usize) -> Self {
        Self { after, limit, smallest: BinaryHeap::new() }
    }

    pub(super) fn add(&mut self, entry: Entry) {
        if self.after.is_some_and(|after| entry.name.as_str() <= after) {
            return;
        }
        if self.smallest.len() < self.limit {
            self.smallest.push(entry);
        } else if let Some(mut largest) = self.smallest.peek_mut()
            && entry.name < largest.name
        {
            *largest = entry;
        }
    }

    pub(super) fn into_sorted(self) -> Vec<Entry> {
        self.smallest.into_sorted_vec()
    }
}

/// The `limit` smallest names of two listings, each of which holds its own `limit` smallest.
pub(super) fn merge(mut one: Vec<Entry>, other: Vec<Entry>, limit: usize) -> Vec<Entry> {
    one.extend(other);
    one.sort_unstable();
    one.dedup_by(|entry, first| {
        let is_same = entry.name == first.name;
        if is_same {
            first.is_leaf |= entry.is_leaf;
            first.is_folder |= entry.is_folder;
        }
        is_same
    });
    one.truncate(limit);
    one
}

/// Walks the children of a folder in the order of their keys, seeking past each child's subtree
/// (FORMAT.md 5).
pub(super) struct Walk<'a> {
    naming: &'a Naming,
    folder: &'a Folder,
    /// Keys up to this one are done with.
    seek: Vec<u8>,
    /// How many keys the next page asks for. Subtrees make pages useless beyond their first key,
    /// rows of records make large ones cheap; it follows what the last page was like.
    page: usize,
    /// The child whose keys may go on in the next page.
    child: Option<Child>,
    ended: bool,
}

struct Child {
    segment: Vec<u8>,
    is_leaf: bool,
    is_folder: bool,
}

/// What a key below a folder is to the child that it belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Record,
    Chunk,
    Subtree,
}

impl<'a> Walk<'a> {
    pub(super) fn of(naming: &'a Naming, folder: &'a Folder) -> Self {
        let seek = below(folder);
        Self { naming, folder, seek, page: FIRST_PAGE, child: None, ended: false }
    }

    /// The children that one page of keys completes, perhaps none; `None` at the end.
    pub(super) async fn next(&mut self, store: &Store) -> Result<Option<Vec<Entry>>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        let keys = store.list(&self.folder.prefix, Some(&self.seek), self.page).await?;
        self.ended = keys.len() < self.page;
        let mut entries = Vec::new();
        let mut useful = 0;
        for key in keys {
            let (segment, part) = child_of(&self.folder.prefix, &key).ok_or(ReadError::Damaged)?;
            let known = self.child.as_ref().is_some_and(|child| child.segment == segment);
            if !known {
                let child = Child { segment: segment.to_vec(), is_leaf: false, is_folder: false };
                entries.extend(self.complete(Some(child))?);
            }
            let skip = self.folder.prefix.len() + segment.len();
            if let Some(child) = &mut self.child {
                useful += usize::from(!known);
                child.is_leaf |= part == Part::Record;
                child.is_folder |= part == Part::Subtree;
            }
            self.seek = past(key, skip, part);
        }
        if self.ended {
            entries.extend(self.complete(None)?);
        }
        self.page = match useful * 2 < self.page {
            true => self.page / 4,
            false => self.page * 2,
        }
        .clamp(SMALLEST_PAGE, LARGEST_PAGE);
        Ok(Some(entries))
    }

    /// Ends the child at hand, opens its name, and goes on with the next.
    fn complete(&mut self, next: Option<Child>) -> Result<Option<Entry>, ReadError> {
        let Some(child) = mem::replace(&mut self.child, next) else { return Ok(None) };
        if !child.is_leaf && !child.is_folder {
            // Chunks without their head: what a sweep has not yet come to.
            return Ok(None);
        }
        let name = open(self.naming, self.folder, &child.segment)?;
        Ok(Some(Entry { name, is_leaf: child.is_leaf, is_folder: child.is_folder }))
    }
}

/// Looks up one child of a folder by its segment. It may be neither a record nor a folder.
pub(super) async fn look_up(
    store: &Store,
    naming: &Naming,
    folder: &Folder,
    segment: &[u8],
) -> Result<Entry, ReadError> {
    let name = open(naming, folder, segment)?;
    let subtree = [&folder.prefix[..], segment].concat();
    let record = [&subtree[..], &[LEAF]].concat();
    // In the order of a walk: of a record that becomes a folder in one commit, one of them is met.
    let is_leaf = store.get(&record).await?.is_some();
    let behind = past(record, subtree.len(), Part::Chunk);
    let is_folder = !store.list(&subtree, Some(&behind), 1).await?.is_empty();
    Ok(Entry { name, is_leaf, is_folder })
}

/// Opens the name of a child.
fn open(naming: &Naming, folder: &Folder, segment: &[u8]) -> Result<String, ReadError> {
    let (segment, _) = Segment::split_off(segment).ok_or(ReadError::Damaged)?;
    segment.open(naming.siv(), &folder.parent).map_err(|_| ReadError::Damaged)
}

/// The segment of the child of a folder that a key belongs to, and what the key is to it.
pub(super) fn child_of<'k>(prefix: &[u8], key: &'k [u8]) -> Option<(&'k [u8], Part)> {
    let below = key.strip_prefix(prefix)?;
    let (segment, rest) = Segment::split_off(below)?;
    let part = match rest {
        [LEAF] => Part::Record,
        [LEAF, _, _, _, _] => Part::Chunk,
        [LEAF, ..] | [] => return None,
        [_, ..] => Part::Subtree,
    };
    Some((below.get(..segment.len())?, part))
}

/// The end of a folder's own record and chunks: its children's keys are greater.
pub(super) fn below(folder: &Folder) -> Vec<u8> {
    past(folder.prefix.clone(), folder.prefix.len(), Part::Chunk)
}

/// Where to go on after `key`, whose child's segment ends at `segment_end`.
fn past(mut key: Vec<u8>, segment_end: usize, part: Part) -> Vec<u8> {
    key.truncate(match part {
        Part::Record => key.len(),
        Part::Chunk | Part::Subtree => segment_end,
    });
    key.extend_from_slice(match part {
        Part::Record => &[],
        // Greater than any index, whose four bytes all may be 0xff.
        Part::Chunk => &[LEAF, PAST, PAST, PAST, PAST, PAST],
        Part::Subtree => &[PAST],
    });
    key
}
