//! RSA (RFC 8017) with moduli of 2048, 3072 and 4096 bits: OAEP, and signatures with PKCS#1 v1.5
//! and PSS.
//!
//! All that touches a private key is aws-lc-rs. It offers no bare private operation, so what it
//! does not pad itself cannot be signed or decrypted here ([`Unsupported`]). Verifying is
//! arithmetic with public numbers, done here for every hash.
//!
//! - `key.rs`: [`RsaKey`]
//! - `public.rs`: [`RsaPublic`]
//! - `primes.rs`: what follows from the primes of a pair
//! - `padding.rs`: what a signature must open to

mod key;
mod padding;
mod primes;
mod public;

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepAlgorithm,
};

pub use self::{
    key::{RsaComponents, RsaKey, RsaSignError},
    public::{RsaPublic, TooLong},
};
use super::{Hash, der::InvalidKey};

/// How a digest is made into a number to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsaPadding {
    /// EMSA-PKCS1-v1_5 (RFC 8017 §9.2), which names the hash; without one, the bytes given are
    /// padded as they are.
    Pkcs1v15(Option<Hash>),
    /// EMSA-PSS (RFC 8017 §9.1) with MGF1 of the same hash.
    Pss(Hash, SaltLength),
}

/// How long the salt of PSS is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaltLength {
    /// Signing: the longest that fits. Verifying: any.
    Auto,
    /// As long as the digest.
    Hash,
    /// So many bytes.
    Bytes(usize),
}

/// A hash that OAEP (RFC 8017 §7.1) can be used with, for itself and for MGF1.
#[derive(Debug, Clone, Copy)]
pub struct OaepHash {
    hash: Hash,
    algorithm: &'static OaepAlgorithm,
}

impl OaepHash {
    /// The one of transit keys.
    pub const SHA2_256: Self = Self { hash: Hash::Sha2_256, algorithm: &OAEP_SHA256_MGF1SHA256 };

    /// OAEP with `hash`.
    ///
    /// # Errors
    /// [`Unsupported`] for SHA-224 and SHA-3.
    pub const fn of(hash: Hash) -> Result<Self, Unsupported> {
        let algorithm = match hash {
            Hash::Sha1 => &OAEP_SHA1_MGF1SHA1,
            Hash::Sha2_256 => &OAEP_SHA256_MGF1SHA256,
            Hash::Sha2_384 => &OAEP_SHA384_MGF1SHA384,
            Hash::Sha2_512 => &OAEP_SHA512_MGF1SHA512,
            Hash::Sha2_224 | Hash::Sha3_224 | Hash::Sha3_256 | Hash::Sha3_384 | Hash::Sha3_512 => {
                let instead = "sha1, sha2-256, sha2-384 or sha2-512";
                return Err(Unsupported { operation: "OAEP", with: hash.word(), instead });
            }
        };
        Ok(Self { hash, algorithm })
    }
}

/// What the RSA of this build does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("RSA {operation} with {with} is not supported here; choose {instead}")]
pub struct Unsupported {
    /// What was asked for.
    pub operation: &'static str,
    /// The hash, or `none`.
    pub with: &'static str,
    /// What there is.
    pub instead: &'static str,
}

/// Whether keys of so many bits are taken.
const fn check_bits(bits: usize) -> Result<(), InvalidKey> {
    match bits {
        2048 | 3072 | 4096 => Ok(()),
        _ => Err(InvalidKey::Bits { bits }),
    }
}

/// The content of the AlgorithmIdentifier: rsaEncryption and NULL (RFC 8017 appendix A.1).
const RSA_ENCRYPTION: &[u8] =
    &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

#[cfg(test)]
mod tests;
