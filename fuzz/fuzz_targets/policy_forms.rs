//! Policies in both of their forms: the same rules in HCL and in JSON decide alike, and deny wins.
#![no_main]

use std::{fmt::Write as _, sync::Arc};

use kista::{
    clock::Timestamp,
    policy::{Acl, Ask, Capability, parse},
};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use serde_json::{Map, Value, json};

#[derive(Arbitrary, Debug)]
struct Rules {
    rules: Vec<Rule>,
    path: Name,
    fields: Vec<(Name, Literal)>,
    wrap_minutes: Option<u8>,
}

#[derive(Arbitrary, Debug)]
struct Rule {
    path: Name,
    /// Bits, by their place in the list of capabilities.
    capabilities: u16,
    allowed: Vec<(Name, Vec<Literal>)>,
    denied: Vec<(Name, Vec<Literal>)>,
    required: Vec<Name>,
    min_wrapping_minutes: Option<u8>,
    max_wrapping_minutes: Option<u8>,
    pagination_limit: Option<u8>,
    expired: Option<bool>,
}

/// Few names, so that rules and requests meet.
#[derive(Arbitrary, Debug)]
struct Name(Vec<u8>);

#[derive(Arbitrary, Debug)]
enum Literal {
    Text(Name),
    Number(i16),
    Bool(bool),
}

const LETTERS: [char; 16] =
    ['a', 'b', '/', '*', '+', 'A', '{', '}', '"', '\\', '$', '.', 'é', ' ', '#', '\t'];

impl Name {
    fn text(&self) -> String {
        let letters = self.0.iter().take(8);
        letters.map(|byte| LETTERS[usize::from(*byte) % LETTERS.len()]).collect()
    }
}

impl Literal {
    fn json(&self) -> Value {
        match self {
            Self::Text(name) => json!(name.text()),
            Self::Number(number) => json!(number),
            Self::Bool(bool) => json!(bool),
        }
    }
}

impl Rule {
    /// Keys and values; those that are objects in JSON are blocks in HCL.
    fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        let capabilities = Capability::ALL.iter().enumerate();
        let capabilities = capabilities.filter(|(bit, _)| self.capabilities >> bit & 1 == 1);
        let names: Vec<_> = capabilities.map(|(_, capability)| capability.name()).collect();
        members.insert("capabilities".to_owned(), json!(names));
        for (key, list) in
            [("allowed_parameters", &self.allowed), ("denied_parameters", &self.denied)]
        {
            let parameters: Map<_, _> = list
                .iter()
                .map(|(name, values)| {
                    (name.text(), values.iter().map(Literal::json).collect::<Value>())
                })
                .collect();
            if !parameters.is_empty() {
                members.insert(key.to_owned(), parameters.into());
            }
        }
        if !self.required.is_empty() {
            let names: Vec<_> = self.required.iter().map(Name::text).collect();
            members.insert("required_parameters".to_owned(), json!(names));
        }
        for (key, minutes) in [
            ("min_wrapping_ttl", self.min_wrapping_minutes),
            ("max_wrapping_ttl", self.max_wrapping_minutes),
        ] {
            members.extend(minutes.map(|minutes| (key.to_owned(), json!(format!("{minutes}m")))));
        }
        let limit =
            self.pagination_limit.map(|limit| ("pagination_limit".to_owned(), json!(limit)));
        members.extend(limit);
        let end = |expired| if expired { "2020-01-01T00:00:00Z" } else { "2090-01-01T00:00:00Z" };
        members.extend(self.expired.map(|expired| ("expiration".to_owned(), json!(end(expired)))));
        members
    }
}

fn hcl(rules: &[Rule]) -> String {
    let mut text = String::new();
    for rule in rules {
        writeln!(text, "path {} {{", json!(rule.path.text())).expect("memory");
        for (key, value) in rule.members() {
            match value {
                Value::Object(parameters) => {
                    writeln!(text, "  {key} = {{").expect("memory");
                    for (name, values) in parameters {
                        writeln!(text, "    {} = {values}", json!(name)).expect("memory");
                    }
                    writeln!(text, "  }}").expect("memory");
                }
                value => writeln!(text, "  {key} = {value}").expect("memory"),
            }
        }
        writeln!(text, "}}").expect("memory");
    }
    text
}

fn json(rules: &[Rule]) -> String {
    let rules = rules.iter().map(|rule| json!({ rule.path.text(): rule.members() }));
    json!({ "path": rules.collect::<Vec<_>>() }).to_string()
}

fuzz_target!(|input: Rules| {
    let (hcl, json) = (hcl(&input.rules), json(&input.rules));
    let (one, other) = match (parse("p", &hcl), parse("p", &json)) {
        (Ok(one), Ok(other)) => (Arc::new(one), Arc::new(other)),
        (Err(_), Err(_)) => return,
        (one, other) => panic!("{hcl}\n{json}\n{one:?}\n{other:?}"),
    };
    let now = Timestamp::from_millis(1_700_000_000_000);
    let (one, other) = (Acl::compile(&[one]), Acl::compile(&[other]));
    let path = input.path.text();
    assert_eq!(one.capabilities(&path, now), other.capabilities(&path, now), "{hcl}\n{json}");
    let fields: Vec<_> =
        input.fields.iter().map(|(name, value)| (name.text(), value.json().to_string())).collect();
    let visit = |see: &mut dyn FnMut(&str, &str)| {
        fields.iter().for_each(|(name, value)| see(name, value));
    };
    let wrap_ttl =
        input.wrap_minutes.map(|minutes| std::time::Duration::from_secs(60 * u64::from(minutes)));
    for capability in Capability::ALL {
        let ask = Ask { path: &path, capability, fields: Some(&visit), wrap_ttl, now };
        let (decided, again) = (one.check(&ask), other.check(&ask));
        assert_eq!(decided.allowed, again.allowed, "{path} {capability:?}\n{hcl}\n{json}");
        // A rule for exactly this path that denies leaves nothing. Of a list the rule for the path
        // with a slash counts before it. Rules lose one slash at their beginning and what is asked
        // all, which no path of a request has.
        let is_list = matches!(capability, Capability::List | Capability::Scan);
        let denies = input.rules.iter().any(|rule| {
            !is_list
                && rule.path.text() == path
                && !path.contains(['*', '+', '{'])
                && !path.starts_with("//")
                && rule.expired != Some(true)
                && rule.members()["capabilities"]
                    .as_array()
                    .is_some_and(|names| names.contains(&json!("deny")))
        });
        assert!(!(denies && decided.allowed), "{path} {capability:?}\n{hcl}");
    }
});
