//! Encryption with symmetric keys, as FORMAT.md has it for each type.

use zeroize::Zeroizing;

use super::{
    kind::Kind,
    record::{Derivation, Settings},
};
use crate::{
    crypto::{
        AesSiv512, Cobblestone256, Hash, MessageCipher, Siv, committing, kdf::hkdf_sha256, random,
    },
    secret::{Key, SecretBytes},
};

/// A symmetric key, ready for use.
pub(super) enum Locker {
    /// Random nonces.
    Random(MessageCipher),
    /// Nonces from what is encrypted: equal inputs give equal ciphertexts.
    Convergent(MessageCipher, NonceKeys),
    Committing(Key<Cobblestone256>),
    Siv(Siv),
}

/// The keys of convergent nonces, one for each family: with associated data and without.
///
/// A nonce from the plaintext alone would come twice when one plaintext is sent with two associated
/// data, and two GCM tags under one nonce give the hash key away, with it forgeries.
pub(super) struct NonceKeys {
    of_plaintext: Zeroizing<[u8; 32]>,
    of_both: Zeroizing<[u8; 32]>,
}

/// A ciphertext does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotOpened {
    /// It is shorter than any of its kind.
    TooShort,
    /// Another key, context or associated data, or changed: one text for all.
    Failed,
}

impl NotOpened {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::TooShort => "invalid ciphertext length",
            Self::Failed => "cipher: message authentication failed",
        }
    }
}

impl Locker {
    /// The cipher of a key; None when its length is not its kind's.
    pub(super) fn new(kind: Kind, key: &[u8]) -> Option<Self> {
        match (kind, kind.message()) {
            (_, Some(algorithm)) => Some(Self::Random(MessageCipher::new(algorithm, key)?)),
            (Kind::Committing, None) => Some(Self::Committing(Key::common_copy_of(key).ok()?)),
            (Kind::Siv, None) => {
                Some(Self::Siv(Siv::new(&Key::<AesSiv512>::common_copy_of(key).ok()?)))
            }
            (_, None) => None,
        }
    }

    /// The cipher that a context makes of a key.
    pub(super) fn derived(
        kind: Kind,
        settings: &Settings,
        key: &[u8],
        context: &[u8],
    ) -> Option<Self> {
        let length = kind.key_bytes()?;
        let mut made = Zeroizing::new(vec![0; length + 64]);
        match settings.kdf {
            // One expansion: its first bytes are the key that the peers derive.
            Derivation::Hkdf => hkdf_sha256(&[], key, context, &mut made),
            Derivation::Counter => {
                let block = counter_kdf(key, context);
                // It makes no longer keys, and none for nonces.
                if settings.convergent || length > block.len() {
                    return None;
                }
                made.get_mut(..block.len())?.copy_from_slice(&block);
            }
        }
        let (cipher, nonces) = made.split_at_checked(length)?;
        if !settings.convergent {
            return Self::new(kind, cipher);
        }
        let (of_plaintext, of_both) = nonces.split_at_checked(32)?;
        let keys = NonceKeys {
            of_plaintext: Zeroizing::new(of_plaintext.try_into().ok()?),
            of_both: Zeroizing::new(of_both.try_into().ok()?),
        };
        Some(Self::Convergent(MessageCipher::new(kind.message()?, cipher)?, keys))
    }

    /// Encrypts under a version.
    pub(super) fn seal(&self, version: u32, aad: &[u8], plaintext: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Random(cipher) => {
                let mut nonce = [0; 24];
                let nonce = nonce.get_mut(..cipher.algorithm().nonce_bytes())?;
                random::fill(nonce);
                cipher.seal(nonce, aad, plaintext)
            }
            Self::Convergent(cipher, keys) => {
                let tag = keys.nonce(aad, plaintext);
                cipher.seal(tag.get(..cipher.algorithm().nonce_bytes())?, aad, plaintext)
            }
            Self::Committing(key) => {
                Some(committing::seal(key, &random::array(), &bound(version, aad), plaintext))
            }
            Self::Siv(siv) => {
                let (iv, ciphertext) = siv.seal(aad, plaintext);
                Some([iv.as_slice(), &ciphertext].concat())
            }
        }
    }

    /// Opens what [`Self::seal`] has made, under the same version and with the same associated
    /// data.
    pub(super) fn open(
        &self,
        version: u32,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<SecretBytes, NotOpened> {
        let opened = match self {
            Self::Random(cipher) | Self::Convergent(cipher, _) => {
                if sealed.len() < cipher.algorithm().nonce_bytes() {
                    return Err(NotOpened::TooShort);
                }
                cipher.open(aad, sealed)
            }
            Self::Committing(key) => committing::open(key, &bound(version, aad), sealed),
            Self::Siv(siv) => {
                let (iv, ciphertext) =
                    sealed.split_first_chunk::<16>().ok_or(NotOpened::TooShort)?;
                siv.open(aad, iv, ciphertext)
            }
        };
        opened.map_err(|_| NotOpened::Failed)
    }
}

impl NonceKeys {
    /// FORMAT.md's two families of nonces. Without associated data the bytes are the peers'.
    fn nonce(&self, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        if aad.is_empty() {
            return Hash::Sha2_256.hmac(&*self.of_plaintext, plaintext);
        }
        let mut both = Zeroizing::new(Vec::with_capacity(8 + aad.len() + plaintext.len()));
        both.extend_from_slice(&(aad.len() as u64).to_be_bytes());
        both.extend_from_slice(aad);
        both.extend_from_slice(plaintext);
        Hash::Sha2_256.hmac(&*self.of_both, &both)
    }
}

/// One block of HMAC-SHA-256 in counter mode (SP 800-108r1 §4.1) as the peers make it: the counter
/// begins at 0, and the length in bits follows the context.
fn counter_kdf(key: &[u8], context: &[u8]) -> Zeroizing<Vec<u8>> {
    let input = [&0_u32.to_be_bytes(), context, &256_u32.to_be_bytes()].concat();
    Zeroizing::new(Hash::Sha2_256.hmac(key, &input))
}

/// What a committing ciphertext is bound to.
fn bound(version: u32, aad: &[u8]) -> Vec<u8> {
    [b"kista/transit/1\0".as_slice(), &u64::from(version).to_be_bytes(), aad].concat()
}
