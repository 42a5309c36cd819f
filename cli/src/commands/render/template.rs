//! What a template may say, and what becomes of it.
//!
//! Templates are evaluated without waiting, and the vault is asked with waiting: a reference that is
//! not known yet ends the evaluation, is fetched, and the template is evaluated again. It has no
//! effects, so nothing is done twice.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use data_encoding::BASE64;
use kista::{
    client::{Fields, JsonValue},
    secret::SecretString,
};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value,
    syntax::SyntaxConfig,
    value::{Enumerator, Object, ObjectRepr, ValueKind},
};
use serde_json::value::RawValue;

use crate::{failure::Failure, fetching::Fetcher, quoting, reference::Reference};

/// Renders a template; `shown` is its name in messages.
pub(super) async fn render(
    template: &SecretString,
    shown: &str,
    fetcher: &mut Fetcher<'_>,
) -> Result<SecretString, Failure> {
    let known = Arc::new(Known::default());
    let environment = environment(&known);
    loop {
        let rendered = template.expose(|text| environment.render_named_str(shown, text, ()));
        let error = match rendered {
            Ok(text) => return Ok(SecretString::from_string(text)),
            Err(error) => error,
        };
        let place = format!("{shown}:{}", error.line().unwrap_or_default());
        let Some(reference) = known.take_missing() else { return Err(mistake(&place, &error)) };
        let value = fetch(&reference, fetcher).await.map_err(|failure| Failure {
            message: format!("{place}: {}", failure.message),
            ..failure
        })?;
        known.learn(reference, value);
    }
}

/// What was fetched for this template.
#[derive(Default)]
struct Known {
    values: Mutex<HashMap<String, Value>>,
    missing: Mutex<Option<String>>,
}

impl Known {
    /// The value of a reference; where it is not known, the evaluation ends and it is fetched.
    fn value(&self, reference: &str) -> Result<Value, Error> {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = values.get(reference) {
            return Ok(value.clone());
        }
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = Some(reference.to_owned());
        Err(Error::new(ErrorKind::InvalidOperation, "not fetched yet"))
    }

    fn take_missing(&self) -> Option<String> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn learn(&self, reference: String, value: Value) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).insert(reference, value);
    }
}

fn environment(known: &Arc<Known>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    let mut syntax = SyntaxConfig::builder();
    if let Ok(syntax) = syntax.keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(|out, _, value| {
        let text = if value.is_none() { "null".to_owned() } else { plain(value, "a template")? };
        out.write_str(&text).map_err(|_| Error::from(ErrorKind::WriteFailure))
    });
    let known = Arc::clone(known);
    environment.add_function("kista", move |reference: String| known.value(&reference));
    environment.add_filter("json", |value: Value| json(&value));
    environment.add_filter("yaml", |value: Value| {
        let json = SecretString::from_string(json(&value)?);
        let json = JsonValue::parse(json).map_err(|_| not_for("yaml"))?;
        Ok::<_, Error>(quoting::yaml(&json).expose(str::to_owned))
    });
    environment.add_filter("shell_quote", |value: Value| {
        plain(&value, "shell_quote").map(|text| quoting::shell(&text))
    });
    environment.add_filter("dotenv_quote", |value: Value| {
        plain(&value, "dotenv_quote").map(|text| quoting::dotenv(&text))
    });
    environment.add_filter("base64", |value: Value| {
        plain(&value, "base64").map(|text| BASE64.encode(text.as_bytes()))
    });
    environment
}

async fn fetch(reference: &str, fetcher: &mut Fetcher<'_>) -> Result<Value, Failure> {
    let reference: Reference = reference
        .parse()
        .map_err(|error| Failure::usage(format!("a reference is not understood: {error}")))?;
    match &reference.key {
        Some(key) => Ok(value(&fetcher.value(&reference, key).await?)),
        None => Ok(value(&JsonValue::from(&*fetcher.secret(&reference).await?))),
    }
}

/// What is wrong with a template, without what its values are.
fn mistake(place: &str, error: &Error) -> Failure {
    let (kind, detail) = (error.kind(), error.detail().unwrap_or_default());
    #[expect(clippy::wildcard_enum_match_arm, reason = "details of the others may quote a value")]
    let (why, hint) = match kind {
        ErrorKind::UndefinedError => (
            "something that is printed or used is not defined".to_owned(),
            "is it a key of the secret? for what may be missing: {{ … | default(\"x\") }}, or \
             ?default=x in a kista:// reference",
        ),
        ErrorKind::OutOfFuel => ("it takes too long".to_owned(), "does a loop go on for too long?"),
        // These tell of the template, and not of what it has read.
        ErrorKind::SyntaxError
        | ErrorKind::UnknownFilter
        | ErrorKind::UnknownFunction
        | ErrorKind::UnknownTest
        | ErrorKind::UnknownMethod
        | ErrorKind::MissingArgument
        | ErrorKind::TooManyArguments => {
            (format!("{kind}: {detail}"), "kista render --help tells what a template may say")
        }
        _ => (kind.to_string(), "kista render --help tells what a template may say"),
    };
    Failure::usage(format!("{place}: {why}")).hint(hint)
}

/// A value as templates have it.
fn value(json: &JsonValue) -> Value {
    json.expose_json(|text| match text.as_bytes().first() {
        Some(b'"') => Value::from(json.plain().expose(str::to_owned)),
        Some(b'{') => {
            let fields: Fields = serde_json::from_str(text).unwrap_or_default();
            let entries = fields.iter().map(|(key, of)| (key.to_owned(), value(of))).collect();
            Value::from_object(Map(entries))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            items.iter().map(|item| raw(item.get())).collect()
        }
        Some(b't') => Value::from(true),
        Some(b'f') => Value::from(false),
        Some(b'n') | None => Value::from(()),
        Some(_) => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Value::from(number),
            Ok(_) | Err(_) => Value::from_object(Number(text.to_owned())),
        },
    })
}

fn raw(text: &str) -> Value {
    JsonValue::parse(SecretString::copy_of(text)).map_or(Value::from(()), |json| value(&json))
}

/// The values of a secret, in their order.
struct Map(Vec<(String, Value)>);

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Object for Map {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(name, _)| Value::from(name.clone())).collect())
    }
}

/// A number whose spelling would not survive arithmetic, such as 1.10.
struct Number(String);

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Object for Number {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as JSON.
fn json(value: &Value) -> Result<String, Error> {
    if let Some(Number(text)) = value.downcast_object_ref() {
        return Ok(text.clone());
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is none of JSON's")]
    match value.kind() {
        ValueKind::None => Ok("null".to_owned()),
        // The engine itself writes True, as Python does.
        ValueKind::Bool => Ok(value.is_true().to_string()),
        ValueKind::Number => Ok(value.to_string()),
        ValueKind::String => {
            let text = SecretString::copy_of(value.as_str().unwrap_or_default());
            Ok(JsonValue::string(&text).expose_json(str::to_owned))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Result<Vec<String>, Error> =
                value.try_iter()?.map(|item| json(&item)).collect();
            Ok(format!("[{}]", items?.join(",")))
        }
        ValueKind::Map => {
            let mut entries = Vec::new();
            for key in value.try_iter()? {
                entries.push(format!("{}:{}", json(&key)?, json(&value.get_item(&key)?)?));
            }
            Ok(format!("{{{}}}", entries.join(",")))
        }
        _ => Err(not_for("json")),
    }
}

/// A value as a person means it.
fn plain(value: &Value, filter: &'static str) -> Result<String, Error> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "json says of which it knows nothing")]
    match value.kind() {
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::None | ValueKind::Bytes => Err(not_for(filter)),
        _ => json(value),
    }
}

fn not_for(filter: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("nothing that {filter} can write"))
}

/// Steps of a template: thousands of times what a long configuration takes.
const FUEL: u64 = 5_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> Result<String, (ErrorKind, String)> {
        let known = Arc::new(Known::default());
        for (reference, json) in [
            ("secret/a", r#"{"z":"p'w $1","n":1.10,"i":5,"b":true,"o":{"k":[1,null,"x"]}}"#),
            ("secret/a#z", r#""p'w $1""#),
        ] {
            known.learn(reference.to_owned(), raw(json));
        }
        environment(&known)
            .render_named_str("t", template, ())
            .map_err(|error| (error.kind(), mistake("t", &error).message))
    }

    #[test]
    fn values_come_as_they_are_or_as_a_filter_writes_them() {
        for (template, expected) in [
            ("{{ kista('secret/a#z') }}\n", "p'w $1\n"),
            ("{{ kista(\"secret/a\").z }}", "p'w $1"),
            ("{{ kista('secret/a').n }} {{ kista('secret/a').i + 1 }}", "1.10 6"),
            ("{{ kista('secret/a#z') | json }}", "\"p'w $1\""),
            ("{{ kista('secret/a#z') | shell_quote }}", r"'p'\''w $1'"),
            ("{{ kista('secret/a#z') | dotenv_quote }}", r#""p'w \$1""#),
            ("{{ kista('secret/a#z') | base64 }}", "cCd3ICQx"),
            ("{{ kista('secret/a').o | yaml }}", r#"{"k":[1,null,"x"]}"#),
            (
                "{{ kista('secret/a') }}",
                r#"{"z":"p'w $1","n":1.10,"i":5,"b":true,"o":{"k":[1,null,"x"]}}"#,
            ),
            (
                "{% for k, v in kista('secret/a') | items %}{{ k }}={{ v | json }};{% endfor %}",
                r#"z="p'w $1";n=1.10;i=5;b=true;o={"k":[1,null,"x"]};"#,
            ),
            ("{{ kista('secret/a').none | default('d') }}", "d"),
            (
                "<{{ '<' }}> {{ kista('secret/a').b }} {{ kista('secret/a').o.k }}",
                "<<> true [1,null,\"x\"]",
            ),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_values() {
        for (template, kind) in [
            ("{{ kista('secret/a').none }}", ErrorKind::UndefinedError),
            ("{{ nothing }}", ErrorKind::UndefinedError),
            ("{{ kista('secret/a').none | shell_quote }}", ErrorKind::UndefinedError),
            ("{{ kista('secret/a#z') | int }}", ErrorKind::InvalidOperation),
            ("{{ kista('secret/a#z') + 1 }}", ErrorKind::InvalidOperation),
            ("{% include 'x' %}", ErrorKind::SyntaxError),
            ("{{ env('HOME') }}", ErrorKind::UnknownFunction),
            ("{{ 'x' | nope }}", ErrorKind::UnknownFilter),
            ("{{ 'x", ErrorKind::SyntaxError),
            (
                "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
                ErrorKind::OutOfFuel,
            ),
        ] {
            let (found, message) = render(template).unwrap_err();
            assert_eq!(found, kind, "{template}: {message}");
            assert!(!message.contains("p'w"), "{template}: {message}");
        }
    }
}
