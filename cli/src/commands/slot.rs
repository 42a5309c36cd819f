use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kista::{
    client::{AddedSlot, NewSlot, RekeyPlan, Slot},
    seal::keyfile,
    secret::SecretString,
};

use super::{
    rekey::{Session, names, shared},
    rotate,
};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Cell, Output, Sight},
    prompt::{Person, new_passphrase},
    server::Server,
};

/// The ways to open the vault: list, add, drop.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista operator slot ls\n  kista operator slot add passphrase\n  \
                   kista operator slot add keyfile /etc/kista/seal.key\n  \
                   kista operator slot drop 7c0d…"
)]
pub(crate) struct SlotArguments {
    #[command(subcommand)]
    command: SlotCommand,
}

#[derive(Debug, Subcommand)]
enum SlotCommand {
    Ls(List),
    Add(Add),
    Drop(Drop),
}

impl SlotArguments {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self.command {
            SlotCommand::Ls(list) => list.run().await,
            SlotCommand::Add(add) => add.run().await,
            SlotCommand::Drop(drop) => drop.run().await,
        }
    }
}

/// List the slots. Any one of them opens the vault.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator slot ls")]
struct List {
    #[command(flatten)]
    server: ServerArguments,
}

impl List {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let slots = slots(&server).await?;
        let output = Output::new(self.server.json);
        if output.wants_json() {
            #[derive(serde::Serialize)]
            struct Listed {
                slots: Vec<Slot>,
            }
            output.serialized(&Listed { slots })?;
        } else {
            let rows: Vec<_> = slots.iter().map(row).collect();
            output.table(["ID", "TYPE", "OPENS WITH", "MADE"], &rows)?;
        }
        Ok(Exit::Done)
    }
}

/// Add a slot: shares, a passphrase, a keyfile, or a systemd credential.
///
/// The other slots stay as they are. A keyfile is read here, or made when it is not there, and its
/// bytes are sent to the server; a credential is read by the server, which systemd must give it to.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator slot add passphrase\n  \
                   kista operator slot add shares --shares 5 --threshold 3\n  \
                   kista operator slot add keyfile /etc/kista/seal.key\n  \
                   kista operator slot add systemd-credential kista-root")]
struct Add {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// A passphrase; asked for, or read from stdin
    #[command(before_help = "Example:\n  kista operator slot add passphrase")]
    Passphrase {
        /// Ask for nothing: read stdin
        #[arg(long)]
        no_input: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// New shares, for a vault that has none
    #[command(before_help = "Example:\n  kista operator slot add shares --shares 5 --threshold 3")]
    Shares {
        /// Shares to make
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
        shares: u8,
        /// Shares that open the vault together
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
        threshold: u8,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// A file of 32 random bytes on this machine
    #[command(before_help = "Example:\n  kista operator slot add keyfile /etc/kista/seal.key")]
    Keyfile {
        /// The file; made when it is not there
        file: PathBuf,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// A credential that systemd gives to the server's service
    #[command(before_help = "Example:\n  kista operator slot add systemd-credential kista-root")]
    SystemdCredential {
        /// Its name, as LoadCredentialEncrypted= has it
        name: String,
        #[command(flatten)]
        server: ServerArguments,
    },
}

impl Add {
    async fn run(self) -> Result<Exit, Failure> {
        match self.kind {
            Kind::Passphrase { no_input, server } => {
                let passphrase = new_passphrase(Person::look(no_input))?;
                add(&server, NewSlot::Passphrase(&passphrase)).await
            }
            Kind::Shares { shares, threshold, server } => {
                add(&server, NewSlot::Shares(shares, threshold)).await
            }
            Kind::Keyfile { file, server } => {
                let key = read_or_make(&file)?;
                add(&server, NewSlot::Keyfile(&key)).await
            }
            Kind::SystemdCredential { name, server } => {
                add(&server, NewSlot::SystemdCredential(&name)).await
            }
        }
    }
}

/// Take a slot out, with another root key: the slot's secret opens nothing written from then on.
///
/// That needs a secret of every slot that a person opens and that is to stay; they are asked for.
/// Without them the slots go too, and are listed first.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator slot drop 7c0d5f…")]
struct Drop {
    /// The slot's id, or the beginning of it
    id: String,
    /// Only take it out of the seal file: stops honest use, but an old copy of the seal file and
    /// the slot's secret still open the vault
    #[arg(long)]
    keep_root: bool,
    /// Rotate the keys of values and of paths too, and wait until the old ones are destroyed: then
    /// an old copy of the seal file opens nothing that is stored
    #[arg(long, conflicts_with = "keep_root")]
    revoke: bool,
    /// Drop what is listed without asking
    #[arg(long)]
    yes: bool,
    /// Ask for nothing: read the secrets from stdin, one on each line
    #[arg(long)]
    no_input: bool,
    #[command(flatten)]
    server: ServerArguments,
}

impl Drop {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let slots = slots(&server).await?;
        let meant: Vec<_> = slots.iter().filter(|slot| slot.id.starts_with(&self.id)).collect();
        let [slot] = meant.as_slice() else {
            return Err(Failure::usage(format!(
                "{} slots have an id that begins with {:?}",
                meant.len(),
                self.id
            ))
            .hint("kista operator slot ls"));
        };
        let output = Output::new(self.server.json);
        if self.keep_root {
            if let Err(error) = server.client.sys().drop_slot_keeping_root(&slot.id).await {
                return Err(server.explain("drop the slot", error).await);
            }
            output::warn(
                "an old copy of the seal file and the slot's secret still open the vault; without \
                 --keep-root it gets another root key",
            );
            return dropped(output, &[(*slot).clone()], &format!("Gone: {}.", words(slot)));
        }
        let keep = slots.iter().filter(|other| other.human && other.id != slot.id);
        let keep: Vec<Slot> = keep.cloned().collect();
        if keep.is_empty() {
            return Err(Failure::new("it is the last slot that a person can open")
                .hint("add another one first: kista operator slot add passphrase"));
        }
        let plan = RekeyPlan {
            shares: None,
            keep: keep.iter().map(|slot| slot.id.clone()).collect(),
            drop: vec![slot.id.clone()],
        };
        let person = Person::look(self.no_input);
        let session = Session::begin(&server, &plan, keep, person, self.yes).await?;
        let (done, _) = session.collect().await?;
        if self.revoke {
            rotate::destroy_old_keys(&server).await?;
        }
        report(output, &done.slots_dropped)
    }
}

/// The slots of a server.
pub(super) async fn slots(server: &Server) -> Result<Vec<Slot>, Failure> {
    match server.client.sys().slots().await {
        Ok(slots) => Ok(slots),
        Err(error) => Err(server.explain("list the slots", error).await),
    }
}

/// Says which slots are gone.
pub(super) fn report(output: Output, slots: &[Slot]) -> Result<Exit, Failure> {
    let names = names(slots);
    dropped(
        output,
        slots,
        &format!(
            "The vault has another root key. Gone: {names}.\n\
             Old copies of the seal file still lead to what was stored before."
        ),
    )
}

fn dropped(output: Output, slots: &[Slot], told: &str) -> Result<Exit, Failure> {
    #[derive(serde::Serialize)]
    struct Dropped<'a> {
        slots_dropped: &'a [Slot],
    }
    if output.wants_json() {
        output.serialized(&Dropped { slots_dropped: slots })?;
    } else {
        output::note(told);
    }
    Ok(Exit::Done)
}

/// What opens a slot, in words.
pub(super) fn words(slot: &Slot) -> String {
    match (slot.kind.as_str(), slot.threshold, slot.shares, &slot.name) {
        ("shares", Some(threshold), Some(shares), _) => format!("{threshold} of {shares} shares"),
        ("passphrase", ..) => "a passphrase".to_owned(),
        ("keyfile", ..) => "a keyfile".to_owned(),
        ("systemd-credential", _, _, Some(name)) => format!("the credential {name}"),
        (other, ..) => other.to_owned(),
    }
}

fn row(slot: &Slot) -> [Cell; 4] {
    let plain = |text: &str| Cell::Plain(text.to_owned());
    [plain(&slot.id), plain(&slot.kind), Cell::Plain(words(slot)), plain(&slot.created_time)]
}

async fn add(arguments: &ServerArguments, new: NewSlot<'_>) -> Result<Exit, Failure> {
    let server = Server::find(arguments)?;
    let added = match server.client.sys().add_slot(new).await {
        Ok(added) => added,
        Err(error) => return Err(server.explain("add the slot", error).await),
    };
    show(Output::new(arguments.json), &added)
}

fn show(output: Output, added: &AddedSlot) -> Result<Exit, Failure> {
    let AddedSlot { slot, shares } = added;
    if output.wants_json() {
        let mut object = kista::client::Fields::new();
        object.set("slot", output::json(slot)?);
        object.set("unseal_keys_b64", shared(shares));
        output.once().object(&object)?;
        return Ok(Exit::Done);
    }
    if shares.is_empty() {
        output.table(["ID", "TYPE", "OPENS WITH", "MADE"], &[row(slot)])?;
    } else {
        let shown = |secret: &SecretString| {
            Cell::Secret(secret.expose(SecretString::copy_of), Sight::Shown)
        };
        let numbered = (1..).zip(shares);
        let rows: Vec<_> =
            numbered.map(|(n, share)| [Cell::Plain(format!("share {n}")), shown(share)]).collect();
        output.once().table(["WHAT", "VALUE"], &rows)?;
        output::note("These are shown once and kept nowhere. Give each to another person.");
    }
    Ok(Exit::Done)
}

/// The bytes of a keyfile, in base64.
fn read_or_make(file: &Path) -> Result<SecretString, Failure> {
    let key = if file.exists() { keyfile::read(file) } else { keyfile::create(file) };
    let key = key.map_err(|error| Failure::of(&error))?;
    Ok(key.expose(|bytes| SecretString::from_string(data_encoding::BASE64.encode(bytes))))
}
