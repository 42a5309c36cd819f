//! A crash at every operation of a whole rotation, on a simulated disk.

use std::{path::Path, sync::Arc};

use super::{NamesStep, Rotation, RotationError, SharedRoot, Status, Step, Turn};
use crate::{
    audit::Broker,
    barrier::{Barrier, Batch, Keyring, KeyringError, NamesGeneration, Position, SpaceId},
    clock::{Clock, ManualClock, Timestamp},
    disk::{self, Disk, Simulator},
    seal::{self, Anchors, Made, NewSlot, Secret, ShareCounts, Target},
    secret::SecretBytes,
    storage::{FolderLock, NamedSeq, Options, Store},
};

const FOLDER: &str = "/data";
const ANCHOR: &str = "/anchor";
/// Few enough for a crash everywhere, and more than one batch seals again.
const RECORDS: usize = 60;
/// A read-back takes this much of a file at most.
const LIMIT: u64 = 1 << 20;

/// A store whose rotation has not begun, and what opens it.
struct Site {
    disk: Disk,
    simulator: Simulator,
    share: SecretBytes,
    lock: FolderLock,
    _folder: tempfile::TempDir,
}

struct Open {
    barrier: Arc<Barrier>,
    rotation: Rotation,
    audit: Broker,
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)))
}

fn options(disk: &Disk) -> Options {
    Options { disk: disk.clone(), segment_bytes: 16 * 1_024, ..Options::default() }
}

fn value(n: usize) -> Vec<u8> {
    // One value in chunks.
    if n == 7 { vec![7; 20_000] } else { format!("value {n}").into_bytes() }
}

async fn put(barrier: &Arc<Barrier>, name: &str, value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(&barrier.view(SpaceId::SYSTEM), &["test", name], value);
    barrier.commit(batch).await.unwrap();
}

impl Site {
    async fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::acquire(folder.path()).unwrap();
        let (disk, simulator) = disk::simulated();
        let (data, keyring) = (Path::new(FOLDER), Keyring::generate(clock().now()));
        disk.create_dir_all(data).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let slot = NewSlot::Shares(ShareCounts::new(1, 1).unwrap());
        let made = seal::create(&disk, data, &keyring, clock().now(), vec![slot]).unwrap();
        let Some(Made::Shares(mut shares)) = made.into_iter().next() else { panic!("no share") };
        let store = Store::create(data, keyring.store_id(), 1, options(&disk), &lock).unwrap();
        let (barrier, _) = Barrier::open(store, keyring, 1, NamedSeq(0), clock()).unwrap();
        for n in 0..RECORDS {
            put(&barrier, &n.to_string(), &value(n)).await;
        }
        barrier.close().unwrap();
        Self { disk, simulator, share: shares.remove(0), lock, _folder: folder }
    }

    async fn open(&self, disk: &Disk) -> Open {
        let data = Path::new(FOLDER);
        let secret = Secret::Shares(self.share.expose(SecretBytes::copy_of));
        let opened = seal::read(disk, data).unwrap().open(&secret).unwrap();
        let store = Store::open(data, options(disk), &self.lock).unwrap();
        let seal::Opened { keyring, epoch, root, .. } = opened;
        let opened = Barrier::open(store, keyring, epoch, NamedSeq(0), clock());
        let (barrier, _) = opened.unwrap_or_else(|error| panic!("{error:?}"));
        let root: SharedRoot = Arc::new(tokio::sync::Mutex::new(root));
        let target = Target::new(disk, Path::new(ANCHOR), &barrier.keyring());
        let anchors = Arc::new(Anchors::new(vec![(target, None)], clock()));
        let rotation = Rotation::open(&barrier, &root, &anchors, &clock(), 0).await.unwrap();
        let (mark, keys) = (barrier.audit_mark().clone(), barrier.keyring());
        let keys = |id: &[u8; 16]| keys.audit_keys(id);
        let (audit, _) =
            Broker::open(Disk::real(), vec![], keys, mark, &[], clock(), Position::default)
                .unwrap();
        Open { barrier, rotation, audit }
    }
}

impl Open {
    async fn turn(&self) -> Turn {
        self.rotation.turn(&self.audit).await.unwrap()
    }

    async fn status(&self) -> Status {
        self.rotation.status().await.unwrap()
    }

    async fn step(&self) -> Step {
        self.status().await.step
    }

    /// Takes turns until nothing is to be done.
    async fn finish(&self) {
        loop {
            let is_idle = self.turn().await == Turn::Idle;
            let status = self.status().await;
            if is_idle && status.step == Step::Idle && status.names.step == NamesStep::Idle {
                return;
            }
        }
    }

    async fn holds_everything(&self, what: &str) {
        let view = self.barrier.view(SpaceId::SYSTEM);
        for n in 0..RECORDS {
            let stored = view.get(&["test", &n.to_string()]).await;
            let stored = stored.unwrap_or_else(|error| panic!("{what}: {error:?}")).unwrap();
            assert!(stored.value.expose(|bytes| bytes == value(n)), "{what}: {n}");
        }
    }
}

/// Whether a file below a folder holds the header of something that a term has sealed.
fn holds_term(disk: &Disk, folder: &Path, term: u8) -> bool {
    let headers = [0, 1, 2].map(|flags| [1, 1, flags, 0, 0, 0, 0, term]);
    holds(disk, folder, &headers.each_ref().map(|header| &header[..]))
}

/// Whether a file below a folder holds one of these byte strings.
fn holds(disk: &Disk, folder: &Path, sought: &[&[u8]]) -> bool {
    disk.read_dir(folder).unwrap().into_iter().any(|name| {
        let path = folder.join(name);
        match disk.read(&path, LIMIT) {
            Ok(bytes) => sought
                .iter()
                .any(|sought| bytes.windows(sought.len()).any(|window| window == *sought)),
            Err(_) => holds(disk, &path, sought),
        }
    })
}

fn assert_destroyed(disk: &Disk, what: &str) {
    for name in ["journal", "snapshots"] {
        let folder = Path::new(FOLDER).join(name);
        assert!(!holds_term(disk, &folder, 1), "{what}: {name}");
    }
}

/// What is told to be destroyed cannot be put back unseen: the anchor names the seal file without
/// it.
async fn assert_anchored(open: &Open, disk: &Disk, what: &str) {
    let status = open.status().await;
    if !status.destroyed.is_empty() || !status.names.destroyed.is_empty() {
        let target = Target::new(disk, Path::new(ANCHOR), &open.barrier.keyring());
        assert_eq!(target.anchor().unwrap().seal_epoch, 3, "{what}");
    }
}

/// Ends what goes on from `begin` on at each operation of its disk, and has one in four of the
/// disks left opened and finished. Returns the steps, by `step`, that were met.
async fn crash_anywhere(
    site: &Site,
    begin: usize,
    step: impl Fn(&Status) -> &'static str,
    is_over: impl Fn(&Disk, &Keyring, &str),
) -> Vec<&'static str> {
    let mut met = std::collections::BTreeSet::new();
    let mut crashes = 0_usize;
    for after in begin..=site.simulator.operations() {
        // All of what a crash may leave is asked of one operation in three, of the others how much
        // and how little it may leave.
        let most = if after.is_multiple_of(3) { 4 } else { 1 };
        for crash in site.simulator.crashes(after, 7).into_iter().take(most) {
            let what = format!("operation {after}, {}", crash.what);
            let open = site.open(&crash.disk).await;
            met.insert(step(&open.status().await));
            open.holds_everything(&what).await;
            assert_anchored(&open, &crash.disk, &what).await;
            crashes += 1;
            if crashes.is_multiple_of(4) {
                put(&open.barrier, "later", b"value").await;
                open.finish().await;
                open.holds_everything(&what).await;
                is_over(&crash.disk, &open.barrier.keyring(), &what);
            }
        }
    }
    met.into_iter().collect()
}

#[tokio::test]
async fn a_rotation_goes_on_after_a_crash_anywhere() {
    let site = Site::make().await;
    assert!(holds_term(&site.disk, Path::new(FOLDER), 1));
    let begin = site.simulator.operations();
    let open = site.open(&site.disk).await;
    open.rotation.start().await.unwrap();
    open.finish().await;
    open.holds_everything("without a crash").await;
    assert_destroyed(&site.disk, "without a crash");
    assert_anchored(&open, &site.disk, "without a crash").await;
    drop(open);

    let is_over = |disk: &Disk, keyring: &Keyring, what: &str| {
        if keyring.active().id.0 == 2 {
            assert_destroyed(disk, what);
            assert_eq!(keyring.retiring(), []);
        }
    };
    let met = crash_anywhere(&site, begin, |status| status.step.word(), is_over).await;
    assert_eq!(met, ["activate", "conclude", "erase", "idle", "rewrap", "verify"]);
}

#[tokio::test]
async fn names_move_on_after_a_crash_anywhere() {
    let site = Site::make().await;
    let begin = site.simulator.operations();
    let open = site.open(&site.disk).await;
    let name = open.barrier.view(SpaceId::SYSTEM).record_key(&["test", "1"]).unwrap();
    assert!(holds(&site.disk, Path::new(FOLDER), &[&name]));
    assert_eq!(open.rotation.start_names().await.unwrap(), NamesGeneration(2));
    let again = open.rotation.start_names().await;
    assert!(matches!(again, Err(RotationError::Keyring(KeyringError::NamesMoving))));
    open.finish().await;
    open.holds_everything("without a crash").await;
    let status = open.status().await.names;
    assert_eq!(status.destroyed.iter().map(|gone| gone.generation).collect::<Vec<_>>(), [1]);
    assert!(!holds(&site.disk, Path::new(FOLDER), &[&name]));
    drop(open);

    let is_over = |disk: &Disk, keyring: &Keyring, what: &str| {
        if keyring.names_generation() == NamesGeneration(2) {
            assert_eq!(keyring.old_names_generation(), None, "{what}");
            assert!(!holds(disk, Path::new(FOLDER), &[&name]), "{what}");
        }
    };
    let met = crash_anywhere(&site, begin, |status| status.names.step.word(), is_over).await;
    assert_eq!(met, ["conclude", "erase", "idle", "move"]);
}

#[tokio::test]
async fn a_key_of_names_that_is_gone_is_told_before_the_next_comes() {
    let site = Site::make().await;
    let open = site.open(&site.disk).await;
    open.rotation.start_names().await.unwrap();
    while open.status().await.names.step != NamesStep::Conclude {
        open.turn().await;
    }
    let early = open.rotation.start_names().await;
    assert!(matches!(early, Err(RotationError::Keyring(KeyringError::NamesMoving))));
    open.finish().await;
    open.rotation.start_names().await.unwrap();
    open.finish().await;
    let gone = open.status().await.names.destroyed;
    assert_eq!(gone.iter().map(|gone| gone.generation).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn names_and_terms_change_at_once() {
    let site = Site::make().await;
    let open = site.open(&site.disk).await;
    open.rotation.start_names().await.unwrap();
    open.turn().await;
    open.rotation.start().await.unwrap();
    open.finish().await;
    let status = open.status().await;
    assert_eq!((status.active.id.0, status.names.generation), (2, NamesGeneration(2)));
    assert_eq!((status.destroyed.len(), status.names.destroyed.len()), (1, 1));
    assert_destroyed(&site.disk, "both");
    open.holds_everything("both").await;
}

#[tokio::test]
async fn a_second_rotation_takes_the_first_one_in() {
    let site = Site::make().await;
    let open = site.open(&site.disk).await;
    for _ in 0..2 {
        open.rotation.start().await.unwrap();
        open.turn().await;
    }
    let status = open.rotation.status().await.unwrap();
    assert_eq!((status.active.id.0, status.retiring.len()), (3, 2));
    open.finish().await;
    let status = open.rotation.status().await.unwrap();
    assert_eq!(status.destroyed.iter().map(|gone| gone.term).collect::<Vec<_>>(), [1, 2]);
    assert_destroyed(&site.disk, "both");
    open.holds_everything("both").await;
}

#[tokio::test]
async fn a_rotation_that_is_not_told_yet_is_told_by_the_next() {
    let site = Site::make().await;
    let open = site.open(&site.disk).await;
    open.rotation.start().await.unwrap();
    while open.step().await != Step::Conclude {
        open.turn().await;
    }
    open.rotation.start().await.unwrap();
    open.finish().await;
    let status = open.rotation.status().await.unwrap();
    assert_eq!(status.destroyed.iter().map(|gone| gone.term).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn seals_are_never_counted_under() {
    let site = Site::make().await;
    let open = site.open(&site.disk).await;
    let before = open.rotation.operations();
    for n in 0..10 {
        put(&open.barrier, &n.to_string(), b"value").await;
    }
    let after = open.rotation.operations();
    // A record and a head each.
    assert_eq!(after - before, 20);
    // Nothing is written at the end: as after a crash.
    drop(open);
    let again = site.open(&site.disk).await;
    assert!(again.rotation.operations() >= after);
    again.rotation.start().await.unwrap();
    assert!(again.rotation.operations() < before + 20);
}
