use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use data_encoding::BASE64;
use tokio::time::Instant;

use super::{Transit, file_key::LocalError};
use crate::{
    client::Client,
    container::{self, Header, SealedValue},
    crypto::committing::Cobblestone256,
    secret::{Key, SecretBytes},
};

/// How long a data key serves before it is forgotten and another one is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From its making, or its unwrapping, on.
    pub age: Duration,
    /// Messages that it encrypts, or decrypts.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Default for Limits {
    /// Five minutes, 10,000 messages, 256 MiB.
    fn default() -> Self {
        Self { age: Duration::from_secs(300), messages: 10_000, bytes: 256 << 20 }
    }
}

/// Encrypts here, with data keys that a vault wraps, so that the vault is asked once for many
/// values. Clones share the data keys.
///
/// Whoever loses access to the transit key decrypts on until the limits of the data keys that are
/// still held; the vault counts data keys, not values. A sealed value is about 400 bytes longer than
/// its plaintext, and a third longer for its base64.
#[derive(Debug, Clone)]
pub struct Cached {
    client: Client,
    mount: String,
    key: String,
    limits: Limits,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    held: Mutex<DataKeys>,
    /// Held while a data key is made, so that one is made for all who want it.
    asking: tokio::sync::Mutex<()>,
}

/// The data keys that are held.
#[derive(Debug, Default)]
struct DataKeys {
    sealing: Option<Held>,
    /// Those that were unwrapped, the one used last at the end.
    opening: Vec<Held>,
    /// Whether a task wipes them in time.
    is_watched: bool,
}

/// A data key in use.
#[derive(Debug)]
struct Held {
    header: Header,
    key: Arc<Key<Cobblestone256>>,
    since: Instant,
    messages: u64,
    bytes: u64,
}

impl Held {
    fn new(header: Header, key: Key<Cobblestone256>) -> Self {
        Self { header, key: Arc::new(key), since: Instant::now(), messages: 0, bytes: 0 }
    }

    /// Whether a message stays within the limits.
    fn fits(&self, limits: &Limits, bytes: u64) -> bool {
        self.messages < limits.messages
            && self.bytes.saturating_add(bytes) <= limits.bytes
            && self.is_young(limits)
    }

    /// Counts a message.
    fn takes(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn is_young(&self, limits: &Limits) -> bool {
        self.since.elapsed() < limits.age
    }

    /// Whether no other message fits.
    fn is_spent(&self, limits: &Limits) -> bool {
        self.messages >= limits.messages || self.bytes >= limits.bytes || !self.is_young(limits)
    }
}

impl Transit<'_> {
    /// Encryption here, with data keys that are wrapped by `key`, which must be of the type
    /// [`COMMITTING`](super::COMMITTING).
    pub fn cached(&self, key: &str, limits: Limits) -> Cached {
        Cached {
            client: self.client.clone(),
            mount: self.mount.to_owned(),
            key: key.to_owned(),
            limits,
            shared: Arc::default(),
        }
    }
}

impl Cached {
    /// Encrypts a value: `kista:v1:…`. What `associated_data` says must be given again to decrypt
    /// it; it is not in the text.
    ///
    /// # Errors
    /// [`LocalError::NotCommitting`] when the transit key has another type, and what the vault
    /// answers when it is asked for a data key.
    pub async fn encrypt(
        &self,
        plaintext: &SecretBytes,
        associated_data: &[u8],
    ) -> Result<String, LocalError> {
        let bytes = u64::try_from(plaintext.len()).unwrap_or(u64::MAX);
        let (header, key) = self.sealing_key(bytes).await?;
        let sealed = plaintext
            .expose(|plaintext| container::seal_value(&header, &key, associated_data, plaintext));
        Ok(format!("{PREFIX}{}", BASE64.encode(&sealed)))
    }

    /// Decrypts what [`Self::encrypt`] made, here or elsewhere.
    ///
    /// # Errors
    /// [`LocalError::OpenFailed`] for other associated data and for a changed text,
    /// [`LocalError::OtherKey`] when another transit key wraps its data key, and what the vault
    /// answers when it is asked to unwrap.
    pub async fn decrypt(
        &self,
        sealed: &str,
        associated_data: &[u8],
    ) -> Result<SecretBytes, LocalError> {
        let encoded = sealed.strip_prefix(PREFIX).ok_or(LocalError::NotSealed)?;
        let bytes = BASE64.decode(encoded.as_bytes()).map_err(|_| LocalError::NotSealed)?;
        let value = SealedValue::read(&bytes)?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let key = self.opening_key(value.header(), length).await?;
        Ok(value.open(&key, associated_data)?)
    }

    /// Forgets the data keys that are held.
    pub fn forget(&self) {
        self.held(|held| (held.sealing, held.opening) = (None, Vec::new()));
    }

    /// The data key that encrypts now. While one caller asks for it, the others wait for it.
    async fn sealing_key(
        &self,
        bytes: u64,
    ) -> Result<(Header, Arc<Key<Cobblestone256>>), LocalError> {
        if let Some(lent) = self.held(|held| held.lend_sealing(&self.limits, bytes)) {
            return Ok(lent);
        }
        let _one = self.shared.asking.lock().await;
        if let Some(lent) = self.held(|held| held.lend_sealing(&self.limits, bytes)) {
            return Ok(lent);
        }
        let transit = self.client.transit(&self.mount);
        let (header, key) = transit.new_file_key(&self.key, b"", CONTENT_TYPE, b"").await?;
        let mut new = Held::new(header, key);
        new.takes(bytes);
        let lent = (new.header.clone(), Arc::clone(&new.key));
        if !new.is_spent(&self.limits) {
            self.held(|held| held.sealing = Some(new));
            self.forget_in_time();
        }
        Ok(lent)
    }

    /// The data key of a value. Nobody waits for the key of another's.
    async fn opening_key(
        &self,
        header: &Header,
        bytes: u64,
    ) -> Result<Arc<Key<Cobblestone256>>, LocalError> {
        if let Some(key) = self.held(|held| held.lend_opening(header, &self.limits, bytes)) {
            return Ok(key);
        }
        let transit = self.client.transit(&self.mount);
        let key = transit.file_key(header, Some(&self.key), b"").await?;
        let mut new = Held::new(header.clone(), key);
        new.takes(bytes);
        let key = Arc::clone(&new.key);
        if !new.is_spent(&self.limits) {
            self.held(|held| held.keep_opening(new));
            self.forget_in_time();
        }
        Ok(key)
    }

    fn held<R>(&self, with: impl FnOnce(&mut DataKeys) -> R) -> R {
        self.shared.held(with)
    }

    /// Wipes what is too old even if nobody asks again. One task does it for as long as there is
    /// something to wipe.
    fn forget_in_time(&self) {
        if self.held(|held| std::mem::replace(&mut held.is_watched, true)) {
            return;
        }
        let (shared, limits) = (Arc::downgrade(&self.shared), self.limits);
        tokio::spawn(async move {
            while let Some(first) = Weak::upgrade(&shared)
                .and_then(|shared| shared.held(|held| held.without_old(&limits)))
            {
                tokio::time::sleep_until(first).await;
            }
        });
    }
}

impl Shared {
    fn held<R>(&self, with: impl FnOnce(&mut DataKeys) -> R) -> R {
        // A panic leaves no key half kept, so a poisoned lock serves on.
        with(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl DataKeys {
    fn lend_sealing(
        &mut self,
        limits: &Limits,
        bytes: u64,
    ) -> Option<(Header, Arc<Key<Cobblestone256>>)> {
        let sealing = self.sealing.as_mut();
        let lent = sealing.filter(|held| held.fits(limits, bytes)).map(|held| {
            held.takes(bytes);
            (held.header.clone(), Arc::clone(&held.key))
        });
        if lent.is_none() || self.sealing.as_ref().is_some_and(|held| held.is_spent(limits)) {
            self.sealing = None;
        }
        lent
    }

    fn lend_opening(
        &mut self,
        header: &Header,
        limits: &Limits,
        bytes: u64,
    ) -> Option<Arc<Key<Cobblestone256>>> {
        let place = self.opening.iter().position(|held| held.header == *header)?;
        let mut found = self.opening.remove(place);
        let fits = found.fits(limits, bytes);
        fits.then(|| {
            found.takes(bytes);
            let key = Arc::clone(&found.key);
            self.opening.push(found);
            key
        })
    }

    fn keep_opening(&mut self, new: Held) {
        // Somebody else may have asked for the same one.
        self.opening.retain(|held| held.header != new.header);
        if self.opening.len() >= MOST_HELD {
            self.opening.remove(0);
        }
        self.opening.push(new);
    }

    /// Wipes what is too old, and says when the next one will be; None, and nobody watches any
    /// more, when there is none.
    fn without_old(&mut self, limits: &Limits) -> Option<Instant> {
        self.opening.retain(|held| held.is_young(limits));
        self.sealing = self.sealing.take().filter(|held| held.is_young(limits));
        let first = self.opening.iter().chain(&self.sealing).map(|held| held.since).min();
        self.is_watched = first.is_some();
        first.map(|since| since + limits.age)
    }
}

/// Whether the text is a value that a cached key has sealed.
pub fn is_cached_value(text: &str) -> bool {
    text.starts_with(PREFIX)
}

const PREFIX: &str = "kista:v1:";
const CONTENT_TYPE: &str = "application/vnd.kista.value";
/// Data keys that are held for decryption.
const MOST_HELD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::{Fake, Scripted};

    /// The answer to a request for a data key: 32 times `byte`, wrapped as `length` bytes.
    fn data_key(byte: u8, length: usize) -> Scripted {
        let (plain, wrapped) = (BASE64.encode(&[byte; 32]), BASE64.encode(&vec![byte; length]));
        let body = format!(
            r#"{{"data":{{"plaintext":"{plain}","ciphertext":"vault:v1:{wrapped}","key_version":1}}}}"#
        );
        Scripted::Answer(200, "", body.leak())
    }

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::copy_of(text.as_bytes())
    }

    fn limits(messages: u64, bytes: u64) -> Limits {
        Limits { age: Duration::from_secs(60), messages, bytes }
    }

    #[tokio::test]
    async fn one_data_key_serves_until_a_limit() {
        for (limits, asked) in
            [(limits(2, 1000), 3), (limits(100, 10), 3), (limits(100, 1000), 1), (limits(0, 0), 5)]
        {
            let fake = Fake::start((1..=5).map(|n| data_key(n, 104)).collect()).await;
            let cached = fake.client().transit("transit").cached("pii", limits);
            for _ in 0..5 {
                cached.encrypt(&secret("12345"), b"row").await.unwrap();
            }
            assert_eq!(fake.requests().len(), asked, "{limits:?}");
        }
    }

    #[tokio::test]
    async fn a_value_comes_back_with_the_same_associated_data_only() {
        let fake = Fake::start(vec![data_key(1, 104), data_key(1, 104), data_key(1, 104)]).await;
        let client = fake.client();
        let cached = client.transit("transit").cached("pii", Limits::default());
        let sealed = cached.encrypt(&secret("ana@x.org"), b"row 1").await.unwrap();
        assert!(is_cached_value(&sealed));
        let plain = cached.decrypt(&sealed, b"row 1").await.unwrap();
        assert!(plain.expose(|plain| plain == b"ana@x.org"));
        let refused = cached.decrypt(&sealed, b"row 2").await;
        assert!(matches!(refused, Err(LocalError::OpenFailed(_))));
        assert_eq!(fake.requests().len(), 2, "one key made, one unwrapped and kept");
        let unwrapped = &fake.requests()[1];
        assert!(unwrapped.starts_with("PUT /v1/transit/decrypt/pii "), "{unwrapped}");
        cached.forget();
        cached.decrypt(&sealed, b"row 1").await.unwrap();
        assert_eq!(fake.requests().len(), 3);

        for other in [("transit", "orders"), ("kv", "pii")] {
            let cached = client.transit(other.0).cached(other.1, Limits::default());
            let refused = cached.decrypt(&sealed, b"row 1").await;
            assert!(matches!(refused, Err(LocalError::OtherKey { .. })), "{refused:?}");
        }
        assert_eq!(fake.requests().len(), 3, "no header sends a request elsewhere");
    }

    #[tokio::test]
    async fn a_key_that_does_not_commit_is_refused() {
        let fake = Fake::start(vec![data_key(1, 60)]).await;
        let cached = fake.client().transit("transit").cached("pii", Limits::default());
        let refused = cached.encrypt(&secret("x"), b"").await;
        assert!(matches!(refused, Err(LocalError::NotCommitting(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn keys_are_forgotten_at_their_age_though_nobody_asks() {
        let fake = Fake::start(vec![data_key(1, 104), data_key(1, 104)]).await;
        let limits = Limits { age: Duration::from_millis(300), ..Limits::default() };
        let cached = fake.client().transit("transit").cached("pii", limits);
        let sealed = cached.encrypt(&secret("x"), b"").await.unwrap();
        cached.decrypt(&sealed, b"").await.unwrap();
        assert!(cached.held(|held| held.sealing.is_some()));
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        cached.held(|held| assert!(held.sealing.is_none() && held.opening.is_empty()));
    }

    #[tokio::test]
    async fn what_is_no_sealed_value_is_refused_unasked() {
        let fake = Fake::start(Vec::new()).await;
        let cached = fake.client().transit("transit").cached("pii", Limits::default());
        for text in ["", "vault:v1:QQ==", "kista:v1:?", "kista:v1:QQ=="] {
            assert!(cached.decrypt(text, b"").await.is_err(), "{text}");
        }
        assert!(fake.requests().is_empty());
    }
}
