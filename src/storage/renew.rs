use std::{path::Path, sync::Arc, thread, time::Duration};

use super::{
    Backend, CompactError, OpenError, Progress, Stage,
    attach::Folder,
    bring_up::{fill_from, load_snapshot},
    compact::{Ground, Hear, Pace, Unmade},
    replay::{Base, End, From},
    sled::{self, Index},
    snapshot::Snapshot,
};
use crate::disk::if_there;

/// Commits that the committer itself brings into a new index while others wait.
const LAST_COMMITS: u64 = 256;
/// How often a new index runs after the commits before the committer is held.
const CATCH_UPS: usize = 20;

impl Ground {
    /// Builds an index beside the one that serves, puts it in its place, and removes the old one
    /// with what was set aside.
    pub(super) fn renew_index(
        &self,
        snapshot: Option<&Snapshot>,
        hear: &mut Hear<'_>,
    ) -> Result<(), Unmade> {
        let serving = self.index.load().folder();
        let [first, second] = self.folder.indexes();
        let path = if serving.as_ref() == Some(&first) { second } else { first };
        let cannot = |file: &Path, source| CompactError::Io { file: file.into(), source };
        if_there(std::fs::remove_dir_all(&path)).map_err(|source| cannot(&path, source))?;
        let index = Index::open(&path, self.folder.cache_bytes());
        let index = Backend::Sled(index.map_err(CompactError::Index)?);
        let filled = self.fill(&index, snapshot, hear);
        let end = match filled {
            Ok(end) => end,
            Err(unmade) => {
                index.discard();
                if_there(std::fs::remove_dir_all(&path)).map_err(|source| cannot(&path, source))?;
                return Err(unmade);
            }
        };
        let index = Arc::new(index);
        let (folder, new) = (self.folder.clone(), Arc::clone(&index));
        let old = self.ask(move |state| {
            catch_up(&new, &folder, &end, state.seq)?;
            Ok::<_, Unmade>(state.index.swap(new))
        })??;
        drop(index);
        discard_unshared(old);
        let gone = serving.into_iter().chain([sled::aside(&path)]);
        for path in gone {
            if_there(std::fs::remove_dir_all(&path)).map_err(|source| cannot(&path, source))?;
        }
        let synced = self.folder.disk().sync_dir(&self.folder.path);
        Ok(synced.map_err(|source| cannot(&self.folder.path, source))?)
    }

    /// Fills a new index up to close behind the newest commit.
    fn fill(
        &self,
        index: &Backend,
        snapshot: Option<&Snapshot>,
        hear: &mut Hear<'_>,
    ) -> Result<End, Unmade> {
        let base = snapshot.map_or_else(Base::default, |snapshot| snapshot.base);
        if let Some(snapshot) = snapshot {
            let mut pace = Pace::new(self);
            let mut before = 0;
            load_snapshot(index, &self.folder, snapshot, &*self.snapshots.0, &mut |done| {
                let bytes = usize::try_from(done - before).unwrap_or(usize::MAX);
                before = done;
                let progress = Progress { stage: Stage::Indexing, done, total: snapshot.bytes };
                pace.took(bytes, hear, progress).map_err(|_| OpenError::Closed)
            })?;
        }
        let newest = self.figures.seq();
        let mut end = fill_from(index, &self.folder, From::Behind(base), base.seq, Some(newest))?;
        for _ in 0..CATCH_UPS {
            let newest = self.figures.seq();
            if newest - end.seq < LAST_COMMITS {
                break;
            }
            self.check_stop()?;
            end = catch_up(index, &self.folder, &end, newest)?;
        }
        Ok(end)
    }
}

fn catch_up(index: &Backend, folder: &Folder, end: &End, until: u64) -> Result<End, Unmade> {
    if end.seq == until {
        return Ok(end.clone());
    }
    Ok(fill_from(index, folder, From::End(end), end.seq, Some(until))?)
}

/// Closes an index once the last read of it has ended, which is a matter of microseconds.
fn discard_unshared(mut index: Arc<Backend>) {
    loop {
        match Arc::try_unwrap(index) {
            Ok(unshared) => return unshared.discard(),
            Err(shared) => index = shared,
        }
        thread::sleep(Duration::from_micros(100));
    }
}
