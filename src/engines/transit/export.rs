//! `export/` and `byok-export/`: key material that leaves, where its key allows it.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    Transit,
    encoding::{self, SecretText},
    key::{Key, Version},
    kind::Kind,
    material::{self, Asymmetric, Form},
    wrapping,
};
use crate::{
    crypto::rsa::OaepHash,
    gate::{ApiError, Permit},
    route::{Fields, FromFields, Reply},
};

/// What of a key is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Encryption,
    Signing,
    Hmac,
    Public,
}

/// Which versions are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    Latest,
    One(u32),
}

impl Which {
    fn read(fields: &Fields<'_>) -> Result<Self, ApiError> {
        match fields.parameter("version") {
            "" => Ok(Self::All),
            "latest" => Ok(Self::Latest),
            number => number
                .parse()
                .map(Self::One)
                .map_err(|_| ApiError::bad_request("invalid key version")),
        }
    }

    /// The versions of a key, none below the lowest that decrypts.
    fn of(self, key: &Key) -> Result<Vec<&Arc<Version>>, ApiError> {
        let readable = || key.versions.range(key.settings.min_decryption..).map(|(_, one)| one);
        let number = match self {
            Self::All => return Ok(readable().collect()),
            Self::Latest => key.settings.latest,
            Self::One(number) => number,
        };
        let version = readable().find(|version| version.number == number);
        version
            .map(|version| vec![version])
            .ok_or_else(|| ApiError::bad_request("version does not exist or cannot be found"))
    }
}

/// `GET export/:type/:name[/:version]`.
pub(super) struct ExportInput {
    name: String,
    part: Part,
    which: Which,
    form: Form,
}

impl FromFields for ExportInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let part = match fields.parameter("part") {
            "encryption-key" => Part::Encryption,
            "signing-key" => Part::Signing,
            "hmac-key" => Part::Hmac,
            "public-key" => Part::Public,
            "certificate-chain" => {
                return Err(ApiError::bad_request("keys have no certificate chains here"));
            }
            word => return Err(ApiError::bad_request(format!("invalid export type: {word}"))),
        };
        let word = fields.query("format").unwrap_or_default();
        let form = Form::of_word(word).ok_or_else(|| {
            ApiError::bad_request(format!(
                "unknown key format {word:?}; supported values are \"\", \"raw\", \"der\" and \
                 \"pem\""
            ))
        })?;
        let which = Which::read(fields)?;
        Ok(Self { name: fields.parameter("name").to_owned(), part, which, form })
    }
}

/// `data` of an export.
#[derive(Debug, Serialize)]
pub(super) struct Exported {
    keys: BTreeMap<String, SecretText>,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// `GET byok-export/:destination/:source[/:version]`.
pub(super) struct WrapInput {
    destination: String,
    source: String,
    which: Which,
    hash: OaepHash,
}

impl FromFields for WrapInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            destination: fields.parameter("destination").to_owned(),
            source: fields.parameter("source").to_owned(),
            which: Which::read(fields)?,
            hash: wrapping::oaep_hash(fields.query("hash").unwrap_or_default())?,
        })
    }
}

impl Transit {
    /// `GET export/:type/:name[/:version]`.
    pub(super) async fn export(
        &self,
        permit: &Permit<'_>,
        input: ExportInput,
    ) -> Result<Reply<Exported>, ApiError> {
        let key = self.keys.get(permit.storage(), &input.name).await?;
        let key = key.ok_or_else(ApiError::not_found)?;
        key.check_usable()?;
        if input.part != Part::Public {
            check_exportable(&key)?;
        }
        let kind = key.kind;
        let work = move || {
            let versions = input.which.of(&key)?;
            let text = |version: &Arc<Version>| {
                Ok((version.number.to_string(), exported(&key, version, input.part, input.form)?))
            };
            let keys = versions.into_iter().map(text).collect::<Result<_, ApiError>>()?;
            Ok(Exported { keys, name: key.name.clone(), kind: key.kind.word() })
        };
        Ok(Reply::of(material::aside(kind, work).await?))
    }

    /// `GET byok-export/:destination/:source[/:version]`: key material that only the holder of
    /// another key can unwrap.
    pub(super) async fn export_wrapped(
        &self,
        permit: &Permit<'_>,
        input: WrapInput,
    ) -> Result<Reply<Exported>, ApiError> {
        let view = permit.storage();
        let source = self.keys.get(view, &input.source).await?;
        let source = source.ok_or_else(|| ApiError::bad_request("no such source key to export"))?;
        source.check_usable()?;
        check_exportable(&source)?;
        let destination = self.keys.get(view, &input.destination).await?;
        let destination = destination
            .ok_or_else(|| ApiError::bad_request("no such destination key to export to"))?;
        destination.check_usable()?;
        if !destination.kind.is_rsa() {
            return Err(ApiError::bad_request(format!(
                "the destination key is of type {}; only RSA keys can wrap others",
                destination.kind.word()
            )));
        }
        let kind = destination.kind;
        let wrap = move || wrapped(&destination, &source, input.which, input.hash);
        Ok(Reply::of(material::aside(kind, wrap).await?))
    }
}

/// The versions of one key, wrapped for the holder of the newest of another.
fn wrapped(
    destination: &Key,
    source: &Key,
    which: Which,
    hash: OaepHash,
) -> Result<Exported, ApiError> {
    let newest = destination
        .version_to_make(0)
        .map_err(|error| ApiError::bad_request(error.of_encryption()))?;
    let mut made = None;
    let pair = destination
        .pair(newest, None, &mut made)
        .map_err(|error| ApiError::bad_request(error.text()))?;
    let mut keys = BTreeMap::new();
    for version in which.of(source)? {
        let private = &version.record.private;
        if private.is_empty() {
            return Err(public_only());
        }
        let wrapped = private.expose(|target| {
            let target = wrapping::target_of(source.kind, target)?;
            target.expose(|target| wrapping::wrap(pair, hash, target))
        })?;
        keys.insert(version.number.to_string(), SecretText(encoding::encode(&wrapped)));
    }
    Ok(Exported { keys, name: source.name.clone(), kind: source.kind.word() })
}

fn check_exportable(key: &Key) -> Result<(), ApiError> {
    match key.settings.exportable {
        true => Ok(()),
        false => Err(ApiError::bad_request("private key material is not exportable")),
    }
}

fn public_only() -> ApiError {
    ApiError::bad_request("only the public half of the key is here")
}

fn exported(key: &Key, version: &Version, part: Part, form: Form) -> Result<SecretText, ApiError> {
    let kind = key.kind;
    let record = &version.record;
    let refuse = |text: &str| Err(ApiError::bad_request(text));
    match part {
        Part::Hmac if kind == Kind::Hmac => Ok(record.private.expose(form_of_bytes)),
        Part::Hmac => Ok(record.hmac.expose(form_of_bytes)),
        Part::Encryption if !kind.encrypts() => refuse("encryption not supported for the key"),
        Part::Signing if !kind.signs() => refuse("signing not supported for the key"),
        Part::Public if !kind.has_public_half() => refuse("the key has no public half"),
        Part::Encryption if kind.is_symmetric() => match form {
            Form::Usual | Form::Raw => Ok(record.private.expose(form_of_bytes)),
            Form::Der | Form::Pem => {
                refuse("unknown key format for symmetric key; supported values are `` or `raw`")
            }
        },
        Part::Public => public(key, version, form),
        Part::Encryption | Part::Signing if record.private.is_empty() => Err(public_only()),
        Part::Encryption | Part::Signing => {
            let pair = Asymmetric::of_record(kind, record);
            let pair = pair.ok_or_else(|| ApiError::bad_request("the stored key is damaged"))?;
            pair.export(form).ok_or_else(|| no_form(kind))
        }
    }
}

fn public(key: &Key, version: &Version, form: Form) -> Result<SecretText, ApiError> {
    let pair = Asymmetric::of_record(key.kind, &version.record);
    let pair = pair.ok_or_else(|| ApiError::bad_request("the stored key is damaged"))?;
    pair.export_public(form).ok_or_else(|| no_form(key.kind))
}

fn no_form(kind: Kind) -> ApiError {
    ApiError::bad_request(format!(
        "unknown key format for {} key; supported values are ``, `der`, or `pem`",
        if kind.is_rsa() { "rsa" } else { "ec" }
    ))
}

fn form_of_bytes(bytes: &[u8]) -> SecretText {
    let text: Zeroizing<String> = encoding::encode(bytes);
    SecretText(text)
}
