//! The names of a mount, page by page, so that a folder of a million needs no memory of its size.

use std::collections::HashMap;

use serde::Deserialize;

use super::{
    Capability, Error, Fields, Kv2, SecretMetadata,
    transport::{self, Call},
};

/// Which names to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Those in the folder; folders end in `/`.
    Folder,
    /// Those of all secrets in the folder and below, as paths from the folder.
    Below,
}

/// A part of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The last name of the page before; empty for the first page.
    pub after: &'a str,
    /// Names at most.
    pub limit: usize,
}

/// A name, and what is known of the secret; nothing of a folder.
#[derive(Debug)]
pub struct Named {
    /// The name, or the path from the folder.
    pub name: String,
    /// Of a detailed listing only.
    pub metadata: Option<SecretMetadata>,
}

impl Kv2<'_> {
    /// Names in a folder, or of all secrets below it; an empty path is the mount. An empty page is
    /// the end.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the first page is empty, and what any call may answer.
    pub async fn names(
        &self,
        folder: &str,
        reach: Reach,
        page: Page<'_>,
    ) -> Result<Vec<Named>, Error> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let call = self.page("metadata", folder, reach, page)?;
        let answer = match self.client.send(&call).await {
            Err(Error::NotFound) if !page.after.is_empty() => return Ok(Vec::new()),
            answer => answer?,
        };
        let keys = answer.data::<Keys>()?.keys;
        Ok(keys.into_iter().map(|name| Named { name, metadata: None }).collect())
    }

    /// As [`Self::names`], with what is known of each secret.
    ///
    /// # Errors
    /// As [`Self::names`].
    pub async fn names_in_detail(
        &self,
        folder: &str,
        reach: Reach,
        page: Page<'_>,
    ) -> Result<Vec<Named>, Error> {
        #[derive(Deserialize)]
        struct Detailed {
            keys: Vec<String>,
            key_info: HashMap<String, SecretMetadata>,
        }
        let call = self.page("detailed-metadata", folder, reach, page)?;
        let answer = match self.client.send(&call).await {
            Err(Error::NotFound) if !page.after.is_empty() => return Ok(Vec::new()),
            answer => answer?,
        };
        let Detailed { keys, mut key_info } = answer.data()?;
        Ok(keys.into_iter().map(|name| Named { metadata: key_info.remove(&name), name }).collect())
    }

    /// The keys of the current version of a secret, without their values; none where it is deleted.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no secret, and what any call may answer.
    pub async fn keys(&self, path: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Subkeys {
            subkeys: Option<Fields>,
        }
        let call = Call::read(self.place("subkeys", path), "depth=1")?;
        let subkeys = self.client.send(&call).await?.data::<Subkeys>()?.subkeys;
        Ok(subkeys.iter().flat_map(Fields::iter).map(|(key, _)| key.to_owned()).collect())
    }

    fn page(&self, part: &str, folder: &str, reach: Reach, page: Page<'_>) -> Result<Call, Error> {
        let place = self.folder_place(part, folder);
        let after = transport::encode_text(page.after);
        let (verb, needed) = match reach {
            Reach::Folder => ("list", Capability::List),
            Reach::Below => ("scan", Capability::Scan),
        };
        let query = format!("{verb}=true&limit={}&after={after}", page.limit);
        Call::listed(place, &query, needed)
    }
}
