use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use crate::crypto::{Mac, mac};

use super::chain::{Checkpoint, Line, Link, tag};

/// Checks the lines of one device.
///
/// The public key proves the lines up to the last checkpoint. The chain key, which only the
/// unsealed store has, proves the lines behind it too.
#[derive(Debug)]
pub struct Verifier<'a> {
    /// The device's id.
    pub device_id: [u8; 16],
    /// The device's public key.
    pub public_key: [u8; 32],
    /// The device's chain key.
    pub chain_key: Option<&'a Mac>,
}

/// What a check proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Number of the first line of the file; 1 unless it goes on where another one ended.
    pub first: u64,
    /// Number of the last line that holds.
    pub last: u64,
    /// Hash of that line.
    pub last_hash: [u8; 32],
    /// Number of the last checkpoint.
    pub checkpoint: u64,
    /// Hash of the last checkpoint's line.
    pub checkpoint_hash: [u8; 32],
    /// Where the lines that hold end, in bytes.
    pub end: u64,
    /// Bytes of an unfinished line behind them.
    pub unfinished: u64,
}

/// The first line that does not hold.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, at byte {offset}: {fault}")]
pub struct BadLine {
    /// Its number in the file, from 1.
    pub line: u64,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// What does not hold.
    pub fault: LineFault,
    /// What the lines before it prove, if a checkpoint is among them.
    pub before: Option<Box<Verified>>,
}

/// Why a line does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// It is not a line of an audit file.
    #[error("it is not an audit line")]
    Form,
    /// The file begins with a line that names no place in the chain.
    #[error("the file does not begin with a checkpoint")]
    NoCheckpoint,
    /// The hash does not follow from the line and the one before: changed, inserted, removed or
    /// moved here or just before.
    #[error("its hash does not hold")]
    Hash,
    /// The hash holds but not the keyed tag: the chain was computed again without the key.
    #[error("its tag does not hold")]
    Tag,
    /// A checkpoint names another place than the one it stands in: lines are missing before it.
    #[error("lines are missing before it")]
    Gap,
    /// A checkpoint of another device.
    #[error("it belongs to another device")]
    Device,
    /// A checkpoint signed by another key.
    #[error("its signature does not hold")]
    Signature,
    /// The chain holds and is another one: whoever wrote it has the keys.
    #[error("another line stood here when its hash was kept elsewhere")]
    Replaced,
}

/// Why a file was not found good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A line does not hold.
    #[error("{}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line.
        #[source]
        line: BadLine,
    },
    /// The system does not give the file.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl Verifier<'_> {
    /// Checks a whole file.
    ///
    /// # Errors
    /// [`VerifyError`], which names the first bad line.
    pub fn file(&self, path: &Path) -> Result<Verified, VerifyError> {
        let read_error = |cause| VerifyError::Read { path: path.to_owned(), cause };
        let file = File::open(path).map_err(read_error)?;
        self.lines(BufReader::new(file), 0, &[])
            .map_err(read_error)?
            .map_err(|line| VerifyError::Line { path: path.to_owned(), line })
    }

    /// Checks the lines from `offset` on, where the reader stands and where a checkpoint begins.
    /// `marks` are lines that are known from elsewhere.
    pub(super) fn lines(
        &self,
        mut reader: impl BufRead,
        offset: u64,
        marks: &[Link],
    ) -> io::Result<Result<Verified, BadLine>> {
        let mut proven: Option<Verified> = None;
        let mut line = Vec::new();
        let mut number = 0;
        let mut offset = offset;
        loop {
            line.clear();
            let length = to_u64(reader.read_until(b'\n', &mut line)?);
            let Some(content) = line.strip_suffix(b"\n") else {
                let Some(mut verified) = proven else {
                    let fault = LineFault::NoCheckpoint;
                    return Ok(Err(BadLine { line: 1, offset, fault, before: None }));
                };
                verified.unfinished = length;
                return Ok(Ok(verified));
            };
            number += 1;
            match self.line(content, proven.as_ref(), marks) {
                Ok(mut verified) => {
                    offset += length;
                    verified.end = offset;
                    proven = Some(verified);
                }
                Err(fault) => {
                    return Ok(Err(BadLine {
                        line: number,
                        offset,
                        fault,
                        before: proven.map(Box::new),
                    }));
                }
            }
        }
    }

    /// Checks one line against what the lines before it proved.
    fn line(
        &self,
        content: &[u8],
        before: Option<&Verified>,
        marks: &[Link],
    ) -> Result<Verified, LineFault> {
        let line = Line::parse(content).ok_or(LineFault::Form)?;
        let checkpoint = Line::is_checkpoint(line.body)
            .then(|| Checkpoint::parse(line.body).ok_or(LineFault::Form))
            .transpose()?;
        let previous = match (before, &checkpoint) {
            (Some(verified), _) => Link { n: verified.last, h: verified.last_hash },
            // The first checkpoint of a file says where in the chain the file begins.
            (None, Some((checkpoint, _))) => {
                Link { n: checkpoint.n.saturating_sub(1), h: checkpoint.previous }
            }
            (None, None) => return Err(LineFault::NoCheckpoint),
        };
        if let Some((checkpoint, signature)) = &checkpoint {
            self.checkpoint(checkpoint, signature, &previous)?;
        }
        let link = previous.next(&self.device_id, line.body);
        if link.h != line.h {
            return Err(LineFault::Hash);
        }
        if let Some(key) = self.chain_key
            && !mac::equal(&tag(key, &link), &line.m)
        {
            return Err(LineFault::Tag);
        }
        if marks.iter().any(|mark| mark.n == link.n && mark.h != link.h) {
            return Err(LineFault::Replaced);
        }
        let at = before.copied().unwrap_or(Verified {
            first: link.n,
            last: 0,
            last_hash: [0; 32],
            checkpoint: 0,
            checkpoint_hash: [0; 32],
            end: 0,
            unfinished: 0,
        });
        let (checkpoint, checkpoint_hash) = match checkpoint {
            Some(_) => (link.n, link.h),
            None => (at.checkpoint, at.checkpoint_hash),
        };
        Ok(Verified { last: link.n, last_hash: link.h, checkpoint, checkpoint_hash, ..at })
    }

    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
        signature: &[u8; 64],
        previous: &Link,
    ) -> Result<(), LineFault> {
        if checkpoint.device_id != self.device_id {
            return Err(LineFault::Device);
        }
        if checkpoint.n != previous.n.saturating_add(1) || checkpoint.previous != previous.h {
            return Err(LineFault::Gap);
        }
        if !checkpoint.is_signed(&self.public_key, signature) {
            return Err(LineFault::Signature);
        }
        Ok(())
    }
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
