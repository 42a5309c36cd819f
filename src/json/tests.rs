use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

fn reason(text: &str) -> Reason {
    check(text.as_bytes()).unwrap_err().reason
}

#[test]
fn the_kind_is_the_documents() {
    let cases = [
        ("{}", Kind::Object),
        (" [1, {\"a\": [ ]}] ", Kind::Array),
        ("\"x\"", Kind::String),
        ("-0.5e+3", Kind::Number),
        ("true", Kind::Bool),
        ("false", Kind::Bool),
        ("\t null\r\n", Kind::Null),
    ];
    for (text, kind) in cases {
        assert_eq!(check(text.as_bytes()), Ok(kind), "{text}");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    let cases = [
        ("", Reason::End),
        ("  \n ", Reason::End),
        ("{\"a\":\"b\"", Reason::End),
        ("{\"a\"", Reason::End),
        ("{\"a", Reason::End),
        ("[1,", Reason::End),
        ("tru", Reason::End),
        ("1e", Reason::End),
        ("\"\\", Reason::End),
        ("{'a':'b'}", Reason::ExpectedKey),
        ("{\"a\":1,}", Reason::ExpectedKey),
        ("{,}", Reason::ExpectedKey),
        ("[1,]", Reason::ExpectedValue),
        ("{\"a\":}", Reason::ExpectedValue),
        ("{\"a\":NaN}", Reason::ExpectedValue),
        ("\u{feff}{}", Reason::ExpectedValue),
        ("nul1", Reason::ExpectedValue),
        ("+1", Reason::ExpectedValue),
        ("{\"a\"=1}", Reason::ExpectedColon),
        ("{\"a\":1/*x*/}", Reason::ExpectedCommaOrClose),
        ("{\"a\":01}", Reason::ExpectedCommaOrClose),
        ("[1}", Reason::ExpectedCommaOrClose),
        ("{\"a\":1]", Reason::ExpectedCommaOrClose),
        ("-x", Reason::Number),
        ("1.x", Reason::Number),
        ("\"\\x\"", Reason::Escape),
        ("\"\\u12g4\"", Reason::Escape),
        ("\"\\u12", Reason::Escape),
        ("\"a\nb\"", Reason::ControlCharacter),
        ("{\"a\":1}{\"b\":2}", Reason::Trailing),
        ("{\"a\":1}garbage", Reason::Trailing),
        ("01", Reason::Trailing),
    ];
    for (text, expected) in cases {
        assert_eq!(reason(text), expected, "{text}");
    }
    let error = check(b"{\"a\xff\":1}").unwrap_err();
    assert_eq!(error, Error { offset: 3, reason: Reason::NotUtf8 });
}

#[test]
fn duplicate_keys_are_refused_however_they_are_spelled() {
    for text in [
        r#"{"a":1,"b":2,"a":3}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"\u00e9":1,"é":2}"#,
        r#"{"😀":1,"\ud83d\ude00":2}"#,
        r#"{"\/":1,"/":2}"#,
        r#"{"\n":1,"\u000A":2}"#,
        r#"[{"o":{"":1,"":2}}]"#,
    ] {
        assert_eq!(reason(text), Reason::DuplicateKey, "{text}");
    }
    let error = check(br#"{"b":1,"a":1,"a":2,"b":2}"#).unwrap_err();
    assert_eq!(error.offset, 13, "the second `a` comes before the second `b`");
}

#[test]
fn a_key_may_come_again_in_another_object() {
    for text in
        [r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}"#, r#"{"a":1,"A":2,"a ":3,"\\u0061":4,"":5}"#]
    {
        assert_eq!(check(text.as_bytes()), Ok(Kind::Object), "{text}");
    }
}

#[test]
fn half_of_a_surrogate_pair_is_refused() {
    for text in
        [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800x""#, r#"{"\uDfff":1}"#]
    {
        assert_eq!(reason(text), Reason::LoneSurrogate, "{text}");
    }
    assert_eq!(check(br#""\ud83d\ude00""#), Ok(Kind::String));
}

#[test]
fn depth_64_passes_and_65_does_not() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(check(nested(64).as_bytes()), Ok(Kind::Array));
    let error = check(nested(65).as_bytes()).unwrap_err();
    assert_eq!(error, Error { offset: 64, reason: Reason::TooDeep });
    assert_eq!(reason(&"[".repeat(1_000_000)), Reason::TooDeep);
}

#[test]
fn an_error_shows_the_place_and_no_content() {
    let error = check(br#"{"hunter2":hunter3}"#).unwrap_err();
    assert_eq!(error.to_string(), "invalid JSON at byte 11: a value was expected");
}

#[test]
fn interruptions_are_found_anywhere_in_a_long_string() {
    for length in 0..100 {
        let text = format!("\"{}\"", "x".repeat(length));
        assert_eq!(check(text.as_bytes()), Ok(Kind::String));
        let text = format!("\"{}\u{1}{}\"", "x".repeat(length), "y".repeat(50));
        assert_eq!(
            check(text.as_bytes()),
            Err(Error { offset: length + 1, reason: Reason::ControlCharacter })
        );
    }
}

#[test]
fn parts_come_in_their_order_and_raw() {
    let object = r#" { "a" : [1, {"x":2}] , "\u0062\n":1.50,"":"s,}" } "#;
    let found: Vec<_> = parts(object).map(|(key, raw)| (key.unwrap().to_string(), raw)).collect();
    let expected = [("a", "[1, {\"x\":2}]"), ("b\n", "1.50"), ("", "\"s,}\"")];
    assert_eq!(found, expected.map(|(key, raw)| (key.to_owned(), raw)));
    let found: Vec<_> = parts("[ 1 ,[2,3], {}]").map(|(_, raw)| raw).collect();
    assert_eq!(found, ["1", "[2,3]", "{}"]);
    for empty in ["{}", "[ ]", "1", "\"x\"", ""] {
        assert_eq!(parts(empty).count(), 0);
    }
}

#[test]
fn a_text_is_read_and_does_not_print() {
    assert_eq!(&*text(" \"plain\" ").unwrap(), "plain");
    assert_eq!(&*text(r#""\u00e9\ud83d\ude00\/\\\"""#).unwrap(), "é😀/\\\"");
    assert!(text("1").is_none());
    assert_eq!(format!("{:?}", text("\"hunter2\"")), "Some([text])");
}

/// Texts near to JSON: pieces of it in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[\\[\\]{},: \\n]",
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,2})?([eE][-+]?[0-9]{1,2})?",
        "[0-9.eE+-]{1,4}",
        "\"[a-c\\PC]{0,3}\"",
        "\"\\\\[\"\\\\/bfnrtux0-9]{0,5}\"",
        "true|false|null",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Documents, most of them valid.
pub(super) fn documents() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?",
        "true|false|null",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let key = "[a-h]{1,2}".prop_map(|key| format!("{key:?}"));
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5)
                .prop_map(|items| format!("[{}]", items.join(" , "))),
            proptest::collection::vec((key, inner), 0..5).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

fn agree(text: &str) -> Result<(), TestCaseError> {
    let theirs = serde_json::from_str::<&RawValue>(text).is_ok();
    match check(text.as_bytes()) {
        Ok(_) => prop_assert!(theirs, "only we take {text:?}"),
        Err(Error { reason: Reason::DuplicateKey | Reason::LoneSurrogate, .. }) => {}
        Err(error) => prop_assert!(!theirs, "only we refuse {text:?}: {error}"),
    }
    Ok(())
}

proptest! {
    #[test]
    fn validity_is_serde_jsons_but_for_the_stricter_rules(text in pieces()) {
        agree(&text)?;
    }

    #[test]
    fn documents_pass_as_serde_json_has_them(text in documents(), cut in 0usize..200) {
        agree(&text)?;
        let cut = (0..=cut.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap();
        agree(&text[..cut])?;
    }

    #[test]
    fn keys_are_compared_as_serde_json_reads_them(keys in proptest::collection::vec("(\\\\[\"/n]|\\\\u00(61|62|e9|0a|2f)|[abé/]){0,2}", 0..5)) {
        let members: Vec<_> = keys.iter().map(|key| format!("\"{key}\":0")).collect();
        let text = format!("{{{}}}", members.join(","));
        let read: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&text).unwrap();
        let unique = read.len() == keys.len();
        prop_assert_eq!(check(text.as_bytes()).is_ok(), unique, "{}", text);
    }
}
