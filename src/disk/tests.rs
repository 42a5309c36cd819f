//! What both disks do alike, and what only the simulated one does.

use std::{
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
};

use super::*;

fn both() -> Vec<(Disk, PathBuf, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    vec![(Disk::real(), path, Some(folder)), (simulated().0, "/".into(), None)]
}

fn content(disk: &Disk, path: &Path) -> Option<Vec<u8>> {
    match disk.read(path, 1_000_000) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

fn file_with(disk: &Disk, path: &Path, bytes: &[u8]) -> DiskFile {
    let file = disk.create_new(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

#[test]
fn files_are_written_read_and_cut() {
    for (disk, root, _folder) in both() {
        let path = root.join("file");
        assert_eq!(content(&disk, &path), None);
        let file = file_with(&disk, &path, b"hello world");
        file.write_all_at(b"W", 6).unwrap();
        file.write_all_at(b"!", 12).unwrap();
        file.sync_data().unwrap();
        assert_eq!(content(&disk, &path).unwrap(), b"hello World\0!");
        file.set_len(5).unwrap();
        file.sync_all().unwrap();
        let again = disk.open(&path).unwrap();
        assert_eq!(again.len().unwrap(), 5);
        let mut bytes = [0; 3];
        assert_eq!(again.read_at(&mut bytes, 3).unwrap(), 2);
        let short = again.read_exact_at(&mut bytes, 3).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(disk.read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let mut read = Vec::new();
        let mut reading = Reading::from(again, 1);
        reading.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"ello");
        reading.seek(SeekFrom::End(-1)).unwrap();
        reading.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"elloo");
        let copy = disk.create_new(&root.join("copy")).unwrap();
        let mut writing = Writing::to(copy);
        writing.write_all(b"one ").and_then(|()| writing.write_all(b"two")).unwrap();
        writing.into_file().sync_all().unwrap();
        assert_eq!(content(&disk, &root.join("copy")).unwrap(), b"one two");
        assert!(disk.free_bytes(&root).unwrap() > 0);
    }
}

#[test]
fn what_is_appended_comes_to_the_end_of_a_plain_file() {
    for (disk, root, _folder) in both() {
        let path = root.join("file");
        for line in [b"one ", b"two "] {
            let file = disk.open_append(&path).unwrap();
            file.try_lock().unwrap();
            file.write_all_at(line, file.len().unwrap()).unwrap();
        }
        assert_eq!(content(&disk, &path).unwrap(), b"one two ");
        let folder = root.join("folder");
        disk.create_dir_all(&folder).unwrap();
        assert!(disk.open_append(&folder).is_err());
    }
    assert_eq!(
        Disk::real().open_append(Path::new("/dev/null")).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn names_are_made_changed_and_removed() {
    for (disk, root, _folder) in both() {
        let (inner, a, b) = (root.join("x/y"), root.join("x/y/a"), root.join("x/y/b"));
        let missing = disk.create_new(&a).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        disk.create_dir_all(&inner).unwrap();
        disk.create_dir_all(&inner).unwrap();
        drop(file_with(&disk, &a, b"a"));
        assert_eq!(disk.create_new(&a).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(file_with(&disk, &b, b"b"));
        disk.rename(&a, &b).unwrap();
        disk.sync_dir(&inner).unwrap();
        assert_eq!(disk.read_dir(&inner).unwrap(), ["b"]);
        assert_eq!(content(&disk, &b).unwrap(), b"a");
        assert_eq!(disk.remove_file(&a).unwrap_err().kind(), io::ErrorKind::NotFound);
        if_there(disk.remove_file(&a)).unwrap();
        disk.remove_file(&b).unwrap();
        drop(file_with(&disk, &a, b"again"));
        assert!(disk.exists(&inner).unwrap());
        disk.remove_dir_all(&root.join("x")).unwrap();
        assert!(!disk.exists(&inner).unwrap());
        assert_eq!(disk.read_dir(&inner).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

#[test]
fn what_is_made_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (disk, inner) = (Disk::real(), folder.path().join("inner"));
    disk.create_dir_all(&inner).unwrap();
    drop(disk.create_new(&inner.join("file")).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&inner.join("file"))), (0o700, 0o600));
}

#[test]
fn short_and_interrupted_calls_are_gone_on_with() {
    let (disk, simulator) = simulated();
    let path = Path::new("/file");
    let file = disk.create_new(path).unwrap();
    for fault in [Fault::ShortWrite, Fault::Eintr, Fault::ShortWrite] {
        simulator.fail(1, fault);
    }
    file.write_all_at(b"hello world", 0).unwrap();
    simulator.fail(1, Fault::Eintr);
    let mut bytes = [0; 11];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"hello world");
    assert_eq!(simulator.faults_left(), 0);
}

#[test]
fn the_nth_call_fails_and_does_nothing() {
    let (disk, simulator) = simulated();
    let file = file_with(&disk, Path::new("/file"), b"old");
    simulator.fail(2, Fault::Eio);
    file.write_all_at(b"new", 0).unwrap();
    assert_eq!(file.write_all_at(b"lost", 0).unwrap_err().raw_os_error(), Some(5));
    simulator.fail(1, Fault::Enospc);
    file.sync_data().unwrap();
    let full = file.write_all_at(b"lost", 0).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk, Path::new("/file")).unwrap(), b"new");
    simulator.set_capacity(5);
    assert_eq!(disk.free_bytes(Path::new("/")).unwrap(), 2);
    assert!(file.write_all_at(b"longer", 0).is_err());
    simulator.fail(1, Fault::Eio);
    simulator.heal();
    file.write_all_at(b"five!", 0).unwrap();
}

/// What may stand in `/file` after a crash at the end.
fn outcomes(simulator: &Simulator) -> Vec<Option<Vec<u8>>> {
    let crashes = simulator.crashes(simulator.operations(), 1);
    let mut outcomes: Vec<_> =
        crashes.iter().map(|crash| content(&crash.disk, Path::new("/file"))).collect();
    outcomes.sort();
    outcomes.dedup();
    outcomes
}

#[test]
fn a_crash_keeps_what_was_synced_and_may_lose_the_rest() {
    let (disk, simulator) = simulated();
    let file = file_with(&disk, Path::new("/file"), b"old");
    // Neither name nor content is durable, and neither follows from the other.
    let some = |bytes: &[u8]| Some(bytes.to_vec());
    assert!([None, some(b""), some(b"old")].iter().all(|one| outcomes(&simulator).contains(one)));
    file.sync_all().unwrap();
    assert_eq!(outcomes(&simulator), [None, some(b"old")]);
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(outcomes(&simulator), [some(b"old")]);
    file.write_all_at(b"new", 0).unwrap();
    assert_eq!(outcomes(&simulator), [some(b"ned"), some(b"new"), some(b"nld"), some(b"old")]);
    file.sync_data().unwrap();
    assert_eq!(outcomes(&simulator), [some(b"new")]);
    let crash = simulator.crashes(simulator.operations(), 1).remove(0);
    assert_eq!(crash.what, "nothing was in doubt");
    // What a crash has left is a disk like any other.
    crash.disk.remove_file(Path::new("/file")).unwrap();
    assert_eq!(outcomes(&crash.simulator), [None, some(b"new")]);
    // In between nothing has changed.
    assert_eq!(simulator.crashes(0, 1).len(), 1);
}

#[test]
fn a_failed_sync_leaves_its_writes_in_doubt_for_ever() {
    let (disk, simulator) = simulated();
    let file = file_with(&disk, Path::new("/file"), b"old");
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    simulator.fail(1, Fault::SyncFails);
    assert!(file.sync_data().is_err());
    file.write_all_at(b"y", 1).unwrap();
    file.sync_data().unwrap();
    let some = |bytes: &[u8]| Some(bytes.to_vec());
    assert_eq!(outcomes(&simulator), [some(b"oyd"), some(b"xyd")]);
}

#[test]
fn a_crash_may_lose_a_rename_or_a_removal() {
    let (disk, simulator) = simulated();
    let (new, path) = (Path::new("/new"), Path::new("/file"));
    file_with(&disk, path, b"old").sync_data().unwrap();
    file_with(&disk, new, b"new").sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.rename(new, path).unwrap();
    let some = |bytes: &[u8]| Some(bytes.to_vec());
    assert_eq!(outcomes(&simulator), [some(b"new"), some(b"old")]);
    disk.sync_dir(Path::new("/")).unwrap();
    disk.remove_file(path).unwrap();
    assert_eq!(outcomes(&simulator), [None, some(b"new")]);
    disk.sync_dir(Path::new("/")).unwrap();
    // A rename means the file that it was given, though an earlier one of that name comes back.
    file_with(&disk, new, b"first").sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.remove_file(new).unwrap();
    file_with(&disk, new, b"second").sync_data().unwrap();
    disk.rename(new, path).unwrap();
    assert_eq!(outcomes(&simulator), [None, some(b"second")]);
}

#[test]
fn a_long_write_is_torn_at_sectors_and_within_them() {
    let (disk, simulator) = simulated();
    let file = file_with(&disk, Path::new("/file"), &[1; 2_048]);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_all_at(&[2; 2_048], 0).unwrap();
    let twos = |outcome: &Option<Vec<u8>>| {
        let bytes = outcome.as_ref().unwrap();
        (bytes.iter().filter(|&&byte| byte == 2).count(), bytes[0])
    };
    let outcomes: Vec<_> = outcomes(&simulator).iter().map(twos).collect();
    let expected = [(0, 1), (1, 2), (512, 2), (1_024, 2), (1_536, 2), (1_536, 1), (1_024, 1)];
    assert!(expected.iter().all(|one| outcomes.contains(one)), "{outcomes:?}");
    assert_eq!(simulator.used_bytes(), 2_048);
    assert!(simulator.calls() > 3);
    assert!(simulator.operation(1).starts_with("write 2048 bytes"));
}
