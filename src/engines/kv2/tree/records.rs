use super::super::store::{self, Held};
use crate::{
    barrier::{Batch, Expected, MountView},
    gate::ApiError,
};

/// What a commit has taken up.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Size {
    pub(super) operations: usize,
    pub(super) bytes: usize,
}

impl Size {
    /// Adds what another one takes; whether a commit carries both.
    pub(super) fn add(&mut self, other: Self) -> bool {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.operations <= MOST_OPERATIONS && self.bytes <= MOST_BYTES
    }
}

/// What a secret takes without values of its own: its record under one path, and gone from another.
pub(super) fn size_of_record(held: &Held) -> Result<Size, ApiError> {
    let bytes = store::encode(&held.metadata, held.inline.as_ref())?.len();
    Ok(Size { operations: 2, bytes })
}

/// What taking it away takes, with all its versions.
pub(super) fn size_destroyed(held: &Held) -> Size {
    let versions = held.metadata.versions.len().min(store::VALUES_IN_ONE_COMMIT);
    Size { operations: 2 + versions, bytes: 0 }
}

/// Gives a secret another path, where none may be. Its values stay where they are: they lie under
/// its id.
pub(super) fn add_move(
    batch: &mut Batch,
    view: &MountView,
    from: &str,
    to: &str,
    held: &Held,
) -> Result<(), ApiError> {
    let record = store::encode(&held.metadata, held.inline.as_ref())?;
    batch.put_if(view, &store::metadata_path(to), &record, Expected::Absent);
    batch.delete_if(view, &store::metadata_path(from), Expected::Header(held.header));
    Ok(())
}

/// Of the 128 operations of a commit, one of which may say that it erases.
const MOST_OPERATIONS: usize = 120;
/// Of the 1.5 MiB of a commit.
pub(super) const MOST_BYTES: usize = 1024 * 1024;
