//! The one way in: from a request to an answer that may leave.
//!
//! `limit`, `identify`, then the body, then [`admit`](crate::gate::admit), the handler, what it wished for,
//! and [`release`](crate::gate::release). The token is looked at before the body is read, so that
//! whoever has none costs nothing. A call goes to its end: a client that hangs up cancels nothing
//! half-way, and a panic leaves a line in the audit file and a 500.
//!
//! - `limit.rs`: whether it is one too many, before anything is looked up
//! - `identify.rs`: who is calling, and which mount is meant
//! - `call.rs`: the rest of the way
//! - `to_the_end.rs`: work that its caller's leaving does not cancel

mod call;
#[cfg(test)]
mod crash;
mod identify;
mod limit;
mod to_the_end;

use std::{fmt, sync::Arc};

use tokio::task::AbortHandle;

pub use call::Begun;

use crate::{gate::Mounted, jobs, quota::Attempts, system::System, vault::Vault};

/// A running vault, as HTTP and the command line see it. Cheap to clone.
#[derive(Clone)]
pub struct Kista {
    inner: Arc<Inner>,
}

struct Inner {
    vault: Arc<Vault>,
    system: Arc<dyn Mounted>,
    attempts: Attempts,
    jobs: AbortHandle,
}

impl fmt::Debug for Kista {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kista({:?})", self.inner.vault)
    }
}

impl Kista {
    /// Puts the pipeline over a vault and starts its jobs. Call it inside a tokio runtime.
    pub fn new(vault: Vault) -> Self {
        let vault = Arc::new(vault);
        let jobs = tokio::spawn(jobs::run(Arc::downgrade(&vault))).abort_handle();
        let system = Arc::new(System::mount(Arc::clone(&vault)));
        Self { inner: Arc::new(Inner { vault, system, attempts: Attempts::new(), jobs }) }
    }

    /// The vault itself: to initialise and unseal it from the process that runs it.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.inner.vault
    }

    /// Stops the jobs and seals: running requests get a moment, the journal its Close record.
    pub async fn shutdown(&self) {
        self.inner.jobs.abort();
        self.inner.vault.seal().await;
    }
}
