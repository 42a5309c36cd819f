//! A secret as text that a person edits. What is wrong with a text is told by its line, and never
//! quoted.

use clap::ValueEnum;
use kista::{
    client::{Fields, JsonValue},
    secret::SecretString,
};
use serde_json::error::Category;

use crate::{
    failure::{Exit, Failure},
    quoting,
    yaml::{self, YamlError},
};

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// An object, a key on each line.
    Json,
    /// A mapping, a key on each line or on several; comments are for you and are not kept.
    Yaml,
    /// KEY=VALUE on each line; in double quotes as in JSON, in single quotes as it is.
    Env,
}

/// What is wrong with a text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mistake {
    #[error("line {0}, column {1}: this is not JSON")]
    NotJson(usize, usize),
    #[error("it ends before its time: a bracket or a quote is missing")]
    Unfinished,
    #[error(transparent)]
    Yaml(#[from] YamlError),
    #[error("it is not one object of keys and values")]
    NoObject,
    #[error("the key {0} is there twice")]
    Twice(String),
    #[error("a key is empty")]
    EmptyKey,
    #[error("line {0}: this is not KEY=VALUE")]
    NoAssignment(usize),
    #[error("line {0}: the quotes are not closed, or something follows them")]
    Quotes(usize),
}

impl Form {
    /// What such files end in, by which editors know them.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Env => "env",
        }
    }

    /// Writes a secret as text.
    pub(super) fn write(self, fields: &Fields) -> Result<SecretString, Failure> {
        // Each line is as long as its key and value in JSON, and a few signs.
        let mut text = String::with_capacity(fields.to_json().len() + 16 * fields.len() + 256);
        match self {
            Self::Json => write_json(fields, &mut text),
            Self::Yaml => write_yaml(fields, &mut text),
            Self::Env => {
                for (key, value) in fields.iter() {
                    write_line(key, value, &mut text)?;
                }
                if fields.is_empty() {
                    text.push_str("# KEY=VALUE\n");
                }
            }
        }
        Ok(SecretString::from_string(text))
    }

    /// Reads a secret from text.
    pub(super) fn read(self, text: &SecretString) -> Result<Fields, Mistake> {
        let fields = text.expose(|text| match self {
            Self::Json => read_json(text),
            Self::Yaml => yaml::parse(text)?.expose_json(read_json).map_err(|_| Mistake::NoObject),
            Self::Env => read_lines(text),
        })?;
        for (n, (key, _)) in fields.iter().enumerate() {
            if key.is_empty() {
                return Err(Mistake::EmptyKey);
            }
            if fields.iter().take(n).any(|(earlier, _)| earlier == key) {
                return Err(Mistake::Twice(key.to_owned()));
            }
        }
        Ok(fields)
    }
}

fn write_json(fields: &Fields, text: &mut String) {
    text.push('{');
    for (n, (key, value)) in fields.iter().enumerate() {
        text.push_str(if n == 0 { "\n  " } else { ",\n  " });
        push_json(text, key);
        text.push_str(": ");
        value.expose_json(|json| text.push_str(json));
    }
    text.push_str(if fields.is_empty() { "}\n" } else { "\n}\n" });
}

fn write_yaml(fields: &Fields, text: &mut String) {
    for (key, value) in fields.iter() {
        let key = JsonValue::string(&SecretString::copy_of(key));
        quoting::yaml(&key).expose(|key| text.push_str(key));
        text.push(':');
        let is_block = value.expose_json(|json| json.starts_with('"'))
            && value.plain().expose(|lines| push_block(text, lines));
        if !is_block {
            text.push(' ');
            quoting::yaml(value).expose(|value| text.push_str(value));
            text.push('\n');
        }
    }
    if fields.is_empty() {
        text.push_str("{}\n");
    }
}

/// Writes lines as a literal block (YAML 1.2.2 §8.1.2), where they come back from one as they were.
fn push_block(text: &mut String, lines: &str) -> bool {
    let body = lines.strip_suffix('\n').unwrap_or(lines);
    let is_plain =
        |char: char| char == '\n' || (char >= ' ' && !char.is_control() && !is_break(char));
    let is_fit = body.contains('\n')
        && body.chars().all(is_plain)
        && body.lines().next().is_some_and(|first| !first.is_empty() && !first.starts_with(' '))
        && !body.ends_with('\n');
    if !is_fit {
        return false;
    }
    text.push_str(if lines.ends_with('\n') { " |\n" } else { " |-\n" });
    for line in body.split('\n') {
        if !line.is_empty() {
            text.push_str("  ");
            text.push_str(line);
        }
        text.push('\n');
    }
    true
}

/// What YAML 1.1 took for a line break, or a mark of the byte order.
fn is_break(char: char) -> bool {
    matches!(char, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn write_line(key: &str, value: &JsonValue, text: &mut String) -> Result<(), Failure> {
    if !value.expose_json(|json| json.starts_with('"')) {
        return Err(unfit(format!("the value of {key} is no text")));
    }
    if key.starts_with('#') || key.contains(['=', '\n', '\r']) || key.trim() != key {
        return Err(unfit(format!("the key {key:?} cannot stand before '='")));
    }
    text.push_str(key);
    text.push('=');
    value.plain().expose(|value| match value.bytes().all(is_bare) {
        true => text.push_str(value),
        false => push_json(text, value),
    });
    text.push('\n');
    Ok(())
}

fn unfit(why: String) -> Failure {
    Failure::new(why).hint("edit it with --format json").exit(Exit::Usage)
}

/// What needs no quotes in any reader of such files.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./:@%+,=".contains(&byte)
}

fn push_json(text: &mut String, value: &str) {
    JsonValue::string(&SecretString::copy_of(value)).expose_json(|json| text.push_str(json));
}

fn read_json(text: &str) -> Result<Fields, Mistake> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Eof => Mistake::Unfinished,
        Category::Syntax => Mistake::NotJson(error.line(), error.column()),
        Category::Data | Category::Io => Mistake::NoObject,
    })
}

fn read_lines(text: &str) -> Result<Fields, Mistake> {
    let mut pairs = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let (number, line) = (n + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or(Mistake::NoAssignment(number))?;
        pairs.push((key.trim(), read_value(value.trim(), number)?));
    }
    let mut fields = Fields::new();
    for (n, (key, value)) in pairs.iter().enumerate() {
        // Setting a key again would replace its value unsaid.
        if pairs.iter().take(n).any(|(earlier, _)| earlier == key) {
            return Err(Mistake::Twice((*key).to_owned()));
        }
        fields.set(key, JsonValue::string(value));
    }
    Ok(fields)
}

fn read_value(value: &str, line: usize) -> Result<SecretString, Mistake> {
    match value.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(value)
            .map(SecretString::from_string)
            .map_err(|_| Mistake::Quotes(line)),
        Some(b'\'') => value
            .strip_prefix('\'')
            .and_then(|rest| rest.strip_suffix('\''))
            .filter(|inside| !inside.contains('\''))
            .map(SecretString::copy_of)
            .ok_or(Mistake::Quotes(line)),
        Some(_) | None => Ok(SecretString::copy_of(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        serde_json::from_str(json).unwrap()
    }

    fn read(form: Form, text: &str) -> Result<String, Mistake> {
        let fields = form.read(&SecretString::copy_of(text))?;
        Ok(fields.to_json().expose(|json| String::from_utf8_lossy(json).into_owned()))
    }

    #[test]
    fn json_comes_back_with_every_value_as_it_was() {
        let json = r#"{"a":"x\ny","n":1.10,"o":{"k":[1,null]}}"#;
        let text = Form::Json.write(&fields(json)).unwrap();
        assert!(text.expose(|text| text.starts_with("{\n  \"a\": \"x\\ny\",\n  \"n\": 1.10,\n")));
        assert_eq!(text.expose(|text| read(Form::Json, text)), Ok(json.to_owned()));
        let empty = Form::Json.write(&Fields::new()).unwrap();
        assert_eq!(empty.expose(|text| read(Form::Json, text)), Ok("{}".to_owned()));
    }

    #[test]
    fn lines_come_back_whatever_the_texts_hold() {
        let json = r##"{"URL":"postgres://u@h/db","P":"a \"b\"\n'c' #d $e \\","E":""}"##;
        let text = Form::Env.write(&fields(json)).unwrap();
        assert!(text.expose(|text| text.starts_with("URL=postgres://u@h/db\nP=\"")));
        assert_eq!(text.expose(|text| read(Form::Env, text)), Ok(json.to_owned()));
        assert_eq!(
            read(Form::Env, "# note\n\n A = x y \nB='\\n$'\n"),
            Ok(r#"{"A":"x y","B":"\\n$"}"#.to_owned())
        );
        for (key, value) in [("n", "1"), ("o", "{}")] {
            assert!(Form::Env.write(&fields(&format!(r#"{{"{key}":{value}}}"#))).is_err());
        }
    }

    #[test]
    fn yaml_comes_back_with_every_value_as_it_was() {
        let json = r#"{"a":"x\ny","b":"x\n\n y\n","n":1.10,"no":"no","o":{"k":[1,null]},"p":" a\nb","q":"a\nb\n\n","r":"a\r\nb","s":"\n","t":"a\n\tb # c","e":""}"#;
        let text = Form::Yaml.write(&fields(json)).unwrap();
        text.expose(|text| {
            assert!(
                text.starts_with("\"a\": |-\n  x\n  y\n\"b\": |\n  x\n\n   y\n\"n\": 1.10\n"),
                "{text}"
            );
            assert_eq!(read(Form::Yaml, text), Ok(json.to_owned()), "{text}");
        });
        let empty = Form::Yaml.write(&Fields::new()).unwrap();
        assert_eq!(empty.expose(|text| read(Form::Yaml, text)), Ok("{}".to_owned()));
    }

    #[test]
    fn a_mistake_is_told_by_its_line_and_not_quoted() {
        for (form, text, mistake) in [
            (Form::Json, "{\n  \"a\": planted\n}", Mistake::NotJson(2, 8)),
            (Form::Json, "{\"a\":\"planted", Mistake::Unfinished),
            (Form::Json, "\"planted\"", Mistake::NoObject),
            (Form::Json, r#"{"a":1,"a":2}"#, Mistake::Twice("a".to_owned())),
            (Form::Json, r#"{"":1}"#, Mistake::EmptyKey),
            (Form::Env, "A=1\nplanted\n", Mistake::NoAssignment(2)),
            (Form::Env, "A=\"planted", Mistake::Quotes(1)),
            (Form::Env, "A='pl'anted'", Mistake::Quotes(1)),
            (Form::Env, "A=1\nA=2", Mistake::Twice("A".to_owned())),
            (Form::Env, "=1", Mistake::EmptyKey),
            (Form::Yaml, "- planted", Mistake::NoObject),
            (Form::Yaml, "a: &planted 1\nb: *planted", Mistake::Yaml(YamlError::Alias(2))),
            (Form::Yaml, "a: 1\na: planted", Mistake::Yaml(YamlError::Twice(2, "a".to_owned()))),
        ] {
            let found = read(form, text).unwrap_err();
            assert!(!found.to_string().contains("planted"), "{found}");
            assert_eq!(found, mistake, "{text}");
        }
    }
}
