use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    ends::{end_everywhere, points},
    life::{ABSENT, Life, OPEN, Thing},
    site::{AUDIT, Anchors, file_content, put_file},
};
use crate::{
    backup::{self, RestoreError, SealCopy, Summary},
    disk::{Crash, Disk},
    gate::Operation::{Delete, Write},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_a_crash_ends_is_the_old_file_or_the_new_one() {
    let life = source().await;
    let (disk, simulator) = life.disk.copy();
    let path = Path::new("/backups/store.kistabak");
    disk.create_dir_all(Path::new("/backups")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let before = simulator.operations();
    let make = |disk: &Disk| {
        let (data, now) = (life.site.data(), life.site.now());
        backup::create_file(disk, &data, SealCopy::Included, now, path, &mut |_, _| {}).unwrap()
    };
    make(&disk);
    let between = simulator.operations();
    let old = disk.read(path, u64::MAX).unwrap();
    life.site.turn_on();
    let summary = make(&disk);
    let new = disk.read(path, u64::MAX).unwrap();
    assert_ne!(old, new);
    let (store, operations) = (files(&disk, &life.site.data()), simulator.operations());
    let (mut disks, mut earlier, mut later) = (0, 0, 0);
    for (n, seed) in points(before, operations, SAMPLE) {
        for Crash { what, disk, .. } in simulator.crashes(n, seed) {
            let place = format!("after {n} of {operations} operations: {what}");
            match file_content(&disk, path) {
                Some(found) if found == new => later += 1,
                Some(found) if found == old => earlier += 1,
                None => assert!(n < between, "the backup is gone\n{place}"),
                Some(found) => panic!("{} bytes of a backup\n{place}", found.len()),
            }
            assert!(n < operations || file_content(&disk, path) == Some(new.clone()), "{place}");
            assert_eq!(files(&disk, &life.site.data()), store, "the store was touched\n{place}");
            // What is left of the one that broke off is no obstacle.
            assert_eq!(make(&disk), summary, "{place}");
            assert_eq!(disk.read(path, u64::MAX).unwrap(), new, "{place}");
            disks += 1;
        }
    }
    println!(
        "backup: {} operations, {disks} disks: {earlier} times the old file, {later} times the new",
        operations - before
    );
    assert!(earlier > 0 && later > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_a_crash_ends_has_made_the_whole_store_or_none() {
    let life = source().await;
    let (disk, simulator) = life.disk.copy();
    let bundle = bundle(&life);
    let site = life.site.with_folder("restored/here/data");
    let before = simulator.operations();
    restore(&disk, &bundle, &site.data()).unwrap();
    let (store, operations) = (files(&disk, &life.site.data()), simulator.operations());
    let (mut disks, mut none, mut whole) = (0, 0, 0);
    for (n, seed) in points(before, operations, SAMPLE) {
        for Crash { what, disk, .. } in simulator.crashes(n, seed) {
            let place = format!("after {n} of {operations} operations: {what}");
            assert_eq!(files(&disk, &life.site.data()), store, "the source was touched\n{place}");
            if is_store(&disk, &site.data()) {
                let again = restore(&disk, &bundle, &site.data());
                assert!(matches!(again, Err(RestoreError::NotEmpty { .. })), "{again:?}\n{place}");
                whole += 1;
            } else {
                assert!(n < operations, "what was restored is gone\n{place}");
                restore(&disk, &bundle, &site.data()).expect(&place);
                none += 1;
            }
            let world = disk.copy();
            let restored = life.goes_on_from(usize::MAX, site.clone(), world, Vec::new());
            restored.check(&restored.disk, 0, &place).await;
            disks += 1;
        }
    }
    println!(
        "restore: {} operations, {disks} disks: {none} times no store, {whole} times the whole one",
        operations - before
    );
    assert!(none > 0 && whole > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_a_restored_store_is_still_a_later_one_than_its_anchor() {
    let mut life = source().await;
    let bundle = bundle(&life);
    let (backed_up, world) = (life.simulator.operations(), life.disk.copy());
    // The old store goes on, and its anchor and the audit file with it.
    assert!(life.start().await && life.unseal().await);
    life.put("secret/late", 1, "not in the backup").await;
    life.let_a_second_pass().await;
    life.vanish().await;
    let site = life.site.with_folder("restored/here/data");
    let (disk, _) = &world;
    Anchors::on(&life.disk).put(disk);
    let audit = Path::new(AUDIT);
    put_file(disk, audit, file_content(&life.disk, audit).as_deref());
    restore(disk, &bundle, &site.data()).unwrap();
    let late = vec![(Thing::Secret("secret/late".to_owned()), ABSENT.to_owned())];
    let mut restored = life.goes_on_from(backed_up, site, disk.copy(), late);
    assert!(restored.start().await && restored.unseal().await);
    restored.put("secret/late", 1, "of the next generation").await;
    restored.let_a_second_pass().await;
    restored.seal().await;
    let ends = end_everywhere("a restored store", &mut restored, SAMPLE).await;
    assert!(ends.have_met_acts(), "{ends:?}");
}

/// A closed store with a snapshot, a journal behind it, and something removed.
async fn source() -> Life {
    let mut life = Life::begin();
    assert!(life.start().await && life.init().await && life.unseal().await);
    let mount = vec![(Thing::Mount("secret/".to_owned()), OPEN.to_owned())];
    let body = json!({"type": "kv", "options": {"version": "2"}});
    life.ask(Write, "sys/mounts/secret", body, vec![mount]).await;
    life.put("secret/a", 1, "first").await;
    life.put("secret/b", 1, "removed").await;
    let gone = vec![(Thing::Secret("secret/b".to_owned()), ABSENT.to_owned())];
    life.ask(Delete, "secret/metadata/b", Value::Null, vec![gone]).await;
    life.compact("secret/while/compacting").await;
    life.put("secret/long", 1, &"=".repeat(20_000)).await;
    life.put("secret/more", 1, &"=".repeat(20_000)).await;
    life.let_a_second_pass().await;
    life.seal().await;
    life.vanish().await;
    life
}

fn bundle(life: &Life) -> Vec<u8> {
    let mut out = Vec::new();
    let (data, now) = (life.site.data(), life.site.now());
    backup::create(&life.disk, &data, SealCopy::Included, now, &mut out, &mut |_, _| {}).unwrap();
    out
}

fn restore(disk: &Disk, bundle: &[u8], folder: &Path) -> Result<Summary, RestoreError> {
    backup::restore(disk, bundle, folder, None, &mut |_| {})
}

/// Whether anything is there that is taken for a store.
fn is_store(disk: &Disk, folder: &Path) -> bool {
    disk.read_dir(folder).is_ok_and(|names| !names.is_empty())
}

/// Every file in and below a folder.
fn files(disk: &Disk, folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in disk.read_dir(folder).unwrap() {
        let path = folder.join(name);
        match disk.read(&path, u64::MAX) {
            Ok(content) => drop(found.insert(path, content)),
            Err(_) => found.extend(files(disk, &path)),
        }
    }
    found
}

/// Points that the short form looks at, about.
const SAMPLE: usize = 20;
