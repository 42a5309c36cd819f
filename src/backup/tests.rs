use std::{fs, io, path::Path, sync::Arc};

use super::*;
use crate::{
    barrier::{Batch, MountView, Progress, SpaceId},
    clock::{SystemClock, Timestamp},
    config::{AuditFile, AuditFormat},
    disk::Disk,
    seal::{NewSlot, Secret, ShareCounts},
    secret::SecretBytes,
    storage::{self, Erase},
    token::TtlLimits,
    vault::{Settings, Vault},
};

const SPACE: SpaceId = SpaceId([7; 16]);

/// A vault of one share in a folder, open.
struct Fixture {
    folder: tempfile::TempDir,
    vault: Vault,
    share: SecretBytes,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vault = start(&folder.path().join("data"));
        let slot = NewSlot::Shares(ShareCounts::new(1, 1).unwrap());
        let share = vault.initialize(vec![slot]).await.unwrap().shares.remove(0);
        let fixture = Self { folder, vault, share };
        fixture.vault.unseal(fixture.secret()).await.unwrap();
        fixture
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn secret(&self) -> Secret {
        Secret::Shares(self.share.expose(SecretBytes::copy_of))
    }

    async fn put(&self, name: &str, value: &[u8]) {
        let view = view(&self.vault);
        let mut batch = Batch::default();
        batch.put(&view, &[name], value);
        view.commit(batch).await.unwrap();
    }

    fn backup(&self, seal: SealCopy) -> Vec<u8> {
        let mut out = Vec::new();
        let now = Timestamp::from_millis(5_000);
        create(&Disk::real(), &self.path("data"), seal, now, &mut out, &mut |_, _| {}).unwrap();
        out
    }

    fn restore(&self, backup: &[u8], name: &str) -> Result<Summary, RestoreError> {
        restore(&Disk::real(), backup, &self.path(name), None, &mut |_| {})
    }
}

fn start(data: &Path) -> Vault {
    let mut settings = Settings::new(data.to_owned(), TtlLimits::default());
    settings.storage.segment_bytes = 16 * 1024;
    Vault::start(settings, Arc::new(SystemClock)).unwrap()
}

fn view(vault: &Vault) -> MountView {
    vault.unsealed().unwrap().ground.barrier.view(SPACE)
}

async fn value(vault: &Vault, name: &str) -> Option<Vec<u8>> {
    let stored = view(vault).get(&[name]).await.unwrap()?;
    Some(stored.value.expose(<[u8]>::to_vec))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_store_is_restored_and_opens_in_the_next_generation() {
    let fixture = Fixture::new().await;
    let large = vec![5; 100_000];
    fixture.put("large", &large).await;
    fixture.put("old", b"1").await;
    let backup = fixture.backup(SealCopy::Included);
    fixture.put("old", b"2").await;
    fixture.put("later", b"3").await;

    let summary = fixture.restore(&backup, "restored").unwrap();
    assert_eq!(look(backup.get(..300).unwrap()).unwrap(), summary);
    let checked = check(backup.as_slice(), &mut |_| {}).unwrap();
    assert_eq!(checked, summary);
    assert_eq!((summary.generation, &summary.terms[..]), (1, &[1][..]));
    let restored = start(&fixture.path("restored"));
    restored.unseal(fixture.secret()).await.unwrap();
    assert_eq!(value(&restored, "large").await.unwrap(), large);
    assert_eq!(value(&restored, "old").await.unwrap(), b"1");
    assert_eq!(value(&restored, "later").await, None);
    let position = || restored.unsealed().unwrap().ground.barrier.position();
    assert_eq!(position().generation, 2);
    restored.seal().await;
    // Once only.
    restored.unseal(fixture.secret()).await.unwrap();
    assert_eq!(position().generation, 2);
    assert_eq!(value(&fixture.vault, "old").await.unwrap(), b"2");
}

/// The audit file of the machine has gone on since the backup, and names later commits.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_opens_beside_the_audit_file_of_the_old_one() {
    let fixture = Fixture::new().await;
    fixture.vault.seal().await;
    let Fixture { folder, vault, share } = fixture;
    drop(vault);
    let fixture = Fixture { vault: start(&folder.path().join("unused")), folder, share };
    let audited = |name: &str| {
        let mut settings = Settings::new(fixture.path(name), TtlLimits::default());
        settings.audit_file = Some(AuditFile {
            path: fixture.path("audit.log"),
            hash_paths: false,
            format: AuditFormat::Json,
        });
        Vault::start(settings, Arc::new(SystemClock)).unwrap()
    };
    let old = audited("data");
    old.unseal(fixture.secret()).await.unwrap();
    let backup = fixture.backup(SealCopy::Included);
    let view = view(&old);
    for n in 0..10_u8 {
        let mut batch = Batch::default();
        batch.put(&view, &["later"], &[n]);
        view.commit(batch).await.unwrap();
    }
    drop(view);
    // The checkpoint of sealing names the newest commit.
    old.seal().await;
    fixture.restore(&backup, "restored").unwrap();
    let restored = audited("restored");
    restored.unseal(fixture.secret()).await.unwrap();
    assert_eq!(value(&restored, "later").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_part_of_a_backup_and_every_record_is_proven() {
    let fixture = Fixture::new().await;
    for n in 0..50_u8 {
        fixture.put(&format!("key-{n}"), &[n; 300]).await;
    }
    let barrier = Arc::clone(&fixture.vault.unsealed().unwrap().ground.barrier);
    let compacted =
        tokio::task::spawn_blocking(move || barrier.compact(Erase::Yes, |_| {}).map(drop));
    compacted.await.unwrap().unwrap();
    fixture.put("behind", b"the snapshot").await;
    let backup = fixture.backup(SealCopy::Included);
    fixture.restore(&backup, "restored").unwrap();
    assert!(fs::read_dir(fixture.path("restored/snapshots")).unwrap().count() == 1);
    let key = Key::Secret(fixture.secret());
    let clock = Arc::new(SystemClock);
    let proven = prove(&fixture.path("restored"), key, clock, &Progress::default()).await.unwrap();
    assert!(proven.findings.is_empty());
    assert!(proven.records > 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_its_seal_file_needs_it_beside() {
    let fixture = Fixture::new().await;
    fixture.put("a", b"1").await;
    let backup = fixture.backup(SealCopy::LeftOut);
    assert!(matches!(fixture.restore(&backup, "none"), Err(RestoreError::NoSealFile)));
    assert!(!fixture.path("none").exists() && !fixture.path("none.restoring").exists());
    let seal_file = fs::read(fixture.path("data/seal.0")).unwrap();
    let folder = fixture.path("with");
    restore(&Disk::real(), backup.as_slice(), &folder, Some(&seal_file), &mut |_| {}).unwrap();
    let restored = start(&folder);
    restored.unseal(fixture.secret()).await.unwrap();
    assert_eq!(value(&restored, "a").await.unwrap(), b"1");
    let other = Fixture::new().await;
    let foreign = fs::read(other.path("data/seal.0")).unwrap();
    let folder = fixture.path("foreign");
    let refused = restore(&Disk::real(), backup.as_slice(), &folder, Some(&foreign), &mut |_| {});
    assert!(matches!(refused, Err(RestoreError::Contradiction)));
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_never_goes_over_anything() {
    let fixture = Fixture::new().await;
    let backup = fixture.backup(SealCopy::Included);
    let refused = fixture.restore(&backup, "data");
    assert!(matches!(refused, Err(RestoreError::NotEmpty { .. })));
    fs::create_dir(fixture.path("empty")).unwrap();
    fixture.restore(&backup, "empty").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_by_its_place_and_leaves_nothing() {
    let fixture = Fixture::new().await;
    fixture.put("a", b"1").await;
    let mut backup = fixture.backup(SealCopy::Included);
    // Behind the last record stand the end and the checksum.
    let last = backup.len() - 40;
    backup[last] ^= 1;
    assert!(matches!(check(backup.as_slice(), &mut |_| {}), Err(BundleError::Checksum)));
    let refused = fixture.restore(&backup, "changed").unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("at byte") && text.contains("journal/0000000000000001.seg"), "{text}");
    let names: Vec<_> = fs::read_dir(fixture.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["data"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_are_whole_while_others_write_and_compact() {
    let fixture = Arc::new(Fixture::new().await);
    let writing = {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move {
            for n in 0..400_u32 {
                fixture.put("counter", &n.to_be_bytes()).await;
                if n % 100 == 50 {
                    let barrier = Arc::clone(&fixture.vault.unsealed().unwrap().ground.barrier);
                    let compact = move || barrier.compact(Erase::Yes, |_| {});
                    tokio::task::spawn_blocking(compact).await.unwrap().unwrap();
                }
            }
        })
    };
    let mut made = 0;
    while !writing.is_finished() {
        let copied = {
            let fixture = Arc::clone(&fixture);
            tokio::task::spawn_blocking(move || fixture.backup(SealCopy::Included)).await.unwrap()
        };
        let name = format!("copy-{made}");
        fixture.restore(&copied, &name).unwrap();
        made += 1;
    }
    writing.await.unwrap();
    assert!(made > 0);
    let restored = start(&fixture.path(&format!("copy-{}", made - 1)));
    restored.unseal(fixture.secret()).await.unwrap();
    assert!(value(&restored, "counter").await.is_some());
}

#[test]
fn a_head_reads_back() {
    let summary = Summary {
        store_id: storage::StoreId([1; 16]),
        generation: 2,
        seq: 3,
        chain: [4; 32],
        created: Timestamp::from_millis(5),
        root_id: Some([6; 16]),
        terms: vec![1, 7],
    };
    let empty = bundle::Writer::begin(Vec::new(), &summary).unwrap().end().unwrap();
    assert_eq!(check(empty.as_slice(), &mut |_| {}).unwrap(), summary);
    assert!(matches!(check(io::empty(), &mut |_| {}), Err(BundleError::Magic)));
}

/// A stopped store of two generations of snapshots, and a backup of it.
async fn stopped() -> (Fixture, Vec<u8>) {
    let fixture = Fixture::new().await;
    for round in 0..2_u8 {
        for n in 0..30_u8 {
            fixture.put(&format!("key-{n}"), &[round + n; 300]).await;
        }
        let barrier = Arc::clone(&fixture.vault.unsealed().unwrap().ground.barrier);
        let compact = move || barrier.compact(Erase::No, |_| {});
        tokio::task::spawn_blocking(compact).await.unwrap().unwrap();
    }
    fixture.put("key-0", b"last").await;
    let backup = fixture.backup(SealCopy::Included);
    // Written after the backup: it is kept in one segment only.
    fixture.put("key-1", b"since").await;
    fixture.vault.seal().await;
    let Fixture { folder, vault, share } = fixture;
    drop(vault);
    let elsewhere = tempfile::tempdir().unwrap();
    let vault = start(&elsewhere.path().join("none"));
    (Fixture { folder, vault, share }, backup)
}

fn change(path: &Path, offset: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[usize::try_from(offset).unwrap()] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn newest(folder: &Path, ending: &str) -> std::path::PathBuf {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    files.pop().unwrap()
}

async fn assert_all_there(fixture: &Fixture) {
    let vault = start(&fixture.path("data"));
    vault.unseal(fixture.secret()).await.unwrap();
    assert_eq!(value(&vault, "key-0").await.unwrap(), b"last");
    assert_eq!(value(&vault, "key-1").await.unwrap(), b"since");
    assert_eq!(value(&vault, "key-29").await.unwrap(), [30; 300]);
    vault.seal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_gives_way_to_the_one_before() {
    let (fixture, _) = stopped().await;
    let data = fixture.path("data");
    let snapshot = newest(&data.join("snapshots"), "snap");
    change(&snapshot, 200);
    fs::remove_dir_all(data.join("index")).unwrap();
    let repaired = repair(&Disk::real(), &data, None).unwrap();
    assert!(!repaired.damages.is_empty());
    assert_eq!(repaired.mended, [Mended { file: snapshot, remedy: Remedy::SetAside }]);
    assert_all_there(&fixture).await;
    // Nothing is left to do.
    assert!(repair(&Disk::real(), &data, None).unwrap().mended.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_comes_back_from_a_backup_and_keeps_what_was_written_since() {
    let (fixture, backup) = stopped().await;
    let data = fixture.path("data");
    let file = fixture.path("backup");
    fs::write(&file, &backup).unwrap();
    let segment = newest(&data.join("journal"), "seg");
    change(&segment, 600);
    let before = fs::read(&segment).unwrap();
    let refused = repair(&Disk::real(), &data, None).unwrap_err();
    assert!(
        matches!(refused, RepairError::NoRedundancy { ref damages, .. } if !damages.is_empty())
    );
    assert_eq!(fs::read(&segment).unwrap(), before, "a refused repair changes nothing");
    let repaired = repair(&Disk::real(), &data, Some(&file)).unwrap();
    assert_eq!(repaired.mended, [Mended { file: segment, remedy: Remedy::FromBackup }]);
    assert_all_there(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_backup_holds_is_not_dropped() {
    let (fixture, backup) = stopped().await;
    let data = fixture.path("data");
    let file = fixture.path("backup");
    fs::write(&file, &backup).unwrap();
    let segment = newest(&data.join("journal"), "seg");
    let bytes = fs::read(&segment).unwrap();
    // The commit after the backup, which a Close record follows.
    let summary = check(backup.as_slice(), &mut |_| {}).unwrap();
    let record = bytes
        .chunks(512)
        .position(|block| {
            block.starts_with(b"KJR1") && block[8..16] == (summary.seq + 1).to_be_bytes()
        })
        .unwrap();
    change(&segment, record as u64 * 512 + 100);
    let damaged = fs::read(&segment).unwrap();
    let refused = repair(&Disk::real(), &data, Some(&file)).unwrap_err();
    assert!(matches!(refused, RepairError::NoRedundancy { had_backup: true, .. }), "{refused}");
    assert_eq!(fs::read(&segment).unwrap(), damaged);
    let other = Fixture::new().await;
    fs::write(&file, other.backup(SealCopy::Included)).unwrap();
    let refused = repair(&Disk::real(), &data, Some(&file)).unwrap_err();
    assert!(
        matches!(refused, RepairError::ForeignBackup | RepairError::NoRedundancy { .. }),
        "{refused}"
    );
    assert_eq!(fs::read(&segment).unwrap(), damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_broke_off_is_taken_back_by_the_next() {
    let (fixture, _) = stopped().await;
    let data = fixture.path("data");
    let segment = newest(&data.join("journal"), "seg");
    let mut aside = segment.clone().into_os_string();
    aside.push(".damaged");
    fs::rename(&segment, &aside).unwrap();
    fs::write(data.join("repair.unfinished"), b"").unwrap();
    assert!(repair(&Disk::real(), &data, None).unwrap().mended.is_empty());
    assert!(!data.join("repair.unfinished").exists());
    assert_all_there(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_of_the_seal_file_is_written_again() {
    let (fixture, _) = stopped().await;
    let data = fixture.path("data");
    let file = data.join("seal.1");
    change(&file, 40);
    let repaired = repair(&Disk::real(), &data, None).unwrap();
    assert_eq!(repaired.mended, [Mended { file, remedy: Remedy::OtherCopy }]);
    assert_eq!(fs::read(data.join("seal.0")).unwrap(), fs::read(data.join("seal.1")).unwrap());
    assert_all_there(&fixture).await;
}
