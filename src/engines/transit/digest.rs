//! `hash/` and `random/`: what needs no key.

use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    Transit,
    encoding::{self, Format, SecretText},
};
use crate::{
    crypto::{Hash, random},
    gate::{ApiError, Permit},
    route::{Fields, FromFields, Reply},
    secret::SecretBytes,
};

/// `POST hash[/:algorithm]`.
pub(super) struct HashInput {
    algorithm: Hash,
    format: Format,
    input: SecretBytes,
}

impl FromFields for HashInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let input = fields.text("input")?.ok_or_else(|| ApiError::bad_request("input missing"))?;
        let input = encoding::decode(&Zeroizing::new(input)).map_err(|error| {
            ApiError::bad_request(format!("unable to decode input as base64: {error}"))
        })?;
        let word = named_or(fields, "algorithm", "sha2-256")?;
        // For signatures and HMACs the oldest is taken; nothing new should be hashed with it.
        let algorithm = Hash::of_word(&word).filter(|hash| *hash != Hash::Sha1);
        let algorithm = algorithm
            .ok_or_else(|| ApiError::bad_request(format!("unsupported algorithm {word}")))?;
        let word = fields.text("format")?.unwrap_or_else(|| "hex".to_owned());
        let format = Format::of_word(&word).ok_or_else(|| {
            ApiError::bad_request(format!(
                "unsupported encoding format {word}; must be \"hex\" or \"base64\""
            ))
        })?;
        Ok(Self { algorithm, format, input })
    }
}

/// What stands in the path, else in the body, else what is usual.
pub(super) fn named_or(fields: &Fields<'_>, name: &str, usual: &str) -> Result<String, ApiError> {
    let in_body = fields.text(name)?.filter(|word| !word.is_empty());
    Ok(match fields.parameter(name) {
        "" => in_body.unwrap_or_else(|| usual.to_owned()),
        word => word.to_owned(),
    })
}

/// `data` of a hash.
#[derive(Debug, Serialize)]
pub(super) struct Sum {
    sum: SecretText,
}

/// `POST random[/:source][/:bytes]`.
pub(super) struct RandomInput {
    bytes: usize,
    format: Format,
    warnings: Vec<String>,
}

impl FromFields for RandomInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let (first, second) = (fields.parameter("first"), fields.parameter("bytes"));
        let is_source = |word: &str| matches!(word, "platform" | "seal" | "all");
        let in_path = match (first, second) {
            ("", bytes) => bytes,
            (source, "") if is_source(source) => "",
            (bytes, "") => bytes,
            (source, bytes) if is_source(source) => bytes,
            (source, _) => {
                return Err(ApiError::bad_request(format!(
                    "unsupported entropy source {source:?}"
                )));
            }
        };
        let in_body = fields.integer("bytes")?;
        let bytes = match in_path {
            "" => in_body.unwrap_or(32),
            text => text.parse().map_err(|_| {
                ApiError::bad_request(format!("error parsing url-set byte count: {text:?}"))
            })?,
        };
        if bytes < 1 {
            return Err(ApiError::bad_request("'bytes' cannot be less than 1"));
        }
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes < MAX_RANDOM_BYTES);
        let bytes = bytes.ok_or_else(|| {
            ApiError::bad_request(format!("'bytes' should be less than {MAX_RANDOM_BYTES}"))
        })?;
        let word = fields.text("format")?.unwrap_or_else(|| "base64".to_owned());
        let format = Format::of_word(&word).ok_or_else(|| {
            ApiError::bad_request(format!(
                "unsupported encoding format {word:?}; must be \"hex\" or \"base64\""
            ))
        })?;
        let source = fields.text("source")?;
        let warnings = source.map(|_| {
            "Endpoint replaced the value of these parameters with the values captured from the \
             endpoint's path: [source]"
                .to_owned()
        });
        Ok(Self { bytes, format, warnings: warnings.into_iter().collect() })
    }
}

const MAX_RANDOM_BYTES: usize = 128 * 1024;

/// `data` of random bytes.
#[derive(Debug, Serialize)]
pub(super) struct Random {
    random_bytes: SecretText,
}

impl Transit {
    /// `POST hash[/:algorithm]`.
    pub(super) async fn hash(
        &self,
        _: &Permit<'_>,
        input: HashInput,
    ) -> Result<Reply<Sum>, ApiError> {
        let digest = input.input.expose(|bytes| input.algorithm.digest(bytes));
        Ok(Reply::of(Sum { sum: input.format.encode(&digest) }))
    }

    /// `POST random[/:source][/:bytes]`, from the system's generator whatever source is named.
    pub(super) async fn random(
        &self,
        _: &Permit<'_>,
        input: RandomInput,
    ) -> Result<Reply<Random>, ApiError> {
        let bytes = SecretBytes::build(input.bytes, random::fill);
        let random_bytes = bytes.expose(|bytes| input.format.encode(bytes));
        Ok(Reply::of(Random { random_bytes }).with_warnings(input.warnings))
    }
}
