use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    cases::{Change, Form},
    store::{Files, Verdict, runtime, scratch, time},
};
use crate::{
    barrier::{Batch, SpaceId},
    clock::{Clock, ManualClock},
    config::{AnchorPolicy, AuditFile, AuditFormat},
    disk::{self, Disk, Simulator},
    seal::{NewSlot, Secret, ShareCounts},
    secret::SecretBytes,
    storage::Options,
    token::TtlLimits,
    vault::{Settings, UnsealError, Vault},
};

/// Opens an older store unseen, if the checkpoint is put back too.
pub(super) const PUT_BACK: &str = "an older one put back";
pub(super) const ANCHOR: &str = "/kept/anchor";
pub(super) const CHECKPOINT: &str = "/kept/anchor.checkpoint";

/// A vault with an anchor and an audit file, at two moments of its life.
pub(super) struct Anchored {
    folder: TempDir,
    share: SecretBytes,
    runtime: Runtime,
    /// As it was left.
    pub(super) now: Moment,
    /// Before everything that the newest anchor and checkpoint, and those before them, name.
    pub(super) before: Moment,
    /// Anchor and checkpoint from between the two.
    pub(super) older: Files,
}

/// A whole store, and the audit file beside it.
#[derive(Clone)]
pub(super) struct Moment {
    pub(super) files: Files,
}

/// Of which moment the store is whose anchor is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum World {
    /// The newest.
    Honest,
    /// The older one: somebody has put it back, with its audit file.
    RolledBack,
    /// The same, and the anchor with them: only the checkpoint is left to tell.
    AnchorToo,
}

impl Anchored {
    pub(super) fn make() -> Self {
        let folder = scratch();
        let (disk, simulator) = disk::simulated();
        for path in [folder.path(), Path::new("/kept")] {
            disk.create_dir_all(path).unwrap();
            path.ancestors().for_each(|folder| disk.sync_dir(folder).unwrap());
        }
        let mut made = Self {
            share: SecretBytes::from_vec(Vec::new()),
            runtime: runtime(),
            now: Moment { files: Files::default() },
            before: Moment { files: Files::default() },
            older: Files::default(),
            folder,
        };
        let vault = made.start(&disk, AnchorPolicy::Warn);
        let slot = NewSlot::Shares(ShareCounts::new(1, 1).unwrap());
        let initialized = made.runtime.block_on(vault.initialize(vec![slot])).unwrap();
        made.share = initialized.shares.into_iter().next().unwrap();
        drop(vault);
        made.session(&disk);
        made.before = made.moment(&simulator);
        made.session(&disk);
        for path in [ANCHOR, CHECKPOINT] {
            made.older.0.insert(path.into(), disk.read(Path::new(path), 1024).unwrap());
        }
        // Both blocks of both files are written again in each.
        made.session(&disk);
        made.now = made.moment(&simulator);
        made
    }

    /// Opens, writes and seals.
    fn session(&self, disk: &Disk) {
        let vault = self.start(disk, AnchorPolicy::Warn);
        self.runtime.block_on(async {
            vault.unseal(self.secret()).await.unwrap();
            let barrier = Arc::clone(&vault.unsealed().unwrap().ground.barrier);
            for n in 0..3_u8 {
                let mut batch = Batch::default();
                batch.put(&barrier.view(SpaceId::SYSTEM), &["test", &n.to_string()], &[n]);
                barrier.commit(batch).await.unwrap();
                vault.anchor().await.unwrap();
            }
            drop(barrier);
            vault.seal().await;
        });
    }

    fn moment(&self, simulator: &Simulator) -> Moment {
        let disk = simulator.crashes(simulator.operations(), 1).remove(0).disk;
        Moment { files: Files::under(&disk, Path::new("/")) }
    }

    /// What comes of a changed anchor: the vault opens or stays sealed, and what is told of it.
    pub(super) fn open(&self, world: World, change: &Change) -> Result<Verdict, String> {
        let (store, kept) = self.laid_out(world);
        let disk = change.apply_to(&kept, store).disk();
        let verdict = self.unseal(&disk, AnchorPolicy::Warn)?;
        let may_be = match world {
            World::Honest => verdict != Verdict::Rollback,
            // Somebody is told, whatever is left of the anchor.
            World::RolledBack => verdict != Verdict::NoEffect,
            World::AnchorToo => verdict == Verdict::Told,
        };
        if !may_be {
            return Err(format!("{verdict:?}, which is wrong for {world:?}"));
        }
        if world == World::Honest && verdict == Verdict::Told {
            let changed = change.apply(&kept);
            // What was taken for a file of somebody else is left as it is, and told again.
            let is_left = |(path, bytes): (&PathBuf, &Vec<u8>)| {
                *bytes != kept.0[path] && disk.read(path, 4096).is_ok_and(|read| read == *bytes)
            };
            let is_left = changed.0.iter().any(is_left);
            let again = self.unseal(&disk, AnchorPolicy::Warn)?;
            if (again == Verdict::NoEffect) == is_left {
                return Err(format!("{again:?} the second time"));
            }
        }
        Ok(verdict)
    }

    /// The same where the configuration asks for an anchor.
    pub(super) fn open_required(&self, change: &Change) -> Result<Verdict, String> {
        let (store, kept) = self.laid_out(World::RolledBack);
        let disk = change.apply_to(&kept, store).disk();
        let verdict = self.unseal(&disk, AnchorPolicy::Required)?;
        let is_sealed = matches!(verdict, Verdict::Rollback | Verdict::Refused);
        if is_sealed { Ok(verdict) } else { Err(format!("{verdict:?}: an older store opens")) }
    }

    /// The store of a world with its audit file, and the newest anchor and checkpoint.
    fn laid_out(&self, world: World) -> (Files, Files) {
        let moment = match world {
            World::Honest => &self.now,
            World::RolledBack | World::AnchorToo => &self.before,
        };
        let (mut store, mut kept) = (moment.files.clone(), self.kept());
        if world == World::AnchorToo {
            kept.0.extend(
                store
                    .0
                    .get_key_value(Path::new(ANCHOR))
                    .map(|(path, bytes)| (path.clone(), bytes.clone())),
            );
        }
        store.0.retain(|path, _| !path.starts_with("/kept"));
        (store, kept)
    }

    /// The newest anchor and checkpoint.
    pub(super) fn kept(&self) -> Files {
        let kept = |path: &str| (PathBuf::from(path), self.now.files.0[Path::new(path)].clone());
        Files(BTreeMap::from([kept(ANCHOR), kept(CHECKPOINT)]))
    }

    fn unseal(&self, disk: &Disk, policy: AnchorPolicy) -> Result<Verdict, String> {
        let vault = self.start(disk, policy);
        let (opened, words) = self.runtime.block_on(async {
            let opened = vault.unseal(self.secret()).await;
            let words = vault.warnings();
            vault.seal().await;
            (opened, words)
        });
        match opened {
            Ok(()) => of_words(words),
            Err(UnsealError::RollbackDetected { .. }) => Ok(Verdict::Rollback),
            Err(error @ UnsealError::AnchorRequired(_)) if error.to_string().contains(ANCHOR) => {
                Ok(Verdict::Refused)
            }
            Err(error) => Err(format!("refused without the anchor's name: {error}")),
        }
    }

    fn start(&self, disk: &Disk, anchor_policy: AnchorPolicy) -> Vault {
        let hour = Duration::from_secs(3600);
        let settings = Settings {
            storage: Options { disk: disk.clone(), segment_bytes: 8 * 1024, ..Options::default() },
            anchors: vec![ANCHOR.into()],
            anchor_policy,
            audit_file: Some(AuditFile {
                path: self.log(),
                hash_paths: false,
                format: AuditFormat::Json,
            }),
            ..Settings::new(self.folder.path().to_owned(), TtlLimits { default: hour, max: hour })
        };
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(time()));
        Vault::start(settings, clock).unwrap()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }

    fn secret(&self) -> Secret {
        Secret::Shares(self.share.expose(SecretBytes::copy_of))
    }
}

/// Nothing but the anchor and its checkpoint may be told of, and what they show.
fn of_words(mut words: Vec<String>) -> Result<Verdict, String> {
    // The index of a simulated disk is made anew each time.
    words.retain(|word| word != "index_rebuilt");
    let known =
        ["anchor_unusable", "anchor_checkpoint_unusable", "anchor_failing: 1", "audit_truncated"];
    let is_known = |word: &String| known.contains(&&**word);
    if !words.iter().all(is_known) {
        return Err(format!("a false alarm: {words:?}"));
    }
    Ok(if words.is_empty() { Verdict::NoEffect } else { Verdict::Told })
}

/// Both files gone, put back, exchanged, or another store's.
pub(super) fn replaced(made: &Anchored, other: &Anchored) -> Vec<Change> {
    let (ours, theirs) = (made.kept(), other.kept());
    let mut changes = Vec::new();
    for path in [ANCHOR, CHECKPOINT] {
        let mut put = |label, bytes: &[u8]| {
            let files = BTreeMap::from([(PathBuf::from(path), bytes.to_vec())]);
            changes.push(Change::Rewrite { label, what: path.to_owned(), files });
        };
        put(PUT_BACK, &made.older.0[Path::new(path)]);
        put("another store's", &theirs.0[Path::new(path)]);
        put("of zeros", &[0; 1024]);
        put("empty", &[]);
        put("longer", &[&ours.0[Path::new(path)][..], &[0]].concat());
        let swapped = if path == ANCHOR { CHECKPOINT } else { ANCHOR };
        put("the other file", &ours.0[Path::new(swapped)]);
        changes.push(Change::Delete { file: path.into() });
    }
    changes
}

/// The same bits of both blocks changed, so that neither counts.
pub(super) fn both_blocks(files: &Files, path: &str, form: Form) -> Vec<Change> {
    let bytes = &files.0[Path::new(path)];
    let each_of = if form == Form::Long { 1 } else { 61 };
    let change = |offset: usize| {
        let mut bytes = bytes.clone();
        for block in [0, 512] {
            bytes[block + offset] ^= 1 << (offset % 8);
        }
        let files = BTreeMap::from([(PathBuf::from(path), bytes)]);
        Change::Rewrite { label: "both blocks", what: format!("{path} byte {offset}"), files }
    };
    (0..512).step_by(each_of).map(change).collect()
}
