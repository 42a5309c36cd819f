use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    Entry,
    listing::{Part, child_of},
    sheet::Sheet,
};
use crate::storage::Change;

/// From how many children on a folder gets a roster.
const LARGE: usize = 4_096;
/// How many rosters there are at most, and how many bytes their names take together: some four
/// folders of a million names. The one used longest ago goes.
const MOST_ROSTERS: usize = 16;
const MOST_BYTES: usize = 128 << 20;
/// How many children may have changed between two listings, about 100 bytes each. Looking each of
/// them up takes about as long as walking ten times as many.
const MOST_MARKS: usize = 32_768;

/// The rosters of the large folders that were listed last.
///
/// The seal of the commits marks in them what a commit changes, before the index has it. A roster
/// [enrolls](Self::enroll) between two groups of commits, so that none is under way unmarked.
pub(super) struct Rosters {
    /// How many there are: without any a commit pays no more than looking here.
    count: AtomicUsize,
    rosters: Mutex<Vec<Arc<Roster>>>,
    /// Counts what was staged, and how far that is durable.
    staged: AtomicU64,
    durable: AtomicU64,
    /// Counts uses.
    uses: AtomicU64,
    large: AtomicUsize,
    most_bytes: AtomicUsize,
}

/// The sorted names of one large folder under one generation of names, in memory.
///
/// Children that may have come or gone since are marked, and looked up again before it is read: it
/// never says anything that the index does not.
pub(super) struct Roster {
    /// The folder's, in storage.
    prefix: Vec<u8>,
    used: AtomicU64,
    bytes: AtomicUsize,
    /// Held by the one who writes on it; a lookup that is older than another never ends behind it.
    pub(super) pen: tokio::sync::Mutex<()>,
    names: Mutex<Names>,
    /// Apart from the names: commits wait for this alone.
    marked: Mutex<Marked>,
}

#[derive(Default)]
enum Names {
    /// Nobody has walked the folder to its end yet.
    #[default]
    Unknown,
    Known(Sheet),
    /// More than may be kept: the folder is walked for each page.
    TooMany,
}

#[derive(Default)]
struct Marked {
    /// Encrypted names of children that may have changed, and when that was staged last.
    children: HashMap<Vec<u8>, u64>,
    takes: Takes,
}

/// Whether more children are marked.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Takes {
    #[default]
    More,
    /// There are too many for the roster to be worth keeping. Those that there are stay: whoever
    /// has it already reads what stood when they came.
    NoMore,
    /// There are no names to mend.
    None,
}

/// What a roster says of a page.
pub(super) enum Answer {
    Page(Vec<Entry>),
    /// The names are there, and some children are to be looked up first.
    Marked(Marks),
    Unknown,
    TooMany,
}

/// The children to look up, as they were marked at one moment.
pub(super) struct Marks {
    pub(super) segments: Vec<(Vec<u8>, u64)>,
    durable: u64,
}

/// Has the rosters of a space and generation wiped when its names are not used any more.
pub(super) struct Tenure {
    rosters: Weak<Rosters>,
    prefix: Vec<u8>,
}

impl Default for Rosters {
    fn default() -> Self {
        Self {
            count: AtomicUsize::new(0),
            rosters: Mutex::default(),
            staged: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            uses: AtomicU64::new(0),
            large: AtomicUsize::new(LARGE),
            most_bytes: AtomicUsize::new(MOST_BYTES),
        }
    }
}

impl Rosters {
    /// From how many children on a folder is to have a roster.
    pub(super) fn large(&self) -> usize {
        self.large.load(Ordering::Relaxed)
    }

    /// How many bytes the names of one roster may take, and those of all.
    pub(super) fn most_bytes(&self) -> usize {
        self.most_bytes.load(Ordering::Relaxed)
    }

    /// Sets other bounds than the usual ones.
    #[cfg(test)]
    pub(super) fn bound(&self, large: usize, most_bytes: usize) {
        self.large.store(large, Ordering::Relaxed);
        self.most_bytes.store(most_bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.list().len()
    }

    /// Marks as many children of a folder, which there are not, as no roster takes.
    #[cfg(test)]
    pub(super) fn mark_many(&self, prefix: &[u8]) {
        let key = |n: usize| [prefix, &[1; 13], &n.to_be_bytes(), &[0; 12], &[0]].concat();
        let keys: Vec<_> = (0..=MOST_MARKS).map(key).collect();
        let changes = keys.iter().map(|key| Change { key, old: None, new: None });
        self.stage(&changes.collect::<Vec<_>>());
    }

    /// The roster of the folder whose keys begin with `prefix`.
    pub(super) fn find(&self, prefix: &[u8]) -> Option<Arc<Roster>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let roster = self.list().iter().find(|roster| roster.prefix == prefix).map(Arc::clone)?;
        if roster.is_spoiled() {
            self.change(|rosters| take(rosters, |other| Arc::ptr_eq(other, &roster)));
            return None;
        }
        roster.used.store(self.next_use(), Ordering::Relaxed);
        Some(roster)
    }

    /// The roster of a folder, a new one if there is none. To be called between two groups of
    /// commits, which wait meanwhile: [`trim`](Self::trim) comes after it.
    pub(super) fn enroll(&self, prefix: &[u8]) -> Arc<Roster> {
        if let Some(roster) = self.find(prefix) {
            return roster;
        }
        let roster = Arc::new(Roster {
            prefix: prefix.to_vec(),
            used: AtomicU64::new(self.next_use()),
            bytes: AtomicUsize::new(0),
            pen: tokio::sync::Mutex::default(),
            names: Mutex::default(),
            marked: Mutex::default(),
        });
        self.change(|rosters| {
            rosters.push(Arc::clone(&roster));
            Vec::new()
        });
        roster
    }

    /// Lets the rosters go that were used longest ago, until the rest is within bounds.
    pub(super) fn trim(&self) {
        self.change(|rosters| {
            rosters.sort_by_key(|roster| roster.used.load(Ordering::Relaxed));
            let sizes = rosters.iter().map(|roster| roster.bytes());
            let mut bytes: usize = sizes.sum();
            let mut left = rosters.len();
            let mut gone = 0;
            for roster in rosters.iter() {
                if left <= 1 || left <= MOST_ROSTERS && bytes <= self.most_bytes() {
                    break;
                }
                bytes = bytes.saturating_sub(roster.bytes());
                (left, gone) = (left - 1, gone + 1);
            }
            rosters.drain(..gone).collect()
        });
    }

    /// Lets all rosters go of folders whose keys begin with `prefix`.
    pub(super) fn forget(&self, prefix: &[u8]) {
        self.change(|rosters| take(rosters, |roster| roster.prefix.starts_with(prefix)));
    }

    /// Marks what a commit changes, before it is written.
    pub(super) fn stage(&self, changes: &[Change<'_>]) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let number = self.staged.fetch_add(1, Ordering::SeqCst) + 1;
        // A record that is replaced changes no listing.
        let changed = changes.iter().filter(|change| change.old.is_none() || change.new.is_none());
        let keys: Vec<&[u8]> = changed.map(|change| change.key).collect();
        if !keys.is_empty() {
            self.list().iter().for_each(|roster| roster.mark(&keys, number));
        }
    }

    /// All that was staged is in the index.
    pub(super) fn settle(&self) {
        self.durable.store(self.staged.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// The page of a roster, if nothing is to be done first.
    pub(super) fn ask(&self, roster: &Roster, after: Option<&str>, limit: usize) -> Answer {
        // Before the marks: what is durable by now is in the index when they are looked up. And the
        // marks before the names: what was mended is not marked any more.
        let durable = self.durable.load(Ordering::SeqCst);
        let segments: Vec<_> = lock(&roster.marked)
            .children
            .iter()
            .map(|(key, number)| (key.clone(), *number))
            .collect();
        match &*lock(&roster.names) {
            Names::Unknown => Answer::Unknown,
            Names::TooMany => Answer::TooMany,
            Names::Known(sheet) if segments.is_empty() => Answer::Page(sheet.page(after, limit)),
            Names::Known(_) => Answer::Marked(Marks { segments, durable }),
        }
    }

    fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed)
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Roster>>> {
        lock(&self.rosters)
    }

    /// Changes the list. What is taken from it is dropped when commits can look at it again: wiping
    /// takes milliseconds.
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Roster>>) -> Vec<Arc<Roster>>) {
        let mut rosters = self.list();
        let gone = change(&mut rosters);
        self.count.store(rosters.len(), Ordering::SeqCst);
        drop(rosters);
        drop(gone);
    }
}

impl Roster {
    /// Takes in the names that a walk has found, which began after it was enrolled.
    pub(super) fn fill(&self, sheet: Sheet) {
        self.bytes.store(sheet.bytes(), Ordering::Relaxed);
        *lock(&self.names) = Names::Known(sheet);
    }

    /// How many bytes its names take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// There are more names than may be kept.
    pub(super) fn give_up(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        *lock(&self.names) = Names::TooMany;
        *lock(&self.marked) = Marked { children: HashMap::new(), takes: Takes::None };
    }

    /// Takes in what became of the marked children, and answers a page. What is not durable yet, or
    /// was marked again meanwhile, stays marked.
    pub(super) fn mend(
        &self,
        marks: Marks,
        found: &[Entry],
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Entry> {
        let mut names = lock(&self.names);
        // Whoever holds the pen has seen the names.
        let Names::Known(sheet) = &mut *names else { return Vec::new() };
        sheet.mend(found);
        self.bytes.store(sheet.bytes(), Ordering::Relaxed);
        let page = sheet.page(after, limit);
        drop(names);
        let mut marked = lock(&self.marked);
        for (segment, number) in marks.segments {
            if number <= marks.durable && marked.children.get(&segment) == Some(&number) {
                marked.children.remove(&segment);
            }
        }
        page
    }

    /// Marks the children that keys belong to.
    fn mark(&self, keys: &[&[u8]], number: u64) {
        let own = keys.iter().filter(|key| key.starts_with(&self.prefix));
        // A chunk alone is no name.
        let children = own.filter_map(|key| child_of(&self.prefix, key));
        let mut changed = children.filter(|(_, part)| *part != Part::Chunk).peekable();
        if changed.peek().is_none() {
            return;
        }
        let mut marked = lock(&self.marked);
        if marked.takes != Takes::More {
            return;
        }
        marked.children.extend(changed.map(|(segment, _)| (segment.to_vec(), number)));
        if marked.children.len() > MOST_MARKS {
            marked.takes = Takes::NoMore;
        }
    }

    fn is_spoiled(&self) -> bool {
        lock(&self.marked).takes == Takes::NoMore
    }
}

/// Nothing panics while one of these is locked, so a poisoned one serves on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes out of a list what `is_gone` says.
fn take(
    rosters: &mut Vec<Arc<Roster>>,
    is_gone: impl Fn(&Arc<Roster>) -> bool,
) -> Vec<Arc<Roster>> {
    let (gone, kept) = rosters.drain(..).partition(is_gone);
    *rosters = kept;
    gone
}

impl Tenure {
    /// Of the space and generation whose keys begin with `prefix`.
    pub(super) fn new(rosters: &Arc<Rosters>, prefix: Vec<u8>) -> Self {
        Self { rosters: Arc::downgrade(rosters), prefix }
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        if let Some(rosters) = self.rosters.upgrade() {
            rosters.forget(&self.prefix);
        }
    }
}

impl fmt::Debug for Rosters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rosters").field("count", &self.count).finish_non_exhaustive()
    }
}
