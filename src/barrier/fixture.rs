//! What tests share: an open barrier, and for this folder the inputs of the format's vectors.

use std::sync::Arc;

use super::{
    Barrier, Keyring, Opened,
    term::{Term, TermId, Terms, derive},
};
use crate::{
    clock::{ManualClock, Timestamp},
    crypto::{Kdf, aead::Cipher},
    secret::{Key, SecretBytes},
    storage::{self, NamedSeq, Store, StoreId, memory::Faults},
};

/// Bytes of the format's vectors, by JSON pointer.
pub(super) fn vector(pointer: &str) -> Vec<u8> {
    let file = include_str!("../../tests/vectors/format.json");
    let vectors: serde_json::Value = serde_json::from_str(file).unwrap();
    let text = vectors.pointer(pointer).and_then(serde_json::Value::as_str).unwrap();
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// Bytes that count up from `first`, as the vectors' ids and nonces do.
pub(super) fn counting<const N: usize>(first: u8) -> [u8; N] {
    let mut next = first;
    [(); N].map(|()| {
        next = next.wrapping_add(1);
        next.wrapping_sub(1)
    })
}

pub(super) fn store_id() -> StoreId {
    StoreId(counting(0xa0))
}

fn term_of(store_id: StoreId, id: u32, byte: u8) -> Arc<Term> {
    let key = Key::<Kdf>::build(|key| key.fill(byte));
    Arc::new(Term::derive(store_id, TermId(id), Cipher::Xaes256Gcm, &key))
}

/// The terms of a store that hold the vectors' term 7 alone.
pub(super) fn terms_in(store_id: StoreId) -> Terms {
    let term = term_of(store_id, 7, 0x11);
    Terms::new(Arc::clone(&term), vec![term])
}

/// The vectors' terms.
pub(super) fn terms() -> Terms {
    terms_in(store_id())
}

/// Terms 7 and 8, of which 8 is active.
pub(super) fn two_terms() -> Terms {
    let (old, new) = (term_of(store_id(), 7, 0x11), term_of(store_id(), 8, 0x12));
    Terms::new(Arc::clone(&new), vec![old, new])
}

/// The layout of the keyring of the vectors: term 7 and one secret of each lineage.
pub(super) fn keyring_bytes() -> Vec<u8> {
    keyring_of([0x11; 32], &vector("/kdf/4/key"))
}

/// A keyring of the same store and term number with another key.
pub(super) fn other_keyring() -> Keyring {
    let key = Key::<Kdf>::build(|key| key.fill(0x12));
    let check = derive::<Kdf>(store_id(), &key, "check").expose(<[u8]>::to_vec);
    let bytes = SecretBytes::from_vec(keyring_of([0x12; 32], &check));
    Keyring::decode(&store_id(), &bytes).unwrap()
}

fn keyring_of(term: [u8; 32], check: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, 1, 0, 0, 0, 7, 1, 2];
    bytes.extend(1_767_225_600_000_u64.to_be_bytes());
    bytes.extend(term);
    bytes.extend(check);
    bytes.push(4);
    for (kind, byte) in [(1, 0x33), (2, 0x34), (3, 0x35), (4, 0x88)] {
        bytes.extend([kind, 0, 0, 0, 1]);
        bytes.extend([byte; 32]);
    }
    bytes
}

pub(super) fn keyring() -> Keyring {
    Keyring::decode(&store_id(), &SecretBytes::from_vec(keyring_bytes())).unwrap()
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)))
}

/// An open barrier over an empty store in memory.
pub(crate) fn open() -> (Arc<Barrier>, Store, Faults) {
    let (store, faults) = Store::memory(store_id());
    let (barrier, Opened { head, .. }) =
        Barrier::open(store.clone(), keyring(), 1, NamedSeq(0), clock()).unwrap();
    assert_eq!(head, None);
    (barrier, store, faults)
}

/// The same store as after a restart.
pub(crate) fn reopen(faults: &Faults) -> (Arc<Barrier>, Store, Faults) {
    let (store, faults) = faults.reopen();
    let (barrier, _) = Barrier::open(store.clone(), keyring(), 1, NamedSeq(0), clock()).unwrap();
    (barrier, store, faults)
}

/// All keys that storage holds, and their records.
pub(super) async fn everything(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    for key in store.list(&[0x10], None, 100_000).await.unwrap() {
        let record = store.get(&key).await.unwrap().unwrap();
        found.push((key, record));
    }
    found
}

/// Writes past the barrier, as an attacker on the disk would.
pub(crate) async fn write_behind(store: &Store, writes: Vec<storage::Write>) {
    let batch = storage::Batch { preconditions: Vec::new(), writes };
    store.commit(batch).await.unwrap();
}
