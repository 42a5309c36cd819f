//! One flipped bit in each kind of file that the binary has made: an error that names the file, a
//! repair from a whole copy, or a reported cut; never a wrong answer.

use std::{
    fs,
    io::Read,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::support::{Kept, Process};

const SECRETS: usize = 20;

/// A folder that the binary has filled, and was killed over.
struct Made {
    folder: TempDir,
    kept: Kept,
}

impl Made {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (process, kept) = Process::init(folder.path());
        for number in 0..SECRETS {
            let body = format!("{{\"data\":{{\"value\":\"{}\"}}}}", value(number));
            let answer = process.call("POST", &path(number), &kept.root, &body);
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        process.kill();
        Self { folder, kept }
    }

    /// A copy of it in which `damage` has been done to the data.
    fn copy(&self, damage: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&self.folder.path().join("data"), &folder.path().join("data"));
        fs::copy(self.folder.path().join("audit.log"), folder.path().join("audit.log")).unwrap();
        damage(&folder.path().join("data"));
        let kept = Kept {
            folder: folder.path().to_owned(),
            share: self.kept.share.clone(),
            root: self.kept.root.clone(),
        };
        Self { folder, kept }
    }

    /// Opens it and asks for everything.
    fn outcome(&self) -> Outcome {
        let process = match Process::start(&self.kept.folder) {
            Ok(process) => process,
            Err(log) => return Outcome::Refused(log),
        };
        if process.unseal(&self.kept).status != 200 {
            return Outcome::Refused(process.log());
        }
        let mut missing = Vec::new();
        for number in 0..SECRETS {
            let answer = process.call("GET", &path(number), &self.kept.root, "");
            match answer.status {
                200 => assert!(answer.text.contains(&value(number)), "a wrong answer: {answer:?}"),
                _ => missing.push(number),
            }
        }
        Outcome::Opened { missing, log: process.log() }
    }
}

#[derive(Debug)]
enum Outcome {
    /// It did not open; this is the log.
    Refused(String),
    /// It opened; these secrets were not answered.
    Opened { missing: Vec<usize>, log: String },
}

#[test]
fn an_undamaged_copy_opens_whole() {
    let Outcome::Opened { missing, .. } = Made::new().copy(|_| ()).outcome() else {
        panic!("it does not open");
    };
    assert!(missing.is_empty());
}

#[test]
fn one_damaged_seal_file_is_repaired_from_the_other() {
    let made = Made::new();
    for name in ["seal.0", "seal.1"] {
        for part in [0, 40, 99] {
            let copy = made.copy(|data| flip(&data.join(name), part));
            let Outcome::Opened { missing, log } = copy.outcome() else {
                panic!("{name} at {part} %: it does not open");
            };
            assert!(missing.is_empty() && log.contains(name), "{name} at {part} %: {log}");
            let data = copy.folder.path().join("data");
            assert_eq!(
                fs::read(data.join("seal.0")).unwrap(),
                fs::read(data.join("seal.1")).unwrap()
            );
        }
    }
}

#[test]
fn two_damaged_seal_files_are_an_error_that_names_them() {
    let copy = Made::new().copy(|data| {
        flip(&data.join("seal.0"), 50);
        flip(&data.join("seal.1"), 50);
    });
    let Outcome::Refused(log) = copy.outcome() else { panic!("it opens") };
    assert!(log.contains("seal.0") && log.contains("seal.1"), "{log}");
}

#[test]
fn a_damaged_journal_is_an_error_that_names_the_segment() {
    let made = Made::new();
    let segment = files(&made.folder.path().join("data/journal")).remove(0);
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let used = used_bytes(&segment);
    for step in 0..16 {
        let at = used * step / 16;
        let copy = made.copy(|data| flip_at(&data.join("journal").join(&name), at));
        match copy.outcome() {
            Outcome::Refused(log) => assert!(log.contains(&name), "at {at} of {used}: {log}"),
            // Zeros that pad a record to its block mean nothing, and are the chain's only gap.
            Outcome::Opened { missing, .. } => assert!(missing.is_empty(), "at {at}: {missing:?}"),
        }
    }
}

#[test]
fn a_damaged_last_record_is_refused_or_its_cut_reported() {
    let made = Made::new();
    let segment = files(&made.folder.path().join("data/journal")).remove(0);
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let last = used_bytes(&segment) - 100;
    // With the index gone, nothing but the journal says that there was a last record.
    for is_index_kept in [true, false] {
        let copy = made.copy(|data| {
            flip_at(&data.join("journal").join(&name), last);
            if !is_index_kept {
                fs::remove_dir_all(data.join("index")).unwrap();
            }
        });
        match copy.outcome() {
            Outcome::Refused(log) => assert!(log.contains(&name), "{log}"),
            Outcome::Opened { missing, log } => {
                assert!(missing.is_empty() || missing == [SECRETS - 1], "{missing:?}");
                assert!(missing.is_empty() || log.contains("unfinished_commit_cut"), "{log}");
            }
        }
    }
}

#[test]
fn a_damaged_index_is_rebuilt_or_an_error() {
    let made = Made::new();
    for file in files(&made.folder.path().join("data/index")) {
        let name = file.strip_prefix(made.folder.path()).unwrap().to_owned();
        for part in [0, 10, 50, 99] {
            let copy = made.copy(|data| flip(&data.parent().unwrap().join(&name), part));
            match copy.outcome() {
                Outcome::Refused(log) => assert!(log.contains("index"), "{name:?}: {log}"),
                Outcome::Opened { missing, log } => {
                    assert!(missing.is_empty(), "{name:?} at {part} %: {missing:?}\n{log}");
                }
            }
        }
    }
}

#[test]
fn a_missing_index_is_rebuilt() {
    let copy = Made::new().copy(|data| fs::remove_dir_all(data.join("index")).unwrap());
    let Outcome::Opened { missing, log } = copy.outcome() else { panic!("it does not open") };
    assert!(missing.is_empty() && log.contains("index"), "{log}");
}

#[test]
fn a_damaged_audit_file_is_set_aside_and_named() {
    let made = Made::new();
    for part in [10, 50, 99] {
        let copy = made.copy(|data| flip(&data.with_file_name("audit.log"), part));
        let Outcome::Opened { missing, log } = copy.outcome() else { panic!("it does not open") };
        assert!(missing.is_empty());
        assert!(log.contains("audit_damaged") && log.contains("audit.log, line"), "{log}");
    }
}

fn path(number: usize) -> String {
    format!("secret/data/folder/{number}")
}

fn value(number: usize) -> String {
    format!("value-{number}-{}", "x".repeat(number * 50))
}

/// Flips a bit `part` percent into a file.
fn flip(file: &Path, part: u64) {
    flip_at(file, (fs::metadata(file).unwrap().len() - 1) * part / 100);
}

fn flip_at(file: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Length of a segment up to its last byte that is not zero; what is written here is short.
fn used_bytes(segment: &Path) -> u64 {
    let mut bytes = vec![0; 1024 * 1024];
    let read = fs::File::open(segment).unwrap().read(&mut bytes).unwrap();
    bytes[..read].iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

/// Every file under a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found.retain(|path| fs::metadata(path).unwrap().len() > 0);
    found
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_folder(&path, &copy),
            false => fs::copy(&path, &copy).map(|_| ()).unwrap(),
        }
    }
}
