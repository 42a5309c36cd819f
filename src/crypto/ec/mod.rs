//! ECDSA over the NIST curves (FIPS 186-5 §6) with digests of any length, and the forms in which
//! its keys and signatures travel.
//!
//! The curves are RustCrypto's: aws-lc-rs ties each curve to a few digests, and callers may choose
//! any, or bring one.

#[cfg(test)]
mod tests;

use std::fmt;

use ecdsa::{
    EcdsaCurve, Signature, SignatureSize,
    elliptic_curve::{
        AffinePoint, CurveArithmetic, FieldBytesSize, NonZeroScalar, PublicKey,
        array::ArraySize,
        sec1::{FromSec1Point, ModulusSize, ToSec1Point},
    },
    hazmat::{sign_prehashed_rfc6979, verify_prehashed},
};
use p256::NistP256;
use p384::NistP384;
use p521::NistP521;
use sha2::Sha512;
use zeroize::Zeroizing;

use super::{
    der::{self, InvalidKey, PrivateKeyInfo, Reader},
    random,
};
use crate::secret::{SecretBytes, scrub_stack};

/// The curves of SP 800-186 §3.2.1 that keys may be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
}

impl Curve {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Length in bytes of a coordinate, a private number, and each half of a signature.
    pub const fn bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// A signature r || s as the DER sequence of the two (RFC 3279 §2.2.3); `None` for another
    /// length.
    pub fn signature_to_der(self, signature: &[u8]) -> Option<Vec<u8>> {
        let (r, s) = signature.split_at_checked(self.bytes())?;
        let parts = [der::unsigned(r), der::unsigned(s)];
        (s.len() == r.len()).then(|| der::sequence(&parts).to_vec())
    }

    /// The signature r || s that DER holds.
    ///
    /// # Errors
    /// The [`InvalidSignature`] that says what it is instead.
    pub fn signature_from_der(self, signature: &[u8]) -> Result<Vec<u8>, InvalidSignature> {
        let mut outer = Reader::new(signature);
        let inner = outer.value(der::SEQUENCE).ok_or(InvalidSignature::Form)?;
        outer.end().ok_or(InvalidSignature::ExtraData)?;
        let numbers = |mut inner: Reader<'_>| {
            let (r, s) = (inner.unsigned()?, inner.unsigned()?);
            inner.end().map(|()| [self.padded(r), self.padded(s)])
        };
        let [r, s] = numbers(Reader::new(inner)).ok_or(InvalidSignature::Form)?;
        let (r, s) = r.zip(s).ok_or(InvalidSignature::OutOfRange)?;
        Ok([r, s].concat())
    }

    /// `number` with as many leading zeros as the curve's width asks for; `None` if it is wider.
    fn padded(self, number: &[u8]) -> Option<Vec<u8>> {
        let number = der::without_zeros(number);
        let zeros = self.bytes().checked_sub(number.len())?;
        let mut padded = Vec::with_capacity(self.bytes());
        padded.resize(zeros, 0);
        padded.extend_from_slice(number);
        Some(padded)
    }

    /// The content of its AlgorithmIdentifier: id-ecPublicKey, and the curve (RFC 5480 §2.1.1).
    fn algorithm(self) -> Vec<u8> {
        [EC_PUBLIC_KEY, self.identifier()].concat()
    }

    const fn identifier(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }

    fn of_algorithm(algorithm: &[u8]) -> Result<Self, InvalidKey> {
        let expected = "a key on P-256, P-384 or P-521";
        let mut curves = Self::ALL.into_iter();
        curves.find(|curve| algorithm == curve.algorithm()).ok_or(InvalidKey::Kind { expected })
    }

    /// The number that a digest stands for, as wide as the curve's numbers: its leftmost bits
    /// (FIPS 186-5 §6.4.1 step 2), or all of them when there are fewer.
    fn number_of(self, digest: &[u8]) -> Vec<u8> {
        let Some((leftmost, _)) = digest.split_at_checked(self.bytes()) else {
            let mut number = vec![0; self.bytes() - digest.len()];
            number.extend_from_slice(digest);
            return number;
        };
        // The order of P-521 ends seven bits below a whole byte; the others' fill theirs.
        let excess = if self == Self::P521 { 7 } else { 0 };
        let mut above = 0;
        let shifted = |byte: &u8| {
            let [_, low] = (u16::from_be_bytes([above, *byte]) >> excess).to_be_bytes();
            above = *byte;
            low
        };
        leftmost.iter().map(shifted).collect()
    }
}

/// A DER signature that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSignature {
    /// No DER sequence of two numbers.
    #[error("the signature is no DER sequence of two numbers")]
    Form,
    /// More bytes than the sequence has.
    #[error("bytes follow the signature")]
    ExtraData,
    /// Numbers too long for the curve: a signature, and certainly not one that holds.
    #[error("the signature is of another curve")]
    OutOfRange,
}

/// A private ECDSA key.
pub struct EcKey {
    scalar: SecretBytes,
    public: EcPublic,
}

impl EcKey {
    /// Draws a key (FIPS 186-5 appendix A.2.2: candidates that are out of range are drawn again).
    pub fn generate(curve: Curve) -> Self {
        loop {
            let candidate = SecretBytes::build(curve.bytes(), |bytes| {
                random::fill(bytes);
                // Else nearly all candidates for P-521 lie above its order.
                if let (Curve::P521, Some(first)) = (curve, bytes.first_mut()) {
                    *first &= 1;
                }
            });
            if let Ok(key) = candidate.expose(|bytes| Self::from_scalar(curve, bytes)) {
                return key;
            }
        }
    }

    /// The key whose private number is `scalar`, in big-endian bytes with or without leading
    /// zeros.
    ///
    /// # Errors
    /// [`InvalidKey::OutOfRange`] when it is zero, or the order of the curve or more.
    pub fn from_scalar(curve: Curve, scalar: &[u8]) -> Result<Self, InvalidKey> {
        let out_of_range = InvalidKey::OutOfRange { curve: curve.word() };
        let scalar = SecretBytes::from_vec(curve.padded(scalar).ok_or(out_of_range)?);
        let point = scalar.expose(|scalar| match curve {
            Curve::P256 => point_of::<NistP256>(scalar),
            Curve::P384 => point_of::<NistP384>(scalar),
            Curve::P521 => point_of::<NistP521>(scalar),
        });
        scrub_stack();
        let public = EcPublic { curve, point: point.ok_or(out_of_range)? };
        Ok(Self { scalar, public })
    }

    /// Reads PKCS#8 (RFC 5958 §2), with or without the curve and the public key inside.
    ///
    /// # Errors
    /// The [`InvalidKey`] that says what it is instead, or that its parts contradict each other.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, InvalidKey> {
        let info = PrivateKeyInfo::read(der)?;
        let curve = Curve::of_algorithm(info.algorithm)?;
        let key = Self::from_sec1(curve, info.key)?;
        if info.public.is_some_and(|public| public != key.public.point) {
            return Err(InvalidKey::Inconsistent);
        }
        Ok(key)
    }

    /// Reads the ECPrivateKey of RFC 5915 §3 on a curve that is known.
    fn from_sec1(curve: Curve, der: &[u8]) -> Result<Self, InvalidKey> {
        let read = || {
            let mut fields = Reader::of_sequence(der)?;
            fields.unsigned().filter(|version| version == &[1])?;
            let scalar = fields.value(der::OCTET_STRING)?;
            let identifier = fields.value(der::CONTEXT_0);
            let public = match fields.value(der::CONTEXT_1) {
                Some(content) => Some(Reader::new(content).bits(der::BIT_STRING)?),
                None => None,
            };
            fields.end().map(|()| (scalar, identifier, public))
        };
        let (scalar, identifier, public) =
            read().ok_or(InvalidKey::Form { expected: "an EC private key in DER" })?;
        let key = Self::from_scalar(curve, scalar)?;
        let contradicts = identifier.is_some_and(|identifier| identifier != curve.identifier())
            || public.is_some_and(|public| public != key.public.point);
        if contradicts { Err(InvalidKey::Inconsistent) } else { Ok(key) }
    }

    /// Writes PKCS#8, with the public key and without the curve inside.
    pub fn to_pkcs8(&self) -> SecretBytes {
        PrivateKeyInfo::write(&self.curve().algorithm(), &self.sec1(&[]))
    }

    /// Writes the ECPrivateKey of RFC 5915 §3, what PEM names `EC PRIVATE KEY`.
    pub fn to_sec1(&self) -> SecretBytes {
        let identifier = der::value(der::CONTEXT_0, &[self.curve().identifier()]);
        der::secret(self.sec1(&identifier))
    }

    fn sec1(&self, identifier: &[u8]) -> Zeroizing<Vec<u8>> {
        let public = der::value(der::BIT_STRING, &[&[0], &self.public.point]);
        self.scalar.expose(|scalar| {
            der::sequence(&[
                der::unsigned(&[1]),
                der::value(der::OCTET_STRING, &[scalar]),
                Zeroizing::new(identifier.to_vec()),
                der::value(der::CONTEXT_1, &[&public]),
            ])
        })
    }

    /// The private number in big-endian bytes, as wide as the curve.
    pub const fn scalar(&self) -> &SecretBytes {
        &self.scalar
    }

    /// The key that others verify with.
    pub const fn public(&self) -> &EcPublic {
        &self.public
    }

    /// The curve it is on.
    pub const fn curve(&self) -> Curve {
        self.public.curve
    }

    /// Signs a digest of any length and returns r || s, each as wide as the curve.
    ///
    /// The number drawn for each signature is that of RFC 6979 §3.6: it depends on key and digest,
    /// so that no failure of the random generator gives the key away, and on fresh randomness.
    pub fn sign_digest(&self, digest: &[u8]) -> Vec<u8> {
        let number = self.curve().number_of(digest);
        let fresh = Zeroizing::new(random::array::<32>());
        let signature = self.scalar.expose(|scalar| match self.curve() {
            Curve::P256 => sign::<NistP256>(scalar, &number, &*fresh),
            Curve::P384 => sign::<NistP384>(scalar, &number, &*fresh),
            Curve::P521 => sign::<NistP521>(scalar, &number, &*fresh),
        });
        scrub_stack();
        signature
    }
}

impl fmt::Debug for EcKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EcKey").field("curve", &self.curve()).finish_non_exhaustive()
    }
}

/// A public ECDSA key: a point of its curve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcPublic {
    curve: Curve,
    /// 4 || x || y (SEC 1 §2.3.3).
    point: Vec<u8>,
}

impl EcPublic {
    /// Reads a SubjectPublicKeyInfo with an uncompressed point (RFC 5480 §2).
    ///
    /// # Errors
    /// The [`InvalidKey`] that says what it is instead.
    pub fn from_spki(der: &[u8]) -> Result<Self, InvalidKey> {
        let (algorithm, point) = der::read_public(der)?;
        let curve = Curve::of_algorithm(algorithm)?;
        let coordinates = point
            .strip_prefix(&[UNCOMPRESSED])
            .filter(|coordinates| coordinates.len() == 2 * curve.bytes());
        let (x, y) = coordinates
            .and_then(|coordinates| coordinates.split_at_checked(curve.bytes()))
            .ok_or(InvalidKey::Form { expected: "a public key with an uncompressed point" })?;
        Self::from_point(curve, x, y)
    }

    /// Writes a SubjectPublicKeyInfo.
    pub fn to_spki(&self) -> Vec<u8> {
        der::write_public(&self.curve.algorithm(), &self.point)
    }

    /// The point with these coordinates, in big-endian bytes with or without leading zeros.
    ///
    /// # Errors
    /// [`InvalidKey::OffCurve`] when the curve has no such point: its "signatures" would hold
    /// elsewhere, and verifying with it is a way to attack others.
    pub fn from_point(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, InvalidKey> {
        let off_curve = InvalidKey::OffCurve { curve: curve.word() };
        let (x, y) = curve.padded(x).zip(curve.padded(y)).ok_or(off_curve)?;
        let point = [&[UNCOMPRESSED], x.as_slice(), &y].concat();
        let is_on_curve = match curve {
            Curve::P256 => PublicKey::<NistP256>::from_sec1_bytes(&point).is_ok(),
            Curve::P384 => PublicKey::<NistP384>::from_sec1_bytes(&point).is_ok(),
            Curve::P521 => PublicKey::<NistP521>::from_sec1_bytes(&point).is_ok(),
        };
        if is_on_curve { Ok(Self { curve, point }) } else { Err(off_curve) }
    }

    /// Its coordinates x and y in big-endian bytes, each as wide as the curve.
    pub fn point(&self) -> (&[u8], &[u8]) {
        let (_, coordinates) = self.point.split_at(1);
        coordinates.split_at(self.curve.bytes())
    }

    /// The curve it is on.
    pub const fn curve(&self) -> Curve {
        self.curve
    }

    /// Whether r || s, each as wide as the curve, is this key's signature of the digest.
    ///
    /// None is of a digest that is empty or zero, which no hash gives: anybody can make one.
    pub fn verify_digest(&self, digest: &[u8], signature: &[u8]) -> bool {
        let number = self.curve.number_of(digest);
        let is_zero = number.iter().all(|byte| *byte == 0);
        !is_zero
            && match self.curve {
                Curve::P256 => verify::<NistP256>(&self.point, &number, signature),
                Curve::P384 => verify::<NistP384>(&self.point, &number, signature),
                Curve::P521 => verify::<NistP521>(&self.point, &number, signature),
            }
    }
}

/// The public point of a private number; `None` when that is out of range.
#[inline(never)]
fn point_of<C>(scalar: &[u8]) -> Option<Vec<u8>>
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
{
    let scalar = Zeroizing::new(NonZeroScalar::<C>::try_from(scalar).ok()?);
    let public = PublicKey::<C>::from_secret_scalar(&scalar);
    Some(public.to_sec1_point(false).as_bytes().to_vec())
}

#[inline(never)]
fn sign<C>(scalar: &[u8], number: &[u8], fresh: &[u8]) -> Vec<u8>
where
    C: EcdsaCurve + CurveArithmetic,
    SignatureSize<C>: ArraySize,
{
    #[expect(clippy::expect_used, reason = "a key's private number was in range when it was made")]
    let scalar = Zeroizing::new(NonZeroScalar::<C>::try_from(scalar).expect("it is in range"));
    let (signature, _) = sign_prehashed_rfc6979::<C, Sha512>(&scalar, number, fresh);
    signature.to_bytes().to_vec()
}

fn verify<C>(point: &[u8], number: &[u8], signature: &[u8]) -> bool
where
    C: EcdsaCurve + CurveArithmetic,
    SignatureSize<C>: ArraySize,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
{
    let Ok(public) = PublicKey::<C>::from_sec1_bytes(point) else { return false };
    Signature::<C>::from_slice(signature)
        .and_then(|signature| verify_prehashed(&public.to_projective(), number, &signature))
        .is_ok()
}

/// id-ecPublicKey (RFC 5480 §2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// What an uncompressed point begins with (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;
