use serde::{Deserialize, Serialize};

use super::{
    Transit,
    wire::{Body, Decoded, encoded_length},
};
use crate::{
    client::{Error, transport::Call},
    secret::SecretBytes,
};

/// What a ciphertext is bound to beside its key: the same must be given to decrypt it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Binding<'a> {
    /// What the key of this value is derived from; for derived keys only, which need it.
    pub context: &'a [u8],
    /// What the ciphertext belongs to, such as the id of its row. It is authenticated, and not in
    /// the ciphertext.
    pub associated_data: &'a [u8],
}

/// A value to encrypt.
#[derive(Debug, Clone, Copy)]
pub struct ToEncrypt<'a> {
    /// The value.
    pub plaintext: &'a SecretBytes,
    /// What it is bound to.
    pub binding: Binding<'a>,
}

/// A ciphertext to decrypt, or to rewrap.
#[derive(Debug, Clone, Copy)]
pub struct ToDecrypt<'a> {
    /// As the server wrote it.
    pub ciphertext: &'a str,
    /// What it was bound to.
    pub binding: Binding<'a>,
}

/// A value that was encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Encrypted {
    /// `vault:vN:…`
    pub ciphertext: String,
    /// The version of the key that it is under.
    pub key_version: u64,
}

/// A ciphertext under the newest version of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rewrapped {
    /// `vault:vN:…`
    pub ciphertext: String,
    /// The version of the key that it is under.
    pub key_version: u64,
    /// The version that it was under.
    pub from_version: u64,
}

/// Why one item of a batch failed, as the server says it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl<'a> From<&'a SecretBytes> for ToEncrypt<'a> {
    /// Bound to nothing.
    fn from(plaintext: &'a SecretBytes) -> Self {
        Self { plaintext, binding: Binding::default() }
    }
}

impl<'a> From<&'a str> for ToDecrypt<'a> {
    /// Bound to nothing.
    fn from(ciphertext: &'a str) -> Self {
        Self { ciphertext, binding: Binding::default() }
    }
}

impl Rewrapped {
    /// Whether it was under an older version.
    pub fn is_moved(&self) -> bool {
        self.from_version != self.key_version
    }
}

impl Transit<'_> {
    /// Encrypts values under the newest version of a key. The answer has one outcome for each, in
    /// their order. More than 1,000 go in several requests, one after the other.
    ///
    /// # Errors
    /// What any call may answer; what fails of single items is in their outcomes.
    pub async fn encrypt_many(
        &self,
        key: &str,
        items: &[ToEncrypt<'_>],
    ) -> Result<Vec<Result<Encrypted, Refused>>, Error> {
        let outcomes: Vec<EncryptedItem> = self
            .batch("encrypt", key, items, |body, item| {
                item.plaintext.expose(|plaintext| body.bytes("plaintext", plaintext));
                item.binding.write(body);
            })
            .await?;
        outcomes.into_iter().map(EncryptedItem::outcome).collect()
    }

    /// Decrypts ciphertexts, as [`Self::encrypt_many`] encrypts.
    ///
    /// # Errors
    /// As [`Self::encrypt_many`].
    pub async fn decrypt_many(
        &self,
        key: &str,
        items: &[ToDecrypt<'_>],
    ) -> Result<Vec<Result<SecretBytes, Refused>>, Error> {
        let outcomes: Vec<DecryptedItem> = self.batch("decrypt", key, items, write_sealed).await?;
        outcomes.into_iter().map(DecryptedItem::outcome).collect()
    }

    /// Brings ciphertexts under the newest version of their key, without their plaintexts being
    /// seen.
    ///
    /// # Errors
    /// As [`Self::encrypt_many`].
    pub async fn rewrap_many(
        &self,
        key: &str,
        items: &[ToDecrypt<'_>],
    ) -> Result<Vec<Result<Rewrapped, Refused>>, Error> {
        let outcomes: Vec<EncryptedItem> = self.batch("rewrap", key, items, write_sealed).await?;
        let outcomes = outcomes.into_iter().zip(items);
        outcomes.map(|(outcome, item)| Ok(outcome.outcome()?.map(|new| new.from(item)))).collect()
    }

    /// Encrypts one value.
    ///
    /// # Errors
    /// [`Error::Other`] with status 400 when the server refuses it, and what any call may answer.
    pub async fn encrypt(
        &self,
        key: &str,
        plaintext: &SecretBytes,
        binding: Binding<'_>,
    ) -> Result<Encrypted, Error> {
        let mut body = Body::object(encoded_length(plaintext.len()));
        plaintext.expose(|plaintext| body.bytes("plaintext", plaintext));
        binding.write(&mut body);
        let call = Call::ask(self.place("encrypt", key), body.finish())?;
        self.client.send(&call).await?.data::<EncryptedItem>()?.whole()
    }

    /// Decrypts one ciphertext.
    ///
    /// # Errors
    /// As [`Self::encrypt`].
    pub async fn decrypt(
        &self,
        key: &str,
        ciphertext: &str,
        binding: Binding<'_>,
    ) -> Result<SecretBytes, Error> {
        let call = self.one("decrypt", key, ToDecrypt { ciphertext, binding })?;
        let item: DecryptedItem = self.client.send(&call).await?.data()?;
        item.plaintext.map(|plaintext| plaintext.0).ok_or(NO_PLAINTEXT)
    }

    /// Brings one ciphertext under the newest version of its key.
    ///
    /// # Errors
    /// As [`Self::encrypt`].
    pub async fn rewrap(
        &self,
        key: &str,
        ciphertext: &str,
        binding: Binding<'_>,
    ) -> Result<Rewrapped, Error> {
        let item = ToDecrypt { ciphertext, binding };
        let call = self.one("rewrap", key, item)?;
        Ok(self.client.send(&call).await?.data::<EncryptedItem>()?.whole()?.from(&item))
    }

    fn one(&self, verb: &str, key: &str, item: ToDecrypt<'_>) -> Result<Call, Error> {
        let mut body = Body::object(item.ciphertext.len());
        write_sealed(&mut body, &item);
        Call::ask(self.place(verb, key), body.finish())
    }

    /// Sends items in as many requests as they need, and collects the outcomes.
    async fn batch<I: Item, O: for<'de> Deserialize<'de>>(
        &self,
        verb: &str,
        key: &str,
        items: &[I],
        write: impl Fn(&mut Body, &I),
    ) -> Result<Vec<O>, Error> {
        #[derive(Deserialize)]
        struct Answered<O> {
            batch_results: Vec<O>,
        }
        let mut outcomes = Vec::with_capacity(items.len());
        let mut left = items;
        while !left.is_empty() {
            let (now, later) = left.split_at(first_request(left));
            let mut body = Body::object(now.iter().map(Item::weight).sum());
            body.list("batch_input", now, &write);
            // Items that fail do not fail the others; this spares the server's callers the status.
            body.number("partial_failure_response_code", 200);
            let call = Call::ask_many(self.place(verb, key), body.finish())?;
            let answered: Answered<O> = self.client.send(&call).await?.data()?;
            if answered.batch_results.len() != now.len() {
                return Err(Error::Unexpected("it has not one outcome for each item"));
            }
            outcomes.extend(answered.batch_results);
            left = later;
        }
        Ok(outcomes)
    }
}

impl Binding<'_> {
    pub(super) fn write(&self, body: &mut Body) {
        body.bytes_if_any("context", self.context);
        body.bytes_if_any("associated_data", self.associated_data);
    }

    fn weight(&self) -> usize {
        encoded_length(self.context.len()) + encoded_length(self.associated_data.len())
    }
}

/// What a batch is made of.
trait Item {
    /// Bytes that it takes in a request, near enough.
    fn weight(&self) -> usize;
}

impl Item for ToEncrypt<'_> {
    fn weight(&self) -> usize {
        encoded_length(self.plaintext.len()) + self.binding.weight() + WEIGHT_OF_NAMES
    }
}

impl Item for ToDecrypt<'_> {
    fn weight(&self) -> usize {
        self.ciphertext.len() + self.binding.weight() + WEIGHT_OF_NAMES
    }
}

#[derive(Deserialize)]
struct EncryptedItem {
    ciphertext: Option<String>,
    #[serde(default)]
    key_version: u64,
    error: Option<String>,
}

#[derive(Deserialize)]
struct DecryptedItem {
    plaintext: Option<Decoded>,
    error: Option<String>,
}

impl EncryptedItem {
    fn outcome(self) -> Result<Result<Encrypted, Refused>, Error> {
        match self.error {
            Some(error) if !error.is_empty() => Ok(Err(Refused(error))),
            Some(_) | None => self.whole().map(Ok),
        }
    }

    fn whole(self) -> Result<Encrypted, Error> {
        let ciphertext = self.ciphertext.ok_or(Error::Unexpected("it has no ciphertext"))?;
        // Servers of before say the version in the ciphertext alone.
        let key_version = match self.key_version {
            0 => version_of(&ciphertext).unwrap_or(0),
            version => version,
        };
        Ok(Encrypted { ciphertext, key_version })
    }
}

impl Encrypted {
    fn from(self, before: &ToDecrypt<'_>) -> Rewrapped {
        let Self { ciphertext, key_version } = self;
        let from_version = version_of(before.ciphertext).unwrap_or(0);
        Rewrapped { ciphertext, key_version, from_version }
    }
}

impl DecryptedItem {
    fn outcome(self) -> Result<Result<SecretBytes, Refused>, Error> {
        match self.error {
            Some(error) if !error.is_empty() => Ok(Err(Refused(error))),
            Some(_) | None => self.plaintext.map(|plaintext| Ok(plaintext.0)).ok_or(NO_PLAINTEXT),
        }
    }
}

fn write_sealed(body: &mut Body, item: &ToDecrypt<'_>) {
    body.text("ciphertext", item.ciphertext);
    item.binding.write(body);
}

/// The version of the key that a ciphertext says it is under.
fn version_of(ciphertext: &str) -> Option<u64> {
    let (version, _) = ciphertext.strip_prefix("vault:v")?.split_once(':')?;
    // Version 0 is how the first one was once written.
    version.parse().ok().map(|version: u64| version.max(1))
}

/// How many of the items one request takes; at least one.
fn first_request<I: Item>(items: &[I]) -> usize {
    let mut weight = 0;
    let fitting = items.iter().take(ITEMS_A_REQUEST).take_while(|item| {
        weight += item.weight();
        weight <= BYTES_A_REQUEST
    });
    fitting.count().max(1)
}

const NO_PLAINTEXT: Error = Error::Unexpected("it has no plaintext");

/// Items that one request takes.
const ITEMS_A_REQUEST: usize = 1000;
/// Bytes that one request takes; Kista's own limit for a body is 4 MiB.
const BYTES_A_REQUEST: usize = 3 << 20;
/// Bytes of names and signs around the values of one item.
const WEIGHT_OF_NAMES: usize = 64;
