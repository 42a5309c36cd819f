//! What differs between two states of a secret, key by key.

use kista::client::{Fields, JsonValue};
use kista::secret::SecretString;
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{self, Output, Sight},
};

/// The keys that differ, in the order of the new state, those that are gone last.
#[derive(Debug)]
pub(crate) struct Changes<'a>(Vec<Change<'a>>);

/// One key that differs.
#[derive(Debug)]
struct Change<'a> {
    key: &'a str,
    from: Option<&'a JsonValue>,
    to: Option<&'a JsonValue>,
}

/// Which keys of a secret differ, as `--json` tells it.
#[derive(Debug, Serialize)]
struct Changed<'a> {
    path: String,
    changes: Vec<Told<'a>>,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    key: &'a str,
    change: &'static str,
}

impl<'a> Changes<'a> {
    pub(crate) fn between(from: &'a Fields, to: &'a Fields) -> Self {
        let mut changes = Vec::new();
        for (key, new) in to.iter() {
            let old = from.get(key);
            if !old.is_some_and(|old| is_same(old, new)) {
                changes.push(Change { key, from: old, to: Some(new) });
            }
        }
        for (key, old) in from.iter() {
            if to.get(key).is_none() {
                changes.push(Change { key, from: Some(old), to: None });
            }
        }
        Self(changes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `+ KEY`, `- KEY` or `~ KEY`; with values where they are to be seen, `-` for the old one and
    /// `+` for the new one.
    pub(crate) fn lines(&self, sight: Sight) -> Vec<SecretString> {
        self.0.iter().flat_map(|change| change.lines(sight)).collect()
    }

    /// Tells a person which keys differ.
    pub(crate) fn note(&self) {
        for change in &self.0 {
            output::change(change.sign(), change.key);
        }
    }

    /// Tells what would change in a secret, and that it was not written.
    pub(crate) fn dry_run(&self, output: Output, path: &str) -> Result<(), Failure> {
        output.dry_run(&self.of(path), "written")
    }

    /// Tells that nothing changes in a secret; as JSON too.
    pub(crate) fn none(output: Output, path: &str, why: &str) -> Result<(), Failure> {
        output::note(why);
        if output.wants_json() {
            output.serialized(&Self(Vec::new()).of(path))?;
        }
        Ok(())
    }

    fn of(&self, path: &str) -> Changed<'_> {
        let changes = self.0.iter().map(|change| Told { key: change.key, change: change.word() });
        Changed { path: path.to_owned(), changes: changes.collect() }
    }

    /// The same as JSON, with `from` and `to` where values are to be seen.
    pub(crate) fn json(&self, sight: Sight) -> JsonValue {
        let each: Vec<JsonValue> = self.0.iter().map(|change| change.json(sight)).collect();
        JsonValue::list(&each)
    }
}

impl Change<'_> {
    fn sign(&self) -> char {
        match (self.from, self.to) {
            (None, _) => '+',
            (Some(_), None) => '-',
            (Some(_), Some(_)) => '~',
        }
    }

    fn word(&self) -> &'static str {
        match self.sign() {
            '+' => "added",
            '-' => "removed",
            _ => "changed",
        }
    }

    fn lines(&self, sight: Sight) -> Vec<SecretString> {
        let key = output::printable(self.key);
        if sight == Sight::Masked {
            return vec![SecretString::from_string(format!("{} {key}", self.sign()))];
        }
        let line = |sign: char, value: &JsonValue| {
            value.plain().expose(|text| {
                SecretString::from_string(format!("{sign} {key}={}", output::printable(text)))
            })
        };
        let old = self.from.map(|value| line('-', value));
        let new = self.to.map(|value| line('+', value));
        old.into_iter().chain(new).collect()
    }

    fn json(&self, sight: Sight) -> JsonValue {
        let text = |text: &str| JsonValue::string(&SecretString::copy_of(text));
        let mut object = Fields::new();
        object.set("key", text(self.key));
        object.set("change", text(self.word()));
        if sight == Sight::Shown {
            for (name, value) in [("from", self.from), ("to", self.to)] {
                if let Some(value) = value {
                    object.set(name, value.copy());
                }
            }
        }
        JsonValue::from(&object)
    }
}

/// Whether two values mean the same: spaces between their parts do not count, nor do the ways to
/// write a text.
pub(crate) fn is_same(one: &JsonValue, other: &JsonValue) -> bool {
    let is_text = |value: &JsonValue| value.expose_json(|json| json.starts_with('"'));
    if is_text(one) != is_text(other) {
        return false;
    }
    if is_text(one) {
        return one.plain().expose(|one| other.plain().expose(|other| one == other));
    }
    one.expose_json(|one| other.expose_json(|other| significant(one).eq(significant(other))))
}

/// The characters of a JSON text, but for the spaces outside its strings (RFC 8259 §2).
fn significant(json: &str) -> impl Iterator<Item = char> {
    let (mut in_string, mut escaped) = (false, false);
    json.chars().filter(move |char| {
        if in_string {
            in_string = escaped || *char != '"';
            escaped = !escaped && *char == '\\';
            return true;
        }
        in_string = *char == '"';
        !matches!(char, ' ' | '\t' | '\n' | '\r')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        serde_json::from_str(json).unwrap()
    }

    fn lines(from: &str, to: &str, sight: Sight) -> Vec<String> {
        let (from, to) = (fields(from), fields(to));
        let lines = Changes::between(&from, &to).lines(sight);
        lines.iter().map(|line| line.expose(str::to_owned)).collect()
    }

    #[test]
    fn each_key_that_differs_is_named_once() {
        let (from, to) = (r#"{"a":1,"b":"x","c":"y"}"#, r#"{"d":"z","b":"q","a":1}"#);
        assert_eq!(lines(from, to, Sight::Masked), ["+ d", "~ b", "- c"]);
        assert_eq!(lines(from, to, Sight::Shown), ["+ d=z", "- b=x", "+ b=q", "- c=y"]);
    }

    #[test]
    fn the_way_a_value_is_written_is_no_difference() {
        let (from, to) =
            (r#"{"a":{"k": [1, "x y"]},"b":"\u00e5"}"#, "{\"a\":{\"k\":[1,\"x y\"]},\"b\":\"å\"}");
        assert!(lines(from, to, Sight::Masked).is_empty());
        for (from, to) in [
            (r#"{"a":"x y"}"#, r#"{"a":"xy"}"#),
            (r#"{"a":["\\\" "]}"#, r#"{"a":["\\\""]}"#),
            (r#"{"a":1}"#, r#"{"a":"1"}"#),
            (r#"{"a":1.10}"#, r#"{"a":1.1}"#),
        ] {
            assert_eq!(lines(from, to, Sight::Masked), ["~ a"], "{from}");
        }
    }

    #[test]
    fn json_holds_values_only_where_they_are_to_be_seen() {
        let (from, to) = (fields(r#"{"a":"x"}"#), fields(r#"{"a":"y"}"#));
        let changes = Changes::between(&from, &to);
        let json = |sight| changes.json(sight).expose_json(str::to_owned);
        assert_eq!(json(Sight::Masked), r#"[{"key":"a","change":"changed"}]"#);
        assert_eq!(json(Sight::Shown), r#"[{"key":"a","change":"changed","from":"x","to":"y"}]"#);
    }
}
