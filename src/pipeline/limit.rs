use super::Kista;
use crate::{
    gate::{self, Head, Operation, Public, Rejection, Released},
    mount::SYSTEM_UUID,
    quota::{OverQuota, Standing},
    vault::Unsealed,
};

impl Kista {
    /// Counts a request that shows a share or a passphrase and no token. What is done with a token
    /// is counted by quotas.
    pub(super) fn count_attempt(&self, public: Public, head: &Head) -> Result<(), Released> {
        match (public, head.operation) {
            (Public::Init | Public::Unseal, Operation::Write) => {}
            _ => return Ok(()),
        }
        let now = self.inner.vault.clock().now();
        let counted = self.inner.attempts.count(head.connection.remote.ip(), now);
        counted.map_err(|seconds| gate::reject(&Rejection::TooManyAttempts(seconds)))
    }
}

/// Counts a request by the quotas of an open vault. Nothing of it has been looked up yet, so that a
/// flood is shed at the price of reading its heads; the standing is told where answers show it.
pub(super) async fn count(open: &Unsealed, head: &Head) -> Result<Option<Standing>, Released> {
    if open.quotas.is_empty() {
        return Ok(None);
    }
    match by_quota(open, head) {
        Ok(standing) => Ok(standing),
        Err(over) => Err(Box::pin(gate::refuse_over_quota(&open.ground, head, &over)).await),
    }
}

fn by_quota(open: &Unsealed, head: &Head) -> Result<Option<Standing>, OverQuota> {
    let (path, from) = (head.path.as_str(), head.connection.remote.ip());
    if let Some(below) = path.strip_prefix("sys/") {
        return open.quotas.count(path, Some((SYSTEM_UUID, below)), from);
    }
    let table = open.mounts.table();
    let place = table.find(path);
    let place =
        place.map(|entry| (entry.record.uuid.as_str(), entry.mounted.place().relative(path)));
    open.quotas.count(path, place, from)
}
