//! Keys from keys (HKDF-SHA-256, FORMAT.md 2) and from passphrases (Argon2id, FORMAT.md 8).

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

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

/// The key for one purpose: `kdf` of FORMAT.md 2, as long as `A`'s keys.
///
/// `ikm` is a secret of full strength (root key, term, lineage secret, KEK), `purpose` and
/// `context` are of the table there; two different pairs give independent keys.
pub fn derive<A: Algorithm>(
    store_id: &[u8; 16],
    ikm: &[u8],
    purpose: &str,
    context: &[u8],
) -> Key<A> {
    Key::build(|key| derive_into(store_id, ikm, purpose, context, key))
}

/// [`derive()`] into a buffer, for what is more than one key: the slot's wrap key || commitment.
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

/// Argon2id parameters outside the bounds of FORMAT.md 8, or beyond this machine.
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
    /// Whether the parameters lie within FORMAT.md 8.
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

    /// 256 MiB, 3 passes, 4 lanes: what a passphrase slot gets unless calibrated.
    pub const fn recommended() -> Self {
        Self { m_kib: 256 * MIB, t: 3, p: 4 }
    }

    /// 64 MiB, 3 passes, 4 lanes: the second choice of RFC 9106 §4, and the least we make.
    pub const fn floor() -> Self {
        Self { m_kib: MIN_KIB, t: 3, p: 4 }
    }

    /// Parameters that cost this machine at least half a second: memory grows first, to 4 GiB, then
    /// passes, to 20. Blocks for one to two seconds and takes the memory it measures; whatever else
    /// is stretched waits, since it would make this machine look slower than it is.
    pub fn calibrate() -> Self {
        let _alone = Turn::take(AT_ONCE);
        let passphrase = SecretString::copy_of("calibration");
        Self::calibrated_by(|params| {
            let started = Instant::now();
            stretch(&passphrase, &[0; 16], params).ok().map(|_| started.elapsed())
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
/// Takes `params.m_kib` of memory for the time of the call, and wipes it. Blocks while two others
/// are at it in this process, so that no crowd takes more memory than two. Run it off the async
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
    let _turn = Turn::take(1);
    stretch(passphrase, salt, params)
}

/// [`argon2id`] of checked inputs, for whoever has a turn.
fn stretch(
    passphrase: &SecretString,
    salt: &[u8],
    params: Argon2Params,
) -> Result<Key<Kek>, OutOfBounds> {
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

/// The right to stretch one passphrase of the [`AT_ONCE`], or all of them.
struct Turn(usize);

impl Turn {
    fn take(count: usize) -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = FREED.wait_while(free, |free| *free < count);
        *waited.unwrap_or_else(PoisonError::into_inner) -= count;
        Self(count)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        FREED.notify_all();
    }
}

static FREE: Mutex<usize> = Mutex::new(AT_ONCE);
static FREED: Condvar = Condvar::new();

/// Passphrases that are stretched at once in a process. Each takes hundreds of MiB, up to 4 GiB;
/// two, so that one that was mistyped does not keep the next one waiting.
const AT_ONCE: usize = 2;

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
/// Bounds of FORMAT.md 8.
const MIN_KIB: u32 = 64 * MIB;
const MAX_KIB: u32 = 4096 * MIB;
const MAX_PASSES: u32 = 20;
const MIN_KIB_PASSES: u64 = 192 * 1024;
const MAX_LANES: u8 = 8;
/// RFC 9106 §3.1 in the crate's reading; our slots have 32.
const MIN_SALT_BYTES: usize = 8;
/// What a guess has to cost the machine that made the slot.
const TARGET: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use argon2::{AssociatedData, ParamsBuilder};
    use zeroize::Zeroize;

    use super::*;
    use crate::crypto::vectors;

    const FORMAT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/format.json"));
    const RFC5869: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/rfc5869.json"));
    const RFC9106: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/rfc9106.json"));
    const WYCHEPROOF: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/wycheproof/hkdf_sha256.json"
    ));

    #[test]
    fn hkdf_agrees_with_the_rfc() {
        let file = vectors::parse(RFC5869);
        for test in vectors::list(&file["tests"]) {
            let expected = vectors::bytes(&test["okm"]);
            assert_eq!(expanded(test, expected.len()), expected, "{}", test["name"]);
        }
    }

    #[test]
    fn hkdf_agrees_with_wycheproof() {
        let file = vectors::parse(WYCHEPROOF);
        for (_, test) in vectors::wycheproof(&file) {
            let size = usize::try_from(vectors::number(&test["size"])).unwrap();
            if vectors::is_valid(test) {
                assert_eq!(expanded(test, size), vectors::bytes(&test["okm"]), "{test}");
            } else {
                // More than 255 blocks is all that HKDF refuses; here it is a panic, by contract.
                assert!(size > 255 * 32, "{test}");
            }
        }
    }

    #[test]
    fn the_table_of_keys_agrees_with_the_format() {
        let file = vectors::parse(FORMAT);
        for case in vectors::list(&file["kdf"]) {
            let expected = vectors::bytes(&case["key"]);
            let mut key = vec![0; expected.len()];
            derive_into(
                &vectors::array(&case["store_id"]),
                &vectors::bytes(&case["ikm"]),
                case["purpose"].as_str().unwrap(),
                &vectors::bytes(&case["context"]),
                &mut key,
            );
            assert_eq!(key, expected, "{}", case["name"]);
        }
        let anchor = &file["anchor"];
        let store_id = vectors::array(&anchor["store_id"]);
        let key = derive::<Kdf>(&store_id, &vectors::bytes(&anchor["secret"]), "anchor", b"");
        assert!(key.expose(|key| key == vectors::bytes(&anchor["key"])));
    }

    #[test]
    fn the_slot_agrees_with_the_format() {
        let slot = &vectors::parse(FORMAT)["slot"];
        let params = Argon2Params {
            m_kib: vectors::number(&slot["m_kib"]),
            t: vectors::number(&slot["t"]),
            p: u8::try_from(vectors::number(&slot["p"])).unwrap(),
        };
        let passphrase = String::from_utf8(vectors::bytes(&slot["passphrase"])).unwrap();
        let passphrase = SecretString::from_string(passphrase);
        let kek = argon2id(&passphrase, &vectors::bytes(&slot["salt"]), params).unwrap();
        assert!(kek.expose(|kek| kek == vectors::bytes(&slot["kek"])));

        let fixed = vectors::bytes(&slot["fixed"]);
        let context = [&u32::try_from(fixed.len()).unwrap().to_be_bytes(), &fixed[..]].concat();
        let mut wrap_key_and_commitment = [0; 64];
        kek.expose(|kek| {
            let store_id = vectors::array(&slot["store_id"]);
            derive_into(&store_id, kek, "slot", &context, &mut wrap_key_and_commitment);
        });
        assert_eq!(wrap_key_and_commitment[..32], vectors::bytes(&slot["wrap_key"]));
        assert_eq!(wrap_key_and_commitment[32..], vectors::bytes(&slot["commitment"]));
    }

    /// The RFC's example has 32 KiB, a secret and associated data, none of which ours takes: this
    /// tests the crate under it.
    #[test]
    fn argon2id_agrees_with_the_rfc() {
        let file = vectors::parse(RFC9106);
        for test in vectors::list(&file["tests"]) {
            let costs = ParamsBuilder::new()
                .m_cost(vectors::number(&test["m_kib"]))
                .t_cost(vectors::number(&test["t"]))
                .p_cost(vectors::number(&test["p"]))
                .data(AssociatedData::new(&vectors::bytes(&test["associated_data"])).unwrap())
                .build()
                .unwrap();
            let secret = vectors::bytes(&test["secret"]);
            let argon2 = Argon2::new_with_secret(
                &secret,
                argon2::Algorithm::Argon2id,
                Version::V0x13,
                costs,
            );
            let mut tag = [0; 32];
            let (password, salt) =
                (vectors::bytes(&test["password"]), vectors::bytes(&test["salt"]));
            argon2.unwrap().hash_password_into(&password, &salt, &mut tag).unwrap();
            assert_eq!(tag, vectors::array(&test["tag"]));
        }
    }

    #[test]
    fn every_purpose_context_and_store_gives_another_key() {
        let purposes = [
            "record",
            "nonce",
            "state",
            "head",
            "check",
            "names",
            "token",
            "audit-hmac",
            "audit-chain",
            "audit-sign",
            "anchor",
            "slot",
            "keyring",
            "seal-mac",
        ];
        let mut keys = HashSet::new();
        for store in [1, 2] {
            for purpose in purposes {
                for context in [&b""[..], b"a", b"b", b"a\0"] {
                    let key = derive::<Kdf>(&[store; 16], &[9; 32], purpose, context);
                    assert!(keys.insert(key.expose(<[u8]>::to_vec)), "{store} {purpose}");
                }
            }
        }
    }

    #[test]
    fn parameters_outside_the_bounds_are_refused() {
        let with = |m_kib, t, p| Argon2Params { m_kib, t, p }.check();
        assert_eq!(with(64 * MIB - 1, 20, 4), Err(OutOfBounds::Memory { m_kib: 64 * MIB - 1 }));
        assert_eq!(with(MAX_KIB + 1, 1, 4), Err(OutOfBounds::Memory { m_kib: MAX_KIB + 1 }));
        assert_eq!(with(MAX_KIB, 0, 4), Err(OutOfBounds::Passes { t: 0 }));
        assert_eq!(with(MAX_KIB, 21, 4), Err(OutOfBounds::Passes { t: 21 }));
        assert_eq!(with(64 * MIB, 2, 4), Err(OutOfBounds::Work { m_kib: 64 * MIB, t: 2 }));
        assert_eq!(with(64 * MIB, 3, 0), Err(OutOfBounds::Lanes { p: 0 }));
        assert_eq!(with(64 * MIB, 3, 9), Err(OutOfBounds::Lanes { p: 9 }));
        for (m_kib, t, p) in [(64 * MIB, 3, 1), (192 * MIB, 1, 8), (MAX_KIB, 20, 8)] {
            assert_eq!(with(m_kib, t, p), Ok(()));
        }
        assert_eq!(Argon2Params::floor().check(), Ok(()));
        assert_eq!(Argon2Params::recommended().check(), Ok(()));
    }

    #[test]
    fn bounds_are_checked_before_the_work() {
        let passphrase = SecretString::copy_of("x");
        let huge = Argon2Params { m_kib: u32::MAX, t: u32::MAX, p: 4 };
        assert!(argon2id(&passphrase, &[0; 32], huge).is_err());
        let short = argon2id(&passphrase, &[0; 7], Argon2Params::floor());
        assert_eq!(short.err(), Some(OutOfBounds::Salt { bytes: 7 }));
    }

    #[test]
    fn one_passphrase_typed_two_ways_is_one() {
        let composed = nfc(&SecretString::copy_of("gr\u{fc}\u{df}e \u{1e69}"));
        let decomposed = nfc(&SecretString::copy_of("gru\u{308}\u{df}e s\u{307}\u{323}"));
        assert_eq!(composed, decomposed);
    }

    #[test]
    fn normalising_never_moves_the_passphrase() {
        // U+1D160 grows most: 4 bytes become 12 (UAX #15, table of expansion factors).
        let text = "\u{1d160}".repeat(100);
        let normal = nfc(&SecretString::copy_of(&text));
        assert_eq!(normal.len(), 3 * text.len());
        assert_eq!(normal.capacity(), 3 * text.len());
    }

    #[test]
    fn calibration_grows_memory_then_passes_until_the_target() {
        let by_rate = |kib_passes_per_ms: u64| {
            Argon2Params::calibrated_by(|params| {
                params.check().unwrap();
                let work = u64::from(params.m_kib) * u64::from(params.t);
                Some(Duration::from_millis(work / kib_passes_per_ms))
            })
        };
        assert_eq!(by_rate(1), Argon2Params::floor());
        assert_eq!(by_rate(3 * 1024), Argon2Params { m_kib: 512 * MIB, ..Argon2Params::floor() });
        assert_eq!(by_rate(60_000), Argon2Params { m_kib: MAX_KIB, t: 8, p: 4 });
        assert_eq!(by_rate(1_000_000), Argon2Params { m_kib: MAX_KIB, t: 20, p: 4 });
    }

    #[test]
    fn calibration_stays_within_the_memory_there_is() {
        let held = Argon2Params::calibrated_by(|params| {
            (params.m_kib <= 128 * MIB).then_some(Duration::ZERO)
        });
        assert_eq!(held, Argon2Params { m_kib: 128 * MIB, ..Argon2Params::floor() });
    }

    /// What wipes Argon2's memory: the trait reaches the blocks.
    #[test]
    fn blocks_are_wiped() {
        let mut block = Block::new();
        block.as_mut().fill(7);
        block.zeroize();
        assert!(block.as_ref().iter().all(|&word| word == 0));
    }

    fn expanded(test: &serde_json::Value, length: usize) -> Vec<u8> {
        let mut okm = vec![0; length];
        let [salt, ikm, info] = ["salt", "ikm", "info"].map(|name| vectors::bytes(&test[name]));
        hkdf_sha256(&salt, &ikm, &info, &mut okm);
        okm
    }

    #[test]
    fn no_more_than_two_are_stretched_at_once() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for count in [1, 1, 1, AT_ONCE, 1, 1, AT_ONCE, 1] {
                let (running, most) = (&running, &most);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let turn = Turn::take(count);
                        most.fetch_max(
                            running.fetch_add(count, Ordering::SeqCst) + count,
                            Ordering::SeqCst,
                        );
                        std::thread::yield_now();
                        running.fetch_sub(count, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert!(most.into_inner() <= AT_ONCE);
    }
}
