use std::io::Write;

use zeroize::Zeroize;

use crate::crypto::Mac;

use super::{
    json::{leading, push_hex},
    record::Common,
};

/// Puts keyed digests in the place of values (FORMAT.md 9).
///
/// A text's digest is the HMAC of the text alone, so that whoever knows a value can search for it.
/// Numbers, booleans and null are few: their digest covers their place too, or equal ones would
/// show all over the log.
#[derive(Debug)]
pub(super) struct Digester {
    leaf: Mac,
}

/// Whether the names inside an object are digested like values, for `hash_paths`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Clear,
    Digested,
}

/// Room that is used again for each value. What was in it is wiped after each use.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    text: Vec<u8>,
    pointer: Vec<u8>,
    /// Address, length and tag of the texts of one request that may stand in its lines again.
    seen: Vec<(usize, usize, [u8; 32])>,
    /// Nothing of it is a secret: it stands in the lines like that.
    pub(super) common: Common,
}

impl Scratch {
    /// Begins a request: the texts of another one may lie at the same addresses.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }
}

impl Digester {
    pub(super) fn new(leaf: Mac) -> Self {
        Self { leaf }
    }

    /// Appends the digest of a text as a JSON string.
    pub(super) fn push_text(&self, out: &mut Vec<u8>, value: &[u8]) {
        out.push(b'"');
        self.push_bare(out, value);
        out.push(b'"');
    }

    /// Like [`push_text`](Self::push_text), for a text that may be lent twice for one line: a token
    /// stands in `auth` and in `request`, and is digested once.
    pub(super) fn push_again(&self, out: &mut Vec<u8>, value: &str, scratch: &mut Scratch) {
        let place = (value.as_ptr().addr(), value.len());
        let seen = scratch.seen.iter().find(|seen| (seen.0, seen.1) == place).map(|seen| seen.2);
        let tag = seen.unwrap_or_else(|| {
            let tag = self.leaf.tag(&[value.as_bytes()]);
            scratch.seen.push((place.0, place.1, tag));
            tag
        });
        out.extend_from_slice(b"\"hmac-sha256:");
        push_hex(out, &tag);
        out.push(b'"');
    }

    /// Appends the digest of a text without quotes.
    pub(super) fn push_bare(&self, out: &mut Vec<u8>, value: &[u8]) {
        out.extend_from_slice(b"hmac-sha256:");
        push_hex(out, &self.leaf.tag(&[value]));
    }

    /// Appends a JSON document with every leaf digested. Numbers are digested as they are written.
    ///
    /// Bytes that are no JSON, which no caller sends, become one text leaf: a line is written
    /// whatever happens, and never with a clear value. So does a document of more leaves than
    /// [`LEAVES`], whose digests would be a line of dozens of megabytes.
    pub(super) fn push_json(
        &self,
        out: &mut Vec<u8>,
        raw: &[u8],
        names: Names,
        scratch: &mut Scratch,
    ) {
        let start = out.len();
        scratch.pointer.clear();
        let leaves_left = LEAVES;
        let mut walk = Walk { rest: raw, digester: self, names, scratch, out, leaves_left };
        let whole = walk.value(0).is_some() && walk.peek().is_none();
        wipe(&mut scratch.pointer);
        if !whole {
            out.truncate(start);
            self.push_text(out, raw);
        }
    }

    fn push_scalar(&self, out: &mut Vec<u8>, scalar: Scalar, pointer: &[u8], written: &[u8]) {
        let length = u32::try_from(pointer.len()).unwrap_or(u32::MAX).to_be_bytes();
        let tag = self.leaf.tag(&[b"kista/leaf/1\0", &[scalar as u8], &length, pointer, written]);
        out.extend_from_slice(b"\"hmac-sha256:");
        push_hex(out, &tag);
        out.push(b'"');
    }
}

/// The type byte of a leaf that is no text.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Scalar {
    Number = 1,
    Boolean = 2,
    Null = 3,
}

/// One pass over a JSON text, writing as it reads.
struct Walk<'a> {
    rest: &'a [u8],
    digester: &'a Digester,
    names: Names,
    scratch: &'a mut Scratch,
    out: &'a mut Vec<u8>,
    leaves_left: usize,
}

impl<'a> Walk<'a> {
    /// `None` on anything that is not JSON, or has too many leaves.
    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => {
                let token = self.string()?;
                self.digest_string(token)
            }
            _ => self.scalar(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.copy(b'{')?;
        if self.peek()? == b'}' {
            return self.copy(b'}');
        }
        loop {
            self.peek()?;
            let name = self.string()?;
            match self.names {
                Names::Clear => {
                    self.out.push(b'"');
                    self.out.extend_from_slice(name.written);
                    self.out.push(b'"');
                }
                Names::Digested => self.digest_string(name)?,
            }
            self.copy(b':')?;
            let outer = self.enter_name(name)?;
            self.value(depth + 1)?;
            self.scratch.pointer.truncate(outer);
            match self.peek()? {
                b',' => self.copy(b',')?,
                _ => return self.copy(b'}'),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.copy(b'[')?;
        if self.peek()? == b']' {
            return self.copy(b']');
        }
        for index in 0_usize.. {
            let outer = self.scratch.pointer.len();
            write!(self.scratch.pointer, "/{index}").ok()?;
            self.value(depth + 1)?;
            self.scratch.pointer.truncate(outer);
            match self.peek()? {
                b',' => self.copy(b',')?,
                _ => return self.copy(b']'),
            }
        }
        None
    }

    fn scalar(&mut self) -> Option<()> {
        let length = self
            .rest
            .iter()
            .position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r'))
            .unwrap_or(self.rest.len());
        let (written, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        let scalar = match written {
            b"null" => Scalar::Null,
            b"true" | b"false" => Scalar::Boolean,
            [b'-' | b'0'..=b'9', ..] => Scalar::Number,
            _ => return None,
        };
        self.leaves_left = self.leaves_left.checked_sub(1)?;
        self.digester.push_scalar(self.out, scalar, &self.scratch.pointer, written);
        Some(())
    }

    fn digest_string(&mut self, token: Token<'a>) -> Option<()> {
        self.leaves_left = self.leaves_left.checked_sub(1)?;
        if !token.escaped {
            self.digester.push_text(self.out, token.written);
            return Some(());
        }
        let done = unescape(token.written, &mut self.scratch.text);
        if done.is_some() {
            self.digester.push_text(self.out, &self.scratch.text);
        }
        wipe(&mut self.scratch.text);
        done
    }

    /// Lengthens the JSON pointer (RFC 6901) by a name; gives the length to go back to.
    fn enter_name(&mut self, name: Token<'a>) -> Option<usize> {
        let Scratch { text, pointer, .. } = &mut *self.scratch;
        let outer = pointer.len();
        pointer.push(b'/');
        if !name.escaped {
            push_reference(pointer, name.written);
            return Some(outer);
        }
        unescape(name.written, text)?;
        push_reference(pointer, text);
        wipe(text);
        Some(outer)
    }

    /// Takes a string token, the quotes not included.
    fn string(&mut self) -> Option<Token<'a>> {
        let inner = self.rest.strip_prefix(b"\"")?;
        let (mut at, mut escaped) = (0, false);
        loop {
            let rest = inner.get(at..)?;
            at += leading(rest, |byte| matches!(byte, b'"' | b'\\'));
            if *inner.get(at)? == b'"' {
                break;
            }
            escaped = true;
            at += 2;
        }
        let (written, rest) = inner.split_at_checked(at)?;
        self.rest = rest.strip_prefix(b"\"")?;
        Some(Token { written, escaped })
    }

    /// The next byte that is not white space, which is left behind.
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn copy(&mut self, expected: u8) -> Option<()> {
        if self.peek()? != expected {
            return None;
        }
        self.rest = self.rest.get(1..)?;
        self.out.push(expected);
        Some(())
    }
}

/// A string as it is written.
#[derive(Clone, Copy)]
struct Token<'a> {
    written: &'a [u8],
    escaped: bool,
}

/// Appends a name as a part of a JSON pointer (RFC 6901 section 3).
fn push_reference(pointer: &mut Vec<u8>, mut name: &[u8]) {
    loop {
        let plain = leading(name, |byte| matches!(byte, b'~' | b'/'));
        let (plain, rest) = name.split_at_checked(plain).unwrap_or((name, &[]));
        pointer.extend_from_slice(plain);
        let Some((byte, rest)) = rest.split_first() else { return };
        pointer.extend_from_slice(if *byte == b'~' { b"~0" } else { b"~1" });
        name = rest;
    }
}

/// Wipes room and keeps it. What is spare is wiped at once, what is there would be byte by byte.
fn wipe(room: &mut Vec<u8>) {
    room.clear();
    room.zeroize();
}

/// Replaces the escapes of a JSON string (RFC 8259 section 7). The room is reserved first: what is
/// written is never longer than what is read, so no copy of a secret is left behind by growth.
fn unescape(written: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    out.reserve(written.len());
    let mut rest = written;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (escape, after) = rest.split_first()?;
        rest = after;
        match escape {
            b'"' | b'\\' | b'/' => out.push(*escape),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let character = code_point(&mut rest)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    Some(())
}

/// Reads the four digits after `\u`, and a second escape when they are a high surrogate.
fn code_point(rest: &mut &[u8]) -> Option<char> {
    let high = code_unit(rest)?;
    if !(0xD800..0xDC00).contains(&high) {
        return char::from_u32(high);
    }
    *rest = rest.strip_prefix(b"\\u")?;
    let low = code_unit(rest)?;
    if !(0xDC00..0xE000).contains(&low) {
        return None;
    }
    char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00))
}

fn code_unit(rest: &mut &[u8]) -> Option<u32> {
    let (digits, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// Twice what the gate lets in.
const DEPTH: usize = 128;

/// Leaves of one document that have a digest each, some 80 bytes long: more than a batch of 10,000
/// items has.
const LEAVES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::HmacSha256, secret::Key};

    fn digester() -> Digester {
        Digester::new(Mac::new(&Key::<HmacSha256>::build(|key| key.fill(3))))
    }

    fn digest_as(raw: &str, names: Names) -> String {
        let mut out = Vec::new();
        digester().push_json(&mut out, raw.as_bytes(), names, &mut Scratch::default());
        String::from_utf8(out).unwrap()
    }

    fn digest(raw: &str) -> String {
        digest_as(raw, Names::Clear)
    }

    fn text(value: &str) -> String {
        let mut out = Vec::new();
        digester().push_text(&mut out, value.as_bytes());
        String::from_utf8(out).unwrap()
    }

    fn scalar(kind: u8, pointer: &str, written: &str) -> String {
        let length = u32::try_from(pointer.len()).unwrap().to_be_bytes();
        let parts: [&[u8]; 5] =
            [b"kista/leaf/1\0", &[kind], &length, pointer.as_bytes(), written.as_bytes()];
        let tag = Mac::new(&Key::<HmacSha256>::build(|key| key.fill(3))).tag(&parts);
        format!("\"hmac-sha256:{}\"", data_encoding::HEXLOWER.encode(&tag))
    }

    #[test]
    fn the_shape_stays_and_every_leaf_goes() {
        let raw = " { \"a\" : \"x\" , \"n\":[ 1.0, true , null, [] , {} ],\"o\":{\"k\":-3e7}}\n";
        let expected = format!(
            r#"{{"a":{},"n":[{},{},{},[],{{}}],"o":{{"k":{}}}}}"#,
            text("x"),
            scalar(1, "/n/0", "1.0"),
            scalar(2, "/n/1", "true"),
            scalar(3, "/n/2", "null"),
            scalar(1, "/o/k", "-3e7"),
        );
        assert_eq!(digest(raw), expected);
    }

    #[test]
    fn a_text_has_one_digest_however_it_is_written() {
        assert_eq!(digest(r#""hé\"\/😀\n""#), text("hé\"/😀\n"));
        assert_eq!(digest(r#""h\u00e9\u0022\/\uD83D\uDE00\u000a""#), text("hé\"/😀\n"));
        assert_eq!(digest(r#""\b\f\n\r\t\\""#), text("\u{8}\u{c}\n\r\t\\"));
    }

    #[test]
    fn equal_numbers_in_two_places_do_not_show() {
        let pair: Vec<String> = serde_json::from_str(&digest("[7,7]")).unwrap();
        assert_ne!(pair[0], pair[1]);
        let pair: Vec<String> = serde_json::from_str(&digest(r#"["7","7"]"#)).unwrap();
        assert_eq!(pair[0], pair[1]);
    }

    #[test]
    fn a_pointer_is_escaped() {
        let expected = format!(r#"{{"a/b~c":{{"\u0064":{}}}}}"#, scalar(1, "/a~1b~0c/d", "1"));
        assert_eq!(digest(r#"{"a/b~c":{"\u0064":1}}"#), expected);
    }

    #[test]
    fn names_are_digested_when_asked() {
        let expected = format!(r#"{{{}:[{}]}}"#, text("é"), text("x"));
        assert_eq!(digest_as(r#"{"\u00e9":["x"]}"#, Names::Digested), expected);
    }

    #[test]
    fn what_is_no_json_becomes_one_leaf() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for raw in [
            "",
            "{",
            "hunter2",
            "{\"a\":\"hunter2\"",
            "[1,]",
            "\"\\ud800\"",
            "\"\\x\"",
            "1 2",
            "truely",
            deep.as_str(),
        ] {
            assert_eq!(digest(raw), text(raw), "{raw}");
        }
    }

    #[test]
    fn a_document_of_too_many_leaves_becomes_one() {
        let list = |leaves: usize| format!("[{}1]", "\"\",".repeat(leaves - 1));
        assert_eq!(digest(&list(LEAVES)).matches("hmac-sha256:").count(), LEAVES);
        let more = list(LEAVES + 1);
        assert_eq!(digest(&more), text(&more));
    }

    #[test]
    fn nothing_clear_stays_in_the_room() {
        let mut scratch = Scratch::default();
        let raw = br#"{"na\u006de":{"x":"hunt\u0065r2","n":1}}"#;
        digester().push_json(&mut Vec::new(), raw, Names::Clear, &mut scratch);
        assert!(scratch.text.is_empty() && scratch.pointer.is_empty());
    }
}
