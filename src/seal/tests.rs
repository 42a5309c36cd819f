//! What holds over the whole of a seal file: made, damaged, cut, opened.

use std::{fs, path::Path, sync::LazyLock};

use tempfile::TempDir;

use super::{
    CreateError, Made, NewSlot, OpenError, ReadError, Secret, ShareCounts, ShareCountsError,
    SlotError, SlotSummary, copies, create, exists,
    file::SealFile,
    provider::{CredentialName, Provider, Providers},
    read,
    root::Root,
    slot::{Params, Slot, SlotType},
};
use crate::{
    barrier::Keyring,
    clock::Timestamp,
    crypto::{Kek, kdf::Argon2Params, shamir},
    disk::Disk,
    secret::{Key, SecretBytes, SecretString},
    storage::StoreId,
};

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| Keyring::generate(NOW));
const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

fn kek(byte: u8) -> Key<Kek> {
    Key::build(|key| key.fill(byte))
}

fn shares(threshold: i64, shares: i64) -> NewSlot {
    NewSlot::Shares(ShareCounts::new(threshold, shares).unwrap())
}

/// A store that opens with the keyfile of ones, and with one share.
fn made(dir: &Path) -> Vec<Made> {
    create(&Disk::real(), dir, &KEYRING, NOW, vec![NewSlot::Keyfile(kek(1)), shares(1, 1)]).unwrap()
}

/// The bytes of a file of the same store with another epoch and as many slots as wanted.
fn bytes_of(epoch: u64, slots: u8) -> Vec<u8> {
    let root = Root::generate(KEYRING.store_id());
    let slots: Vec<Slot> = (1..=slots)
        .map(|byte| {
            let summary = SlotSummary {
                slot_type: SlotType::Keyfile,
                human: false,
                id: [byte; 16],
                created: NOW,
            };
            Slot::wrap(&root, summary, Params::Keyfile { key_id: [byte; 16] }, &kek(byte))
        })
        .collect();
    SealFile::seal(&root, epoch, [7; 16], &slots, &KEYRING)
}

fn opened(file: &SealFile, secret: &Secret) -> Result<Keyring, OpenError> {
    file.root_of(secret).and_then(|root| file.keyring(&root))
}

fn plaintext(keyring: &Keyring) -> Vec<u8> {
    keyring.encode().expose(<[u8]>::to_vec)
}

fn opens(dir: &Path) -> bool {
    read(&Disk::real(), dir).unwrap().open(&Secret::Keyfile(kek(1))).is_ok()
}

#[test]
fn every_slot_type_opens_to_the_same_keyring() {
    let dir = TempDir::new().unwrap();
    let passphrase = || SecretString::copy_of("correct horse");
    let slots = vec![
        shares(2, 3),
        NewSlot::Passphrase(passphrase(), Argon2Params::floor()),
        NewSlot::Keyfile(kek(3)),
        NewSlot::Automatic(
            Provider::SystemdCredential(CredentialName::new("root").unwrap()),
            kek(4),
        ),
    ];
    let made = create(&Disk::real(), dir.path(), &KEYRING, NOW, slots).unwrap();
    let Made::Shares(parts) = &made[0] else { panic!("no shares") };
    assert_eq!(parts.len(), 3);

    let file = read(&Disk::real(), dir.path()).unwrap().file;
    assert_eq!(
        (file.epoch(), file.store_id(), file.shares()),
        (1, KEYRING.store_id(), Some((2, 3)))
    );
    assert_eq!(super::inspect(&Disk::real(), dir.path()).shares(), Some((2, 3)));
    let human: Vec<bool> = file.slots().map(|slot| slot.human).collect();
    assert_eq!(human, [true, true, false, false]);
    let combined = shamir::combine(&[&parts[2], &parts[0]]).unwrap();
    let credentials = TempDir::new().unwrap();
    fs::write(credentials.path().join("root"), [4; 32]).unwrap();
    for secret in [
        Secret::Shares(combined),
        Secret::Passphrase(passphrase()),
        Secret::Keyfile(kek(3)),
        Secret::Automatic(Providers::in_folder(credentials.path())),
    ] {
        assert_eq!(plaintext(&opened(&file, &secret).unwrap()), plaintext(&KEYRING));
    }
}

#[test]
fn a_single_share_is_the_bare_secret() {
    let dir = TempDir::new().unwrap();
    let made = made(dir.path());
    let Made::Shares(parts) = &made[1] else { panic!("no shares") };
    assert_eq!((parts.len(), parts[0].len()), (1, 32));
    let secret = parts[0].expose(SecretBytes::copy_of);
    assert!(read(&Disk::real(), dir.path()).unwrap().open(&Secret::Shares(secret)).is_ok());
}

#[test]
fn every_wrong_secret_gets_the_same_text() {
    let dir = TempDir::new().unwrap();
    made(dir.path());
    let file = read(&Disk::real(), dir.path()).unwrap().file;
    for secret in [
        Secret::Keyfile(kek(2)),
        Secret::Shares(SecretBytes::copy_of(&[1; 32])),
        Secret::Shares(SecretBytes::copy_of(&[1; 31])),
        Secret::Passphrase(SecretString::copy_of("no such slot")),
    ] {
        assert_eq!(opened(&file, &secret).unwrap_err().to_string(), "unseal failed");
    }
}

#[test]
fn a_slot_of_another_time_does_not_open_the_file() {
    // The dropped secret, the old file and the new file together: the old slot put into the new
    // file, with a checksum that holds.
    let old = SealFile::parse(bytes_of(1, 1)).unwrap();
    let new_root = Root::generate(KEYRING.store_id());
    let grafted = SealFile::seal(&new_root, 2, [8; 16], old.slots_in_order(), &KEYRING);
    let refused = opened(&SealFile::parse(grafted).unwrap(), &Secret::Keyfile(kek(1))).unwrap_err();
    assert!(matches!(refused, OpenError::Forged(_)));
    assert_eq!(refused.to_string(), "unseal failed");
}

#[test]
fn an_edited_file_with_a_new_checksum_does_not_open() {
    let bytes = bytes_of(1, 2);
    for at in 8..bytes.len() - 32 {
        let mut edited = bytes.clone();
        edited[at] ^= 0x10;
        let end = edited.len() - 32;
        let sum = crate::crypto::mac::sha256(&[&edited[..end]]);
        edited[end..].copy_from_slice(&sum);
        let opened = SealFile::parse(edited).map(|file| opened(&file, &Secret::Keyfile(kek(1))));
        assert!(!matches!(opened, Ok(Ok(_))), "byte {at}");
    }
}

#[test]
fn a_shortened_file_with_a_new_checksum_is_refused() {
    let bytes = bytes_of(1, 2);
    for length in 0..bytes.len() - 32 {
        let mut short = bytes[..length].to_vec();
        let sum = crate::crypto::mac::sha256(&[&short]);
        short.extend_from_slice(&sum);
        let opened = SealFile::parse(short).map(|file| opened(&file, &Secret::Keyfile(kek(1))));
        assert!(!matches!(opened, Ok(Ok(_))), "{length} bytes");
    }
}

#[test]
fn each_flipped_byte_of_one_copy_is_repaired_from_the_other() {
    let dir = TempDir::new().unwrap();
    made(dir.path());
    for name in ["seal.0", "seal.1"] {
        let path = dir.path().join(name);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).unwrap();
            let loaded = read(&Disk::real(), dir.path()).unwrap();
            assert_eq!(loaded.repaired.as_deref(), Some(path.as_path()), "byte {at}");
            assert_eq!(fs::read(&path).unwrap(), good);
        }
    }
    assert!(read(&Disk::real(), dir.path()).unwrap().repaired.is_none());
    assert!(opens(dir.path()));
}

#[test]
fn a_missing_copy_is_written_again() {
    let dir = TempDir::new().unwrap();
    made(dir.path());
    for name in ["seal.0", "seal.1"] {
        let path = dir.path().join(name);
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&Disk::real(), dir.path()).unwrap().repaired, Some(path));
        assert!(opens(dir.path()));
    }
}

#[test]
fn two_damaged_copies_are_an_error_that_names_both() {
    let dir = TempDir::new().unwrap();
    made(dir.path());
    for name in ["seal.0", "seal.1"] {
        let path = dir.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[40] ^= 1;
        fs::write(&path, &bytes).unwrap();
    }
    let text = read(&Disk::real(), dir.path()).unwrap_err().to_string();
    assert!(text.contains("seal.0: its checksum does not hold"), "{text}");
    assert!(text.contains("seal.1: its checksum does not hold"), "{text}");
}

#[test]
fn a_crash_at_any_byte_of_either_write_leaves_a_file_that_opens() {
    let dir = TempDir::new().unwrap();
    let [first, second] = ["seal.0", "seal.1"].map(|name| dir.path().join(name));
    let (old, new) = (bytes_of(1, 1), bytes_of(2, 3));
    assert!(old.len() < new.len());
    let torn = |from: &[u8], to: &[u8], cut: usize| {
        let mut bytes = to[..cut].to_vec();
        bytes.extend_from_slice(from.get(cut..).unwrap_or_default());
        bytes
    };
    for (from, to) in [(&old, &new), (&new, &old)] {
        // `to` is the newer one; going from long to short the end of the file is cut last.
        let newer = if to.len() > from.len() { 2 } else { 1 };
        for cut in 0..=to.len() {
            fs::write(&second, torn(from, to, cut)).unwrap();
            fs::write(&first, from).unwrap();
            let epoch = read(&Disk::real(), dir.path()).unwrap().file.epoch();
            assert!((1..=2).contains(&epoch));
            assert!(opens(dir.path()));
            assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());

            fs::write(&second, to).unwrap();
            fs::write(&first, torn(from, to, cut)).unwrap();
            let loaded = read(&Disk::real(), dir.path()).unwrap();
            assert!(loaded.file.epoch() >= newer);
            assert!(opens(dir.path()));
        }
    }
}

#[test]
fn the_higher_epoch_is_read_and_the_other_copy_follows() {
    let dir = TempDir::new().unwrap();
    for (newer, older) in [("seal.0", "seal.1"), ("seal.1", "seal.0")] {
        fs::write(dir.path().join(newer), bytes_of(6, 1)).unwrap();
        fs::write(dir.path().join(older), bytes_of(5, 1)).unwrap();
        let loaded = read(&Disk::real(), dir.path()).unwrap();
        assert_eq!(loaded.file.epoch(), 6);
        assert_eq!(loaded.repaired, Some(dir.path().join(older)));
    }
}

#[test]
fn copies_that_contradict_each_other_are_left_alone() {
    let dir = TempDir::new().unwrap();
    let other_store = SealFile::seal(
        &Root::generate(StoreId([1; 16])),
        9,
        [7; 16],
        SealFile::parse(bytes_of(1, 1)).unwrap().slots_in_order(),
        &KEYRING,
    );
    for (first, second) in [(bytes_of(5, 1), bytes_of(5, 1)), (bytes_of(5, 1), other_store)] {
        fs::write(dir.path().join("seal.0"), &first).unwrap();
        fs::write(dir.path().join("seal.1"), &second).unwrap();
        assert!(matches!(read(&Disk::real(), dir.path()), Err(ReadError::Contradiction { .. })));
        assert_eq!(fs::read(dir.path().join("seal.0")).unwrap(), first);
        assert_eq!(fs::read(dir.path().join("seal.1")).unwrap(), second);
    }
}

#[test]
fn a_store_is_made_once() {
    let dir = TempDir::new().unwrap();
    assert!(!exists(&Disk::real(), dir.path()).unwrap());
    assert!(matches!(read(&Disk::real(), dir.path()), Err(ReadError::Absent { .. })));
    made(dir.path());
    assert!(exists(&Disk::real(), dir.path()).unwrap());
    let again = create(&Disk::real(), dir.path(), &KEYRING, NOW, vec![shares(1, 1)]);
    assert!(matches!(again, Err(CreateError::Exists { .. })));

    fs::remove_file(dir.path().join("seal.0")).unwrap();
    let again = create(&Disk::real(), dir.path(), &KEYRING, NOW, vec![shares(1, 1)]);
    assert!(matches!(again, Err(CreateError::Exists { .. })));
}

#[test]
fn a_store_without_a_way_in_for_a_person_is_refused() {
    let dir = TempDir::new().unwrap();
    for slots in [vec![], vec![NewSlot::Keyfile(kek(1))]] {
        let refused = create(&Disk::real(), dir.path(), &KEYRING, NOW, slots);
        assert!(matches!(refused, Err(CreateError::NoHumanSlot)));
    }
    let empty = NewSlot::Passphrase(SecretString::copy_of(""), Argon2Params::floor());
    let refused = create(&Disk::real(), dir.path(), &KEYRING, NOW, vec![empty]);
    assert!(matches!(refused, Err(CreateError::Slot(SlotError::EmptyPassphrase))));
    assert!(!exists(&Disk::real(), dir.path()).unwrap());
}

#[test]
fn share_counts_follow_vaults_rules() {
    let text = |threshold, shares| ShareCounts::new(threshold, shares).unwrap_err().to_string();
    assert_eq!(text(0, 0), "shares must be at least one");
    assert_eq!(text(-1, -1), "shares must be at least one");
    assert_eq!(text(3, 256), "shares must be less than 256");
    assert_eq!(text(0, 5), "threshold must be at least one");
    assert_eq!(text(5, 3), "threshold cannot be larger than shares");
    assert_eq!(text(1, 5), "threshold must be greater than one for multiple shares");
    assert_eq!(ShareCounts::new(300, 255), Err(ShareCountsError::Unreachable));
    for (threshold, shares) in [(1, 1), (2, 2), (3, 5), (255, 255)] {
        assert!(ShareCounts::new(threshold, shares).is_ok());
    }
}

#[test]
fn a_file_longer_than_its_limit_is_refused() {
    let mut bytes = bytes_of(1, 1);
    bytes.resize(64 * 1024 + 1, 0);
    let dir = TempDir::new().unwrap();
    for name in ["seal.0", "seal.1"] {
        fs::write(dir.path().join(name), &bytes).unwrap();
    }
    let text = read(&Disk::real(), dir.path()).unwrap_err().to_string();
    let too_long = super::Malformed::TooLong.to_string();
    for name in ["seal.0", "seal.1"] {
        assert!(text.contains(&format!("{name}: {too_long}")), "{text}");
    }
    assert!(matches!(SealFile::parse(bytes.clone()), Err(super::Malformed::TooLong)));
    bytes.truncate(64 * 1024);
    assert!(!matches!(SealFile::parse(bytes), Err(super::Malformed::TooLong)));
}

#[test]
fn the_files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    made(dir.path());
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["seal.0", "seal.1"]);
    for name in names {
        let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn what_is_written_is_read_back() {
    let dir = TempDir::new().unwrap();
    let bytes = bytes_of(1, 1);
    copies::write(&Disk::real(), dir.path(), &bytes).unwrap();
    assert_eq!(read(&Disk::real(), dir.path()).unwrap().file.bytes(), bytes);
    // A shorter file over a longer one, in place.
    copies::write(&Disk::real(), dir.path(), &bytes_of(2, 32)).unwrap();
    copies::write(&Disk::real(), dir.path(), &bytes).unwrap();
    assert!(read(&Disk::real(), dir.path()).unwrap().repaired.is_none());
}

#[test]
fn another_keyring_is_written_with_the_next_epoch_and_the_same_slots() {
    let dir = TempDir::new().unwrap();
    made(dir.path());
    let mut root =
        read(&Disk::real(), dir.path()).unwrap().open(&Secret::Keyfile(kek(1))).unwrap().root;
    let slots: Vec<_> = root.slots().collect();
    let other = Keyring::decode(&KEYRING.store_id(), &KEYRING.encode()).unwrap();
    for epoch in [2, 3] {
        assert_eq!(root.rewrite(&other, &KEYRING).unwrap(), epoch);
        let loaded = read(&Disk::real(), dir.path()).unwrap();
        assert!(loaded.repaired.is_none());
        let opened = loaded.open(&Secret::Keyfile(kek(1))).unwrap();
        assert_eq!((opened.epoch, root.epoch()), (epoch, epoch));
        assert_eq!(plaintext(&opened.keyring), plaintext(&other));
        assert_eq!(opened.root.slots().collect::<Vec<_>>(), slots);
    }
}

#[test]
fn a_write_that_broke_off_is_never_followed_by_another_file_of_its_epoch() {
    let dir = TempDir::new().unwrap();
    made(dir.path());
    let mut root =
        read(&Disk::real(), dir.path()).unwrap().open(&Secret::Keyfile(kek(1))).unwrap().root;
    // A folder in its place: the second copy cannot be written.
    let second = dir.path().join("seal.0");
    fs::remove_file(&second).unwrap();
    fs::create_dir(&second).unwrap();
    let error = root.rewrite(&KEYRING, &KEYRING).unwrap_err();
    assert!(!error.is_restored);
    assert_eq!(root.epoch(), 1);
    fs::remove_dir(&second).unwrap();
    // The write that took it back got as far as the first copy, with epoch 3.
    assert_eq!(read(&Disk::real(), dir.path()).unwrap().file.epoch(), 3);
    assert_eq!(root.rewrite(&KEYRING, &KEYRING).unwrap(), 4);
    assert!(opens(dir.path()));
}
