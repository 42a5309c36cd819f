use crate::{
    barrier::Keyring,
    container::cursor::{Cursor, push_prefixed},
    crypto::mac,
    storage::StoreId,
};

use super::{
    root::Root,
    slot::{Slot, SlotMalformed, SlotSummary},
};

/// One whole copy of the seal file (FORMAT.md 8), structure and checksum in order.
///
/// Until [`Loaded::open`](super::Loaded::open) succeeds nothing in it is proven: everything it
/// tells is a hint.
#[derive(Debug)]
pub struct SealFile {
    bytes: Vec<u8>,
    epoch: u64,
    store_id: StoreId,
    root_id: [u8; 16],
    slots: Vec<Slot>,
    keyring: SealedKeyring,
}

/// Why bytes are not a seal file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It does not begin as seal files do.
    #[error("it is not a seal file of this format")]
    Magic,
    /// More than a seal file may have.
    #[error("it is longer than 64 KiB")]
    TooLong,
    /// It ends early, or a length in it is wrong.
    #[error("it ends too early")]
    Short,
    /// Bytes follow the end.
    #[error("bytes follow its end")]
    Trailing,
    /// Some bit changed since it was written.
    #[error("its checksum does not hold")]
    Checksum,
    /// No slots, or more than 32.
    #[error("it holds {0} slots, not 1 to 32")]
    SlotCount(u8),
    /// A slot is not as slots are.
    #[error("slot {index} is not usable")]
    Slot {
        /// Place of the slot, from 0.
        index: u8,
        /// What is wrong with it.
        #[source]
        cause: SlotMalformed,
    },
    /// The sealed keyring's header is not one that this version knows.
    #[error("its keyring has a header that this version does not know")]
    KeyringHeader,
}

/// The keyring as it lies in the file.
#[derive(Debug)]
pub(super) struct SealedKeyring {
    nonce: [u8; 24],
    ciphertext: Vec<u8>,
}

impl SealFile {
    /// Writes counter: +1 with every change of the file.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The store that this file opens.
    pub fn store_id(&self) -> StoreId {
        self.store_id
    }

    /// What may be told of each slot, in order.
    pub fn slots(&self) -> impl Iterator<Item = SlotSummary> + '_ {
        self.slots.iter().map(|slot| slot.summary)
    }

    /// Threshold and number of the shares, if there is a slot of shares.
    pub fn shares(&self) -> Option<(u8, u8)> {
        self.slots.iter().find_map(Slot::shares)
    }

    /// Names the root key that the slots wrap.
    pub fn root_id(&self) -> [u8; 16] {
        self.root_id
    }

    /// The file as it is written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The root key's name, and the slots in order.
    pub(super) fn into_parts(self) -> ([u8; 16], Vec<Slot>) {
        (self.root_id, self.slots)
    }

    pub(super) fn slots_in_order(&self) -> &[Slot] {
        &self.slots
    }

    /// Seals a new file.
    pub(super) fn seal(
        root: &Root,
        epoch: u64,
        root_id: [u8; 16],
        slots: &[Slot],
        keyring: &Keyring,
    ) -> Vec<u8> {
        let store_id = *root.store_id();
        let aad = keyring_aad(&store_id, &root_id, epoch);
        let sealed_keyring = keyring.encode().expose(|plaintext| {
            let nonce = root.nonce(&aad, plaintext);
            let ciphertext = root.keyring_sealer().seal(&nonce, &aad, plaintext);
            [KEYRING_HEADER.as_slice(), &nonce, &ciphertext].concat()
        });
        let mut out = Vec::with_capacity(4096);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&epoch.to_be_bytes());
        out.extend_from_slice(&store_id.0);
        out.extend_from_slice(&root_id);
        push_prefixed(&mut out, &encode_slots(slots));
        push_prefixed(&mut out, &sealed_keyring);
        let mac = root.seal_mac().tag(&[&out]);
        out.extend_from_slice(&mac);
        let sum = mac::sha256(&[&out]);
        out.extend_from_slice(&sum);
        out
    }

    /// Reads one copy. The checksum finds accidents only; the MAC, which finds the rest, needs the
    /// root key.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        if bytes.len() > MAX_BYTES {
            return Err(Malformed::TooLong);
        }
        let mut cursor = Cursor::new(&bytes);
        if cursor.take(MAGIC.len()) != Some(MAGIC) {
            return Err(Malformed::Magic);
        }
        let (before, sum) = bytes.split_last_chunk::<SUM>().ok_or(Malformed::Short)?;
        if mac::sha256(&[before]) != *sum {
            return Err(Malformed::Checksum);
        }
        let epoch = cursor.be64().ok_or(Malformed::Short)?;
        let store_id = StoreId(cursor.array().ok_or(Malformed::Short)?);
        let root_id = cursor.array().ok_or(Malformed::Short)?;
        let slots = parse_slots(cursor.prefixed().ok_or(Malformed::Short)?)?;
        let keyring = SealedKeyring::parse(cursor.prefixed().ok_or(Malformed::Short)?)?;
        match cursor.rest().len().cmp(&(MAC + SUM)) {
            std::cmp::Ordering::Less => Err(Malformed::Short),
            std::cmp::Ordering::Greater => Err(Malformed::Trailing),
            std::cmp::Ordering::Equal => {
                Ok(Self { epoch, store_id, root_id, slots, keyring, bytes })
            }
        }
    }

    /// Whether this root key made the file.
    pub(super) fn is_sealed_by(&self, root: &Root) -> bool {
        let Some((before, rest)) =
            self.bytes.split_at_checked(self.bytes.len().saturating_sub(MAC + SUM))
        else {
            return false;
        };
        rest.first_chunk::<MAC>()
            .is_some_and(|mac| mac::equal(&root.seal_mac().tag(&[before]), mac))
    }

    /// Opens the keyring for a root key that [`is_sealed_by`](Self::is_sealed_by) has confirmed.
    pub(super) fn keyring_plaintext(&self, root: &Root) -> Option<crate::secret::SecretBytes> {
        let aad = keyring_aad(&self.store_id, &self.root_id, self.epoch);
        root.keyring_sealer().open(&self.keyring.nonce, &aad, &self.keyring.ciphertext).ok()
    }
}

impl SealedKeyring {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let header = cursor.array::<8>().ok_or(Malformed::Short)?;
        if header != KEYRING_HEADER {
            return Err(Malformed::KeyringHeader);
        }
        let nonce = cursor.array().ok_or(Malformed::Short)?;
        Ok(Self { nonce, ciphertext: cursor.rest().to_vec() })
    }
}

fn encode_slots(slots: &[Slot]) -> Vec<u8> {
    let count = u8::try_from(slots.len()).unwrap_or(u8::MAX);
    let mut out = vec![count];
    for slot in slots {
        push_prefixed(&mut out, &slot.encode());
    }
    out
}

fn parse_slots(bytes: &[u8]) -> Result<Vec<Slot>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let count = cursor.byte().ok_or(Malformed::Short)?;
    if !(1..=MAX_SLOTS).contains(&count) {
        return Err(Malformed::SlotCount(count));
    }
    let mut slots = Vec::with_capacity(usize::from(count));
    for index in 0..count {
        let slot = cursor.prefixed().ok_or(Malformed::Short)?;
        slots.push(Slot::parse(slot).map_err(|cause| Malformed::Slot { index, cause })?);
    }
    if cursor.rest().is_empty() { Ok(slots) } else { Err(Malformed::Trailing) }
}

fn keyring_aad(store_id: &StoreId, root_id: &[u8; 16], epoch: u64) -> Vec<u8> {
    [b"kista/keyring/1\0".as_slice(), &store_id.0, root_id, &epoch.to_be_bytes()].concat()
}

/// Slots that one file may hold.
pub(super) const MAX_SLOTS: u8 = 32;

/// Bytes that one copy may have.
pub const MAX_BYTES: usize = 64 * 1024;

const MAGIC: &[u8] = b"KSEAL001";
const MAC: usize = 32;
const SUM: usize = 32;

/// Format 1, cipher 1 (XAES-256-GCM), no flags, term 0: the keyring key is no term's.
const KEYRING_HEADER: [u8; 8] = [1, 1, 0, 0, 0, 0, 0, 0];
