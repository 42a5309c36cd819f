//! A scanner for JSON documents.
//!
//! [`check`] is asked before any other reader sees a body. It is stricter than RFC 8259 where two
//! readers could understand one text differently, and where depth costs stack: what passes here
//! means the same to everyone who reads it afterwards. Its errors show places, never content.

mod reshape;
#[cfg(test)]
mod tests;

pub use reshape::{merge_patch, skeleton};

use std::{cmp::Ordering, fmt, ops::Deref, str};

use zeroize::Zeroizing;

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number.
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

/// A document is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON at byte {offset}: {reason}")]
pub struct Error {
    /// Bytes before the place.
    pub offset: usize,
    /// What is wrong there.
    pub reason: Reason,
}

/// Why a document is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The bytes are not text.
    #[error("not UTF-8")]
    NotUtf8,
    /// The document stops in the middle; also one of blanks alone.
    #[error("unexpected end")]
    End,
    /// No value begins here.
    #[error("a value was expected")]
    ExpectedValue,
    /// No key begins here.
    #[error("a key in double quotes was expected")]
    ExpectedKey,
    /// A key without a colon.
    #[error("a colon was expected")]
    ExpectedColon,
    /// A value in an array or object is followed by something else.
    #[error("a comma or a closing bracket was expected")]
    ExpectedCommaOrClose,
    /// A string holds a bare control character.
    #[error("a control character in a string must be escaped")]
    ControlCharacter,
    /// A backslash that begins no escape.
    #[error("unknown escape in a string")]
    Escape,
    /// Half of a surrogate pair, which is no character.
    #[error("half of a surrogate pair")]
    LoneSurrogate,
    /// A number of another form than RFC 8259 §6.
    #[error("malformed number")]
    Number,
    /// Arrays and objects nested too deep.
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// A key that the same object has already, after unescaping.
    #[error("duplicate key")]
    DuplicateKey,
    /// Something follows the document.
    #[error("text after the end of the document")]
    Trailing,
}

/// Checks that `bytes` are one JSON document (RFC 8259) in UTF-8, nested at most [`MAX_DEPTH`]
/// deep, without duplicate keys (compared unescaped) and without lone surrogates, and says what it
/// is. Memory: 24 bytes for each key of the objects that enclose the present place.
///
/// # Errors
/// [`Error`] with the first place that is wrong; for a duplicate key, its second occurrence.
pub fn check(bytes: &[u8]) -> Result<Kind, Error> {
    let text = str::from_utf8(bytes)
        .map_err(|error| Error { offset: error.valid_up_to(), reason: Reason::NotUtf8 })?;
    let mut scanner = Scanner::new(text);
    scanner.skip_blanks();
    let kind = match scanner.peek() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'n') => Kind::Null,
        _ => Kind::Number,
    };
    scanner.document()?;
    scanner.skip_blanks();
    match scanner.peek() {
        None => Ok(kind),
        Some(_) => Err(scanner.error(Reason::Trailing)),
    }
}

/// Takes apart an array or object that has passed [`check`], one level deep. Another document has
/// no parts.
pub fn parts(document: &str) -> Parts<'_> {
    let mut scanner = Scanner::new(document);
    scanner.skip_blanks();
    let close = match scanner.peek() {
        Some(b'{') => b'}',
        Some(b'[') => b']',
        _ => return Parts { scanner, close: None },
    };
    scanner.at += 1;
    Parts { scanner, close: Some(close) }
}

/// The parts of an array or object in their order: the key, if it is an object, and the raw value.
#[derive(Debug)]
pub struct Parts<'a> {
    scanner: Scanner<'a>,
    close: Option<u8>,
}

impl<'a> Iterator for Parts<'a> {
    type Item = (Option<Text<'a>>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let close = self.close?;
        let scanner = &mut self.scanner;
        scanner.skip_blanks();
        if scanner.peek() == Some(b',') {
            scanner.at += 1;
            scanner.skip_blanks();
        }
        let mut key = None;
        if close == b'}' && scanner.peek() == Some(b'"') {
            scanner.key().ok()?;
            key = scanner.keys.pop().map(|key| Text::of(key.raw, key.escaped));
            scanner.skip_blanks();
        }
        let start = scanner.at;
        // At the closing bracket there is no value to read.
        scanner.document().ok()?;
        Some((key, scanner.text.get(start..scanner.at)?))
    }
}

/// Reads a raw string that has passed [`check`]; `None` when the value is no string.
pub fn text(raw: &str) -> Option<Text<'_>> {
    let inner = raw.trim_matches(BLANKS).strip_prefix('"')?.strip_suffix('"')?;
    Some(Text::of(inner, inner.contains('\\')))
}

/// What a string says: borrowed where it is written without escapes, else a copy that is wiped
/// when dropped. It does not print itself.
pub struct Text<'a>(Spelling<'a>);

enum Spelling<'a> {
    Plain(&'a str),
    Escaped(Zeroizing<String>),
}

impl<'a> Text<'a> {
    fn of(raw: &'a str, escaped: bool) -> Self {
        if !escaped {
            return Self(Spelling::Plain(raw));
        }
        // No escape is shorter than what it stands for, so that the copy never moves.
        let mut text = Zeroizing::new(String::with_capacity(raw.len()));
        text.extend(unescaped(raw));
        Self(Spelling::Escaped(text))
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Spelling::Plain(text) => text,
            Spelling::Escaped(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[text]")
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    open: Vec<Open>,
    /// Keys of all open objects; each object owns those from its first on.
    keys: Vec<Key<'a>>,
}

/// An array or object whose end has not come yet.
#[derive(Clone, Copy)]
enum Open {
    Array,
    Object { first_key: usize },
}

/// What follows what has just been read.
enum Next {
    Value,
    AfterValue,
}

impl fmt::Debug for Scanner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[scanner at byte {}]", self.at)
    }
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, open: Vec::new(), keys: Vec::new() }
    }

    /// Reads one value, iteratively: the nesting lives in `open`, not on the stack.
    fn document(&mut self) -> Result<(), Error> {
        let mut next = Next::Value;
        loop {
            next = match next {
                Next::Value => self.value()?,
                Next::AfterValue => match self.open.last() {
                    None => return Ok(()),
                    Some(&open) => self.after_value(open)?,
                },
            };
        }
    }

    /// Reads a scalar, an empty array or object, or the beginning of another up to its first value.
    fn value(&mut self) -> Result<Next, Error> {
        self.skip_blanks();
        match self.peek() {
            Some(b'"') => {
                self.string()?;
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal(b"true")?,
            Some(b'f') => self.literal(b"false")?,
            Some(b'n') => self.literal(b"null")?,
            Some(b'[') => {
                self.enter(Open::Array)?;
                if self.peek() != Some(b']') {
                    return Ok(Next::Value);
                }
                self.leave();
            }
            Some(b'{') => {
                self.enter(Open::Object { first_key: self.keys.len() })?;
                if self.peek() != Some(b'}') {
                    return self.key();
                }
                self.leave();
            }
            _ => return Err(self.unexpected(Reason::ExpectedValue)),
        }
        Ok(Next::AfterValue)
    }

    fn after_value(&mut self, open: Open) -> Result<Next, Error> {
        self.skip_blanks();
        match (open, self.peek()) {
            (Open::Array, Some(b',')) => {
                self.at += 1;
                Ok(Next::Value)
            }
            (Open::Object { .. }, Some(b',')) => {
                self.at += 1;
                self.skip_blanks();
                self.key()
            }
            (Open::Array, Some(b']')) => {
                self.leave();
                Ok(Next::AfterValue)
            }
            (Open::Object { first_key }, Some(b'}')) => {
                self.refuse_duplicates(first_key)?;
                self.leave();
                Ok(Next::AfterValue)
            }
            _ => Err(self.unexpected(Reason::ExpectedCommaOrClose)),
        }
    }

    fn enter(&mut self, open: Open) -> Result<(), Error> {
        if self.open.len() == MAX_DEPTH {
            return Err(self.error(Reason::TooDeep));
        }
        self.open.push(open);
        self.at += 1;
        self.skip_blanks();
        Ok(())
    }

    fn leave(&mut self) {
        self.open.pop();
        self.at += 1;
    }

    /// Reads a key and its colon.
    fn key(&mut self) -> Result<Next, Error> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected(Reason::ExpectedKey));
        }
        let key = self.string()?;
        self.keys.push(key);
        self.skip_blanks();
        if self.peek() != Some(b':') {
            return Err(self.unexpected(Reason::ExpectedColon));
        }
        self.at += 1;
        Ok(Next::Value)
    }

    /// Drops the keys from `first_key` on, all of one object, and refuses two that are equal.
    fn refuse_duplicates(&mut self, first_key: usize) -> Result<(), Error> {
        let keys = self.keys.get_mut(first_key..).unwrap_or_default();
        keys.sort_unstable();
        let twins = keys.windows(2).filter_map(|pair| match pair {
            [a, b] if a == b => Some(a.offset.max(b.offset)),
            _ => None,
        });
        if let Some(offset) = twins.min() {
            return Err(Error { offset, reason: Reason::DuplicateKey });
        }
        self.keys.truncate(first_key);
        Ok(())
    }

    /// Reads a string from its opening to its closing quote.
    fn string(&mut self) -> Result<Key<'a>, Error> {
        let opening = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            self.skip_plain();
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.error(Reason::ControlCharacter)),
                None => return Err(self.error(Reason::End)),
            }
        }
        let raw = self.text.get(opening + 1..self.at).unwrap_or_default();
        self.at += 1;
        Ok(Key { raw, escaped, offset: opening })
    }

    /// Goes on to the next byte that ends or interrupts a string.
    fn skip_plain(&mut self) {
        let rest = self.bytes().get(self.at..).unwrap_or_default();
        let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
        // Whole blocks first, without a branch for each byte: the compiler makes vectors of it.
        let clean = rest
            .chunks_exact(BLOCK_BYTES)
            .take_while(|block| block.iter().fold(true, |clean, &byte| clean & plain(byte)))
            .count()
            * BLOCK_BYTES;
        let tail = rest.get(clean..).unwrap_or_default();
        self.at += clean + tail.iter().position(|&byte| !plain(byte)).unwrap_or(tail.len());
    }

    fn escape(&mut self) -> Result<(), Error> {
        let start = self.at;
        let at_start = |reason| Error { offset: start, reason };
        match self.bytes().get(start + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let unit = hex_unit(self.bytes(), start).ok_or(at_start(Reason::Escape))?;
                self.at += 6;
                if HIGH_SURROGATES.contains(&unit) {
                    let low = hex_unit(self.bytes(), self.at);
                    if !low.is_some_and(|low| LOW_SURROGATES.contains(&low)) {
                        return Err(at_start(Reason::LoneSurrogate));
                    }
                    self.at += 6;
                } else if LOW_SURROGATES.contains(&unit) {
                    return Err(at_start(Reason::LoneSurrogate));
                }
            }
            Some(_) => return Err(at_start(Reason::Escape)),
            None => return Err(Error { offset: self.bytes().len(), reason: Reason::End }),
        }
        Ok(())
    }

    /// Reads a number as RFC 8259 §6 has it.
    fn number(&mut self) -> Result<(), Error> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected(Reason::Number)) } else { Ok(()) }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Error> {
        let rest = self.bytes().get(self.at..).unwrap_or_default();
        if rest.starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        let reason = if word.starts_with(rest) { Reason::End } else { Reason::ExpectedValue };
        Err(self.error(reason))
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    fn error(&self, reason: Reason) -> Error {
        Error { offset: self.at, reason }
    }

    /// `reason`, or the unexpected end when that has been reached.
    fn unexpected(&self, reason: Reason) -> Error {
        self.error(if self.peek().is_some() { reason } else { Reason::End })
    }
}

/// A key as it is written, ordered and compared as it is meant.
struct Key<'a> {
    raw: &'a str,
    escaped: bool,
    offset: usize,
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.escaped || other.escaped {
            unescaped(self.raw).cmp(unescaped(other.raw))
        } else {
            self.raw.cmp(other.raw)
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key<'_> {}

/// The characters of a checked string. Their order is that of UTF-8 bytes, so that escaped and
/// plain keys have one order.
fn unescaped(raw: &str) -> impl Iterator<Item = char> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut rest = raw.get(at..)?.chars();
        let first = rest.next()?;
        if first != '\\' {
            at += first.len_utf8();
            return Some(first);
        }
        let simple = match rest.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = hex_unit(raw.as_bytes(), at)?;
                at += 6;
                let mut code = u32::from(high);
                if HIGH_SURROGATES.contains(&high) {
                    let low = hex_unit(raw.as_bytes(), at)?;
                    at += 6;
                    code = 0x1_0000 + ((code - 0xd800) << 10) + (u32::from(low) - 0xdc00);
                }
                return char::from_u32(code);
            }
            itself => itself,
        };
        at += 2;
        Some(simple)
    })
}

/// The UTF-16 unit of `\uXXXX` at `at`.
fn hex_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let [b'\\', b'u', digits @ ..] = bytes.get(at..at + 6)? else { return None };
    digits.iter().try_fold(0u16, |unit, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).ok()?)
    })
}

/// The deepest nesting of arrays and objects; a scalar has depth 0.
pub const MAX_DEPTH: usize = 64;

const BLANKS: [char; 4] = [' ', '\n', '\r', '\t'];
const BLOCK_BYTES: usize = 32;
const HIGH_SURROGATES: std::ops::Range<u16> = 0xd800..0xdc00;
const LOW_SURROGATES: std::ops::Range<u16> = 0xdc00..0xe000;
