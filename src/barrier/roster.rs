use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    Entry, Page,
    listing::{Part, child_of},
    sheet::Sheet,
};
use crate::storage::Change;

/// From how many children on a folder gets a roster when it is listed once, and from how many when
/// it is listed again.
const LARGE: usize = 4_096;
const SMALL: usize = 32;
/// How many rosters there are at most, and how many bytes their names take together: some four
/// folders of a million names. The one used longest ago goes.
const MOST_ROSTERS: usize = 512;
const MOST_BYTES: usize = 128 << 20;
/// How many children may have changed between two listings, about 100 bytes each. Looking one up
/// takes about as long as walking ten, so that more than a part of the names are not worth it.
const MOST_MARKS: usize = 32_768;
const LEAST_MARKS: usize = 256;
const MARKED_PART: usize = 8;
/// How many folders are remembered that were listed once.
const MOST_LISTED: usize = 1_024;

/// The rosters of the folders that were listed last, but for small ones.
///
/// The seal of the commits marks in them what a commit changes, before the index has it. A roster
/// [enrolls](Self::enroll) between two groups of commits, so that none is under way unmarked.
pub(super) struct Rosters {
    /// How many there are: without any a commit pays no more than looking here.
    count: AtomicUsize,
    rosters: Mutex<Table>,
    /// Folders that were listed without one, though they are not small.
    listed: Mutex<HashSet<Vec<u8>>>,
    /// Counts what was staged, and how far that is durable.
    staged: AtomicU64,
    durable: AtomicU64,
    /// Counts uses.
    uses: AtomicU64,
    large: AtomicUsize,
    most: AtomicUsize,
    most_bytes: AtomicUsize,
}

/// Rosters by what the keys of their folders begin with.
#[derive(Default)]
struct Table {
    by_prefix: HashMap<Vec<u8>, Arc<Roster>>,
    /// How many have a prefix of each length: where a key is to be cut to find its folders.
    lengths: BTreeMap<usize, usize>,
}

/// The sorted names of one folder under one generation of names, in memory.
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

struct Marked {
    /// Encrypted names of children that may have changed, and when that was staged last.
    children: HashMap<Vec<u8>, u64>,
    /// How many more than these there may be.
    most: usize,
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
    Page(Page),
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
            listed: Mutex::default(),
            staged: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            uses: AtomicU64::new(0),
            large: AtomicUsize::new(LARGE),
            most: AtomicUsize::new(MOST_ROSTERS),
            most_bytes: AtomicUsize::new(MOST_BYTES),
        }
    }
}

impl Rosters {
    /// From how many children on a folder is to have a roster at once.
    pub(super) fn large(&self) -> usize {
        self.large.load(Ordering::Relaxed)
    }

    /// Whether a folder was listed before without a roster, and is to have one this time.
    pub(super) fn is_due(&self, prefix: &[u8]) -> bool {
        lock(&self.listed).remove(prefix)
    }

    /// Remembers that a folder with so many children was listed without a roster.
    pub(super) fn was_listed(&self, prefix: &[u8], children: usize) {
        if children < SMALL.min(self.large()) {
            return;
        }
        let mut listed = lock(&self.listed);
        if listed.len() >= MOST_LISTED {
            listed.clear();
        }
        listed.insert(prefix.to_vec());
    }

    /// How many bytes the names of one roster may take, and those of all.
    pub(super) fn most_bytes(&self) -> usize {
        self.most_bytes.load(Ordering::Relaxed)
    }

    /// Sets other bounds than the usual ones.
    #[cfg(test)]
    pub(super) fn bound(&self, large: usize, most: usize, most_bytes: usize) {
        self.large.store(large, Ordering::Relaxed);
        self.most.store(most, Ordering::Relaxed);
        self.most_bytes.store(most_bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.table().by_prefix.len()
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
        let roster = self.table().by_prefix.get(prefix).map(Arc::clone)?;
        if roster.is_spoiled() {
            self.change(|table| table.take(|other| Arc::ptr_eq(other, &roster)));
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
            marked: Mutex::new(Marked::of(Takes::More)),
        });
        self.change(|table| {
            table.put(&roster);
            Vec::new()
        });
        roster
    }

    /// Lets the rosters go that were used longest ago, until the rest is within bounds.
    pub(super) fn trim(&self) {
        self.change(|table| {
            let rosters = table.by_prefix.values();
            let mut bytes: usize = rosters.clone().map(|roster| roster.bytes()).sum();
            let mut left = rosters.len();
            let most = self.most.load(Ordering::Relaxed);
            let is_within = |left, bytes| left <= most && bytes <= self.most_bytes();
            if is_within(left, bytes) {
                return Vec::new();
            }
            let mut oldest: Vec<_> = rosters.map(Arc::clone).collect();
            oldest.sort_by_key(|roster| roster.used.load(Ordering::Relaxed));
            let goes = |roster: &Arc<Roster>| {
                let goes = left > 1 && !is_within(left, bytes);
                if goes {
                    bytes = bytes.saturating_sub(roster.bytes());
                    left -= 1;
                }
                goes
            };
            let gone: HashSet<_> =
                oldest.into_iter().take_while(goes).map(|roster| roster.prefix.clone()).collect();
            table.take(|roster| gone.contains(&roster.prefix))
        });
    }

    /// Lets all rosters go of folders whose keys begin with `prefix`.
    pub(super) fn forget(&self, prefix: &[u8]) {
        self.change(|table| table.take(|roster| roster.prefix.starts_with(prefix)));
    }

    /// Marks what a commit changes, before it is written.
    pub(super) fn stage(&self, changes: &[Change<'_>]) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let number = self.staged.fetch_add(1, Ordering::SeqCst) + 1;
        // A record that is replaced changes no listing.
        let mut changed =
            changes.iter().filter(|change| change.old.is_none() || change.new.is_none()).peekable();
        if changed.peek().is_some() {
            let table = self.table();
            for change in changed {
                table.above(change.key).for_each(|roster| roster.mark(change.key, number));
            }
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

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.rosters)
    }

    /// Changes the table. What is taken from it is dropped when commits can look at it again: wiping
    /// takes milliseconds.
    fn change(&self, change: impl FnOnce(&mut Table) -> Vec<Arc<Roster>>) {
        let mut table = self.table();
        let gone = change(&mut table);
        self.count.store(table.by_prefix.len(), Ordering::SeqCst);
        drop(table);
        drop(gone);
    }
}

impl Table {
    fn put(&mut self, roster: &Arc<Roster>) {
        *self.lengths.entry(roster.prefix.len()).or_default() += 1;
        self.by_prefix.insert(roster.prefix.clone(), Arc::clone(roster));
    }

    /// Takes out what `is_gone` says.
    fn take(&mut self, is_gone: impl Fn(&Arc<Roster>) -> bool) -> Vec<Arc<Roster>> {
        let gone: Vec<_> =
            self.by_prefix.extract_if(|_, roster| is_gone(roster)).map(|(_, gone)| gone).collect();
        for roster in &gone {
            if let Some(count) = self.lengths.get_mut(&roster.prefix.len()) {
                *count -= 1;
            }
        }
        self.lengths.retain(|_, count| *count > 0);
        gone
    }

    /// The rosters of all folders that a key lies below.
    fn above(&self, key: &[u8]) -> impl Iterator<Item = &Roster> {
        let prefixes = self.lengths.keys().filter_map(move |length| key.get(..*length));
        prefixes.filter_map(|prefix| self.by_prefix.get(prefix)).map(|roster| &**roster)
    }
}

impl Marked {
    fn of(takes: Takes) -> Self {
        Self { children: HashMap::new(), most: MOST_MARKS, takes }
    }
}

impl Roster {
    /// Takes in the names that a walk has found, which began after it was enrolled.
    pub(super) fn fill(&self, sheet: Sheet) {
        self.bytes.store(sheet.bytes(), Ordering::Relaxed);
        let most = (sheet.len() / MARKED_PART).clamp(LEAST_MARKS, MOST_MARKS);
        *lock(&self.names) = Names::Known(sheet);
        // Those that came while nobody knew how many names there are stay.
        lock(&self.marked).most = most;
    }

    /// How many bytes its names take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// There are more names than may be kept.
    pub(super) fn give_up(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        *lock(&self.names) = Names::TooMany;
        *lock(&self.marked) = Marked::of(Takes::None);
    }

    /// Takes in what became of the marked children, and answers a page. What is not durable yet, or
    /// was marked again meanwhile, stays marked.
    pub(super) fn mend(
        &self,
        marks: Marks,
        found: &[Entry],
        after: Option<&str>,
        limit: usize,
    ) -> Page {
        let mut names = lock(&self.names);
        // Whoever holds the pen has seen the names.
        let Names::Known(sheet) = &mut *names else { return Page::default() };
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

    /// Marks the child that a key belongs to.
    fn mark(&self, key: &[u8], number: u64) {
        // A chunk alone is no name.
        let child = child_of(&self.prefix, key).filter(|(_, part)| *part != Part::Chunk);
        let Some((segment, _)) = child else { return };
        let mut marked = lock(&self.marked);
        if marked.takes != Takes::More {
            return;
        }
        marked.children.insert(segment.to_vec(), number);
        if marked.children.len() > marked.most {
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
