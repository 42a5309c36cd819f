//! Changes of the seal file while the vault is open: slots, and the rekey under way.
//!
//! One at a time: the rekey is locked first, then the root key, until the barrier and the door know
//! what was written.

use std::sync::Arc;

use super::{UnsealError, Unsealed, Vault, anchors::anchor};
use crate::{
    barrier::{Barrier, Batch, Collection, CommitError, Record, SpaceId},
    crypto::Kek,
    seal::{
        Made, NewSlot, OpenRoot, Provider, ProviderError, Rekey, RekeyPlan, RekeyRefused,
        RekeyStatus, Rekeyed, RewriteError, Secret, SlotDetails, SlotSummary, SlotsError, Step,
        VerifyStatus, keyfile,
    },
    secret::{Key, SecretBytes},
};

/// Why slots or root key stay as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotChangeError {
    /// There is no key.
    #[error("Vault is sealed")]
    Sealed,
    /// Slots do not change while a rekey collects their secrets.
    #[error("a rekey is under way; end it or cancel it first: kista operator rekey cancel")]
    RekeyUnderWay,
    /// There is one.
    #[error("rekey already in progress")]
    AlreadyBegun,
    /// There is none.
    #[error("no barrier rekey in progress")]
    NotBegun,
    /// There is none to verify.
    #[error("no rekey configuration found")]
    NothingToVerify,
    /// The nonce is another operation's. The right one is not told.
    #[error("incorrect nonce supplied")]
    Nonce,
    /// The change cannot be.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// The rekey does not go on.
    #[error(transparent)]
    Rekey(#[from] RekeyRefused),
    /// The seal file cannot be written.
    #[error(transparent)]
    Write(#[from] RewriteError),
    /// The record that names the rekey cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A task of ours broke off.
    #[error("the work broke off")]
    Task(#[from] tokio::task::JoinError),
}

/// What is shown to a rekey.
#[derive(Debug)]
pub enum Shown {
    /// A share.
    Share(SecretBytes),
    /// Another slot's secret.
    Secret(Secret),
}

/// What a secret led to.
#[derive(Debug)]
pub enum RekeyAnswer {
    /// More are needed.
    More(RekeyStatus),
    /// New shares, which must be given back before anything changes.
    MustVerify(RekeyStatus, Vec<SecretBytes>),
    /// It is done. New shares, if there are any, to be shown once.
    Done(RekeyStatus, Vec<SecretBytes>),
}

/// The epoch of the newest rekey, written before its seal file is: a crash between that file and
/// the commit that shuts out the older ones is mended at the next opening.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct RekeyRecord {
    epoch: u64,
}

impl Record for RekeyRecord {
    const VERSION: u8 = 1;
}

impl Vault {
    /// The slots of the open vault, and the epoch of its seal file.
    ///
    /// # Errors
    /// [`SlotChangeError::Sealed`].
    pub async fn slots(&self) -> Result<(u64, Vec<SlotDetails>), SlotChangeError> {
        let open = self.open_for_slots()?;
        let root = open.root.lock().await;
        Ok((root.epoch(), root.slots().collect()))
    }

    /// The key that a provider gives to this server now.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub fn provider_key(&self, provider: &Provider) -> Result<Key<Kek>, ProviderError> {
        self.settings.providers.key(provider)
    }

    /// Adds a slot. Returns it, and its shares if it is of shares.
    ///
    /// # Errors
    /// [`SlotChangeError`]; the slots are as they were.
    pub async fn add_slot(
        &self,
        slot: NewSlot,
    ) -> Result<(SlotDetails, Vec<SecretBytes>), SlotChangeError> {
        let open = self.open_for_slots()?;
        let _no_rekey = no_rekey(&open).await?;
        let now = self.clock.now();
        let add = move |root: &mut OpenRoot, open: &Unsealed| {
            root.add(slot, &open.ground.barrier.keyring(), now)
        };
        let root = Arc::clone(&open.root).lock_owned().await;
        let (details, made) = self.with_root(&open, root, add).await??;
        let shares = match made {
            Made::Shares(shares) => shares,
            Made::Passphrase | Made::Keyfile | Made::Automatic => Vec::new(),
        };
        Ok((details, shares))
    }

    /// Takes a slot out without a rekey, which stops honest use only.
    ///
    /// # Errors
    /// [`SlotChangeError`]; the slots are as they were.
    pub async fn drop_slot_keeping_root(
        &self,
        id: [u8; 16],
    ) -> Result<SlotSummary, SlotChangeError> {
        let open = self.open_for_slots()?;
        let _no_rekey = no_rekey(&open).await?;
        let drop = move |root: &mut OpenRoot, open: &Unsealed| {
            root.drop_keeping_root(id, &open.ground.barrier.keyring())
        };
        let root = Arc::clone(&open.root).lock_owned().await;
        Ok(self.with_root(&open, root, drop).await??)
    }

    /// Begins a rekey.
    ///
    /// # Errors
    /// [`SlotChangeError`].
    pub async fn begin_rekey(&self, plan: RekeyPlan) -> Result<RekeyStatus, SlotChangeError> {
        let open = self.open_for_slots()?;
        let mut rekey = open.rekey.lock().await;
        if rekey.is_some() {
            return Err(SlotChangeError::AlreadyBegun);
        }
        let root = open.root.lock().await;
        let begun = Rekey::begin(&root, plan, &self.readable(), Arc::clone(&self.clock))?;
        let status = begun.status(&root);
        *rekey = Some(begun);
        Ok(status)
    }

    /// Where the rekey stands; without one, the number of secrets that one would need by default.
    ///
    /// # Errors
    /// [`SlotChangeError::Sealed`].
    pub async fn rekey_status(&self) -> Result<Result<RekeyStatus, usize>, SlotChangeError> {
        let open = self.open_for_slots()?;
        let rekey = open.rekey.lock().await;
        let root = open.root.lock().await;
        Ok(match rekey.as_ref() {
            Some(rekey) => Ok(rekey.status(&root)),
            None => Err(Rekey::required_by_default(&root)),
        })
    }

    /// Ends the rekey, if this is its nonce or none is given. Whether it did is not told.
    ///
    /// # Errors
    /// [`SlotChangeError::Sealed`].
    pub async fn cancel_rekey(&self, nonce: Option<&str>) -> Result<(), SlotChangeError> {
        let open = self.open_for_slots()?;
        let mut rekey = open.rekey.lock().await;
        let is_meant = |rekey: &Rekey| nonce.is_none_or(|nonce| nonce == rekey.nonce());
        if rekey.as_ref().is_some_and(is_meant) {
            *rekey = None;
        }
        Ok(())
    }

    /// Shows a secret to the rekey; the last one needed completes it.
    ///
    /// # Errors
    /// [`SlotChangeError`].
    pub async fn show_to_rekey(
        &self,
        nonce: &str,
        shown: Shown,
    ) -> Result<RekeyAnswer, SlotChangeError> {
        let open = self.open_for_slots()?;
        let mut held = Arc::clone(&open.rekey).lock_owned().await;
        match held.as_ref() {
            None => return Err(SlotChangeError::NotBegun),
            Some(rekey) if rekey.nonce() != nonce => return Err(SlotChangeError::Nonce),
            Some(_) => {}
        }
        let root = Arc::clone(&open.root).lock_owned().await;
        let (held, status, step) = tokio::task::spawn_blocking(move || {
            let rekey = held.as_mut().ok_or(SlotChangeError::NotBegun)?;
            let step = match shown {
                Shown::Share(share) => rekey.submit_share(&root, share)?,
                Shown::Secret(secret) => rekey.show(&root, &secret)?,
            };
            let status = rekey.status(&root);
            Ok::<_, SlotChangeError>((held, status, step))
        })
        .await??;
        match step {
            Step::More => Ok(RekeyAnswer::More(status)),
            Step::MustVerify(shares) => Ok(RekeyAnswer::MustVerify(status, shares)),
            Step::Ready(shares) => {
                self.apply_rekey(&open, held).await?;
                Ok(RekeyAnswer::Done(status, shares))
            }
        }
    }

    /// Where the verification of new shares stands.
    ///
    /// # Errors
    /// [`SlotChangeError`].
    pub async fn rekey_verification(&self) -> Result<VerifyStatus, SlotChangeError> {
        let open = self.open_for_slots()?;
        let rekey = open.rekey.lock().await;
        let rekey = rekey.as_ref().ok_or(SlotChangeError::NothingToVerify)?;
        Ok(rekey.verify_status()?)
    }

    /// Begins the verification again, under a new nonce, if this is its nonce or none is given.
    ///
    /// # Errors
    /// [`SlotChangeError`].
    pub async fn restart_rekey_verification(
        &self,
        nonce: Option<&str>,
    ) -> Result<VerifyStatus, SlotChangeError> {
        let open = self.open_for_slots()?;
        let mut rekey = open.rekey.lock().await;
        let rekey = rekey.as_mut().ok_or(SlotChangeError::NothingToVerify)?;
        if let Some(nonce) = nonce {
            check_verification(rekey, nonce)?;
        }
        Ok(rekey.restart_verification()?)
    }

    /// Gives a new share back; `None` when they are verified and the rekey is done.
    ///
    /// # Errors
    /// [`SlotChangeError`].
    pub async fn verify_rekey(
        &self,
        nonce: &str,
        share: SecretBytes,
    ) -> Result<Option<VerifyStatus>, SlotChangeError> {
        let open = self.open_for_slots()?;
        let mut held = Arc::clone(&open.rekey).lock_owned().await;
        let rekey = held.as_mut().ok_or(SlotChangeError::NothingToVerify)?;
        check_verification(rekey, nonce)?;
        if !rekey.verify(share)? {
            return Ok(Some(rekey.verify_status()?));
        }
        self.apply_rekey(&open, held).await?;
        Ok(None)
    }

    /// Writes the seal file under a new root key, then shuts out the older ones.
    async fn apply_rekey(
        &self,
        open: &Arc<Unsealed>,
        mut held: tokio::sync::OwnedMutexGuard<Option<Rekey>>,
    ) -> Result<(), SlotChangeError> {
        let barrier = &open.ground.barrier;
        let root = Arc::clone(&open.root).lock_owned().await;
        let next = root.next_epoch();
        let mut batch = Batch::default();
        rekey_records(barrier).put(&mut batch, REKEY, &RekeyRecord { epoch: next });
        barrier.commit(batch).await?;
        // Only now: a commit that failed has changed nothing, and the shares need not be given
        // again.
        let rekey = held.take().ok_or(SlotChangeError::NotBegun)?;
        let now = self.clock.now();
        let apply = move |root: &mut OpenRoot, open: &Unsealed| {
            rekey.apply(root, &open.ground.barrier.keyring(), now)
        };
        let Rekeyed { epoch, dropped } = self.with_root(open, root, apply).await??;
        tracing::info!(epoch, dropped = dropped.len(), "rekeyed");
        // The new slots are in force, so whoever waits for the new shares gets them. Only a store
        // that takes no commits at all comes here, and its next opening raises it.
        if let Err(error) = barrier.raise_min_seal_epoch(epoch).await {
            tracing::error!(%error, "older copies of the seal file are not shut out yet");
        }
        anchor(open).await?;
        Ok(())
    }

    /// Runs a change of the seal file off the async threads, and tells the door of it.
    async fn with_root<R: Send + 'static>(
        &self,
        open: &Arc<Unsealed>,
        mut root: tokio::sync::OwnedMutexGuard<OpenRoot>,
        change: impl FnOnce(&mut OpenRoot, &Unsealed) -> R + Send + 'static,
    ) -> Result<R, SlotChangeError> {
        let within = Arc::clone(open);
        let (root, changed) = tokio::task::spawn_blocking(move || {
            let changed = change(&mut root, &within);
            (root, changed)
        })
        .await?;
        self.door().set_shares(root.shares(), &self.clock);
        drop(root);
        anchor(open).await?;
        Ok(changed)
    }

    /// The secrets that the server has at hand. One that cannot be read opens nothing: its slot is
    /// listed among those that go.
    fn readable(&self) -> Vec<Secret> {
        let mut secrets = vec![Secret::Automatic(self.settings.providers.clone())];
        if let Some(file) = &self.settings.keyfile {
            match keyfile::read(file) {
                Ok(key) => secrets.push(Secret::Keyfile(key)),
                Err(error) => tracing::warn!(%error, "the keyfile does not stay a way in"),
            }
        }
        secrets
    }

    fn open_for_slots(&self) -> Result<Arc<Unsealed>, SlotChangeError> {
        self.unsealed().ok_or(SlotChangeError::Sealed)
    }
}

/// Ends what a crash has interrupted between a rekey's seal file and its commit.
pub(super) async fn finish_rekey(
    barrier: &Arc<Barrier>,
    seal_epoch: u64,
    min_seal_epoch: u64,
) -> Result<(), UnsealError> {
    let Some(begun) = rekey_records(barrier).get(REKEY).await? else { return Ok(()) };
    // Under a file of a lower epoch the rekey had not come as far as its file.
    if begun.value.epoch <= seal_epoch && min_seal_epoch < begun.value.epoch {
        barrier.raise_min_seal_epoch(begun.value.epoch).await?;
    }
    Ok(())
}

fn rekey_records(barrier: &Arc<Barrier>) -> Collection<RekeyRecord> {
    Collection::new(barrier.view(SpaceId::SYSTEM).under(&["seal"]))
}

fn check_verification(rekey: &Rekey, nonce: &str) -> Result<(), SlotChangeError> {
    if rekey.verify_status()?.nonce == nonce { Ok(()) } else { Err(SlotChangeError::Nonce) }
}

/// Keeps a rekey from beginning for as long as the guard is held.
async fn no_rekey(
    open: &Unsealed,
) -> Result<tokio::sync::MutexGuard<'_, Option<Rekey>>, SlotChangeError> {
    let rekey = open.rekey.lock().await;
    if rekey.is_some() { Err(SlotChangeError::RekeyUnderWay) } else { Ok(rekey) }
}

const REKEY: &[&str] = &["rekey"];
