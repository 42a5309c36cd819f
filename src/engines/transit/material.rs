//! New key material, and asymmetric pairs.

use std::{borrow::Cow, time::Duration};

use tokio::sync::Semaphore;

use super::{
    encoding::{self, SecretText},
    key::{Key, Unusable, Version},
    kind::{Family, Kind},
    record::{Material, VersionRecord},
    sign::{Marshaling, Scheme},
    wrapping,
};
use crate::{
    clock::Timestamp,
    crypto::{
        Ed25519Seed, InvalidKey,
        ec::{Curve, EcKey, EcPublic, InvalidSignature},
        ed25519::{self, Ed25519Key},
        kdf::hkdf_sha256,
        pem, random,
        rsa::{OaepHash, RsaKey, RsaPublic, RsaSignError},
        sign as ed25519_signature,
    },
    gate::ApiError,
    secret::{self, SecretBytes},
};

/// A pair, or its public half when nothing else was imported.
pub(super) enum Asymmetric {
    Ed25519(Ed25519Key),
    Ed25519Public([u8; 32]),
    Ec(EcKey),
    EcPublic(EcPublic),
    Rsa(Box<RsaKey>),
    RsaPublic(RsaPublic),
}

/// How a key is written on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// PEM of PKCS#1 or SEC 1; base64 of Ed25519 and of symmetric keys.
    Usual,
    Raw,
    /// Base64 of PKCS#8.
    Der,
    /// PKCS#8.
    Pem,
}

impl Form {
    pub(super) fn of_word(word: &str) -> Option<Self> {
        match word {
            "" => Some(Self::Usual),
            "raw" => Some(Self::Raw),
            "der" => Some(Self::Der),
            "pem" => Some(Self::Pem),
            _ => None,
        }
    }
}

/// Nothing is signed, or what is to be verified is no signature.
#[derive(Debug)]
pub(super) enum SignatureRefused {
    /// Only the public half is here.
    PublicOnly,
    /// A digest is of another length than its hash's.
    WrongLength,
    /// ECDSA whose DER goes on behind the two numbers.
    ExtraData,
    /// Bytes that no signature of the kind has.
    NoSignature,
    Rsa(RsaSignError),
}

impl SignatureRefused {
    pub(super) fn text(&self, kind: Kind) -> String {
        match self {
            Self::PublicOnly => "only the public half of the key is here".to_owned(),
            Self::WrongLength => {
                format!("the input of {} must be a digest of its hash's length", kind.word())
            }
            Self::ExtraData => "supplied signature contains extra data".to_owned(),
            Self::NoSignature => "supplied signature is invalid".to_owned(),
            Self::Rsa(error) => error.to_string(),
        }
    }
}

impl Asymmetric {
    /// The pair of a record; None when it does not hold what its kind says.
    pub(super) fn of_record(kind: Kind, record: &VersionRecord) -> Option<Self> {
        let public = &record.public;
        if record.private.is_empty() {
            return match kind.family() {
                Family::Ed25519 => public.as_slice().try_into().ok().map(Self::Ed25519Public),
                Family::Ecdsa(_) => EcPublic::from_spki(public).ok().map(Self::EcPublic),
                Family::Rsa { .. } => RsaPublic::from_spki(public).ok().map(Self::RsaPublic),
                Family::Message(_) | Family::Committing | Family::Siv | Family::Hmac => None,
            };
        }
        record.private.expose(|private| match kind.family() {
            Family::Ed25519 => ed25519_of(private).map(Self::Ed25519),
            Family::Ecdsa(_) => EcKey::from_pkcs8(private).ok().map(Self::Ec),
            Family::Rsa { .. } => RsaKey::from_pkcs8(private).ok().map(Box::new).map(Self::Rsa),
            Family::Message(_) | Family::Committing | Family::Siv | Family::Hmac => None,
        })
    }

    /// The Ed25519 pair that a context makes: all 64 bytes go in, 32 come out as the seed.
    pub(super) fn derived(private: &[u8], context: &[u8]) -> Option<Self> {
        let seed = secret::Key::build_common(|seed| hkdf_sha256(&[], private, context, seed));
        Some(Self::Ed25519(Ed25519Key::from_seed(seed)))
    }

    /// Signs; the bytes are as `marshaling` has them, not yet encoded.
    pub(super) fn sign(&self, scheme: Scheme, input: &[u8]) -> Result<Vec<u8>, SignatureRefused> {
        match self {
            // The peers sign the input itself, also where it is said to be a digest.
            Self::Ed25519(pair) => Ok(pair.sign(input).to_vec()),
            Self::Ec(pair) => {
                let digest = digest(scheme, input);
                // Anybody can forge signatures of nothing, so nobody takes one.
                if digest.is_empty() {
                    return Err(SignatureRefused::WrongLength);
                }
                let signature = pair.sign_digest(&digest);
                match scheme.marshaling {
                    Marshaling::Jws => Ok(signature),
                    Marshaling::Asn1 => pair
                        .curve()
                        .signature_to_der(&signature)
                        .ok_or(SignatureRefused::NoSignature),
                }
            }
            Self::Rsa(pair) => {
                let digest = rsa_digest(scheme, input)?;
                pair.sign(scheme.padding, &digest).map_err(SignatureRefused::Rsa)
            }
            Self::Ed25519Public(_) | Self::EcPublic(_) | Self::RsaPublic(_) => {
                Err(SignatureRefused::PublicOnly)
            }
        }
    }

    /// Whether a signature holds.
    pub(super) fn verify(
        &self,
        scheme: Scheme,
        input: &[u8],
        signature: &[u8],
    ) -> Result<bool, SignatureRefused> {
        match self {
            Self::Ed25519(pair) => verify_ed25519(&pair.public(), input, signature),
            Self::Ed25519Public(public) => verify_ed25519(public, input, signature),
            Self::Ec(pair) => verify_ec(pair.public(), scheme, input, signature),
            Self::EcPublic(public) => verify_ec(public, scheme, input, signature),
            Self::Rsa(pair) => verify_rsa(pair.public(), scheme, input, signature),
            Self::RsaPublic(public) => verify_rsa(public, scheme, input, signature),
        }
    }

    pub(super) fn rsa_public(&self) -> Option<&RsaPublic> {
        match self {
            Self::Rsa(pair) => Some(pair.public()),
            Self::RsaPublic(public) => Some(public),
            Self::Ed25519(_) | Self::Ed25519Public(_) | Self::Ec(_) | Self::EcPublic(_) => None,
        }
    }

    /// The public half as `keys/` shows it.
    pub(super) fn public_text(&self) -> String {
        match self {
            Self::Ed25519(pair) => encoding::encode(&pair.public()).to_string(),
            Self::Ed25519Public(public) => encoding::encode(public).to_string(),
            Self::Ec(_) | Self::EcPublic(_) | Self::Rsa(_) | Self::RsaPublic(_) => {
                pem::encode("PUBLIC KEY", &self.spki())
            }
        }
    }

    /// The private half on its way out; None for a form that it does not have.
    pub(super) fn export(&self, form: Form) -> Option<SecretText> {
        let pem = |label: &str, der: SecretBytes| der.expose(|der| pem::encode(label, der));
        let text = match (self, form) {
            (Self::Ed25519(pair), Form::Usual | Form::Raw) => {
                return Some(SecretText(both_of(pair).expose(encoding::encode)));
            }
            (Self::Ed25519(pair), Form::Der) => {
                return Some(SecretText(pair.to_pkcs8().expose(encoding::encode)));
            }
            (Self::Ec(pair), Form::Der) => {
                return Some(SecretText(pair.to_pkcs8().expose(encoding::encode)));
            }
            (Self::Rsa(pair), Form::Der) => {
                return Some(SecretText(pair.to_pkcs8().expose(encoding::encode)));
            }
            (Self::Ed25519(pair), Form::Pem) => pem("PRIVATE KEY", pair.to_pkcs8()),
            (Self::Ec(pair), Form::Usual) => pem("EC PRIVATE KEY", pair.to_sec1()),
            (Self::Ec(pair), Form::Pem) => pem("PRIVATE KEY", pair.to_pkcs8()),
            (Self::Rsa(pair), Form::Usual) => pem("RSA PRIVATE KEY", pair.to_pkcs1()),
            (Self::Rsa(pair), Form::Pem) => pem("PRIVATE KEY", pair.to_pkcs8()),
            (Self::Ec(_) | Self::Rsa(_), Form::Raw) => return None,
            (Self::Ed25519Public(_) | Self::EcPublic(_) | Self::RsaPublic(_), _) => return None,
        };
        Some(self.as_peers_write(text))
    }

    /// The public half on its way out; None for a form that it does not have.
    pub(super) fn export_public(&self, form: Form) -> Option<SecretText> {
        match (self, form) {
            (Self::Ed25519(_) | Self::Ed25519Public(_), Form::Usual | Form::Raw) => {
                Some(SecretText(self.public_text().into()))
            }
            (_, Form::Der) => Some(SecretText(encoding::encode(&self.spki()))),
            (_, Form::Usual | Form::Pem) => {
                Some(self.as_peers_write(pem::encode("PUBLIC KEY", &self.spki())))
            }
            (_, Form::Raw) => None,
        }
    }

    /// PEM of RSA ends in a newline, that of others does not.
    fn as_peers_write(&self, mut pem: String) -> SecretText {
        if !matches!(self, Self::Rsa(_) | Self::RsaPublic(_)) {
            pem.truncate(pem.trim_end().len());
        }
        SecretText(pem.into())
    }

    fn spki(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(pair) => ed25519::public_to_spki(&pair.public()),
            Self::Ed25519Public(public) => ed25519::public_to_spki(public),
            Self::Ec(pair) => pair.public().to_spki(),
            Self::EcPublic(public) => public.to_spki(),
            Self::Rsa(pair) => pair.public().to_spki(),
            Self::RsaPublic(public) => public.to_spki(),
        }
    }
}

/// What ECDSA signs: the digest, which may be of any length.
fn digest<'a>(scheme: Scheme, input: &'a [u8]) -> Cow<'a, [u8]> {
    match scheme.hash {
        Some(hash) if !scheme.prehashed => Cow::Owned(hash.digest(input)),
        Some(_) | None => Cow::Borrowed(input),
    }
}

/// What RSA signs: a digest of its hash's length.
fn rsa_digest<'a>(scheme: Scheme, input: &'a [u8]) -> Result<Cow<'a, [u8]>, SignatureRefused> {
    let digest = digest(scheme, input);
    match scheme.hash {
        Some(hash) if hash.bytes() != digest.len() => Err(SignatureRefused::WrongLength),
        Some(_) | None => Ok(digest),
    }
}

fn verify_ed25519(
    public: &[u8; 32],
    input: &[u8],
    signature: &[u8],
) -> Result<bool, SignatureRefused> {
    let signature = signature.try_into().map_err(|_| SignatureRefused::NoSignature)?;
    Ok(ed25519_signature::verify(public, input, signature))
}

fn verify_ec(
    public: &EcPublic,
    scheme: Scheme,
    input: &[u8],
    signature: &[u8],
) -> Result<bool, SignatureRefused> {
    let fixed = match scheme.marshaling {
        Marshaling::Jws => signature.to_vec(),
        Marshaling::Asn1 => match public.curve().signature_from_der(signature) {
            Ok(fixed) => fixed,
            Err(InvalidSignature::OutOfRange) => return Ok(false),
            Err(InvalidSignature::ExtraData) => return Err(SignatureRefused::ExtraData),
            Err(InvalidSignature::Form) => return Err(SignatureRefused::NoSignature),
        },
    };
    Ok(public.verify_digest(&digest(scheme, input), &fixed))
}

fn verify_rsa(
    public: &RsaPublic,
    scheme: Scheme,
    input: &[u8],
    signature: &[u8],
) -> Result<bool, SignatureRefused> {
    let digest = rsa_digest(scheme, input)?;
    Ok(public.verify(scheme.padding, &digest, signature))
}

impl Key {
    /// RSA-OAEP with SHA-256 and no label (RFC 8017 §7.1).
    pub(super) fn encrypt_rsa(
        &self,
        version: &Version,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, String> {
        let mut made = None;
        let pair = self.pair(version, None, &mut made).map_err(|error| error.text())?;
        let public = pair.rsa_public().ok_or("the stored key is damaged")?;
        public.encrypt_oaep(OaepHash::SHA2_256, plaintext).map_err(|error| error.to_string())
    }

    pub(super) fn decrypt_rsa(
        &self,
        version: &Version,
        sealed: &[u8],
    ) -> Result<SecretBytes, String> {
        let mut made = None;
        match self.pair(version, None, &mut made).map_err(|error| error.text())? {
            Asymmetric::Rsa(pair) => pair
                .decrypt_oaep(OaepHash::SHA2_256, sealed)
                .map_err(|_| super::locker::NotOpened::Failed.text().to_owned()),
            Asymmetric::RsaPublic(_) => Err("only the public half of the key is here".to_owned()),
            Asymmetric::Ed25519(_)
            | Asymmetric::Ed25519Public(_)
            | Asymmetric::Ec(_)
            | Asymmetric::EcPublic(_) => Err(Unusable::Damaged.text()),
        }
    }

    /// The public half of a version as it is shown; nothing of a derived one without a context.
    pub(super) fn public_text(
        &self,
        version: &Version,
        context: Option<&[u8]>,
    ) -> Result<String, ApiError> {
        if !self.settings.derived {
            // As it is stored: to open the private half only to show the public one takes RSA long.
            let public = &version.record.public;
            return Ok(match self.kind == Kind::Ed25519 {
                true => encoding::encode(public).to_string(),
                false => pem::encode("PUBLIC KEY", public),
            });
        }
        if context.is_none() {
            return Ok(String::new());
        }
        let mut made = None;
        let pair = self
            .pair(version, context, &mut made)
            .map_err(|error| ApiError::bad_request(error.text()))?;
        Ok(pair.public_text())
    }
}

/// Makes a version of a kind; `key_size` is that of `hmac`, in bytes.
pub(super) async fn generate(
    kind: Kind,
    key_size: u32,
    now: Timestamp,
) -> Result<VersionRecord, ApiError> {
    match kind.is_rsa() {
        true => search_primes(move || new_version(kind, key_size, now)).await?,
        false => new_version(kind, key_size, now),
    }
}

/// Makes an RSA pair, which takes up to seconds while its primes are searched: beside the requests,
/// and few at a time, however many ask.
pub(super) async fn search_primes<R: Send + 'static>(
    make: impl FnOnce() -> R + Send + 'static,
) -> Result<R, ApiError> {
    let busy = || ApiError::new(503, "too many RSA keys are being made at once; try again");
    // Who waits holds one of the places of requests that are worked on: others need those too.
    let waiting = WAITING.try_acquire().map_err(|_| busy())?;
    let turn = tokio::time::timeout(LONGEST_WAIT, SEARCHES.acquire()).await;
    let Ok(Ok(turn)) = turn else { return Err(busy()) };
    drop(waiting);
    let made = tokio::task::spawn_blocking(move || {
        let made = make();
        // Not before: a caller who leaves does not end the search.
        drop(turn);
        made
    });
    made.await.map_err(ApiError::internal)
}

/// Does work with stored pairs where they are RSA's beside the requests: each one that is opened is
/// checked, for milliseconds.
pub(super) async fn aside<R: Send + 'static>(
    kind: Kind,
    work: impl FnOnce() -> Result<R, ApiError> + Send + 'static,
) -> Result<R, ApiError> {
    match kind.is_rsa() {
        true => tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?,
        false => work(),
    }
}

/// Searches for primes that run beside each other in this process.
static SEARCHES: Semaphore = Semaphore::const_new(2);
/// Requests that wait for their turn.
static WAITING: Semaphore = Semaphore::const_new(16);
/// A request waits so long for its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

fn new_version(kind: Kind, key_size: u32, now: Timestamp) -> Result<VersionRecord, ApiError> {
    let random = |length| Material::of(SecretBytes::build(length, random::fill));
    let (private, public) = match kind.family() {
        Family::Ed25519 => {
            let pair = Ed25519Key::generate();
            (Material::of(both_of(&pair)), pair.public().to_vec())
        }
        Family::Ecdsa(curve) => {
            let pair = EcKey::generate(curve);
            (Material::of(pair.to_pkcs8()), pair.public().to_spki())
        }
        Family::Rsa { bits } => {
            let pair = RsaKey::generate(bits).map_err(ApiError::internal)?;
            (Material::of(pair.to_pkcs8()), pair.public().to_spki())
        }
        Family::Hmac => (random(key_size as usize), Vec::new()),
        Family::Message(_) | Family::Committing | Family::Siv => {
            (random(kind.key_bytes().unwrap_or(32)), Vec::new())
        }
    };
    let hmac = if kind == Kind::Hmac { Material::empty() } else { random(HMAC_BYTES) };
    Ok(VersionRecord { created: now, private, public, hmac })
}

/// A version of given key material, as it was unwrapped.
pub(super) fn imported(kind: Kind, target: &[u8], now: Timestamp) -> Result<VersionRecord, String> {
    let parsing = |error: InvalidKey| format!("error parsing asymmetric key: {error}");
    let (private, public) = match kind.family() {
        Family::Ed25519 => {
            let pair = Ed25519Key::from_pkcs8(target).map_err(parsing)?;
            (Material::of(both_of(&pair)), pair.public().to_vec())
        }
        Family::Ecdsa(curve) => {
            let pair = EcKey::from_pkcs8(target).map_err(parsing)?;
            check_curve(curve, pair.curve())?;
            (Material::of(pair.to_pkcs8()), pair.public().to_spki())
        }
        Family::Rsa { .. } => {
            let pair = RsaKey::from_pkcs8(target).map_err(parsing)?;
            check_bits(kind, pair.bits())?;
            (Material::of(pair.to_pkcs8()), pair.public().to_spki())
        }
        Family::Message(_) | Family::Committing | Family::Siv | Family::Hmac => {
            if !wrapping::fits(kind, target.len()) {
                return Err(format!(
                    "invalid key size {} bytes for key type {}",
                    target.len(),
                    kind.word()
                ));
            }
            (Material::copy_of(target), Vec::new())
        }
    };
    let hmac = match kind == Kind::Hmac {
        true => Material::empty(),
        false => Material::of(SecretBytes::build(HMAC_BYTES, random::fill)),
    };
    Ok(VersionRecord { created: now, private, public, hmac })
}

/// The public half that a text gives: PEM, and of Ed25519 also base64 of 32 bytes.
pub(super) fn public_of(kind: Kind, text: &str) -> Result<Vec<u8>, String> {
    let der = || {
        let (label, der) = pem::decode(text).ok_or("the public key is no PEM")?;
        match label {
            "PUBLIC KEY" => Ok(der.expose(<[u8]>::to_vec)),
            _ => Err(format!("the public key's PEM is a {label}, not a PUBLIC KEY")),
        }
    };
    if kind == Kind::Ed25519 {
        if let Ok(raw) = encoding::decode(text)
            && raw.len() == 32
        {
            return Ok(raw.expose(<[u8]>::to_vec));
        }
        let public = ed25519::public_from_spki(&der()?).map_err(|error| error.to_string())?;
        return Ok(public.to_vec());
    }
    let der = der()?;
    if let Some(curve) = kind.curve() {
        let public = EcPublic::from_spki(&der).map_err(|error| error.to_string())?;
        check_curve(curve, public.curve())?;
        return Ok(der);
    }
    let public = RsaPublic::from_spki(&der).map_err(|error| error.to_string())?;
    check_bits(kind, public.bits())?;
    Ok(der)
}

/// Seed and public key of a backup, which must belong together.
pub(super) fn ed25519_of_both(key: &[u8], public: &str) -> Result<(Material, Vec<u8>), String> {
    let pair = ed25519_of(key).ok_or("its key is no seed with its public key")?;
    let known = pair.public().to_vec();
    // Of derived keys the public half is not told.
    if !public.is_empty() && public_of(Kind::Ed25519, public)? != known {
        return Err("its public_key is not that of its key".to_owned());
    }
    Ok((Material::copy_of(key), known))
}

/// PKCS#8 of seed and public key.
pub(super) fn ed25519_pkcs8(private: &[u8]) -> Option<SecretBytes> {
    ed25519_of(private).map(|pair| pair.to_pkcs8())
}

/// Seed and public key, as the peers keep them.
fn both_of(pair: &Ed25519Key) -> SecretBytes {
    SecretBytes::build(64, |both| {
        let (seed, public) = both.split_at_mut(32);
        pair.seed().expose(|bytes| seed.copy_from_slice(bytes));
        public.copy_from_slice(&pair.public());
    })
}

fn ed25519_of(private: &[u8]) -> Option<Ed25519Key> {
    let (seed, public) = private.split_first_chunk::<32>()?;
    let pair = Ed25519Key::from_seed(secret::Key::<Ed25519Seed>::common_copy_of(seed).ok()?);
    (pair.public() == public).then_some(pair)
}

/// Refuses a modulus of another length than a kind's.
pub(super) fn check_bits(kind: Kind, bits: usize) -> Result<(), String> {
    match kind.family() == (Family::Rsa { bits }) {
        true => Ok(()),
        false => Err(format!("invalid key size: expected {}, got {bits} bits", kind.word())),
    }
}

fn check_curve(expected: Curve, given: Curve) -> Result<(), String> {
    match expected == given {
        true => Ok(()),
        false => Err(format!("invalid curve: expected {}, got {}", expected.word(), given.word())),
    }
}

/// What a pair is called beside its public half.
pub(super) fn pair_name(kind: Kind) -> &'static str {
    kind.curve().map_or_else(|| kind.word(), Curve::word)
}

/// Length of the key of a version's HMACs.
const HMAC_BYTES: usize = 32;
