//! A key under a KEK, in a form that commits to the KEK (FORMAT.md 8): slots of the seal file, and
//! files for a passphrase.

use zeroize::Zeroizing;

use super::{Aead256, Cipher, Kek, Sealer, kdf, mac};
use crate::secret::{Algorithm, Key};

/// A 32-byte key, wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// What the KEK is compared with before it opens anything.
    pub commitment: [u8; 32],
    /// Drawn for each wrap.
    pub nonce: [u8; 24],
    /// Key and tag.
    pub sealed: [u8; SEALED_BYTES],
}

impl Wrapped {
    /// Wraps `key` for whoever holds `kek`. `fixed` is what the wrap belongs to; `nonce` gets the
    /// associated data and the key, so that it can be hedged.
    pub fn seal<A: Algorithm>(
        store_id: &[u8; 16],
        fixed: &[u8],
        kek: &Key<Kek>,
        key: &Key<A>,
        nonce: impl FnOnce(&[u8], &[u8]) -> [u8; 24],
    ) -> Self {
        const { assert!(A::KEY_BYTES + TAG_BYTES == SEALED_BYTES, "keys of 32 bytes only") };
        let (wrap_key, commitment) = derive(store_id, fixed, kek);
        let aad = aad(store_id, fixed, &commitment);
        key.expose(|key| {
            let nonce = nonce(&aad, key);
            let bytes = Sealer::new(Cipher::Xaes256Gcm, &wrap_key).seal(&nonce, &aad, key);
            let mut sealed = [0; SEALED_BYTES];
            for (to, from) in sealed.iter_mut().zip(bytes) {
                *to = from;
            }
            Self { commitment, nonce, sealed }
        })
    }

    /// Gives the key to the holder of the right `kek` and `None` to everyone else.
    ///
    /// The commitment is compared first, in constant time: GCM alone does not commit to its key, so
    /// crafted bytes could test many passphrases with one answer.
    pub fn open<A: Algorithm>(
        &self,
        store_id: &[u8; 16],
        fixed: &[u8],
        kek: &Key<Kek>,
    ) -> Option<Key<A>> {
        let (wrap_key, commitment) = derive(store_id, fixed, kek);
        if !mac::equal(&commitment, &self.commitment) {
            return None;
        }
        let aad = aad(store_id, fixed, &self.commitment);
        let sealer = Sealer::new(Cipher::Xaes256Gcm, &wrap_key);
        sealer.open(&self.nonce, &aad, &self.sealed).ok()?.expose(Key::copy_of).ok()
    }

    /// commitment || nonce || key and tag.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.commitment);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.sealed);
    }
}

/// wrap key || commitment = kdf(KEK, "slot", lp(fixed), 64).
fn derive(store_id: &[u8; 16], fixed: &[u8], kek: &Key<Kek>) -> (Key<Aead256>, [u8; 32]) {
    // What a wrap belongs to is some dozen bytes.
    let length = u32::try_from(fixed.len()).unwrap_or(u32::MAX).to_be_bytes();
    let context = [&length, fixed].concat();
    let mut both = Zeroizing::new([[0; 32]; 2]);
    kek.expose(|kek| {
        kdf::derive_into(store_id, kek, "slot", &context, both.as_flattened_mut());
    });
    let [wrap_key, commitment] = &*both;
    (Key::build(|key| key.copy_from_slice(wrap_key)), *commitment)
}

fn aad(store_id: &[u8; 16], fixed: &[u8], commitment: &[u8; 32]) -> Vec<u8> {
    [b"kista/slot/1\0".as_slice(), store_id, fixed, commitment].concat()
}

const TAG_BYTES: usize = 16;
const SEALED_BYTES: usize = 32 + TAG_BYTES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Kdf, vectors};

    const FORMAT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/format.json"));

    #[test]
    fn the_wrap_agrees_with_the_format() {
        let slot = &vectors::parse(FORMAT)["slot"];
        let (store_id, fixed) = (vectors::array(&slot["store_id"]), vectors::bytes(&slot["fixed"]));
        let kek = vectors::key(&slot["kek"]);
        let (wrap_key, commitment) = derive(&store_id, &fixed, &kek);
        assert!(wrap_key.expose(|key| key == vectors::bytes(&slot["wrap_key"])));
        assert_eq!(commitment, vectors::array(&slot["commitment"]));

        let root: Key<Kdf> = vectors::key(&slot["root_key"]);
        let nonce = vectors::array(&slot["nonce"]);
        let wrapped = Wrapped::seal(&store_id, &fixed, &kek, &root, |_aad, _key| nonce);
        assert_eq!(wrapped.commitment, commitment);
        assert_eq!(wrapped.sealed, vectors::array(&slot["wrapped_root"]));
        let opened: Key<Kdf> = wrapped.open(&store_id, &fixed, &kek).unwrap();
        assert!(opened.expose(|key| key == vectors::bytes(&slot["root_key"])));
        let other = Key::build(|key| key.fill(1));
        assert!(wrapped.open::<Kdf>(&store_id, &fixed, &other).is_none());
        assert!(wrapped.open::<Kdf>(&[0; 16], &fixed, &kek).is_none());
    }
}
