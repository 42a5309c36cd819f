use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use super::{
    Door, Vault,
    anchors::{Rollback, Said},
    layout,
    unseal::Floors,
};
use crate::{
    barrier::{self, Barrier, Batch, CommitError, Keyring, KeyringError},
    mount::Mounts,
    policy,
    seal::{self, Made, NewSlot},
    secret::{SecretBytes, SecretString},
    storage::{self, NamedSeq, Store},
    token::{CreateError, Orphan, TokenSpec},
};

/// What an init gives out, this once.
#[derive(Debug)]
pub struct Initialized {
    /// The shares, if a slot of them was made.
    pub shares: Vec<SecretBytes>,
    /// The first token, which may do everything.
    pub root_token: SecretString,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is one.
    #[error("Vault is already initialized")]
    AlreadyInitialized,
    /// The slots cannot be made.
    #[error(transparent)]
    Seal(#[from] seal::CreateError),
    /// The folder cannot be written.
    #[error("the data folder cannot be written")]
    Folder(#[from] io::Error),
    /// Storage cannot be made.
    #[error(transparent)]
    Storage(#[from] storage::OpenError),
    /// The new store does not open.
    #[error(transparent)]
    Open(#[from] barrier::OpenError),
    /// The keyring cannot be copied.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Its first records cannot be written.
    #[error("the first records cannot be written")]
    Commit(#[from] CommitError),
    /// The root token cannot be made.
    #[error("the root token cannot be made")]
    Token(#[from] CreateError),
    /// The new store cannot be closed.
    #[error("the new store cannot be closed")]
    Close(#[source] storage::CommitError),
    /// A task of ours broke off.
    #[error("the work broke off")]
    Task(#[from] tokio::task::JoinError),
}

impl Vault {
    /// Makes a store with these slots, and leaves it sealed. The seal file comes last: before it is
    /// whole there is no store, and the next init clears away what a broken one has left.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn initialize(&self, slots: Vec<NewSlot>) -> Result<Initialized, InitError> {
        let _one = self.transitions.lock().await;
        if self.door().is_initialized {
            return Err(InitError::AlreadyInitialized);
        }
        let folder = self.settings.data.clone();
        let options = self.settings.storage.clone();
        let clock = Arc::clone(&self.clock);
        let lock = Arc::clone(&self.lock);
        let (barrier, keyring) = tokio::task::spawn_blocking(move || {
            layout::begin_init(&options.disk, &folder)?;
            let keyring = Keyring::generate(clock.now());
            let copy = Keyring::decode(&keyring.store_id(), &keyring.encode())?;
            let store =
                Store::create(&folder, keyring.store_id(), FIRST_GENERATION, options, &lock)?;
            let (barrier, _) = Barrier::open(store, copy, FIRST_EPOCH, NamedSeq(0), clock)?;
            Ok::<_, InitError>((barrier, keyring))
        })
        .await??;
        let root_token = self.first_records(&barrier).await?;
        let (disk, folder) = (self.settings.storage.disk.clone(), self.settings.data.clone());
        let now = self.clock.now();
        let (settings, clock) = (Arc::clone(&self.settings), Arc::clone(&self.clock));
        let made = tokio::task::spawn_blocking(move || {
            barrier.close().map_err(InitError::Close)?;
            let position = barrier.position();
            drop(barrier);
            let made = seal::create(&disk, &folder, &keyring, now, slots)?;
            layout::finish_init(&disk, &folder)?;
            let generation = position.generation;
            let accepted = Rollback::Accepted;
            match Said::ask(&settings, &clock, &keyring, generation, FIRST_EPOCH, accepted) {
                Ok(said) => said.writer.replace(position, FIRST_EPOCH),
                Err(error) => {
                    tracing::warn!(%error, "the anchors of the new store are not written")
                }
            }
            Ok::<_, InitError>(made)
        })
        .await??;
        let shares = made.into_iter().flat_map(|made| match made {
            Made::Shares(shares) => shares,
            Made::Passphrase | Made::Keyfile | Made::Automatic => Vec::new(),
        });
        let initialized = Initialized { shares: shares.collect(), root_token };
        let counts = seal::read(&self.settings.storage.disk, &self.settings.data)
            .map(|loaded| loaded.file.shares());
        *self.door() = Door::of_shares(counts.unwrap_or(None), &self.clock);
        tracing::info!("initialised");
        Ok(initialized)
    }

    async fn first_records(&self, barrier: &Arc<Barrier>) -> Result<SecretString, InitError> {
        let floors = Floors::over(barrier, &self.clock);
        let mut batch = Batch::default();
        floors.policies.initialize(&mut batch);
        barrier.commit(batch).await?;
        Mounts::create(barrier).await?;
        let created = floors.tokens.create(self.root_spec(), None).await?;
        Ok(created.token)
    }

    /// Makes another root token. For whoever holds the data folder and a secret that opens it, when
    /// the first one was lost before it was kept; none while sealed.
    ///
    /// # Errors
    /// [`CreateError`].
    pub async fn mint_root(&self) -> Result<Option<SecretString>, CreateError> {
        let Some(open) = self.unsealed() else { return Ok(None) };
        let created = open.ground.tokens.create(self.root_spec(), None).await?;
        Ok(Some(created.token))
    }

    fn root_spec(&self) -> TokenSpec {
        TokenSpec {
            id: None,
            policies: vec![policy::ROOT.to_owned()],
            no_default_policy: true,
            meta: BTreeMap::new(),
            display_name: policy::ROOT.to_owned(),
            path: "auth/token/root".to_owned(),
            orphan: Orphan::Granted,
            renewable: false,
            ttl: Duration::ZERO,
            explicit_max_ttl: Duration::ZERO,
            period: Duration::ZERO,
            num_uses: 0,
            limits: self.settings.ttl,
            sudo: true,
        }
    }
}

/// Counts restores and accepted rollbacks.
const FIRST_GENERATION: u64 = 1;
/// Epoch of a new seal file.
const FIRST_EPOCH: u64 = 1;
