/// Writes one JSON object's members in the order of the calls. The writer knows no nesting: an
/// inner object is opened with [`object`](Self::object) and closed with [`close`](Self::close).
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Writes the name and lends the buffer for the value.
    pub(super) fn value(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        push_text(self.out, name);
        self.out.push(b':');
        self.out
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        push_text(self.value(name), value);
    }

    /// Writes a text member, unless the text is empty.
    pub(super) fn text_if_any(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.text(name, value);
        }
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.value(name).extend_from_slice(value.to_string().as_bytes());
    }

    pub(super) fn boolean(&mut self, name: &str, value: bool) {
        self.value(name).extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(super) fn hex(&mut self, name: &str, bytes: &[u8]) {
        let out = self.value(name);
        out.push(b'"');
        push_hex(out, bytes);
        out.push(b'"');
    }

    /// Writes an array, unless nothing is in it; `write` appends one element.
    pub(super) fn array<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return;
        }
        let out = self.value(name);
        let mut before = b'[';
        for item in items {
            out.push(before);
            write(out, item);
            before = b',';
        }
        out.push(b']');
    }

    pub(super) fn object(&mut self, name: &str) -> Object<'_> {
        Object::open(self.value(name))
    }

    pub(super) fn close(self) {
        self.out.push(b'}');
    }
}

/// Appends a JSON string (RFC 8259 section 7), quotes included.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    // Nearly all text has nothing to escape, and is copied as a whole.
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        let (plain, after) = rest.split_at(at);
        out.extend_from_slice(plain);
        rest = after;
        if let Some((byte, after)) = rest.split_first() {
            push_escape(out, *byte);
            rest = after;
        }
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            push_hex(out, &[byte]);
        }
    }
}

/// Appends lower-case hex.
pub(super) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xF)]));
}

fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_readers_expect() {
        for text in ["", "plain", "a\"b\\c\n\r\t\u{1}\u{1f}\u{7f}é😀"] {
            let mut out = Vec::new();
            push_text(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn members_stand_in_order() {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.text("a", "x");
        object.text_if_any("none", "");
        object.array("nothing", [""; 0], push_text);
        object.array("list", ["p", "q"], push_text);
        let mut inner = object.object("inner");
        inner.number("n", 7);
        inner.boolean("b", true);
        inner.close();
        object.hex("h", &[0x0F, 0xA0]);
        object.close();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, r#"{"a":"x","list":["p","q"],"inner":{"n":7,"b":true},"h":"0fa0"}"#);
    }
}
