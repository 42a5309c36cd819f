//! From KV version 1 to version 2: each secret becomes the first version of one.
//!
//! The secrets are copied beside their old records while version 1 goes on and writes both
//! ([`Switch`](super::kv1::Switch)). Then the mount is version 2 in one small commit, and the old
//! records go. What is interrupted is begun again: what has been copied is passed over.

use super::{kv1, kv2, listing::Walk};
use crate::{
    barrier::{Batch, CommitError, MountView},
    clock::Timestamp,
    gate::ApiError,
};

/// The secrets of a mount of version 1, on their way to version 2.
pub struct Copying<'a> {
    view: &'a MountView,
    walk: Walk<'a>,
}

impl std::fmt::Debug for Copying<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Copying")
    }
}

impl<'a> Copying<'a> {
    /// Begins with the first secret.
    ///
    /// # Errors
    /// What reading fails with.
    pub async fn of(view: &'a MountView) -> Result<Self, ApiError> {
        let walk = Walk::behind(view, kv1::SECRETS, "", "", usize::MAX).await?;
        Ok(Self { view, walk })
    }

    /// Copies the next secrets, as many as one commit carries; false when there was none left.
    ///
    /// # Errors
    /// What reading or committing fails with.
    pub async fn next(&mut self, now: Timestamp) -> Result<bool, ApiError> {
        let mut paths = Vec::new();
        while paths.len() < AT_ONCE
            && let Some(path) = self.walk.next(usize::MAX).await?
        {
            paths.push(path);
        }
        if !self.copy(&paths, now).await? {
            // Somebody writes one of them: each by itself, until it is done.
            for path in &paths {
                while !self.copy(std::slice::from_ref(path), now).await? {}
            }
        }
        Ok(!paths.is_empty())
    }

    /// Copies secrets in one commit; false when another write has come between.
    async fn copy(&self, paths: &[String], now: Timestamp) -> Result<bool, ApiError> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        for path in paths {
            if kv2::is_mirrored(self.view, path).await? {
                continue;
            }
            let Some(text) = kv1::expect_unchanged(&mut batch, self.view, path).await? else {
                continue;
            };
            bytes += text.len();
            kv2::mirror(&mut batch, self.view, path, Some(text), now).await?;
        }
        // A commit carries so many bytes; large secrets go one by one.
        if paths.len() > 1 && bytes > BYTES_AT_ONCE {
            return Ok(false);
        }
        if batch.is_empty() {
            return Ok(true);
        }
        match self.view.commit(batch).await {
            Ok(()) => Ok(true),
            Err(CommitError::Conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Removes what version 1 has left.
///
/// # Errors
/// What reading or committing fails with.
pub async fn clear(view: &MountView) -> Result<(), CommitError> {
    view.remove_all(&[kv1::SECRETS]).await.map(drop)
}

/// Three operations each, of the 128 of a commit.
const AT_ONCE: usize = 40;
/// Of the 1.5 MiB of a commit.
const BYTES_AT_ONCE: usize = 512 * 1024;
