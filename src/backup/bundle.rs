use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use crate::{
    clock::Timestamp,
    crypto::mac::RunningSha256,
    storage::{StoreFile, StoreId},
};

/// What a backup says of itself (FORMAT.md 10). Nothing in it is proven before the backup is opened
/// with a secret of its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The store.
    pub store_id: StoreId,
    /// Its generation.
    pub generation: u64,
    /// Sequence of the last commit inside.
    pub seq: u64,
    /// Its chain value.
    pub chain: [u8; 32],
    /// When the backup was made.
    pub created: Timestamp,
    /// Names the root key whose seal file is inside; `None` without one.
    pub root_id: Option<[u8; 16]>,
    /// The terms under which something inside is sealed, ascending.
    pub terms: Vec<u32>,
}

/// One file of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The seal file.
    Seal,
    /// A snapshot, or a segment of the journal.
    Store(StoreFile),
}

/// Why a file is not a backup, or not a whole one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It does not begin as backups do.
    #[error("it is not a backup of this format")]
    Magic,
    /// It ends before its end.
    #[error("it is cut off at byte {offset}")]
    Short {
        /// Where it ends.
        offset: u64,
    },
    /// What stands there cannot be.
    #[error("it is damaged at byte {offset}: {what}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A bit changed since it was written.
    #[error("its checksum does not hold: it was changed or copied badly")]
    Checksum,
    /// The same, and where.
    #[error("it is damaged at byte {offset}, in its copy of {}: {what}", .file.display())]
    Damaged {
        /// Where, in bytes of the backup.
        offset: u64,
        /// What is copied there.
        file: PathBuf,
        /// What is wrong there.
        what: String,
    },
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[source] io::Error),
}

/// Writes a backup: head, parts, checksum.
pub(super) struct Writer<W> {
    out: Hashed<W>,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(out: W, summary: &Summary) -> io::Result<Self> {
        let mut out = Hashed { inner: out, sum: RunningSha256::default(), bytes: 0 };
        out.write_all(&summary.encode())?;
        Ok(Self { out })
    }

    /// Writes one file of exactly this many bytes.
    pub(super) fn part(
        &mut self,
        part: Part,
        bytes: u64,
        content: &mut dyn Read,
        step: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let (kind, number) = part.code();
        self.out.write_all(&[kind])?;
        self.out.write_all(&number.to_be_bytes())?;
        self.out.write_all(&bytes.to_be_bytes())?;
        let mut left = bytes;
        let mut buffer = vec![0; WINDOW];
        while left > 0 {
            let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = content.read(buffer.get_mut(..room).unwrap_or_default())?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.out.write_all(buffer.get(..read).unwrap_or_default())?;
            left -= read as u64;
            step(read as u64);
        }
        Ok(())
    }

    /// Writes the end, and gives the stream back.
    pub(super) fn end(mut self) -> io::Result<W> {
        self.out.write_all(&[END])?;
        let sum = self.out.sum.digest();
        self.out.inner.write_all(&sum)?;
        self.out.inner.flush()?;
        Ok(self.out.inner)
    }
}

/// Reads a backup once, from front to back. What it hands out counts only when
/// [`end`](Self::end) was reached.
pub(super) struct Reader<R> {
    from: Hashed<R>,
    summary: Summary,
    /// The parts so far, and where the bytes of each begin.
    parts: Vec<(Part, u64)>,
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(from: R) -> Result<Self, BundleError> {
        let mut from = Hashed { inner: from, sum: RunningSha256::default(), bytes: 0 };
        let summary = Summary::read(&mut from)?;
        Ok(Self { from, summary, parts: Vec::new() })
    }

    /// The parts so far, and at which byte of the backup each begins.
    pub(super) fn parts(&self) -> &[(Part, u64)] {
        &self.parts
    }

    pub(super) fn into_summary(self) -> Summary {
        self.summary
    }

    /// Copies the next file to where `place` says; `None` behind the last one.
    pub(super) fn part<W: Write>(
        &mut self,
        place: impl FnOnce(Part) -> io::Result<W>,
        step: &mut dyn FnMut(u64),
    ) -> Result<Option<(Part, W)>, BundleError> {
        let at = self.from.bytes;
        let malformed = |what| BundleError::Malformed { offset: at, what };
        let [kind] = self.from.array()?;
        if kind == END {
            return Ok(None);
        }
        let part = Part::of(kind, u64::from_be_bytes(self.from.array()?))
            .ok_or_else(|| malformed("an unknown kind of file"))?;
        // In order, so that no file comes twice and each is made once.
        if self.parts.last().is_some_and(|(last, _)| *last >= part) {
            return Err(malformed("a file out of its order"));
        }
        let mut left = u64::from_be_bytes(self.from.array()?);
        self.parts.push((part, self.from.bytes));
        let mut out = place(part).map_err(BundleError::Io)?;
        let mut buffer = vec![0; WINDOW];
        while left > 0 {
            let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let chunk = buffer.get_mut(..room).unwrap_or_default();
            self.from.fill(chunk)?;
            out.write_all(chunk).map_err(BundleError::Io)?;
            left -= chunk.len() as u64;
            step(chunk.len() as u64);
        }
        Ok(Some((part, out)))
    }

    /// Checks the end: the checksum, and that nothing follows.
    pub(super) fn end(mut self) -> Result<Summary, BundleError> {
        let expected = self.from.sum.digest();
        let found: [u8; 32] = self.from.array()?;
        if found != expected {
            return Err(BundleError::Checksum);
        }
        let mut more = [0];
        match self.from.inner.read(&mut more) {
            Ok(0) => Ok(self.summary),
            Ok(_) => Err(BundleError::Malformed {
                offset: self.from.bytes,
                what: "bytes follow the end",
            }),
            Err(error) => Err(BundleError::Io(error)),
        }
    }
}

impl Summary {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.store_id.0);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        bytes.extend_from_slice(&self.chain);
        bytes.extend_from_slice(&self.created.millis().to_be_bytes());
        bytes.extend_from_slice(&self.root_id.unwrap_or_default());
        bytes.push(u8::try_from(self.terms.len()).unwrap_or(u8::MAX));
        for term in &self.terms {
            bytes.extend_from_slice(&term.to_be_bytes());
        }
        bytes
    }

    fn read(from: &mut Hashed<impl Read>) -> Result<Self, BundleError> {
        if from.array().ok().as_ref() != Some(MAGIC) {
            return Err(BundleError::Magic);
        }
        let store_id = StoreId(from.array()?);
        let generation = u64::from_be_bytes(from.array()?);
        let seq = u64::from_be_bytes(from.array()?);
        let chain = from.array()?;
        let created = Timestamp::from_millis(u64::from_be_bytes(from.array()?));
        let root_id = from.array()?;
        let [terms] = from.array()?;
        let terms = (0..terms)
            .map(|_| from.array().map(u32::from_be_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        if !terms.is_sorted_by(|one, next| one < next) {
            return Err(BundleError::Malformed {
                offset: from.bytes,
                what: "the terms are not in order",
            });
        }
        let root_id = (root_id != [0; 16]).then_some(root_id);
        Ok(Self { store_id, generation, seq, chain, created, root_id, terms })
    }
}

impl Part {
    fn code(self) -> (u8, u64) {
        match self {
            Self::Seal => (1, 0),
            Self::Store(StoreFile::Snapshot(seq)) => (2, seq),
            Self::Store(StoreFile::Segment(first_seq)) => (3, first_seq),
        }
    }

    fn of(kind: u8, number: u64) -> Option<Self> {
        match (kind, number) {
            (1, 0) => Some(Self::Seal),
            (2, seq) => Some(Self::Store(StoreFile::Snapshot(seq))),
            (3, first_seq) => Some(Self::Store(StoreFile::Segment(first_seq))),
            _ => None,
        }
    }
}

/// A stream whose bytes are counted and hashed.
struct Hashed<S> {
    inner: S,
    sum: RunningSha256,
    bytes: u64,
}

impl<W: Write> Hashed<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Hashed<R> {
    fn fill(&mut self, room: &mut [u8]) -> Result<(), BundleError> {
        self.inner.read_exact(room).map_err(|error| {
            let is_short = error.kind() == io::ErrorKind::UnexpectedEof;
            if is_short {
                BundleError::Short { offset: self.bytes }
            } else {
                BundleError::Io(error)
            }
        })?;
        self.sum.update(room);
        self.bytes += room.len() as u64;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BundleError> {
        let mut array = [0; N];
        self.fill(&mut array)?;
        Ok(array)
    }
}

const MAGIC: &[u8; 8] = b"KISTABK1";
/// Stands where the next file's kind would.
const END: u8 = 0;
/// How much is copied at once.
const WINDOW: usize = 256 * 1024;
