use serde::{Deserialize, Serialize};

use super::{Capability, Error, Fields, JsonValue, Kv2, transport::Call};
use crate::secret::SecretString;

/// How far a call on a secret or a folder has come; `data` of `POST tree/…`. Kista's own.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct TreeDone {
    /// Secrets that this call has transferred or removed.
    pub secrets: u64,
    /// Secrets that it passed over, since their new path is taken.
    pub skipped: u64,
    /// Secrets that are left to another call.
    pub left: u64,
    /// Whether none is.
    pub finished: bool,
    /// Where the other call goes on.
    pub after: Option<String>,
}

/// What becomes of a secret whose new path is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Nothing at all is done.
    Fail,
    /// It is passed over.
    Skip,
}

/// What is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The newest version is hidden, and can be brought back.
    Delete,
    /// All versions go, for good.
    Destroy,
}

impl Kv2<'_> {
    /// Copies a secret with its whole history, or a folder of them (both paths end in a slash). The
    /// call works for some seconds: until it is `finished` it is made again, with `after` as it was
    /// answered.
    ///
    /// # Errors
    /// [`Error::NotFound`] when nothing is there, and what any call may answer: 400 when a new path
    /// is taken.
    pub async fn copy(
        &self,
        from: &str,
        to: &str,
        existing: Existing,
        after: Option<&str>,
    ) -> Result<TreeDone, Error> {
        self.tree("copy", from, Some((to, existing)), after).await
    }

    /// Moves a secret with its whole history, or a folder of them, as [`Self::copy`].
    ///
    /// # Errors
    /// As [`Self::copy`].
    pub async fn rename(
        &self,
        from: &str,
        to: &str,
        existing: Existing,
        after: Option<&str>,
    ) -> Result<TreeDone, Error> {
        self.tree("move", from, Some((to, existing)), after).await
    }

    /// Removes a secret, or all below a folder (its path ends in a slash), as [`Self::copy`].
    ///
    /// # Errors
    /// [`Error::NotFound`] when nothing is there, and what any call may answer.
    pub async fn remove(
        &self,
        path: &str,
        removal: Removal,
        after: Option<&str>,
    ) -> Result<TreeDone, Error> {
        let verb = match removal {
            Removal::Delete => "delete",
            Removal::Destroy => "destroy",
        };
        self.tree(verb, path, None, after).await
    }

    async fn tree(
        &self,
        verb: &str,
        path: &str,
        to: Option<(&str, Existing)>,
        after: Option<&str>,
    ) -> Result<TreeDone, Error> {
        let text = |text: &str| JsonValue::string(&SecretString::copy_of(text));
        let mut body = Fields::new();
        if let Some((to, existing)) = to {
            body.set("to", text(to));
            body.set("existing", text(if existing == Existing::Skip { "skip" } else { "fail" }));
        }
        if let Some(after) = after {
            body.set("after", text(after));
        }
        let root = self.place("tree", verb);
        let body = body.to_json();
        let call = match path.strip_suffix('/') {
            Some(folder) => {
                Call::write_to_folder(format!("{root}/{folder}"), Capability::Update, body)?
            }
            None if path.is_empty() => Call::write_to_folder(root, Capability::Update, body)?,
            None => Call::write(format!("{root}/{path}"), Capability::Update, body)?,
        };
        self.client.send(&call).await?.data()
    }
}
