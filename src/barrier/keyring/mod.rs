//! The random keys of a store, and what is derived from them (FORMAT.md 2 and 8).

#[cfg(test)]
mod tests;

use std::{collections::HashSet, fmt, sync::Arc};

use super::{
    NamesGeneration, SpaceId,
    fields::Fields,
    space::Naming,
    term::{Term, TermId, Terms, derive},
};
use crate::{
    clock::Timestamp,
    crypto::{
        AesSiv512, Ed25519Seed, HmacSha256, Kdf,
        aead::Cipher,
        kdf,
        mac::{self, Mac},
        random,
        sign::SigningKey,
        siv::Siv,
    },
    secret::{Key, SecretBytes},
    storage::StoreId,
};

/// How many terms a keyring holds at most; a head lists no more (FORMAT.md 7).
pub(super) const MAX_TERMS: usize = 8;
/// How many lineage secrets a keyring holds at most: a bound on what is parsed.
const MAX_SECRETS: usize = 64;
const FORMAT: u8 = 1;
const TERM_BYTES: usize = 4 + 1 + 1 + 8 + 32 + 32;
const SECRET_BYTES: usize = 1 + 4 + 32;

/// The random keys of a store: terms, which rotate, and lineage secrets, which outlive them.
///
/// Everything else is derived from these (FORMAT.md 2). It lives in the seal file, sealed under
/// the root key, and in memory while the store is open; it is never written to the journal.
pub struct Keyring {
    store_id: StoreId,
    terms: Vec<TermEntry>,
    secrets: Vec<Secret>,
}

struct TermEntry {
    id: TermId,
    cipher: Cipher,
    state: TermState,
    created: Timestamp,
    key: Key<Kdf>,
}

/// Where a term is in its life (FORMAT.md 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TermState {
    Pending = 1,
    Active = 2,
    Retiring = 3,
}

struct Secret {
    kind: Lineage,
    generation: u32,
    key: Key<Kdf>,
}

/// What a lineage secret is the root of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lineage {
    Names = 1,
    Tokens = 2,
    Audit = 3,
    Anchor = 4,
}

/// The keys of one audit device.
#[derive(Debug)]
pub struct AuditKeys {
    /// HMAC of the leaves of a line.
    pub leaves: Mac,
    /// The keyed tag of each line.
    pub chain: Mac,
    /// Signs checkpoints.
    pub checkpoints: SigningKey,
}

/// A keyring that opened under the root key and yet cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// Written by a later version.
    #[error("the keyring has format {0}, which this version does not know; use a newer one")]
    Format(u8),
    /// Not laid out as FORMAT.md 8 says.
    #[error("the keyring is malformed")]
    Malformed,
    /// A term's key does not match its check value in this store.
    #[error("the key of term {} does not match its check value", .0.0)]
    Check(TermId),
    /// As many terms as a head lists are live.
    #[error(
        "{MAX_TERMS} terms are live: wait until the rotation under way has destroyed the old ones"
    )]
    TooManyTerms,
    /// Names are moving to a newer secret already.
    #[error("the names are moving to a new key already: wait until the old one is destroyed")]
    NamesMoving,
    /// No pending term of this number.
    #[error("term {} is not pending", .0.0)]
    NotPending(TermId),
}

/// What may be told of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermSummary {
    /// Its number.
    pub id: TermId,
    /// When it was made.
    pub created: Timestamp,
}

impl Keyring {
    /// Makes the keyring of a new store, and with it the store's id: one active term, one secret of
    /// each lineage.
    pub fn generate(now: Timestamp) -> Self {
        let secret = |kind| Secret { kind, generation: 1, key: random::key() };
        Self {
            store_id: StoreId(random::array()),
            terms: vec![TermEntry {
                id: TermId(1),
                cipher: Cipher::Xaes256Gcm,
                state: TermState::Active,
                created: now,
                key: random::key(),
            }],
            secrets: Lineage::ALL.map(secret).into(),
        }
    }

    /// The store that this is the keyring of.
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// Lays the keyring out as FORMAT.md 8 says, for the seal file.
    pub fn encode(&self) -> SecretBytes {
        let length = 3 + self.terms.len() * TERM_BYTES + self.secrets.len() * SECRET_BYTES;
        // Of its final length from the start: growing would leave copies of keys behind.
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&[FORMAT, count(self.terms.len())]);
        for term in &self.terms {
            bytes.extend_from_slice(&term.id.0.to_be_bytes());
            bytes.extend_from_slice(&[term.cipher.code(), term.state as u8]);
            bytes.extend_from_slice(&term.created.millis().to_be_bytes());
            term.key.expose(|key| bytes.extend_from_slice(key));
            check_value(self.store_id, &term.key).expose(|check| bytes.extend_from_slice(check));
        }
        bytes.push(count(self.secrets.len()));
        for secret in &self.secrets {
            bytes.push(secret.kind as u8);
            bytes.extend_from_slice(&secret.generation.to_be_bytes());
            secret.key.expose(|key| bytes.extend_from_slice(key));
        }
        SecretBytes::from_vec(bytes)
    }

    /// Reads a keyring that was opened under the root key of this store.
    ///
    /// # Errors
    /// [`KeyringError`]: another format, another layout, or a term that fails its check value.
    pub fn decode(store_id: &StoreId, encoded: &SecretBytes) -> Result<Self, KeyringError> {
        encoded.expose(|bytes| match bytes.first() {
            Some(&FORMAT) => Self::parse(*store_id, bytes),
            Some(&format) => Err(KeyringError::Format(format)),
            None => Err(KeyringError::Malformed),
        })
    }

    fn parse(store_id: StoreId, bytes: &[u8]) -> Result<Self, KeyringError> {
        let mut fields = Fields::of(bytes);
        let [_format, terms] = *fields.bytes().ok_or(KeyringError::Malformed)?;
        let terms =
            (0..terms).map(|_| TermEntry::read(store_id, &mut fields)).collect::<Result<_, _>>()?;
        let secrets = fields.u8().ok_or(KeyringError::Malformed)?;
        let secrets = (0..secrets).map(|_| Secret::read(&mut fields)).collect::<Option<_>>();
        let keyring = Self { store_id, terms, secrets: secrets.ok_or(KeyringError::Malformed)? };
        fields.end().ok_or(KeyringError::Malformed)?;
        keyring.is_whole().then_some(keyring).ok_or(KeyringError::Malformed)
    }

    /// Whether it holds what a store needs: one active term, every lineage, nothing twice, and
    /// names that move from one secret to one other at most.
    fn is_whole(&self) -> bool {
        let active = self.terms.iter().filter(|term| term.state == TermState::Active).count();
        let ids: HashSet<_> = self.terms.iter().map(|term| term.id).collect();
        let kept: HashSet<_> = self.secrets.iter().map(|s| (s.kind, s.generation)).collect();
        let names: Vec<_> = self.secrets.iter().filter(|s| s.kind == Lineage::Names).collect();
        let lineages = Lineage::ALL.iter().all(|kind| self.secrets.iter().any(|s| s.kind == *kind));
        active == 1
            && ids.len() == self.terms.len()
            && ids.len() <= MAX_TERMS
            && kept.len() == self.secrets.len()
            && kept.len() <= MAX_SECRETS
            && names.len() <= 2
            && names.iter().all(|s| s.generation > 0)
            && lineages
    }

    /// The term that seals.
    pub fn active(&self) -> TermSummary {
        #[expect(
            clippy::expect_used,
            reason = "`generate` makes one active term, `is_whole` refuses a keyring without, and \
                      every change keeps one"
        )]
        self.of_state(TermState::Active).next().expect("a keyring has an active term")
    }

    /// The term that is to become active.
    pub fn pending(&self) -> Option<TermSummary> {
        self.of_state(TermState::Pending).next()
    }

    /// The terms that still open old records, and will be removed.
    pub fn retiring(&self) -> Vec<TermSummary> {
        self.of_state(TermState::Retiring).collect()
    }

    /// Whether it holds this term, in whatever state.
    pub(super) fn holds(&self, id: TermId) -> bool {
        self.terms.iter().any(|term| term.id == id)
    }

    fn of_state(&self, state: TermState) -> impl Iterator<Item = TermSummary> + '_ {
        let of_state = self.terms.iter().filter(move |term| term.state == state);
        of_state.map(|term| TermSummary { id: term.id, created: term.created })
    }

    /// This keyring and a new pending term, of the active one's cipher (FORMAT.md 11, step 1). A
    /// pending term that is there already is the one.
    ///
    /// # Errors
    /// [`KeyringError::TooManyTerms`].
    pub fn with_pending(&self, now: Timestamp) -> Result<(Self, TermId), KeyringError> {
        if let Some(pending) = self.pending() {
            return Ok((self.copy(), pending.id));
        }
        if self.terms.len() >= MAX_TERMS {
            return Err(KeyringError::TooManyTerms);
        }
        // Numbers rise and the newest term is never removed, so none comes twice.
        let newest = self.terms.iter().max_by_key(|term| term.id);
        let (id, cipher) = newest.map_or((0, Cipher::Xaes256Gcm), |term| (term.id.0, term.cipher));
        let id = TermId(id.checked_add(1).ok_or(KeyringError::TooManyTerms)?);
        let mut keyring = self.copy();
        // As it is kept, so that it is the same after a restart.
        let created = Timestamp::from_millis(now.millis());
        let (state, key) = (TermState::Pending, random::key());
        keyring.terms.push(TermEntry { id, cipher, state, created, key });
        Ok((keyring, id))
    }

    /// This keyring with its pending term active, and the active one retiring (step 2).
    ///
    /// # Errors
    /// [`KeyringError::NotPending`].
    pub fn with_active(&self, id: TermId) -> Result<Self, KeyringError> {
        if self.pending().is_none_or(|pending| pending.id != id) {
            return Err(KeyringError::NotPending(id));
        }
        let mut keyring = self.copy();
        for term in &mut keyring.terms {
            term.state = if term.id == id { TermState::Active } else { TermState::Retiring };
        }
        Ok(keyring)
    }

    /// This keyring without its retiring terms (step 7).
    #[must_use]
    pub fn without_retiring(&self) -> Self {
        let mut keyring = self.copy();
        keyring.terms.retain(|term| term.state != TermState::Retiring);
        keyring
    }

    fn copy(&self) -> Self {
        let key =
            |key: &Key<Kdf>| key.expose(|bytes| Key::build(|copy| copy.copy_from_slice(bytes)));
        let term = |term: &TermEntry| TermEntry {
            id: term.id,
            cipher: term.cipher,
            state: term.state,
            created: term.created,
            key: key(&term.key),
        };
        let secret = |secret: &Secret| Secret {
            kind: secret.kind,
            generation: secret.generation,
            key: key(&secret.key),
        };
        Self {
            store_id: self.store_id,
            terms: self.terms.iter().map(term).collect(),
            secrets: self.secrets.iter().map(secret).collect(),
        }
    }

    /// Derives what the terms seal with.
    pub(super) fn terms(&self) -> Result<Terms, KeyringError> {
        self.terms_after(None)
    }

    /// The same, with what is derived already taken over from `before`: it counts its uses.
    pub(super) fn terms_after(&self, before: Option<&Terms>) -> Result<Terms, KeyringError> {
        let derived = |term: &TermEntry| {
            let known = before.and_then(|before| before.find(term.id)).map(Arc::clone);
            let derive = || Term::derive(self.store_id, term.id, term.cipher, &term.key);
            known.unwrap_or_else(|| Arc::new(derive()))
        };
        let all: Vec<_> = self.terms.iter().map(derived).collect();
        let is_active = |(entry, _): &(&TermEntry, _)| entry.state == TermState::Active;
        let (_, active) =
            self.terms.iter().zip(&all).find(is_active).ok_or(KeyringError::Malformed)?;
        Ok(Terms::new(Arc::clone(active), all))
    }

    /// How the names of a space are encrypted: under the newest secret, and what has not moved to
    /// it yet under the one before.
    pub(super) fn naming(&self, space: SpaceId) -> Naming {
        let of = |secret: &Secret, previous| {
            let siv = secret.names_cipher(self.store_id, space);
            Naming::new(space, NamesGeneration(secret.generation), siv, previous)
        };
        let previous = self.old_names().map(|secret| of(secret, None));
        of(self.newest(Lineage::Names), previous)
    }

    /// The cipher of the names of a space in one generation, as long as that is there.
    pub(super) fn names_cipher(&self, generation: NamesGeneration, space: SpaceId) -> Option<Siv> {
        let is_meant = |s: &&Secret| s.kind == Lineage::Names && s.generation == generation.0;
        Some(self.secrets.iter().find(is_meant)?.names_cipher(self.store_id, space))
    }

    /// The generation that names are encrypted under.
    pub fn names_generation(&self) -> NamesGeneration {
        NamesGeneration(self.newest(Lineage::Names).generation)
    }

    /// The generation that records move away from.
    pub fn old_names_generation(&self) -> Option<NamesGeneration> {
        self.old_names().map(|secret| NamesGeneration(secret.generation))
    }

    /// This keyring and a new secret of names, which all records are to move to.
    ///
    /// # Errors
    /// [`KeyringError::NamesMoving`].
    pub fn with_new_names(&self) -> Result<Self, KeyringError> {
        if self.old_names().is_some() {
            return Err(KeyringError::NamesMoving);
        }
        let newest = self.names_generation();
        let generation = newest.0.checked_add(1).ok_or(KeyringError::Malformed)?;
        let mut keyring = self.copy();
        keyring.secrets.push(Secret { kind: Lineage::Names, generation, key: random::key() });
        Ok(keyring)
    }

    /// This keyring without the secret of names that records have moved away from.
    #[must_use]
    pub fn without_old_names(&self) -> Self {
        let newest = self.names_generation().0;
        let mut keyring = self.copy();
        keyring.secrets.retain(|s| s.kind != Lineage::Names || s.generation == newest);
        keyring
    }

    fn old_names(&self) -> Option<&Secret> {
        let newest = self.names_generation().0;
        self.secrets.iter().find(|s| s.kind == Lineage::Names && s.generation < newest)
    }

    /// The keyed hash under which tokens are found (FORMAT.md 2).
    pub fn token_mac(&self) -> Mac {
        Mac::new(&self.derive::<HmacSha256>(Lineage::Tokens, "token", &[]))
    }

    /// The keys of an audit device.
    pub fn audit_keys(&self, device_id: &[u8; 16]) -> AuditKeys {
        let hmac = |purpose| Mac::new(&self.derive(Lineage::Audit, purpose, device_id));
        let seed = self.derive::<Ed25519Seed>(Lineage::Audit, "audit-sign", device_id);
        AuditKeys {
            leaves: hmac("audit-hmac"),
            chain: hmac("audit-chain"),
            checkpoints: SigningKey::from_seed(&seed),
        }
    }

    /// The MAC of anchors.
    pub fn anchor_mac(&self) -> Mac {
        Mac::new(&self.derive::<HmacSha256>(Lineage::Anchor, "anchor", &[]))
    }

    /// Derives from the newest secret of a lineage.
    fn derive<A: crate::secret::Algorithm>(
        &self,
        kind: Lineage,
        purpose: &str,
        context: &[u8],
    ) -> Key<A> {
        self.newest(kind).derive(self.store_id, purpose, context)
    }

    fn newest(&self, kind: Lineage) -> &Secret {
        let newest = self.secrets.iter().filter(|s| s.kind == kind).max_by_key(|s| s.generation);
        #[expect(
            clippy::expect_used,
            reason = "`generate` makes each lineage, and `is_whole` refuses a keyring without one"
        )]
        newest.expect("a keyring holds every lineage")
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms: Vec<_> = self.terms.iter().map(|term| (term.id, term.state)).collect();
        f.debug_struct("Keyring").field("terms", &terms).finish_non_exhaustive()
    }
}

impl TermEntry {
    /// Reads a term and holds its key against its check value.
    fn read(store_id: StoreId, fields: &mut Fields<'_>) -> Result<Self, KeyringError> {
        let (term, check) = Self::parse(fields).ok_or(KeyringError::Malformed)?;
        let holds = check_value(store_id, &term.key).expose(|value| mac::equal(value, check));
        if holds { Ok(term) } else { Err(KeyringError::Check(term.id)) }
    }

    fn parse<'a>(fields: &mut Fields<'a>) -> Option<(Self, &'a [u8; 32])> {
        let id = TermId(fields.be32()?);
        let cipher = Cipher::from_code(fields.u8()?)?;
        let state = match fields.u8()? {
            1 => TermState::Pending,
            2 => TermState::Active,
            3 => TermState::Retiring,
            _ => return None,
        };
        let created = fields.time_ms()?;
        let key = Key::copy_of(fields.bytes::<32>()?).ok()?;
        Some((Self { id, cipher, state, created, key }, fields.bytes()?))
    }
}

impl Secret {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let code = fields.u8()?;
        let kind = Lineage::ALL.into_iter().find(|kind| *kind as u8 == code)?;
        let generation = fields.be32()?;
        let key = Key::copy_of(fields.bytes::<32>()?).ok()?;
        Some(Self { kind, generation, key })
    }

    fn derive<A: crate::secret::Algorithm>(
        &self,
        store_id: StoreId,
        purpose: &str,
        context: &[u8],
    ) -> Key<A> {
        self.key.expose(|secret| kdf::derive(&store_id.0, secret, purpose, context))
    }

    fn names_cipher(&self, store_id: StoreId, space: SpaceId) -> Siv {
        Siv::new(&self.derive::<AesSiv512>(store_id, "names", &space.0))
    }
}

impl Lineage {
    const ALL: [Self; 4] = [Self::Names, Self::Tokens, Self::Audit, Self::Anchor];
}

/// What is kept beside a term's key, to tell a keyring of another store before anything is read.
fn check_value(store_id: StoreId, key: &Key<Kdf>) -> Key<Kdf> {
    derive(store_id, key, "check")
}

/// A count as one byte; [`MAX_TERMS`] and [`MAX_SECRETS`] are far below its end.
fn count(entries: usize) -> u8 {
    u8::try_from(entries).unwrap_or(u8::MAX)
}
