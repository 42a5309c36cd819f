use super::{cursor::Cursor, header::HeaderError};
use crate::{
    clock::Timestamp,
    crypto::{Argon2Params, OutOfBounds, Wrapped, committing::Cobblestone256, kdf, random},
    secret::{Key, SecretString},
};

/// A file key wrapped under a passphrase, in the layout of a slot of the seal file (FORMAT.md 8)
/// whose store is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passphrase {
    id: [u8; 16],
    created_ms: u64,
    cost: Argon2Params,
    salt: [u8; 32],
    wrapped: Wrapped,
}

impl Passphrase {
    /// Wraps a file key. Takes as long, and as much memory, as `cost` says.
    ///
    /// # Errors
    /// [`OutOfBounds`] for a cost that is not allowed or that the machine does not bear.
    pub fn wrap(
        passphrase: &SecretString,
        cost: Argon2Params,
        created: Timestamp,
        key: &Key<Cobblestone256>,
    ) -> Result<Self, OutOfBounds> {
        let salt: [u8; 32] = random::array();
        let kek = kdf::argon2id(passphrase, &salt, cost)?;
        let (id, created_ms) = (random::array(), created.millis());
        let fixed = fixed(&id, created_ms, cost, &salt);
        let wrapped = Wrapped::seal(&NO_STORE, &fixed, &kek, key, |_aad, _key| random::array());
        Ok(Self { id, created_ms, cost, salt, wrapped })
    }

    /// The file key, for the holder of the passphrase. Takes as long, and as much memory, as the
    /// stanza says, within the bounds of FORMAT.md 8.
    ///
    /// # Errors
    /// [`OutOfBounds`] when the machine does not bear it.
    pub fn unwrap(
        &self,
        passphrase: &SecretString,
    ) -> Result<Option<Key<Cobblestone256>>, OutOfBounds> {
        let kek = kdf::argon2id(passphrase, &self.salt, self.cost)?;
        Ok(self.wrapped.open(&NO_STORE, &self.fixed(), &kek))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.fixed();
        self.wrapped.encode(&mut out);
        out
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, HeaderError> {
        let mut cursor = Cursor::new(body);
        if cursor.array() != Some([PASSPHRASE, HUMAN]) {
            return Err(HeaderError::Damaged);
        }
        let id = cursor.array().ok_or(HeaderError::Damaged)?;
        let created_ms = cursor.be64().ok_or(HeaderError::Damaged)?;
        if cursor.be16() != Some(PARAMS_BYTES) {
            return Err(HeaderError::Damaged);
        }
        let m_kib = cursor.be32().ok_or(HeaderError::Damaged)?;
        let t = cursor.be32().ok_or(HeaderError::Damaged)?;
        let p = cursor.byte().ok_or(HeaderError::Damaged)?;
        let cost = Argon2Params { m_kib, t, p };
        // Below the floor a guess would be cheap, above the ceiling opening would exhaust the
        // machine.
        cost.check().map_err(|_out| HeaderError::Cost)?;
        let salt = cursor.array().ok_or(HeaderError::Damaged)?;
        let commitment = cursor.array().ok_or(HeaderError::Damaged)?;
        let nonce = cursor.array().ok_or(HeaderError::Damaged)?;
        let sealed = cursor.array().ok_or(HeaderError::Damaged)?;
        if !cursor.rest().is_empty() {
            return Err(HeaderError::Damaged);
        }
        Ok(Self { id, created_ms, cost, salt, wrapped: Wrapped { commitment, nonce, sealed } })
    }

    fn fixed(&self) -> Vec<u8> {
        fixed(&self.id, self.created_ms, self.cost, &self.salt)
    }
}

/// What commitment and tag bind, as of a slot of type passphrase that a person opens.
fn fixed(id: &[u8; 16], created_ms: u64, cost: Argon2Params, salt: &[u8; 32]) -> Vec<u8> {
    let mut out = vec![PASSPHRASE, HUMAN];
    out.extend_from_slice(id);
    out.extend_from_slice(&created_ms.to_be_bytes());
    out.extend_from_slice(&PARAMS_BYTES.to_be_bytes());
    out.extend_from_slice(&cost.m_kib.to_be_bytes());
    out.extend_from_slice(&cost.t.to_be_bytes());
    out.push(cost.p);
    out.extend_from_slice(salt);
    out
}

/// A file belongs to no store.
const NO_STORE: [u8; 16] = [0; 16];
/// Type and flag of a slot (FORMAT.md 8).
const PASSPHRASE: u8 = 1;
const HUMAN: u8 = 1;
const PARAMS_BYTES: u16 = 41;
