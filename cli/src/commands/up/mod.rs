//! From nothing to a server that is ready to be used, in one command.
//!
//! - `places.rs`: where everything is kept
//! - `first.rs`, `kit.rs`: the first start, and the shares on paper
//! - `dev.rs`: the same in memory alone, for tests

mod dev;
mod first;
mod kit;
mod places;

use std::{
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::Args;
use kista::{
    clock::{Clock, SystemClock},
    config::{Config, Overrides},
    http::Certificates,
    pipeline::Kista,
    secret::SecretString,
};

use self::places::{Places, shown};
use super::serve;
use crate::{
    context::{self, Context, LOCAL},
    failure::{Exit, Failure},
    files,
    folders::Folders,
    logging, output,
    trust::Trust,
};

/// Make a store, its keys and certificates, and serve it; again: serve what is there.
///
/// Everything goes into the user's folders ($XDG_DATA_HOME/kista, $XDG_CONFIG_HOME/kista and
/// $XDG_STATE_HOME/kista), nothing into the current one. It asks nothing. The store opens with a
/// keyfile that is kept apart from it; the shares in the recovery kit open it without.
///
/// --dev keeps everything in memory, for tests: nothing on disk, no context, another port each time. It
/// prints how to reach it as lines for eval, or with --json as one object.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista up\n  \
                         kista up --context test --data /tmp/test --listen 127.0.0.1:8300\n  \
                         kista up --dev")]
pub(crate) struct Up {
    /// Folder of the store [default: $XDG_DATA_HOME/kista, or what the context remembers]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:8200]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Context to make; each store has one of its own [default: local]
    #[arg(long, value_name = "NAME", env = "KISTA_CONTEXT")]
    context: Option<String>,
    /// error, warn, info, debug or trace [default: warn]
    #[arg(long, value_name = "L")]
    log_level: Option<String>,
    /// In memory alone, for tests
    #[arg(long, conflicts_with = "data")]
    dev: bool,
    /// Print how to reach it as JSON, one object
    #[arg(long, requires = "dev")]
    json: bool,
}

impl Up {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        if self.dev {
            return dev::run(self.listen, self.log_level, self.json).await;
        }
        let name = self.context.as_deref().unwrap_or(LOCAL);
        context::check_name(name)?;
        let folders = Folders::of_user()?;
        let known = Context::load(&folders, name)?;
        let places = Places::find(&folders, name, self.data.as_deref(), known.as_ref())?;
        let config = self.config(&places)?;
        logging::start(config.log_level);
        let certificates = prepare(&places, config.listener.address)?;
        let (server, kista) = serve::start(&config).await?;
        let mut context = Context {
            name: places.context.clone(),
            address: address_for_clients(server.local_addr()),
            token: None,
            trust: Trust { ca_file: Some(certificates.authority.clone()), certificate_file: None },
            store: None,
            data: Some(places.data.clone()),
        };
        let is_first = !kista.vault().status().is_initialized;
        if is_first {
            refuse_if_store_is_missing(&places, known.as_ref())?;
            // Kept without a token first: an earlier store's would be taken for this one's by the
            // start that follows a crash.
            context.save(&folders)?;
            context.token = Some(first::start(&kista, &places).await?);
        } else {
            context.store = known.as_ref().and_then(|known| known.store.clone());
            context.token = again(&kista, &places, known).await?;
        }
        // A sealed store does not tell its name.
        context.store = kista.vault().status().cluster_id.or(context.store);
        context.save(&folders)?;
        tell(&places, &certificates, &context, is_first);
        let is_sealed = kista.vault().status().is_sealed;
        output::note(&format!("  Next: {}", next(name, is_sealed)));
        serve::run(server, kista).await
    }

    fn config(&self, places: &Places) -> Result<Config, Failure> {
        config(places, self.listen.clone(), self.log_level.clone())
    }
}

/// What serves the store of a context that `up` has made, and where its recovery kit was.
pub(super) fn configuration(
    folders: &Folders,
    context: &Context,
) -> Result<(Config, PathBuf), Failure> {
    let places = Places::find(folders, &context.name, None, Some(context))?;
    Ok((config(&places, None, None)?, places.kit))
}

fn config(
    places: &Places,
    listen: Option<String>,
    log_level: Option<String>,
) -> Result<Config, Failure> {
    let server = places.certificates.join("server.pem");
    let overrides = Overrides {
        data: Some(places.data.clone()),
        listen,
        tls_cert: Some(server.clone()),
        tls_key: Some(server),
        log_level: Some(log_level.unwrap_or_else(|| "warn".to_owned())),
        seal_keyfile: Some(places.keyfile.clone()),
        audit_file: Some(places.audit.clone()),
        ..Overrides::default()
    };
    Config::load(None, overrides).map_err(|error| Failure::of(&error).exit(Exit::Usage))
}

/// Makes the folders and the certificates.
fn prepare(places: &Places, address: SocketAddr) -> Result<Certificates, Failure> {
    for file in [&places.keyfile, &places.audit] {
        if let Some(folder) = file.parent() {
            files::make_folder(folder)?;
        }
    }
    Certificates::ensure(&places.certificates, &names_of(address), SystemClock.now())
        .map_err(|error| Failure::of(&error))
}

/// The names of a certificate beyond those of this machine.
fn names_of(address: SocketAddr) -> Vec<String> {
    if address.ip().is_unspecified() || address.ip().is_loopback() {
        return Vec::new();
    }
    vec![address.ip().to_string()]
}

/// A context with a token is that of a store that was finished. A disk that is not mounted must not
/// be taken for a first start, whose token would replace that store's.
fn refuse_if_store_is_missing(places: &Places, known: Option<&Context>) -> Result<(), Failure> {
    if known.is_none_or(|context| context.token.is_none()) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the context {:?} is that of a store which is not in {}",
        places.context,
        places.data.display()
    ))
    .hint(format!(
        "mount or put back that folder; or, if the store is gone for good, remove {} and start \
         again",
        places.context_file.display()
    )))
}

/// Opens the store that is there, and returns the token that its context shall have. A root token
/// that was not kept is made anew: whoever has the data folder and the keyfile may do everything
/// anyway.
async fn again(
    kista: &Kista,
    places: &Places,
    known: Option<Context>,
) -> Result<Option<SecretString>, Failure> {
    let mut token = known.and_then(|context| context.token);
    if let Err(failure) = serve::unseal(kista, &places.keyfile).await {
        output::warn(&format!(
            "the store stays sealed: {}\n  its shares open it: kista operator unseal",
            failure.message
        ));
    } else if token.is_none() {
        token = kista.vault().mint_root().await.map_err(|error| Failure::of(&error))?;
        first::mount_secrets(kista).await?;
        output::note("  The context held no token: it has a new root token now");
    }
    Ok(token)
}

/// The address by which this machine reaches the listener.
fn address_for_clients(bound: SocketAddr) -> String {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    format!("https://{}", SocketAddr::new(ip, bound.port()))
}

/// Says what there is, where, and what to type next.
fn tell(places: &Places, certificates: &Certificates, context: &Context, is_first: bool) {
    let name = &places.context;
    if is_first {
        output::note(&format!("  First start: data in {}", shown(&places.data)));
        output::note(&format!(
            "  Seal: keyfile {} (opens at start) and {} shares, {} of which open",
            shown(&places.keyfile),
            first::SHARES,
            first::THRESHOLD
        ));
        output::note(&format!(
            "  ! The shares are in {} (0600). Print it, move it off this machine, delete it.",
            shown(&places.kit)
        ));
        output::note(&format!(
            "  Audit: {}      Root token: in context {name:?} (0600)",
            shown(&places.audit)
        ));
    } else {
        output::note(&format!("  Serving the store in {}", shown(&places.data)));
        remind(places);
    }
    output::note(&format!(
        "  Listening on {}   certificate by a CA of its own, trusted in context {name:?}:",
        context.address
    ));
    output::note(&format!("    SHA-256 {}", certificates.server_fingerprint));
}

/// Says what the first start left to do.
fn remind(places: &Places) {
    if places.kit_pending.exists() {
        output::warn(&format!(
            "the first start was cut off while it made the recovery kit: unless {} holds {} \
             shares,\n  only the keyfile {} opens this store. Keep a copy of it elsewhere; or, if \
             the store is\n  still empty, remove {} and start again. If the kit is whole, remove \
             {}",
            shown(&places.kit),
            first::SHARES,
            shown(&places.keyfile),
            shown(&places.data),
            shown(&places.kit_pending)
        ));
    } else if places.kit.exists() {
        output::note(&format!(
            "  ! The recovery kit is still in {}. Print it, move it off this machine, delete it.",
            shown(&places.kit)
        ));
    }
}

fn next(name: &str, is_sealed: bool) -> String {
    let install = if runs_from_a_build() { "cargo install --path cli       " } else { "" };
    let set = if name == LOCAL {
        "eval \"$(kista context env)\"".to_owned()
    } else {
        format!("export KISTA_CONTEXT={name}")
    };
    let act = if is_sealed { "kista operator unseal" } else { "kista put secret/app/db" };
    format!("{install}{set}       {act}")
}

/// Whether this is `cargo run`, so that `kista` is not on the PATH yet.
fn runs_from_a_build() -> bool {
    let program = env::current_exe().ok();
    let folder = program.as_deref().and_then(Path::parent);
    folder.is_some_and(|folder| {
        folder.ends_with("target/release") || folder.ends_with("target/debug")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_on_loopback() {
        let reached = |bound: &str| address_for_clients(bound.parse().unwrap());
        assert_eq!(reached("0.0.0.0:8200"), "https://127.0.0.1:8200");
        assert_eq!(reached("[::]:8200"), "https://[::1]:8200");
        assert_eq!(reached("10.1.2.3:443"), "https://10.1.2.3:443");
    }
}
