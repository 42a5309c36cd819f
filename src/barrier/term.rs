use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;

use crate::{
    crypto::{
        Aead256, HmacSha256, Kdf,
        aead::{Cipher, Sealer},
        kdf,
        mac::Mac,
    },
    secret::{Algorithm, Key, SecretBytes},
    storage::StoreId,
};

/// Length of the header of a record or head in bytes: format, cipher, flags, 0, term.
pub(super) const HEADER_BYTES: usize = 8;
/// What a record or head has around its ciphertext, in bytes: header, nonce, tag.
pub(super) const SEALED_OVERHEAD: usize = HEADER_BYTES + 24 + 16;

const FORMAT: u8 = 1;

/// The number of a term: a generation of the keys that seal records and heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TermId(pub u32);

/// What is derived from one term's key, kept ready (FORMAT.md 2).
pub(super) struct Term {
    pub(super) id: TermId,
    pub(super) store_id: StoreId,
    cipher: Cipher,
    records: Sealer,
    heads: Sealer,
    nonces: Mac,
    elements: Mac,
    /// How often it has sealed since it was derived.
    seals: AtomicU64,
}

impl Term {
    pub(super) fn derive(store_id: StoreId, id: TermId, cipher: Cipher, key: &Key<Kdf>) -> Self {
        Self {
            id,
            store_id,
            cipher,
            records: Sealer::new(cipher, &derive::<Aead256>(store_id, key, "record")),
            heads: Sealer::new(cipher, &derive::<Aead256>(store_id, key, "head")),
            nonces: Mac::new(&derive::<HmacSha256>(store_id, key, "nonce")),
            elements: Mac::new(&derive::<HmacSha256>(store_id, key, "state")),
            seals: AtomicU64::new(0),
        }
    }

    /// The sealer of records.
    pub(super) fn records(&self) -> &Sealer {
        &self.records
    }

    /// The sealer of heads.
    pub(super) fn heads(&self) -> &Sealer {
        &self.heads
    }

    /// The MAC that makes elements of the state sum.
    pub(super) fn elements(&self) -> &Mac {
        &self.elements
    }

    /// How many records and heads it has sealed since it was derived.
    pub(super) fn seals(&self) -> u64 {
        self.seals.load(Ordering::Relaxed)
    }

    /// The header of what this term seals.
    pub(super) fn header(&self, flags: u8) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.id.0.to_be_bytes();
        [FORMAT, self.cipher.code(), flags, 0, a, b, c, d]
    }

    /// A hedged nonce (FORMAT.md 2): should `random` ever repeat, only equal inputs get equal
    /// nonces.
    ///
    /// There is one for each seal, so seals are counted here.
    pub(super) fn nonce(&self, random: &[u8; 32], aad: &[u8], plaintext: &[u8]) -> [u8; 24] {
        self.seals.fetch_add(1, Ordering::Relaxed);
        let tag = self.nonces.tag(&[random, &be32(aad.len()), aad, plaintext]);
        let mut nonce = [0; 24];
        nonce.iter_mut().zip(tag).for_each(|(to, from)| *to = from);
        nonce
    }

    /// Puts header, nonce and ciphertext together.
    pub(super) fn seal(
        sealer: &Sealer,
        header: &[u8; HEADER_BYTES],
        nonce: &[u8; 24],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Vec<u8> {
        let ciphertext = sealer.seal(nonce, aad, plaintext);
        let mut sealed = Vec::with_capacity(HEADER_BYTES + nonce.len() + ciphertext.len());
        sealed.extend_from_slice(header);
        sealed.extend_from_slice(nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The terms of an open store. One is active: it alone seals.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) active: Arc<Term>,
    all: Vec<Arc<Term>>,
}

impl Terms {
    /// `active` is among `all`.
    pub(super) fn new(active: Arc<Term>, all: Vec<Arc<Term>>) -> Self {
        Self { active, all }
    }

    pub(super) fn active(&self) -> &Term {
        &self.active
    }

    pub(super) fn get(&self, id: TermId) -> Option<&Term> {
        self.find(id).map(|term| &**term)
    }

    pub(super) fn find(&self, id: TermId) -> Option<&Arc<Term>> {
        self.all.iter().find(|term| term.id == id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = TermId> + '_ {
        self.all.iter().map(|term| term.id)
    }
}

/// The terms as they are now, shared by all that seal and open. A rotation swaps them whole.
pub(super) type SharedTerms = Arc<ArcSwap<Terms>>;

/// A record or head, cut into its parts and not yet opened.
pub(super) struct Sealed<'a> {
    pub(super) header: &'a [u8; HEADER_BYTES],
    pub(super) nonce: &'a [u8; 24],
    /// Ciphertext and tag.
    pub(super) body: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Cuts it; `None` if it is too short, of another format, or the reserved byte is not zero.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let (nonce, body) = rest.split_first_chunk()?;
        let [format, _, _, reserved, _term @ ..] = *header;
        (format == FORMAT && reserved == 0).then_some(Self { header, nonce, body })
    }

    pub(super) fn flags(&self) -> u8 {
        let [_, _, flags, ..] = self.header;
        *flags
    }

    /// The term that sealed it, if it is one of `terms` and the cipher is that term's own.
    pub(super) fn term<'t>(&self, terms: &'t Terms) -> Option<&'t Term> {
        let [_, cipher, _, _, a, b, c, d] = *self.header;
        let term = terms.get(TermId(u32::from_be_bytes([a, b, c, d])))?;
        (term.cipher.code() == cipher).then_some(term)
    }

    /// Opens the ciphertext; `None` when the tag does not hold.
    pub(super) fn open(&self, sealer: &Sealer, aad: &[u8]) -> Option<SecretBytes> {
        sealer.open(self.nonce, aad, self.body).ok()
    }
}

/// Derives a key of a term or lineage secret (FORMAT.md 2, without a context).
pub(super) fn derive<A: Algorithm>(store_id: StoreId, secret: &Key<Kdf>, purpose: &str) -> Key<A> {
    secret.expose(|secret| kdf::derive(&store_id.0, secret, purpose, &[]))
}

/// A length as the four bytes before what it counts.
pub(super) fn be32(length: usize) -> [u8; 4] {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "keys, associated data and the values of single records are limited to kilobytes"
    )]
    let length = length as u32;
    length.to_be_bytes()
}
