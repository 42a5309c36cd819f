use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Capability, Client, Error, Fields, JsonValue, transport::Call};
use crate::secret::{SecretBytes, SecretString};

/// The state of the server: `sys/…`.
#[derive(Debug, Clone, Copy)]
pub struct Sys<'a> {
    pub(super) client: &'a Client,
}

/// `GET sys/seal-status`, and the answer to an unseal.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct SealStatus {
    /// How it is unsealed, such as `shamir`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether there is a store.
    pub initialized: bool,
    /// Whether it is sealed; so is one that is not initialised.
    pub sealed: bool,
    /// Shares needed; 0 without a slot of shares.
    #[serde(rename = "t")]
    pub threshold: u32,
    /// Shares made; 0 without a slot of shares.
    #[serde(rename = "n")]
    pub shares: u32,
    /// Shares given so far.
    pub progress: u32,
    /// Version of the server, for clients that compare versions.
    pub version: String,
    /// Name of the cluster, when unsealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// Where the store is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_type: Option<String>,
    /// What an operator should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub warnings: Vec<String>,
}

/// `GET sys/health`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Health {
    /// Whether there is a store.
    pub initialized: bool,
    /// Whether it is sealed.
    pub sealed: bool,
    /// Whether another node of the cluster serves.
    pub standby: bool,
    /// The server's clock, in seconds since 1970.
    pub server_time_utc: u64,
    /// Version of the server.
    pub version: String,
    /// The id of its store, when unsealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
}

/// The answer to `POST sys/init`, given once.
#[derive(Debug)]
pub struct Initialised {
    /// The shares in hexadecimal.
    pub keys: Vec<SecretString>,
    /// The same shares in base64.
    pub keys_base64: Vec<SecretString>,
    /// A token that may do anything.
    pub root_token: SecretString,
}

/// What a vault is unsealed with.
#[derive(Debug)]
pub enum UnsealKey {
    /// One share, in hexadecimal or base64.
    Share(SecretString),
    /// The passphrase of a slot.
    Passphrase(SecretString),
}

/// A mount, as `GET sys/internal/ui/mounts/:path` and `GET sys/mounts` show it.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct MountInfo {
    /// Where it is mounted, with a slash at the end.
    #[serde(default)]
    pub path: String,
    /// What its owner says of it.
    #[serde(default)]
    pub description: String,
    /// Its engine, such as `kv`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The engine's options, such as the `version` of `kv`.
    pub options: Option<BTreeMap<String, String>>,
}

/// `GET sys/verify`, and the answer to a `POST`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Verification {
    /// `idle`, `waiting` to begin, or `running`.
    pub state: String,
    /// Records opened so far, by the one that runs or the last one.
    pub records_done: u64,
    /// Records there were when it began.
    pub records_total: u64,
    /// Whether each read is checked for the newest record.
    pub reads_checked: bool,
    /// When the one that runs began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// The last one that ended since the server started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Verified>,
}

impl Verification {
    /// Whether none is running or about to.
    pub fn is_idle(&self) -> bool {
        self.state == "idle"
    }
}

/// What a verification has come to.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Verified {
    /// `good`, `repaired`, `tampered` or `unfinished`.
    pub result: String,
    /// Why it is unfinished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began.
    pub started: String,
    /// When it ended.
    pub ended: String,
    /// Records seen.
    pub records: u64,
    /// What was wrong; the first hundred.
    pub findings: Vec<Found>,
}

/// Something that a verification has found.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Found {
    /// What is wrong: `damaged`, `stale`, `orphan`, `foreign`, `sums` (of all records together) or
    /// `index`.
    pub fault: String,
    /// The mount of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// The record in it, by the path under which the mount keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl MountInfo {
    /// Whether it is KV version 2.
    pub fn is_kv2(&self) -> bool {
        let version = self.options.as_ref().and_then(|options| options.get("version"));
        self.kind == "kv" && version.is_some_and(|version| version == "2")
    }
}

impl<'a> Sys<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Whether the vault is initialised and sealed. Needs no token.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn seal_status(&self) -> Result<SealStatus, Error> {
        self.client.send(&Call::read("sys/seal-status".to_owned(), "")?).await?.bare()
    }

    /// How the server is. Needs no token; a sealed server answers too.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn health(&self) -> Result<Health, Error> {
        let query = "standbyok=true&sealedcode=200&uninitcode=200";
        self.client.send(&Call::read("sys/health".to_owned(), query)?).await?.bare()
    }

    /// Makes the store, with `threshold` of `shares` shares to open it. Needs no token, works once.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when there is a store or the numbers do not fit, and what
    /// any call may answer.
    pub async fn init(&self, shares: u8, threshold: u8) -> Result<Initialised, Error> {
        let body = format!(r#"{{"secret_shares":{shares},"secret_threshold":{threshold}}}"#);
        self.make(SecretBytes::from_vec(body.into_bytes())).await
    }

    /// Makes the store with a passphrase in place of shares; there are none in the answer. Takes a
    /// second or two: the passphrase is stretched.
    ///
    /// Differs from Vault: the field `passphrase` is Kista's own.
    ///
    /// # Errors
    /// As [`init`](Self::init).
    pub async fn init_with_passphrase(
        &self,
        passphrase: &SecretString,
    ) -> Result<Initialised, Error> {
        let mut fields = Fields::new();
        fields.set("passphrase", JsonValue::string(passphrase));
        self.make(fields.to_json()).await
    }

    async fn make(&self, body: SecretBytes) -> Result<Initialised, Error> {
        #[derive(Deserialize)]
        struct Answered {
            keys: Vec<SecretString>,
            keys_base64: Vec<SecretString>,
            root_token: SecretString,
        }
        let call = Call::write("sys/init".to_owned(), Capability::Write, body)?;
        let Answered { keys, keys_base64, root_token } = self.client.send(&call).await?.bare()?;
        Ok(Initialised { keys, keys_base64, root_token })
    }

    /// Gives one share, or the passphrase. Needs no token.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when it does not open, and what any call may answer.
    pub async fn unseal(&self, key: UnsealKey) -> Result<SealStatus, Error> {
        let (name, text) = match key {
            UnsealKey::Share(share) => ("key", share),
            UnsealKey::Passphrase(passphrase) => ("passphrase", passphrase),
        };
        let mut fields = Fields::new();
        fields.set(name, JsonValue::string(&text));
        let call = Call::write("sys/unseal".to_owned(), Capability::Write, fields.to_json())?;
        self.client.send(&call).await?.bare()
    }

    /// Seals the vault: its keys leave the server's memory.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn seal(&self) -> Result<(), Error> {
        let body = Fields::new().to_json();
        let call = Call::write("sys/seal".to_owned(), Capability::Sudo, body)?;
        self.client.send(&call).await?;
        Ok(())
    }

    /// How far a verification of the store is, and what the last one came to. Needs `sudo`.
    ///
    /// Differs from Vault: the path is Kista's own.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn verification(&self) -> Result<Verification, Error> {
        self.client.send(&Call::read("sys/verify".to_owned(), "")?).await?.data()
    }

    /// Has the whole store verified now, unless it is being verified. Needs `sudo`.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn verify(&self) -> Result<Verification, Error> {
        let body = Fields::new().to_json();
        let call = Call::write("sys/verify".to_owned(), Capability::Sudo, body)?;
        self.client.send(&call).await?.data()
    }

    /// The secrets engines that are mounted, by their paths.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn mounts(&self) -> Result<Vec<MountInfo>, Error> {
        let call = Call::read("sys/mounts".to_owned(), "")?;
        let mounts: BTreeMap<String, MountInfo> = self.client.send(&call).await?.data()?;
        Ok(mounts.into_iter().map(|(path, mount)| MountInfo { path, ..mount }).collect())
    }

    /// The mount that `path` lies in, as every client asks before it reads KV.
    ///
    /// # Errors
    /// [`Error::Denied`] when nothing is mounted there that the token may see, and what any call
    /// may answer.
    pub async fn mount_of(&self, path: &str) -> Result<MountInfo, Error> {
        let path = format!("sys/internal/ui/mounts/{}", path.trim_end_matches('/'));
        self.client.send(&Call::read(path, "")?).await?.data()
    }
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
