use clap::{Args, Subcommand};
use kista::{
    client::{Error, Fields, Initialised, JsonValue, SealStatus, UnsealKey},
    secret::SecretString,
};

use super::{
    accept_rollback::AcceptRollback,
    compact::Compact,
    rekey::RekeyArguments,
    repair::Repair,
    rotate::{Rotate, ShowKeyStatus},
    slot::SlotArguments,
    status,
    verify::Verify,
};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Cell, Output, Sight},
    prompt::{self, Person, new_passphrase},
    server::Server,
};

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    Init(Init),
    Unseal(Unseal),
    Seal(Seal),
    Verify(Verify),
    Rotate(Rotate),
    Rekey(RekeyArguments),
    Slot(SlotArguments),
    AcceptRollback(AcceptRollback),
    KeyStatus(ShowKeyStatus),
    Compact(Compact),
    Repair(Repair),
}

impl OperatorCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Init(init) => init.run().await,
            Self::Unseal(unseal) => unseal.run().await,
            Self::Seal(seal) => seal.run().await,
            Self::Verify(verify) => verify.run().await,
            Self::Rotate(rotate) => rotate.run().await,
            Self::Rekey(rekey) => rekey.run().await,
            Self::Slot(slot) => slot.run().await,
            Self::AcceptRollback(accept) => accept.run().await,
            Self::KeyStatus(status) => status.run().await,
            Self::Compact(compact) => compact.run().await,
            Self::Repair(repair) => repair.run(),
        }
    }
}

/// Make the store of a new server, and print its shares and root token. Once.
///
/// --json prints `unseal_keys_b64`, `unseal_keys_hex`, `unseal_shares`, `unseal_threshold` and
/// `root_token`, as Vault's command does.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator init --shares 5 --threshold 3")]
pub(crate) struct Init {
    /// Shares to make
    #[arg(long, alias = "key-shares", value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u8).range(1..))]
    shares: u8,
    /// Shares that open the vault together
    #[arg(long, alias = "key-threshold", value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..))]
    threshold: u8,
    /// Open the vault with a passphrase in place of shares; asked for, or read from stdin
    #[arg(long, conflicts_with_all = ["shares", "threshold"])]
    passphrase: bool,
    /// Ask for nothing: read stdin
    #[arg(long)]
    no_input: bool,
    #[command(flatten)]
    server: ServerArguments,
}

impl Init {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let made = if self.passphrase {
            let passphrase = new_passphrase(Person::look(self.no_input))?;
            server.client.sys().init_with_passphrase(&passphrase).await
        } else {
            server.client.sys().init(self.shares, self.threshold).await
        };
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                let failure = server.explain("initialise", error).await;
                return Err(if failure.message.contains("already initialized") {
                    failure.hint("kista status")
                } else {
                    failure
                });
            }
        };
        self.print(&made).map_err(|failure| {
            failure.hint(
                "the shares and the token are lost with it; the store is still empty, so remove \
                 the server's data folder, start it again and repeat this",
            )
        })?;
        output::note(&if self.passphrase {
            "The token is shown once and kept nowhere; the passphrase opens the vault.\n\
             next:  kista operator unseal --passphrase"
                .to_owned()
        } else {
            format!(
                "These are shown once and kept nowhere. Give each share to another person; {} of \
                 them open the vault.\nnext:  kista operator unseal",
                self.threshold
            )
        });
        Ok(Exit::Done)
    }

    fn print(&self, made: &Initialised) -> Result<(), Failure> {
        let output = Output::new(self.server.json).once();
        if output.wants_json() {
            let mut object = Fields::new();
            object.set("unseal_keys_b64", strings(&made.keys_base64));
            object.set("unseal_keys_hex", strings(&made.keys));
            let count = |number: u8| output::json(if self.passphrase { &0 } else { &number });
            object.set("unseal_shares", count(self.shares)?);
            object.set("unseal_threshold", count(self.threshold)?);
            object.set("root_token", JsonValue::string(&made.root_token));
            return output.object(&object);
        }
        let shown = |secret: &SecretString| {
            Cell::Secret(secret.expose(SecretString::copy_of), Sight::Shown)
        };
        let mut rows: Vec<_> = (1..)
            .zip(&made.keys_base64)
            .map(|(n, share)| [Cell::Plain(format!("share {n}")), shown(share)])
            .collect();
        rows.push([Cell::Plain("root token".to_owned()), shown(&made.root_token)]);
        output.table(["WHAT", "VALUE"], &rows)
    }
}

fn strings(secrets: &[SecretString]) -> JsonValue {
    JsonValue::list(&secrets.iter().map(JsonValue::string).collect::<Vec<_>>())
}

/// Give a share, or the passphrase, to a sealed server.
///
/// Asks for one share, not shown while it is typed. From a stdin that is not a terminal it takes a
/// share from each line until the vault is open. Never from the command line, which the process
/// list shows.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator unseal\n  \
                         kista operator unseal --passphrase < passphrase.txt")]
pub(crate) struct Unseal {
    /// Give the passphrase of a slot instead of a share
    #[arg(long)]
    passphrase: bool,
    /// Ask for nothing: read stdin
    #[arg(long)]
    no_input: bool,
    #[command(flatten)]
    server: ServerArguments,
}

impl Unseal {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        // Asked first, so that nobody types a share for a server that is not there or is open.
        let before = match server.client.sys().seal_status().await {
            Ok(status) => status,
            Err(error) => return Err(server.explain("unseal", error).await),
        };
        if !before.initialized {
            return Err(Failure::new("cannot unseal: the vault is not initialised")
                .hint("kista operator init")
                .exit(Exit::Unavailable));
        }
        let output = Output::new(self.server.json);
        if !before.sealed {
            output::note("the vault is unsealed already");
            status::print(&server, &before, output)?;
            return Ok(Exit::Done);
        }
        let after = self.give(&server, &before).await?;
        status::print(&server, &after, output)?;
        Ok(Exit::Done)
    }

    async fn give(&self, server: &Server, before: &SealStatus) -> Result<SealStatus, Failure> {
        let person = Person::look(self.no_input);
        match (person, self.passphrase) {
            (Person::Present, true) => {
                let passphrase = person.hidden("passphrase", "")?;
                give_one(server, UnsealKey::Passphrase(passphrase)).await
            }
            (Person::Present, false) => {
                let label = format!("share {} of {}", before.progress + 1, before.threshold);
                give_one(server, UnsealKey::Share(person.hidden(&label, "")?)).await
            }
            (Person::Absent, true) => {
                give_one(server, UnsealKey::Passphrase(prompt::stdin_text()?)).await
            }
            (Person::Absent, false) => give_lines(server, &prompt::stdin_text()?).await,
        }
    }
}

/// Gives a share from each line until the vault is open.
async fn give_lines(server: &Server, text: &SecretString) -> Result<SealStatus, Failure> {
    let shares: Vec<SecretString> = text.expose(|text| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(SecretString::copy_of).collect()
    });
    let mut last = None;
    for share in shares {
        let status = give_one(server, UnsealKey::Share(share)).await?;
        let open = !status.sealed;
        last = Some(status);
        if open {
            break;
        }
    }
    last.ok_or_else(|| {
        Failure::usage("stdin holds no share")
            .hint("give one on each line, or run it in a terminal")
    })
}

async fn give_one(server: &Server, key: UnsealKey) -> Result<SealStatus, Failure> {
    let is_share = matches!(key, UnsealKey::Share(_));
    match server.client.sys().unseal(key).await {
        Ok(status) => Ok(status),
        Err(error) => {
            let is_refused = matches!(error, Error::Other { status: 400, .. });
            let failure = server.explain("unseal", error).await;
            Err(if is_refused && is_share {
                failure
                    .hint("kista status shows how many shares count; after a wrong set none does")
            } else {
                failure
            })
        }
    }
}

/// Seal the server: its keys leave its memory, and it serves nothing until it is unsealed.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator seal")]
pub(crate) struct Seal {
    #[command(flatten)]
    server: ServerArguments,
}

impl Seal {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        if let Err(error) = server.client.sys().seal().await {
            return Err(server.explain("seal", error).await);
        }
        let output = Output::new(self.server.json);
        if output.wants_json() {
            match server.client.sys().seal_status().await {
                Ok(status) => status::print(&server, &status, output)?,
                Err(error) => return Err(server.explain("ask whether it is sealed", error).await),
            }
        }
        output::note("the vault is sealed\nnext:  kista operator unseal");
        Ok(Exit::Done)
    }
}
