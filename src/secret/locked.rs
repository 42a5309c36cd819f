use std::{
    alloc::Layout,
    fmt,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use region::LockGuard;
use zeroize::Zeroize as _;

/// A value that wipes itself when dropped, in pages of its own that the system does not swap out.
///
/// Pages are locked whole and locks do not nest, so a page that two values shared would be unlocked
/// by the first of them that goes. A value whose pages cannot be locked is kept all the same and
/// counted: see [`unlocked`].
pub struct Locked<T> {
    pages: Box<Pages<T>>,
    lock: Option<LockGuard>,
}

/// Aligned to pages, hence also as long as some.
#[cfg_attr(target_arch = "x86_64", repr(align(4096)))]
#[cfg_attr(not(target_arch = "x86_64"), repr(align(65536)))]
struct Pages<T>(Option<T>);

/// The system does not lock memory for this process.
#[derive(Debug, thiserror::Error)]
#[error("the system does not lock {bytes} bytes of memory for this process")]
pub struct LockRefused {
    /// Bytes asked for.
    pub bytes: usize,
    /// What the system said.
    #[source]
    source: region::Error,
}

impl<T> Locked<T> {
    /// Locks the pages, then puts there what `make` makes.
    pub fn build(make: impl FnOnce() -> T) -> Self {
        let mut pages = Box::new(Pages(None));
        let lock = lock_of(&pages);
        pages.fill(make);
        scrub_stack();
        Self { pages, lock }
    }

    /// Lends the value.
    pub fn lend(&self) -> &T {
        #[expect(clippy::expect_used, reason = "`build` puts it there and only `drop` takes it")]
        self.pages.0.as_ref().expect("the value is there until it is dropped")
    }

    /// Lends the value to be changed.
    pub(super) fn lend_mut(&mut self) -> &mut T {
        #[expect(clippy::expect_used, reason = "`build` puts it there and only `drop` takes it")]
        self.pages.0.as_mut().expect("the value is there until it is dropped")
    }
}

impl<T> Pages<T> {
    /// In a frame of its own, since the value passes through it.
    #[inline(never)]
    fn fill(&mut self, make: impl FnOnce() -> T) {
        self.0 = Some(make());
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // In this order: wiped while locked, unlocked while still ours, and only then freed. Freed
        // first, the pages might be another value's when they are unlocked.
        self.pages.0 = None;
        if self.lock.take().is_none() && !OFF.load(Ordering::Relaxed) {
            UNLOCKED.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Overwrites what calls that have returned left on the stack below the caller. Ciphers and hashes
/// wipe their state when it is dropped, and not the places from which it was moved.
#[inline(never)]
pub(crate) fn scrub_stack() {
    let mut below = [0_u64; SCRUBBED_WORDS];
    below.zeroize();
    std::hint::black_box(&below);
}

/// How many values lie in memory that the system refused to lock.
pub fn unlocked() -> usize {
    UNLOCKED.load(Ordering::Relaxed)
}

/// Whether the system would lock the keys of a vault for this process: locks as much as many keys
/// need, and lets go of it. To be asked before there is a key.
///
/// # Errors
/// [`LockRefused`] with what the system said.
pub fn try_locking() -> Result<(), LockRefused> {
    let memory = vec![0_u8; ROOM_BYTES];
    match region::lock(memory.as_ptr(), memory.len()) {
        Ok(guard) => {
            drop(guard);
            Ok(())
        }
        Err(source) => Err(LockRefused { bytes: ROOM_BYTES, source }),
    }
}

/// Locks nothing from now on. To be called before there is a key.
pub fn switch_off() {
    OFF.store(true, Ordering::Relaxed);
}

fn lock_of<T>(pages: &Pages<T>) -> Option<LockGuard> {
    if OFF.load(Ordering::Relaxed) {
        return None;
    }
    let lock = region::lock(pages, Layout::new::<Pages<T>>().size()).ok();
    if lock.is_none() {
        UNLOCKED.fetch_add(1, Ordering::Relaxed);
    }
    lock
}

/// What [`try_locking`] asks for: a page for each of 256 keys. A vault with a handful of mounts has
/// about thirty.
pub const ROOM_BYTES: usize = 1024 * 1024;

/// More than deriving a key takes, without optimisation too.
const SCRUBBED_WORDS: usize = 16 * 1024 / 8;

static UNLOCKED: AtomicUsize = AtomicUsize::new(0);
static OFF: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that the system holds in memory for this process, in KiB.
    fn locked_kib() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn a_value_has_pages_of_its_own() {
        let values: Vec<_> = (0..8_u8).map(|n| Locked::build(|| [n; 64])).collect();
        for (n, value) in values.iter().enumerate() {
            assert_eq!(usize::from(value.lend()[0]), n);
            assert_eq!(std::ptr::from_ref(&*value.pages).addr() % size_of::<Pages<[u8; 64]>>(), 0);
        }
    }

    #[test]
    fn pages_are_locked_while_the_value_is_there() {
        if try_locking().is_err() {
            println!("skipped: this process may not lock memory");
            return;
        }
        // Other tests lock too, so the least that must be there is asked for.
        let values: Vec<_> = (0..64).map(|_| Locked::build(|| [7_u8; 32])).collect();
        assert!(values.iter().all(|value| value.lock.is_some()));
        assert!(locked_kib() >= 64 * size_of::<Pages<[u8; 32]>>() / 1024);
    }

    #[test]
    fn a_value_is_dropped_once() {
        let counted = std::sync::Arc::new(());
        let value = Locked::build(|| std::sync::Arc::clone(&counted));
        assert_eq!(std::sync::Arc::strong_count(value.lend()), 2);
        drop(value);
        assert_eq!(std::sync::Arc::strong_count(&counted), 1);
    }
}
