use std::{future::Future, pin::Pin};

use super::{ApiError, Body, Head, Operation, Permit, Probe, RawReply};
use crate::barrier::SpaceId;

/// A boxed future, since mounts of every kind stand behind one trait object.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a mount is and what it is.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its path, ending in a slash.
    pub path: String,
    /// Vault's type: `kv`, `token`, `system`.
    pub kind: &'static str,
    /// Its accessor.
    pub accessor: String,
    /// Whether it is a `secret` engine or an `auth` method, as audit lines call it.
    pub class: &'static str,
    /// The space that holds its names.
    pub space: SpaceId,
}

impl Place {
    /// What is left of a request's path after the mount's own.
    pub fn relative<'a>(&self, path: &'a str) -> &'a str {
        path.strip_prefix(self.path.as_str()).unwrap_or("")
    }
}

/// What a route asks of its caller before anything runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Who may come.
    pub access: Access,
    /// Whether a write must first be asked if it creates or updates.
    pub asks_existence: bool,
}

/// Who may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A token whose policies grant the operation.
    Token,
    /// The same, and `sudo` on the path.
    Sudo,
    /// Any token that holds; what it may see is the handler's to judge.
    Holder,
}

impl Needs {
    /// The ordinary case.
    pub const TOKEN: Self = Self { access: Access::Token, asks_existence: false };
}

/// A mount as the gate and the pipeline see it.
pub trait Mounted: Send + Sync {
    /// Where it is and what it is.
    fn place(&self) -> &Place;

    /// What the route for `path` (after the mount's own) asks of its caller. Where there is no such
    /// route the ordinary needs are answered: who may not come learns nothing of what is there.
    fn needs(&self, operation: Operation, path: &str) -> Needs;

    /// Most bytes of body that are read for `path`.
    fn body_limit(&self, path: &str) -> usize {
        let _ = path;
        BODY_BYTES
    }

    /// Whether reads and listings leave everything as it is. The line of such a request may then
    /// wait for its answer's.
    fn reads_change_nothing(&self) -> bool;

    /// Whether what `probe` names exists: asked before there is a permit, so that it can answer
    /// nothing but yes or no.
    fn exists<'a>(&'a self, probe: &'a Probe<'a>) -> Boxed<'a, Result<bool, ApiError>>;

    /// Runs the handler.
    fn dispatch<'a>(
        &'a self,
        permit: &'a Permit<'a>,
        call: Call<'a>,
    ) -> Boxed<'a, Result<RawReply, ApiError>>;
}

/// A request that has been let in, as a mount gets it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// All but the body.
    pub head: &'a Head,
    /// The path after the mount's own.
    pub path: &'a str,
    /// The body.
    pub body: &'a Body,
}

/// Largest body in bytes that a route takes which says nothing else: a secret of 1 MiB, escaped,
/// with room around it.
pub const BODY_BYTES: usize = 4 * 1024 * 1024;
