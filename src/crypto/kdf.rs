//! Keys from keys (HKDF-SHA-256, format.md 2.1) and from passphrases (Argon2id, format.md 2.8).

use std::time::{Duration, Instant};

use argon2::{Argon2, Block, Params, Version};
use hkdf::Hkdf;
use sha2::Sha256;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::secret::{Algorithm, Key, SecretString};

/// A key that only derives others: root key, terms, lineage secrets.
#[derive(Debug)]
pub enum Kdf {}

impl Algorithm for Kdf {
    const KEY_BYTES: usize = 32;
    const NAME: &'static str = "key derivation";
}

/// What a slot's secret opens to; it wraps the root key through one more derivation.
#[derive(Debug)]
pub enum Kek {}

impl Algorithm for Kek {
    const KEY_BYTES: usize = 32;
    const NAME: &'static str = "key encryption";
}

/// HKDF-SHA-256, extract then expand (RFC 5869 §2), filling `out`.
///
/// # Panics
/// When `out` is longer than 255 blocks, 8,160 bytes (RFC 5869 §2.3); every caller asks for a
/// constant far below.
pub fn hkdf_sha256(salt: &[u8], ikm: &[u8], info: &[u8], out: &mut [u8]) {
    expand(salt, ikm, &[info], out);
}

/// The key for one purpose: `kdf` of format.md 2.1, as long as `A`'s keys.
///
/// `ikm` is a secret of full strength (root key, term, lineage secret, KEK), `purpose` and `context`
/// are of the table there; two different pairs give independent keys.
pub fn derive<A: Algorithm>(
    store_id: &[u8; 16],
    ikm: &[u8],
    purpose: &str,
    context: &[u8],
) -> Key<A> {
    Key::build(|key| derive_into(store_id, ikm, purpose, context, key))
}

/// [`derive`] into a buffer, for what is more than one key: the slot's wrap key || commitment.
pub fn derive_into(store_id: &[u8; 16], ikm: &[u8], purpose: &str, context: &[u8], out: &mut [u8]) {
    expand(store_id, ikm, &[b"kista/v1/", purpose.as_bytes(), b"\0", context], out);
}

fn expand(salt: &[u8], ikm: &[u8], info: &[&[u8]], out: &mut [u8]) {
    #[expect(clippy::expect_used, reason = "every caller's length is a small constant")]
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand_multi_info(info, out)
        .expect("no key is longer than 255 blocks");
}

/// The cost of one guess at a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Params {
    /// Memory in KiB.
    pub m_kib: u32,
    /// Passes over the memory.
    pub t: u32,
    /// Lanes.
    pub p: u8,
}

/// Argon2id parameters outside the bounds of format.md 2.8, or beyond this machine.
///
/// The lower bounds stop an edited slot from making guesses cheap, the upper ones from using up the
/// machine; both are checked before any memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutOfBounds {
    /// Memory below 64 MiB or above 4 GiB.
    #[error("{m_kib} KiB of memory for argon2id are outside 64 MiB to 4 GiB")]
    Memory {
        /// KiB given.
        m_kib: u32,
    },
    /// No pass, or more than 20.
    #[error("{t} passes of argon2id are outside 1 to 20")]
    Passes {
        /// Passes given.
        t: u32,
    },
    /// Memory times passes below 192 MiB-passes.
    #[error("{m_kib} KiB times {t} passes of argon2id are below 192 MiB; raise either")]
    Work {
        /// KiB given.
        m_kib: u32,
        /// Passes given.
        t: u32,
    },
    /// No lane, or more than 8.
    #[error("{p} lanes of argon2id are outside 1 to 8")]
    Lanes {
        /// Lanes given.
        p: u8,
    },
    /// A salt shorter than 8 bytes (RFC 9106 §3.1).
    #[error("a salt of {bytes} bytes is too short for argon2id")]
    Salt {
        /// Bytes given.
        bytes: usize,
    },
    /// The system does not give that much memory.
    #[error("this machine does not give argon2id {m_kib} KiB of memory; free some")]
    Unavailable {
        /// KiB asked for.
        m_kib: u32,
    },
}

impl Argon2Params {
    /// Whether the parameters lie within format.md 2.8.
    ///
    /// # Errors
    /// The [`OutOfBounds`] that says which bound they miss.
    pub fn check(self) -> Result<(), OutOfBounds> {
        let Self { m_kib, t, p } = self;
        if !(MIN_KIB..=MAX_KIB).contains(&m_kib) {
            return Err(OutOfBounds::Memory { m_kib });
        }
        if !(1..=MAX_PASSES).contains(&t) {
            return Err(OutOfBounds::Passes { t });
        }
        if u64::from(m_kib) * u64::from(t) < MIN_KIB_PASSES {
            return Err(OutOfBounds::Work { m_kib, t });
        }
        if !(1..=MAX_LANES).contains(&p) {
            return Err(OutOfBounds::Lanes { p });
        }
        Ok(())
    }

    /// 256 MiB, 3 passes, 4 lanes: what a passphrase slot gets unless calibrated (security.md 4.3).
    pub const fn recommended() -> Self {
        Self { m_kib: 256 * MIB, t: 3, p: 4 }
    }

    /// 64 MiB, 3 passes, 4 lanes: the second choice of RFC 9106 §4, and the least we make.
    pub const fn floor() -> Self {
        Self { m_kib: MIN_KIB, t: 3, p: 4 }
    }

    /// Parameters that cost this machine at least half a second: memory grows first, to 4 GiB, then
    /// passes, to 20. Blocks for one to two seconds and takes the memory it measures.
    pub fn calibrate() -> Self {
        let passphrase = SecretString::copy_of("calibration");
        Self::calibrated_by(|params| {
            let started = Instant::now();
            argon2id(&passphrase, &[0; 16], params).ok().map(|_| started.elapsed())
        })
    }

    /// Grows the floor until `cost` says [`TARGET`]; `None` (no memory) ends it at what last ran.
    fn calibrated_by(cost: impl Fn(Self) -> Option<Duration>) -> Self {
        let mut held = Self::floor();
        let mut next = held;
        while let Some(elapsed) = cost(next) {
            held = next;
            if elapsed >= TARGET {
                break;
            }
            next = match held {
                Self { m_kib, t, p } if m_kib < MAX_KIB => {
                    Self { m_kib: m_kib.saturating_mul(2).min(MAX_KIB), t, p }
                }
                Self { m_kib, t, p } if t < MAX_PASSES => Self { m_kib, t: t + 1, p },
                Self { .. } => break,
            };
        }
        held
    }
}

/// The KEK of a passphrase: Argon2id v1.3 over its NFC form (RFC 9106 §3).
///
/// Takes `params.m_kib` of memory for the time of the call, and wipes it. Run it off the async
/// threads.
///
/// # Errors
/// [`OutOfBounds`] when parameters, salt or the machine's memory do not suffice; the bounds are
/// checked before any memory is taken.
pub fn argon2id(
    passphrase: &SecretString,
    salt: &[u8],
    params: Argon2Params,
) -> Result<Key<Kek>, OutOfBounds> {
    params.check()?;
    if salt.len() < MIN_SALT_BYTES {
        return Err(OutOfBounds::Salt { bytes: salt.len() });
    }
    let Argon2Params { m_kib, t, p } = params;
    #[expect(clippy::expect_used, reason = "check() is stricter than the crate")]
    let costs = Params::new(m_kib, t, u32::from(p), Some(Kek::KEY_BYTES))
        .expect("parameters within our bounds are within RFC 9106's");
    let mut memory = Zeroizing::new(Vec::new());
    memory
        .try_reserve_exact(costs.block_count())
        .map_err(|_| OutOfBounds::Unavailable { m_kib })?;
    memory.resize(costs.block_count(), Block::new());

    let argon2 = Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, costs);
    let passphrase = nfc(passphrase);
    #[expect(clippy::expect_used, reason = "salt, length and memory are checked above")]
    Ok(Key::build(|key| {
        argon2
            .hash_password_into_with_memory(passphrase.as_bytes(), salt, key, memory.as_mut_slice())
            .expect("checked inputs are accepted");
    }))
}

/// One passphrase, one encoding: keyboards differ in how they compose accents (UAX #15).
fn nfc(passphrase: &SecretString) -> Zeroizing<String> {
    passphrase.expose(|text| {
        // NFC makes UTF-8 at most three times as long; reserved, so that no copy stays behind.
        let mut normal = Zeroizing::new(String::with_capacity(3 * text.len()));
        normal.extend(text.nfc());
        normal
    })
}

/// KiB in one MiB.
const MIB: u32 = 1024;
/// Bounds of format.md 2.8.
const MIN_KIB: u32 = 64 * MIB;
const MAX_KIB: u32 = 4096 * MIB;
const MAX_PASSES: u32 = 20;
const MIN_KIB_PASSES: u64 = 192 * 1024;
const MAX_LANES: u8 = 8;
/// RFC 9106 §3.1 in the crate's reading; our slots have 32.
const MIN_SALT_BYTES: usize = 8;
/// What a guess has to cost the machine that made the slot (security.md 4.3).
const TARGET: Duration = Duration::from_millis(500);
