//! The life of a vault over simulated disks: what a crash leaves, and what an old file opens.

use std::{fs, path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;

use super::{RekeyAnswer, Settings, Shown, UnsealError, Vault};
use crate::{
    barrier::{Batch, Position, SpaceId},
    clock::{Clock, ManualClock, Timestamp},
    config::{AnchorPolicy, AuditFile, AuditFormat},
    crypto::Kek,
    disk::{Disk, Simulator, simulated},
    seal::{NewSlot, RekeyPlan, Secret, ShareCounts, SlotType, Target},
    secret::{Key, SecretBytes},
    storage::{Erase, Options},
    token::TtlLimits,
};

/// The real folder carries nothing but the lock.
struct Site {
    folder: TempDir,
    clock: Arc<ManualClock>,
}

impl Site {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)));
        Self { folder: tempfile::tempdir().unwrap(), clock }
    }

    fn start(&self, disk: &Disk) -> Vault {
        let hour = Duration::from_secs(3600);
        let ttl = TtlLimits { default: hour, max: hour };
        let settings = Settings {
            storage: Options { disk: disk.clone(), segment_bytes: 64 * 1024, ..Options::default() },
            ..Settings::new(self.folder.path().to_owned(), ttl)
        };
        Vault::start(settings, Arc::clone(&self.clock) as Arc<dyn Clock>).unwrap()
    }

    async fn opens(&self, disk: &Disk, secret: Secret) -> Result<(), UnsealError> {
        let vault = self.start(disk);
        let opened = vault.unseal(secret).await;
        vault.seal().await;
        opened
    }

    fn seal_file(&self, disk: &Disk) -> Vec<u8> {
        disk.read(&self.folder.path().join("seal.0"), 65_536).unwrap()
    }

    fn put_seal_file(&self, disk: &Disk, bytes: &[u8]) {
        for name in ["seal.0", "seal.1"] {
            overwrite(disk, &self.folder.path().join(name), bytes);
        }
    }
}

fn overwrite(disk: &Disk, path: &Path, bytes: &[u8]) {
    let file = disk.open_rw(path).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
}

fn one_share() -> ShareCounts {
    ShareCounts::new(1, 1).unwrap()
}

fn keyfile() -> Key<Kek> {
    Key::build(|key| key.fill(9))
}

fn copy(secret: &SecretBytes) -> SecretBytes {
    secret.expose(SecretBytes::copy_of)
}

fn shares(secret: &SecretBytes) -> Secret {
    Secret::Shares(copy(secret))
}

/// A sealed store on a simulated disk, which one share and a keyfile open.
async fn made(site: &Site) -> (Disk, Simulator, SecretBytes) {
    let (disk, simulator) = simulated();
    let vault = site.start(&disk);
    let slots = vec![NewSlot::Shares(one_share()), NewSlot::Keyfile(keyfile())];
    let share = vault.initialize(slots).await.unwrap().shares.remove(0);
    (disk, simulator, share)
}

/// Rekeys to one new share. The keyfile is not shown, so its slot goes.
async fn rekey(vault: &Vault, share: &SecretBytes) -> SecretBytes {
    let plan = RekeyPlan { shares: Some(one_share()), ..RekeyPlan::default() };
    let status = vault.begin_rekey(plan).await.unwrap();
    assert_eq!(status.drops.len(), 1);
    let answer = vault.show_to_rekey(&status.nonce, Shown::Share(copy(share))).await;
    let RekeyAnswer::Done(_, mut made) = answer.unwrap() else { panic!("not done") };
    made.remove(0)
}

#[tokio::test]
async fn after_a_crash_in_a_rekey_exactly_the_old_or_the_new_slots_open() {
    let site = Site::new();
    let (disk, simulator, old) = made(&site).await;
    let old_file = site.seal_file(&disk);
    let vault = site.start(&disk);
    vault.unseal(shares(&old)).await.unwrap();
    let before = simulator.operations();
    let new = rekey(&vault, &old).await;
    let after = simulator.operations();
    vault.seal().await;
    drop(vault);

    let (mut old_opened, mut new_opened) = (0, 0);
    for n in before..=after {
        for crash in simulator.crashes(n, 1) {
            let place = format!("after {n} of {before}..{after}: {}", crash.what);
            let by_old = site.opens(&crash.disk, shares(&old)).await;
            let by_new = site.opens(&crash.disk, shares(&new)).await;
            let by_keyfile = site.opens(&crash.disk, Secret::Keyfile(keyfile())).await;
            assert_ne!(by_old.is_ok(), by_new.is_ok(), "{place}: {by_old:?} {by_new:?}");
            assert_eq!(by_old.is_ok(), by_keyfile.is_ok(), "{place}: {by_keyfile:?}");
            assert!(n < after || by_new.is_ok(), "an acknowledged rekey was lost {place}");
            if by_new.is_ok() {
                new_opened += 1;
                // That opening has shut out the older file, if the crash came before.
                site.put_seal_file(&crash.disk, &old_file);
                let by_old_file = site.opens(&crash.disk, shares(&old)).await;
                assert!(matches!(by_old_file, Err(UnsealError::Barrier(_))), "{place}");
            } else {
                old_opened += 1;
            }
        }
    }
    assert!(old_opened > 0 && new_opened > 0, "{old_opened} {new_opened}");
}

#[tokio::test]
async fn a_dropped_secret_opens_neither_the_new_seal_file_nor_the_store_with_the_old_one() {
    let site = Site::new();
    let (disk, _, old) = made(&site).await;
    let old_file = site.seal_file(&disk);
    let vault = site.start(&disk);
    vault.unseal(shares(&old)).await.unwrap();
    let new = rekey(&vault, &old).await;
    vault.seal().await;
    drop(vault);
    let new_file = site.seal_file(&disk);
    for secret in [shares(&old), Secret::Keyfile(keyfile())] {
        let refused = site.opens(&disk, secret).await.unwrap_err();
        assert!(matches!(refused, UnsealError::Failed), "{refused:?}");
        assert_eq!(refused.to_string(), "unseal failed");
    }
    site.put_seal_file(&disk, &old_file);
    for secret in [shares(&old), Secret::Keyfile(keyfile())] {
        let refused = site.opens(&disk, secret).await.unwrap_err();
        assert!(refused.to_string().contains("put the newer seal file back"), "{refused}");
    }
    site.put_seal_file(&disk, &new_file);
    site.opens(&disk, shares(&new)).await.unwrap();
}

#[tokio::test]
async fn a_rekey_that_cannot_be_written_leaves_the_old_slots() {
    use crate::disk::Fault;
    let site = Site::new();
    let (mut old_opens, mut new_opens) = (0, 0);
    // Each call of the rekey fails in turn, until one run gets through.
    for nth in 1.. {
        let (disk, simulator, old) = made(&site).await;
        let vault = site.start(&disk);
        vault.unseal(shares(&old)).await.unwrap();
        let plan = RekeyPlan { shares: Some(one_share()), ..RekeyPlan::default() };
        let nonce = vault.begin_rekey(plan).await.unwrap().nonce;
        simulator.fail(nth, Fault::Eio);
        let answer = vault.show_to_rekey(&nonce, Shown::Share(copy(&old))).await;
        let is_through = simulator.faults_left() > 0;
        simulator.heal();
        vault.seal().await;
        drop(vault);
        match answer {
            Ok(RekeyAnswer::Done(_, new)) => {
                new_opens += 1;
                site.opens(&disk, shares(&new[0])).await.unwrap();
            }
            Ok(other) => panic!("call {nth}: {other:?}"),
            Err(error) => {
                old_opens += 1;
                let opened = site.opens(&disk, shares(&old)).await;
                assert!(opened.is_ok(), "call {nth}: {error}: {opened:?}");
            }
        }
        if is_through {
            break;
        }
    }
    assert!(old_opens > 5 && new_opens > 0, "{old_opens} {new_opens}");
}

#[tokio::test]
async fn slots_are_added_and_dropped_while_open() {
    let site = Site::new();
    let (disk, _, share) = made(&site).await;
    let vault = site.start(&disk);
    vault.unseal(shares(&share)).await.unwrap();
    let second: Key<Kek> = Key::build(|key| key.fill(5));
    let (added, none) = vault.add_slot(NewSlot::Keyfile(second)).await.unwrap();
    assert!(none.is_empty() && !added.summary.human);
    assert!(vault.add_slot(NewSlot::Shares(one_share())).await.is_err());
    let (epoch, slots) = vault.slots().await.unwrap();
    assert_eq!((epoch, slots.len()), (2, 3));
    let first = slots.iter().find(|slot| slot.summary.slot_type == SlotType::Shares).unwrap();
    let refused = vault.drop_slot_keeping_root(first.summary.id).await.unwrap_err();
    assert!(refused.to_string().contains("the last slot that a person can open"));
    let keyfile_slot = slots[1].summary;
    assert_eq!(vault.drop_slot_keeping_root(keyfile_slot.id).await.unwrap(), keyfile_slot);
    assert!(vault.drop_slot_keeping_root(keyfile_slot.id).await.is_err());
    vault.seal().await;
    drop(vault);
    let by = |byte| Secret::Keyfile(Key::build(|key| key.fill(byte)));
    assert!(site.opens(&disk, by(9)).await.is_err());
    site.opens(&disk, by(5)).await.unwrap();
    site.opens(&disk, shares(&share)).await.unwrap();
}

/// The anchor, on the same simulated disk, outside the data folder.
fn anchor_path(site: &Site) -> std::path::PathBuf {
    site.folder.path().with_extension("anchor")
}

fn anchored(site: &Site, disk: &Disk, anchor_policy: AnchorPolicy) -> Vault {
    let settings = anchored_settings(site, disk, anchor_policy);
    Vault::start(settings, Arc::clone(&site.clock) as Arc<dyn Clock>).unwrap()
}

fn anchored_settings(site: &Site, disk: &Disk, anchor_policy: AnchorPolicy) -> Settings {
    let hour = Duration::from_secs(3600);
    let ttl = TtlLimits { default: hour, max: hour };
    Settings {
        storage: Options { disk: disk.clone(), segment_bytes: 64 * 1024, ..Options::default() },
        anchors: vec![anchor_path(site)],
        anchor_policy,
        ..Settings::new(site.folder.path().to_owned(), ttl)
    }
}

/// A sealed store with an anchor, on a simulated disk.
async fn made_anchored(site: &Site) -> (Disk, Simulator, SecretBytes) {
    let (disk, simulator) = simulated();
    let path = anchor_path(site);
    disk.create_dir_all(path.parent().unwrap()).unwrap();
    path.ancestors().skip(1).for_each(|folder| disk.sync_dir(folder).unwrap());
    let vault = anchored(site, &disk, AnchorPolicy::Required);
    let slots = vec![NewSlot::Shares(one_share()), NewSlot::Keyfile(keyfile())];
    let share = vault.initialize(slots).await.unwrap().shares.remove(0);
    (disk, simulator, share)
}

/// Some commits.
async fn write(vault: &Vault, commits: u64) {
    let open = vault.unsealed().unwrap();
    let view = open.ground.barrier.view(SpaceId::SYSTEM).under(&["test"]);
    for n in 0..commits {
        let mut batch = Batch::default();
        batch.put(&view, &[&n.to_string()], b"value");
        open.ground.barrier.commit(batch).await.unwrap();
    }
}

fn position(vault: &Vault) -> Position {
    vault.unsealed().unwrap().ground.barrier.position()
}

#[tokio::test]
async fn an_older_store_stays_sealed_until_a_person_accepts_it() {
    let site = Site::new();
    let (disk, simulator, share) = made_anchored(&site).await;
    // As the store was before the commits.
    let before = simulator.operations();
    let old = simulator.crashes(before, 1).remove(0).disk;
    let vault = anchored(&site, &disk, AnchorPolicy::Required);
    vault.unseal(shares(&share)).await.unwrap();
    write(&vault, 3).await;
    vault.anchor().await.unwrap();
    let newest = disk.read(&anchor_path(&site), 1024).unwrap();
    vault.seal().await;
    drop(vault);

    overwrite(&old, &anchor_path(&site), &newest);
    let vault = anchored(&site, &old, AnchorPolicy::Warn);
    let text = share.expose(|share| data_encoding::HEXLOWER.encode(share));
    assert!(matches!(vault.submit_share_to_accept(&text).await, Err(UnsealError::NoRollback)));
    for secret in [shares(&share), Secret::Keyfile(keyfile())] {
        let refused = vault.unseal(secret).await.unwrap_err();
        assert!(matches!(refused, UnsealError::RollbackDetected { .. }), "{refused:?}");
        assert!(refused.to_string().contains("kista operator accept-rollback"));
        assert!(vault.status().rollback_detected && vault.status().is_sealed);
        assert!(vault.warnings().contains(&"rollback_detected".to_owned()));
    }
    vault.submit_share_to_accept(&text).await.unwrap();
    assert!(!vault.status().is_sealed && !vault.status().rollback_detected);
    assert_eq!(position(&vault).generation, 2);
    write(&vault, 1).await;
    vault.seal().await;
    drop(vault);
    let vault = anchored(&site, &old, AnchorPolicy::Required);
    vault.unseal(shares(&share)).await.unwrap();
    assert_eq!(position(&vault).generation, 2);
}

#[tokio::test]
async fn an_anchor_that_says_nothing_is_told_of_or_keeps_the_vault_sealed() {
    let site = Site::new();
    let (disk, _, share) = made_anchored(&site).await;
    for damage in ["missing", "changed"] {
        let path = anchor_path(&site);
        match damage {
            "missing" => disk.remove_file(&path).unwrap(),
            _ => overwrite(&disk, &path, &[7; 1024]),
        }
        let vault = anchored(&site, &disk, AnchorPolicy::Required);
        let refused = vault.unseal(shares(&share)).await.unwrap_err();
        assert!(matches!(refused, UnsealError::AnchorRequired(_)), "{damage}: {refused:?}");
        drop(vault);
        let vault = anchored(&site, &disk, AnchorPolicy::Warn);
        vault.unseal(shares(&share)).await.unwrap();
        assert!(vault.warnings().contains(&"anchor_unusable".to_owned()), "{damage}");
        vault.anchor().await.unwrap();
        vault.seal().await;
        drop(vault);
        let vault = anchored(&site, &disk, AnchorPolicy::Required);
        vault.unseal(shares(&share)).await.unwrap();
        assert!(vault.warnings().iter().all(|word| !word.starts_with("anchor")), "{damage}");
        vault.seal().await;
        drop(vault);
    }
}

#[tokio::test]
async fn another_history_of_the_same_store_is_a_rollback() {
    let site = Site::new();
    let (disk, simulator, share) = made_anchored(&site).await;
    let twin = simulator.crashes(simulator.operations(), 1).remove(0).disk;
    let mut anchors = Vec::new();
    for (disk, commits) in [(&disk, 2), (&twin, 9)] {
        let vault = anchored(&site, disk, AnchorPolicy::Required);
        vault.unseal(shares(&share)).await.unwrap();
        write(&vault, commits).await;
        vault.seal().await;
        anchors.push(disk.read(&anchor_path(&site), 1024).unwrap());
    }
    // The one with fewer commits wrote the anchor, so its sequence is in both histories.
    overwrite(&twin, &anchor_path(&site), &anchors[0]);
    let vault = anchored(&site, &twin, AnchorPolicy::Warn);
    let refused = vault.unseal(shares(&share)).await.unwrap_err();
    assert!(matches!(refused, UnsealError::RollbackDetected { .. }), "{refused:?}");
}

#[tokio::test]
async fn an_old_seal_file_is_a_rollback_too() {
    let site = Site::new();
    let (disk, _, share) = made_anchored(&site).await;
    let old_file = site.seal_file(&disk);
    let vault = anchored(&site, &disk, AnchorPolicy::Required);
    vault.unseal(shares(&share)).await.unwrap();
    // Adding a slot shuts no older file out by itself.
    vault.add_slot(NewSlot::Keyfile(Key::build(|key| key.fill(5)))).await.unwrap();
    vault.seal().await;
    drop(vault);
    site.put_seal_file(&disk, &old_file);
    let vault = anchored(&site, &disk, AnchorPolicy::Required);
    let refused = vault.unseal(shares(&share)).await.unwrap_err();
    assert!(matches!(refused, UnsealError::RollbackDetected { .. }), "{refused:?}");
}

#[tokio::test]
async fn crashes_raise_no_false_alarm() {
    let site = Site::new();
    let (disk, simulator, share) = made_anchored(&site).await;
    let vault = anchored(&site, &disk, AnchorPolicy::Required);
    let begin = simulator.operations();
    vault.unseal(shares(&share)).await.unwrap();
    for round in 0..8 {
        write(&vault, 2).await;
        vault.anchor().await.unwrap();
        if round == 2 {
            vault.add_slot(NewSlot::Keyfile(Key::build(|key| key.fill(5)))).await.unwrap();
        }
    }
    vault.seal().await;
    drop(vault);
    let (end, mut crashes) = (simulator.operations(), 0);
    for n in begin..=end {
        // The whole of each crash's states is in the long form of the enumerator.
        for crash in simulator.crashes(n, 3).into_iter().step_by(2) {
            crashes += 1;
            let vault = anchored(&site, &crash.disk, AnchorPolicy::Required);
            let opened = vault.unseal(shares(&share)).await;
            assert!(opened.is_ok(), "after {n}: {}: {opened:?}", crash.what);
            let words = vault.warnings();
            assert!(words.iter().all(|word| !word.starts_with("anchor")), "{words:?}");
            vault.seal().await;
        }
    }
    assert!(crashes >= 100, "{crashes}");
}

/// What health tells, but that the index of a simulated disk is made anew each time.
fn words(vault: &Vault) -> Vec<String> {
    vault.warnings().into_iter().filter(|word| word != "index_rebuilt").collect()
}

/// Compacts as `operator compact` does.
async fn compact(vault: &Vault, erase: Erase) {
    let barrier = Arc::clone(&vault.unsealed().unwrap().ground.barrier);
    tokio::task::spawn_blocking(move || barrier.compact(erase, |_| {})).await.unwrap().unwrap();
}

/// The anchor could not be written while the store was compacted, so that it is older than all that
/// the journal holds.
#[tokio::test]
async fn after_compactions_an_anchor_from_just_before_is_judged_exactly() {
    let site = Site::new();
    let (disk, simulator, share) = made_anchored(&site).await;
    let twin = simulator.crashes(simulator.operations(), 1).remove(0).disk;
    let mut anchors = Vec::new();
    for disk in [&disk, &twin] {
        let vault = anchored(&site, disk, AnchorPolicy::Required);
        vault.unseal(shares(&share)).await.unwrap();
        write(&vault, 4).await;
        vault.anchor().await.unwrap();
        anchors.push(disk.read(&anchor_path(&site), 1024).unwrap());
        for _ in 0..3 {
            compact(&vault, Erase::Yes).await;
            write(&vault, 2).await;
        }
        let compacted = disk.read(&anchor_path(&site), 1024).unwrap();
        assert_ne!(compacted, anchors[anchors.len() - 1], "a compaction writes it again");
        vault.seal().await;
    }
    for (anchor, is_own) in anchors.iter().zip([true, false]) {
        overwrite(&disk, &anchor_path(&site), anchor);
        let vault = anchored(&site, &disk, AnchorPolicy::Required);
        let opened = vault.unseal(shares(&share)).await;
        if is_own {
            opened.unwrap();
            assert_eq!(words(&vault), [""; 0]);
            vault.seal().await;
        } else {
            // That one names a commit of another history, of a sequence that both have had.
            assert!(matches!(opened, Err(UnsealError::RollbackDetected { .. })), "{opened:?}");
        }
    }
}

/// The same of the compactions that come by themselves, on a thread of their own and a real disk.
#[tokio::test(flavor = "multi_thread")]
async fn compactions_in_the_background_keep_the_points_of_anchors_too() {
    let site = Site::new();
    let settings = || {
        let mut settings = anchored_settings(&site, &Disk::real(), AnchorPolicy::Required);
        settings.data = site.folder.path().join("data");
        settings.anchors = vec![site.folder.path().join("anchor")];
        settings.storage.compact_above_bytes = 1;
        settings.storage.segment_bytes = 8 * 1024;
        settings
    };
    let start = || Vault::start(settings(), Arc::clone(&site.clock) as Arc<dyn Clock>).unwrap();
    let anchor = site.folder.path().join("anchor");
    let vault = start();
    let share =
        vault.initialize(vec![NewSlot::Shares(one_share())]).await.unwrap().shares.remove(0);
    vault.unseal(shares(&share)).await.unwrap();
    vault.anchor().await.unwrap();
    let (before, named) = (fs::read(&anchor).unwrap(), position(&vault).seq);
    let oldest = || {
        let names = fs::read_dir(site.folder.path().join("data/journal")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter_map(|name| u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok())
            .min()
            .unwrap()
    };
    while oldest() <= named + 1 {
        write(&vault, 10).await;
    }
    assert_ne!(fs::read(&anchor).unwrap(), before, "a compaction writes it again");
    vault.seal().await;
    drop(vault);
    fs::write(&anchor, before).unwrap();
    let vault = start();
    vault.unseal(shares(&share)).await.unwrap();
    assert_eq!(words(&vault), [""; 0]);
    vault.seal().await;
}

#[tokio::test]
async fn an_anchor_that_nothing_was_kept_of_is_stale_and_no_alarm() {
    let site = Site::new();
    let (disk, _, share) = made_anchored(&site).await;
    let vault = anchored(&site, &disk, AnchorPolicy::Required);
    vault.unseal(shares(&share)).await.unwrap();
    write(&vault, 1).await;
    vault.anchor().await.unwrap();
    let old = disk.read(&anchor_path(&site), 1024).unwrap();
    // A later one takes its place, and both blocks.
    for _ in 0..2 {
        write(&vault, 1).await;
        vault.anchor().await.unwrap();
    }
    compact(&vault, Erase::Yes).await;
    vault.seal().await;
    drop(vault);
    overwrite(&disk, &anchor_path(&site), &old);
    let vault = anchored(&site, &disk, AnchorPolicy::Required);
    vault.unseal(shares(&share)).await.unwrap();
    assert_eq!(words(&vault), ["anchor_stale"]);
    vault.seal().await;
}

#[tokio::test]
async fn a_compaction_after_which_nothing_is_done_leaves_no_anchor_behind() {
    let site = Site::new();
    let (disk, simulator, share) = made_anchored(&site).await;
    let vault = anchored(&site, &disk, AnchorPolicy::Required);
    vault.unseal(shares(&share)).await.unwrap();
    write(&vault, 3).await;
    vault.anchor().await.unwrap();
    let begin = simulator.operations();
    compact(&vault, Erase::Yes).await;
    let end = simulator.operations();
    vault.seal().await;
    drop(vault);
    for n in begin..=end {
        for crash in simulator.crashes(n, 5).into_iter().step_by(3) {
            let vault = anchored(&site, &crash.disk, AnchorPolicy::Required);
            let opened = vault.unseal(shares(&share)).await;
            assert!(opened.is_ok(), "after {n}: {}: {opened:?}", crash.what);
            let words = vault.warnings();
            assert!(words.iter().all(|word| !word.starts_with("anchor")), "{words:?}");
            vault.seal().await;
        }
    }
}

#[tokio::test]
async fn rekey_rotation_and_seal_are_done_when_the_anchor_says_so() {
    let site = Site::new();
    let (disk, _, share) = made_anchored(&site).await;
    let vault = anchored(&site, &disk, AnchorPolicy::Required);
    vault.unseal(shares(&share)).await.unwrap();
    let open = vault.unsealed().unwrap();
    let keyring = open.ground.barrier.keyring();
    let anchor = || Target::new(&disk, &anchor_path(&site), &keyring).anchor().unwrap();
    rekey(&vault, &share).await;
    let epoch = open.root.lock().await.epoch();
    assert_eq!((anchor().position, anchor().seal_epoch), (position(&vault), epoch));

    open.rotation.start().await.unwrap();
    while open.rotation.status().await.unwrap().destroyed.is_empty() {
        open.rotation.turn(&open.ground.audit).await.unwrap();
    }
    assert_eq!(anchor().seal_epoch, epoch + 2);
    let barrier = Arc::clone(&open.ground.barrier);
    drop(open);
    vault.seal().await;
    assert_eq!(anchor().position, barrier.position());
}

/// A vault that audits to a file of the machine.
fn audited(site: &Site, disk: &Disk, log: &Path) -> Vault {
    let mut settings = anchored_settings(site, disk, AnchorPolicy::Warn);
    let format = AuditFormat::Json;
    settings.audit_file = Some(AuditFile { path: log.to_owned(), hash_paths: false, format });
    Vault::start(settings, Arc::clone(&site.clock) as Arc<dyn Clock>).unwrap()
}

#[tokio::test]
async fn an_audit_file_cut_back_with_the_store_is_told_by_the_anchors_checkpoint_alone() {
    let site = Site::new();
    let (disk, simulator, share) = made_anchored(&site).await;
    let log = site.folder.path().join("audit.log");
    let vault = audited(&site, &disk, &log);
    vault.unseal(shares(&share)).await.unwrap();
    vault.seal().await;
    drop(vault);
    let (moment, old_log) = (simulator.operations(), fs::read(&log).unwrap());
    let vault = audited(&site, &disk, &log);
    vault.unseal(shares(&share)).await.unwrap();
    assert_eq!(words(&vault), [""; 0]);
    write(&vault, 3).await;
    vault.seal().await;
    drop(vault);

    let checkpoint_path = anchor_path(&site).with_extension("anchor.checkpoint");
    let checkpoint = disk.read(&checkpoint_path, 1024).unwrap();
    // Store, audit file and anchor are from one moment before; only the checkpoint is not.
    for (name, kept) in [("kept", true), ("gone", false)] {
        let old_store = simulator.crashes(moment, 1).remove(0).disk;
        fs::write(&log, &old_log).unwrap();
        if kept {
            overwrite(&old_store, &checkpoint_path, &checkpoint);
        } else {
            old_store.remove_file(&checkpoint_path).unwrap();
        }
        let vault = audited(&site, &old_store, &log);
        vault.unseal(shares(&share)).await.unwrap();
        let told = if kept { "audit_truncated" } else { "anchor_checkpoint_unusable" };
        assert_eq!(words(&vault), [told], "{name}");
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.contains(&format!("\"event\":\"{told}\"")), "{name}: {text}");
    }
}

#[tokio::test]
async fn after_an_accepted_rollback_the_cut_audit_file_is_told_of() {
    let site = Site::new();
    let (disk, simulator, share) = made_anchored(&site).await;
    let log = site.folder.path().join("audit.log");
    let vault = audited(&site, &disk, &log);
    vault.unseal(shares(&share)).await.unwrap();
    vault.seal().await;
    drop(vault);
    let (old_store, old_log) =
        (simulator.crashes(simulator.operations(), 1).remove(0).disk, fs::read(&log).unwrap());
    let vault = audited(&site, &disk, &log);
    vault.unseal(shares(&share)).await.unwrap();
    write(&vault, 3).await;
    vault.seal().await;
    drop(vault);
    for name in ["anchor", "anchor.checkpoint"] {
        let path = anchor_path(&site).with_extension(name);
        overwrite(&old_store, &path, &disk.read(&path, 1024).unwrap());
    }
    fs::write(&log, old_log).unwrap();
    let vault = audited(&site, &old_store, &log);
    let refused = vault.unseal(shares(&share)).await.unwrap_err();
    assert!(matches!(refused, UnsealError::RollbackDetected { .. }), "{refused:?}");
    let text = share.expose(|share| data_encoding::HEXLOWER.encode(share));
    vault.submit_share_to_accept(&text).await.unwrap();
    assert_eq!(words(&vault), ["audit_truncated"]);
    vault.seal().await;
    drop(vault);
    let vault = audited(&site, &old_store, &log);
    vault.unseal(shares(&share)).await.unwrap();
    assert!(!words(&vault).contains(&"audit_truncated".to_owned()), "{:?}", words(&vault));
}

#[tokio::test]
async fn a_quiet_vault_writes_no_anchor() {
    let site = Site::new();
    let (disk, simulator, share) = made_anchored(&site).await;
    let vault = anchored(&site, &disk, AnchorPolicy::Required);
    vault.unseal(shares(&share)).await.unwrap();
    vault.anchor().await.unwrap();
    let quiet = simulator.operations();
    for _ in 0..3 {
        site.clock.advance(Duration::from_secs(3_600));
        vault.anchor().await.unwrap();
    }
    assert_eq!(simulator.operations(), quiet);
    write(&vault, 1).await;
    vault.anchor().await.unwrap();
    assert!(simulator.operations() > quiet);
}
