use std::fmt;

use aws_lc_rs::{
    digest::{self, Digest},
    encoding::AsDer,
    rsa::{
        KeyPair, KeyPairComponents, KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey,
        PublicKeyComponents,
    },
    signature::{
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
        RSA_PSS_SHA512, RsaPssSaltLength, RsaSignatureEncoding,
    },
};
use zeroize::Zeroizing;

use super::{OaepHash, RSA_ENCRYPTION, RsaPadding, RsaPublic, SaltLength, Unsupported, check_bits};
use crate::{
    crypto::{
        Hash, OpenFailed,
        der::{self, InvalidKey, PrivateKeyInfo, Reader},
    },
    secret::SecretBytes,
};

/// A private RSA key.
pub struct RsaKey {
    components: RsaComponents,
    public: RsaPublic,
    signing: KeyPair,
    decrypting: OaepPrivateDecryptingKey,
}

/// The numbers of a private key of two primes (RFC 8017 §3.2), in big-endian bytes.
#[derive(Debug)]
pub struct RsaComponents {
    /// The modulus, p times q.
    pub n: Vec<u8>,
    /// The public exponent.
    pub e: Vec<u8>,
    /// The private exponent.
    pub d: SecretBytes,
    /// The first prime.
    pub p: SecretBytes,
    /// The second prime.
    pub q: SecretBytes,
    /// d mod p - 1.
    pub dp: SecretBytes,
    /// d mod q - 1.
    pub dq: SecretBytes,
    /// The inverse of q mod p.
    pub qinv: SecretBytes,
}

/// Why nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RsaSignError {
    /// A hash, or none, with which only verifying is possible.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The bytes given are no digest of that hash.
    #[error("{given} bytes were given where a digest of {hash} has {needed}")]
    DigestLength {
        /// The hash's name.
        hash: &'static str,
        /// Bytes given.
        given: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// More salt than the modulus leaves room for.
    #[error("a salt of {given} bytes is too long for this key and hash; give at most {longest}")]
    SaltLength {
        /// Bytes asked for.
        given: usize,
        /// The most there may be.
        longest: usize,
    },
    /// What the key makes does not verify: one of its primes is none. Imported keys are not asked.
    #[error("the key makes no signatures: its numbers do not fit each other")]
    Inconsistent,
}

impl RsaKey {
    /// Makes a key of 2048, 3072 or 4096 bits with the exponent 65537. Takes up to seconds.
    ///
    /// # Errors
    /// [`InvalidKey::Bits`] for another length.
    pub fn generate(bits: usize) -> Result<Self, InvalidKey> {
        check_bits(bits)?;
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            _ => KeySize::Rsa4096,
        };
        let written = KeyPair::generate(size).and_then(|pair| pair.as_der());
        #[expect(clippy::expect_used, reason = "without memory or randomness nobody can go on")]
        Self::from_pkcs8(written.expect("aws-lc makes a key").as_ref())
    }

    /// Reads PKCS#8 (RFC 8017 appendix A.1.2 inside) with two primes.
    ///
    /// # Errors
    /// The [`InvalidKey`] that says what it is instead, and those of
    /// [`from_components`](Self::from_components).
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, InvalidKey> {
        let info = PrivateKeyInfo::read(der)?;
        if info.algorithm != RSA_ENCRYPTION {
            return Err(InvalidKey::Kind { expected: "an RSA key" });
        }
        Self::from_pkcs1(info.key)
    }

    pub(super) fn from_pkcs1(der: &[u8]) -> Result<Self, InvalidKey> {
        let read = || {
            let mut fields = Reader::of_sequence(der)?;
            // Version 1 has more primes than two.
            fields.unsigned().filter(|version| version.is_empty())?;
            let (n, e) = (fields.unsigned()?.to_vec(), fields.unsigned()?.to_vec());
            let mut private = || fields.unsigned().map(SecretBytes::copy_of);
            let (d, p, q) = (private()?, private()?, private()?);
            let (dp, dq, qinv) = (private()?, private()?, private()?);
            fields.end().map(|()| RsaComponents { n, e, d, p, q, dp, dq, qinv })
        };
        let expected = "an RSA private key of two primes in DER";
        Self::from_components(read().ok_or(InvalidKey::Form { expected })?)
    }

    /// The key of these numbers, with or without leading zeros, which are checked against each
    /// other.
    ///
    /// # Errors
    /// Those of [`RsaPublic::new`], or [`InvalidKey::Inconsistent`].
    pub fn from_components(components: RsaComponents) -> Result<Self, InvalidKey> {
        let public = RsaPublic::new(&components.n, &components.e)?;
        let RsaComponents { d, p, q, dp, dq, qinv, .. } = components;
        let (n, e) = (public.n().to_vec(), public.e().to_vec());
        let components = RsaComponents { n, e, d, p, q, dp, dq, qinv };
        let signing = components.pair().ok_or(InvalidKey::Inconsistent)?;
        let decrypting = components.to_pkcs8().expose(|der| {
            let key = PrivateDecryptingKey::from_pkcs8(der).ok()?;
            OaepPrivateDecryptingKey::new(key).ok()
        });
        let decrypting = decrypting.ok_or(InvalidKey::Inconsistent)?;
        Ok(Self { components, public, signing, decrypting })
    }

    /// Writes PKCS#8.
    pub fn to_pkcs8(&self) -> SecretBytes {
        self.components.to_pkcs8()
    }

    /// Writes the RSAPrivateKey of RFC 8017 appendix A.1.2, what PEM names `RSA PRIVATE KEY`.
    pub fn to_pkcs1(&self) -> SecretBytes {
        der::secret(self.components.pkcs1())
    }

    /// Length of the modulus in bits: 2048, 3072 or 4096.
    pub const fn bits(&self) -> usize {
        self.public.bits()
    }

    /// The key that others encrypt and verify with.
    pub const fn public(&self) -> &RsaPublic {
        &self.public
    }

    /// The numbers of the key.
    pub const fn components(&self) -> &RsaComponents {
        &self.components
    }

    /// Decrypts what was encrypted with OAEP and no label (RFC 8017 §7.1.2).
    ///
    /// # Errors
    /// [`OpenFailed`] for whatever does not decrypt: that it is one error is what keeps Manger's
    /// attack away.
    pub fn decrypt_oaep(
        &self,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, OpenFailed> {
        let mut room = Zeroizing::new(vec![0; self.decrypting.min_output_size()]);
        let opened = self.decrypting.decrypt(hash.algorithm, ciphertext, &mut room, None);
        opened.map(|plaintext| SecretBytes::copy_of(plaintext)).map_err(|_| OpenFailed)
    }

    /// Signs `digest`, which `padding`'s hash gave.
    ///
    /// # Errors
    /// The [`RsaSignError`] that says why not. What is [`Unsupported`] can be verified all the
    /// same.
    pub fn sign(&self, padding: RsaPadding, digest: &[u8]) -> Result<Vec<u8>, RsaSignError> {
        let hash = match padding {
            RsaPadding::Pkcs1v15(hash) => hash,
            RsaPadding::Pss(hash, _) => Some(hash),
        };
        let suite = Suite::of(hash)?;
        let hash = suite.hash;
        let given = digest.len();
        let digest = Digest::import_less_safe(digest, suite.digest).map_err(|_| {
            RsaSignError::DigestLength { hash: hash.word(), given, needed: hash.bytes() }
        })?;
        let encoding = match padding {
            RsaPadding::Pkcs1v15(_) => suite.pkcs1v15,
            RsaPadding::Pss(_, salt) => self.pss(&suite, salt)?,
        };
        let mut signature = vec![0; self.public.n().len()];
        let signed = self.signing.sign_digest(encoding, &digest, &mut signature);
        signed.map_err(|_| RsaSignError::Inconsistent)?;
        Ok(signature)
    }

    fn pss(
        &self,
        suite: &Suite,
        salt: SaltLength,
    ) -> Result<&'static RsaSignatureEncoding, RsaSignError> {
        // The encoding holds the digest, the salt and two bytes more (RFC 8017 §9.1.1 step 3).
        let longest = self.public.n().len() - suite.hash.bytes() - 2;
        let given = match salt {
            SaltLength::Auto => longest,
            SaltLength::Hash => suite.hash.bytes(),
            SaltLength::Bytes(given) => given,
        };
        let fits = Some(given).filter(|given| *given <= longest);
        fits.and_then(|given| suite.pss.get(given))
            .ok_or(RsaSignError::SaltLength { given, longest })
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RsaKey").field("bits", &self.bits()).finish_non_exhaustive()
    }
}

impl RsaComponents {
    /// The pair that aws-lc makes of them; `None` when they do not belong together.
    fn pair(&self) -> Option<KeyPair> {
        let Self { n, e, d, p, q, dp, dq, qinv } = self;
        let public_key = PublicKeyComponents { n: n.as_slice(), e: e.as_slice() };
        let copied = |number: &SecretBytes| number.expose(|bytes| Zeroizing::new(bytes.to_vec()));
        let [d, p, q, dp, dq, qinv] = [d, p, q, dp, dq, qinv].map(copied);
        let components = KeyPairComponents { public_key, d, p, q, dP: dp, dQ: dq, qInv: qinv };
        KeyPair::from_components(&components).ok()
    }

    fn to_pkcs8(&self) -> SecretBytes {
        PrivateKeyInfo::write(RSA_ENCRYPTION, &self.pkcs1())
    }

    fn pkcs1(&self) -> Zeroizing<Vec<u8>> {
        let Self { n, e, d, p, q, dp, dq, qinv } = self;
        let [d, p, q, dp, dq, qinv] =
            [d, p, q, dp, dq, qinv].map(|number| number.expose(der::unsigned));
        let version = der::unsigned(&[]);
        der::sequence(&[version, der::unsigned(n), der::unsigned(e), d, p, q, dp, dq, qinv])
    }
}

/// A hash that aws-lc signs with, and its encodings.
struct Suite {
    hash: Hash,
    digest: &'static digest::Algorithm,
    pkcs1v15: &'static RsaSignatureEncoding,
    /// With a salt of as many bytes as the place says.
    pss: &'static [RsaSignatureEncoding; SALT_LENGTHS],
}

impl Suite {
    const fn of(hash: Option<Hash>) -> Result<Self, Unsupported> {
        let Some(hash) = hash else { return Err(unsupported("none")) };
        let (digest, pkcs1v15, pss) = match hash {
            Hash::Sha2_256 => (&digest::SHA256, &RSA_PKCS1_SHA256, &PSS_SHA256),
            Hash::Sha2_384 => (&digest::SHA384, &RSA_PKCS1_SHA384, &PSS_SHA384),
            Hash::Sha2_512 => (&digest::SHA512, &RSA_PKCS1_SHA512, &PSS_SHA512),
            Hash::Sha1
            | Hash::Sha2_224
            | Hash::Sha3_224
            | Hash::Sha3_256
            | Hash::Sha3_384
            | Hash::Sha3_512 => return Err(unsupported(hash.word())),
        };
        Ok(Self { hash, digest, pkcs1v15, pss })
    }
}

const fn unsupported(with: &'static str) -> Unsupported {
    Unsupported { operation: "signing", with, instead: "sha2-256, sha2-384 or sha2-512" }
}

/// aws-lc-rs takes encodings that live as long as the program, so there is one for each length.
const fn numbered(
    mut encodings: [RsaSignatureEncoding; SALT_LENGTHS],
) -> [RsaSignatureEncoding; SALT_LENGTHS] {
    let mut length = 0;
    while length < SALT_LENGTHS {
        #[expect(clippy::indexing_slicing, reason = "the loop stays below the array's length")]
        let place = &mut encodings[length];
        #[expect(clippy::cast_possible_truncation, reason = "no salt is longer than a modulus")]
        let salt = RsaPssSaltLength::Custom(length as u16);
        *place = std::mem::replace(place, RSA_PSS_SHA256).with_pss_salt_length(salt);
        length += 1;
    }
    encodings
}

static PSS_SHA256: [RsaSignatureEncoding; SALT_LENGTHS] =
    numbered([const { RSA_PSS_SHA256 }; SALT_LENGTHS]);
static PSS_SHA384: [RsaSignatureEncoding; SALT_LENGTHS] =
    numbered([const { RSA_PSS_SHA384 }; SALT_LENGTHS]);
static PSS_SHA512: [RsaSignatureEncoding; SALT_LENGTHS] =
    numbered([const { RSA_PSS_SHA512 }; SALT_LENGTHS]);

/// From none to the longest of 4096 bits and SHA-256, 512 - 32 - 2.
const SALT_LENGTHS: usize = 479;
