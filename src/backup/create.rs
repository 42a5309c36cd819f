use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use super::bundle::{Part, Summary, Writer};
use crate::{
    clock::Timestamp,
    disk::{Disk, Reading, Writing, if_there},
    seal,
    storage::{self, Frozen},
};

/// Whether a backup carries the seal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealCopy {
    /// It opens by itself, with a secret of its time.
    Included,
    /// It opens only beside a seal file that is kept elsewhere.
    LeftOut,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The seal file cannot be read.
    #[error(transparent)]
    Seal(#[from] seal::ReadError),
    /// The store's files cannot be read, or are damaged.
    #[error(transparent)]
    Storage(#[from] storage::OpenError),
    /// The keys were changed again and again meanwhile.
    #[error("the seal file keeps changing; try again when the rotation or rekey is over")]
    Changing,
    /// It cannot be written.
    #[error("the backup cannot be written")]
    Write(#[source] io::Error),
    /// The file cannot be made.
    #[error("cannot write {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Makes a backup in a file, in the place of one of that name. It is written beside it and takes
/// the name at the end, when it is on the disk: what breaks off leaves the old file, or none.
///
/// # Errors
/// [`CreateError`]; nothing is left then but a file of the same name that was there.
pub fn create_file(
    disk: &Disk,
    data: &Path,
    seal_copy: SealCopy,
    now: Timestamp,
    path: &Path,
    step: &mut dyn FnMut(u64, u64),
) -> Result<Summary, CreateError> {
    let unfinished = unfinished(path);
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| CreateError::File { path, source }
    };
    if_there(disk.remove_file(&unfinished)).map_err(at(&unfinished))?;
    let mut made = || {
        let file = disk.create_new(&unfinished).map_err(at(&unfinished))?;
        let mut out = BufWriter::with_capacity(BUFFER, Writing::to(file));
        let summary = create(disk, data, seal_copy, now, &mut out, step)?;
        let written = out.into_inner().map_err(io::IntoInnerError::into_error);
        written.and_then(|out| out.into_file().sync_all()).map_err(at(&unfinished))?;
        Ok::<_, CreateError>(summary)
    };
    let made = made();
    if made.is_err() {
        if_there(disk.remove_file(&unfinished)).map_err(at(&unfinished))?;
    }
    let summary = made?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let named = disk.rename(&unfinished, path);
    named.and_then(|()| disk.sync_dir(folder.unwrap_or(Path::new(".")))).map_err(at(path))?;
    Ok(summary)
}

/// Copies the store in a folder as it stands at its newest commit, whether or not a server runs on
/// it.
///
/// Nothing is locked and nothing asked of the server: what is copied never changes, but for the
/// journal's end, where the copy stops at the last whole commit. No key is needed, and none leaves
/// the seal file. `step` is told how many bytes are done, and of how many. Blocking.
///
/// # Errors
/// [`CreateError`]; what was written until then is not a backup.
pub fn create(
    disk: &Disk,
    data: &Path,
    seal_copy: SealCopy,
    now: Timestamp,
    out: impl Write,
    step: &mut dyn FnMut(u64, u64),
) -> Result<Summary, CreateError> {
    let (seal_file, frozen) = freeze(disk, data)?;
    let seal_file = match seal_copy {
        SealCopy::Included => Some(seal_file),
        SealCopy::LeftOut => None,
    };
    let summary = Summary {
        store_id: frozen.store_id,
        generation: frozen.generation,
        seq: frozen.seq,
        chain: frozen.chain,
        created: now,
        root_id: seal_file.as_ref().map(seal::SealFile::root_id),
        terms: frozen.terms.iter().copied().collect(),
    };
    write(out, &summary, seal_file.as_ref(), frozen, step).map_err(CreateError::Write)?;
    Ok(summary)
}

/// The seal file and the store's files, of one moment: a term that is taken from the seal file
/// while the store is read would leave records that nothing opens.
fn freeze(disk: &Disk, data: &Path) -> Result<(seal::SealFile, Frozen), CreateError> {
    for _ in 0..TRIES {
        let before = seal::inspect(disk, data).into_file()?;
        let frozen = storage::freeze(disk, data)?;
        let after = seal::inspect(disk, data).into_file()?;
        if before.epoch() == after.epoch() {
            return Ok((after, frozen));
        }
    }
    Err(CreateError::Changing)
}

fn write(
    out: impl Write,
    summary: &Summary,
    seal_file: Option<&seal::SealFile>,
    frozen: Frozen,
    step: &mut dyn FnMut(u64, u64),
) -> io::Result<()> {
    let seal_bytes = seal_file.map(seal::SealFile::bytes);
    let total = seal_bytes.map_or(0, |bytes| bytes.len() as u64)
        + frozen.files.iter().map(|file| file.bytes).sum::<u64>();
    let mut done = 0;
    let mut step = |more: u64| {
        done += more;
        step(done, total);
    };
    let mut writer = Writer::begin(out, summary)?;
    if let Some(mut bytes) = seal_bytes {
        writer.part(Part::Seal, bytes.len() as u64, &mut bytes, &mut step)?;
    }
    for file in frozen.files {
        let mut content = Reading::from(file.content, 0);
        writer.part(Part::Store(file.name), file.bytes, &mut content, &mut step)?;
    }
    writer.end().map(drop)
}

/// Where a backup is written until it is whole.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    PathBuf::from(name)
}

/// How much is written at once.
const BUFFER: usize = 1 << 20;
/// How often the files are read again because the keys have changed meanwhile.
const TRIES: usize = 5;
