use crate::{
    crypto::{Aead256, Cipher, HmacSha256, Kdf, Mac, Sealer, kdf, random},
    secret::{Algorithm, Key},
    storage::StoreId,
};

/// The root key of one store, with what it derives (FORMAT.md 2).
pub(super) struct Root {
    key: Key<Kdf>,
    store_id: StoreId,
}

impl Root {
    pub(super) fn generate(store_id: StoreId) -> Self {
        Self { key: random::key(), store_id }
    }

    pub(super) fn new(key: Key<Kdf>, store_id: StoreId) -> Self {
        Self { key, store_id }
    }

    pub(super) fn key(&self) -> &Key<Kdf> {
        &self.key
    }

    pub(super) fn store_id(&self) -> &StoreId {
        &self.store_id
    }

    /// Authenticates the whole seal file.
    pub(super) fn seal_mac(&self) -> Mac {
        Mac::new(&self.derive::<HmacSha256>("seal-mac"))
    }

    /// Seals the keyring. XAES-256-GCM always: the file has to open before any term names a cipher.
    pub(super) fn keyring_sealer(&self) -> Sealer {
        Sealer::new(Cipher::Xaes256Gcm, &self.derive::<Aead256>("keyring"))
    }

    /// A hedged nonce (FORMAT.md 2): random, and even if the random bytes ever repeat, different
    /// for different plaintexts.
    pub(super) fn nonce(&self, aad: &[u8], plaintext: &[u8]) -> [u8; 24] {
        self.nonce_from(&random::array::<32>(), aad, plaintext)
    }

    fn nonce_from(&self, r: &[u8; 32], aad: &[u8], plaintext: &[u8]) -> [u8; 24] {
        let length = u32::try_from(aad.len()).unwrap_or(u32::MAX).to_be_bytes();
        let key = self.derive::<HmacSha256>("nonce");
        let tag = Mac::new(&key).tag(&[r, &length, aad, plaintext]);
        let mut nonce = [0; 24];
        for (to, from) in nonce.iter_mut().zip(tag) {
            *to = from;
        }
        nonce
    }

    fn derive<A: Algorithm>(&self, purpose: &str) -> Key<A> {
        self.key.expose(|root| kdf::derive::<A>(&self.store_id.0, root, purpose, b""))
    }
}
