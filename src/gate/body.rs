use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{ApiError, Media, Operation};
use crate::{json, secret::SecretBytes};

/// A request's body, checked: a JSON object, or nothing, which counts as an empty one.
#[derive(Debug)]
pub struct Body(SecretBytes);

impl Body {
    /// Checks a body against what its request says it is.
    ///
    /// # Errors
    /// 415 for a media type that is neither JSON nor a form that begins like JSON (for `PATCH`: not
    /// a merge patch), 400 for what is not one JSON object, is nested deeper than 64, or has a key
    /// twice.
    pub fn check(
        operation: Operation,
        media: &Media,
        bytes: SecretBytes,
    ) -> Result<Self, ApiError> {
        if operation == Operation::Patch {
            Self::check_patch_media(media)?;
        }
        let looks_like_json = bytes
            .expose(|bytes| bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{'));
        if bytes.is_empty() {
            return Ok(Self(bytes));
        }
        match media {
            Media::Absent | Media::Json | Media::MergePatch => {}
            Media::Form if looks_like_json => {}
            Media::Form => {
                return Err(ApiError::new(415, "a form is not taken here; send a JSON object"));
            }
            Media::Other(given) => {
                return Err(ApiError::new(
                    415,
                    format!("unsupported Content-Type {given:?}; send application/json"),
                ));
            }
        }
        match bytes.expose(json::check) {
            Ok(json::Kind::Object) => Ok(Self(bytes)),
            Ok(json::Kind::Null) => Ok(Self(SecretBytes::copy_of(b""))),
            Ok(json::Kind::Array | json::Kind::String | json::Kind::Number | json::Kind::Bool) => {
                Err(ApiError::bad_request("the body must be a JSON object"))
            }
            Err(error) => {
                Err(ApiError::bad_request(format!("failed to parse JSON input: {error}")))
            }
        }
    }

    fn check_patch_media(media: &Media) -> Result<(), ApiError> {
        const NEEDED: &str = "PATCH requires Content-Type of application/merge-patch+json";
        match media {
            Media::MergePatch => Ok(()),
            Media::Absent => Err(ApiError::bad_request(format!("{NEEDED}, but none was given"))),
            Media::Json => Err(ApiError::new(415, format!("{NEEDED}, provided application/json"))),
            Media::Form => Err(ApiError::new(
                415,
                format!("{NEEDED}, provided application/x-www-form-urlencoded"),
            )),
            Media::Other(given) => Err(ApiError::new(415, format!("{NEEDED}, provided {given}"))),
        }
    }

    /// Lends the members of the object, values as they were written.
    pub fn expose<R>(&self, read: impl FnOnce(&Object<'_>) -> R) -> R {
        self.0.expose(|bytes| read(&Object::of_checked(bytes)))
    }

    /// Whether there was no body.
    pub fn is_absent(&self) -> bool {
        self.0.expose(<[u8]>::is_empty)
    }

    /// Lends the body's bytes, none when there was no body.
    pub fn expose_bytes<R>(&self, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        self.0.expose(|bytes| read((!bytes.is_empty()).then_some(bytes)))
    }
}

/// The members of a JSON object in the order given, each value as it was written: numbers, key
/// order and Unicode pass through untouched.
#[derive(Debug, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads an object that `json::check` has accepted; anything else reads as empty.
    pub fn of_checked(bytes: &'a [u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// The members.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// The value under `name`.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members().find(|(given, _)| *given == name).map(|(_, value)| value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(CowStr(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A key that borrows unless it holds escapes.
struct CowStr<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for CowStr<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = CowStr<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(CowStr(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(CowStr(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operation: Operation, media: &Media, body: &str) -> Result<Body, u16> {
        Body::check(operation, media, SecretBytes::copy_of(body.as_bytes()))
            .map_err(|error| error.status)
    }

    #[test]
    fn what_curl_sends_is_json() {
        let body = check(Operation::Write, &Media::Form, " {\"a\": 1}").unwrap();
        body.expose(|object| assert_eq!(object.get("a").unwrap().get(), "1"));
        assert_eq!(check(Operation::Write, &Media::Form, "a=1").unwrap_err(), 415);
    }

    #[test]
    fn nothing_and_null_are_an_empty_object() {
        for body in ["", "null"] {
            check(Operation::Write, &Media::Json, body)
                .unwrap()
                .expose(|object| assert_eq!(object.members().count(), 0));
        }
    }

    #[test]
    fn anything_but_one_object_is_refused() {
        for body in ["[]", "1", "{", "{} {}", r#"{"a":1,"a":2}"#, "  "] {
            assert_eq!(check(Operation::Write, &Media::Absent, body).unwrap_err(), 400, "{body}");
        }
        let other = Media::Other("text/plain".to_owned());
        assert_eq!(check(Operation::Write, &other, "{}").unwrap_err(), 415);
    }

    #[test]
    fn a_patch_needs_its_own_type() {
        assert!(check(Operation::Patch, &Media::MergePatch, "{}").is_ok());
        assert_eq!(check(Operation::Patch, &Media::Json, "{}").unwrap_err(), 415);
        assert_eq!(check(Operation::Patch, &Media::Absent, "{}").unwrap_err(), 400);
    }

    #[test]
    fn values_are_kept_as_written() {
        let text = r#"{"n":12345678901234567890.10e+3,"\u00e9":"\u00e9"}"#;
        let object = Object::of_checked(text.as_bytes());
        assert_eq!(object.get("n").unwrap().get(), "12345678901234567890.10e+3");
        assert_eq!(object.get("é").unwrap().get(), "\"\\u00e9\"");
    }
}
