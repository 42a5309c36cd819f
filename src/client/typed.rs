//! Secrets as types of the program.

use std::{cell::Cell, fmt};

use serde::{
    Serialize, Serializer,
    de::{
        DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess,
        value::{MapAccessDeserializer, StrDeserializer},
    },
};

use super::{CheckAndSet, Error, Fields, JsonValue, Kv2, VersionMetadata};
use crate::secret::SecretString;

/// A version of a secret as a type of the program. `Debug` shows the metadata alone.
pub struct Versioned<T> {
    /// What it holds.
    pub value: T,
    /// What is known of the version.
    pub metadata: VersionMetadata,
}

impl<T> fmt::Debug for Versioned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Versioned");
        shown.field("value", &format_args!("[secret]")).field("metadata", &self.metadata).finish()
    }
}

impl Kv2<'_> {
    /// Reads the current version of the secret at `path`, a path inside the mount, as a type of the
    /// caller's. A field of type [`SecretString`] is wiped when dropped and hides from `Debug`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none or it is deleted, [`Error::Misfit`] when it has
    /// another shape, and what any call may answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        Ok(self.get_versioned(path, None).await?.value)
    }

    /// As [`get`](Self::get), with what is known of the version; of the one of this number, where
    /// one is given.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_versioned<T: DeserializeOwned>(
        &self,
        path: &str,
        version: Option<u64>,
    ) -> Result<Versioned<T>, Error> {
        let secret = match version {
            Some(version) => self.read_version(path, version).await?,
            None => self.read(path).await?,
        };
        let fields = secret.fields.ok_or(Error::NotFound)?;
        Ok(Versioned { value: self.fit(path, &fields)?, metadata: secret.metadata })
    }

    /// Writes a new version of a value that is a JSON object, in place of all keys of the version
    /// before. A field of type [`SecretString`] says so: `#[serde(serialize_with =
    /// "kista::client::exposed")]`.
    ///
    /// # Errors
    /// [`Error::Misfit`] when the value is no JSON object, [`Error::CasConflict`] when the current
    /// version is not the one expected, and what any call may answer. After
    /// [`Error::Unreachable`] it may or may not have been written.
    pub async fn put<T: Serialize>(
        &self,
        path: &str,
        value: &T,
        expected: Option<CheckAndSet>,
    ) -> Result<VersionMetadata, Error> {
        self.write(path, &self.fields_of(path, value)?, expected).await
    }

    /// Writes a new version: the current one with the keys of this value set, and those that are
    /// `null` taken away (RFC 7396); a `None` that is not to do so is skipped by serde's
    /// `skip_serializing_if`.
    ///
    /// # Errors
    /// [`Error::Misfit`] when the value is no JSON object, [`Error::NotFound`] when there is no
    /// secret or it is deleted, and as [`put`](Self::put).
    pub async fn merge<T: Serialize>(
        &self,
        path: &str,
        value: &T,
        expected: Option<u64>,
    ) -> Result<VersionMetadata, Error> {
        self.patch(path, &self.fields_of(path, value)?, expected).await
    }

    pub(super) fn fit<T: DeserializeOwned>(&self, path: &str, fields: &Fields) -> Result<T, Error> {
        fields.deserialize().map_err(|error| Error::Misfit {
            path: self.place("data", path),
            reason: misfit::<T>(fields, &error),
        })
    }

    fn fields_of<T: Serialize>(&self, path: &str, value: &T) -> Result<Fields, Error> {
        Fields::of(value).map_err(|_| Error::Misfit {
            path: self.place("data", path),
            reason: "the value to write is no JSON object".to_owned(),
        })
    }
}

/// Writes a secret as the JSON string that it is, for `#[serde(serialize_with =
/// "kista::client::exposed")]`: whatever serializes the field then holds it in plain.
///
/// # Errors
/// What the serializer answers.
pub fn exposed<S: Serializer>(text: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    text.expose(|text| serializer.serialize_str(text))
}

/// Which key does not fit. serde's own text may quote a value, so it is told only where it begins
/// as one that names keys alone.
fn misfit<T: DeserializeOwned>(fields: &Fields, error: &serde_json::Error) -> String {
    let failed = Cell::new(None);
    let access = Access { rest: fields.iter(), next: None, failed: &failed };
    if T::deserialize(MapAccessDeserializer::new(access)).is_err()
        && let Some(key) = failed.get()
    {
        return format!("the value of {key:?} is not of the type that is wanted");
    }
    let text = error.to_string();
    match text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        Some(key) => format!("there is no key {key:?}"),
        None => "its keys are not those that are wanted".to_owned(),
    }
}

/// Goes through fields, and notes the key whose value was refused.
struct Access<'a, Rest> {
    rest: Rest,
    next: Option<(&'a str, &'a JsonValue)>,
    failed: &'a Cell<Option<&'a str>>,
}

impl<'a, 'de, Rest: Iterator<Item = (&'a str, &'a JsonValue)>> MapAccess<'de> for Access<'a, Rest> {
    type Error = serde_json::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Self::Error> {
        self.next = self.rest.next();
        let Some((key, _)) = self.next else { return Ok(None) };
        let key: StrDeserializer<'_, Self::Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Self::Error> {
        let Some((key, value)) = self.next.take() else {
            return Err(serde::de::Error::custom("a value without a key"));
        };
        let read = value.expose_json(|json| {
            // A reader, so that nothing is borrowed from the text, which is lent for this scope.
            seed.deserialize(&mut serde_json::Deserializer::from_reader(json.as_bytes()))
        });
        if read.is_err() {
            self.failed.set(Some(key));
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::client::fake::{Fake, Scripted};

    #[derive(Debug, Deserialize, Serialize)]
    struct Login {
        user: String,
        #[serde(serialize_with = "exposed")]
        password: SecretString,
        port: u16,
    }

    fn fields(json: &str) -> Fields {
        serde_json::from_str(json).unwrap()
    }

    fn reason(json: &str) -> String {
        let fields = fields(json);
        misfit::<Login>(&fields, &fields.deserialize::<Login>().unwrap_err())
    }

    #[test]
    fn a_misfit_names_the_key_and_no_value() {
        let wrong = reason(r#"{"user":"a","password":"hunter2","port":"hunter3"}"#);
        assert_eq!(wrong, r#"the value of "port" is not of the type that is wanted"#);
        let secret = reason(r#"{"user":"a","password":7777,"port":1}"#);
        assert_eq!(secret, r#"the value of "password" is not of the type that is wanted"#);
        assert_eq!(reason(r#"{"user":"hunter2","port":1}"#), r#"there is no key "password""#);
    }

    #[test]
    fn a_shape_that_serde_buffers_quotes_no_value_either() {
        #[derive(Debug, Deserialize)]
        #[serde(untagged)]
        enum Either {
            One {
                #[expect(dead_code, reason = "only its shape matters")]
                a: u8,
            },
        }
        let fields = fields(r#"{"a":"hunter2"}"#);
        let text = misfit::<Either>(&fields, &fields.deserialize::<Either>().unwrap_err());
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_value_becomes_fields_and_only_an_object_does() {
        let login = Login { user: "ü".into(), password: SecretString::copy_of("p\"w"), port: 1 };
        let json = Fields::of(&login).unwrap().to_json();
        let expected = r#"{"user":"ü","password":"p\"w","port":1}"#;
        assert!(json.expose(|json| json == expected.as_bytes()));
        assert!(Fields::of(&[1, 2]).is_err() && Fields::of(&"text").is_err());
    }

    #[tokio::test]
    async fn debug_of_what_was_read_shows_no_value() {
        let read = Scripted::Answer(
            200,
            "",
            r#"{"data":{"data":{"user":"hunter1","password":"hunter2","port":1},"metadata":{"version":3,"created_time":"2026-01-01T00:00:00Z","deletion_time":"","destroyed":false,"custom_metadata":null}}}"#,
        );
        let fake = Fake::start(vec![read]).await;
        let client = fake.client();
        let login = client.kv2("secret").get_versioned::<Login>("a", None).await.unwrap();
        assert!(login.value.password.expose(|password| password == "hunter2"));
        let shown = format!("{login:?} {:?}", login.value.password);
        assert!(shown.contains("version: 3") && !shown.contains("hunter"), "{shown}");
    }

    #[tokio::test]
    async fn a_deleted_version_is_not_found() {
        let deleted = Scripted::Answer(
            404,
            "",
            r#"{"data":{"data":null,"metadata":{"version":2,"created_time":"2026-01-01T00:00:00Z","deletion_time":"2026-01-02T00:00:00Z","destroyed":false,"custom_metadata":null}}}"#,
        );
        let fake = Fake::start(vec![deleted]).await;
        let gone = fake.client().kv2("secret").get::<Login>("a").await;
        assert!(matches!(gone, Err(Error::NotFound)), "{gone:?}");
    }
}
