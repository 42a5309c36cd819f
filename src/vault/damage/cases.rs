use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use super::store::{Files, Made, Verdict, Witness};
use crate::crypto::mac::sha256;

/// How thorough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Every byte that means something, one bit of it.
    Short,
    /// Every bit of every byte.
    Long,
}

/// A change of files.
#[derive(Clone)]
pub(super) enum Change {
    /// Bits of one byte.
    Flip {
        file: PathBuf,
        offset: usize,
        bits: u8,
        is_zero_tail: bool,
    },
    /// The same bits in two files.
    FlipBoth {
        files: [PathBuf; 2],
        offset: usize,
        bits: u8,
    },
    Truncate {
        file: PathBuf,
        length: usize,
    },
    Delete {
        file: PathBuf,
    },
    /// Whole files, made up otherwise.
    Rewrite {
        label: &'static str,
        what: String,
        files: BTreeMap<PathBuf, Vec<u8>>,
    },
}

/// Nothing in the journal itself tells of it.
pub(super) const LAST_LEFT_OUT: &str = "last commit left out";
/// Bytes of the journal after its last record that nothing reads but the search for later records.
const UNREAD_FROM: usize = 512;

impl Change {
    pub(super) fn apply(&self, files: &Files) -> Files {
        let mut files = files.clone();
        match self {
            Self::Flip { file, offset, bits, .. } => {
                files.0.get_mut(file).unwrap()[*offset] ^= bits;
            }
            Self::FlipBoth { files: both, offset, bits } => {
                for file in both {
                    files.0.get_mut(file).unwrap()[*offset] ^= bits;
                }
            }
            Self::Truncate { file, length } => files.0.get_mut(file).unwrap().truncate(*length),
            Self::Delete { file } => drop(files.0.remove(file)),
            Self::Rewrite { files: others, .. } => files.0.extend(others.clone()),
        }
        files
    }

    /// Changes these files, and puts them with others.
    pub(super) fn apply_to(&self, files: &Files, mut with: Files) -> Files {
        with.0.extend(self.apply(files).0);
        with
    }

    /// The same change, in this file too.
    pub(super) fn also_in(&self, other: &Path) -> Self {
        match self {
            Self::Flip { file, offset, bits, .. } => {
                let files = [file.clone(), other.to_owned()];
                Self::FlipBoth { files, offset: *offset, bits: *bits }
            }
            Self::FlipBoth { .. }
            | Self::Truncate { .. }
            | Self::Delete { .. }
            | Self::Rewrite { .. } => self.clone(),
        }
    }

    /// Whether the short form tries it with and without one who knows the newest commit.
    pub(super) fn is_tried_twice(&self, form: Form) -> bool {
        match (self, form) {
            (Self::Flip { offset, .. }, Form::Short) => offset.is_multiple_of(4),
            (_, Form::Short | Form::Long) => true,
        }
    }

    /// Whether the short form tries it where every other one would come to the same.
    pub(super) fn is_in_sample(&self, form: Form) -> bool {
        match (self, form) {
            (Self::Flip { offset, .. }, Form::Short) => offset.is_multiple_of(31),
            (_, Form::Short | Form::Long) => true,
        }
    }

    /// Whether the short form tries it in the first or the second of two worlds.
    pub(super) fn is_in_sample_of(&self, is_first: bool, form: Form) -> bool {
        match (self, form) {
            (Self::Flip { offset, .. } | Self::Truncate { length: offset, .. }, Form::Short) => {
                offset % 11 == if is_first { 0 } else { 6 }
            }
            (_, Form::Short | Form::Long) => true,
        }
    }

    /// Whether it lies behind this place.
    pub(super) fn is_behind(&self, place: u64) -> bool {
        match self {
            Self::Flip { offset, .. } => place <= *offset as u64,
            Self::FlipBoth { .. }
            | Self::Truncate { .. }
            | Self::Delete { .. }
            | Self::Rewrite { .. } => false,
        }
    }

    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Rewrite { label, .. } => label,
            Self::Flip { .. } | Self::FlipBoth { .. } => "byte changed",
            Self::Truncate { .. } => "cut short",
            Self::Delete { .. } => "deleted",
        }
    }

    /// Whether nothing else can be asked than this verdict.
    pub(super) fn may_be(&self, verdict: Verdict, witness: Witness) -> bool {
        let is_seen = witness == Witness::Newest;
        match (self, verdict) {
            // Only in what a segment has behind its last record.
            (Self::Flip { is_zero_tail, .. }, Verdict::NoEffect) => *is_zero_tail,
            (Self::Flip { is_zero_tail, .. }, Verdict::CutNothing) => *is_zero_tail || !is_seen,
            (_, Verdict::CutLast) => !is_seen,
            (Self::Rewrite { .. }, verdict) => {
                matches!(verdict, Verdict::Refused | Verdict::Mended)
            }
            (Self::FlipBoth { .. }, verdict) => verdict == Verdict::Refused,
            // Without the newest snapshot the one before leads to the same state.
            (Self::Delete { file }, Verdict::NoEffect) => {
                file.extension().is_some_and(|e| e == "snap")
            }
            (Self::Delete { .. }, verdict) => {
                matches!(verdict, Verdict::Refused | Verdict::Mended)
            }
            (Self::Flip { .. } | Self::Truncate { .. }, _) => true,
        }
    }
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flip { file, offset, bits, .. } => {
                write!(f, "{} byte {offset} bits {bits:#04x}", file.display())
            }
            Self::FlipBoth { files, offset, bits } => {
                write!(f, "{} and its copy, byte {offset} bits {bits:#04x}", files[0].display())
            }
            Self::Truncate { file, length } => write!(f, "{} to {length}", file.display()),
            Self::Delete { file } => write!(f, "{} deleted", file.display()),
            Self::Rewrite { label, what, .. } => write!(f, "{label}: {what}"),
        }
    }
}

/// A change of each byte of a file.
pub(super) fn flips(files: &Files, file: &Path, form: Form) -> Vec<Change> {
    let bytes = &files.0[file];
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let used = used.next_multiple_of(512);
    let mut changes = Vec::new();
    for offset in 0..bytes.len() {
        let is_zero_tail = offset >= used;
        // Of the zeros behind the last record the short form takes a sample.
        let each_of = if offset >= used + UNREAD_FROM { 61 } else { 4 };
        if form == Form::Short && is_zero_tail && !offset.is_multiple_of(each_of) {
            continue;
        }
        let each = match form {
            Form::Short => vec![1 << (offset % 8)],
            Form::Long => (0..8).map(|bit| 1 << bit).collect(),
        };
        changes.extend(each.into_iter().map(|bits| Change::Flip {
            file: file.to_owned(),
            offset,
            bits,
            is_zero_tail,
        }));
    }
    changes
}

/// A file at each shorter length.
pub(super) fn truncations(files: &Files, file: &Path, form: Form) -> Vec<Change> {
    let length = files.0[file].len();
    // The short form takes every length around a block's edge, and a sample between.
    let is_taken =
        |length: &usize| form == Form::Long || length.is_multiple_of(31) || (length + 2) % 512 < 4;
    let lengths = (0..length).filter(is_taken);
    lengths.map(|length| Change::Truncate { file: file.to_owned(), length }).collect()
}

/// A record of the journal: its file, and where it stands there, padding included.
#[derive(Clone, Debug)]
struct Placed {
    file: PathBuf,
    range: Range<usize>,
    /// Length without padding.
    length: usize,
}

/// The records of a journal, by their fronts.
fn records(files: &Files) -> Vec<Placed> {
    let mut found = Vec::new();
    for (file, bytes) in
        files.0.iter().filter(|(file, _)| file.extension().is_some_and(|e| e == "seg"))
    {
        let mut at = 512;
        while bytes.get(at..at + 4) == Some(b"KJR1") {
            let body = u32::from_be_bytes(bytes[at + 4..at + 8].try_into().unwrap());
            let length = 56 + usize::try_from(body).unwrap() + 32;
            let range = at..(at + length).next_multiple_of(512);
            at = range.end;
            found.push(Placed { file: file.clone(), range, length });
        }
    }
    found
}

/// Records moved, copied, left out, replayed, forged without a key, and taken from another store.
pub(super) fn rearranged(made: &Made, other: &Made) -> Vec<Change> {
    let (ours, theirs) = (records(&made.files), records(&other.files));
    let bytes =
        |files: &Files, placed: &Placed| files.0[&placed.file][placed.range.clone()].to_vec();
    let mut changes = Vec::new();
    for (n, one) in ours.iter().enumerate() {
        for (m, two) in ours.iter().enumerate() {
            if n != m {
                let copied = put(&made.files, one, &bytes(&made.files, two));
                changes.push(rewrite("commit copied over another", (m, n), copied));
            }
            if n < m {
                let once = put(&made.files, one, &bytes(&made.files, two));
                let both = put(&once, two, &bytes(&made.files, one));
                changes.push(rewrite("commits swapped", (n, m), both));
            }
        }
        let gone = put(&made.files, one, &[]);
        let is_last = n + 1 == ours.len();
        let label = if is_last { LAST_LEFT_OUT } else { "commit left out" };
        changes.push(rewrite(label, (n, n), gone));
        if let Some(foreign) = theirs.get(n) {
            let foreign = put(&made.files, one, &bytes(&other.files, foreign));
            changes.push(rewrite("commit of another store", (n, n), foreign));
        }
        for (what, forged) in forged(made, one) {
            changes.push(rewrite(what, (n, n), forged));
        }
    }
    for (file, theirs) in made.files.names().into_iter().zip(other.files.names()) {
        let mut files = made.files.clone();
        files.0.insert(file.clone(), other.files.0[&theirs].clone());
        changes.push(rewrite("file of another store", (0, 0), files));
    }
    changes
}

fn rewrite(label: &'static str, (n, m): (usize, usize), files: Files) -> Change {
    Change::Rewrite { label, what: format!("{n} and {m}"), files: files.0 }
}

/// Puts other bytes in the place of a record, and moves what follows in its segment.
fn put(files: &Files, at: &Placed, bytes: &[u8]) -> Files {
    let mut files = files.clone();
    let file = files.0.get_mut(&at.file).unwrap();
    let length = file.len();
    file.splice(at.range.clone(), bytes.iter().copied());
    file.resize(length.max(file.len()), 0);
    files
}

/// What one without a key can write: a record with another body and the chain made again, with all
/// that follows in its segment linked to it.
fn forged(made: &Made, at: &Placed) -> Vec<(&'static str, Files)> {
    let record = &made.files.0[&at.file][at.range.start..at.range.start + at.length];
    let (front, body) = record[..at.length - 32].split_at(56);
    let mut forged = Vec::new();
    // One bit of the last byte of the first write's record, which is its tag.
    if body.len() > 300 && u32::from_be_bytes(body[..4].try_into().unwrap()) > 0 {
        let key = usize::try_from(u32::from_be_bytes(body[5..9].try_into().unwrap())).unwrap();
        if body[4] == 1 {
            let at = 9 + key;
            let length = u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
            let mut other = body.to_vec();
            other[at + 3 + usize::try_from(length).unwrap()] ^= 1;
            forged.push(("record in a commit forged, chain made again", other));
            let mut other = body.to_vec();
            other[9 + key - 2] ^= 1;
            forged.push(("key in a commit forged, chain made again", other));
            let mut other = body.to_vec();
            other[4] = 2;
            forged.push(("put made a delete, chain made again", other));
        }
    }
    // Time, counts and sums are inside the sealed head, at the end.
    let mut other = body.to_vec();
    let last = other.len() - 1;
    other[last] ^= 1;
    forged.push(("head forged, chain made again", other));
    let relink = |body: Vec<u8>| {
        let mut files = made.files.clone();
        let mut bytes = [front, &body].concat();
        let chain = chain(made, &bytes);
        bytes.extend_from_slice(&chain);
        let segment = files.0.get_mut(&at.file).unwrap();
        segment[at.range.start..at.range.start + at.length].copy_from_slice(&bytes);
        link(made, segment, at.range.end, chain);
        files
    };
    forged.into_iter().map(|(label, body)| (label, relink(body))).collect()
}

/// Links the records of a segment from here on to this chain value.
fn link(made: &Made, segment: &mut [u8], mut at: usize, mut prev: [u8; 32]) {
    while segment.get(at..at + 4) == Some(b"KJR1") {
        let body = u32::from_be_bytes(segment[at + 4..at + 8].try_into().unwrap());
        let end = at + 56 + usize::try_from(body).unwrap();
        segment[at + 24..at + 56].copy_from_slice(&prev);
        prev = chain(made, &segment[at..end]);
        segment[end..end + 32].copy_from_slice(&prev);
        at = (end + 32).next_multiple_of(512);
    }
}

fn chain(made: &Made, before: &[u8]) -> [u8; 32] {
    sha256(&[b"kista/journal/1\0", &made.store_id.0, before])
}
