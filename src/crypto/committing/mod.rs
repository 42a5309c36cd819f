//! Cobblestone-256 of C2SP chunked-encryption: AES-256-GCM in chunks, which commits to key, salt
//! and context (FORMAT.md 12 and 13), under a key of its own for each message.
//!
//! ```text
//! key 32 | nonce 12 | commitment 32 = HKDF-Expand-SHA-512(key, aead name | 0 | salt | context)
//! message                           = salt 24 | commitment 32 | chunks
//! ```
//!
//! Each chunk is 16 KiB and a tag, the last one always shorter, so that where a message ends is
//! authenticated too. The chunks' cipher is aws-lc's. The rest is ours rather than the `cobblestone`
//! crate because that one draws its salts itself, keeps its key plain in memory and its buffers
//! unwiped.
//!
//! - `stream.rs`: [`Writer`] and [`Reader`], for what does not fit in memory

mod stream;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hmac::{HmacReset, KeyInit, Mac as _};
use sha2::Sha512;
use zeroize::Zeroizing;

pub use self::stream::{Reader, Writer};
use super::{OpenFailed, mac};
use crate::secret::{Algorithm, Key, SecretBytes, scrub_stack};

/// A 32-byte key of Cobblestone-256, for any number of messages.
#[derive(Debug)]
pub enum Cobblestone256 {}

impl Algorithm for Cobblestone256 {
    const KEY_BYTES: usize = 32;
    const NAME: &'static str = "Cobblestone-256";
}

/// Encrypts `plaintext`: salt || commitment || chunks.
///
/// `salt` is drawn for each message; two messages with one salt under one key and context would
/// share their nonces. `context` is authenticated and must be known to open.
///
/// # Panics
/// When the plaintext exceeds 64 TiB, which no caller has.
pub fn seal(
    key: &Key<Cobblestone256>,
    salt: &[u8; SALT_BYTES],
    context: &[u8],
    plaintext: &[u8],
) -> Vec<u8> {
    let sealed = seal_below(key, salt, context, plaintext);
    // The cipher is moved when it is made, and wipes itself only where it ends.
    scrub_stack();
    sealed
}

#[inline(never)]
fn seal_below(
    key: &Key<Cobblestone256>,
    salt: &[u8; SALT_BYTES],
    context: &[u8],
    plaintext: &[u8],
) -> Vec<u8> {
    let (cipher, commitment) = ChunkCipher::derive(key, salt, context);
    let (whole, last) = plaintext.as_chunks::<CHUNK_BYTES>();
    let tags = (whole.len() + 1) * TAG_BYTES;
    let mut sealed = Vec::with_capacity(HEADER_BYTES + plaintext.len() + tags);
    sealed.extend_from_slice(salt);
    sealed.extend_from_slice(&commitment);
    let chunks = whole.iter().map(<[u8; _]>::as_slice).chain([last]);
    for (chunk, index) in chunks.zip(0..) {
        let start = sealed.len();
        sealed.extend_from_slice(chunk);
        let tag = cipher.seal(index, sealed.split_at_mut(start).1);
        sealed.extend_from_slice(&tag);
    }
    sealed
}

/// Opens what [`seal`] returned under the same `context`, or what a [`Writer`] wrote.
///
/// # Errors
/// [`OpenFailed`] when the commitment or the tag of a chunk does not hold, or the end is missing;
/// no plaintext byte leaves then.
pub fn open(
    key: &Key<Cobblestone256>,
    context: &[u8],
    sealed: &[u8],
) -> Result<SecretBytes, OpenFailed> {
    let opened = open_below(key, context, sealed);
    scrub_stack();
    opened
}

#[inline(never)]
fn open_below(
    key: &Key<Cobblestone256>,
    context: &[u8],
    sealed: &[u8],
) -> Result<SecretBytes, OpenFailed> {
    let (salt, rest) = sealed.split_first_chunk().ok_or(OpenFailed)?;
    let (commitment, chunks) = rest.split_first_chunk::<COMMITMENT_BYTES>().ok_or(OpenFailed)?;
    let (cipher, expected) = ChunkCipher::derive(key, salt, context);
    if !mac::equal(commitment.as_slice(), &expected) {
        return Err(OpenFailed);
    }
    // The last chunk is not whole and has a tag: other lengths are cut off or have more behind.
    let last = chunks.len() % SEALED_CHUNK_BYTES;
    if last < TAG_BYTES {
        return Err(OpenFailed);
    }
    let tags = (chunks.len() / SEALED_CHUNK_BYTES + 1) * TAG_BYTES;
    let mut outcome = Ok(());
    let plaintext = SecretBytes::build(chunks.len() - tags, |plaintext| {
        let rooms = plaintext.chunks_mut(CHUNK_BYTES);
        // An empty last chunk has no room, and its tag is checked all the same.
        let rooms = rooms.chain(std::iter::once::<&mut [u8]>(&mut []));
        outcome = chunks
            .chunks(SEALED_CHUNK_BYTES)
            .zip(rooms)
            .zip(0..)
            .try_for_each(|((chunk, room), index)| cipher.open(index, chunk, room));
    });
    outcome.map(|()| plaintext)
}

/// The cipher and first nonce of one message.
struct ChunkCipher {
    /// Of aws-lc, which is twice as fast as pure Rust over whole chunks, and wipes what it frees.
    aead: LessSafeKey,
    nonce: [u8; NONCE_BYTES],
}

impl ChunkCipher {
    /// Derives them, and the commitment to key, salt and context.
    #[inline(never)]
    fn derive(
        key: &Key<Cobblestone256>,
        salt: &[u8; SALT_BYTES],
        context: &[u8],
    ) -> (Self, [u8; COMMITMENT_BYTES]) {
        // HKDF-Expand (RFC 5869 §2.3), two blocks of it. By hand, since `hkdf` refuses keys
        // shorter than the digest, and the input key is the PRK here.
        let mut out = Zeroizing::new([0; 2 * HASH_BYTES]);
        let (first, second) = out.split_at_mut(HASH_BYTES);
        let name: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";
        block(key, &[name, salt, context, &[1]], first);
        block(key, &[first, name, salt, context, &[2]], second);

        let (aead_key, rest) = out.split_at(Cobblestone256::KEY_BYTES);
        let (nonce, rest) = rest.split_at(NONCE_BYTES);
        #[expect(clippy::expect_used, reason = "AES-256 takes the 32 bytes cut off above")]
        let aead =
            UnboundKey::new(&AES_256_GCM, aead_key).expect("the key has the cipher's length");
        let aead = LessSafeKey::new(aead);
        let mut cipher = Self { aead, nonce: [0; NONCE_BYTES] };
        cipher.nonce.copy_from_slice(nonce);
        let mut commitment = [0; COMMITMENT_BYTES];
        commitment.copy_from_slice(rest.split_at(COMMITMENT_BYTES).0);
        (cipher, commitment)
    }

    /// Encrypts a chunk in place and returns its tag.
    fn seal(&self, index: u64, chunk: &mut [u8]) -> [u8; TAG_BYTES] {
        #[expect(clippy::expect_used, reason = "AES-GCM refuses lengths over 64 GiB only")]
        let tag = self
            .aead
            .seal_in_place_separate_tag(self.nonce_of(index), Aad::empty(), chunk)
            .expect("a chunk has 16 KiB");
        let mut bytes = [0; TAG_BYTES];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    /// Decrypts a chunk and its tag into `room`, of the plaintext's length, when the tag holds.
    fn open(&self, index: u64, chunk: &[u8], room: &mut [u8]) -> Result<(), OpenFailed> {
        // Where the counter would repeat itself a message ends.
        if index >= MAX_CHUNKS_READ {
            return Err(OpenFailed);
        }
        let (ciphertext, tag) = chunk.split_last_chunk::<TAG_BYTES>().ok_or(OpenFailed)?;
        self.aead
            .open_separate_gather(self.nonce_of(index), Aad::empty(), ciphertext, tag, room)
            .map_err(|_| OpenFailed)
    }

    /// The message's nonce, with the chunk's index as five bytes mixed into its end.
    fn nonce_of(&self, index: u64) -> Nonce {
        let mut nonce = self.nonce;
        for (byte, counter) in nonce.iter_mut().rev().zip(index.to_le_bytes()).take(COUNTER_BYTES) {
            *byte ^= counter;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// One block of HKDF-Expand: HMAC-SHA-512 of `parts` under the key.
fn block(key: &Key<Cobblestone256>, parts: &[&[u8]], out: &mut [u8]) {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut state =
        key.expose(HmacReset::<Sha512>::new_from_slice).expect("any length is accepted");
    for part in parts {
        state.update(part);
    }
    // On the stack, which all callers scrub.
    out.copy_from_slice(&state.finalize_reset().into_bytes());
}

/// Plaintext in each chunk but the last.
const CHUNK_BYTES: usize = 16 * 1024;
const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
/// Full 128-bit tags (SP 800-38D §5.2.1.2).
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
/// How much of the nonce counts chunks.
const COUNTER_BYTES: usize = 5;
const SALT_BYTES: usize = 24;
const COMMITMENT_BYTES: usize = 32;
const HEADER_BYTES: usize = SALT_BYTES + COMMITMENT_BYTES;
/// SHA-512.
const HASH_BYTES: usize = 64;
/// Chunks of a message that others may have written: 2^38, 4 PiB.
const MAX_CHUNKS_READ: u64 = 1 << 38;
/// Chunks of a message that is written here (FORMAT.md 13).
const MAX_CHUNKS_WRITTEN: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::{random, vectors};

    const FORMAT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/format.json"));

    #[test]
    fn messages_agree_with_wycheproof() {
        for test in vectors::cobblestone() {
            let Ok(key) = Key::copy_of(&test.key) else {
                assert!(test.valid_digest.is_none(), "{}", test.name);
                continue;
            };
            let opened = open(&key, &test.context, &test.sealed);
            match &test.valid_digest {
                None => assert!(opened.is_err(), "{}", test.name),
                Some(digest) => {
                    let plaintext = opened.unwrap();
                    plaintext.expose(|plaintext| {
                        assert_eq!(&crate::crypto::Hash::Sha2_512.digest(plaintext), digest);
                        let salt = test.sealed.first_chunk().unwrap();
                        let again = seal(&key, salt, &test.context, plaintext);
                        assert!(again == test.sealed, "{}", test.name);
                    });
                }
            }
        }
    }

    #[test]
    fn messages_agree_with_the_format() {
        let file = vectors::parse(FORMAT);
        for (name, key) in [("container", "file_key"), ("transit_committing", "key")] {
            let test = &file[name];
            let key = vectors::key(&test[key]);
            let salt = vectors::array(&test["salt"]);
            let (context, plaintext) =
                (vectors::bytes(&test["context"]), vectors::bytes(&test["plaintext"]));
            let sealed = seal(&key, &salt, &context, &plaintext);
            assert_eq!(sealed, vectors::bytes(&test["payload"]), "{name}");
            assert!(opens_to(&open(&key, &context, &sealed), &plaintext), "{name}");
        }
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_refused() {
        let key = random::key();
        let sealed = seal(&key, &random::array(), b"context", b"some text");
        for bit in 0..8 * sealed.len() {
            let mut other = sealed.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, b"context", &other).is_err());
        }
        for length in 0..sealed.len() {
            assert!(open(&key, b"context", &sealed[..length]).is_err());
        }
        assert!(open(&key, b"Context", &sealed).is_err());
        assert!(open(&random::key(), b"context", &sealed).is_err());
    }

    #[test]
    fn the_counter_reaches_five_bytes() {
        let (mut cipher, _) = ChunkCipher::derive(&random::key(), &random::array(), b"");
        cipher.nonce = [0; NONCE_BYTES];
        let nonce = cipher.nonce_of(0x01_0203_0405);
        assert_eq!(nonce.as_ref(), &[0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]);
        assert!(cipher.open(MAX_CHUNKS_READ, &[0; TAG_BYTES], &mut []).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_was_sealed_opens(chunks in 0..3_usize, rest in 0..40_usize, context: Vec<u8>) {
            let key = random::key();
            let mut plaintext = vec![0; chunks * CHUNK_BYTES + rest];
            random::fill(&mut plaintext);
            let sealed = seal(&key, &random::array(), &context, &plaintext);
            let tags = (chunks + 1) * TAG_BYTES;
            prop_assert_eq!(sealed.len(), HEADER_BYTES + plaintext.len() + tags);
            prop_assert!(opens_to(&open(&key, &context, &sealed), &plaintext));
        }
    }

    fn opens_to(opened: &Result<SecretBytes, OpenFailed>, plaintext: &[u8]) -> bool {
        opened.as_ref().is_ok_and(|opened| opened.expose(|bytes| bytes == plaintext))
    }
}
