use serde::{Deserialize, Serialize};

use super::{Capability, Error, Fields, JsonValue, SealStatus, Sys, UnsealKey, transport::Call};
use crate::secret::SecretString;

/// A way to the root key, as `GET sys/slots` shows it.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Slot {
    /// 32 hexadecimal digits.
    pub id: String,
    /// `shares`, `passphrase`, `keyfile` or `systemd-credential`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether a person can open it.
    pub human: bool,
    /// When it was made.
    pub created_time: String,
    /// Of shares: how many of them open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u8>,
    /// Of shares: how many were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<u8>,
    /// Of a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A slot to add.
#[derive(Debug)]
pub enum NewSlot<'a> {
    /// Shares: how many, and how many of them open it.
    Shares(u8, u8),
    /// A passphrase.
    Passphrase(&'a SecretString),
    /// The 32 bytes of a keyfile, in base64.
    Keyfile(&'a SecretString),
    /// A credential of the server's service, by its name.
    SystemdCredential(&'a str),
}

/// A slot that was added.
#[derive(Debug)]
pub struct AddedSlot {
    /// The slot.
    pub slot: Slot,
    /// Its shares in base64, if it is of shares; given once.
    pub shares: Vec<SecretString>,
}

/// What a rekey is to lead to.
#[derive(Debug, Default)]
pub struct RekeyPlan {
    /// New shares, and how many of them open the vault; none for the shares that there are.
    pub shares: Option<(u8, u8)>,
    /// Ids of the slots whose secrets will be shown.
    pub keep: Vec<String>,
    /// Ids of the slots that go although the server has their secrets at hand.
    pub drop: Vec<String>,
}

/// A rekey under way, or what it led to.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Rekey {
    /// Whether one is under way.
    #[serde(default)]
    pub started: bool,
    /// Names it.
    #[serde(default)]
    pub nonce: String,
    /// Secrets given so far.
    #[serde(default)]
    pub progress: u32,
    /// Secrets needed.
    #[serde(default)]
    pub required: u32,
    /// Names the verification, once it has begun.
    #[serde(default)]
    pub verification_nonce: String,
    /// Slots that will go or have gone.
    #[serde(default)]
    pub slots_dropped: Vec<Slot>,
    /// Whether every secret is there.
    #[serde(default)]
    pub complete: bool,
}

/// A secret shown to a rekey.
#[derive(Debug)]
pub enum RekeySecret<'a> {
    /// A share.
    Share(&'a SecretString),
    /// A passphrase.
    Passphrase(&'a SecretString),
    /// The bytes of a keyfile, in base64.
    Keyfile(&'a SecretString),
}

impl Sys<'_> {
    /// The ways to the root key. Needs `sudo`.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn slots(&self) -> Result<Vec<Slot>, Error> {
        #[derive(Deserialize)]
        struct List {
            slots: Vec<Slot>,
        }
        let call = Call::read("sys/slots".to_owned(), "")?;
        let list: List = self.client.send(&call).await?.data()?;
        Ok(list.slots)
    }

    /// Adds one. Needs `sudo`.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when it cannot be, and what any call may answer.
    pub async fn add_slot(&self, new: NewSlot<'_>) -> Result<AddedSlot, Error> {
        #[derive(Deserialize)]
        struct Added {
            slot: Slot,
            #[serde(default)]
            keys_base64: Vec<SecretString>,
        }
        let mut fields = Fields::new();
        let text = |text: &str| JsonValue::string(&SecretString::copy_of(text));
        match new {
            NewSlot::Shares(shares, threshold) => {
                fields.set("type", text("shares"));
                fields.set("shares", text(&shares.to_string()));
                fields.set("threshold", text(&threshold.to_string()));
            }
            NewSlot::Passphrase(passphrase) => {
                fields.set("type", text("passphrase"));
                fields.set("passphrase", JsonValue::string(passphrase));
            }
            NewSlot::Keyfile(key) => {
                fields.set("type", text("keyfile"));
                fields.set("key", JsonValue::string(key));
            }
            NewSlot::SystemdCredential(name) => {
                fields.set("type", text("systemd-credential"));
                fields.set("name", text(name));
            }
        }
        let call = Call::write("sys/slots".to_owned(), Capability::Sudo, fields.to_json())?;
        let added: Added = self.client.send(&call).await?.data()?;
        Ok(AddedSlot { slot: added.slot, shares: added.keys_base64 })
    }

    /// Takes a slot out and keeps the root key, which stops honest use only. Needs `sudo`.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a slot, and what any call may answer.
    pub async fn drop_slot_keeping_root(&self, id: &str) -> Result<(), Error> {
        let call = Call::delete_with(format!("sys/slots/{id}"), "keep_root=true")?;
        self.client.send(&call).await?;
        Ok(())
    }

    /// Where the rekey stands. Needs `sudo`.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn rekey(&self) -> Result<Rekey, Error> {
        self.client.send(&Call::read(format!("{REKEY}/init"), "")?).await?.data()
    }

    /// Begins a rekey. New shares must be given back before they hold. Needs `sudo`.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when the plan cannot be, and what any call may answer.
    pub async fn begin_rekey(&self, plan: &RekeyPlan) -> Result<Rekey, Error> {
        #[derive(Serialize)]
        struct Wire<'a> {
            keep: &'a [String],
            drop: &'a [String],
            secret_shares: u8,
            secret_threshold: u8,
            require_verification: bool,
        }
        let (secret_shares, secret_threshold) = plan.shares.unwrap_or_default();
        let wire = Wire {
            keep: &plan.keep,
            drop: &plan.drop,
            secret_shares,
            secret_threshold,
            require_verification: plan.shares.is_some(),
        };
        let body = serde_json::to_vec(&wire).map_err(|_| Error::Unexpected("no JSON"))?;
        let path = format!("{REKEY}/init");
        let body = crate::secret::SecretBytes::from_vec(body);
        self.client.send(&Call::write(path, Capability::Sudo, body)?).await?.data()
    }

    /// Ends a rekey without a change. Needs `sudo`.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn cancel_rekey(&self) -> Result<(), Error> {
        self.client.send(&Call::delete(format!("{REKEY}/init"))?).await?;
        Ok(())
    }

    /// Shows it a secret. Once every secret is there it answers with the new shares, in base64.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when it is refused, and what any call may answer.
    pub async fn show_to_rekey(
        &self,
        nonce: &str,
        secret: RekeySecret<'_>,
    ) -> Result<(Rekey, Vec<SecretString>), Error> {
        #[derive(Deserialize)]
        struct Answered {
            #[serde(flatten)]
            rekey: Rekey,
            #[serde(default)]
            keys_base64: Vec<SecretString>,
        }
        let (name, text) = match secret {
            RekeySecret::Share(text) => ("key", text),
            RekeySecret::Passphrase(text) => ("passphrase", text),
            RekeySecret::Keyfile(text) => ("keyfile", text),
        };
        let path = format!("{REKEY}/update");
        let call = Call::write(path, Capability::Sudo, with_nonce(nonce, name, text))?;
        let answered: Answered = self.client.send(&call).await?.data()?;
        Ok((answered.rekey, answered.keys_base64))
    }

    /// Gives one of the new shares back.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when it is refused, and what any call may answer.
    pub async fn verify_rekey(&self, nonce: &str, share: &SecretString) -> Result<Rekey, Error> {
        let path = format!("{REKEY}/verify");
        let call = Call::write(path, Capability::Sudo, with_nonce(nonce, "key", share))?;
        self.client.send(&call).await?.data()
    }

    /// Gives one share, or the passphrase, to a vault that stays sealed because an anchor is ahead
    /// of its store. Needs no token.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when it is refused, and what any call may answer.
    pub async fn accept_rollback(&self, key: UnsealKey) -> Result<SealStatus, Error> {
        let (name, text) = match key {
            UnsealKey::Share(share) => ("key", share),
            UnsealKey::Passphrase(passphrase) => ("passphrase", passphrase),
        };
        let mut fields = Fields::new();
        fields.set(name, JsonValue::string(&text));
        fields.set("accept_rollback", JsonValue::string(&SecretString::copy_of("true")));
        let call = Call::write("sys/unseal".to_owned(), Capability::Write, fields.to_json())?;
        self.client.send(&call).await?.bare()
    }
}

fn with_nonce(nonce: &str, name: &str, text: &SecretString) -> crate::secret::SecretBytes {
    let mut fields = Fields::new();
    fields.set(name, JsonValue::string(text));
    fields.set("nonce", JsonValue::string(&SecretString::copy_of(nonce)));
    fields.to_json()
}

const REKEY: &str = "sys/rotate/root";
