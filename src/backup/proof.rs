use std::{path::Path, sync::Arc};

use crate::{
    barrier::{Finding, Pace, Progress, Reads, ScanError},
    clock::Clock,
    seal::Secret,
    secret::SecretString,
    token::TtlLimits,
    vault::{Settings, StartError, UnsealError, Vault},
};

/// What opens a store.
#[derive(Debug)]
pub enum Key {
    /// The secret of a slot.
    Secret(Secret),
    /// Shares as they are written, as many as are needed.
    Shares(Vec<SecretString>),
}

/// What a proof has come to.
#[derive(Debug)]
pub struct Proven {
    /// Records opened.
    pub records: u64,
    /// What is wrong with them; nothing when all is well.
    pub findings: Vec<Finding>,
}

/// Why a restored store does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Its files cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It does not open.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// The shares are not enough.
    #[error("the shares are too few to open it")]
    SharesMissing,
    /// It broke off.
    #[error(transparent)]
    Scan(#[from] ScanError),
}

/// Opens a restored store as a server would, opens every record in it, and holds them against the
/// newest commit. The store goes on in the next generation then.
///
/// # Errors
/// [`ProofError`]; what is wrong with records is a finding.
pub async fn prove(
    folder: &Path,
    key: Key,
    clock: Arc<dyn Clock>,
    progress: &Progress,
) -> Result<Proven, ProofError> {
    // Nothing is leased here, and nobody is answered, so that no audit device is needed.
    let settings = Settings::new(folder.to_owned(), TtlLimits::default());
    let vault = tokio::task::spawn_blocking(|| Vault::start(settings, clock))
        .await
        .map_err(UnsealError::from)??;
    match key {
        Key::Secret(secret) => vault.unseal(secret).await?,
        Key::Shares(shares) => {
            for share in shares {
                let share = share.expose(str::to_owned);
                vault.submit_share(&share).await?;
            }
        }
    }
    let open = vault.unsealed().ok_or(ProofError::SharesMissing)?;
    let scanned = open.ground.barrier.scan(Pace::Full, Reads::Unchecked, progress).await;
    drop(open);
    vault.seal().await;
    let scanned = scanned?;
    Ok(Proven { records: scanned.records, findings: scanned.findings })
}
