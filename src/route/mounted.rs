use std::fmt;

use super::Routes;
use crate::gate::{
    ApiError, BODY_BYTES, Boxed, Call, Mounted, Needs, Operation, Permit, Place, Probe, RawReply,
};

/// What a wing's type says of itself beside its routes.
pub trait Engine: Send + Sync + Sized + 'static {
    /// Whether its reads and listings leave everything as it is, down to counters and caches that
    /// are stored. Their two audit lines are then written at once, before the answer.
    const READS_CHANGE_NOTHING: bool = false;

    /// Its table, the same for every mount.
    fn routes() -> &'static Routes<Self>;

    /// Whether what a write names is there already: `create` or `update`? Asked only for routes
    /// added with [`Routes::on_create_or_update`].
    fn exists<'a>(&'a self, probe: &'a Probe<'a>) -> Boxed<'a, Result<bool, ApiError>> {
        let _ = probe;
        Box::pin(async { Ok(true) })
    }

    /// Most bytes of body that are read for a path of the mount.
    fn body_limit(path: &str) -> usize {
        let _ = path;
        BODY_BYTES
    }
}

/// A wing at a place.
pub struct Mount<E> {
    place: Place,
    engine: E,
}

impl<E: Engine> Mount<E> {
    /// Puts an engine at a place.
    pub fn new(place: Place, engine: E) -> Self {
        Self { place, engine }
    }
}

impl<E> fmt::Debug for Mount<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mount({})", self.place.kind)
    }
}

impl<E: Engine> Mounted for Mount<E> {
    fn place(&self) -> &Place {
        &self.place
    }

    fn needs(&self, operation: Operation, path: &str) -> Needs {
        E::routes().needs(operation, path)
    }

    fn body_limit(&self, path: &str) -> usize {
        E::body_limit(path)
    }

    fn reads_change_nothing(&self) -> bool {
        E::READS_CHANGE_NOTHING
    }

    fn exists<'a>(&'a self, probe: &'a Probe<'a>) -> Boxed<'a, Result<bool, ApiError>> {
        self.engine.exists(probe)
    }

    fn dispatch<'a>(
        &'a self,
        permit: &'a Permit<'a>,
        call: Call<'a>,
    ) -> Boxed<'a, Result<RawReply, ApiError>> {
        E::routes().dispatch(&self.engine, permit, call)
    }
}
