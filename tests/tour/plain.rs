//! JSON without what differs from one run to the next: times, ids, keys, tokens, paths, ports.

use serde_json::{Deserializer, Value};

use crate::support::Site;

/// What was printed, value by value, each with placeholders and in lines.
pub(super) fn printed(site: &Site, stdout: &[u8]) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    for value in Deserializer::from_slice(stdout).into_iter::<Value>() {
        let mut value = value?;
        replace(site, "", &mut value);
        text.push_str(&serde_json::to_string_pretty(&value)?);
        text.push('\n');
    }
    Ok(text)
}

fn replace(site: &Site, key: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // What a machine has to say about itself.
            if fields.contains_key("check") && fields.contains_key("state") {
                *value = Value::from("<check>");
                return;
            }
            let keys: Vec<String> = fields.keys().cloned().collect();
            for key in keys {
                let mut inner = fields.remove(&key).unwrap();
                replace(site, &key, &mut inner);
                fields.insert(placeholder(site, &key).unwrap_or(key), inner);
            }
        }
        Value::Array(values) => {
            values.iter_mut().for_each(|value| replace(site, key, value));
            // As many as the machine has.
            values.dedup_by(|a, b| a == b && a == "<check>");
            // The order of what is random says nothing.
            if values.iter().all(|value| value.as_str().is_some_and(|text| text.starts_with('<'))) {
                values.dedup();
            }
        }
        Value::String(text) => {
            if let Some(placeholder) = placeholder(site, text) {
                *text = placeholder;
            }
        }
        Value::Number(number) => {
            let is_time = number.as_f64().is_some_and(|number| number > 1_000_000_000.0);
            if is_time || VARYING.contains(&key) {
                *value = Value::from("<number>");
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// What stands for a text that is another one each time.
fn placeholder(site: &Site, text: &str) -> Option<String> {
    let folder = site.folder.path().to_str().unwrap();
    if text.contains(folder) {
        return Some(text.replace(folder, "<folder>"));
    }
    if text.contains(&site.server.address()) {
        return Some(text.replace(&site.server.address(), "<address>"));
    }
    let is = |text: &str, allowed: &dyn Fn(char) -> bool| text.chars().all(allowed);
    let is_hex = |char: char| char.is_ascii_hexdigit();
    let kind = match text.split_once(':') {
        _ if text.len() == 36 && is(text, &|char| is_hex(char) || char == '-') => "id",
        _ if text.len() >= 20 && text.get(10..11) == Some("T") && text.ends_with('Z') => "time",
        _ if text.starts_with("hvs.") => "token",
        Some(("vault", rest)) => {
            let version = rest.split(':').next()?;
            return Some(format!("vault:{version}:<ciphertext>"));
        }
        _ if text.len() >= 16 && is(text, &is_hex) => "hex",
        _ if is_long_base64(text) => "base64",
        _ if text.len() > 200 => "text",
        _ => return None,
    };
    Some(format!("<{kind}>"))
}

/// Whether it can only be bytes in base64: no word is as long and has capitals in it. Digits say
/// nothing, since one accessor in seventy has none.
fn is_long_base64(text: &str) -> bool {
    let has = |kind: fn(&char) -> bool| text.chars().any(|char| kind(&char));
    text.len() >= 20
        && text.chars().all(|char| char.is_ascii_alphanumeric() || "+/=_-".contains(char))
        && has(char::is_ascii_lowercase)
        && has(char::is_ascii_uppercase)
}

/// Numbers that are others each time.
const VARYING: &[&str] = &[
    "bytes",
    "encryptions",
    "free_bytes",
    "index_bytes",
    "journal_bytes",
    "newest_commit",
    "records",
    "records_done",
    "records_total",
    "sequence",
    "snapshot_bytes",
    "ttl",
];
