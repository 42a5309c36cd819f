use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{
    Batch, Entry, Expected, MountView, ReadError,
    batch::{Action, Refused},
};
use crate::{secret::SecretBytes, storage::RecordHeader};

/// A value that is kept as one version byte and postcard. A changed struct is a new version.
pub trait Record: Serialize + DeserializeOwned {
    /// The version byte.
    const VERSION: u8;

    /// How many bytes a record of an older version lacks at its end, where fields have been added
    /// since: each of them was as if zero, which postcard writes as one byte. None for a version
    /// that is not read.
    fn missing(version: u8) -> Option<usize> {
        (version == Self::VERSION).then_some(0)
    }
}

/// Records of one type under one view.
#[derive(Debug)]
pub struct Collection<T> {
    view: MountView,
    records: PhantomData<fn() -> T>,
}

/// A record as it was read, with what to expect of it when it is written back.
#[derive(Debug)]
pub struct Held<T> {
    /// The record.
    pub value: T,
    /// Its version in storage.
    pub header: RecordHeader,
}

impl<T> Held<T> {
    /// Expects that it still lies there.
    pub fn unchanged(&self) -> Expected {
        Expected::Header(self.header)
    }
}

impl<T: Record> Collection<T> {
    /// The records under a view.
    pub fn new(view: MountView) -> Self {
        Self { view, records: PhantomData }
    }

    /// Where they lie.
    pub fn view(&self) -> &MountView {
        &self.view
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Layout`] for a record of another version.
    pub async fn get(&self, path: &[&str]) -> Result<Option<Held<T>>, ReadError> {
        let Some(stored) = self.view.get(path).await? else { return Ok(None) };
        let value = stored.value.expose(decode)?;
        Ok(Some(Held { value, header: stored.header }))
    }

    /// Puts one into a batch, whatever lies there.
    pub fn put(&self, batch: &mut Batch, path: &[&str], value: &T) {
        self.add(batch, path, value, None);
    }

    /// Puts one into a batch if what is expected lies there.
    pub fn put_if(&self, batch: &mut Batch, path: &[&str], value: &T, expected: Expected) {
        self.add(batch, path, value, Some(expected));
    }

    /// Deletes one in a batch.
    pub fn delete(&self, batch: &mut Batch, path: &[&str]) {
        batch.delete(&self.view, path);
    }

    /// Lists names, as [`MountView::list`] does.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn list(
        &self,
        folder: &[&str],
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.view.list(folder, after, limit).await
    }

    fn add(&self, batch: &mut Batch, path: &[&str], value: &T, expected: Option<Expected>) {
        match encode(value) {
            Ok(value) => batch.add(&self.view, path, expected, Action::Put(value)),
            Err(_) => batch.refuse(Refused::Unencodable),
        }
    }
}

/// Encodes into a buffer of its final length: growing would leave copies of secrets behind.
fn encode<T: Record>(value: &T) -> Result<SecretBytes, postcard::Error> {
    let length = postcard::experimental::serialized_size(value)?;
    let mut written = Ok(());
    let bytes = SecretBytes::build(1 + length, |bytes| {
        if let Some((version, rest)) = bytes.split_first_mut() {
            *version = T::VERSION;
            written = postcard::to_slice(value, rest).map(|_| ());
        }
    });
    written.map(|()| bytes)
}

pub(super) fn decode<T: Record>(bytes: &[u8]) -> Result<T, ReadError> {
    let (&version, rest) = bytes.split_first().ok_or(ReadError::Layout { version: 0 })?;
    let missing = T::missing(version).ok_or(ReadError::Layout { version })?;
    let value = match missing {
        0 => whole(rest),
        _ => whole(&with_zeros(rest, missing)),
    };
    value.ok_or(ReadError::Layout { version })
}

/// A value that takes all of the bytes.
fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        Ok(_) | Err(_) => None,
    }
}

/// A record with the fields that it lacks, wiped when it has been read.
pub(crate) fn with_zeros(record: &[u8], missing: usize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(record.len() + missing));
    bytes.extend_from_slice(record);
    bytes.resize(record.len() + missing, 0);
    bytes
}
