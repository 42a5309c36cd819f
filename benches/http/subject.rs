//! The vault under measurement: a whole server over HTTPS, in this process.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kista::{
    clock::SystemClock,
    config::{self, Freshness, Limits, Listener, Transport, Verify},
    http::{Certificates, Server},
    mount::NewMount,
    pipeline::Kista,
    seal::{NewSlot, Secret, ShareCounts},
    token::TtlLimits,
    vault::{Settings, Vault},
};
use tokio::runtime::Runtime;

use crate::load;

/// A vault under measurement.
pub(crate) struct Subject {
    pub(crate) address: SocketAddr,
    pub(crate) kista: Kista,
    pub(crate) token: String,
    ca: PathBuf,
}

impl Subject {
    pub(crate) fn start(
        runtime: &Runtime,
        data: &Path,
        certificates: &Certificates,
        audit: Option<PathBuf>,
        freshness: Freshness,
    ) -> Result<Self, Box<dyn Error>> {
        let month = Duration::from_secs(768 * 3600);
        let settings = Settings {
            audit_file: audit.map(|path| config::AuditFile {
                path,
                hash_paths: false,
                format: config::AuditFormat::Json,
            }),
            verify: Verify { freshness, ..Verify::default() },
            ..Settings::new(data.to_owned(), TtlLimits { default: month, max: month })
        };
        let vault = Vault::start(settings, Arc::new(SystemClock))?;
        let listener = Listener {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            transport: Transport::Tls(config::Tls {
                certificate: certificates.server.clone(),
                key: certificates.server.clone(),
                client_ca: None,
            }),
        };
        runtime
            .block_on(async {
                let slot = NewSlot::Shares(ShareCounts::new(1, 1)?);
                let mut made = vault.initialize(vec![slot]).await?;
                vault.unseal(Secret::Shares(made.shares.remove(0))).await?;
                let open = vault.unsealed().ok_or("still sealed")?;
                let mount = NewMount { kind: "kv-v2".to_owned(), ..NewMount::default() };
                open.mounts.enable("secret/", mount).await?;
                let mount = NewMount { kind: "transit".to_owned(), ..NewMount::default() };
                open.mounts.enable("transit/", mount).await?;
                drop(open);
                // The whole load comes from one address.
                let most = NonZeroU32::new(8_192).ok_or("no connections")?;
                let limits =
                    Limits { connections: most, connections_per_source: most, ..Limits::default() };
                let server = Server::bind(&listener, limits)?;
                let address = server.local_addr();
                let kista = Kista::new(vault);
                tokio::spawn(server.run(kista.clone(), std::future::pending()));
                let token = made.root_token.expose(str::to_owned);
                let subject = Self { address, kista, token, ca: certificates.authority.clone() };
                Ok(subject)
            })
            .and_then(|subject: Self| {
                subject.fill()?;
                Ok(subject)
            })
    }

    /// Sequence of the newest commit, each of which is one sync.
    pub(crate) fn commits(&self) -> u64 {
        self.kista.vault().unsealed().map_or(0, |open| open.ground.barrier.position().seq)
    }

    /// Writes what is read, and makes the key that encrypts.
    fn fill(&self) -> io::Result<()> {
        let body = format!("{{\"data\":{{\"value\":\"{}\"}}}}", "x".repeat(300));
        for (path, body) in [(crate::PATH, body), (load::ENCRYPT, load::encrypt_body())] {
            load::once(self.address, &self.ca, &self.token, ("POST", path), &body)?;
        }
        Ok(())
    }
}
