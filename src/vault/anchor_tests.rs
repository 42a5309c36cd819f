//! Anchors over simulated disks: which older store stays sealed, and that no crash raises an alarm.

use std::{env, fs, path::Path, sync::Arc, time::Duration};

use super::{
    Settings, UnsealError, Vault,
    tests::{Site, keyfile, one_share, overwrite, rekey, shares},
};
use crate::{
    barrier::{Batch, Position, SpaceId},
    clock::Clock,
    config::{AnchorPolicy, AuditFile, AuditFormat},
    disk::{Disk, Simulator, simulated},
    rotation::Turn,
    seal::{NewSlot, Secret, Target},
    secret::{Key, SecretBytes},
    storage::{Erase, Options},
    token::TtlLimits,
};

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
            _ => {
                let changed = disk.read(&path, 1024).unwrap().into_iter().enumerate();
                let changed: Vec<_> =
                    changed.map(|(n, byte)| byte ^ u8::from(n % 512 == 40)).collect();
                overwrite(&disk, &path, &changed);
            }
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
    let moment = simulator.operations();
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
        if kept {
            overwrite(&old_store, &checkpoint_path, &checkpoint);
        } else {
            old_store.remove_file(&checkpoint_path).unwrap();
        }
        let vault = audited(&site, &old_store, &log);
        vault.unseal(shares(&share)).await.unwrap();
        let told = if kept { "audit_truncated" } else { "anchor_checkpoint_unusable" };
        assert_eq!(words(&vault), [told], "{name}");
        let text = String::from_utf8(old_store.read(&log, 1 << 20).unwrap()).unwrap();
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
    let old_store = simulator.crashes(simulator.operations(), 1).remove(0).disk;
    let vault = audited(&site, &disk, &log);
    vault.unseal(shares(&share)).await.unwrap();
    write(&vault, 3).await;
    vault.seal().await;
    drop(vault);
    for name in ["anchor", "anchor.checkpoint"] {
        let path = anchor_path(&site).with_extension(name);
        overwrite(&old_store, &path, &disk.read(&path, 1024).unwrap());
    }
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

/// The choices of one life, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// A vault that lives at random: writes, anchors, compactions, slots, rotations, restarts. Gives
/// the share that opens it at the end.
async fn live(site: &Site, disk: &Disk, share: &SecretBytes, chance: &mut Chance) -> SecretBytes {
    let copy = |share: &SecretBytes| share.expose(SecretBytes::copy_of);
    let mut share = copy(share);
    let mut is_rekeyed = false;
    let mut vault = anchored(site, disk, AnchorPolicy::Required);
    vault.unseal(shares(&share)).await.unwrap();
    for _ in 0..8 + chance.below(12) {
        site.clock.advance(Duration::from_secs(chance.below(900)));
        match chance.below(12) {
            0..4 => write(&vault, 1 + chance.below(3)).await,
            4..7 => vault.anchor().await.unwrap(),
            7 => compact(&vault, Erase::Yes).await,
            8 => compact(&vault, Erase::No).await,
            9 if !is_rekeyed => {
                is_rekeyed = true;
                share = rekey(&vault, &share).await;
            }
            9 => drop(vault.add_slot(NewSlot::Keyfile(keyfile())).await.unwrap()),
            10 => {
                let open = vault.unsealed().unwrap();
                open.rotation.start().await.unwrap();
                // Most rotations are seen to their end, some are left to the next act.
                for _ in 0..chance.below(16) {
                    if open.rotation.turn(&open.ground.audit).await.unwrap() == Turn::Idle {
                        break;
                    }
                }
            }
            _ => {
                vault.seal().await;
                drop(vault);
                vault = anchored(site, disk, AnchorPolicy::Required);
                vault.unseal(shares(&share)).await.unwrap();
            }
        }
    }
    vault.seal().await;
    share
}

/// Opens what a crash has left, with the share from before or after a rekey.
async fn is_no_alarm(site: &Site, disk: &Disk, secrets: [&SecretBytes; 2]) -> Result<(), String> {
    let vault = anchored(site, disk, AnchorPolicy::Required);
    let [old, new] = secrets;
    let opened = match vault.unseal(shares(old)).await {
        Err(UnsealError::Failed) => vault.unseal(shares(new)).await,
        opened => opened,
    };
    let told = words(&vault);
    vault.seal().await;
    opened.map_err(|error| error.to_string())?;
    // A commit that was never answered may be cut, and a copy of the seal file be written again.
    let is_alarm =
        |word: &String| !word.starts_with("unfinished_commit_cut") && word != "seal_file_repaired";
    match told.into_iter().find(is_alarm) {
        Some(word) => Err(word),
        None => Ok(()),
    }
}

/// `just anchor-crashes` says how many.
#[tokio::test]
async fn crashes_raise_no_false_alarm() {
    let wanted = env::var("KISTA_ANCHOR_CRASHES").map_or(100, |text| text.parse().unwrap());
    let (mut crashes, mut lives) = (0_u64, 0);
    while crashes < wanted {
        lives += 1;
        let (site, mut chance) = (Site::new(), Chance(lives));
        let (disk, simulator, share) = made_anchored(&site).await;
        let begin = simulator.operations();
        let last = live(&site, &disk, &share, &mut chance).await;
        let operations = u64::try_from(simulator.operations() - begin).unwrap();
        for _ in 0..CRASHES_OF_A_LIFE {
            let at = begin + usize::try_from(chance.below(operations + 1)).unwrap();
            let mut left = simulator.crashes(at, chance.below(1 << 32));
            let which = chance.below(u64::try_from(left.len()).unwrap());
            let crash = left.swap_remove(usize::try_from(which).unwrap());
            crashes += 1;
            let told = is_no_alarm(&site, &crash.disk, [&share, &last]).await;
            assert_eq!(told, Ok(()), "life {lives}, after {at}: {}", crash.what);
        }
    }
    println!("{crashes} crashes of {lives} lives: no alarm");
}

/// Each life is crashed so often, each time from its own course on.
const CRASHES_OF_A_LIFE: u64 = 10;
