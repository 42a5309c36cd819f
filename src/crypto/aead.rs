//! Authenticated encryption with 192-bit nonces, so that random nonces need no counting.
//! Neither cipher commits to its key; FORMAT.md 2 says where that matters.

use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use chacha20poly1305::XChaCha20Poly1305;
use xaes_256_gcm::Xaes256Gcm;

use crate::secret::{Algorithm, Key, Locked, SecretBytes};

/// A 32-byte AEAD key whose [`Cipher`] is named beside it.
#[derive(Debug)]
pub enum Aead256 {}

impl Algorithm for Aead256 {
    const KEY_BYTES: usize = 32;
    const NAME: &'static str = "AEAD-256";
}

/// The ciphers of records, heads and wraps, with their codes on disk (FORMAT.md 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cipher {
    /// C2SP XAES-256-GCM (SP 800-108r1 over SP 800-38D); the default.
    Xaes256Gcm = 1,
    /// draft-irtf-cfrg-xchacha, for machines without AES instructions.
    XChaCha20Poly1305 = 2,
}

impl Cipher {
    /// The cipher's byte in a header.
    pub const fn code(self) -> u8 {
        match self {
            Self::Xaes256Gcm => 1,
            Self::XChaCha20Poly1305 => 2,
        }
    }

    /// The cipher that a header's byte names.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Xaes256Gcm),
            2 => Some(Self::XChaCha20Poly1305),
            _ => None,
        }
    }
}

/// The ciphertext does not open here: another key, nonce or associated data, or changed bytes.
///
/// One variant without a cause, so that no wording tells which (FORMAT.md 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext does not open: wrong key or place, or damaged")]
pub struct OpenFailed;

/// One keyed cipher. Keep it for as long as its key: the key schedule is the dear part.
pub struct Sealer {
    keyed: Keyed,
}

/// Key schedules are as good as keys, so they lie where keys lie.
enum Keyed {
    Xaes256Gcm(Locked<Xaes256Gcm>),
    XChaCha20Poly1305(Locked<XChaCha20Poly1305>),
}

impl Sealer {
    /// Expands `key` for `cipher`.
    pub fn new(cipher: Cipher, key: &Key<Aead256>) -> Self {
        let keyed = key.expose(|bytes| match cipher {
            Cipher::Xaes256Gcm => Keyed::Xaes256Gcm(Locked::build(|| expanded(bytes))),
            Cipher::XChaCha20Poly1305 => {
                Keyed::XChaCha20Poly1305(Locked::build(|| expanded(bytes)))
            }
        });
        Self { keyed }
    }

    /// The cipher this key is used with.
    pub const fn cipher(&self) -> Cipher {
        match self.keyed {
            Keyed::Xaes256Gcm(_) => Cipher::Xaes256Gcm,
            Keyed::XChaCha20Poly1305(_) => Cipher::XChaCha20Poly1305,
        }
    }

    /// Encrypts `plaintext` and returns ciphertext || tag, 16 bytes longer.
    ///
    /// A nonce must not come twice under one key with different inputs: draw or hedge it
    /// (FORMAT.md 2).
    ///
    /// # Panics
    /// When plaintext or associated data exceed 64 GiB (SP 800-38D §5.2.1.1), which no caller has.
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(plaintext.len() + TAG_BYTES);
        sealed.extend_from_slice(plaintext);
        let tag = match &self.keyed {
            Keyed::Xaes256Gcm(cipher) => cipher.lend().encrypt_inout_detached(
                nonce.into(),
                aad,
                sealed.as_mut_slice().into(),
            ),
            Keyed::XChaCha20Poly1305(cipher) => cipher.lend().encrypt_inout_detached(
                nonce.into(),
                aad,
                sealed.as_mut_slice().into(),
            ),
        };
        #[expect(clippy::expect_used, reason = "the ciphers refuse lengths over 64 GiB only")]
        let tag = tag.expect("no message reaches 64 GiB");
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Opens ciphertext || tag.
    ///
    /// # Errors
    /// [`OpenFailed`] when the tag does not hold; no plaintext byte leaves then.
    pub fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        ciphertext_and_tag: &[u8],
    ) -> Result<SecretBytes, OpenFailed> {
        let (ciphertext, tag) =
            ciphertext_and_tag.split_last_chunk::<TAG_BYTES>().ok_or(OpenFailed)?;
        let mut outcome = Ok(());
        let plaintext = SecretBytes::build(ciphertext.len(), |buffer| {
            buffer.copy_from_slice(ciphertext);
            outcome = match &self.keyed {
                Keyed::Xaes256Gcm(cipher) => cipher.lend().decrypt_inout_detached(
                    nonce.into(),
                    aad,
                    buffer.into(),
                    tag.into(),
                ),
                Keyed::XChaCha20Poly1305(cipher) => cipher.lend().decrypt_inout_detached(
                    nonce.into(),
                    aad,
                    buffer.into(),
                    tag.into(),
                ),
            };
        });
        outcome.map(|()| plaintext).map_err(|_| OpenFailed)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("cipher", &self.cipher()).finish_non_exhaustive()
    }
}

fn expanded<C: KeyInit>(key: &[u8]) -> C {
    #[expect(clippy::expect_used, reason = "Key<Aead256> always holds 32 bytes")]
    C::new_from_slice(key).expect("the key has the cipher's length")
}

/// Both ciphers extend the nonce to 192 bits.
const NONCE_BYTES: usize = 24;
/// Both ciphers have full 128-bit tags (SP 800-38D §5.2.1.2, RFC 8439 §2.8).
const TAG_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use aes_gcm::{Aes256Gcm, aead::inout::InOutBuf};
    use proptest::prelude::*;
    use zeroize::ZeroizeOnDrop;

    use super::*;
    use crate::crypto::{random, vectors};

    const XAES: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/xaes_256_gcm.json"));
    const FORMAT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/format.json"));
    const AES_GCM: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/wycheproof/aes_gcm.json"));
    const XCHACHA: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/wycheproof/xchacha20_poly1305.json"
    ));

    #[test]
    fn xaes_agrees_with_c2sp() {
        let file = vectors::parse(XAES);
        for test in vectors::list(&file["tests"]) {
            let sealer = Sealer::new(Cipher::Xaes256Gcm, &vectors::key(&test["key"]));
            let nonce = vectors::array(&test["nonce"]);
            let (aad, plaintext) =
                (vectors::bytes(&test["aad"]), vectors::bytes(&test["plaintext"]));
            let sealed = sealer.seal(&nonce, &aad, &plaintext);
            assert_eq!(sealed, vectors::bytes(&test["ciphertext_and_tag"]), "{}", test["name"]);
            assert!(opens_to(&sealer.open(&nonce, &aad, &sealed), &plaintext));
        }
    }

    #[test]
    fn xaes_agrees_with_ten_thousand_accumulated() {
        let file = vectors::parse(XAES);
        let (mut inputs, mut outputs) = (shake::Shake128::new(), shake::Shake128::new());
        for _ in 0..vectors::number(&file["accumulated"]["iterations"]) {
            let key = Key::build(|key| inputs.squeeze(key));
            let mut nonce = [0; NONCE_BYTES];
            inputs.squeeze(&mut nonce);
            let plaintext = inputs.squeeze_text();
            let aad = inputs.squeeze_text();
            let sealer = Sealer::new(Cipher::Xaes256Gcm, &key);
            let sealed = sealer.seal(&nonce, &aad, &plaintext);
            assert!(opens_to(&sealer.open(&nonce, &aad, &sealed), &plaintext));
            outputs.absorb(&sealed);
        }
        let mut digest = [0; 32];
        outputs.squeeze(&mut digest);
        assert_eq!(digest, vectors::array(&file["accumulated"]["digest"]));
    }

    #[test]
    fn xchacha_agrees_with_wycheproof() {
        let file = vectors::parse(XCHACHA);
        for (_, test) in vectors::wycheproof(&file) {
            let sealer = Sealer::new(Cipher::XChaCha20Poly1305, &vectors::key(&test["key"]));
            let nonce = vectors::array(&test["iv"]);
            let (aad, plaintext) = (vectors::bytes(&test["aad"]), vectors::bytes(&test["msg"]));
            let sealed = [vectors::bytes(&test["ct"]), vectors::bytes(&test["tag"])].concat();
            let opened = sealer.open(&nonce, &aad, &sealed);
            if vectors::is_valid(test) {
                assert!(opens_to(&opened, &plaintext), "{test}");
                assert_eq!(sealer.seal(&nonce, &aad, &plaintext), sealed, "{test}");
            } else {
                assert!(opened.is_err(), "{test}");
            }
        }
    }

    /// XAES derives a key and half a nonce, then is AES-256-GCM: the same crate as here.
    #[test]
    fn gcm_agrees_with_wycheproof() {
        let file = vectors::parse(AES_GCM);
        for (_, test) in vectors::wycheproof(&file) {
            let cipher = Aes256Gcm::new_from_slice(&vectors::bytes(&test["key"])).unwrap();
            let nonce: [u8; 12] = vectors::array(&test["iv"]);
            let tag: [u8; TAG_BYTES] = vectors::array(&test["tag"]);
            let aad = vectors::bytes(&test["aad"]);
            let mut buffer = vectors::bytes(&test["ct"]);
            let opened = cipher.decrypt_inout_detached(
                &nonce.into(),
                &aad,
                InOutBuf::from(buffer.as_mut_slice()),
                &tag.into(),
            );
            assert_eq!(opened.is_ok(), vectors::is_valid(test), "{test}");
            if opened.is_ok() {
                assert_eq!(buffer, vectors::bytes(&test["msg"]), "{test}");
                let again = cipher.encrypt_inout_detached(
                    &nonce.into(),
                    &aad,
                    InOutBuf::from(buffer.as_mut_slice()),
                );
                assert_eq!(again.unwrap().as_slice(), tag, "{test}");
                assert_eq!(buffer, vectors::bytes(&test["ct"]), "{test}");
            }
        }
    }

    #[test]
    fn records_heads_and_slots_agree_with_the_format() {
        let file = vectors::parse(FORMAT);
        let records = vectors::list(&file["records"]).iter();
        let sealed = records
            .chain([&file["head"]])
            .map(|case| (case, &case["aead_key"], &case["plaintext"], &case["ciphertext_and_tag"]));
        let slot = &file["slot"];
        let wrapped = (slot, &slot["wrap_key"], &slot["root_key"], &slot["wrapped_root"]);
        for (case, key, plaintext, sealed) in sealed.chain([wrapped]) {
            let sealer = Sealer::new(Cipher::Xaes256Gcm, &vectors::key(key));
            let (nonce, aad) = (vectors::array(&case["nonce"]), vectors::bytes(&case["aad"]));
            let (plaintext, sealed) = (vectors::bytes(plaintext), vectors::bytes(sealed));
            assert_eq!(sealer.seal(&nonce, &aad, &plaintext), sealed, "{}", case["name"]);
            assert!(opens_to(&sealer.open(&nonce, &aad, &sealed), &plaintext));
        }
    }

    #[test]
    fn codes_name_their_ciphers() {
        for cipher in CIPHERS {
            assert_eq!(Cipher::from_code(cipher.code()), Some(cipher));
        }
        assert_eq!(Cipher::from_code(0), None);
        assert_eq!(Cipher::from_code(3), None);
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        for cipher in CIPHERS {
            let sealer = Sealer::new(cipher, &random::key());
            let nonce: [u8; NONCE_BYTES] = random::array();
            let aad = *b"where it belongs";
            let sealed = sealer.seal(&nonce, &aad, b"a value of some bytes");
            for place in 0..8 * sealed.len() {
                assert!(sealer.open(&nonce, &aad, &flipped(&sealed, place)).is_err());
            }
            for place in 0..8 * aad.len() {
                assert!(sealer.open(&nonce, &flipped(&aad, place), &sealed).is_err());
            }
            for place in 0..8 * nonce.len() {
                let other = flipped(&nonce, place).try_into().unwrap();
                assert!(sealer.open(&other, &aad, &sealed).is_err());
            }
        }
    }

    #[test]
    fn a_cut_ciphertext_is_refused() {
        for cipher in CIPHERS {
            let sealer = Sealer::new(cipher, &random::key());
            let sealed = sealer.seal(&[1; NONCE_BYTES], b"", b"some bytes");
            for length in 0..sealed.len() {
                assert!(sealer.open(&[1; NONCE_BYTES], b"", &sealed[..length]).is_err());
            }
        }
    }

    #[test]
    fn another_key_or_cipher_is_refused() {
        let key = random::key();
        let sealed = Sealer::new(CIPHERS[0], &key).seal(&[1; NONCE_BYTES], b"", b"some bytes");
        for sealer in [Sealer::new(CIPHERS[0], &random::key()), Sealer::new(CIPHERS[1], &key)] {
            assert!(sealer.open(&[1; NONCE_BYTES], b"", &sealed).is_err());
        }
    }

    /// A feature of each crate, off by default in some.
    #[test]
    fn keyed_ciphers_are_wiped_when_dropped() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<Xaes256Gcm>();
        wiped::<Aes256Gcm>();
        wiped::<XChaCha20Poly1305>();
    }

    #[test]
    fn debug_names_the_cipher_only() {
        let sealer = Sealer::new(Cipher::Xaes256Gcm, &random::key());
        assert_eq!(format!("{sealer:?}"), "Sealer { cipher: Xaes256Gcm, .. }");
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(
            key: [u8; 32],
            nonce: [u8; NONCE_BYTES],
            aad: Vec<u8>,
            plaintext: Vec<u8>,
        ) {
            for cipher in CIPHERS {
                let sealer = Sealer::new(cipher, &Key::copy_of(&key).unwrap());
                let sealed = sealer.seal(&nonce, &aad, &plaintext);
                prop_assert_eq!(sealed.len(), plaintext.len() + TAG_BYTES);
                prop_assert!(opens_to(&sealer.open(&nonce, &aad, &sealed), &plaintext));
            }
        }
    }

    fn opens_to(opened: &Result<SecretBytes, OpenFailed>, plaintext: &[u8]) -> bool {
        opened.as_ref().is_ok_and(|opened| opened.expose(|bytes| bytes == plaintext))
    }

    fn flipped(bytes: &[u8], place: usize) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes[place / 8] ^= 1 << (place % 8);
        bytes
    }

    const CIPHERS: [Cipher; 2] = [Cipher::Xaes256Gcm, Cipher::XChaCha20Poly1305];

    /// SHAKE128 (FIPS 202), which the accumulated vector is made with; nothing else needs it.
    mod shake {
        pub(super) struct Shake128 {
            lanes: [u64; 25],
            place: usize,
            squeezing: bool,
        }

        impl Shake128 {
            pub(super) const fn new() -> Self {
                Self { lanes: [0; 25], place: 0, squeezing: false }
            }

            pub(super) fn absorb(&mut self, bytes: &[u8]) {
                for &byte in bytes {
                    if self.place == RATE {
                        permute(&mut self.lanes);
                        self.place = 0;
                    }
                    self.xor(self.place, byte);
                    self.place += 1;
                }
            }

            pub(super) fn squeeze(&mut self, out: &mut [u8]) {
                if !self.squeezing {
                    // A full block has still to be permuted before its padding.
                    if self.place == RATE {
                        permute(&mut self.lanes);
                        self.place = 0;
                    }
                    self.xor(self.place, 0x1f);
                    self.xor(RATE - 1, 0x80);
                    self.place = RATE;
                    self.squeezing = true;
                }
                for byte in out {
                    if self.place == RATE {
                        permute(&mut self.lanes);
                        self.place = 0;
                    }
                    *byte = self.lanes[self.place / 8].to_le_bytes()[self.place % 8];
                    self.place += 1;
                }
            }

            /// One byte of length, then so many bytes.
            pub(super) fn squeeze_text(&mut self) -> Vec<u8> {
                let mut length = [0];
                self.squeeze(&mut length);
                let mut text = vec![0; usize::from(length[0])];
                self.squeeze(&mut text);
                text
            }

            fn xor(&mut self, place: usize, byte: u8) {
                self.lanes[place / 8] ^= u64::from(byte) << (8 * (place % 8));
            }
        }

        /// Keccak-f[1600] (FIPS 202 §3.3).
        fn permute(lanes: &mut [u64; 25]) {
            let mut register = 1_u8;
            for _ in 0..24 {
                let columns: [u64; 5] =
                    std::array::from_fn(|x| (0..5).fold(0, |sum, y| sum ^ lanes[x + 5 * y]));
                for (place, lane) in lanes.iter_mut().enumerate() {
                    let x = place % 5;
                    *lane ^= columns[(x + 4) % 5] ^ columns[(x + 1) % 5].rotate_left(1);
                }
                let (mut x, mut y, mut moved) = (1, 0, lanes[1]);
                for step in 0..24 {
                    (x, y) = (y, (2 * x + 3 * y) % 5);
                    let rotated = moved.rotate_left((step + 1) * (step + 2) / 2 % 64);
                    moved = std::mem::replace(&mut lanes[x + 5 * y], rotated);
                }
                for row in lanes.as_chunks_mut::<5>().0 {
                    let before = *row;
                    for (x, lane) in row.iter_mut().enumerate() {
                        *lane ^= !before[(x + 1) % 5] & before[(x + 2) % 5];
                    }
                }
                for power in 0..7 {
                    lanes[0] ^= u64::from(register & 1) << ((1 << power) - 1);
                    let carry = register >> 7;
                    register = (register << 1) ^ (carry * 0x71);
                }
            }
        }

        const RATE: usize = 168;

        #[test]
        fn shake128_of_nothing_is_the_standards() {
            let mut digest = [0; 16];
            Shake128::new().squeeze(&mut digest);
            assert_eq!(data_encoding::HEXLOWER.encode(&digest), "7f9c2ba4e88f827d616045507605853e");
        }
    }
}
