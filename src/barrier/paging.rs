use std::sync::Arc;

use super::{
    Barrier, Entry, Page, ReadError,
    listing::{Names, Walk, look_up},
    roster::{Answer, Marks, Roster},
    sheet::Sheet,
    space::{Folder, Naming},
};
use crate::storage;

/// How many names are taken from a roster before others get their turn.
const PART: usize = 1_024;
/// More names than these are sorted on a thread of their own.
const SORTED_HERE: usize = 4_096;
/// How many marked children are looked up before others get their turn.
const LOOKED_UP_AT_ONCE: usize = 64;

impl Barrier {
    /// Up to `limit` names of a folder that sort after `after`: from its roster when it has one,
    /// else from a walk. A folder that the walk finds to be large gets a roster, and one that is
    /// not small gets it when it is listed again.
    pub(super) async fn page(
        &self,
        naming: &Naming,
        folder: &Folder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let rosters = &self.shared.rosters;
        let mut roster = rosters.find(&folder.prefix);
        if roster.is_none() && rosters.is_due(&folder.prefix) {
            roster = Some(self.enroll(naming, folder).await?);
        }
        let mut large = match roster {
            Some(roster) => match self.page_of(&roster, naming, folder, after, limit).await? {
                Some(page) => return Ok(page),
                None => usize::MAX,
            },
            None => rosters.large(),
        };
        let mut names = Names::new(after, limit);
        let mut walk = Walk::of(naming, folder);
        let mut met = 0;
        while let Some(entries) = walk.next(self.store()).await? {
            met += entries.len();
            entries.into_iter().for_each(|entry| names.add(entry));
            if met >= large {
                let roster = self.enroll(naming, folder).await?;
                if let Some(page) = self.page_of(&roster, naming, folder, after, limit).await? {
                    return Ok(page);
                }
                large = usize::MAX;
            }
            // A large folder is many pages: others get their turn between them.
            tokio::task::yield_now().await;
        }
        if large != usize::MAX {
            rosters.was_listed(&folder.prefix, met);
        }
        Ok(names.into_sorted().into())
    }

    async fn enroll(&self, naming: &Naming, folder: &Folder) -> Result<Arc<Roster>, ReadError> {
        let rosters = &self.shared.rosters;
        naming.bind(rosters);
        let (own, prefix) = (Arc::clone(rosters), folder.prefix.clone());
        // Between two groups of commits: one under way would not be marked.
        let roster = self.store().hold(move |_| own.enroll(&prefix)).await?;
        rosters.trim();
        Ok(roster)
    }

    /// A page from a roster, in parts; `None` when the folder has more names than may be kept.
    async fn page_of(
        &self,
        roster: &Roster,
        naming: &Naming,
        folder: &Folder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page>, ReadError> {
        let mut page = Page::default();
        loop {
            let after = page.iter().next_back().map_or(after, |last| Some(last.name));
            let wanted = (limit - page.len()).min(PART);
            let part = self.part_of(roster, naming, folder, after, wanted).await?;
            let Some(part) = part else { return Ok(None) };
            let is_last = part.len() < PART;
            page.append(&part);
            if is_last || page.len() == limit {
                return Ok(Some(page));
            }
            tokio::task::yield_now().await;
        }
    }

    /// A part of a page. Its roster is filled or mended first.
    async fn part_of(
        &self,
        roster: &Roster,
        naming: &Naming,
        folder: &Folder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page>, ReadError> {
        let rosters = &self.shared.rosters;
        match rosters.ask(roster, after, limit) {
            Answer::Page(page) => return Ok(Some(page)),
            Answer::TooMany => return Ok(None),
            Answer::Marked(_) | Answer::Unknown => {}
        }
        let _pen = roster.pen.lock().await;
        loop {
            match rosters.ask(roster, after, limit) {
                Answer::Page(page) => return Ok(Some(page)),
                Answer::TooMany => return Ok(None),
                Answer::Unknown => self.fill(roster, naming, folder).await?,
                Answer::Marked(marks) => {
                    let found = self.look_up(&marks, naming, folder).await?;
                    let page = roster.mend(marks, &found, after, limit);
                    if roster.bytes() > rosters.most_bytes() {
                        roster.give_up();
                    }
                    rosters.trim();
                    return Ok(Some(page));
                }
            }
        }
    }

    /// Walks a folder to its end, and brings its names into its roster if they may be kept.
    async fn fill(
        &self,
        roster: &Roster,
        naming: &Naming,
        folder: &Folder,
    ) -> Result<(), ReadError> {
        let rosters = &self.shared.rosters;
        let mut sheet = Sheet::default();
        let mut walk = Walk::of(naming, folder);
        while let Some(entries) = walk.next(self.store()).await? {
            entries.iter().for_each(|entry| sheet.push(entry.named()));
            if sheet.bytes() > rosters.most_bytes() {
                roster.give_up();
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        let length = sheet.len();
        let sort = move || {
            sheet.sort();
            sheet
        };
        let sorted = match length > SORTED_HERE {
            // It has no panic of its own; when the runtime ends, so does this call.
            true => {
                tokio::task::spawn_blocking(sort).await.map_err(|_| storage::ReadError::Closed)?
            }
            false => sort(),
        };
        roster.fill(sorted);
        rosters.trim();
        Ok(())
    }

    /// What has become of the marked children.
    async fn look_up(
        &self,
        marks: &Marks,
        naming: &Naming,
        folder: &Folder,
    ) -> Result<Vec<Entry>, ReadError> {
        let mut found = Vec::with_capacity(marks.segments.len());
        for some in marks.segments.chunks(LOOKED_UP_AT_ONCE) {
            for (segment, _) in some {
                found.push(look_up(self.store(), naming, folder, segment).await?);
            }
            tokio::task::yield_now().await;
        }
        Ok(found)
    }
}
