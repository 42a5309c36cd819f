use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Capability, Client, Error, Fields, transport::Call};
use crate::secret::SecretBytes;

/// The secrets of one KV version 2 mount.
#[derive(Debug, Clone, Copy)]
pub struct Kv2<'a> {
    pub(super) client: &'a Client,
    pub(super) mount: &'a str,
}

/// One version of a secret.
#[derive(Debug)]
pub struct Secret {
    /// Keys and values; `None` when this version is deleted or destroyed.
    pub fields: Option<Fields>,
    /// What is known of the version.
    pub metadata: VersionMetadata,
}

/// What is known of one version of a secret; `metadata` of `GET data/:path`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct VersionMetadata {
    /// Number of the version, from 1.
    pub version: u64,
    /// RFC 3339.
    pub created_time: String,
    /// RFC 3339; empty when it is not deleted.
    pub deletion_time: String,
    /// Whether its data are gone for good.
    pub destroyed: bool,
    /// What the owner says about the secret.
    pub custom_metadata: Option<BTreeMap<String, String>>,
}

/// What is known of a secret and all its versions; `data` of `GET metadata/:path`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct SecretMetadata {
    /// Number of the newest version, 0 before the first.
    pub current_version: u64,
    /// Number of the oldest version that is kept; 0 until one has been dropped.
    pub oldest_version: u64,
    /// Versions that are kept; 0: as many as the mount says.
    pub max_versions: u32,
    /// Whether a write must name the version it expects.
    pub cas_required: bool,
    /// When a version is deleted by itself, such as `1h0m0s`; `0s`: never.
    pub delete_version_after: String,
    /// RFC 3339.
    pub created_time: String,
    /// RFC 3339.
    pub updated_time: String,
    /// What the owner says about the secret.
    pub custom_metadata: Option<BTreeMap<String, String>>,
    /// By number.
    pub versions: BTreeMap<u64, VersionState>,
}

/// What has become of one version.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct VersionState {
    /// RFC 3339.
    pub created_time: String,
    /// RFC 3339, and it may lie ahead; empty when it is not deleted.
    pub deletion_time: String,
    /// Whether its data are gone for good.
    pub destroyed: bool,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckAndSet {
    /// No secret.
    New,
    /// This current version.
    Version(u64),
}

impl Secret {
    /// The fields as a type of the caller's; those of a deleted version read as `null`.
    ///
    /// # Errors
    /// serde_json's, when they do not fit the type. Its text may quote a value: do not log it.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match &self.fields {
            Some(fields) => fields.deserialize(),
            None => serde_json::from_str("null"),
        }
    }
}

impl<'a> Kv2<'a> {
    pub(super) fn new(client: &'a Client, mount: &'a str) -> Self {
        Self { client, mount }
    }

    /// Reads the current version of the secret at `path`, a path inside the mount.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, and what any call may answer.
    pub async fn read(&self, path: &str) -> Result<Secret, Error> {
        self.read_with(path, "").await
    }

    /// Reads one version.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of this number, and what any call may answer.
    pub async fn read_version(&self, path: &str, version: u64) -> Result<Secret, Error> {
        self.read_with(path, &format!("version={version}")).await
    }

    /// Writes a new version of these fields alone.
    ///
    /// # Errors
    /// [`Error::CasConflict`] when the current version is not the one expected, and what any call
    /// may answer. After [`Error::Unreachable`] it may or may not have been written.
    pub async fn write(
        &self,
        path: &str,
        fields: &Fields,
        expected: Option<CheckAndSet>,
    ) -> Result<VersionMetadata, Error> {
        let body = write_body(fields, expected);
        let call = Call::write(self.place("data", path), Capability::Write, body)?;
        self.client.send(&call).await?.data()
    }

    /// Writes a new version: the current one with these fields set, and those that are `null` taken
    /// away.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none or it is deleted, [`Error::CasConflict`] when the
    /// current version is not `expected`, and what any call may answer. After
    /// [`Error::Unreachable`] it may or may not have been written.
    pub async fn patch(
        &self,
        path: &str,
        fields: &Fields,
        expected: Option<u64>,
    ) -> Result<VersionMetadata, Error> {
        let body = write_body(fields, expected.map(CheckAndSet::Version));
        let answer = self.client.send(&Call::patch(self.place("data", path), body)?).await?;
        if answer.status == 404 {
            // It tells of the version that is deleted.
            return Err(Error::NotFound);
        }
        answer.data()
    }

    /// Deletes the current version; it can be brought back until it is destroyed.
    ///
    /// # Errors
    /// What any call may answer. Nothing to delete is not an error.
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        self.client.send(&Call::delete(self.place("data", path))?).await?;
        Ok(())
    }

    /// Deletes versions; they can be brought back until they are destroyed.
    ///
    /// # Errors
    /// What any call may answer. Versions that are not there are not an error.
    pub async fn delete_versions(&self, path: &str, versions: &[u64]) -> Result<(), Error> {
        self.change_versions("delete", path, versions).await
    }

    /// Brings deleted versions back.
    ///
    /// # Errors
    /// As [`Self::delete_versions`].
    pub async fn undelete_versions(&self, path: &str, versions: &[u64]) -> Result<(), Error> {
        self.change_versions("undelete", path, versions).await
    }

    /// Destroys versions: their data are gone for good.
    ///
    /// # Errors
    /// As [`Self::delete_versions`].
    pub async fn destroy_versions(&self, path: &str, versions: &[u64]) -> Result<(), Error> {
        self.change_versions("destroy", path, versions).await
    }

    /// Destroys a secret with all its versions and all that is known of it.
    ///
    /// # Errors
    /// What any call may answer. Nothing to destroy is not an error.
    pub async fn destroy(&self, path: &str) -> Result<(), Error> {
        self.client.send(&Call::delete(self.place("metadata", path))?).await?;
        Ok(())
    }

    /// What is known of a secret and its versions.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, and what any call may answer.
    pub async fn metadata(&self, path: &str) -> Result<SecretMetadata, Error> {
        self.client.send(&Call::read(self.place("metadata", path), "")?).await?.data()
    }

    async fn change_versions(&self, verb: &str, path: &str, versions: &[u64]) -> Result<(), Error> {
        let numbers: Vec<String> = versions.iter().map(u64::to_string).collect();
        let body = SecretBytes::from_vec(
            format!(r#"{{"versions":[{}]}}"#, numbers.join(",")).into_bytes(),
        );
        let call = Call::write(self.place(verb, path), Capability::Update, body)?;
        self.client.send(&call).await?;
        Ok(())
    }

    /// Lists the names in a folder, those of folders ending in `/`; an empty path is the mount.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is empty, and what any call may answer.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let place = self.folder_place("metadata", folder);
        Ok(self.client.send(&Call::list(place)?).await?.data::<Keys>()?.keys)
    }

    async fn read_with(&self, path: &str, query: &str) -> Result<Secret, Error> {
        #[derive(Deserialize)]
        struct Data {
            data: Option<Fields>,
            metadata: VersionMetadata,
        }
        let answer = self.client.send(&Call::read(self.place("data", path), query)?).await?;
        let Data { data, metadata } = answer.data()?;
        Ok(Secret { fields: data, metadata })
    }

    pub(super) fn place(&self, part: &str, path: &str) -> String {
        format!("{}/{part}/{path}", self.mount)
    }

    /// The same of a folder, which is the mount itself when its path is empty.
    pub(super) fn folder_place(&self, part: &str, folder: &str) -> String {
        if folder.is_empty() { format!("{}/{part}", self.mount) } else { self.place(part, folder) }
    }
}

fn write_body(fields: &Fields, expected: Option<CheckAndSet>) -> SecretBytes {
    let options = match expected {
        Some(CheckAndSet::New) => r#""options":{"cas":0},"#.to_owned(),
        Some(CheckAndSet::Version(version)) => format!(r#""options":{{"cas":{version}}},"#),
        None => String::new(),
    };
    let (start, end) = (format!(r#"{{{options}"data":"#), "}");
    fields.to_json().expose(|data| {
        let mut body = Vec::with_capacity(start.len() + data.len() + end.len());
        body.extend_from_slice(start.as_bytes());
        body.extend_from_slice(data);
        body.extend_from_slice(end.as_bytes());
        SecretBytes::from_vec(body)
    })
}
