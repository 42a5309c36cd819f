use serde::{Deserialize, Deserializer, Serialize};

use super::{Capability, Error, Fields, Sys, transport::Call};
use crate::secret::SecretBytes;

/// `GET sys/rotate/status`, Kista's own: how far the rotation of the store's keys is.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Rotation {
    /// `idle`, or what is being done: `activate`, `rewrap`, `verify`, `erase`, `conclude`.
    pub step: String,
    /// The term that seals.
    pub term: u32,
    /// When it was made.
    pub install_time: String,
    /// How often it has sealed, counted upward after a restart.
    pub encryptions: u64,
    /// Terms that old records may still be under.
    pub retiring: Vec<u32>,
    /// Records that are still under them.
    pub records_left: u64,
    /// Records that were under them when the rotation began.
    pub records_total: u64,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// Why it does not go on, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Terms that are gone.
    pub destroyed: Vec<DestroyedTerm>,
    /// The same for the key of names.
    pub names: NamesRotation,
}

/// How far a move of the names to a new key is.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct NamesRotation {
    /// `idle`, or what is being done: `move`, `erase`, `conclude`.
    pub step: String,
    /// The generation of the key that names are encrypted under, from 1.
    pub generation: u32,
    /// The generation that records move away from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retiring: Option<u32>,
    /// Records that may still lie under it.
    pub records_left: u64,
    /// Records there were when the move began.
    pub records_total: u64,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// Generations that are gone.
    pub destroyed: Vec<DestroyedNames>,
}

/// A generation of names that is gone from the data folder.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct DestroyedNames {
    /// Its number.
    pub generation: u32,
    /// When the last file had lost its key.
    pub destroyed_at: String,
}

/// A term that is gone from the data folder.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct DestroyedTerm {
    /// Its number.
    pub term: u32,
    /// When the last file had lost it.
    pub destroyed_at: String,
}

impl Rotation {
    /// Whether everything is under the newest term and the newest names, and the old ones are gone.
    pub fn is_idle(&self) -> bool {
        self.step == "idle" && self.names.step == "idle"
    }
}

/// `GET sys/key-status`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct KeyStatus {
    /// The term that seals.
    pub term: u32,
    /// When it was made.
    pub install_time: String,
    /// How often it has sealed, counted upward after a restart.
    pub encryptions: u64,
}

/// `GET sys/rotate/config`: when a new term comes by itself.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct RotationSchedule {
    /// Whether one does.
    pub enabled: bool,
    /// After this many seals.
    pub max_operations: u64,
    /// After this time, as `48h0m0s`; `0` for never.
    #[serde(deserialize_with = "number_or_text")]
    pub interval: String,
}

/// What `POST sys/rotate/config` changes; the rest stays.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NewSchedule {
    /// Whether a new term comes by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// After this many seals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_operations: Option<u64>,
    /// After this time, as `48h` or seconds; `0` for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
}

impl Sys<'_> {
    /// Makes a new term, which seals everything from now on. The server seals older records again
    /// by and by, and then destroys the old term. Needs `sudo`.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn rotate(&self) -> Result<(), Error> {
        let body = Fields::new().to_json();
        let call = Call::write("sys/rotate".to_owned(), Capability::Sudo, body)?;
        self.client.send(&call).await?;
        Ok(())
    }

    /// Makes a new key of names. The server moves the records by and by, and then destroys the old
    /// key. Needs `sudo`.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 while names move already, and what any call may answer.
    pub async fn rotate_names(&self) -> Result<(), Error> {
        let body = Fields::new().to_json();
        let call = Call::write("sys/rotate/names".to_owned(), Capability::Sudo, body)?;
        self.client.send(&call).await?;
        Ok(())
    }

    /// How far the rotation is.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn rotation(&self) -> Result<Rotation, Error> {
        self.client.send(&Call::read("sys/rotate/status".to_owned(), "")?).await?.data()
    }

    /// The term that seals.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn key_status(&self) -> Result<KeyStatus, Error> {
        self.client.send(&Call::read("sys/key-status".to_owned(), "")?).await?.data()
    }

    /// When a new term comes by itself.
    ///
    /// # Errors
    /// What any call may answer.
    pub async fn rotation_schedule(&self) -> Result<RotationSchedule, Error> {
        self.client.send(&Call::read("sys/rotate/config".to_owned(), "")?).await?.data()
    }

    /// Changes when a new term comes by itself.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 for what is out of range, and what any call may answer.
    pub async fn set_rotation_schedule(&self, new: &NewSchedule) -> Result<(), Error> {
        let body = serde_json::to_vec(new).map_err(|_| Error::Unexpected("no JSON"))?;
        let path = "sys/rotate/config".to_owned();
        let body = SecretBytes::from_vec(body);
        self.client.send(&Call::write(path, Capability::Write, body)?).await?;
        Ok(())
    }
}

fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Number(number) => number.to_string(),
        Either::Text(text) => text,
    })
}
