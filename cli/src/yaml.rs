//! Reading YAML as the JSON that a secret holds.
//!
//! Scalars follow YAML's core schema (YAML 1.2.2 §10.3.2), and keep their spelling: `1.10` stays
//! `1.10`, `no` is a text, and a number that JSON cannot spell, such as `0123` or `0x1f`, is the text
//! that was typed. Aliases and tags of other programs are refused: what stands in the file is what
//! becomes a secret.

use kista::{client::JsonValue, secret::SecretString};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

/// Why a text is not taken. Nothing of it is quoted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum YamlError {
    #[error("line {0}, column {1}: this is not YAML")]
    NotYaml(usize, usize),
    #[error("line {0}: an alias is not followed: write the value itself")]
    Alias(usize),
    #[error("line {0}: a tag such as !name is not understood: write the plain value")]
    Tag(usize),
    #[error("line {0}: a key is a text, not a list or a mapping")]
    Key(usize),
    #[error("line {0}: the key {1} is there twice")]
    Twice(usize, String),
    #[error("line {0}: a second document begins, and one is taken")]
    Second(usize),
    #[error("line {0}: it is nested more than {DEPTH} deep")]
    Depth(usize),
    #[error("it is empty")]
    Empty,
}

/// Reads one document.
pub(crate) fn parse(text: &str) -> Result<JsonValue, YamlError> {
    let mut writer = Writer { json: String::with_capacity(2 * text.len()), open: Vec::new() };
    let mut has_document = false;
    for event in Parser::new_from_str(text) {
        let (event, span) = event
            .map_err(|error| YamlError::NotYaml(error.marker().line(), error.marker().col() + 1))?;
        if matches!(event, Event::DocumentStart(_)) {
            if has_document {
                return Err(YamlError::Second(span.start.line()));
            }
            has_document = true;
        }
        writer.take(&event, span)?;
    }
    if writer.json.is_empty() {
        return Err(YamlError::Empty);
    }
    JsonValue::parse(SecretString::from_string(writer.json)).map_err(|_| YamlError::NotYaml(1, 1))
}

/// Writes JSON as the events of a document come.
struct Writer {
    json: String,
    open: Vec<Open>,
}

/// A list or a mapping whose end has not come.
enum Open {
    List { is_empty: bool },
    Mapping { keys: Vec<String>, awaits_value: bool },
}

impl Writer {
    fn take(&mut self, event: &Event<'_>, span: Span) -> Result<(), YamlError> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, _, tag) => self.scalar(text, *style, tag.as_deref(), line),
            Event::SequenceStart(_, tag) => {
                self.begin(tag.as_deref(), "seq", line)?;
                self.json.push('[');
                self.open.push(Open::List { is_empty: true });
                Ok(())
            }
            Event::MappingStart(_, tag) => {
                self.begin(tag.as_deref(), "map", line)?;
                self.json.push('{');
                self.open.push(Open::Mapping { keys: Vec::new(), awaits_value: false });
                Ok(())
            }
            Event::SequenceEnd => {
                self.open.pop();
                self.json.push(']');
                Ok(())
            }
            Event::MappingEnd => {
                self.open.pop();
                self.json.push('}');
                Ok(())
            }
            Event::Alias(_) => Err(YamlError::Alias(line)),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    /// Makes room for a list or a mapping.
    fn begin(&mut self, tag: Option<&Tag>, kind: &str, line: usize) -> Result<(), YamlError> {
        if tag.is_some_and(|tag| !(tag.is_yaml_core_schema() && tag.suffix == kind)) {
            return Err(YamlError::Tag(line));
        }
        if self.open.len() == DEPTH {
            return Err(YamlError::Depth(line));
        }
        if self.is_at_key() {
            return Err(YamlError::Key(line));
        }
        self.separate();
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        line: usize,
    ) -> Result<(), YamlError> {
        let is_text = match tag {
            None => style != ScalarStyle::Plain,
            Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
                "str" => true,
                "null" | "bool" | "int" | "float" => false,
                _ => return Err(YamlError::Tag(line)),
            },
            // The tag `!` alone: a text (YAML 1.2.2 §6.9.1).
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => true,
            Some(_) => return Err(YamlError::Tag(line)),
        };
        if self.is_at_key() {
            return self.key(text, line);
        }
        self.separate();
        match (is_text, text) {
            (false, "" | "~" | "null" | "Null" | "NULL") => self.json.push_str("null"),
            (false, "true" | "True" | "TRUE") => self.json.push_str("true"),
            (false, "false" | "False" | "FALSE") => self.json.push_str("false"),
            (false, number) if is_json_number(number) => self.json.push_str(number),
            (_, text) => self.push_text(text),
        }
        Ok(())
    }

    fn key(&mut self, text: &str, line: usize) -> Result<(), YamlError> {
        if let Some(Open::Mapping { keys, awaits_value }) = self.open.last_mut() {
            if keys.iter().any(|key| key == text) {
                return Err(YamlError::Twice(line, text.to_owned()));
            }
            if !keys.is_empty() {
                self.json.push(',');
            }
            keys.push(text.to_owned());
            *awaits_value = true;
        }
        self.push_text(text);
        self.json.push(':');
        Ok(())
    }

    fn is_at_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Mapping { awaits_value: false, .. }))
    }

    /// Writes what stands before a value.
    fn separate(&mut self) {
        match self.open.last_mut() {
            Some(Open::List { is_empty }) => {
                if !*is_empty {
                    self.json.push(',');
                }
                *is_empty = false;
            }
            Some(Open::Mapping { awaits_value, .. }) => *awaits_value = false,
            None => {}
        }
    }

    fn push_text(&mut self, text: &str) {
        let text = JsonValue::string(&SecretString::copy_of(text));
        text.expose_json(|json| self.json.push_str(json));
    }
}

/// Whether JSON spells a number so too (RFC 8259 §6).
fn is_json_number(text: &str) -> bool {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && text.ends_with(|last: char| last.is_ascii_digit())
        && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

/// As deep as the server takes JSON.
const DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        let value = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        value.expose_json(str::to_owned)
    }

    #[test]
    fn values_keep_their_spelling() {
        for (yaml, expected) in [
            ("a: 1.10", r#"{"a":1.10}"#),
            ("a: 12345678901234567890123", r#"{"a":12345678901234567890123}"#),
            ("a: 0123", r#"{"a":"0123"}"#),
            ("a: 0x1f", r#"{"a":"0x1f"}"#),
            ("a: +1", r#"{"a":"+1"}"#),
            ("a: .inf", r#"{"a":".inf"}"#),
            ("a: 1e3", r#"{"a":1e3}"#),
            ("a: no\nb: on\nc: 2026-11-25", r#"{"a":"no","b":"on","c":"2026-11-25"}"#),
            ("a: ~\nb:\nc: null", r#"{"a":null,"b":null,"c":null}"#),
            ("a: true\nb: 'true'\nc: \"1\"", r#"{"a":true,"b":"true","c":"1"}"#),
            ("a: !!str 1", r#"{"a":"1"}"#),
            ("a: |\n  x\n  y\n", r#"{"a":"x\ny\n"}"#),
            ("a: >-\n  x\n  y\n", r#"{"a":"x y"}"#),
            ("1: x\ntrue: y", r#"{"1":"x","true":"y"}"#),
            ("# said\n---\n- a\n- [1, {b: c}]\n- {}\n- []\n", r#"["a",[1,{"b":"c"}],{},[]]"#),
            ("\"å\": 'it''s'", r#"{"å":"it's"}"#),
            ("{\"a\": {\"b\": [1, null]}}", r#"{"a":{"b":[1,null]}}"#),
            ("&x a: 1", r#"{"a":1}"#),
        ] {
            assert_eq!(json(yaml), expected, "{yaml:?}");
        }
    }

    #[test]
    fn what_is_not_taken_is_named_by_its_line_and_not_quoted() {
        for (yaml, error) in [
            ("", YamlError::Empty),
            ("# only\n", YamlError::Empty),
            ("a: &x planted\nb: *x", YamlError::Alias(2)),
            ("a: 1\nb: !vault planted", YamlError::Tag(2)),
            ("a: !!binary cGxhbnRlZA==", YamlError::Tag(1)),
            ("? [a]\n: 1", YamlError::Key(1)),
            ("a: 1\nb: 2\na: 3", YamlError::Twice(3, "a".to_owned())),
            ("a: 1\n---\nb: 2", YamlError::Second(2)),
        ] {
            let found = parse(yaml).unwrap_err();
            assert!(!found.to_string().contains("planted"), "{found}");
            assert_eq!(found, error, "{yaml:?}");
        }
        let broken = parse("a: 1\nb: \"planted\nc: [").unwrap_err();
        assert!(matches!(broken, YamlError::NotYaml(2.., _)), "{broken}");
        assert_eq!(parse(&"[".repeat(65)).unwrap_err(), YamlError::Depth(1));
    }

    #[test]
    fn our_own_yaml_is_read_back() {
        let value = r#"{"a":"x: y # z\n","b":[1.10,null,"no"],"c":{"d":"\u0085"}}"#;
        let value = JsonValue::parse(SecretString::copy_of(value)).unwrap();
        let written = crate::quoting::yaml(&value).expose(json);
        assert_eq!(
            written,
            "{\"a\":\"x: y # z\\n\",\"b\":[1.10,null,\"no\"],\"c\":{\"d\":\"\u{85}\"}}"
        );
    }
}
