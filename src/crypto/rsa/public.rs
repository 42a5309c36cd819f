use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};

use super::{OaepHash, RSA_ENCRYPTION, RsaPadding, check_bits, padding};
use crate::crypto::der::{self, InvalidKey, Reader};

/// A public RSA key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsaPublic {
    n: Vec<u8>,
    e: Vec<u8>,
}

/// More plaintext than OAEP has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{given} bytes are more than the {longest} that this RSA key encrypts; encrypt a data key")]
pub struct TooLong {
    /// Bytes given.
    pub given: usize,
    /// The most there may be.
    pub longest: usize,
}

impl RsaPublic {
    /// The key of modulus and exponent, in big-endian bytes with or without leading zeros.
    ///
    /// # Errors
    /// [`InvalidKey::Bits`] for a modulus that is not 2048, 3072 or 4096 bits long,
    /// [`InvalidKey::Exponent`] for an exponent that is even, below 65537 or over 33 bits.
    pub fn new(n: &[u8], e: &[u8]) -> Result<Self, InvalidKey> {
        let (n, e) = (der::without_zeros(n), der::without_zeros(e));
        check_bits(bits(n))?;
        let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        // At least 2^16 + 1 (FIPS 186-5 §5.1), and what aws-lc computes with.
        if !odd(e) || !(17..=33).contains(&bits(e)) {
            return Err(InvalidKey::Exponent);
        }
        // No product of two odd primes.
        if !odd(n) {
            return Err(InvalidKey::Inconsistent);
        }
        Ok(Self { n: n.to_vec(), e: e.to_vec() })
    }

    /// Reads a SubjectPublicKeyInfo (RFC 8017 appendix A.1.1 inside).
    ///
    /// # Errors
    /// The [`InvalidKey`] that says what it is instead, and those of [`new`](Self::new).
    pub fn from_spki(der: &[u8]) -> Result<Self, InvalidKey> {
        let (algorithm, key) = der::read_public(der)?;
        if algorithm != RSA_ENCRYPTION {
            return Err(InvalidKey::Kind { expected: "an RSA key" });
        }
        let read = || {
            let mut fields = Reader::of_sequence(key)?;
            let (n, e) = (fields.unsigned()?, fields.unsigned()?);
            fields.end().map(|()| (n, e))
        };
        let (n, e) = read().ok_or(InvalidKey::Form { expected: "an RSA public key in DER" })?;
        Self::new(n, e)
    }

    /// Writes a SubjectPublicKeyInfo.
    pub fn to_spki(&self) -> Vec<u8> {
        let key = der::sequence(&[der::unsigned(&self.n), der::unsigned(&self.e)]);
        der::write_public(RSA_ENCRYPTION, &key)
    }

    /// Length of the modulus in bits: 2048, 3072 or 4096.
    pub const fn bits(&self) -> usize {
        8 * self.n.len()
    }

    /// The modulus in big-endian bytes, as long as a ciphertext and a signature.
    pub fn n(&self) -> &[u8] {
        &self.n
    }

    /// The public exponent in big-endian bytes, without leading zeros.
    pub fn e(&self) -> &[u8] {
        &self.e
    }

    /// Encrypts with OAEP and no label (RFC 8017 §7.1.1).
    ///
    /// # Errors
    /// [`TooLong`] when the plaintext exceeds what modulus and hash leave.
    pub fn encrypt_oaep(&self, hash: OaepHash, plaintext: &[u8]) -> Result<Vec<u8>, TooLong> {
        let longest = self.n.len() - 2 * hash.hash.bytes() - 2;
        if plaintext.len() > longest {
            return Err(TooLong { given: plaintext.len(), longest });
        }
        let mut ciphertext = vec![0; self.n.len()];
        let encrypted = PublicEncryptingKey::from_der(&self.to_spki())
            .ok()
            .and_then(|key| OaepPublicEncryptingKey::new(key).ok())
            .and_then(|key| {
                let written = key.encrypt(hash.algorithm, plaintext, &mut ciphertext, None);
                written.map(|written| written.len()).ok()
            });
        #[expect(
            clippy::expect_used,
            reason = "key and length were checked: memory is what is left"
        )]
        let length = encrypted.expect("aws-lc takes every key and length that is taken here");
        ciphertext.truncate(length);
        Ok(ciphertext)
    }

    /// Whether `signature` is this key's of `digest`, which `padding`'s hash gave, or of the bytes
    /// themselves where it has none.
    pub fn verify(&self, padding: RsaPadding, digest: &[u8], signature: &[u8]) -> bool {
        padding::holds(self, padding, digest, signature)
    }
}

/// Bits of a number without leading zeros.
fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |first| first.leading_zeros());
    8 * number.len() - usize::try_from(unused).unwrap_or(0)
}
