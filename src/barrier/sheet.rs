use std::mem;

use zeroize::Zeroizing;

use super::{Entry, Named, Page};

/// Names are kept in blocks, each twice as long as the one before up to this size, which never move:
/// a buffer that grows would leave its names behind in memory that nobody wipes.
const LARGEST_BLOCK: usize = 1 << 16;
const FIRST_BLOCK: usize = 1 << 10;
/// Length and kind, before each name.
const FRONT: usize = 2;
const IS_LEAF: u8 = 1;
const IS_FOLDER: u8 = 2;
/// Names that are gone are thrown out when they are this part of all, and at least so many.
const GONE_PART: usize = 8;
const GONE_LEAST: usize = 1_024;

/// The names of one folder in their order: a name takes its own length and six bytes. Wiped when
/// dropped.
#[derive(Default)]
pub(super) struct Sheet {
    blocks: Vec<Zeroizing<Vec<u8>>>,
    /// Where each name lies: the number of its block, and the place in it.
    order: Vec<u32>,
    /// How many of them are neither a record nor a folder any more.
    gone: usize,
}

impl Sheet {
    /// Adds a name wherever it belongs, to be [sorted](Self::sort) in later.
    pub(super) fn push(&mut self, named: Named<'_>) {
        let place = self.write(named);
        self.order.extend(place);
    }

    /// Sorts the names that were pushed. Slow: a second or so for a million.
    pub(super) fn sort(&mut self) {
        let mut order = mem::take(&mut self.order);
        order.sort_unstable_by(|one, other| self.name(*one).cmp(self.name(*other)));
        order.shrink_to_fit();
        self.order = order;
    }

    /// Takes in what has become of some names, each once: they are there as the entry says, or
    /// gone.
    pub(super) fn mend(&mut self, entries: &[Entry]) {
        let mut new = Vec::new();
        for entry in entries {
            let at = self.position(|name| name < entry.name.as_bytes());
            let place = self.order.get(at).copied();
            match place.filter(|place| self.name(*place) == entry.name.as_bytes()) {
                Some(place) => self.set_kind(place, kind_of(entry.named())),
                None if kind_of(entry.named()) == 0 => {}
                None => new.extend(self.write(entry.named()).map(|place| (at, place))),
            }
        }
        new.sort_unstable_by(|(_, one), (_, other)| self.name(*one).cmp(self.name(*other)));
        self.insert(&new);
        if self.gone >= GONE_LEAST.max(self.order.len() / GONE_PART) {
            self.throw_out();
        }
    }

    /// Up to `limit` names that sort after `after`.
    pub(super) fn page(&self, after: Option<&str>, limit: usize) -> Page {
        let at = after.map_or(0, |after| self.position(|name| name <= after.as_bytes()));
        let places = self.order.get(at..).unwrap_or_default();
        let mut page = Page::default();
        let there = places.iter().filter_map(|place| self.named(*place));
        there.take(limit).for_each(|named| page.push(named));
        page
    }

    /// How many names it has, with those that are gone and not thrown out.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let names: usize = self.blocks.iter().map(|block| block.capacity()).sum();
        names + self.order.capacity() * size_of::<u32>()
    }

    /// Puts new names before those that had these positions; both ascend.
    fn insert(&mut self, new: &[(usize, u32)]) {
        let mut end = self.order.len();
        self.order.resize(end + new.len(), 0);
        for (before, (at, place)) in new.iter().enumerate().rev() {
            self.order.copy_within(*at..end, at + before + 1);
            if let Some(free) = self.order.get_mut(at + before) {
                *free = *place;
            }
            end = *at;
        }
    }

    fn throw_out(&mut self) {
        let mut kept = Self::default();
        self.order.iter().filter_map(|place| self.named(*place)).for_each(|named| kept.push(named));
        *self = kept;
    }

    /// How many names are before the first for which `is_before` is false.
    fn position(&self, is_before: impl Fn(&[u8]) -> bool) -> usize {
        self.order.partition_point(|place| is_before(self.name(*place)))
    }

    /// Writes a name; `None` when no place is left to number, which no bound on memory lets happen.
    fn write(&mut self, named: Named<'_>) -> Option<u32> {
        let length = u8::try_from(named.name.len()).ok()?;
        let needed = FRONT + named.name.len();
        let last = self.blocks.last().map(|block| (block.len(), block.capacity()));
        if last.is_none_or(|(length, capacity)| length + needed > capacity) {
            let capacity = last.map_or(FIRST_BLOCK, |(_, before)| before * 2).min(LARGEST_BLOCK);
            self.blocks.push(Zeroizing::new(Vec::with_capacity(capacity)));
        }
        let number = u16::try_from(self.blocks.len() - 1).ok()?;
        let block = self.blocks.last_mut()?;
        let at = u16::try_from(block.len()).ok()?;
        block.extend_from_slice(&[length, kind_of(named)]);
        block.extend_from_slice(named.name.as_bytes());
        Some(u32::from(number) << 16 | u32::from(at))
    }

    /// From where a name is written to the end of its block.
    fn written(&self, place: u32) -> &[u8] {
        let (number, at) = split(place);
        self.blocks.get(number).and_then(|block| block.get(at..)).unwrap_or_default()
    }

    fn name(&self, place: u32) -> &[u8] {
        match self.written(place) {
            [length, _, rest @ ..] => rest.get(..usize::from(*length)).unwrap_or_default(),
            _ => &[],
        }
    }

    /// `None` when it is gone.
    fn named(&self, place: u32) -> Option<Named<'_>> {
        let kind = *self.written(place).get(1)?;
        let name = str::from_utf8(self.name(place)).ok().filter(|_| kind != 0)?;
        Some(Named { name, is_leaf: kind & IS_LEAF != 0, is_folder: kind & IS_FOLDER != 0 })
    }

    fn set_kind(&mut self, place: u32, kind: u8) {
        let (number, at) = split(place);
        let Some(old) = self.blocks.get_mut(number).and_then(|block| block.get_mut(at + 1)) else {
            return;
        };
        let was_gone = mem::replace(old, kind) == 0;
        self.gone = self.gone - usize::from(was_gone) + usize::from(kind == 0);
    }
}

fn kind_of(named: Named<'_>) -> u8 {
    u8::from(named.is_leaf) * IS_LEAF + u8::from(named.is_folder) * IS_FOLDER
}

/// Block and place in it, 16 bits each.
fn split(place: u32) -> (usize, usize) {
    let [a, b, c, d] = place.to_be_bytes();
    (usize::from(u16::from_be_bytes([a, b])), usize::from(u16::from_be_bytes([c, d])))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, kind: u8) -> Entry {
        let (is_leaf, is_folder) = (kind & IS_LEAF != 0, kind & IS_FOLDER != 0);
        Entry { name: name.to_owned(), is_leaf, is_folder }
    }

    #[test]
    fn a_million_names_take_their_length_and_little_more() {
        let mut sheet = Sheet::default();
        for n in 0..200_000_u32 {
            sheet.push(entry(&format!("name-{:015}", n.reverse_bits()), IS_LEAF).named());
        }
        sheet.sort();
        assert!(sheet.bytes() < 200_000 * (20 + 7), "{}", sheet.bytes());
        let page = sheet.page(Some("name-000000000000000"), 3).into_entries();
        assert!(page.is_sorted() && page.len() == 3);
        assert_eq!(sheet.page(None, usize::MAX).len(), 200_000);
    }

    #[test]
    fn names_that_are_gone_are_thrown_out_some_time() {
        let mut sheet = Sheet::default();
        let name = |n: usize| format!("{n:06}");
        (0..3_000).for_each(|n| sheet.push(entry(&name(n), IS_LEAF).named()));
        sheet.sort();
        let gone: Vec<_> = (0..2_000).map(|n| entry(&name(n), 0)).collect();
        sheet.mend(&gone[..500]);
        assert_eq!((sheet.order.len(), sheet.gone), (3_000, 500));
        // Back again, and gone again: counted once.
        sheet.mend(&[entry(&name(0), IS_FOLDER)]);
        assert_eq!(
            sheet.page(None, 2).into_entries(),
            [entry(&name(0), IS_FOLDER), entry(&name(500), IS_LEAF)]
        );
        sheet.mend(&gone);
        assert_eq!((sheet.order.len(), sheet.gone), (1_000, 0));
        assert_eq!(sheet.page(None, 1).into_entries(), [entry(&name(2_000), IS_LEAF)]);
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(
            first in prop::collection::btree_map("[a-d]{1,3}", 1_u8..4, 0..40),
            mended in prop::collection::vec(
                prop::collection::btree_map("[a-d]{1,3}", 0_u8..4, 0..20), 0..6,
            ),
            after in prop::option::of("[a-e]{0,3}"),
            limit in 0_usize..30,
        ) {
            let mut sheet = Sheet::default();
            first.iter().rev().for_each(|(name, kind)| sheet.push(entry(name, *kind).named()));
            sheet.sort();
            let mut model: BTreeMap<String, u8> = first;
            for mend in mended {
                let entries: Vec<_> =
                    mend.iter().rev().map(|(name, kind)| entry(name, *kind)).collect();
                sheet.mend(&entries);
                model.extend(mend);
            }
            let after = after.as_deref();
            let expected: Vec<_> = model.iter()
                .filter(|(name, kind)| **kind != 0 && after.is_none_or(|after| name.as_str() > after))
                .map(|(name, kind)| entry(name, *kind)).take(limit).collect();
            prop_assert_eq!(sheet.page(after, limit).into_entries(), expected);
        }
    }
}
