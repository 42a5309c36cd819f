use std::fmt;

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use crate::secret::{SecretBuffer, SecretBytes};

/// A JSON object or list that is written from the front, into memory that is wiped.
pub(super) struct Body {
    json: SecretBuffer,
    /// Whether the next member or element is the first one.
    begins: bool,
}

impl Body {
    /// An object, with room for so many bytes of values.
    pub(super) fn object(room: usize) -> Self {
        let mut json = SecretBuffer::with_capacity(room + ROOM_FOR_NAMES);
        json.extend_from_slice(b"{");
        Self { json, begins: true }
    }

    /// Bytes, in base64.
    pub(super) fn bytes(&mut self, name: &'static str, bytes: &[u8]) {
        let mut encoded = Zeroizing::new(vec![0; BASE64.encode_len(bytes.len())]);
        BASE64.encode_mut(bytes, &mut encoded);
        self.name(name);
        self.json.extend_from_slice(b"\"");
        self.json.extend_from_slice(&encoded);
        self.json.extend_from_slice(b"\"");
    }

    /// Bytes, unless there are none.
    pub(super) fn bytes_if_any(&mut self, name: &'static str, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes(name, bytes);
        }
    }

    /// Text of the wire, such as a ciphertext. It is no secret.
    pub(super) fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        let quoted = serde_json::Value::from(text).to_string();
        self.json.extend_from_slice(quoted.as_bytes());
    }

    /// A number.
    pub(super) fn number(&mut self, name: &'static str, number: u64) {
        self.name(name);
        self.json.extend_from_slice(number.to_string().as_bytes());
    }

    /// A list of objects.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        items: &[T],
        write: impl Fn(&mut Self, &T),
    ) {
        self.name(name);
        for (n, item) in items.iter().enumerate() {
            self.json.extend_from_slice(if n == 0 { b"[{" } else { b",{" });
            self.begins = true;
            write(self, item);
            self.json.extend_from_slice(b"}");
        }
        self.json.extend_from_slice(if items.is_empty() { b"[]" } else { b"]" });
        self.begins = false;
    }

    pub(super) fn finish(mut self) -> SecretBytes {
        self.json.extend_from_slice(b"}");
        let bytes = self.json.into_wiped();
        SecretBytes::copy_of(&bytes)
    }

    fn name(&mut self, name: &'static str) {
        self.json.extend_from_slice(if self.begins { b"\"" } else { b",\"" });
        self.json.extend_from_slice(name.as_bytes());
        self.json.extend_from_slice(b"\":");
        self.begins = false;
    }
}

/// How many bytes of a body so many bytes of a value take.
pub(super) fn encoded_length(bytes: usize) -> usize {
    BASE64.encode_len(bytes)
}

/// A secret that the wire carries in base64.
pub(super) struct Decoded(pub(super) SecretBytes);

impl<'de> Deserialize<'de> for Decoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64;
        impl de::Visitor<'_> for Base64 {
            type Value = Decoded;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text in base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decoded, E> {
                decode(text).map(Decoded).ok_or_else(|| E::custom("it is not base64"))
            }
        }
        deserializer.deserialize_str(Base64)
    }
}

/// The bytes that base64 stands for (RFC 4648 §4), with white space around it.
pub fn from_base64(text: &[u8]) -> Option<SecretBytes> {
    std::str::from_utf8(text.trim_ascii()).ok().and_then(decode)
}

/// The bytes that base64 stands for.
pub(super) fn decode(text: &str) -> Option<SecretBytes> {
    let mut decoded = Zeroizing::new(vec![0; BASE64.decode_len(text.len()).ok()?]);
    let length = BASE64.decode_mut(text.as_bytes(), &mut decoded).ok()?;
    Some(SecretBytes::copy_of(decoded.get(..length)?))
}

/// For what stands around the values.
const ROOM_FOR_NAMES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_json() {
        let mut body = Body::object(0);
        body.list("batch_input", &[1_u8, 2], |body, n| {
            body.bytes("plaintext", &[*n]);
            body.bytes_if_any("context", b"");
            body.text("ciphertext", "vault:v1:\"\u{1}");
        });
        body.number("n", 7);
        body.list("none", &[0_u8; 0], |_, _| ());
        let expected = "{\"batch_input\":[\
            {\"plaintext\":\"AQ==\",\"ciphertext\":\"vault:v1:\\\"\\u0001\"},\
            {\"plaintext\":\"Ag==\",\"ciphertext\":\"vault:v1:\\\"\\u0001\"}],\"n\":7,\"none\":[]}";
        body.finish().expose(|json| assert_eq!(std::str::from_utf8(json).unwrap(), expected));
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["A", "AA==A", "AQ=", "A Q=", "_w=="] {
            assert!(decode(text).is_none(), "{text}");
        }
        assert!(decode("AQID").unwrap().expose(|bytes| bytes == [1, 2, 3]));
        assert!(decode("").unwrap().is_empty());
    }
}
