//! `kista server`: serving a store, and what comes before.
//!
//! - `check.rs`: whether it would start
//! - `install.rs`: the unit that starts it

mod check;
mod install;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kista::config::{Config, Overrides};

use self::{check::CheckCommand, install::Install};
use super::serve;
use crate::{
    failure::{Exit, Failure},
    hygiene, logging,
};

/// Serve a store in the foreground. It starts sealed, or not initialised.
///
/// A flag beats the configuration file. SIGTERM and ctrl-C let running requests end, then stop;
/// a second one stops at once.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  \
    kista server --data /var/lib/kista --tls-cert cert.pem --tls-key key.pem\n  \
    kista server --config /etc/kista/kista.toml",
    after_long_help = CONFIGURATION,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true)]
pub(crate) struct Serve {
    #[command(subcommand)]
    command: Option<ServerCommand>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum ServerCommand {
    Check(CheckCommand),
    Install(Install),
}

/// What a server runs with, as it is typed.
#[derive(Debug, Args)]
struct Options {
    /// TOML file with everything below, audit devices and limits
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:8200]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Folder of the store
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// PEM file of the certificate chain, the server's own first
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the private key
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// PEM file of CAs whose names are offered to clients with certificates; trusts nobody
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Lifetime of a token or lease that asks for none [default: 768h]
    #[arg(long, value_name = "DUR")]
    default_lease_ttl: Option<String>,
    /// Longest lifetime of a token or lease [default: 768h]
    #[arg(long, value_name = "DUR")]
    max_lease_ttl: Option<String>,
    /// Serve plain HTTP, on a loopback address only
    #[arg(long)]
    insecure_http: bool,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "L")]
    log_level: Option<String>,
}

impl Serve {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self.command {
            None => serve(self.options).await,
            Some(ServerCommand::Check(check)) => check.run(),
            Some(ServerCommand::Install(install)) => install.run(),
        }
    }
}

impl Options {
    /// The configuration, of a file that others may not change.
    fn load(self) -> Result<Config, Failure> {
        let (file, overrides) = self.split();
        if let Some(file) = &file {
            hygiene::guard_configuration(file)?;
        }
        Config::load(file.as_deref(), overrides).map_err(|error| {
            Failure::of(&error)
                .hint("kista server --help shows a configuration; without one: kista up")
                .exit(Exit::Usage)
        })
    }

    /// The configuration file, and the flags that beat it.
    fn split(self) -> (Option<PathBuf>, Overrides) {
        let overrides = Overrides {
            data: self.data,
            listen: self.listen,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            tls_client_ca: self.tls_client_ca,
            insecure_http: self.insecure_http,
            default_lease_ttl: self.default_lease_ttl,
            max_lease_ttl: self.max_lease_ttl,
            log_level: self.log_level,
            ..Overrides::default()
        };
        (self.config, overrides)
    }
}

async fn serve(options: Options) -> Result<Exit, Failure> {
    let config = options.load()?;
    logging::start(config.log_level);
    let (server, kista) = serve::start(&config).await?;
    if let Some(keyfile) = &config.seal_keyfile
        && kista.vault().status().is_initialized
        && let Err(failure) = serve::unseal(&kista, keyfile).await
    {
        // It can still be unsealed by other means, so it serves.
        tracing::error!(reason = failure.message, "the store stays sealed");
    }
    if let Err(failure) = serve::unseal_automatically(&kista, &config).await {
        tracing::error!(reason = failure.message, "the store stays sealed");
    }
    tracing::info!(address = %server.local_addr(), "listening");
    serve::run(server, kista).await
}

/// What a configuration file looks like; the whole of it is documented at `kista::config`.
const CONFIGURATION: &str = "\
The configuration file; all but `data` and the listener's files has a default:
  data = \"/var/lib/kista\"
  memory_lock = \"required\"    # do not start where keys could be written to swap
  anchor = [{ path = \"/mnt/other/kista.anchor\" }]    # see below
  anchor_policy = \"warn\"
  [listener]
  address = \"0.0.0.0:8200\"
  tls_cert = \"/etc/kista/server.pem\"
  tls_key = \"/etc/kista/server.key\"
  [audit.file]
  path = \"/var/log/kista/audit.log\"
  [seal]
  keyfile = \"/etc/kista/seal.key\"    # opens the store at start, if it has a slot for it
A slot of a systemd credential opens it too, if the service has the credential.

An anchor is a file in a folder that the server may write, and that nobody may who can write the
data folder: another machine's share, or a disk of its own. It keeps where the store stood, and
FILE.checkpoint beside it how far the audit file went, so that an older copy of the data folder
does not pass for the newer one. Name one or more, restart, unseal: the first time `kista status`
warns that it is missing, then it is there. With anchor_policy = \"required\" the store stays
sealed without one. What kista status says of them:
  rollback_detected           the store is older: kista operator accept-rollback, if you want it
  anchor_failing              it cannot be written: what comes now could be rolled back unseen
  anchor_unusable             it was missing or damaged when the store was opened
  anchor_checkpoint_unusable  the same of FILE.checkpoint
  anchor_stale                it is older than what the store can tell
  audit_truncated             the audit file ends before what store or anchor know of

Then, from another terminal: kista operator init, kista operator unseal.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_the_help_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kista.toml");
        let lines = CONFIGURATION.lines().take_while(|line| !line.is_empty());
        let lines = lines.filter_map(|line| line.strip_prefix("  "));
        std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
        let config = Config::load(Some(&file), Overrides::default()).unwrap();
        assert!(config.audit_file.is_some() && config.seal_keyfile.is_some());
    }
}
