use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    barrier::{Batch, Collection, CommitError, Expected, MountView, Record, with_zeros},
    clock::Timestamp,
    crypto::random,
    engines::{TRIES, too_many_writes},
    gate::{ApiError, Permit},
    secret::SecretBytes,
    storage::RecordHeader,
};

/// What is known of one secret beside its values.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Metadata {
    /// Names the values of this secret; another secret later at the same path has another.
    pub(super) id: [u8; 16],
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    /// 0 before the first version.
    pub(super) current: u64,
    /// 0 until a version has been dropped for the limit.
    pub(super) oldest: u64,
    /// 0: the mount's.
    pub(super) max_versions: u32,
    pub(super) cas_required: bool,
    /// In nanoseconds; 0: the mount's.
    pub(super) delete_version_after: u64,
    pub(super) custom: BTreeMap<String, String>,
    /// Ascending by number.
    pub(super) versions: Vec<Version>,
    /// How often settings and notes were written.
    pub(super) metadata_version: u64,
    pub(super) metadata_cas_required: bool,
}

/// One version of a secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) number: u64,
    pub(super) created: Timestamp,
    /// When it counts as deleted, which may lie ahead.
    pub(super) deletion: Option<Timestamp>,
    pub(super) is_destroyed: bool,
}

impl Version {
    /// Whether its value is not shown.
    pub(super) fn is_gone(&self, now: Timestamp) -> bool {
        self.is_destroyed || self.deletion.is_some_and(|deletion| deletion <= now)
    }
}

impl Metadata {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            id: random::array(),
            created: now,
            updated: now,
            current: 0,
            oldest: 0,
            max_versions: 0,
            cas_required: false,
            delete_version_after: 0,
            custom: BTreeMap::new(),
            versions: Vec::new(),
            metadata_version: 0,
            metadata_cas_required: false,
        }
    }

    /// A secret that has just been written for the first time.
    fn with_one_version(now: Timestamp) -> Self {
        let version = Version { number: 1, created: now, deletion: None, is_destroyed: false };
        Self { current: 1, versions: vec![version], ..Self::new(now) }
    }

    pub(super) fn version(&self, number: u64) -> Option<&Version> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The newest version, if there is one yet.
    pub(super) fn newest(&self) -> Option<&Version> {
        self.version(self.current)
    }

    pub(super) fn version_mut(&mut self, number: u64) -> Option<&mut Version> {
        self.versions.iter_mut().find(|version| version.number == number)
    }

    /// The folder of its values.
    pub(super) fn value_name(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.id)
    }
}

/// Defaults of a mount.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Config {
    /// 0: ten.
    pub(super) max_versions: u32,
    pub(super) cas_required: bool,
    /// In nanoseconds, 0 for never.
    pub(super) delete_version_after: u64,
    pub(super) metadata_cas_required: bool,
}

impl Record for Config {
    const VERSION: u8 = 2;

    /// Version 1 ended before `metadata_cas_required`.
    fn missing(version: u8) -> Option<usize> {
        match version {
            1 => Some(1),
            2 => Some(0),
            _ => None,
        }
    }
}

/// The configuration of a mount.
pub(super) fn configs(view: &MountView) -> Collection<Config> {
    Collection::new(view.clone())
}

/// Where the one configuration record lies.
pub(super) const CONFIG: &[&str] = &["config"];

/// A secret as it lies in the store: its metadata, the newest value inside the same record when it
/// is small (a read is then one get and one open), and what the record's next write must find.
pub(super) struct Held {
    pub(super) metadata: Metadata,
    pub(super) inline: Option<SecretBytes>,
    pub(super) header: RecordHeader,
}

/// Largest value in bytes that its metadata record carries.
const INLINE_BYTES: usize = 4 * 1024;

/// First byte of a metadata record: the layout `version || be32 length || metadata || inline
/// value`.
const METADATA_VERSION: u8 = 2;

/// The one before, whose metadata ends with the versions.
const METADATA_VERSION_1: u8 = 1;

/// Most values that are deleted together with their metadata: a commit carries 128 operations.
pub(super) const VALUES_IN_ONE_COMMIT: usize = 100;

/// The folder in which the metadata of all secrets lies.
pub(super) const SECRETS: &str = "metadata";

/// Whether there is anything at `path`.
pub(super) async fn exists(view: &MountView, path: &str) -> Result<bool, ApiError> {
    if names_a_folder(path) {
        return Ok(false);
    }
    Ok(view.contains(&metadata_path(path)).await?)
}

/// Reads the secret at `path`.
pub(super) async fn load(view: &MountView, path: &str) -> Result<Option<Held>, ApiError> {
    if names_a_folder(path) {
        return Ok(None);
    }
    let Some(stored) = view.get(&metadata_path(path)).await? else { return Ok(None) };
    let (metadata, inline) =
        stored.value.expose(decode).ok_or_else(|| ApiError::internal(Malformed))?;
    Ok(Some(Held { metadata, inline, header: stored.header }))
}

/// Reads the value of a version that is not gone.
///
/// # Errors
/// 500 when it is missing; what storage does.
pub(super) async fn value(
    view: &MountView,
    held: Held,
    number: u64,
) -> Result<SecretBytes, ApiError> {
    if number == held.metadata.current
        && let Some(inline) = held.inline
    {
        return Ok(inline);
    }
    let stored = stored_value(view, &held.metadata, number).await?;
    stored.ok_or_else(|| ApiError::internal(ValueMissing { version: number }))
}

/// The value of a version that lies in a record of its own.
pub(super) async fn stored_value(
    view: &MountView,
    metadata: &Metadata,
    number: u64,
) -> Result<Option<SecretBytes>, ApiError> {
    let path = ["values", &metadata.value_name(), &number.to_string()];
    Ok(view.get(&path).await?.map(|stored| stored.value))
}

/// Reads the secret at `path`, lets `change` decide what becomes of it, and commits that; again
/// from the start whenever another write has come between.
///
/// # Errors
/// What `change` refuses, and what storage does.
pub(super) async fn update<R>(
    permit: &Permit<'_>,
    path: &str,
    mut change: impl FnMut(Option<Metadata>) -> Result<Change<R>, ApiError>,
) -> Result<R, ApiError> {
    let view = permit.storage();
    for _ in 0..TRIES {
        let held = load(view, path).await?;
        let decided = change(held.as_ref().map(|held| held.metadata.clone()))?;
        if let Some(answer) = commit(permit, path, held, decided).await? {
            return Ok(answer);
        }
    }
    Err(too_many_writes())
}

/// The same for a change that asks for the newest value too; there is none when it is gone.
///
/// # Errors
/// As [`update`].
pub(super) async fn update_value<R>(
    permit: &Permit<'_>,
    path: &str,
    mut change: impl FnMut(Option<Metadata>, Option<SecretBytes>) -> Result<Change<R>, ApiError>,
) -> Result<R, ApiError> {
    for _ in 0..TRIES {
        let held = load(permit.storage(), path).await?;
        let newest = match &held {
            None => None,
            Some(held) => match newest_value(permit, path, held).await? {
                Newest::Value(value) => Some(value),
                Newest::Gone => None,
                Newest::Overtaken => continue,
            },
        };
        let decided = change(held.as_ref().map(|held| held.metadata.clone()), newest)?;
        if let Some(answer) = commit(permit, path, held, decided).await? {
            return Ok(answer);
        }
    }
    Err(too_many_writes())
}

/// The newest value of a secret.
enum Newest {
    Value(SecretBytes),
    /// Deleted, destroyed, or there was never one.
    Gone,
    /// The secret has changed since its metadata was read.
    Overtaken,
}

async fn newest_value(permit: &Permit<'_>, path: &str, held: &Held) -> Result<Newest, ApiError> {
    let view = permit.storage();
    let metadata = &held.metadata;
    if metadata.newest().is_none_or(|version| version.is_gone(permit.now())) {
        return Ok(Newest::Gone);
    }
    if let Some(inline) = &held.inline {
        return Ok(Newest::Value(inline.expose(SecretBytes::copy_of)));
    }
    if let Some(value) = stored_value(view, metadata, metadata.current).await? {
        return Ok(Newest::Value(value));
    }
    // Destroyed meanwhile, or lost.
    match load(view, path).await? {
        Some(again) if again.header == held.header => {
            Err(ApiError::internal(ValueMissing { version: metadata.current }))
        }
        Some(_) | None => Ok(Newest::Overtaken),
    }
}

/// Commits what was decided over what was held; `None` when another write has come between.
async fn commit<R>(
    permit: &Permit<'_>,
    path: &str,
    held: Option<Held>,
    decided: Change<R>,
) -> Result<Option<R>, ApiError> {
    let view = permit.storage();
    let (answer, batch) = match decided {
        Change::Nothing(answer) => return Ok(Some(answer)),
        Change::Write { metadata, value, answer } => {
            (answer, write_batch(view, path, held, &metadata, value)?)
        }
        Change::Remove(answer) => match held {
            Some(held) => {
                let mut batch = Batch::default();
                remove(&mut batch, view, path, &held);
                (answer, batch)
            }
            None => return Ok(Some(answer)),
        },
    };
    match permit.commit(batch).await {
        Ok(()) => Ok(Some(answer)),
        Err(CommitError::Conflict) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What becomes of a secret.
pub(super) enum Change<R> {
    /// It stays as it is.
    Nothing(R),
    /// New metadata and, with it, a new newest version's value.
    Write { metadata: Box<Metadata>, value: Option<SecretBytes>, answer: R },
    /// All of it goes.
    Remove(R),
}

/// Writes metadata and, if given, the value of `metadata.current`; moves out what was inline
/// before, and drops the values of versions that are destroyed or no longer listed.
fn write_batch(
    view: &MountView,
    path: &str,
    held: Option<Held>,
    metadata: &Metadata,
    value: Option<SecretBytes>,
) -> Result<Batch, ApiError> {
    let mut batch = Batch::default();
    let name = metadata.value_name();
    let mut inline = None;
    let expected = match &held {
        Some(held) => Expected::Header(held.header),
        None => Expected::Absent,
    };
    if let Some(held) = held {
        let before = held.metadata.current;
        let is_kept = metadata.version(before).is_some_and(|version| !version.is_destroyed);
        match held.inline {
            Some(old) if metadata.current == before && is_kept => inline = Some(old),
            Some(old) if is_kept => {
                let number = before.to_string();
                let path = ["values", &name, &number];
                // What was inline lies nowhere else, so nothing need be looked for there.
                old.expose(|old| batch.put_if(view, &path, old, Expected::Absent));
            }
            Some(_) | None => {}
        }
        for gone in held.metadata.versions.iter().filter(|version| {
            !version.is_destroyed
                && metadata.version(version.number).is_none_or(|after| after.is_destroyed)
        }) {
            batch.delete(view, &["values", &name, &gone.number.to_string()]);
            batch.erases();
        }
    }
    if let Some(value) = value {
        inline = put_newest(&mut batch, view, metadata, value);
    }
    let record = encode(metadata, inline.as_ref())?;
    batch.put_if(view, &metadata_path(path), &record, expected);
    Ok(batch)
}

/// Puts the newest version's value where it belongs, or gives it back for the metadata's record.
fn put_newest(
    batch: &mut Batch,
    view: &MountView,
    metadata: &Metadata,
    value: SecretBytes,
) -> Option<SecretBytes> {
    if value.len() <= INLINE_BYTES {
        return Some(value);
    }
    let path = ["values", &metadata.value_name(), &metadata.current.to_string()];
    value.expose(|value| batch.put(view, &path, value));
    None
}

/// Takes the metadata away, and with it the way to the values. They go in the same commit when it
/// can carry them; else a marker names them for [`sweep`].
pub(super) fn remove(batch: &mut Batch, view: &MountView, path: &str, held: &Held) {
    let name = held.metadata.value_name();
    if held.metadata.versions.len() <= VALUES_IN_ONE_COMMIT {
        for version in &held.metadata.versions {
            batch.delete(view, &["values", &name, &version.number.to_string()]);
        }
    } else {
        batch.put(view, &["removed", &name], b"");
    }
    batch.erases();
    batch.delete_if(view, &metadata_path(path), Expected::Header(held.header));
}

/// Adds to a batch that `value` is the only version of the secret at `path`, or that there is no
/// secret, whatever lies there now: that is what a mount of version 1 has of it. The batch
/// conflicts when something comes between.
pub(in crate::engines) async fn mirror(
    batch: &mut Batch,
    view: &MountView,
    path: &str,
    value: Option<SecretBytes>,
    now: Timestamp,
) -> Result<(), ApiError> {
    let held = load(view, path).await?;
    if let Some(held) = &held {
        remove(batch, view, path, held);
    } else {
        batch.expect(view, &metadata_path(path), Expected::Absent);
    }
    if let Some(value) = value {
        let metadata = Metadata::with_one_version(now);
        let inline = put_newest(batch, view, &metadata, value);
        batch.put(view, &metadata_path(path), &encode(&metadata, inline.as_ref())?);
    }
    Ok(())
}

/// Adds to a batch that the newest version of a secret is hidden, unless it is gone already.
pub(super) fn add_deletion(
    batch: &mut Batch,
    view: &MountView,
    path: &str,
    held: &Held,
    now: Timestamp,
) -> Result<(), ApiError> {
    let mut metadata = held.metadata.clone();
    let current = metadata.current;
    if let Some(version) = metadata.version_mut(current).filter(|version| !version.is_gone(now)) {
        version.deletion = Some(now);
        metadata.updated = now;
        let record = encode(&metadata, held.inline.as_ref())?;
        batch.put_if(view, &metadata_path(path), &record, Expected::Header(held.header));
    }
    Ok(())
}

/// Whether [`mirror`] has written the secret at `path`.
pub(in crate::engines) async fn is_mirrored(
    view: &MountView,
    path: &str,
) -> Result<bool, ApiError> {
    Ok(view.contains(&metadata_path(path)).await?)
}

/// Deletes the values of secrets that were removed with more of them than one commit carries. What
/// a crash interrupts is done by the next call.
pub(super) async fn sweep(view: &MountView) -> Result<(), CommitError> {
    for removed in view.list(&["removed"], None, usize::MAX).await? {
        view.remove_all(&["values", &removed.name]).await?;
        let mut batch = Batch::default();
        batch.delete(view, &["removed", &removed.name]);
        view.commit(batch).await?;
    }
    Ok(())
}

/// A secret's path never ends in a slash, so nothing lies there.
fn names_a_folder(path: &str) -> bool {
    path.ends_with('/')
}

/// Where the metadata of a secret lies.
pub(super) fn metadata_path(path: &str) -> Vec<&str> {
    std::iter::once(SECRETS).chain(path.split('/')).collect()
}

/// The record of a secret.
///
/// # Errors
/// 500, which no metadata comes to.
pub(super) fn encode(
    metadata: &Metadata,
    inline: Option<&SecretBytes>,
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let metadata = Zeroizing::new(postcard::to_allocvec(metadata).map_err(ApiError::internal)?);
    let length = u32::try_from(metadata.len()).map_err(ApiError::internal)?;
    let room = 5 + metadata.len() + inline.map_or(0, SecretBytes::len);
    let mut record = Zeroizing::new(Vec::with_capacity(room));
    record.push(METADATA_VERSION);
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(&metadata);
    if let Some(inline) = inline {
        inline.expose(|inline| record.extend_from_slice(inline));
    }
    Ok(record)
}

fn decode(record: &[u8]) -> Option<(Metadata, Option<SecretBytes>)> {
    let (&version, rest) = record.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (metadata, inline) = rest.split_at_checked(length)?;
    let metadata = match version {
        METADATA_VERSION => postcard::from_bytes(metadata),
        METADATA_VERSION_1 => postcard::from_bytes(&with_zeros(metadata, 2)),
        _ => return None,
    };
    let metadata = metadata.ok()?;
    Some((metadata, (!inline.is_empty()).then(|| SecretBytes::copy_of(inline))))
}

#[derive(Debug, thiserror::Error)]
#[error("the metadata record of a secret is malformed")]
struct Malformed;

#[derive(Debug, thiserror::Error)]
#[error("the value of version {version} is missing, though its metadata is there")]
struct ValueMissing {
    version: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the first version of the layout wrote for a secret with one version and its value
    /// inside.
    const VERSION_1: &str = "0100000037000102030405060708090a0b0c0d0e0f80d095ffbc3180d095ffbc31\
                             0100030180d88ee16f01036f776e027573010180d095ffbc3100007b2261223a317d";

    #[test]
    fn a_record_of_the_first_layout_is_read() {
        let record = data_encoding::HEXLOWER.decode(VERSION_1.as_bytes()).unwrap();
        let (metadata, inline) = decode(&record).unwrap();
        assert_eq!((metadata.current, metadata.max_versions), (1, 3));
        assert_eq!((metadata.metadata_version, metadata.metadata_cas_required), (0, false));
        assert_eq!(metadata.custom.get("own").map(String::as_str), Some("us"));
        assert_eq!(metadata.version(1).map(|version| version.is_destroyed), Some(false));
        assert!(inline.as_ref().unwrap().expose(|inline| inline == br#"{"a":1}"#));
        let written = encode(&metadata, inline.as_ref()).unwrap();
        assert_eq!(written.first(), Some(&METADATA_VERSION));
        assert_eq!(written.len(), record.len() + 2);
    }

    #[test]
    fn a_record_of_an_unknown_layout_is_refused() {
        let metadata = Metadata::new(Timestamp::from_millis(1));
        let mut record = encode(&metadata, None).unwrap();
        assert!(decode(&record).is_some());
        record[0] = METADATA_VERSION + 1;
        assert!(decode(&record).is_none());
    }
}
