use std::time::Duration;

use super::super::store::{self, Held, Metadata};
use crate::{
    barrier::{Batch, Expected, MountView},
    clock::Timestamp,
    crypto::random,
    gate::{ApiError, Permit},
    secret::SecretBytes,
};

/// What a secret takes of a commit.
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

/// A copy whose values lie in the mount already, under a name that no secret has.
#[derive(Debug)]
pub(super) struct Prepared {
    metadata: Metadata,
    inline: Option<SecretBytes>,
}

/// What a move of it takes: its values stay where they are.
pub(super) fn size_moved(held: &Held) -> Result<Size, ApiError> {
    let bytes = store::encode(&held.metadata, held.inline.as_ref())?.len();
    Ok(Size { operations: 2, bytes })
}

/// What a copy of it takes.
pub(super) async fn size_copied(view: &MountView, held: &Held) -> Result<Size, ApiError> {
    let mut size = Size { operations: 2, bytes: size_moved(held)?.bytes };
    for number in apart(held) {
        if let Some(value) = store::stored_value(view, &held.metadata, number).await? {
            size.operations += 1;
            size.bytes += value.len();
        }
    }
    Ok(size)
}

/// What taking it away takes, with all its versions.
pub(super) fn size_destroyed(held: &Held) -> Size {
    let versions = held.metadata.versions.len().min(store::VALUES_IN_ONE_COMMIT);
    Size { operations: 2 + versions, bytes: 0 }
}

/// Gives a secret another path, where none may be.
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

/// Writes a secret with its whole history once more, where none may be.
pub(super) async fn add_copy(
    batch: &mut Batch,
    view: &MountView,
    from: &str,
    to: &str,
    held: &Held,
) -> Result<(), ApiError> {
    let copy = Prepared::of(held);
    for number in apart(held) {
        if let Some(value) = store::stored_value(view, &held.metadata, number).await? {
            let name = copy.metadata.value_name();
            value.expose(|value| batch.put(view, &["values", &name, &number.to_string()], value));
        }
    }
    add_prepared(batch, view, from, to, held, &copy)
}

/// Makes a prepared copy the secret at `to`, if the one it was made of has not changed.
pub(super) fn add_prepared(
    batch: &mut Batch,
    view: &MountView,
    from: &str,
    to: &str,
    held: &Held,
    copy: &Prepared,
) -> Result<(), ApiError> {
    let record = store::encode(&copy.metadata, copy.inline.as_ref())?;
    batch.put_if(view, &store::metadata_path(to), &record, Expected::Absent);
    batch.expect(view, &store::metadata_path(from), Expected::Header(held.header));
    Ok(())
}

/// Writes the values of a copy that no commit carries whole. A mark says so until the copy is made.
pub(super) async fn prepare(permit: &Permit<'_>, held: &Held) -> Result<Prepared, ApiError> {
    let view = permit.storage();
    let copy = Prepared::of(held);
    let name = copy.metadata.value_name();
    let mut batch = Batch::default();
    batch.put(view, &[COPIES, &name], &permit.now().millis().to_be_bytes());
    permit.commit(batch).await?;
    for number in apart(held) {
        if let Some(value) = store::stored_value(view, &held.metadata, number).await? {
            let mut batch = Batch::default();
            value.expose(|value| batch.put(view, &["values", &name, &number.to_string()], value));
            permit.commit(batch).await?;
        }
    }
    Ok(copy)
}

/// Takes the mark of a prepared copy away with the commit that makes it.
pub(super) fn add_unmarking(batch: &mut Batch, view: &MountView, copy: &Prepared) {
    batch.delete(view, &[COPIES, &copy.metadata.value_name()]);
}

/// Removes the values of a copy that was not made.
pub(super) async fn discard(permit: &Permit<'_>, name: &str) -> Result<(), ApiError> {
    let view = permit.storage();
    view.remove_all(&["values", name]).await?;
    let mut batch = Batch::default();
    batch.delete(view, &[COPIES, name]);
    permit.commit(batch).await?;
    Ok(())
}

/// Removes what copies have left that a crash or an error broke off.
pub(super) async fn discard_old(permit: &Permit<'_>) -> Result<(), ApiError> {
    let view = permit.storage();
    for entry in view.list(&[COPIES], None, usize::MAX).await? {
        let Some(mark) = view.get(&[COPIES, &entry.name]).await? else { continue };
        let begun = mark.value.expose(|bytes| bytes.try_into().map(u64::from_be_bytes));
        let begun = begun.map_or(Timestamp::from_millis(0), Timestamp::from_millis);
        if permit.now().since(begun) > LONGEST_COPY {
            discard(permit, &entry.name).await?;
        }
    }
    Ok(())
}

impl Prepared {
    fn of(held: &Held) -> Self {
        let metadata = Metadata { id: random::array(), ..held.metadata.clone() };
        let inline = held.inline.as_ref().map(|inline| inline.expose(SecretBytes::copy_of));
        Self { metadata, inline }
    }

    pub(super) fn name(&self) -> String {
        self.metadata.value_name()
    }
}

/// The versions whose values lie in records of their own.
fn apart(held: &Held) -> impl Iterator<Item = u64> {
    let inside = held.inline.as_ref().map(|_| held.metadata.current);
    let versions = held.metadata.versions.iter().filter(|version| !version.is_destroyed);
    versions.map(|version| version.number).filter(move |number| Some(*number) != inside)
}

/// Of the 128 operations of a commit, one of which may say that it erases.
const MOST_OPERATIONS: usize = 120;
/// Of the 1.5 MiB of a commit.
const MOST_BYTES: usize = 1024 * 1024;
/// The folder of the marks of copies that are being made.
const COPIES: &str = "copies";
/// No call takes so long.
const LONGEST_COPY: Duration = Duration::from_secs(3_600);
