//! `sign/` and `verify/`.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::ser::SerializeMap;

use super::{
    Transit, ciphertext, encoding,
    items::{Answer, Failures, Items, Outcome, Wrong},
    key::{Key, NoVersion, Unusable},
    mac,
    material::SignatureRefused,
};
use crate::{
    clock::Timestamp,
    crypto::{
        Hash,
        rsa::{RsaPadding, SaltLength},
    },
    gate::{ApiError, Permit},
    route::{Fields, FromFields, Reply},
    secret::SecretBytes,
};

/// How a signature is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scheme {
    /// None: the input is signed as it is, of RSA with PKCS#1 v1.5 alone.
    pub(super) hash: Option<Hash>,
    /// Whether the input is a digest.
    pub(super) prehashed: bool,
    pub(super) padding: RsaPadding,
    pub(super) marshaling: Marshaling,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marshaling {
    /// Base64; of ECDSA around DER.
    Asn1,
    /// Base64url without padding; of ECDSA around r and s of fixed width (RFC 7518 §3.4).
    Jws,
}

impl Scheme {
    fn read(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let prehashed = fields.boolean("prehashed")?.unwrap_or(false);
        let word = hash_word(fields)?;
        let hash = match word.as_str() {
            "none" => None,
            word => Some(Hash::of_word(word).ok_or_else(|| {
                ApiError::bad_request(format!("invalid hash algorithm {word:?}"))
            })?),
        };
        let salt = salt(fields)?;
        let word = fields.text("signature_algorithm")?.unwrap_or_default();
        let padding = match (word.as_str(), hash) {
            ("" | "pss", Some(hash)) => RsaPadding::Pss(hash, salt),
            ("pkcs1v15", Some(hash)) => RsaPadding::Pkcs1v15(Some(hash)),
            ("pkcs1v15", None) if prehashed => RsaPadding::Pkcs1v15(None),
            ("" | "pss" | "pkcs1v15", None) => {
                return Err(ApiError::bad_request(
                    "hash_algorithm=none requires both prehashed=true and \
                     signature_algorithm=pkcs1v15",
                ));
            }
            _ => {
                return Err(ApiError::bad_request(format!(
                    "unsupported rsa signature algorithm {word}"
                )));
            }
        };
        let word = fields.text("marshaling_algorithm")?.unwrap_or_default();
        let marshaling = match word.as_str() {
            "" | "asn1" => Marshaling::Asn1,
            "jws" => Marshaling::Jws,
            _ => return Err(ApiError::bad_request(format!("invalid marshaling type {word:?}"))),
        };
        Ok(Self { hash, prehashed, padding, marshaling })
    }
}

/// The hash: in the path, in the body under its new or its old name, else SHA-256.
fn hash_word(fields: &Fields<'_>) -> Result<String, ApiError> {
    let new = fields.text("hash_algorithm")?.filter(|word| !word.is_empty());
    let old = fields.text("algorithm")?.filter(|word| !word.is_empty());
    Ok(match fields.parameter("algorithm") {
        "" => new.or(old).unwrap_or_else(|| "sha2-256".to_owned()),
        word => word.to_owned(),
    })
}

fn salt(fields: &Fields<'_>) -> Result<SaltLength, ApiError> {
    let word = fields.text("salt_length")?.unwrap_or_default();
    match word.as_str() {
        "" | "auto" => return Ok(SaltLength::Auto),
        "hash" => return Ok(SaltLength::Hash),
        _ => {}
    }
    match word.parse::<i64>() {
        Ok(0) => Ok(SaltLength::Auto),
        Ok(-1) => Ok(SaltLength::Hash),
        Ok(number) => usize::try_from(number)
            .map(SaltLength::Bytes)
            .map_err(|_| ApiError::bad_request(format!("salt length is invalid: {number}"))),
        Err(_) => Err(ApiError::bad_request(format!(
            "salt length neither 'auto', 'hash', nor an int: {word}"
        ))),
    }
}

/// `POST sign/:name[/:algorithm]`.
pub(super) struct SignInput {
    name: String,
    scheme: Scheme,
    key_version: i64,
    items: Items<ToSign>,
}

struct ToSign {
    input: SecretBytes,
    context: Option<SecretBytes>,
}

impl FromFields for SignInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let is_batch = fields.raw("batch_input").is_some();
        let items = Items::read(fields, |fields| {
            let input = match fields.text("input")? {
                Some(input) => input,
                // The empty text is signed then, as the peers do; of an item that is a mistake.
                None if !is_batch => String::new(),
                None => return Err("missing input".into()),
            };
            Ok(ToSign { input: decode_input(input)?, context: context(fields)? })
        })?;
        Ok(Self {
            name: fields.parameter("name").to_owned(),
            scheme: Scheme::read(fields)?,
            key_version: fields.integer("key_version")?.unwrap_or(0),
            items,
        })
    }
}

fn decode_input(text: String) -> Result<SecretBytes, Wrong> {
    encoding::decode(&zeroize::Zeroizing::new(text))
        .map_err(|error| format!("unable to decode input as base64: {error}").into())
}

fn context(fields: &Fields<'_>) -> Result<Option<SecretBytes>, Wrong> {
    let context = fields.text("context")?.map(|text| encoding::decode(&text)).transpose();
    context.map_err(|error| format!("failed to base64-decode context: {error}").into())
}

/// A signature that was made.
#[derive(Debug)]
pub(super) struct Signed {
    signature: String,
    key_version: u32,
    /// Of derived keys, whose public half nothing else tells.
    public_key: Option<String>,
}

impl Outcome for Signed {
    fn failed<M: SerializeMap>(map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("key_version", &0)
    }

    fn done<M: SerializeMap>(&self, map: &mut M, is_batch: bool) -> Result<(), M::Error> {
        map.serialize_entry("signature", &self.signature)?;
        map.serialize_entry("key_version", &self.key_version)?;
        if let Some(public_key) = &self.public_key {
            // The peers' two names for one thing.
            let name = if is_batch { "publickey" } else { "public_key" };
            map.serialize_entry(name, public_key)?;
        }
        Ok(())
    }
}

/// `POST verify/:name[/:algorithm]`.
pub(super) struct VerifyInput {
    name: String,
    /// How signatures were made, and HMACs; of each only what the items ask for need be right.
    scheme: Result<Scheme, ApiError>,
    hmac: Result<Hash, ApiError>,
    items: Items<ToVerify>,
}

struct ToVerify {
    input: SecretBytes,
    context: Option<SecretBytes>,
    proof: Proof,
}

enum Proof {
    Signature(String),
    Hmac(String),
}

impl FromFields for VerifyInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let items = Items::read(fields, |fields| {
            let given = |name| {
                let text = fields.text(name).map_err(Wrong::from)?;
                Ok::<_, Wrong>(text.filter(|text| !text.is_empty()))
            };
            let proof = match (given("signature")?, given("hmac")?) {
                (Some(signature), _) => Proof::Signature(signature),
                (None, Some(hmac)) => Proof::Hmac(hmac),
                (None, None) => {
                    return Err("neither a 'signature' nor an 'hmac' were given to verify".into());
                }
            };
            let input = decode_input(fields.text("input")?.unwrap_or_default())?;
            Ok(ToVerify { input, context: context(fields)?, proof })
        })?;
        Ok(Self {
            name: fields.parameter("name").to_owned(),
            scheme: Scheme::read(fields),
            hmac: mac::verified_algorithm(fields),
            items,
        })
    }
}

/// Whether a proof holds.
#[derive(Debug)]
pub(super) struct Verified(bool);

impl Outcome for Verified {
    fn failed<M: SerializeMap>(map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("valid", &false)
    }

    fn done<M: SerializeMap>(&self, map: &mut M, _: bool) -> Result<(), M::Error> {
        map.serialize_entry("valid", &self.0)
    }
}

impl Transit {
    /// `POST sign/:name[/:algorithm]`.
    pub(super) async fn sign(
        &self,
        permit: &Permit<'_>,
        input: SignInput,
    ) -> Result<Reply<Answer<Signed>>, ApiError> {
        let SignInput { name, scheme, key_version, items } = input;
        let key = self.signing_key(permit, &name).await?;
        check_signs(&key)?;
        let now = permit.now();
        let is_slow = key.kind.is_rsa();
        let done =
            items.map_aside(is_slow, move |wish| sign(&key, scheme, key_version, &wish, now));
        done.await?.answer(Failures::InItems)
    }

    /// `POST verify/:name[/:algorithm]`: signatures and HMACs.
    pub(super) async fn verify(
        &self,
        permit: &Permit<'_>,
        input: VerifyInput,
    ) -> Result<Reply<Answer<Verified>>, ApiError> {
        let VerifyInput { name, scheme, hmac, items } = input;
        let key = self.signing_key(permit, &name).await?;
        let has = |wanted: fn(&Proof) -> bool| items.wishes().any(|wish| wanted(&wish.proof));
        let scheme = if has(|proof| matches!(proof, Proof::Signature(_))) {
            check_signs(&key)?;
            Some(scheme?)
        } else {
            None
        };
        let hash = if has(|proof| matches!(proof, Proof::Hmac(_))) { Some(hmac?) } else { None };
        let is_slow = key.kind.is_rsa();
        let done = items.map_aside(is_slow, move |wish| {
            let held = match (&wish.proof, scheme, hash) {
                (Proof::Signature(text), Some(scheme), _) => verify(&key, scheme, &wish, text),
                (Proof::Hmac(text), _, Some(hash)) => {
                    wish.input.expose(|input| mac::verify(&key, hash, input, text))
                }
                (Proof::Signature(_) | Proof::Hmac(_), _, _) => Ok(false),
            };
            held.map(Verified)
        });
        done.await?.answer(Failures::InItems)
    }

    async fn signing_key(&self, permit: &Permit<'_>, name: &str) -> Result<Arc<Key>, ApiError> {
        let key = self.keys.get(permit.storage(), name).await?;
        let key = key.ok_or_else(|| ApiError::bad_request("signing key not found"))?;
        key.check_usable()?;
        Ok(key)
    }
}

fn check_signs(key: &Key) -> Result<(), ApiError> {
    match key.kind.signs() {
        true => Ok(()),
        false => Err(ApiError::bad_request(format!(
            "key type {} does not support signing",
            key.kind.word()
        ))),
    }
}

fn sign(
    key: &Key,
    scheme: Scheme,
    asked: i64,
    wish: &ToSign,
    now: Timestamp,
) -> Result<Signed, String> {
    let version = key.version_to_make(asked).map_err(|error| match error {
        NoVersion::Negative => "requested version for signing is negative".to_owned(),
        NoVersion::TooHigh => {
            "requested version for signing is higher than the latest key version".to_owned()
        }
        NoVersion::TooLow => {
            "requested version for signing is less than the minimum encryption key version"
                .to_owned()
        }
        NoVersion::Damaged => error.of_encryption().to_owned(),
    })?;
    let mut made = None;
    let pair =
        with_context(wish.context.as_ref(), |context| key.pair(version, context, &mut made))?;
    let signature = wish.input.expose(|input| pair.sign(scheme, input));
    let signature = signature.map_err(|error| error.text(key.kind))?;
    version.uses.count_encryptions(1, now);
    Ok(Signed {
        signature: ciphertext::format_encoded(version.number, &encode(scheme, &signature)),
        key_version: version.number,
        public_key: key.settings.derived.then(|| pair.public_text()),
    })
}

fn verify(key: &Key, scheme: Scheme, wish: &ToVerify, text: &str) -> Result<bool, String> {
    let parts =
        ciphertext::parse(text).map_err(|error| format!("invalid signature: {}", error.word()))?;
    let version =
        key.version_to_read(parts.version).map_err(|error| error.of_reading("signature"))?;
    let signature = match scheme.marshaling {
        Marshaling::Asn1 => encoding::decode(parts.encoded).ok(),
        Marshaling::Jws => URL_SAFE_NO_PAD.decode(parts.encoded).ok().map(SecretBytes::from_vec),
    };
    let signature = signature.ok_or_else(|| "invalid base64 signature value".to_owned())?;
    let mut made = None;
    let pair =
        with_context(wish.context.as_ref(), |context| key.pair(version, context, &mut made))?;
    let held = wish
        .input
        .expose(|input| signature.expose(|signature| pair.verify(scheme, input, signature)));
    held.map_err(|error: SignatureRefused| error.text(key.kind))
}

fn with_context<R>(
    context: Option<&SecretBytes>,
    work: impl FnOnce(Option<&[u8]>) -> Result<R, Unusable>,
) -> Result<R, String> {
    let outcome = match context {
        Some(context) => context.expose(|context| work(Some(context))),
        None => work(None),
    };
    outcome.map_err(|error| error.text())
}

fn encode(scheme: Scheme, signature: &[u8]) -> String {
    match scheme.marshaling {
        Marshaling::Asn1 => encoding::encode(signature).to_string(),
        Marshaling::Jws => URL_SAFE_NO_PAD.encode(signature),
    }
}
