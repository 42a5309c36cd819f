use clap::{Args, Subcommand};
use kista::{
    client::{Fields, JsonValue, Rekey, RekeyPlan, RekeySecret, Slot},
    secret::SecretString,
};

use super::{
    rotate,
    slot::{slots, words},
};
use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    output::{self, Cell, Output, Sight},
    prompt::{self, Person},
    server::Server,
};

/// Give the vault another root key, and new shares.
///
/// Asks for the shares and passphrases that there are, prints the new shares once, and asks for
/// enough of them back; nothing changes before they are. A slot whose secret is not given goes, and
/// is listed first; slots that the server can open by itself stay. From a stdin that is not a
/// terminal it takes the passphrases of the kept slots and then the old shares, one on each line,
/// and gives the new shares back itself.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista operator rekey --shares 5 --threshold 3\n  \
                   kista operator rekey status\n  kista operator rekey cancel",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct RekeyArguments {
    #[command(subcommand)]
    command: Option<RekeyCommand>,
    /// New shares to make
    #[arg(long, alias = "key-shares", value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u8).range(1..))]
    shares: u8,
    /// New shares that open the vault together
    #[arg(long, alias = "key-threshold", value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..))]
    threshold: u8,
    /// Without the old shares, by a passphrase: for shares that are lost
    #[arg(long)]
    lost_shares: bool,
    /// Rotate the keys of values and of paths too, and wait until the old ones are destroyed: then
    /// an old copy of the seal file opens nothing that is stored
    #[arg(long)]
    revoke: bool,
    /// Drop what is listed without asking
    #[arg(long)]
    yes: bool,
    /// Ask for nothing: read stdin
    #[arg(long)]
    no_input: bool,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Debug, Subcommand)]
enum RekeyCommand {
    Status(RekeyStatus),
    Cancel(RekeyCancel),
}

impl RekeyArguments {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Some(RekeyCommand::Status(status)) => return status.run().await,
            Some(RekeyCommand::Cancel(cancel)) => return cancel.run().await,
            None => {}
        }
        let server = Server::find(&self.server)?;
        let all = slots(&server).await?;
        let is_asked = |slot: &&Slot| slot.human && !(self.lost_shares && slot.kind == "shares");
        let keep: Vec<Slot> = all.iter().filter(is_asked).cloned().collect();
        if keep.is_empty() {
            return Err(Failure::usage(
                "without its shares this vault has no passphrase to ask for",
            )
            .hint("leave --lost-shares out"));
        }
        let plan = RekeyPlan {
            shares: Some((self.shares, self.threshold)),
            keep: keep.iter().map(|slot| slot.id.clone()).collect(),
            drop: Vec::new(),
        };
        let person = Person::look(self.no_input);
        let session = Session::begin(&server, &plan, keep, person, self.yes).await?;
        let (done, shares) = session.collect().await?;
        if let Err(failure) = show(Output::new(self.server.json), &shares) {
            cancel(&server).await?;
            return Err(failure.hint("nothing was changed: the old shares still hold"));
        }
        verify(&server, &done, &shares, usize::from(self.threshold), person).await?;
        let old = if self.revoke {
            rotate::destroy_old_keys(&server).await?;
            "The old keys are destroyed: old copies of the seal file open no value and read no path of \
             this folder."
        } else {
            "Old copies of the seal file still lead to what was stored before; --revoke ends that."
        };
        output::note(&format!(
            "The new shares hold; {} of them open the vault. Gone: {}.\nShares printed before, those of \
             a recovery kit too, open nothing any more: destroy them.\n{old}",
            self.threshold,
            names(&done.slots_dropped)
        ));
        Ok(Exit::Done)
    }
}

/// Whether a rekey is under way, and how far it is.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator rekey status")]
struct RekeyStatus {
    #[command(flatten)]
    server: ServerArguments,
}

impl RekeyStatus {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        let rekey = under_way(&server).await?;
        let output = Output::new(self.server.json);
        if output.wants_json() {
            output.serialized(&rekey)?;
        } else if rekey.started {
            let waits = !rekey.verification_nonce.is_empty();
            let next = if waits { "; the new shares wait to be verified" } else { "" };
            output
                .line(&format!("{} of {} secrets given{next}", rekey.progress, rekey.required))?;
        } else {
            output.line("no rekey is under way")?;
        }
        Ok(Exit::Done)
    }
}

async fn under_way(server: &Server) -> Result<Rekey, Failure> {
    match server.client.sys().rekey().await {
        Ok(rekey) => Ok(rekey),
        Err(error) => Err(server.explain("ask for the rekey", error).await),
    }
}

/// End a rekey; nothing changes.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista operator rekey cancel")]
struct RekeyCancel {
    #[command(flatten)]
    server: ServerArguments,
}

impl RekeyCancel {
    async fn run(self) -> Result<Exit, Failure> {
        let server = Server::find(&self.server)?;
        cancel(&server).await?;
        let output = Output::new(self.server.json);
        if output.wants_json() {
            output.serialized(&under_way(&server).await?)?;
        } else {
            output::note("no rekey is under way any more");
        }
        Ok(Exit::Done)
    }
}

/// A rekey that collects secrets.
pub(super) struct Session<'a> {
    server: &'a Server,
    nonce: String,
    keep: Vec<Slot>,
    person: Person,
}

impl<'a> Session<'a> {
    /// Begins it, and has a person agree to what goes.
    pub(super) async fn begin(
        server: &'a Server,
        plan: &RekeyPlan,
        mut keep: Vec<Slot>,
        person: Person,
        yes: bool,
    ) -> Result<Self, Failure> {
        let mut begun = start(server, plan).await?;
        if !begun.slots_dropped.is_empty() && !yes {
            // While a person thinks, and may end it all, nothing is under way.
            cancel(server).await?;
            output::warn(&format!("these will be gone: {}", names(&begun.slots_dropped)));
            let agreed = person.line("type yes to go on", "--yes drops them without asking")?;
            if agreed != "yes" {
                return Err(Failure::new("nothing was changed"));
            }
            begun = start(server, plan).await?;
        }
        // The shares come last: with the last of them the rekey is complete.
        keep.sort_by_key(|slot| slot.kind == "shares");
        Ok(Self { server, nonce: begun.nonce, keep, person })
    }

    /// Shows it every secret. Ends it when one is refused.
    pub(super) async fn collect(self) -> Result<(Rekey, Vec<SecretString>), Failure> {
        match self.show_all().await {
            Ok(done) => Ok(done),
            Err(failure) => {
                cancel(self.server).await?;
                Err(failure.hint("nothing was changed; begin again"))
            }
        }
    }

    async fn show_all(&self) -> Result<(Rekey, Vec<SecretString>), Failure> {
        let mut lines = match self.person {
            Person::Present => Vec::new(),
            Person::Absent => prompt::stdin_lines()?,
        }
        .into_iter();
        let mut last = None;
        for slot in &self.keep {
            let is_shares = slot.kind == "shares";
            let secrets = if is_shares { slot.threshold.unwrap_or(1) } else { 1 };
            for n in 1..=secrets {
                let label = match is_shares {
                    true => format!("share {n} of {secrets}"),
                    false => format!("passphrase of slot {}", short(slot)),
                };
                let secret = match self.person {
                    Person::Present => self.person.hidden(&label, "")?,
                    Person::Absent => lines.next().ok_or_else(|| {
                        Failure::usage(format!("stdin holds no line for the {label}"))
                    })?,
                };
                last = Some(self.show(is_shares, &secret).await?);
            }
        }
        last.filter(|(rekey, _)| rekey.complete)
            .ok_or_else(|| Failure::new("the server waits for more than was asked for"))
    }

    async fn show(
        &self,
        is_share: bool,
        secret: &SecretString,
    ) -> Result<(Rekey, Vec<SecretString>), Failure> {
        let shown = match is_share {
            true => RekeySecret::Share(secret),
            false => RekeySecret::Passphrase(secret),
        };
        match self.server.client.sys().show_to_rekey(&self.nonce, shown).await {
            Ok(answered) => Ok(answered),
            Err(error) => Err(self.server.explain("rekey", error).await),
        }
    }
}

async fn start(server: &Server, plan: &RekeyPlan) -> Result<Rekey, Failure> {
    match server.client.sys().begin_rekey(plan).await {
        Ok(begun) => Ok(begun),
        Err(error) => {
            let failure = server.explain("begin a rekey", error).await;
            Err(failure.hint("kista operator rekey status"))
        }
    }
}

async fn cancel(server: &Server) -> Result<(), Failure> {
    match server.client.sys().cancel_rekey().await {
        Ok(()) => Ok(()),
        Err(error) => Err(server.explain("cancel the rekey", error).await),
    }
}

/// Slots in words, for a sentence.
pub(super) fn names(slots: &[Slot]) -> String {
    if slots.is_empty() {
        return "no slot".to_owned();
    }
    let named = slots.iter().map(|slot| format!("{} ({})", words(slot), short(slot)));
    named.collect::<Vec<_>>().join(", ")
}

/// Shares as JSON.
pub(super) fn shared(shares: &[SecretString]) -> JsonValue {
    JsonValue::list(&shares.iter().map(JsonValue::string).collect::<Vec<_>>())
}

fn show(output: Output, shares: &[SecretString]) -> Result<(), Failure> {
    let output = output.once();
    if output.wants_json() {
        let mut object = Fields::new();
        object.set("unseal_keys_b64", shared(shares));
        return output.object(&object);
    }
    let shown =
        |secret: &SecretString| Cell::Secret(secret.expose(SecretString::copy_of), Sight::Shown);
    let numbered = (1..).zip(shares);
    let rows: Vec<_> =
        numbered.map(|(n, share)| [Cell::Plain(format!("share {n}")), shown(share)]).collect();
    output.table(["WHAT", "VALUE"], &rows)?;
    output::note(
        "These are shown once and kept nowhere. They do not hold before they are verified.",
    );
    Ok(())
}

/// Gives new shares back: a person types them from where they were written down.
async fn verify(
    server: &Server,
    done: &Rekey,
    shares: &[SecretString],
    threshold: usize,
    person: Person,
) -> Result<(), Failure> {
    let mut given = 0;
    while given < threshold {
        let typed;
        let share = match (person, shares.get(given)) {
            (Person::Absent, Some(share)) => share,
            (Person::Present, _) | (Person::Absent, None) => {
                let label = format!("new share {} of {threshold}, to verify", given + 1);
                typed = match person.hidden(&label, "") {
                    Ok(typed) => typed,
                    Err(failure) => {
                        cancel(server).await?;
                        return Err(failure.hint("nothing was changed: the old shares still hold"));
                    }
                };
                &typed
            }
        };
        match server.client.sys().verify_rekey(&done.verification_nonce, share).await {
            Ok(answered) if answered.complete => return Ok(()),
            Ok(_) => given += 1,
            Err(error) => {
                let failure = server.explain("verify the new shares", error).await;
                if person == Person::Absent {
                    return Err(failure);
                }
                output::failure(&failure);
                given = 0;
            }
        }
    }
    Err(Failure::new("the server waits for more shares than were asked for")
        .hint("kista operator rekey cancel"))
}

fn short(slot: &Slot) -> &str {
    slot.id.get(..8).unwrap_or(&slot.id)
}
