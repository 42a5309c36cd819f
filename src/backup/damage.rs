//! Any byte of a backup changed, and the backup cut anywhere: it is refused, by its place where the
//! place can be known, and a restore leaves nothing behind.
//!
//! The store is that of `vault/damage/`; the short form runs in `cargo test`, the long one as a
//! part of `just damage`.

use std::{path::Path, time::Instant};

use super::{
    BundleError, RestoreError, SealCopy,
    bundle::{Part, Reader},
    check, create, restore,
};
use crate::{
    disk,
    storage::StoreFile,
    vault::damage::{Counts, FOLDER, Form, Made, Verdict, form, time},
};

/// Of so many changes the short form tries a restore of one, which takes longer.
const RESTORED_OF: usize = 5;

/// Bytes of a sealed head of one term, and of its length.
const HEAD: u64 = 214 + 4;

/// A backup, and where its parts begin.
struct Backup {
    bytes: Vec<u8>,
    parts: Vec<(Part, u64)>,
}

impl Backup {
    fn make() -> Self {
        let (store, mut bytes) = (Made::whole(form()), Vec::new());
        let folder = Path::new(FOLDER);
        create(&store, folder, SealCopy::Included, time(), &mut bytes, &mut |_, _| {}).unwrap();
        let mut reader = Reader::begin(bytes.as_slice()).unwrap();
        while reader.part(|_| Ok(std::io::sink()), &mut |_| {}).unwrap().is_some() {}
        let parts = reader.parts().to_vec();
        reader.end().unwrap();
        Self { bytes, parts }
    }

    /// Which part a byte lies in, if in one that shows its own damage.
    fn part_at(&self, offset: usize) -> Option<Part> {
        let begins = |(_, begins): &&(Part, u64)| *begins <= offset as u64;
        let (part, _) = self.parts.iter().rev().find(begins)?;
        // Before the next one stand its kind, number and length; behind the last one the end.
        let next = self.parts.iter().map(|(_, begins)| *begins).find(|next| *next > offset as u64);
        let end = next.map_or(self.bytes.len() as u64 - 33, |next| next - 17);
        // The sealed head behind a snapshot's checksum shows itself only to who has the keys.
        let unshown = if matches!(part, Part::Store(StoreFile::Snapshot(_))) { HEAD } else { 0 };
        ((offset as u64) < end - unshown).then_some(*part)
    }
}

/// Restores, and sees that a refusal leaves nothing.
fn restored(bytes: &[u8]) -> Result<(), RestoreError> {
    let (disk, _) = disk::simulated();
    let done = restore(&disk, bytes, Path::new("/new"), None, &mut |_| {});
    let names = disk.read_dir(Path::new("/")).unwrap();
    assert_eq!(names.is_empty(), done.is_err(), "{names:?} is left after {done:?}");
    done.map(drop)
}

fn is_restored(n: usize) -> bool {
    form() == Form::Long || n.is_multiple_of(RESTORED_OF)
}

/// Whether the error says where: in this part, at or before the change. All that a snapshot can say
/// of a changed byte is that its checksum does not hold.
fn is_placed(error: &BundleError, part: Part, changed: usize) -> bool {
    match error {
        BundleError::Malformed { offset, .. } => *offset <= changed as u64,
        BundleError::Damaged { offset, file, .. } => match part {
            Part::Seal => file.ends_with("the seal file"),
            Part::Store(name @ StoreFile::Snapshot(_)) => name.path(Path::new("")) == *file,
            Part::Store(name) => name.path(Path::new("")) == *file && *offset <= changed as u64,
        },
        // A length that was changed leads past the end.
        BundleError::Short { .. } | BundleError::Magic => true,
        BundleError::Checksum | BundleError::Io(_) => false,
    }
}

#[test]
fn any_changed_byte_of_a_backup_is_refused_and_restores_nothing() {
    let (backup, mut counts, begun) = (Backup::make(), Counts::default(), Instant::now());
    restored(&backup.bytes).unwrap();
    let mut changed = backup.bytes.clone();
    for offset in 0..changed.len() {
        let bits = if form() == Form::Long { 0..8 } else { offset % 8..offset % 8 + 1 };
        for bit in bits {
            changed[offset] ^= 1 << bit;
            let part = backup.part_at(offset);
            let kind = match part {
                Some(Part::Seal) => "backup: seal file",
                Some(Part::Store(_)) => "backup: journal or snapshot",
                None => "backup: heads, lengths, checksum",
            };
            let seen = check(changed.as_slice(), &mut |_| {});
            assert!(seen.is_err(), "byte {offset}, bit {bit}: verified");
            counts.note(format!("{kind}, verified"), Verdict::Refused);
            if bit == offset % 8 && is_restored(offset) {
                let Err(RestoreError::Bundle(error)) = restored(&changed) else {
                    panic!("byte {offset}, bit {bit}: restored, or refused for another reason")
                };
                let is_placed = part.is_none_or(|part| is_placed(&error, part, offset));
                assert!(is_placed, "byte {offset}, bit {bit}: {error}");
                counts.note(format!("{kind}, restored"), Verdict::Refused);
            }
            changed[offset] ^= 1 << bit;
        }
    }
    counts.print(begun);
}

#[test]
fn a_backup_cut_anywhere_is_refused_by_its_end_and_restores_nothing() {
    let (backup, mut counts, begun) = (Backup::make(), Counts::default(), Instant::now());
    for length in 0..backup.bytes.len() {
        let cut = &backup.bytes[..length];
        let is_named = |error: &BundleError| match error {
            BundleError::Short { offset } => *offset <= length as u64,
            BundleError::Magic => length < 8,
            BundleError::Malformed { .. }
            | BundleError::Checksum
            | BundleError::Damaged { .. }
            | BundleError::Io(_) => false,
        };
        let seen = check(cut, &mut |_| {}).unwrap_err();
        assert!(is_named(&seen), "{length}: {seen}");
        counts.note("backup: cut short, verified".to_owned(), Verdict::Refused);
        if is_restored(length) {
            let refused = restored(cut);
            let Err(RestoreError::Bundle(error)) = refused else { panic!("{length}: {refused:?}") };
            assert!(is_named(&error), "{length}: {error}");
            counts.note("backup: cut short, restored".to_owned(), Verdict::Refused);
        }
    }
    counts.print(begun);
}

#[test]
fn bytes_behind_the_end_of_a_backup_are_refused() {
    let backup = Backup::make();
    let longer = [&backup.bytes[..], &[0]].concat();
    let refused = check(longer.as_slice(), &mut |_| {}).unwrap_err();
    assert!(
        matches!(refused, BundleError::Malformed { offset, .. } if offset == longer.len() as u64 - 1)
    );
    assert!(matches!(restored(&longer), Err(RestoreError::Bundle(BundleError::Malformed { .. }))));
}
