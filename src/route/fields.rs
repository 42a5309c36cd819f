use std::{cell::Cell, collections::BTreeMap, str::FromStr, time::Duration};

use serde_json::value::RawValue;

use crate::{
    clock,
    gate::{ApiError, Object, Query},
};

/// Builds a handler's input from a request: the one place where text becomes typed.
///
/// Vault's routes decode weakly, as their clients expect (`"5"` for 5, `"1h"` or 3600, `"a,b"` for
/// a list). A member that no getter has asked for is unknown and gets a line in `warnings`.
pub trait FromFields: Sized + Send {
    /// Reads what it needs.
    ///
    /// # Errors
    /// 400 for a field that is missing or does not decode.
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError>;
}

/// Nothing is asked of the request.
impl FromFields for () {
    fn from_fields(_: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(())
    }
}

/// What a request carries: parameters of the route's pattern, the query, the body's members.
#[derive(Debug)]
pub struct Fields<'a> {
    parameters: Vec<(&'a str, &'a str)>,
    query: &'a Query,
    body: Vec<Member<'a>>,
    whole: Option<&'a [u8]>,
}

#[derive(Debug)]
struct Member<'a> {
    name: &'a str,
    value: &'a RawValue,
    is_known: Cell<bool>,
}

impl<'a> Fields<'a> {
    /// Gathers them.
    pub fn new(
        parameters: Vec<(&'a str, &'a str)>,
        query: &'a Query,
        body: &'a Object<'a>,
    ) -> Self {
        let body = body
            .members()
            .map(|(name, value)| Member { name, value, is_known: Cell::new(false) })
            .collect();
        Self { parameters, query, body, whole: None }
    }

    /// Keeps what the body's members were read from.
    #[must_use]
    pub fn of_whole(mut self, body: Option<&'a [u8]>) -> Self {
        self.whole = body;
        self
    }

    /// A parameter of the route's pattern; empty where the pattern has none of that name.
    pub fn parameter(&self, name: &str) -> &'a str {
        self.parameters.iter().find(|(given, _)| *given == name).map_or("", |(_, value)| value)
    }

    /// A query value as text.
    pub fn query(&self, name: &str) -> Option<&'a str> {
        self.query.first(name)
    }

    /// A query value as a whole number, of the type that is asked for; empty counts as absent.
    ///
    /// # Errors
    /// 400 when it is not one.
    pub fn query_integer<N: FromStr>(&self, name: &str) -> Result<Option<N>, ApiError> {
        match self.query(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| wrong(name, "a whole number")),
        }
    }

    /// A member as it was written; `null` counts as absent.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        self.present(name).filter(|text| *text != "null")
    }

    /// A member as it was written, `null` included.
    pub fn present(&self, name: &str) -> Option<&'a str> {
        let member = self.body.iter().find(|member| member.name == name)?;
        member.is_known.set(true);
        Some(member.value.get())
    }

    /// A text; numbers and booleans are taken as their text.
    ///
    /// # Errors
    /// 400 for lists and objects.
    pub fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        self.raw(name).map(|raw| scalar_text(name, raw)).transpose()
    }

    /// A whole number; digits in a text are taken.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|_| wrong(name, "a whole number"))
    }

    /// A claim; the words and numbers that Go's `ParseBool` takes are taken.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        parse_boolean(&text).map(Some).ok_or_else(|| wrong(name, "true or false"))
    }

    /// A duration: whole seconds, or text such as `30m`.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if text.is_empty() {
            return Ok(None);
        }
        clock::parse_duration(&text)
            .map(Some)
            .map_err(|error| ApiError::bad_request(error.to_string()))
    }

    /// A list of texts; one text with commas is taken apart.
    ///
    /// # Errors
    /// 400 for objects and for lists of anything but scalars.
    pub fn list(&self, name: &str) -> Result<Option<Vec<String>>, ApiError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        if raw.starts_with('[') {
            let items: Vec<&RawValue> =
                serde_json::from_str(raw).map_err(|_| wrong(name, "a list"))?;
            return items
                .iter()
                .map(|item| scalar_text(name, item.get()))
                .collect::<Result<_, _>>()
                .map(Some);
        }
        let text = scalar_text(name, raw)?;
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        Ok(Some(items.map(str::to_owned).collect()))
    }

    /// A list of whole numbers; one text with commas is taken apart.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn integers(&self, name: &str) -> Result<Option<Vec<u64>>, ApiError> {
        let Some(items) = self.list(name)? else { return Ok(None) };
        items
            .iter()
            .map(|item| item.parse().map_err(|_| wrong(name, "a list of whole numbers")))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// A map from text to text; numbers and booleans are taken as their text.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn map(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, ApiError> {
        let Some(object) = self.object(name)? else { return Ok(None) };
        object
            .members()
            .map(|(key, value)| Ok((key.to_owned(), scalar_text(name, value.get())?)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// The same for a merge patch, in which a `null` takes a member away.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn map_with_nulls(
        &self,
        name: &str,
    ) -> Result<Option<BTreeMap<String, Option<String>>>, ApiError> {
        let Some(object) = self.object(name)? else { return Ok(None) };
        let member = |(key, value): (&str, &RawValue)| {
            let text = match value.get() {
                "null" => None,
                raw => Some(scalar_text(name, raw)?),
            };
            Ok((key.to_owned(), text))
        };
        object.members().map(member).collect::<Result<_, _>>().map(Some)
    }

    /// An object's members.
    ///
    /// # Errors
    /// 400 for anything but an object.
    pub fn object(&self, name: &str) -> Result<Option<Object<'a>>, ApiError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(raw).map(Some).map_err(|_| wrong(name, "an object"))
    }

    /// The same getters over an object inside the body.
    pub fn inside(object: &'a Object<'a>, query: &'a Query) -> Self {
        Self::new(Vec::new(), query, object)
    }

    /// The whole body as it was written, for a handler that keeps it; `None` when it has no member.
    pub fn whole(&self) -> Option<&'a [u8]> {
        self.body.iter().for_each(|member| member.is_known.set(true));
        self.whole.filter(|_| !self.body.is_empty())
    }

    /// Names of the members that no getter has asked for, sorted.
    pub fn unknown(&self) -> Vec<&'a str> {
        let mut names: Vec<_> = self
            .body
            .iter()
            .filter(|member| !member.is_known.get())
            .map(|member| member.name)
            .collect();
        names.sort_unstable();
        names
    }
}

/// Go's `strconv.ParseBool`, and nothing as false.
pub fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Whether a text is what the peers take for a name in a path: `\w(([\w.-]+)?\w)?`.
pub fn is_name(text: &str) -> bool {
    let is_word = |one: char| one.is_ascii_alphanumeric() || one == '_';
    let inner = |one: char| is_word(one) || matches!(one, '-' | '.');
    text.starts_with(is_word) && text.ends_with(is_word) && text.chars().all(inner)
}

fn scalar_text(name: &str, raw: &str) -> Result<String, ApiError> {
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map_err(|_| wrong(name, "text")),
        Some(b'{' | b'[') => Err(wrong(name, "text")),
        _ => Ok(raw.to_owned()),
    }
}

fn wrong(name: &str, expected: &str) -> ApiError {
    ApiError::bad_request(format!("error converting input for field {name:?}: expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<R>(body: &str, read: impl FnOnce(&Fields<'_>) -> R) -> R {
        let query = Query::default();
        let object = Object::of_checked(body.as_bytes());
        read(&Fields::new(Vec::new(), &query, &object))
    }

    #[test]
    fn decoding_is_weak_as_clients_expect() {
        with(
            r#"{"a":"5","b":5,"c":"true","d":"1h","e":3600,"f":"x, y","g":["x",1],"h":{"k":2}}"#,
            |fields| {
                assert_eq!(fields.integer("a").unwrap(), Some(5));
                assert_eq!(fields.text("b").unwrap().as_deref(), Some("5"));
                assert_eq!(fields.boolean("c").unwrap(), Some(true));
                assert_eq!(fields.duration("d").unwrap(), fields.duration("e").unwrap());
                assert_eq!(fields.list("f").unwrap().unwrap(), ["x", "y"]);
                assert_eq!(fields.list("g").unwrap().unwrap(), ["x", "1"]);
                assert_eq!(fields.map("h").unwrap().unwrap().get("k").unwrap(), "2");
                assert!(fields.unknown().is_empty());
            },
        );
    }

    #[test]
    fn unknown_members_are_told_in_order() {
        with(r#"{"z":1,"a":2,"k":3}"#, |fields| {
            assert_eq!(fields.integer("k").unwrap(), Some(3));
            assert_eq!(fields.unknown(), ["a", "z"]);
        });
    }

    #[test]
    fn null_is_absent_and_the_wrong_kind_is_refused() {
        with(r#"{"a":null,"b":{},"c":"x"}"#, |fields| {
            assert_eq!(fields.text("a").unwrap(), None);
            assert_eq!(fields.text("b").unwrap_err().status, 400);
            assert_eq!(fields.integer("c").unwrap_err().status, 400);
            assert_eq!(fields.boolean("c").unwrap_err().status, 400);
            assert_eq!(fields.duration("c").unwrap_err().status, 400);
        });
    }
}
