//! New documents out of others: merge patches and skeletons. What is taken over keeps its spelling.
//!
//! Each document is read once: time grows with its length alone, however deep it is.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{Key, MAX_DEPTH, Scanner};

/// Applies a merge patch (RFC 7396) to a document. Both have passed [`check`](super::check); what
/// comes out would pass it too. Members of `target` keep their places, new ones follow in the
/// patch's order, and every value and key that is taken over is spelled as it was. A target that is
/// no object counts as an empty one where the patch is an object. Memory: some 150 bytes for each
/// key.
pub fn merge_patch(target: &str, patch: &str) -> Zeroizing<String> {
    // Whatever is written comes from one of the two, so that the text never moves.
    let mut out = Zeroizing::new(String::with_capacity(target.len() + patch.len()));
    write_merged(&mut out, &Value::read(target), &Value::read(patch));
    out
}

/// What a document's objects are made of, without any value: objects stay, down to `depth` levels
/// of keys, and everything else is `null`, an empty object inside too. The document has passed
/// [`check`](super::check). `null` when it is no object.
pub fn skeleton(document: &str, depth: usize) -> Zeroizing<String> {
    // A member has five bytes at least, and three more where its value becomes `null`.
    let mut out = Zeroizing::new(String::with_capacity(document.len() * 2 + NULL.len()));
    let value = Value::read(document);
    if value.members.as_ref().is_some_and(Vec::is_empty) {
        out.push_str("{}");
    } else {
        write_skeleton(&mut out, &value, depth);
    }
    out
}

const NULL: &str = "null";

/// A document taken apart as far as objects lie in objects.
struct Value<'a> {
    /// As it is written.
    text: &'a str,
    /// Of an object.
    members: Option<Vec<(Key<'a>, Self)>>,
}

impl<'a> Value<'a> {
    const EMPTY: Self = Self { text: "{}", members: None };

    /// Reads a document that has passed the check; of another one it reads what it can.
    fn read(document: &'a str) -> Self {
        Self::next(&mut Scanner::new(document), 0)
    }

    /// Recursive: a document that has passed the check is at most [`MAX_DEPTH`] deep.
    fn next(scanner: &mut Scanner<'a>, depth: usize) -> Self {
        scanner.skip_blanks();
        let start = scanner.at;
        let mut members = None;
        if scanner.peek() == Some(b'{') && depth < MAX_DEPTH {
            members = Some(Self::members(scanner, depth + 1));
        } else if scanner.document().is_err() {
            return Self { text: NULL, members };
        }
        Self { text: scanner.text.get(start..scanner.at).unwrap_or(NULL), members }
    }

    fn members(scanner: &mut Scanner<'a>, depth: usize) -> Vec<(Key<'a>, Self)> {
        let mut members = Vec::new();
        loop {
            // Past the brace or the comma.
            scanner.at += 1;
            scanner.skip_blanks();
            if scanner.key().is_ok()
                && let Some(key) = scanner.keys.pop()
            {
                members.push((key, Self::next(scanner, depth)));
            }
            scanner.skip_blanks();
            if scanner.peek() != Some(b',') {
                scanner.at += 1;
                return members;
            }
        }
    }
}

fn write_merged(out: &mut String, target: &Value<'_>, patch: &Value<'_>) {
    let Some(changes) = &patch.members else {
        out.push_str(patch.text);
        return;
    };
    // By key, since each member of a large target asks for its own.
    let mut left: BTreeMap<_, _> = changes.iter().map(|(key, change)| (key, change)).collect();
    let mut object = ObjectWriter::begin(out);
    for (key, value) in target.members.iter().flatten() {
        match left.remove(key) {
            None => object.member(key).push_str(value.text),
            Some(change) if change.text == NULL => {}
            Some(change) => write_merged(object.member(key), value, change),
        }
    }
    for (key, change) in changes {
        if left.contains_key(key) && change.text != NULL {
            // A value that comes anew has its own nulls taken out.
            write_merged(object.member(key), &Value::EMPTY, change);
        }
    }
    object.end();
}

fn write_skeleton(out: &mut String, value: &Value<'_>, depth: usize) {
    match &value.members {
        Some(members) if depth > 0 && !members.is_empty() => {
            let mut object = ObjectWriter::begin(out);
            for (key, value) in members {
                write_skeleton(object.member(key), value, depth - 1);
            }
            object.end();
        }
        Some(_) | None => out.push_str(NULL),
    }
}

/// Writes an object member by member.
struct ObjectWriter<'o> {
    out: &'o mut String,
    is_first: bool,
}

impl<'o> ObjectWriter<'o> {
    fn begin(out: &'o mut String) -> Self {
        out.push('{');
        Self { out, is_first: true }
    }

    /// Writes a key and lends the text, for its value to be written.
    fn member(&mut self, key: &Key<'_>) -> &mut String {
        self.out.push_str(if self.is_first { "\"" } else { ",\"" });
        self.is_first = false;
        self.out.push_str(key.raw);
        self.out.push_str("\":");
        self.out
    }

    fn end(self) {
        self.out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::TestCaseError};
    use serde_json::Value;

    use super::{super::tests::documents, *};

    fn merged(target: &str, patch: &str) -> String {
        merge_patch(target, patch).to_string()
    }

    #[test]
    fn the_examples_of_rfc_7396_come_out() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merged(target, patch), result, "{target} with {patch}");
        }
    }

    #[test]
    fn spelling_and_places_stay() {
        let target = r#"{ "z" : 1.0, "\u0061":"\u00e9" , "k":{"n":1e2,"m": [ 1 ]} }"#;
        let patch = r#"{"k":{"n":null,"x":0.10},"a":"\/","é":-0}"#;
        let result = r#"{"z":1.0,"\u0061":"\/","k":{"m":[ 1 ],"x":0.10},"é":-0}"#;
        assert_eq!(merged(target, patch), result);
    }

    #[test]
    fn a_deep_document_comes_through() {
        let keys: Vec<_> = (0..1_000).map(|n| format!("\"k{n}\":{n}")).collect();
        let deep = format!("{}{{{}}}{}", "{\"a\":".repeat(62), keys.join(","), "}".repeat(62));
        assert!(super::super::check(deep.as_bytes()).is_ok());
        assert_eq!(merged(&deep, &deep), deep);
        assert_eq!(merged("{}", &deep), deep);
        assert!(skeleton(&deep, usize::MAX).contains("\"k999\":null"));
    }

    #[test]
    fn what_is_no_document_neither_panics_nor_goes_on_for_ever() {
        for text in ["", "{", "{\"a\"", "{\"a\":", "{\"a\":1,", "{,,,,", "{\"a\":{\"b\"", "[", "}"]
        {
            drop(merge_patch(text, text));
            drop(skeleton(text, 3));
        }
    }

    #[test]
    fn a_skeleton_has_keys_and_no_values() {
        let document = r#"{"a":"x","b":{"c":{"d":1},"e":[]},"f":{},"g":null}"#;
        for (depth, result) in [
            (1, r#"{"a":null,"b":null,"f":null,"g":null}"#),
            (2, r#"{"a":null,"b":{"c":null,"e":null},"f":null,"g":null}"#),
            (usize::MAX, r#"{"a":null,"b":{"c":{"d":null},"e":null},"f":null,"g":null}"#),
        ] {
            assert_eq!(*skeleton(document, depth), result);
        }
        assert_eq!(*skeleton(" {} ", 1), "{}");
        assert_eq!(*skeleton("null", 1), "null");
    }

    /// RFC 7396, section 2, as it stands there.
    fn by_the_rule(target: Option<Value>, patch: Value) -> Value {
        let Value::Object(patch) = patch else { return patch };
        let mut result = match target {
            Some(Value::Object(target)) => target,
            _ => serde_json::Map::new(),
        };
        for (name, value) in patch {
            if value.is_null() {
                result.remove(&name);
            } else {
                let before = result.remove(&name);
                result.insert(name, by_the_rule(before, value));
            }
        }
        Value::Object(result)
    }

    proptest! {
        #[test]
        fn merging_follows_the_rule_and_fits(target in documents(), patch in documents()) {
            let valid = |text: &str| super::super::check(text.as_bytes()).is_ok();
            prop_assume!(valid(&target) && valid(&patch));
            let text = merge_patch(&target, &patch);
            prop_assert!(valid(&text), "{}", *text);
            prop_assert!(text.len() <= target.len() + patch.len());
            let read = |text: &str| serde_json::from_str::<Value>(text)
                .map_err(|error| TestCaseError::fail(error.to_string()));
            prop_assert_eq!(read(&text)?, by_the_rule(Some(read(&target)?), read(&patch)?));
        }

        #[test]
        fn a_skeleton_is_a_document(document in documents(), depth in 1usize..4) {
            prop_assume!(super::super::check(document.as_bytes()).is_ok());
            let text = skeleton(&document, depth);
            prop_assert!(text.len() <= document.len() * 2 + NULL.len());
            prop_assert!(super::super::check(text.as_bytes()).is_ok(), "{}", *text);
        }
    }
}
