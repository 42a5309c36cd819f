use std::io::Write as _;

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

    /// Writes members alone; the braces are somebody else's.
    pub(super) fn bare(out: &'a mut Vec<u8>) -> Self {
        Self { out, empty: true }
    }

    /// Writes the name, one that needs no escapes, and lends the buffer for the value.
    pub(super) fn value(&mut self, name: &'static str) -> &mut Vec<u8> {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Writes a text member whose name somebody else has chosen.
    pub(super) fn foreign(&mut self, name: &str, value: &str) {
        self.separate();
        push_text(self.out, name);
        self.out.push(b':');
        push_text(self.out, value);
    }

    /// Writes members that were written before, without their braces.
    pub(super) fn members(&mut self, members: &[u8]) {
        if !members.is_empty() {
            self.separate();
            self.out.extend_from_slice(members);
        }
    }

    fn separate(&mut self) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
    }

    pub(super) fn text(&mut self, name: &'static str, value: &str) {
        push_text(self.value(name), value);
    }

    /// Writes a text member, unless the text is empty.
    pub(super) fn text_if_any(&mut self, name: &'static str, value: &str) {
        if !value.is_empty() {
            self.text(name, value);
        }
    }

    pub(super) fn number(&mut self, name: &'static str, value: u64) {
        // Memory takes all that is written.
        write!(self.value(name), "{value}").ok();
    }

    pub(super) fn boolean(&mut self, name: &'static str, value: bool) {
        self.value(name).extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(super) fn hex(&mut self, name: &'static str, bytes: &[u8]) {
        let out = self.value(name);
        out.push(b'"');
        push_hex(out, bytes);
        out.push(b'"');
    }

    /// Writes an array, unless nothing is in it; `write` appends one element.
    pub(super) fn array<T>(
        &mut self,
        name: &'static str,
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

    pub(super) fn object(&mut self, name: &'static str) -> Object<'_> {
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
    loop {
        // Nearly all text has nothing to escape, and is copied as a whole.
        let plain = leading(rest, |byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        let (plain, after) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        let Some((byte, after)) = after.split_first() else { break };
        push_escape(out, *byte);
        rest = after;
    }
    out.push(b'"');
}

/// How many bytes stand before the first special one. Asks for many at a time, which the compiler
/// makes one comparison.
pub(super) fn leading(bytes: &[u8], is_special: impl Fn(u8) -> bool) -> usize {
    let mut passed = 0;
    for chunk in bytes.chunks_exact(16) {
        if chunk.iter().fold(false, |any, byte| any | is_special(*byte)) {
            break;
        }
        passed += chunk.len();
    }
    let rest = bytes.get(passed..).unwrap_or_default();
    passed + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
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
    for chunk in bytes.chunks(32) {
        let mut text = [[0; 2]; 32];
        for (pair, byte) in text.iter_mut().zip(chunk) {
            *pair = [digit(byte >> 4), digit(byte & 0xF)];
        }
        out.extend_from_slice(text.as_flattened().get(..2 * chunk.len()).unwrap_or_default());
    }
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
