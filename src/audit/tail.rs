use std::{
    fs::TryLockError,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    barrier::{AuditKeys, Position},
    disk::{Disk, DiskFile, Reading},
};

use super::{
    chain::{Checkpoint, Line, Link},
    notice::Notice,
    verify::{BadLine, LineFault, Verified, Verifier},
};

/// Something about an audit file that was not as it was left. The file's next lines, the log and
/// health tell it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// A crash left an unfinished line.
    #[error("an unfinished line of {bytes} bytes was moved to {}", .file.display())]
    Partial {
        /// Where the bytes are now.
        file: PathBuf,
        /// How many.
        bytes: u64,
    },
    /// The file ends before a checkpoint that the store's head names, or that was kept elsewhere.
    #[error("audit_truncated: {} proves {found} lines, but there were {expected}; look for the rest of the file", .file.display())]
    Truncated {
        /// The audit file.
        file: PathBuf,
        /// The last line under a checkpoint.
        found: u64,
        /// The line that it has to reach.
        expected: u64,
    },
    /// A line does not hold.
    #[error("audit_damaged: {}, line {line}, at byte {offset}: {fault}", .file.display())]
    Damaged {
        /// The audit file.
        file: PathBuf,
        /// Number of the line, counted from where the check began.
        line: u64,
        /// Where it begins, in bytes.
        offset: u64,
        /// What does not hold.
        fault: LineFault,
    },
    /// The file cannot be gone on with and was moved away: its end is damaged, or it is another
    /// store's.
    #[error("the audit file was moved to {}, and a new one begun", .file.display())]
    SetAside {
        /// Where it is now.
        file: PathBuf,
    },
}

impl Finding {
    /// As a line; `None` for what the opening checkpoint tells already.
    pub(super) fn with_notice(&self, write: impl FnOnce(&Notice<'_>)) {
        match self {
            Self::Partial { .. } => {}
            Self::Truncated { found, expected, .. } => {
                write(&Notice::AuditTruncated { found: *found, expected: *expected });
            }
            Self::Damaged { line, offset, fault, .. } => {
                let fault = fault.to_string();
                write(&Notice::AuditDamaged { line: *line, offset: *offset, fault: &fault });
            }
            Self::SetAside { file } => write(&Notice::AuditSetAside { file }),
        }
    }
}

/// The state of the store that the last checkpoint of an audit file names, for the journal: if it
/// ends before that, it was cut. Asked before the store is attached, when the device's id, which
/// lies in the store, is not known yet; so the id is the file's own, and the signature proves it.
///
/// `None` when there is no file, or its last checkpoint is not signed by this store. A sequence of
/// another generation says nothing about the journal.
///
/// # Errors
/// What the system said when it was asked for the file.
pub fn named_position(
    disk: &Disk,
    path: &Path,
    keys: impl Fn(&[u8; 16]) -> AuditKeys,
) -> io::Result<Option<Position>> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let Some(offset) = last_checkpoint(&file, file.len()?)? else { return Ok(None) };
    let mut line = Vec::new();
    let mut reader = BufReader::new(Reading::from(file, offset));
    reader.read_until(b'\n', &mut line)?;
    let signed = line
        .strip_suffix(b"\n")
        .and_then(Line::parse)
        .and_then(|line| Checkpoint::parse(line.body))
        .filter(|(checkpoint, signature)| {
            let public_key = keys(&checkpoint.device_id).checkpoints.public_key();
            checkpoint.is_signed(&public_key, signature)
        });
    Ok(signed.map(|(checkpoint, _signature)| checkpoint.position))
}

/// Where the chain of a file goes on, and what was found on the way.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) file: Arc<DiskFile>,
    pub(super) length: u64,
    pub(super) link: Link,
    pub(super) partial_bytes: u64,
    pub(super) findings: Vec<Finding>,
}

/// Opens an audit file to go on with it. `marks` are checkpoints of its device that it has to
/// reach: the one that the store's head names, and one that was kept elsewhere.
pub(super) fn open(
    disk: &Disk,
    path: &Path,
    verifier: &Verifier<'_>,
    marks: &[Link],
) -> io::Result<Tail> {
    let file = Arc::new(open_locked(disk, path)?);
    let mut tail =
        Tail { file, length: 0, link: Link::START, partial_bytes: 0, findings: Vec::new() };
    tail.length = tail.file.len()?;
    tail.cut_partial(disk, path)?;
    let mut proven = if tail.length > 0 { tail.check(disk, path, verifier, marks)? } else { None };
    if proven.is_none() {
        proven = tail.go_on_from_aside(disk, path, verifier, marks)?;
    }
    let newest = marks.iter().max_by_key(|mark| mark.n);
    if let Some(mark) = newest {
        tail.compare(path, proven, mark);
    }
    Ok(tail)
}

impl Tail {
    /// Moves an unfinished last line to `FILE.partial`.
    fn cut_partial(&mut self, disk: &Disk, path: &Path) -> io::Result<()> {
        let end = end_of_lines(&self.file, self.length)?;
        let bytes = self.length - end;
        if bytes == 0 {
            return Ok(());
        }
        let mut content = read_range(&self.file, end, self.length)?;
        content.push(b'\n');
        let partial = beside(path, "partial");
        let target = disk.open_append(&partial)?;
        target.write_all_at(&content, target.len()?)?;
        target.sync_data()?;
        sync_folder(disk, path)?;
        self.file.set_len(end)?;
        self.file.sync_data()?;
        self.length = end;
        self.partial_bytes = bytes;
        self.findings.push(Finding::Partial { file: partial, bytes });
        Ok(())
    }

    /// Finds out where the chain goes on. The lines since the last checkpoint are checked always,
    /// the whole file when that takes no time worth mentioning.
    fn check(
        &mut self,
        disk: &Disk,
        path: &Path,
        verifier: &Verifier<'_>,
        marks: &[Link],
    ) -> io::Result<Option<Verified>> {
        let Some(offset) = last_checkpoint(&self.file, self.length)? else {
            if read_range(&self.file, 0, 1)? != [0] {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it holds something else than audit lines; move it away or name another file",
                ));
            }
            // A power cut has kept later lines of a new file, and of the first ones a hole.
            let fault = LineFault::Form;
            let file = path.to_owned();
            self.findings.push(Finding::Damaged { file, line: 1, offset: 0, fault });
            self.set_aside(disk, path)?;
            return Ok(None);
        };
        let end = self.lines(verifier, offset, marks)?;
        let whole = match &end {
            Ok(_) if offset == 0 || self.length > WHOLE => None,
            Err(bad) if bad.fault == LineFault::Device => None,
            Ok(_) | Err(_) => self.lines(verifier, 0, marks)?.err(),
        };
        if let Some(bad) = &whole {
            self.findings.push(Finding::Damaged {
                file: path.to_owned(),
                line: bad.line,
                offset: bad.offset,
                fault: bad.fault,
            });
        }
        let proven = match end {
            Ok(verified) => Some(verified),
            Err(_) => {
                self.set_aside(disk, path)?;
                whole.and_then(|bad| bad.before).map(|before| *before)
            }
        };
        if let Some(verified) = &proven {
            self.link = Link { n: verified.last, h: verified.last_hash };
        }
        Ok(proven)
    }

    /// A file that proves nothing may be one that an opening has just begun, in place of one that
    /// it moved away; a crash may have come then. The chain goes on from the newest of those.
    fn go_on_from_aside(
        &mut self,
        disk: &Disk,
        path: &Path,
        verifier: &Verifier<'_>,
        marks: &[Link],
    ) -> io::Result<Option<Verified>> {
        let mut asides = Vec::new();
        for number in 1_u32.. {
            let aside = aside(path, number);
            if !disk.exists(&aside)? {
                break;
            }
            asides.push(aside);
        }
        for aside in asides.into_iter().rev() {
            let reader = BufReader::new(Reading::from(disk.open(&aside)?, 0));
            let proven = match verifier.lines(reader, 0, marks)? {
                Ok(verified) => Some(verified),
                Err(bad) => bad.before.map(|before| *before),
            };
            if let Some(verified) = proven {
                self.link = Link { n: verified.last, h: verified.last_hash };
                return Ok(proven);
            }
        }
        Ok(None)
    }

    fn lines(
        &self,
        verifier: &Verifier<'_>,
        offset: u64,
        marks: &[Link],
    ) -> io::Result<Result<Verified, BadLine>> {
        verifier.lines(BufReader::new(Reading::from(&*self.file, offset)), offset, marks)
    }

    /// The file has to reach the newest checkpoint that is named, by the head or elsewhere: it was
    /// synced before it was named. Ahead is normal: the head is written by the next commit only.
    fn compare(&mut self, path: &Path, proven: Option<Verified>, mark: &Link) {
        let (found, hash) =
            proven.map_or((0, [0; 32]), |verified| (verified.checkpoint, verified.checkpoint_hash));
        if found > mark.n || found == mark.n && hash == mark.h {
            return;
        }
        self.findings.push(Finding::Truncated { file: path.to_owned(), found, expected: mark.n });
        // Numbers that were used once are not used again.
        if self.link.n < mark.n {
            self.link = *mark;
        }
    }

    fn set_aside(&mut self, disk: &Disk, path: &Path) -> io::Result<()> {
        let aside = free_name(disk, path)?;
        disk.rename(path, &aside)?;
        self.file = Arc::new(open_locked(disk, path)?);
        self.length = 0;
        self.findings.push(Finding::SetAside { file: aside });
        Ok(())
    }
}

/// Writes a range of the file again as it is read: after a failed sync the system may call bytes
/// clean that never came to the disk. A file that only grows (`chattr +a`) is left as it is.
pub(super) fn write_again(disk: &Disk, path: &Path, from: u64, to: u64) -> io::Result<()> {
    let file = match disk.open_rw(path) {
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        opened => opened?,
    };
    let mut start = from;
    while start < to {
        let end = to.min(start + BLOCK);
        file.write_all_at(&read_range(&file, start, end)?, start)?;
        start = end;
    }
    Ok(())
}

/// One process writes an audit file: two would tear each other's chain.
fn open_locked(disk: &Disk, path: &Path) -> io::Result<DiskFile> {
    let file = disk.open_append(path)?;
    file.try_lock().map_err(|refused| match refused {
        TryLockError::WouldBlock => {
            io::Error::new(io::ErrorKind::ResourceBusy, "another process writes it")
        }
        TryLockError::Error(cause) => cause,
    })?;
    Ok(file)
}

/// Bytes up to the last end of line, which is included.
fn end_of_lines(file: &DiskFile, length: u64) -> io::Result<u64> {
    Ok(search_back(file, length, |_start_of_line| true)?.unwrap_or(0))
}

/// Where the last checkpoint's line begins.
fn last_checkpoint(file: &DiskFile, length: u64) -> io::Result<Option<u64>> {
    if let Some(offset) = search_back(file, length, Line::is_checkpoint)? {
        return Ok(Some(offset));
    }
    let start = read_range(file, 0, length.min(PEEK))?;
    Ok(Line::is_checkpoint(&start).then_some(0))
}

/// Goes through the ends of line from the back, and gives the offset behind the first one whose
/// following bytes (some dozens of them, none at the end of the file) `accepts`.
fn search_back(
    file: &DiskFile,
    length: u64,
    accepts: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<u64>> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        // The block, and enough of what follows to look past its last end of line.
        let bytes = read_range(file, start, length.min(end + PEEK))?;
        let block = usize::try_from(end - start).map_err(io::Error::other)?;
        for (at, byte) in bytes.iter().enumerate().take(block).rev() {
            if *byte == b'\n' && bytes.get(at + 1..).is_some_and(&accepts) {
                return Ok(Some(start + u64::try_from(at).map_err(io::Error::other)? + 1));
            }
        }
        end = start;
    }
    Ok(None)
}

fn read_range(file: &DiskFile, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

pub(super) fn sync_folder(disk: &Disk, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => disk.sync_dir(folder),
        Some(_) | None => disk.sync_dir(Path::new(".")),
    }
}

/// `FILE.suffix` in the same folder.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn aside(path: &Path, number: u32) -> PathBuf {
    beside(path, &format!("aside-{number}"))
}

/// A name that nothing has yet: an earlier find is never written over.
fn free_name(disk: &Disk, path: &Path) -> io::Result<PathBuf> {
    for number in 1_u32.. {
        let candidate = aside(path, number);
        if !disk.exists(&candidate)? {
            return Ok(candidate);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Bytes read at a time.
const BLOCK: u64 = 64 * 1024;

/// Bytes that are enough to know a checkpoint's line.
const PEEK: u64 = 128;

/// A file up to this size (bytes) is checked whole when it is opened: 16 MiB take about 50 ms.
const WHOLE: u64 = 16 << 20;
