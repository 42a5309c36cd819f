//! Uninitialised, sealed or unsealed: the life of one data folder.
//!
//! Everything that needs a key hangs on [`Unsealed`]; dropping its last holder wipes the keys. This
//! folder serves no request: `pipeline/` does.
//!
//! - `init.rs`: from nothing to a sealed store
//! - `unseal.rs`: from a secret to an open one
//! - `verify.rs`: when the store is verified, and what follows from it
//! - `compaction.rs`: compacting the store for somebody who asks
//! - `slots.rs`: slots and root key of an open one
//! - `stretching.rs`: how many passphrases are tried at once
//! - `anchors.rs`: what shows a rollback
//! - `examine.rs`: names every damage of a data folder that no server serves
//! - `layout.rs`: what lies in the data folder

#[cfg(test)]
mod anchor_tests;
mod anchors;
mod compaction;
#[cfg(test)]
pub(crate) mod damage;
mod examine;
mod init;
mod layout;
mod slots;
mod stretching;
#[cfg(test)]
mod tests;
mod unseal;
mod verify;
#[cfg(test)]
mod verify_tests;
#[cfg(test)]
mod witness_tests;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;

pub use compaction::{Compaction, CompactionEnd, CompactionReport};
pub use examine::{Damaged, Examination, ExamineError, examine};
pub use init::{InitError, Initialized};
pub(crate) use layout::{keep_name, mark_restored};
pub use slots::{RekeyAnswer, Shown, SlotChangeError};
pub use stretching::{Crowded, Place};
pub use unseal::UnsealError;
pub use verify::{Outcome, Report, Verdict, Verification};

use stretching::Stretching;

use crate::{
    clock::Clock,
    config::{self, AnchorPolicy, AuditFile, Background},
    gate::Ground,
    mount::Mounts,
    quota::Quotas,
    rotation::Rotation,
    seal::{self, Anchors, Providers, Rekey, UnsealProgress},
    secret,
    storage::{self, FolderLock, LockError},
    token::TtlLimits,
};

/// What a vault is told once.
#[derive(Debug)]
pub struct Settings {
    /// The data folder.
    pub data: PathBuf,
    /// Lease times.
    pub ttl: TtlLimits,
    /// The audit device that the configuration names.
    pub audit_file: Option<AuditFile>,
    /// How the store is verified.
    pub verify: config::Verify,
    /// How storage lays out its files.
    pub storage: storage::Options,
    /// How the work in the background goes.
    pub background: Background,
    /// The keyfile that opens the store at start; a rekey keeps its slot.
    pub keyfile: Option<PathBuf>,
    /// Who is asked for the keys of automatic slots.
    pub providers: Providers,
    /// Files outside the data folder that keep where the store stood.
    pub anchors: Vec<PathBuf>,
    /// What an anchor that says nothing means.
    pub anchor_policy: AnchorPolicy,
}

impl Settings {
    /// A data folder, these lease times, and defaults.
    pub fn new(data: PathBuf, ttl: TtlLimits) -> Self {
        Self {
            data,
            ttl,
            audit_file: None,
            verify: config::Verify::default(),
            storage: storage::Options::default(),
            background: Background::default(),
            keyfile: None,
            providers: Providers::default(),
            anchors: Vec::new(),
            anchor_policy: AnchorPolicy::default(),
        }
    }
}

/// One data folder and its state.
pub struct Vault {
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    lock: Arc<FolderLock>,
    open: ArcSwapOption<Unsealed>,
    door: Mutex<Door>,
    verification: Arc<Verification>,
    /// Init, unseal and seal, one at a time.
    transitions: tokio::sync::Mutex<()>,
    stretching: Stretching,
}

/// What is known of the way in while there is no key.
#[derive(Debug, Default)]
struct Door {
    is_initialized: bool,
    /// Threshold and number of shares, of a store with a slot of them.
    shares: Option<(u8, u8)>,
    progress: Option<UnsealProgress>,
    /// The copy of the seal file that was repaired since the last unseal.
    repaired: Option<PathBuf>,
    /// An anchor has shown at the last unseal that the store is an older one.
    rollback_detected: bool,
}

/// An open vault.
#[derive(Debug)]
pub struct Unsealed {
    /// What it stands on.
    pub ground: Ground,
    /// What is mounted.
    pub mounts: Mounts,
    /// How often a source may ask.
    pub quotas: Quotas,
    /// The root key, for changes of the seal file, one at a time. Held from reading the keyring
    /// that is to be written until the barrier has what was written.
    pub root: Arc<tokio::sync::Mutex<seal::OpenRoot>>,
    /// New terms, and the end of old ones.
    pub rotation: Rotation,
    /// The compaction that somebody asks for.
    pub compaction: Compaction,
    /// What keeps elsewhere where the store stands.
    pub anchors: Arc<Anchors>,
    /// The rekey under way. Locked before the root key.
    rekey: Arc<tokio::sync::Mutex<Option<Rekey>>>,
    /// The store's name on the wire.
    pub cluster_id: String,
    /// What was not as it was left when the vault was opened, a word each; told by `sys/health`. It
    /// names no file, since anyone may ask.
    pub notices: Vec<String>,
}

impl Unsealed {
    /// The notices of opening, whether keys lie in memory that may be swapped out, the audit
    /// devices that cannot write now, and a disk that fills up.
    pub fn warnings(&self) -> Vec<String> {
        let failing =
            self.ground.audit.health().into_iter().filter(|device| device.error.is_some());
        let failing = failing.map(|device| format!("audit_device_failing: {}", device.name));
        let unlocked = (secret::unlocked() > 0).then(|| "key_memory_not_locked".to_owned());
        let is_low = self.ground.barrier.is_space_low();
        let space = is_low.then(|| "disk_space_low".to_owned());
        let anchors = self.anchors.failing();
        let anchors = (anchors > 0).then(|| format!("anchor_failing: {anchors}"));
        let notices = self.notices.iter().cloned();
        notices.chain(unlocked).chain(failing).chain(space).chain(anchors).collect()
    }
}

/// The state as `sys/seal-status` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether there is a store.
    pub is_initialized: bool,
    /// Whether there is no key.
    pub is_sealed: bool,
    /// Shares that open, 0 without a slot of them.
    pub threshold: u8,
    /// Shares that were made.
    pub shares: u8,
    /// Shares given so far.
    pub progress: usize,
    /// Names the attempt, empty before its first share.
    pub nonce: String,
    /// The store's name, while unsealed.
    pub cluster_id: Option<String>,
    /// Whether it stays sealed because an anchor is ahead of the store.
    pub rollback_detected: bool,
}

/// The data folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It cannot be made or entered.
    #[error("the data folder {} cannot be used", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Its seal file is damaged.
    #[error(transparent)]
    Seal(#[from] seal::ReadError),
    /// There is a store but no seal file, so nothing can open it.
    #[error(
        "{} holds a store, but seal.0 and seal.1 are missing: put one of them back from a backup",
        .folder.display()
    )]
    SealMissing {
        /// The folder.
        folder: PathBuf,
    },
    /// The store's files are damaged.
    #[error(transparent)]
    Storage(#[from] storage::OpenError),
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({:?})", self.status())
    }
}

impl Vault {
    /// Takes possession of a data folder, making it if needed; it stays sealed, or uninitialised.
    /// Checks what can be checked without a key. Blocking.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let (disk, folder) = (&settings.storage.disk, &settings.data);
        let unusable = |source| StartError::Folder { folder: folder.clone(), source };
        layout::make_folder(disk, folder).map_err(unusable)?;
        let lock = FolderLock::acquire(folder)?;
        let mut door = Door::default();
        if seal::exists(disk, folder).map_err(unusable)? {
            layout::finish_init(disk, folder).map_err(unusable)?;
            let loaded = seal::read(disk, folder)?;
            if let Some(file) = &loaded.repaired {
                tracing::warn!(file = %file.display(), "a copy of the seal file was repaired from the other");
            }
            // Structure only, so that damage is told at start and not at the first unseal.
            drop(storage::Store::open(folder, settings.storage.clone(), &lock)?);
            door = Door::of_shares(loaded.file.shares(), &clock);
            door.repaired = loaded.repaired;
        } else if layout::has_store(disk, folder).map_err(unusable)?
            && !layout::is_init_unfinished(disk, folder).map_err(unusable)?
        {
            return Err(StartError::SealMissing { folder: folder.clone() });
        }
        let verification = Arc::new(Verification::new(settings.verify, Arc::clone(&clock)));
        Ok(Self {
            verification,
            settings: Arc::new(settings),
            clock,
            lock: Arc::new(lock),
            open: ArcSwapOption::empty(),
            door: Mutex::new(door),
            transitions: tokio::sync::Mutex::new(()),
            stretching: Stretching::default(),
        })
    }

    /// The open vault, if it is.
    pub fn unsealed(&self) -> Option<Arc<Unsealed>> {
        self.open.load_full()
    }

    /// How the work in the background goes.
    pub fn background(&self) -> Background {
        self.settings.background
    }

    /// The time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The state.
    pub fn status(&self) -> Status {
        let open = self.unsealed();
        let door = self.door();
        let (threshold, shares) = door.shares.unwrap_or((0, 0));
        let progress = door.progress.as_ref();
        Status {
            is_initialized: door.is_initialized,
            is_sealed: open.is_none(),
            threshold,
            shares,
            progress: progress.map_or(0, UnsealProgress::given),
            nonce: progress.map_or_else(String::new, |progress| progress.nonce().to_owned()),
            cluster_id: open.map(|open| open.cluster_id.clone()),
            rollback_detected: door.rollback_detected,
        }
    }

    /// Seals: new requests are refused at once, running ones get a moment, then the keys are wiped.
    /// Sealed already is fine.
    pub async fn seal(&self) {
        let _one = self.transitions.lock().await;
        let Some(open) = self.open.swap(None) else { return };
        for _ in 0..GRACE_STEPS {
            // One holder is this function, and one may be the request that asks for it.
            if Arc::strong_count(&open) <= 2 {
                break;
            }
            tokio::time::sleep(GRACE_STEP).await;
        }
        if let Err(error) = open.mounts.settle().await {
            tracing::warn!(%error, "how often keys were used is not written down whole");
        }
        let epoch = open.root.lock().await.epoch();
        let closed = tokio::task::spawn_blocking(move || {
            open.ground.audit.close();
            let closed = open.ground.barrier.close();
            open.anchors.note_checkpoint(open.ground.audit.checkpoint());
            open.anchors.write(open.ground.barrier.position(), epoch);
            closed
        });
        match closed.await {
            Ok(Ok(())) => tracing::info!("sealed"),
            Ok(Err(error)) => {
                tracing::error!(%error, "sealed, but the store was not closed cleanly")
            }
            Err(error) => tracing::error!(%error, "sealed, but closing the store broke off"),
        }
    }

    fn door(&self) -> std::sync::MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    fn of_shares(shares: Option<(u8, u8)>, clock: &Arc<dyn Clock>) -> Self {
        let progress =
            shares.map(|(threshold, _)| UnsealProgress::new(threshold, Arc::clone(clock)));
        Self { is_initialized: true, shares, progress, repaired: None, rollback_detected: false }
    }

    /// Waits for other shares from now on.
    fn set_shares(&mut self, shares: Option<(u8, u8)>, clock: &Arc<dyn Clock>) {
        if self.shares != shares {
            let repaired = self.repaired.take();
            *self = Self { repaired, ..Self::of_shares(shares, clock) };
        }
    }
}

/// How long running requests get when the vault is sealed: 5 seconds in all.
const GRACE_STEPS: u32 = 500;
const GRACE_STEP: Duration = Duration::from_millis(10);
