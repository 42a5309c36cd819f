//! A store that this format's first version has written opens in every later one.
//!
//! `tests/fixtures/format-1/` holds a data folder (without its index, which is rebuilt), its
//! anchor, a backup of it, and the one share that opens both. It is written once, by
//! `cargo test -p kista-cli --test kista fixture::write -- --ignored`, and never again.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use kista::{
    backup::{self, SealCopy},
    barrier::{Batch, MountView, Pace, Progress, Reads, SpaceId},
    clock::{Clock, SystemClock},
    disk::Disk,
    mount::NewMount,
    seal::{NewSlot, Secret, ShareCounts},
    secret::SecretBytes,
    storage::Erase,
    token::TtlLimits,
    vault::{Settings, Vault},
};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/format-1");
const SPACE: SpaceId = SpaceId([0x66; 16]);

fn start(folder: &Path) -> Vault {
    let mut settings = Settings::new(folder.join("data"), TtlLimits::default());
    settings.storage.segment_bytes = 16 * 1024;
    settings.anchors = vec![folder.join("anchor")];
    Vault::start(settings, Arc::new(SystemClock)).unwrap()
}

fn view(vault: &Vault) -> MountView {
    vault.unsealed().unwrap().ground.barrier.view(SPACE)
}

async fn put(vault: &Vault, path: &[&str], value: &[u8]) {
    let view = view(vault);
    let mut batch = Batch::default();
    batch.put(&view, path, value);
    view.commit(batch).await.unwrap();
}

async fn value(vault: &Vault, path: &[&str]) -> Option<Vec<u8>> {
    let stored = view(vault).get(path).await.unwrap()?;
    Some(stored.value.expose(<[u8]>::to_vec))
}

/// A value in several chunks.
fn large() -> Vec<u8> {
    (0..20_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

async fn compact(vault: &Vault) {
    let barrier = Arc::clone(&vault.unsealed().unwrap().ground.barrier);
    let compact = move || barrier.compact(Erase::No, |_| {});
    tokio::task::spawn_blocking(compact).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the fixture, which is done once"]
async fn write() {
    let folder = Path::new(FIXTURE);
    assert!(!folder.exists(), "a fixture that exists is never written again");
    fs::create_dir_all(folder).unwrap();
    let vault = start(folder);
    let slot = NewSlot::Shares(ShareCounts::new(1, 1).unwrap());
    let share = vault.initialize(vec![slot]).await.unwrap().shares.remove(0);
    share.expose(|share| fs::write(folder.join("share"), share)).unwrap();
    vault.unseal(Secret::Shares(share)).await.unwrap();
    let mount = NewMount { kind: "kv-v2".to_owned(), ..NewMount::default() };
    vault.unsealed().unwrap().mounts.enable("secret/", mount).await.unwrap();
    put(&vault, &["billing", "database-password"], br#"{"password":"hunter2"}"#).await;
    put(&vault, &["large"], &large()).await;
    put(&vault, &["gone"], b"x").await;
    compact(&vault).await;
    let mut batch = Batch::default();
    batch.delete(&view(&vault), &["gone"]);
    view(&vault).commit(batch).await.unwrap();
    put(&vault, &["snowman ☃"], b"behind a snapshot").await;
    compact(&vault).await;
    put(&vault, &["last"], b"in the journal").await;
    let mut bytes = Vec::new();
    let (disk, now) = (Disk::real(), SystemClock.now());
    let data = folder.join("data");
    backup::create(&disk, &data, SealCopy::Included, now, &mut bytes, &mut |_, _| {}).unwrap();
    fs::write(folder.join("backup"), bytes).unwrap();
    vault.seal().await;
    drop(vault);
    for rest in ["index", "index.2"] {
        fs::remove_dir_all(data.join(rest)).unwrap_or_default();
    }
    for rest in ["lock", "journal/spare"] {
        fs::remove_file(data.join(rest)).unwrap_or_default();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
    // As a checkout may not have it.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(to, mode).unwrap();
}

fn private(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            private(&path);
        } else {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&path, mode).unwrap();
        }
    }
}

fn copied() -> (tempfile::TempDir, PathBuf, SecretBytes) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    copy(Path::new(FIXTURE), &path);
    private(&path);
    let share = SecretBytes::from_vec(fs::read(path.join("share")).unwrap());
    (folder, path, share)
}

async fn holds_everything(vault: &Vault) {
    let password = value(vault, &["billing", "database-password"]).await.unwrap();
    assert_eq!(password, br#"{"password":"hunter2"}"#);
    assert_eq!(value(vault, &["large"]).await.unwrap(), large());
    assert_eq!(value(vault, &["gone"]).await, None);
    assert_eq!(value(vault, &["snowman ☃"]).await.unwrap(), b"behind a snapshot");
    assert_eq!(value(vault, &["last"]).await.unwrap(), b"in the journal");
    let open = vault.unsealed().unwrap();
    let mounted: Vec<_> =
        open.mounts.table().all().iter().map(|mount| mount.record.full_path()).collect();
    assert!(mounted.contains(&"secret/".to_owned()), "{mounted:?}");
    let progress = Progress::default();
    let scanned = open.ground.barrier.scan(Pace::Full, Reads::Checked, &progress).await.unwrap();
    assert_eq!(scanned.findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_format_1_opens_and_goes_on() {
    let (_folder, path, share) = copied();
    let vault = start(&path);
    vault.unseal(Secret::Shares(share)).await.unwrap();
    holds_everything(&vault).await;
    let notices = &vault.unsealed().unwrap().notices;
    assert!(!notices.iter().any(|notice| notice.starts_with("anchor")), "{notices:?}");
    put(&vault, &["new"], b"1").await;
    compact(&vault).await;
    assert_eq!(value(&vault, &["new"]).await.unwrap(), b"1");
    vault.seal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_format_1_is_restored() {
    let (folder, path, share) = copied();
    let restored = folder.path().join("restored");
    fs::create_dir(&restored).unwrap();
    let bytes = fs::read(path.join("backup")).unwrap();
    let data = restored.join("data");
    backup::restore(&Disk::real(), bytes.as_slice(), &data, None, &mut |_| {}).unwrap();
    fs::copy(path.join("anchor"), restored.join("anchor")).unwrap();
    let vault = start(&restored);
    vault.unseal(Secret::Shares(share)).await.unwrap();
    holds_everything(&vault).await;
    vault.seal().await;
}
