//! `kista encrypt`, `decrypt` and `rewrap`: values by a vault, files here with a key that it wraps.
//!
//! - `value.rs`: one value, or one on each line
//! - `local.rs`: files, in constant memory
//! - `copying.rs`: streams from one end to the other, until somebody presses Ctrl-C

mod copying;
mod local;
mod value;

use std::path::PathBuf;

use clap::Args;
use data_encoding::BASE64;
use kista::client::{Binding, LocalError};

use super::keys::{MountArguments, TransitMount};
use crate::failure::{Exit, Failure};

/// Encrypt a value, or with --local a file.
///
/// The value comes from a file or from stdin, to its last byte (`echo` ends what it writes with a
/// line break, `printf %s` does not), and is hidden where it is typed. The ciphertext is printed.
///
/// With --local a file of any size is encrypted here, under a key of its own that the vault makes
/// and wraps: the vault is asked once, and sees nothing of the file. Its key must be of type
/// aes256-gcm-committing, which `kista key create` makes. With --passphrase no vault is asked.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  printf %s ana@x.org | kista encrypt --key pii\n  \
                         kista encrypt --key pii --batch emails.txt > emails.enc\n  \
                         kista encrypt --key pii --local dump.sql -o dump.sql.kista\n  \
                         kista encrypt --passphrase --local dump.sql -o dump.sql.kista")]
pub(crate) struct Encrypt {
    /// What holds the value; stdin (-) if it is left out
    file: Option<PathBuf>,
    /// The key
    #[arg(long, value_name = "NAME", required_unless_present = "passphrase")]
    key: Option<String>,
    /// One value on each line; a line for each comes back
    #[arg(long, conflicts_with = "local")]
    batch: bool,
    /// Encrypt the file here, in constant memory
    #[arg(long)]
    local: bool,
    /// With --local: for a passphrase instead of a key; asked for, or read from stdin
    #[arg(long, requires = "local", conflicts_with_all = ["key", "key_context"])]
    passphrase: bool,
    #[command(flatten)]
    binding: BindingArguments,
    #[command(flatten)]
    out: OutArguments,
    #[command(flatten)]
    mount: MountArguments,
}

/// Decrypt a value, or with --local a file.
///
/// The ciphertext is an argument or comes from stdin. The value is printed as it is, with a line
/// break at its end only where a person reads it; --json prints it in base64.
///
/// With --local a file is decrypted here. It gets its name once all of it has been verified; what
/// is printed instead is unverified until the exit code is 0.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista decrypt --key pii vault:v1:…\n  \
                         kista decrypt --key pii --batch < emails.enc\n  \
                         kista decrypt --local dump.sql.kista -o dump.sql\n  \
                         kista decrypt --local dump.sql.kista | psql -1 app")]
pub(crate) struct Decrypt {
    /// The ciphertext, or with --local or --batch the file; stdin (-) if it is left out
    #[arg(value_name = "CIPHERTEXT|FILE")]
    what: Option<PathBuf>,
    /// The key; with --local the file names it
    #[arg(long, value_name = "NAME", required_unless_present = "local")]
    key: Option<String>,
    /// One ciphertext on each line; a line for each comes back
    #[arg(long, conflicts_with = "local")]
    batch: bool,
    /// Decrypt a file here, in constant memory
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    binding: BindingArguments,
    #[command(flatten)]
    out: OutArguments,
    #[command(flatten)]
    mount: MountArguments,
}

/// Bring a ciphertext under the newest version of its key. The value is not seen.
///
/// The ciphertext is an argument or comes from stdin. Whether it was under an older version is told
/// on stderr.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista rewrap --key pii vault:v1:…\n  \
                         kista rewrap --key pii --batch emails.enc > emails.new")]
pub(crate) struct Rewrap {
    /// The ciphertext, or with --batch the file; stdin (-) if it is left out
    #[arg(value_name = "CIPHERTEXT|FILE")]
    what: Option<PathBuf>,
    /// The key
    #[arg(long, value_name = "NAME")]
    key: String,
    /// One ciphertext on each line; a line for each comes back
    #[arg(long)]
    batch: bool,
    #[command(flatten)]
    binding: BindingArguments,
    #[command(flatten)]
    mount: MountArguments,
}

/// What a ciphertext is bound to.
#[derive(Debug, Args)]
struct BindingArguments {
    /// What the value's own key is derived from, in base64; for keys made with --derived
    #[arg(long, value_name = "B64")]
    key_context: Option<String>,
    /// What the ciphertext belongs to, such as the id of a row: without it nothing decrypts. It is
    /// no secret
    #[arg(long, value_name = "TEXT", default_value = "")]
    aad: String,
}

/// Where it goes.
#[derive(Debug, Default, Args)]
struct OutArguments {
    /// A new file, for you alone; nothing is printed
    #[arg(short, long, value_name = "FILE", conflicts_with = "batch")]
    out: Option<PathBuf>,
    /// Replace that file if it is there
    #[arg(long, requires = "out")]
    force: bool,
}

/// The same, read.
#[derive(Debug)]
struct Bound {
    context: Vec<u8>,
    aad: String,
}

impl Encrypt {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        if self.local { local::encrypt(self).await } else { value::encrypt(self).await }
    }
}

impl Decrypt {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        if self.local { local::decrypt(self).await } else { value::decrypt(self).await }
    }
}

impl Rewrap {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        value::rewrap(self).await
    }
}

impl BindingArguments {
    fn read(&self) -> Result<Bound, Failure> {
        let context = self.key_context.as_deref().unwrap_or_default();
        let context = BASE64
            .decode(context.as_bytes())
            .map_err(|_| Failure::usage("--key-context is not base64"))?;
        Ok(Bound { context, aad: self.aad.clone() })
    }
}

impl Bound {
    /// As a call takes it.
    fn lend(&self) -> Binding<'_> {
        Binding { context: &self.context, associated_data: self.aad.as_bytes() }
    }
}

/// Says why a vault did not take part in what is done here.
async fn explain_local(mount: &TransitMount, doing: &str, error: LocalError) -> Failure {
    match error {
        LocalError::Call(error) => explain(mount, doing, error).await,
        error @ LocalError::NotCommitting(_) => Failure::new(format!("cannot {doing}: {error}"))
            .hint(
                "kista key create NAME makes one; a key of another type encrypts values on the \
                   server, without --local",
            ),
        LocalError::OtherKey { mount, key } => Failure::new(format!(
            "cannot {doing}: it says that its key is wrapped by {key} of {mount}/"
        ))
        .hint(format!("if it may ask for that key: --mount {mount} --key {key}")),
        error @ LocalError::OpenFailed(_) => {
            Failure::new(format!("cannot {doing}: {error}")).hint(OTHER_BINDING)
        }
        error @ (LocalError::NotSealed | LocalError::Header(_) | _) => {
            Failure::new(format!("cannot {doing}: {error}"))
        }
    }
}

/// Says why a vault did not do it.
async fn explain(mount: &TransitMount, doing: &str, error: kista::client::Error) -> Failure {
    let failure = mount.explain(doing, error).await;
    let is_closed = failure.message.contains("message authentication failed");
    if is_closed && failure.hint.is_none() { failure.hint(OTHER_BINDING) } else { failure }
}

const OTHER_BINDING: &str = "it was changed, or was made with another key, --key-context or --aad";
