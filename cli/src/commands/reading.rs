//! Reading what a reference leads to: a secret, or one value of it.

use kista::client::{Error, Fields, JsonValue, Secret, VersionMetadata};

use super::{near, plain, target::Target};
use crate::{
    failure::{Exit, Failure},
    reference::Reference,
    server::Server,
};

/// What a reference leads to.
#[derive(Debug)]
pub(crate) struct Found {
    /// Mount and path.
    pub(crate) path: String,
    pub(crate) content: Content,
}

/// A secret, or one value of it.
#[derive(Debug)]
pub(crate) enum Content {
    /// A mount of KV version 1 knows nothing about it.
    Secret {
        fields: Fields,
        metadata: Option<VersionMetadata>,
    },
    Value {
        key: String,
        value: JsonValue,
    },
}

/// Reads what a reference leads to; its default, where it has one and nothing is there.
pub(crate) async fn read(server: &Server, reference: &Reference) -> Result<Found, Failure> {
    let given = &*reference.place;
    let target = Target::secret_of_any(server, given, "read").await?;
    let found = any(server, &target, given, reference.version).await;
    let path = target.whole();
    let Some(key) = &reference.key else {
        let (fields, metadata) = found?;
        return Ok(Found { path, content: Content::Secret { fields, metadata } });
    };
    let value = or_default(reference, found.and_then(|(fields, _)| value(given, key, &fields)))?;
    Ok(Found { path, content: Content::Value { key: key.clone(), value } })
}

/// The values of a secret, of whichever version of KV.
pub(crate) async fn fields(
    server: &Server,
    given: &str,
    version: Option<u64>,
) -> Result<Fields, Failure> {
    let target = Target::secret_of_any(server, given, "read").await?;
    any(server, &target, given, version).await.map(|(fields, _)| fields)
}

async fn any(
    server: &Server,
    target: &Target,
    given: &str,
    number: Option<u64>,
) -> Result<(Fields, Option<VersionMetadata>), Failure> {
    if target.has_versions() {
        let (fields, metadata) = version(server, target, given, number).await?;
        return Ok((fields, Some(metadata)));
    }
    match number {
        Some(_) => Err(plain::no_versions(target, "a version")),
        None => Ok((plain::read(server, target, given).await?, None)),
    }
}

/// The value of a key.
pub(crate) fn value(given: &str, key: &str, fields: &Fields) -> Result<JsonValue, Failure> {
    match fields.get(key) {
        Some(value) => Ok(value.copy()),
        None => Err(no_key(given, key, fields)),
    }
}

/// The default of a reference that has one, where nothing was found.
pub(crate) fn or_default(
    reference: &Reference,
    value: Result<JsonValue, Failure>,
) -> Result<JsonValue, Failure> {
    match (value, &reference.default) {
        (Err(failure), Some(default)) if failure.exit == Exit::NotFound => {
            Ok(JsonValue::string(default))
        }
        (value, _) => value,
    }
}

/// Reads a version of a secret, else the current one; a deleted one is not found.
pub(crate) async fn version(
    server: &Server,
    target: &Target,
    given: &str,
    version: Option<u64>,
) -> Result<(Fields, VersionMetadata), Failure> {
    let kv2 = target.kv2(&server.client);
    let read = match version {
        Some(version) => kv2.read_version(&target.path, version).await,
        None => kv2.read(&target.path).await,
    };
    match read {
        Ok(Secret { fields: Some(fields), metadata }) => Ok((fields, metadata)),
        Ok(Secret { fields: None, metadata }) => Err(gone(given, &metadata)),
        Err(Error::NotFound) => Err(absent(server, target, given, version).await),
        Err(error) => Err(server.explain(&format!("read {given}"), error).await),
    }
}

async fn absent(server: &Server, target: &Target, given: &str, version: Option<u64>) -> Failure {
    if let Some(version) = version
        && target.kv2(&server.client).metadata(&target.path).await.is_ok()
    {
        return Failure::new(format!("there is no version {version} of {given}"))
            .hint(format!("kista log {given}"))
            .exit(Exit::NotFound);
    }
    let failure = Failure::new(format!("there is no {given}")).exit(Exit::NotFound);
    match near::hint(server, target).await {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn gone(given: &str, metadata: &VersionMetadata) -> Failure {
    let what = format!("version {} of {given}", metadata.version);
    let (why, next) = match metadata.destroyed {
        true => (format!("{what} was destroyed"), format!("kista log {given}")),
        false => (
            format!("{what} was deleted at {}", metadata.deletion_time),
            format!("kista undelete {given} --version {}", metadata.version),
        ),
    };
    Failure::new(why).hint(next).exit(Exit::NotFound)
}

fn no_key(given: &str, key: &str, fields: &Fields) -> Failure {
    let keys: Vec<&str> = fields.iter().map(|(key, _)| key).collect();
    Failure::new(format!("{given} has no key {key}"))
        .hint(format!("its keys: {}", keys.join(", ")))
        .exit(Exit::NotFound)
}
