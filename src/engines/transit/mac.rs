//! `hmac/`: every version of every key has a key of its own for it.

use serde::ser::SerializeMap;

use super::{
    Transit, ciphertext,
    digest::named_or,
    encoding,
    items::{Answer, Failures, Items, Outcome},
    key::{Key, NoVersion, Version},
    kind::Kind,
};
use crate::{
    crypto::Hash,
    gate::{ApiError, Permit},
    route::{Fields, FromFields, Reply},
    secret::SecretBytes,
};

/// `POST hmac/:name[/:algorithm]`.
pub(super) struct HmacInput {
    name: String,
    algorithm: Hash,
    items: Items<(SecretBytes, i64)>,
}

impl FromFields for HmacInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let algorithm = algorithm(fields)?;
        let key_version = fields.integer("key_version")?.unwrap_or(0);
        let items = Items::read(fields, |fields| {
            let input = fields.text("input")?.ok_or("missing input for HMAC")?;
            let input = encoding::decode(&zeroize::Zeroizing::new(input))
                .map_err(|error| format!("unable to decode input as base64: {error}"))?;
            Ok((input, fields.integer("key_version")?.unwrap_or(key_version)))
        })?;
        Ok(Self { name: fields.parameter("name").to_owned(), algorithm, items })
    }
}

/// The hash of an HMAC: in the path, in the body, else SHA-256.
pub(super) fn algorithm(fields: &Fields<'_>) -> Result<Hash, ApiError> {
    known(&named_or(fields, "algorithm", "sha2-256")?)
}

/// The same of an HMAC to verify, which clients name as they name the hash of a signature.
pub(super) fn verified_algorithm(fields: &Fields<'_>) -> Result<Hash, ApiError> {
    let in_body = fields.text("hash_algorithm")?.filter(|word| !word.is_empty());
    match (fields.parameter("algorithm"), in_body) {
        ("", Some(word)) => known(&word),
        _ => algorithm(fields),
    }
}

fn known(word: &str) -> Result<Hash, ApiError> {
    Hash::of_word(word)
        .ok_or_else(|| ApiError::bad_request(format!("unsupported algorithm {word:?}")))
}

/// An HMAC that was made.
#[derive(Debug)]
pub(super) struct Hmac(String);

impl Outcome for Hmac {
    fn failed<M: SerializeMap>(_: &mut M) -> Result<(), M::Error> {
        Ok(())
    }

    fn done<M: SerializeMap>(&self, map: &mut M, _: bool) -> Result<(), M::Error> {
        map.serialize_entry("hmac", &self.0)
    }
}

impl Transit {
    /// `POST hmac/:name[/:algorithm]`.
    pub(super) async fn hmac(
        &self,
        permit: &Permit<'_>,
        input: HmacInput,
    ) -> Result<Reply<Answer<Hmac>>, ApiError> {
        let HmacInput { name, algorithm, items } = input;
        let key = self.keys.get(permit.storage(), &name).await?;
        let key = key.ok_or_else(|| ApiError::bad_request("encryption key not found"))?;
        key.check_usable()?;
        let done = items.map_aside(false, move |(input, asked)| {
            let version = key.version_to_make(asked).map_err(|error| match error {
                NoVersion::Negative | NoVersion::TooHigh => {
                    "cannot generate HMAC: version is too new".to_owned()
                }
                NoVersion::TooLow => {
                    "cannot generate HMAC: version is too old (disallowed by policy)".to_owned()
                }
                NoVersion::Damaged => error.of_encryption().to_owned(),
            })?;
            let tag = with_key(&key, version, |mac_key| {
                input.expose(|input| algorithm.hmac(mac_key, input))
            })?;
            Ok(Hmac(ciphertext::format(version.number, &tag)))
        });
        done.await?.answer(Failures::InItems)
    }
}

/// Whether an HMAC is one of these bytes.
pub(super) fn verify(
    key: &Key,
    algorithm: Hash,
    input: &[u8],
    given: &str,
) -> Result<bool, String> {
    let parts = ciphertext::parse(given)
        .map_err(|error| format!("invalid HMAC to verify: {}", error.word()))?;
    let version = key.version_to_read(parts.version).map_err(|error| match error {
        NoVersion::TooHigh => "invalid HMAC: version is too new".to_owned(),
        NoVersion::Negative | NoVersion::TooLow => {
            "cannot verify HMAC: version is too old (disallowed by policy)".to_owned()
        }
        NoVersion::Damaged => error.of_encryption().to_owned(),
    })?;
    let tag = encoding::decode(parts.encoded)
        .map_err(|_| "unable to decode verification string as base64".to_owned())?;
    with_key(key, version, |mac_key| tag.expose(|tag| algorithm.verify_hmac(mac_key, input, tag)))
}

/// The key of a version's HMACs: its own, and of type `hmac` the key itself.
fn with_key<R>(key: &Key, version: &Version, work: impl FnOnce(&[u8]) -> R) -> Result<R, String> {
    let record = &version.record;
    let mac_key = if key.kind == Kind::Hmac { &record.private } else { &record.hmac };
    match mac_key.is_empty() {
        true => Err("no HMAC key exists for that key version".to_owned()),
        false => Ok(mac_key.expose(work)),
    }
}
