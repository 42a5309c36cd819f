use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use kista::{
    config::{Config, Listener, Transport},
    http,
};

use super::Options;
use crate::{
    commands::checkup::{self, Check, machine},
    failure::{Exit, Failure},
    output::Output,
};

/// Look whether a server would start with this configuration, without starting it.
///
/// The file and the flags are read as `kista server` reads them; the certificate is loaded with its
/// key, and what the configuration names is looked at. Run it as the user of the server.
///
/// Ends with 0, with 2 where the configuration is wrong, and with 10 where a line says fail.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  \
                         sudo -u kista kista server check --config /etc/kista/kista.toml")]
pub(crate) struct CheckCommand {
    #[command(flatten)]
    options: Options,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

impl CheckCommand {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let file: Option<PathBuf> = self.options.config.clone();
        let config = self.options.load()?;
        let named = file.map_or("the flags alone".to_owned(), |file| file.display().to_string());
        let mut checks = vec![Check::ok("config", named), listener(&config)];
        checks.extend(machine::checks(&config));
        checkup::report(&checks, Output::new(self.json))
    }
}

/// Whether it could listen with these certificates, at any port of the address: its own may be taken
/// by the server that runs.
fn listener(config: &Config) -> Check {
    let address = config.listener.address;
    let any = Listener { address: SocketAddr::new(address.ip(), 0), ..config.listener.clone() };
    match http::Server::bind(&any, config.limits) {
        Err(error) => Check::fail(
            "listener",
            Failure::of(&error).message,
            "tls_cert is a chain in PEM, the server's own first, and tls_key its key; the address is one \
             of this machine",
        ),
        Ok(_) => match &config.listener.transport {
            Transport::Tls(tls) => Check::ok(
                "listener",
                format!("https://{address} with {}", tls.certificate.display()),
            ),
            Transport::Plain => Check::warn(
                "listener",
                format!("http://{address}: plain HTTP, on this machine alone"),
                "tls_cert and tls_key make it HTTPS",
            ),
        },
    }
}
