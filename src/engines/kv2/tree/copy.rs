use std::{mem, time::Duration};

use super::{
    super::store::{self, Held, Metadata},
    records::{Size, size_of_record},
};
use crate::{
    barrier::{Batch, CommitError, Expected, MountView, ReadError},
    clock::Timestamp,
    crypto::random,
    gate::{ApiError, Permit},
    secret::SecretBytes,
};

/// A secret once more, with its whole history, on its way to another path.
#[derive(Debug)]
pub(super) struct Copy {
    metadata: Metadata,
    inline: Option<SecretBytes>,
    /// The values that lie in records of their own, as far as they are not written already.
    values: Vec<(u64, SecretBytes)>,
    /// What it takes of the commit that makes it.
    pub(super) size: Size,
    /// Whether values were written before, with a mark that says so until the copy is made.
    pub(super) is_marked: bool,
}

impl Copy {
    /// Reads what is to be copied. Of a secret that no commit carries whole the values are written
    /// at once, under a name that no secret has.
    ///
    /// # Errors
    /// What storage does; then nothing of it is left.
    pub(super) async fn of(permit: &Permit<'_>, held: &Held) -> Result<Self, ApiError> {
        let mut copy = Self {
            metadata: Metadata { id: random::array(), ..held.metadata.clone() },
            inline: held.inline.as_ref().map(|inline| inline.expose(SecretBytes::copy_of)),
            values: Vec::new(),
            size: size_of_record(held)?,
            is_marked: false,
        };
        if let Err(error) = copy.take_values(permit, held).await {
            if copy.is_marked {
                copy.discard(permit.storage()).await?;
            }
            return Err(error);
        }
        Ok(copy)
    }

    /// Adds it to a batch, for a path where nothing may be; the one it was made of may not have
    /// changed.
    pub(super) fn add_to(
        &self,
        batch: &mut Batch,
        view: &MountView,
        from: (&str, &Held),
        to: &str,
    ) -> Result<(), ApiError> {
        let name = self.metadata.value_name();
        for (number, value) in &self.values {
            value.expose(|value| batch.put(view, &["values", &name, &number.to_string()], value));
        }
        if self.is_marked {
            batch.delete(view, &[COPIES, &name]);
        }
        let record = store::encode(&self.metadata, self.inline.as_ref())?;
        batch.put_if(view, &store::metadata_path(to), &record, Expected::Absent);
        let (from, held) = from;
        batch.expect(view, &store::metadata_path(from), Expected::Header(held.header));
        Ok(())
    }

    /// Removes the values of a copy that is not made.
    pub(super) async fn discard(&self, view: &MountView) -> Result<(), CommitError> {
        discard(view, &self.metadata.value_name()).await
    }

    async fn take_values(&mut self, permit: &Permit<'_>, held: &Held) -> Result<(), ApiError> {
        let inside = held.inline.as_ref().map(|_| held.metadata.current);
        let versions = held.metadata.versions.iter().filter(|version| !version.is_destroyed);
        for number in versions.map(|version| version.number).filter(|n| Some(*n) != inside) {
            let value = store::stored_value(permit.storage(), &held.metadata, number).await?;
            let Some(value) = value else { continue };
            let bytes = value.len();
            self.values.push((number, value));
            if !self.size.add(Size { operations: 1, bytes }) {
                self.write_values(permit).await?;
                self.size = size_of_record(held)?;
            }
        }
        if self.is_marked {
            self.write_values(permit).await?;
            self.size = size_of_record(held)?;
            self.size.operations += 1;
        }
        Ok(())
    }

    /// Writes the values at hand; first of all the mark.
    async fn write_values(&mut self, permit: &Permit<'_>) -> Result<(), ApiError> {
        let view = permit.storage();
        let name = self.metadata.value_name();
        if !self.is_marked {
            let mut batch = Batch::default();
            batch.put(view, &[COPIES, &name], &permit.now().millis().to_be_bytes());
            permit.commit(batch).await?;
            self.is_marked = true;
        }
        for (number, value) in mem::take(&mut self.values) {
            let mut batch = Batch::default();
            value.expose(|value| batch.put(view, &["values", &name, &number.to_string()], value));
            permit.commit(batch).await?;
        }
        Ok(())
    }
}

/// Removes what copies have left that a crash or an error broke off.
pub(in crate::engines::kv2) async fn sweep(
    view: &MountView,
    now: Timestamp,
) -> Result<(), CommitError> {
    for entry in view.list(&[COPIES], None, usize::MAX).await? {
        let Some(mark) = view.get(&[COPIES, &entry.name]).await? else { continue };
        let begun = mark.value.expose(|bytes| bytes.try_into().map(u64::from_be_bytes));
        let begun = begun.map(Timestamp::from_millis).map_err(|_| ReadError::Damaged)?;
        if now.since(begun) > LONGEST_COPY {
            discard(view, &entry.name).await?;
        }
    }
    Ok(())
}

async fn discard(view: &MountView, name: &str) -> Result<(), CommitError> {
    view.remove_all(&["values", name]).await?;
    let mut batch = Batch::default();
    batch.delete(view, &[COPIES, name]);
    view.commit(batch).await
}

/// The folder of the marks of copies that are being made.
const COPIES: &str = "copies";
/// No call takes so long.
const LONGEST_COPY: Duration = Duration::from_secs(3_600);
