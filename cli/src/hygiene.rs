//! What the process does before it holds a secret.

use std::panic;

use rustix::{
    fs::Mode,
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask},
};

use crate::output;

/// Keeps secrets out of core dumps, other processes' reach, other users' files and panic messages.
pub(crate) fn prepare() {
    // New files and folders are the owner's alone.
    umask(Mode::RWXG | Mode::RWXO);
    // Neither can fail here: a limit may always be lowered, and the flag takes 0 on any Linux.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap_or_default();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap_or_default();
    panic::set_hook(Box::new(|panic| {
        // The payload may quote what was being worked on; the place never does.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        output::internal_error(&place);
    }));
}
