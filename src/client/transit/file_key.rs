use super::{DataKeyBits, Transit, batch::Binding};
use crate::{
    client::Error,
    container::{self, Header, HeaderError, NotCommitting, Stanza},
    crypto::{OpenFailed, committing::Cobblestone256},
    secret::Key,
};

/// Why something was not encrypted or decrypted here with a key that a vault wraps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The vault was asked and refused, or did not answer.
    #[error(transparent)]
    Call(#[from] Error),
    /// The transit key has another type than the one that wraps keys.
    #[error(transparent)]
    NotCommitting(#[from] NotCommitting),
    /// What is to be decrypted is not of this form.
    #[error("it is not what was encrypted with a cached key")]
    NotSealed,
    /// Its header cannot be, or is not of this version.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Its key is wrapped by another transit key.
    #[error("its key is wrapped by {key} of {mount}/")]
    OtherKey {
        /// Where that key is.
        mount: String,
        /// Its name.
        key: String,
    },
    /// It does not open.
    #[error(transparent)]
    OpenFailed(#[from] OpenFailed),
}

impl Transit<'_> {
    /// A new key for one file, or for the values of a while, and the header with which the vault
    /// gives it back. `context` is that of a derived transit key, else empty; `content_type` and
    /// `user_context` stand in the header, in the clear.
    ///
    /// # Errors
    /// [`LocalError::NotCommitting`] when the transit key has another type,
    /// [`LocalError::Header`] when the header would be too long, and what the vault answers.
    pub async fn new_file_key(
        &self,
        key: &str,
        context: &[u8],
        content_type: &str,
        user_context: &[u8],
    ) -> Result<(Header, Key<Cobblestone256>), LocalError> {
        let stanza = Stanza::Transit(container::Transit::asked(self.mount, key));
        let header = Header::new(vec![stanza], content_type, user_context)?;
        let binding = Binding { context, associated_data: &header.bound() };
        let made = self.data_key(key, DataKeyBits::Bits256, binding).await?;
        let (version, wrapped) = container::Transit::read_ciphertext(&made.ciphertext)?;
        let key = made.plaintext.expose(Key::copy_of);
        let key = key.map_err(|_| Error::Unexpected("its key is not of 256 bits"))?;
        Ok((header.answered(version, wrapped), key))
    }

    /// The key of a file that a vault has wrapped, from its header. Only the transit keys of this
    /// mount are asked, so that no header sends a request anywhere else.
    ///
    /// # Errors
    /// [`LocalError::OtherKey`] when the header names none of this mount or another than `key`,
    /// [`LocalError::NotSealed`] when no vault wraps its key, and what the vault answers.
    pub async fn file_key(
        &self,
        header: &Header,
        key: Option<&str>,
        context: &[u8],
    ) -> Result<Key<Cobblestone256>, LocalError> {
        let stanzas = header.stanzas().iter().filter_map(|stanza| match stanza {
            Stanza::Transit(transit) => Some(transit),
            Stanza::Passphrase(_) => None,
        });
        let fits = |stanza: &&container::Transit| {
            let is_named = key.is_none_or(|key| stanza.key() == key);
            stanza.mount() == self.mount && is_named && !stanza.key().contains('/')
        };
        let Some(stanza) = stanzas.clone().find(fits) else {
            let other = stanzas.clone().next().ok_or(LocalError::NotSealed)?;
            let (mount, key) = (other.mount().to_owned(), other.key().to_owned());
            return Err(LocalError::OtherKey { mount, key });
        };
        let binding = Binding { context, associated_data: &header.bound() };
        let plain = self.decrypt(stanza.key(), &stanza.ciphertext(), binding).await?;
        plain
            .expose(Key::copy_of)
            .map_err(|_| Error::Unexpected("its key is not of 256 bits").into())
    }
}
