//! What `up` and `server` share: opening a data folder, and serving it until a signal comes.

use std::{path::Path, process, sync::Arc};

use kista::{
    clock::SystemClock,
    config::Config,
    disk::Disk,
    http::Server,
    pipeline::Kista,
    seal::{self, Providers, Secret, SlotType, keyfile},
    storage::Options,
    token::TtlLimits,
    vault::{Settings, Vault},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    failure::{Exit, Failure},
    hygiene,
};

/// Looks at what it stands on, binds the address, then takes possession of the data folder. The
/// port comes first: when it is taken, nothing has been touched.
pub(super) async fn start(config: &Config) -> Result<(Server, Kista), Failure> {
    start_with(config, Options::default()).await
}

/// The same, with files laid out otherwise.
pub(super) async fn start_with(
    config: &Config,
    storage: Options,
) -> Result<(Server, Kista), Failure> {
    hygiene::guard(config)?;
    let server = Server::bind(&config.listener, config.limits).map_err(|e| Failure::of(&e))?;
    let ttl = TtlLimits { default: config.default_lease_ttl, max: config.max_lease_ttl };
    let settings = Settings {
        audit_file: config.audit_file.clone(),
        storage: Options {
            cache_bytes: config.cache_mib.map(|mib| u64::from(mib.get()) << 20),
            ..storage
        },
        verify: config.verify,
        background: config.background,
        keyfile: config.seal_keyfile.clone(),
        providers: Providers::from_environment(),
        anchors: config.anchors.clone(),
        anchor_policy: config.anchor_policy,
        ..Settings::new(config.data.clone(), ttl)
    };
    let vault = tokio::task::spawn_blocking(|| Vault::start(settings, Arc::new(SystemClock)))
        .await
        .map_err(|error| Failure::of(&error))?
        .map_err(|error| Failure::of(&error))?;
    Ok((server, Kista::new(vault)))
}

/// Opens the store with its keyfile.
pub(super) async fn unseal(kista: &Kista, file: &Path) -> Result<(), Failure> {
    let key = keyfile::read(file).map_err(|error| Failure::of(&error))?;
    kista.vault().unseal(Secret::Keyfile(key)).await.map_err(|error| Failure::of(&error))
}

/// Opens the store, if it is still sealed, by what the machine gives for its automatic slots.
pub(super) async fn unseal_automatically(kista: &Kista, config: &Config) -> Result<(), Failure> {
    let status = kista.vault().status();
    if !status.is_initialized || !status.is_sealed {
        return Ok(());
    }
    let loaded = seal::read(&Disk::real(), &config.data).map_err(|error| Failure::of(&error))?;
    if !loaded.file.slots().any(|slot| slot.slot_type == SlotType::Automatic) {
        return Ok(());
    }
    let secret = Secret::Automatic(Providers::from_environment());
    kista.vault().unseal(secret).await.map_err(|error| Failure::of(&error))
}

/// Serves until SIGTERM or ctrl-C, lets running requests end, and seals. A second signal ends the
/// process at once, as a crash would; nothing that was acknowledged is lost by it.
pub(super) async fn run(server: Server, kista: Kista) -> Result<Exit, Failure> {
    run_until(Stop::listen()?, server, kista).await
}

/// The same, with signals that have been listened for since before.
pub(super) async fn run_until(
    mut stop: Stop,
    server: Server,
    kista: Kista,
) -> Result<Exit, Failure> {
    let stopped = async move {
        stop.comes().await;
        tracing::info!("stopping");
        tokio::spawn(async move {
            stop.comes().await;
            process::exit(i32::from(Exit::Failed.code()));
        });
    };
    server.run(kista.clone(), stopped).await;
    kista.shutdown().await;
    Ok(Exit::Done)
}

/// The signals that ask a server to end.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(super) fn listen() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|error| Failure::io("wait for signals", &error));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    async fn comes(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
