use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::quota::Source;

/// Open connections of each source, so that one alone cannot take all of them.
///
/// Only sources with an open connection are kept, so that there are never more than connections.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    counts: Arc<Mutex<HashMap<Source, u32>>>,
    each: u32,
}

/// One connection of a source; counted until it is dropped.
#[derive(Debug)]
pub(super) struct Visitor {
    crowd: Crowd,
    source: Source,
}

impl Crowd {
    pub(super) fn new(each: NonZeroU32) -> Self {
        Self { counts: Arc::default(), each: each.get() }
    }

    /// Counts one more from this address; `None` when its source has as many as one may have.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Visitor> {
        let source = Source::of(address);
        let mut counts = self.counts();
        let count = counts.entry(source).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Visitor { crowd: self.clone(), source })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Source, u32>> {
        // Each change is one step, so that a panic elsewhere leaves nothing half done.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts();
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_has_its_part_and_gives_it_back() {
        let crowd = Crowd::new(2.try_into().unwrap());
        let enter = |text: &str| crowd.enter(text.parse().unwrap());
        let first = enter("192.0.2.1").unwrap();
        let _second = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        let other = enter("192.0.2.2").unwrap();
        drop(first);
        let _third = enter("192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        drop(other);
        assert_eq!(crowd.counts().len(), 1, "who has gone is not kept");
    }
}
