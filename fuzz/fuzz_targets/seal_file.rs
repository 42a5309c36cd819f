//! Reading the seal file. The checksum, which only finds accidents, is put right first.
#![no_main]

use std::{fs, sync::LazyLock};

use kista::{crypto::mac::sha256, disk::Disk, seal};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a folder for the seal file"));

fuzz_target!(|bytes: &[u8]| {
    let file = [bytes, &sha256(&[bytes])].concat();
    // Both copies, so that nothing is repaired.
    for copy in ["seal.0", "seal.1"] {
        fs::write(FOLDER.path().join(copy), &file).expect("the folder can be written to");
    }
    if let Ok(loaded) = seal::read(&Disk::real(), FOLDER.path()) {
        assert!(loaded.repaired.is_none());
        assert!((1..=32).contains(&loaded.file.slots().count()));
        if let Some((threshold, shares)) = loaded.file.shares() {
            assert!(1 <= threshold && threshold <= shares);
        }
    }
});
