use std::{io, path::PathBuf, sync::Arc};

use super::{
    Compaction, Settings, Unsealed, Vault,
    anchors::{Rollback, Said, guard_compaction},
    layout,
    slots::finish_rekey,
    verify::TAMPERED,
};
use crate::{
    audit::{self, Broker, DeviceConfig, Finding, Notice, SignedCheckpoint},
    barrier::{
        self, Barrier, Batch, Checkpoint, Claims, Collection, CommitError, Keyring, ReadError,
        Record, SpaceId,
    },
    clock::Clock,
    crypto::random,
    gate::Ground,
    mount::{self, Mounts, SYSTEM_UUID},
    policy,
    quota::Quotas,
    rotation::{Rotation, RotationError},
    seal::{self, Secret, ShareRefused, ShareTextError, Submitted, UnsealCounts, parse_share},
    secret::SecretString,
    storage::{self, Generation, NamedSeq, Store},
    token,
};

/// Why a vault stays sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnsealError {
    /// There is nothing to unseal.
    #[error("Vault is not initialized")]
    NotInitialized,
    /// There is nothing to reset.
    #[error("vault is unsealed")]
    Unsealed,
    /// The store has no slot for shares.
    #[error("this store has no shares; unseal it with its passphrase or keyfile")]
    NoShares,
    /// The text is no share.
    #[error(transparent)]
    ShareText(#[from] ShareTextError),
    /// The share cannot belong to this store.
    #[error(transparent)]
    Share(#[from] ShareRefused),
    /// Which secret, share or byte was wrong is not told.
    #[error("unseal failed")]
    Failed,
    /// The secret is right, but the seal file or its parameters cannot be used.
    #[error(transparent)]
    SealFile(seal::OpenError),
    /// The seal file cannot be read.
    #[error(transparent)]
    Seal(#[from] seal::ReadError),
    /// Storage does not open.
    #[error(transparent)]
    Storage(#[from] storage::OpenError),
    /// The barrier does not open.
    #[error(transparent)]
    Barrier(#[from] barrier::OpenError),
    /// The mount table cannot be read.
    #[error(transparent)]
    Mounts(#[from] mount::LoadError),
    /// A record cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// What is kept of a rotation cannot be read or written.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// No audit device opens, so nothing may be answered.
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    /// The first audit line cannot be written.
    #[error(transparent)]
    AuditLine(#[from] audit::AuditError),
    /// The records are not those that the newest commit counts.
    #[error("the store does not verify: {TAMPERED}")]
    Unverified,
    /// The data folder cannot be read or written.
    #[error("the data folder cannot be used")]
    Folder(#[from] io::Error),
    /// The store, or its seal file, is older than an anchor or another one.
    #[error(
        "rollback_detected: an anchor says that commit {seq} was there, so this is an older store or \
         another one. Put the newer one back; or, if the older one is what you want: kista operator \
         accept-rollback"
    )]
    RollbackDetected {
        /// The commit that the anchor names.
        seq: u64,
    },
    /// The configuration asks for an anchor, and there is none.
    #[error(
        "{0}, and anchor_policy is \"required\": put it back; or, if it is a new one, start once with \
         anchor_policy = \"warn\""
    )]
    AnchorRequired(seal::AnchorUnusable),
    /// Nothing says that the store was rolled back.
    #[error("there is no rollback to accept; unseal it: kista operator unseal")]
    NoRollback,
    /// A task of ours broke off.
    #[error("the work broke off")]
    Task(#[from] tokio::task::JoinError),
}

impl Vault {
    /// Takes a share, in hex or base64; the one that completes them unseals. While unsealed it does
    /// nothing.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub async fn submit_share(&self, text: &str) -> Result<(), UnsealError> {
        self.take_share(text, Rollback::Refused).await
    }

    /// The same for a store that an anchor has shown to be an older one: the share that completes
    /// them unseals it all the same, in the next generation.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub async fn submit_share_to_accept(&self, text: &str) -> Result<(), UnsealError> {
        self.check_rollback()?;
        self.take_share(text, Rollback::Accepted).await
    }

    async fn take_share(&self, text: &str, rollback: Rollback) -> Result<(), UnsealError> {
        self.check_initialized()?;
        let share = parse_share(text)?;
        if self.unsealed().is_some() {
            return Ok(());
        }
        let submitted = {
            let mut door = self.door();
            let progress = door.progress.as_mut().ok_or(UnsealError::NoShares)?;
            progress.submit(share)?
        };
        match submitted {
            Submitted::More | Submitted::Again => Ok(()),
            Submitted::Complete(secret) => self.open_with(Secret::Shares(secret), rollback).await,
        }
    }

    /// Forgets the shares given so far.
    ///
    /// # Errors
    /// [`UnsealError::Unsealed`] when there is nothing under way.
    pub fn reset_shares(&self) -> Result<(), UnsealError> {
        self.check_initialized()?;
        if self.unsealed().is_some() {
            return Err(UnsealError::Unsealed);
        }
        if let Some(progress) = self.door().progress.as_mut() {
            progress.reset();
        }
        Ok(())
    }

    /// Opens the vault with the secret of one of its slots. While unsealed it does nothing.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub async fn unseal(&self, secret: Secret) -> Result<(), UnsealError> {
        self.open_with(secret, Rollback::Refused).await
    }

    /// Opens a store that an anchor has shown to be an older one, in the next generation. The
    /// passphrase is asked again for it; what opens without a person cannot agree.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub async fn accept_rollback(&self, passphrase: SecretString) -> Result<(), UnsealError> {
        self.check_rollback()?;
        self.open_with(Secret::Passphrase(passphrase), Rollback::Accepted).await
    }

    async fn open_with(&self, secret: Secret, rollback: Rollback) -> Result<(), UnsealError> {
        self.check_initialized()?;
        let _one = self.transitions.lock().await;
        if self.unsealed().is_some() {
            return Ok(());
        }
        let keys = self.open_seal(secret).await?;
        let opened = self.open_store(keys, rollback).await;
        let is_rollback = matches!(opened, Err(UnsealError::RollbackDetected { .. }));
        self.door().rollback_detected = is_rollback;
        if is_rollback {
            tracing::error!(
                "rollback_detected: the store is older than its anchor; it stays sealed"
            );
        }
        let open = opened?;
        if !self.verify_first(&open).await {
            return Err(UnsealError::Unverified);
        }
        self.open.store(Some(Arc::new(open)));
        tracing::info!("unsealed");
        Ok(())
    }

    /// Forgets shares that were given too long ago; called now and then.
    pub fn expire_shares(&self) {
        if let Some(progress) = self.door().progress.as_mut() {
            progress.expire();
        }
    }

    fn check_rollback(&self) -> Result<(), UnsealError> {
        if self.door().rollback_detected { Ok(()) } else { Err(UnsealError::NoRollback) }
    }

    fn check_initialized(&self) -> Result<(), UnsealError> {
        if self.door().is_initialized { Ok(()) } else { Err(UnsealError::NotInitialized) }
    }

    async fn open_seal(&self, secret: Secret) -> Result<Keys, UnsealError> {
        let folder = self.settings.data.clone();
        let disk = self.settings.storage.disk.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let loaded = seal::read(&disk, &folder)?;
            let repaired = loaded.repaired.clone();
            match loaded.open(&secret) {
                Ok(opened) => Ok(Keys { opened, repaired }),
                Err(seal::OpenError::Failed) => Err(UnsealError::Failed),
                Err(error) => Err(UnsealError::SealFile(error)),
            }
        })
        .await?;
        if let Some(progress) = self.door().progress.as_mut() {
            progress.tried(opened.is_ok());
        }
        opened
    }

    async fn open_store(&self, keys: Keys, rollback: Rollback) -> Result<Unsealed, UnsealError> {
        let seal::Opened { keyring, epoch, root } = keys.opened;
        let (barrier, found, mut said) = self.open_barrier(keyring, epoch, rollback).await?;
        let words = said.judge(&barrier, &found).await?;
        let min_epoch = found.head.as_ref().map_or(epoch, |head| head.min_seal_epoch);
        finish_rekey(&barrier, epoch, min_epoch).await?;
        let floors = Floors::over(&barrier, &self.clock);
        let mounts = Mounts::load(&barrier, &floors.tokens).await?;
        let quotas = load_quotas(&barrier, &mounts, &self.clock).await?;
        let (audit, mut notices) =
            open_audit(&barrier, &self.settings, &said.checkpoints, &self.clock).await?;
        let (counts, repaired) = {
            let mut door = self.door();
            let counts = door.progress.as_mut().map(seal::UnsealProgress::take_counts);
            (counts.unwrap_or_default(), door.repaired.take().or(keys.repaired))
        };
        notices.extend(tell(&audit, counts, &found, repaired)?);
        said.tell(&audit, &words)?;
        notices.extend(words.into_iter().map(str::to_owned));
        let position = barrier.position();
        if rollback == Rollback::Accepted {
            audit.notice(&Notice::RollbackAccepted { generation: position.generation })?;
            tracing::warn!(generation = position.generation, "the rollback was accepted");
        }
        let anchors = said.writer;
        anchors.note_checkpoint(audit.checkpoint());
        let writer = Arc::clone(&anchors);
        // Before a head names the first checkpoint, so that one is missed only where one was.
        let write = move || match rollback {
            Rollback::Refused => writer.write(position, epoch),
            Rollback::Accepted => writer.replace(position, epoch),
        };
        tokio::task::spawn_blocking(write).await?;
        let cluster_id = uuid_text(&barrier.keyring().store_id().0);
        let Floors { policies, tokens } = floors;
        let clock = Arc::clone(&self.clock);
        let ttl = self.settings.ttl;
        let ground = Ground { barrier, policies, tokens, audit, ttl, clock };
        let root = Arc::new(tokio::sync::Mutex::new(root));
        let pace = self.settings.background.rewrap_per_second;
        let rotation = Rotation::open(&ground.barrier, &root, &anchors, &self.clock, pace).await?;
        let rekey = Arc::default();
        let compaction = Compaction::default();
        Ok(Unsealed {
            ground,
            mounts,
            quotas,
            root,
            anchors,
            rekey,
            rotation,
            compaction,
            cluster_id,
            notices,
        })
    }

    async fn open_barrier(
        &self,
        keyring: Keyring,
        seal_epoch: u64,
        rollback: Rollback,
    ) -> Result<(Arc<Barrier>, barrier::Opened, Said), UnsealError> {
        let settings = Arc::clone(&self.settings);
        let clock = Arc::clone(&self.clock);
        let lock = Arc::clone(&self.lock);
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            // What can be checked without a key was checked at the start, and is once more with it.
            let store = Store::find(&settings.data, settings.storage.clone(), &lock)?;
            let disk = &settings.storage.disk;
            let goes_on = match rollback {
                Rollback::Refused => layout::generation(disk, &settings.data)?,
                Rollback::Accepted => Generation::Next,
            };
            // A restored store is a later generation than what its anchors and audit file name.
            let generation = match goes_on {
                Generation::Keep => store.generation(),
                Generation::Next => store.generation().saturating_add(1),
            };
            let said = Said::ask(&settings, &clock, &keyring, generation, seal_epoch, rollback)?;
            let mut points = said.points();
            if rollback == Rollback::Refused {
                points.extend(named_by_audit(&settings, &keyring, generation).points());
            }
            let claims = Claims { seal_epoch, points: &points, generation: goes_on };
            let opened = Barrier::open_with(store, keyring, claims, clock);
            let (barrier, found) = opened.map_err(|error| behind_anchor(error, &said))?;
            guard_compaction(&barrier, &said.writer, runtime);
            if goes_on == Generation::Next {
                layout::forget_restored(disk, &settings.data)?;
            }
            Ok((barrier, found, said))
        })
        .await?
    }
}

/// A journal that ends before what an anchor names is a rollback, whatever else it may be.
fn behind_anchor(error: barrier::OpenError, said: &Said) -> UnsealError {
    let barrier::OpenError::Storage(storage::OpenError::Damaged {
        what: storage::Damage::Record { evidence: storage::Evidence::Named { seq }, .. },
        ..
    }) = &error
    else {
        return error.into();
    };
    if said.highest() != Some(*seq) {
        return error.into();
    }
    tracing::error!(%error, "the store does not reach its anchor");
    UnsealError::RollbackDetected { seq: *seq }
}

/// The commit that the audit file's last checkpoint names: a journal that ends before it was cut.
fn named_by_audit(settings: &Settings, keyring: &Keyring, generation: u64) -> NamedSeq {
    let Some(file) = &settings.audit_file else { return NamedSeq::default() };
    let disk = &settings.storage.disk;
    match audit::named_position(disk, &file.path, |id| keyring.audit_keys(id)) {
        Ok(Some(position)) if position.generation == generation => NamedSeq(position.seq),
        Ok(_) => NamedSeq::default(),
        Err(error) => {
            tracing::warn!(%error, "the audit file cannot be asked how far the journal goes");
            NamedSeq::default()
        }
    }
}

/// What the seal file has given.
struct Keys {
    opened: seal::Opened,
    repaired: Option<PathBuf>,
}

/// The floors between the barrier and the gate.
pub(super) struct Floors {
    pub(super) policies: Arc<policy::Store>,
    pub(super) tokens: Arc<token::Store>,
}

impl Floors {
    pub(super) fn over(barrier: &Arc<Barrier>, clock: &Arc<dyn Clock>) -> Self {
        let policies = Arc::new(policy::Store::new(&barrier.view(SpaceId::SYSTEM)));
        let tokens = Arc::new(token::Store::new(
            Arc::clone(barrier),
            Arc::clone(&policies),
            Arc::clone(clock),
        ));
        Self { policies, tokens }
    }
}

/// The quotas of the mounts that are there.
async fn load_quotas(
    barrier: &Arc<Barrier>,
    mounts: &Mounts,
    clock: &Arc<dyn Clock>,
) -> Result<Quotas, ReadError> {
    let uuids = mounts.recorded().await?;
    let is_mounted = |uuid: &str| uuid == SYSTEM_UUID || uuids.contains(uuid);
    Quotas::load(&barrier.view(SpaceId::SYSTEM), is_mounted, Arc::clone(clock)).await
}

/// An audit device's identity, which its chain and keys hang on.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct DeviceRecord {
    id: [u8; 16],
}

impl Record for DeviceRecord {
    const VERSION: u8 = 1;
}

async fn open_audit(
    barrier: &Arc<Barrier>,
    settings: &Settings,
    kept: &[SignedCheckpoint],
    clock: &Arc<dyn Clock>,
) -> Result<(Broker, Vec<String>), UnsealError> {
    let mut configs = Vec::new();
    if let Some(file) = &settings.audit_file {
        configs.push(DeviceConfig {
            name: FILE_DEVICE.to_owned(),
            id: device_id(barrier, FILE_DEVICE).await?,
            path: file.path.clone(),
            hash_paths: file.hash_paths,
        });
    }
    let barrier = Arc::clone(barrier);
    let clock = Arc::clone(clock);
    let kept = kept.to_vec();
    let disk = settings.storage.disk.clone();
    let (broker, findings) = tokio::task::spawn_blocking(move || {
        let keys = |id: &[u8; 16]| barrier.keyring().audit_keys(id);
        // A broker that kept the barrier would keep the keys.
        let stands = Arc::downgrade(&barrier);
        let position =
            move || stands.upgrade().map(|barrier| barrier.position()).unwrap_or_default();
        let mark = barrier.audit_mark().clone();
        Broker::open(disk, configs, keys, mark, &kept, clock, position)
    })
    .await??;
    let mut notices = Vec::new();
    for finding in findings {
        tracing::warn!(%finding, "the audit file was not as it was left");
        notices.push(audit_notice(&finding).to_owned());
    }
    Ok((broker, notices))
}

fn audit_notice(finding: &Finding) -> &'static str {
    match finding {
        Finding::Partial { .. } => "audit_line_unfinished",
        Finding::Truncated { .. } => "audit_truncated",
        Finding::Damaged { .. } => "audit_damaged",
        Finding::SetAside { .. } => "audit_set_aside",
    }
}

/// The id of a device, made when it is enabled first.
async fn device_id(barrier: &Arc<Barrier>, name: &str) -> Result<[u8; 16], UnsealError> {
    let view = barrier.view(SpaceId::SYSTEM).under(&["audit"]);
    let records = Collection::<DeviceRecord>::new(view);
    if let Some(held) = records.get(&[name]).await? {
        return Ok(held.value.id);
    }
    let record = DeviceRecord { id: random::array() };
    let mut batch = Batch::default();
    records.put(&mut batch, &[name], &record);
    // A new device begins at its own first line, whatever an earlier one had come to.
    barrier.audit_mark().set(Checkpoint::default());
    barrier.commit(batch).await?;
    Ok(record.id)
}

/// The first lines after unseal, and the log: what was tried while there was no audit key, and what
/// was found on opening.
fn tell(
    audit: &Broker,
    counts: UnsealCounts,
    found: &barrier::Opened,
    repaired: Option<PathBuf>,
) -> Result<Vec<String>, audit::AuditError> {
    audit.notice(&Notice::Unsealed { attempts: counts.attempts, failures: counts.failures })?;
    let mut notices = Vec::new();
    if let Some(seq) = found.cut {
        notices.push(format!("unfinished_commit_cut: {seq}"));
        tracing::warn!(
            seq,
            "unfinished_commit_cut: the last commit was torn and has been cut; look for a write that is missing"
        );
        audit.notice(&Notice::UnfinishedCommitCut { seq })?;
    }
    if found.index_rebuilt {
        notices.push("index_rebuilt".to_owned());
        tracing::warn!("the index was rebuilt from snapshot and journal");
        audit.notice(&Notice::IndexRebuilt)?;
    }
    for reason in &found.damaged {
        notices.push("snapshot_damaged".to_owned());
        tracing::warn!(
            reason,
            "a snapshot cannot be used; the one before it has done: compact the store"
        );
        audit.notice(&Notice::SnapshotDamaged { reason })?;
    }
    if let Some(file) = repaired {
        notices.push("seal_file_repaired".to_owned());
        audit.notice(&Notice::SealFileRepaired { file: &file })?;
    }
    Ok(notices)
}

/// 16 bytes in the form of a UUID, as clients expect of a cluster's id.
fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex = data_encoding::HEXLOWER.encode(bytes);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// The name of the device that the configuration makes.
const FILE_DEVICE: &str = "file";
