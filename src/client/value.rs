use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::secret::{SecretBuffer, SecretBytes, SecretString};

/// One JSON value, kept as the text that it came as, so that `1.10` and `12345678901234567890123`
/// stay what they are.
pub struct JsonValue(SecretString);

/// The text given is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("not a JSON value")]
pub struct NotJson;

impl JsonValue {
    /// A JSON string of this text.
    pub fn string(text: &SecretString) -> Self {
        Self(text.expose(quoted))
    }

    /// JSON's `null`; in a patch it takes its key away.
    pub fn null() -> Self {
        Self(SecretString::copy_of("null"))
    }

    /// A value from its JSON text.
    ///
    /// # Errors
    /// [`NotJson`] when it is not one JSON value.
    pub fn parse(text: SecretString) -> Result<Self, NotJson> {
        if text.expose(|json| serde_json::from_str::<&RawValue>(json).is_ok()) {
            Ok(Self(text))
        } else {
            Err(NotJson)
        }
    }

    /// A JSON array of these values.
    pub fn list(values: &[Self]) -> Self {
        let length = 2 + values.iter().map(|value| value.0.len() + 1).sum::<usize>();
        let mut json = String::with_capacity(length);
        json.push('[');
        for (n, value) in values.iter().enumerate() {
            if n > 0 {
                json.push(',');
            }
            value.expose_json(|text| json.push_str(text));
        }
        json.push(']');
        Self(SecretString::from_string(json))
    }

    /// Lends the JSON text to `read`.
    pub fn expose_json<R>(&self, read: impl FnOnce(&str) -> R) -> R {
        self.0.expose(read)
    }

    /// A second copy of the value, by name and not by `Clone`, so that copies are seen.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(self.0.expose(SecretString::copy_of))
    }

    /// What a person means by the value: the text of a string, the JSON text of anything else.
    pub fn plain(&self) -> SecretString {
        self.0.expose(|json| match serde_json::from_str::<String>(json) {
            Ok(text) => SecretString::from_string(text),
            Err(_) => SecretString::copy_of(json),
        })
    }
}

impl From<&Fields> for JsonValue {
    fn from(fields: &Fields) -> Self {
        // INVARIANT: names and values are UTF-8, so nothing is replaced.
        Self(fields.to_json().expose(|json| SecretString::copy_of(&String::from_utf8_lossy(json))))
    }
}

impl fmt::Debug for JsonValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The keys and values of a secret, in the order in which they were written.
#[derive(Default)]
pub struct Fields(Vec<(String, JsonValue)>);

impl Fields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// The fields of a value that is a JSON object.
    ///
    /// # Errors
    /// serde_json's, when it is not one. Its text may quote a value: do not log it.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let mut json = SecretBuffer::with_capacity(256);
        serde_json::to_writer(&mut json, value)?;
        serde_json::from_slice(&json.into_wiped())
    }

    /// Sets `key`; a value that it had is replaced in its place.
    pub fn set(&mut self, key: &str, value: JsonValue) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&JsonValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &JsonValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The JSON object, keys in order, each value as its own text.
    pub fn to_json(&self) -> SecretBytes {
        let keys: Vec<SecretString> = self.0.iter().map(|(name, _)| quoted(name)).collect();
        let length = keys.iter().map(|key| key.len() + 2).sum::<usize>()
            + self.0.iter().map(|(_, value)| value.0.len()).sum::<usize>()
            + 2;
        // The capacity is enough, so that nothing is left behind by growing.
        let mut json = Vec::with_capacity(length);
        json.push(b'{');
        for (n, (key, (_, value))) in keys.iter().zip(&self.0).enumerate() {
            if n > 0 {
                json.push(b',');
            }
            key.expose(|key| json.extend_from_slice(key.as_bytes()));
            json.push(b':');
            value.expose_json(|text| json.extend_from_slice(text.as_bytes()));
        }
        json.push(b'}');
        SecretBytes::from_vec(json)
    }

    /// The fields as a type of the caller's.
    ///
    /// # Errors
    /// serde_json's, when they do not fit the type. Its text may quote a value: do not log it.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        self.to_json().expose(|json| serde_json::from_slice(json))
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push((name, JsonValue(SecretString::copy_of(value.get()))));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// The text as a JSON string (RFC 8259 §7).
fn quoted(text: &str) -> SecretString {
    // The length is counted first: a buffer that grows leaves a copy behind.
    let length = 2 + text.bytes().map(escaped_length).sum::<usize>();
    let mut json = Zeroizing::new(Vec::with_capacity(length));
    // INVARIANT: writing a str into a Vec cannot fail.
    serde_json::to_writer(&mut *json, text).unwrap_or_default();
    SecretString::copy_of(&String::from_utf8_lossy(&json))
}

/// Bytes that serde_json writes for one byte of a string.
fn escaped_length(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | 0x08 | 0x09 | 0x0A | 0x0C | 0x0D => 2,
        0x00..0x20 => 6,
        0x20.. => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn numbers_and_order_come_back_byte_for_byte() {
        let json = r#"{"z":12345678901234567890123,"a":1.10,"ключ":"\u00e5\n","m":{"b":1,"a":[]}}"#;
        assert!(fields(json).to_json().expose(|bytes| bytes == json.as_bytes()));
    }

    #[test]
    fn the_plain_form_of_a_string_is_its_text_and_of_others_their_json() {
        let fields = fields(r#"{"s":"a\"b","n":1.10,"o":{"k":null}}"#);
        let plain = |key| fields.get(key).unwrap().plain().expose(str::to_owned);
        assert_eq!(plain("s"), "a\"b");
        assert_eq!(plain("n"), "1.10");
        assert_eq!(plain("o"), r#"{"k":null}"#);
    }

    #[test]
    fn the_length_of_a_quoted_string_is_foreseen() {
        for text in ["", "plain", "q\"b\\", "\u{1}\u{1f}\u{7f}\t\n\r\u{8}\u{c}", "åäö 🚲"] {
            let foreseen = 2 + text.bytes().map(escaped_length).sum::<usize>();
            assert_eq!(quoted(text).len(), foreseen, "{text:?}");
            quoted(text)
                .expose(|json| assert_eq!(serde_json::from_str::<String>(json).unwrap(), text));
        }
    }

    #[test]
    fn values_nest_as_they_are() {
        let inner = fields(r#"{"n":1.10}"#);
        let list = JsonValue::list(&[JsonValue::from(&inner), JsonValue::from(&Fields::new())]);
        list.expose_json(|json| assert_eq!(json, r#"[{"n":1.10},{}]"#));
    }

    #[test]
    fn debug_names_keys_and_shows_no_value() {
        let shown = format!("{:?}", fields(r#"{"password":"hunter2"}"#));
        assert!(shown.contains("password") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_key_set_twice_keeps_its_place() {
        let mut fields = fields(r#"{"a":1,"b":2}"#);
        fields.set("a", JsonValue::string(&SecretString::copy_of("x")));
        assert!(fields.to_json().expose(|bytes| bytes == br#"{"a":"x","b":2}"#));
    }

    #[test]
    fn text_that_is_not_json_is_refused() {
        assert!(JsonValue::parse(SecretString::copy_of("{")).is_err());
        assert!(JsonValue::parse(SecretString::copy_of("[1, 2]")).is_ok());
    }
}
