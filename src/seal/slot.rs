use crate::{
    clock::Timestamp,
    container::cursor::{Cursor, push_prefixed},
    crypto::{Argon2Params, Kek, Wrapped},
    secret::Key,
    storage::StoreId,
};

use super::{provider::Provider, root::Root};

/// How a slot is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotType {
    /// A passphrase, stretched with Argon2id.
    Passphrase,
    /// Some of several shares.
    Shares,
    /// A file of 32 random bytes.
    Keyfile,
    /// What the machine gives the server at start.
    Automatic,
}

/// What may be told of a slot without opening it. Until the file's MAC holds these are hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotSummary {
    /// How it is opened.
    pub slot_type: SlotType,
    /// Whether a person can open it.
    pub human: bool,
    /// Random name of the slot.
    pub id: [u8; 16],
    /// When it was made.
    pub created: Timestamp,
}

/// Why the bytes of a slot are refused.
#[derive(Debug, thiserror::Error)]
pub enum SlotMalformed {
    /// Fewer or more bytes than the slot's type has.
    #[error("its length is wrong")]
    Length,
    /// A type that this version does not know.
    #[error("type {0} is not known to this version")]
    UnknownType(u8),
    /// A flag that this version does not know.
    #[error("flags {0:#04x} are not known to this version")]
    UnknownFlags(u8),
    /// A provider that this version does not know, or a name that is none.
    #[error("its provider {0} is not known to this version, or its name is none")]
    UnknownProvider(u16),
    /// Argon2 parameters outside what FORMAT.md 8 allows.
    #[error("its Argon2 parameters are out of bounds")]
    Parameters,
    /// A threshold that no number of its shares reaches.
    #[error("{threshold} of {shares} shares cannot be")]
    Counts {
        /// Shares that open it.
        threshold: u8,
        /// Shares made.
        shares: u8,
    },
}

/// A slot as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotDetails {
    /// What every slot has.
    pub summary: SlotSummary,
    /// What only its type has.
    pub opens_by: OpensBy,
}

/// What opens a slot, without the random parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpensBy {
    /// A passphrase, stretched so.
    Passphrase(Argon2Params),
    /// Shares.
    Shares {
        /// So many of them open it.
        threshold: u8,
        /// So many were made.
        shares: u8,
    },
    /// A keyfile.
    Keyfile,
    /// A provider.
    Automatic(Provider),
}

/// One way to the root key, as the seal file holds it (FORMAT.md 8).
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) summary: SlotSummary,
    pub(super) params: Params,
    wrapped: Wrapped,
}

/// What only one type of slot has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Params {
    Passphrase { argon2: Argon2Params, salt: [u8; 32] },
    Shares { threshold: u8, shares: u8, set_id: [u8; 16] },
    Keyfile { key_id: [u8; 16] },
    Automatic { provider: Provider },
}

impl Params {
    pub(super) fn slot_type(&self) -> SlotType {
        match self {
            Self::Passphrase { .. } => SlotType::Passphrase,
            Self::Shares { .. } => SlotType::Shares,
            Self::Keyfile { .. } => SlotType::Keyfile,
            Self::Automatic { .. } => SlotType::Automatic,
        }
    }

    fn parse(code: u8, bytes: &[u8]) -> Result<Self, SlotMalformed> {
        let mut cursor = Cursor::new(bytes);
        let params = match code {
            1 => Self::parse_passphrase(&mut cursor)?,
            2 => Self::parse_shares(&mut cursor)?,
            3 => Self::Keyfile { key_id: cursor.array().ok_or(SlotMalformed::Length)? },
            4 => Self::parse_automatic(&mut cursor)?,
            unknown => return Err(SlotMalformed::UnknownType(unknown)),
        };
        if cursor.rest().is_empty() { Ok(params) } else { Err(SlotMalformed::Length) }
    }

    /// The bounds are checked here, so that no parameters outside them exist: below the floor a
    /// guess would be cheap, above the ceiling opening would exhaust the machine.
    fn parse_passphrase(cursor: &mut Cursor<'_>) -> Result<Self, SlotMalformed> {
        let m_kib = cursor.be32().ok_or(SlotMalformed::Length)?;
        let t = cursor.be32().ok_or(SlotMalformed::Length)?;
        let p = cursor.byte().ok_or(SlotMalformed::Length)?;
        let salt = cursor.array().ok_or(SlotMalformed::Length)?;
        let argon2 = Argon2Params { m_kib, t, p };
        argon2.check().map_err(|_out| SlotMalformed::Parameters)?;
        Ok(Self::Passphrase { argon2, salt })
    }

    fn parse_shares(cursor: &mut Cursor<'_>) -> Result<Self, SlotMalformed> {
        let threshold = cursor.byte().ok_or(SlotMalformed::Length)?;
        let shares = cursor.byte().ok_or(SlotMalformed::Length)?;
        let set_id = cursor.array().ok_or(SlotMalformed::Length)?;
        let possible = (threshold == 1 && shares == 1) || (2..=shares).contains(&threshold);
        if !possible {
            return Err(SlotMalformed::Counts { threshold, shares });
        }
        Ok(Self::Shares { threshold, shares, set_id })
    }

    fn parse_automatic(cursor: &mut Cursor<'_>) -> Result<Self, SlotMalformed> {
        let code = cursor.be16().ok_or(SlotMalformed::Length)?;
        let blob = cursor.prefixed().ok_or(SlotMalformed::Length)?;
        let provider = Provider::parse(code, blob).ok_or(SlotMalformed::UnknownProvider(code))?;
        Ok(Self::Automatic { provider })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(41);
        match self {
            Self::Passphrase { argon2, salt } => {
                out.extend_from_slice(&argon2.m_kib.to_be_bytes());
                out.extend_from_slice(&argon2.t.to_be_bytes());
                out.push(argon2.p);
                out.extend_from_slice(salt);
            }
            Self::Shares { threshold, shares, set_id } => {
                out.push(*threshold);
                out.push(*shares);
                out.extend_from_slice(set_id);
            }
            Self::Keyfile { key_id } => out.extend_from_slice(key_id),
            Self::Automatic { provider } => {
                out.extend_from_slice(&provider.code().to_be_bytes());
                push_prefixed(&mut out, provider.blob());
            }
        }
        out
    }
}

impl Slot {
    /// Threshold and number of its shares, if it is of shares.
    pub(super) fn shares(&self) -> Option<(u8, u8)> {
        match self.params {
            Params::Shares { threshold, shares, .. } => Some((threshold, shares)),
            Params::Passphrase { .. } | Params::Keyfile { .. } | Params::Automatic { .. } => None,
        }
    }

    pub(super) fn details(&self) -> SlotDetails {
        let opens_by = match &self.params {
            Params::Passphrase { argon2, .. } => OpensBy::Passphrase(*argon2),
            Params::Shares { threshold, shares, .. } => {
                OpensBy::Shares { threshold: *threshold, shares: *shares }
            }
            Params::Keyfile { .. } => OpensBy::Keyfile,
            Params::Automatic { provider } => OpensBy::Automatic(provider.clone()),
        };
        SlotDetails { summary: self.summary, opens_by }
    }

    /// Wraps the root key for whoever holds `kek`.
    pub(super) fn wrap(root: &Root, summary: SlotSummary, params: Params, kek: &Key<Kek>) -> Self {
        Self::wrap_with(root, summary, params, kek, |aad, key| root.nonce(aad, key))
    }

    fn wrap_with(
        root: &Root,
        summary: SlotSummary,
        params: Params,
        kek: &Key<Kek>,
        nonce: impl FnOnce(&[u8], &[u8]) -> [u8; 24],
    ) -> Self {
        let fixed = fixed(&summary, &params);
        let wrapped = Wrapped::seal(&root.store_id().0, &fixed, kek, root.key(), nonce);
        Self { summary, params, wrapped }
    }

    /// Gives the root key to the holder of the right `kek` and `None` to everyone else.
    pub(super) fn unwrap(&self, store_id: &StoreId, kek: &Key<Kek>) -> Option<Root> {
        let fixed = fixed(&self.summary, &self.params);
        let key = self.wrapped.open(&store_id.0, &fixed, kek)?;
        Some(Root::new(key, *store_id))
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, SlotMalformed> {
        let mut cursor = Cursor::new(bytes);
        let code = cursor.byte().ok_or(SlotMalformed::Length)?;
        let flags = cursor.byte().ok_or(SlotMalformed::Length)?;
        if flags & !HUMAN != 0 {
            return Err(SlotMalformed::UnknownFlags(flags));
        }
        let id = cursor.array().ok_or(SlotMalformed::Length)?;
        let millis = cursor.be64().ok_or(SlotMalformed::Length)?;
        let created = Timestamp::from_millis(millis);
        // Beyond what a timestamp holds it would not be written back as the same bytes.
        if created.millis() != millis {
            return Err(SlotMalformed::Parameters);
        }
        let length = cursor.be16().ok_or(SlotMalformed::Length)?;
        let params = cursor.take(usize::from(length)).ok_or(SlotMalformed::Length)?;
        let params = Params::parse(code, params)?;
        let commitment = cursor.array().ok_or(SlotMalformed::Length)?;
        let nonce = cursor.array().ok_or(SlotMalformed::Length)?;
        let sealed = cursor.array().ok_or(SlotMalformed::Length)?;
        if !cursor.rest().is_empty() {
            return Err(SlotMalformed::Length);
        }
        let summary =
            SlotSummary { slot_type: params.slot_type(), human: flags & HUMAN != 0, id, created };
        Ok(Self { summary, params, wrapped: Wrapped { commitment, nonce, sealed } })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = fixed(&self.summary, &self.params);
        self.wrapped.encode(&mut out);
        out
    }
}

/// The fields that the commitment, the wrap key and the tag all bind.
fn fixed(summary: &SlotSummary, params: &Params) -> Vec<u8> {
    let encoded = params.encode();
    let code = match summary.slot_type {
        SlotType::Passphrase => 1,
        SlotType::Shares => 2,
        SlotType::Keyfile => 3,
        SlotType::Automatic => 4,
    };
    let length = u16::try_from(encoded.len()).unwrap_or(u16::MAX);
    let mut out = Vec::with_capacity(28 + encoded.len());
    out.push(code);
    out.push(if summary.human { HUMAN } else { 0 });
    out.extend_from_slice(&summary.id);
    out.extend_from_slice(&summary.created.millis().to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&encoded);
    out
}

const HUMAN: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::kdf, secret::SecretString};

    fn root() -> Root {
        Root::new(Key::build(|key| key.fill(0x22)), StoreId([9; 16]))
    }

    fn kek(byte: u8) -> Key<Kek> {
        Key::build(|key| key.fill(byte))
    }

    fn keyfile_slot() -> Slot {
        let params = Params::Keyfile { key_id: [5; 16] };
        let summary = SlotSummary {
            slot_type: SlotType::Keyfile,
            human: false,
            id: [6; 16],
            created: Timestamp::from_millis(7),
        };
        Slot::wrap(&root(), summary, params, &kek(1))
    }

    fn passphrase_bytes(m_kib: u32, t: u32, p: u8) -> Vec<u8> {
        let params = Params::Passphrase { argon2: Argon2Params { m_kib, t, p }, salt: [8; 32] };
        let summary = SlotSummary {
            slot_type: SlotType::Passphrase,
            human: true,
            id: [6; 16],
            created: Timestamp::from_millis(7),
        };
        Slot::wrap(&root(), summary, params, &kek(1)).encode()
    }

    #[test]
    fn a_passphrase_slot_matches_the_vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/format.json")).unwrap();
        let slot = &vectors["slot"];
        let text = |name: &str| slot[name].as_str().unwrap();
        let bytes = |name: &str| data_encoding::HEXLOWER.decode(text(name).as_bytes()).unwrap();
        let number = |name: &str| slot[name].as_u64().unwrap();
        let store_id = StoreId(bytes("store_id").try_into().unwrap());
        let argon2 = Argon2Params {
            m_kib: u32::try_from(number("m_kib")).unwrap(),
            t: u32::try_from(number("t")).unwrap(),
            p: u8::try_from(number("p")).unwrap(),
        };
        let passphrase = SecretString::from_string(String::from_utf8(bytes("passphrase")).unwrap());
        let kek = kdf::argon2id(&passphrase, &bytes("salt"), argon2).unwrap();
        assert!(kek.expose(|kek| kek == bytes("kek")));

        let params = Params::Passphrase { argon2, salt: bytes("salt").try_into().unwrap() };
        let summary = SlotSummary {
            slot_type: SlotType::Passphrase,
            human: number("flags") == 1,
            id: bytes("slot_id").try_into().unwrap(),
            created: Timestamp::from_millis(number("created_ms")),
        };
        assert_eq!(fixed(&summary, &params), bytes("fixed"));

        let root = Root::new(Key::copy_of(&bytes("root_key")).unwrap(), store_id);
        let nonce = bytes("nonce").try_into().unwrap();
        let slot = Slot::wrap_with(&root, summary, params, &kek, |_aad, _key| nonce);
        assert_eq!(slot.wrapped.sealed, *bytes("wrapped_root"));
        assert_eq!(slot.wrapped.commitment, *bytes("commitment"));
        let opened = Slot::parse(&slot.encode()).unwrap().unwrap(&store_id, &kek).unwrap();
        assert!(opened.key().expose(|key| key == bytes("root_key")));
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let bytes = keyfile_slot().encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let opened = Slot::parse(&flipped)
                    .ok()
                    .and_then(|slot| slot.unwrap(&StoreId([9; 16]), &kek(1)));
                assert!(opened.is_none(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_slot_opens_in_its_own_store_only() {
        assert!(keyfile_slot().unwrap(&StoreId([9; 16]), &kek(1)).is_some());
        assert!(keyfile_slot().unwrap(&StoreId([8; 16]), &kek(1)).is_none());
        assert!(keyfile_slot().unwrap(&StoreId([9; 16]), &kek(2)).is_none());
    }

    #[test]
    fn a_wrong_commitment_is_refused_before_the_key_is_used() {
        let mut slot = keyfile_slot();
        slot.wrapped.commitment[0] ^= 1;
        assert!(slot.unwrap(&StoreId([9; 16]), &kek(1)).is_none());
    }

    #[test]
    fn parameters_out_of_bounds_are_refused_unread() {
        assert!(Slot::parse(&passphrase_bytes(65_536, 3, 4)).is_ok());
        for (m_kib, t, p) in [
            (65_535, 3, 4),
            (65_536, 2, 4),
            (4 * 1024 * 1024 + 1, 1, 1),
            (65_536, 21, 4),
            (u32::MAX, u32::MAX, 255),
            (65_536, 3, 0),
            (65_536, 3, 9),
        ] {
            let refused = Slot::parse(&passphrase_bytes(m_kib, t, p));
            assert!(matches!(refused, Err(SlotMalformed::Parameters)), "{m_kib} {t} {p}");
        }
    }

    #[test]
    fn unknown_types_and_flags_are_refused() {
        let mut bytes = keyfile_slot().encode();
        bytes[0] = 5;
        assert!(matches!(Slot::parse(&bytes), Err(SlotMalformed::UnknownType(5))));
        bytes[0] = 3;
        bytes[1] = 2;
        assert!(matches!(Slot::parse(&bytes), Err(SlotMalformed::UnknownFlags(2))));
    }

    #[test]
    fn an_automatic_slot_comes_back_and_an_unknown_provider_is_refused() {
        let provider = Provider::parse(1, b"kista.root").unwrap();
        let params = Params::Automatic { provider };
        let mut encoded = params.encode();
        assert_eq!(encoded, b"\0\x01\0\0\0\x0akista.root");
        assert_eq!(Params::parse(4, &encoded).unwrap(), params);
        encoded[1] = 2;
        let refused = Params::parse(4, &encoded);
        assert!(matches!(refused, Err(SlotMalformed::UnknownProvider(2))));
        assert!(matches!(Params::parse(4, &encoded[..9]), Err(SlotMalformed::Length)));
    }

    #[test]
    fn share_counts_that_cannot_be_are_refused() {
        for (threshold, shares) in [(0, 1), (1, 0), (1, 2), (3, 2), (0, 0)] {
            let mut bytes = vec![threshold, shares];
            bytes.extend_from_slice(&[0; 16]);
            assert!(matches!(Params::parse(2, &bytes), Err(SlotMalformed::Counts { .. })));
        }
    }
}
