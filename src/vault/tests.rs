//! The life of a vault over simulated disks: what a crash leaves, and what an old file opens.

use std::{path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;

use super::{RekeyAnswer, Settings, Shown, UnsealError, Vault};
use crate::{
    clock::{Clock, ManualClock, Timestamp},
    crypto::Kek,
    disk::{Disk, Simulator, simulated},
    seal::{NewSlot, RekeyPlan, Secret, ShareCounts, SlotType},
    secret::{Key, SecretBytes},
    storage::Options,
    token::TtlLimits,
};

/// The real folder carries nothing but the lock.
pub(super) struct Site {
    pub(super) folder: TempDir,
    pub(super) clock: Arc<ManualClock>,
}

impl Site {
    pub(super) fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)));
        Self { folder: tempfile::tempdir().unwrap(), clock }
    }

    pub(super) fn start(&self, disk: &Disk) -> Vault {
        let hour = Duration::from_secs(3600);
        let ttl = TtlLimits { default: hour, max: hour };
        let settings = Settings {
            storage: Options { disk: disk.clone(), segment_bytes: 64 * 1024, ..Options::default() },
            ..Settings::new(self.folder.path().to_owned(), ttl)
        };
        Vault::start(settings, Arc::clone(&self.clock) as Arc<dyn Clock>).unwrap()
    }

    pub(super) async fn opens(&self, disk: &Disk, secret: Secret) -> Result<(), UnsealError> {
        let vault = self.start(disk);
        let opened = vault.unseal(secret).await;
        vault.seal().await;
        opened
    }

    pub(super) fn seal_file(&self, disk: &Disk) -> Vec<u8> {
        disk.read(&self.folder.path().join("seal.0"), 65_536).unwrap()
    }

    pub(super) fn put_seal_file(&self, disk: &Disk, bytes: &[u8]) {
        for name in ["seal.0", "seal.1"] {
            overwrite(disk, &self.folder.path().join(name), bytes);
        }
    }
}

pub(super) fn overwrite(disk: &Disk, path: &Path, bytes: &[u8]) {
    let file = disk.open_rw(path).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
}

pub(super) fn one_share() -> ShareCounts {
    ShareCounts::new(1, 1).unwrap()
}

pub(super) fn keyfile() -> Key<Kek> {
    Key::build(|key| key.fill(9))
}

pub(super) fn copy(secret: &SecretBytes) -> SecretBytes {
    secret.expose(SecretBytes::copy_of)
}

pub(super) fn shares(secret: &SecretBytes) -> Secret {
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
pub(super) async fn rekey(vault: &Vault, share: &SecretBytes) -> SecretBytes {
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
