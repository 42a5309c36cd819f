//! The JSON scanner against serde_json: equal but for the stricter rules, and whole in its parts.
#![no_main]

use kista::json::{self, Kind, Reason};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|bytes: &[u8]| {
    let theirs = serde_json::from_slice::<&RawValue>(bytes);
    let kind = match json::check(bytes) {
        Ok(kind) => kind,
        Err(error) => {
            assert!(error.offset <= bytes.len());
            let stricter = matches!(
                error.reason,
                Reason::DuplicateKey | Reason::LoneSurrogate | Reason::TooDeep
            );
            assert!(stricter || theirs.is_err(), "only we refuse: {error}");
            return;
        }
    };
    let document = theirs.expect("only we take it").get();
    reshape(document);
    match kind {
        Kind::Object => {
            let theirs: serde_json::Map<String, serde_json::Value> =
                match serde_json::from_str(document) {
                    Ok(map) => map,
                    // A number that no double can hold; the scanner does not read numbers.
                    Err(_) => return,
                };
            let ours: Vec<_> = json::parts(document).collect();
            assert_eq!(ours.len(), theirs.len());
            for (key, raw) in ours {
                let key = key.expect("a part of an object has a key");
                assert_eq!(serde_json::from_str::<serde_json::Value>(raw).unwrap(), theirs[&*key]);
            }
        }
        Kind::Array => {
            let theirs: Vec<&RawValue> = serde_json::from_str(document).unwrap();
            let ours: Vec<_> = json::parts(document).map(|(_, raw)| raw).collect();
            assert_eq!(ours, theirs.iter().map(|raw| raw.get()).collect::<Vec<_>>());
        }
        Kind::String => {
            let theirs: String = serde_json::from_str(document).unwrap();
            assert_eq!(&*json::text(document).expect("it is a string"), theirs);
        }
        Kind::Number | Kind::Bool | Kind::Null => assert_eq!(json::parts(document).count(), 0),
    }
});

/// What is made of documents passes the check too, and a patch that was applied changes nothing
/// more.
fn reshape(document: &str) {
    let is_checked = |text: &str| json::check(text.as_bytes()).is_ok();
    assert!(
        is_checked(&json::skeleton(document, 2))
            && is_checked(&json::skeleton(document, usize::MAX))
    );
    // An array's first two parts are a target and a patch of every kind.
    let mut parts = json::parts(document).map(|(_, raw)| raw);
    let (target, patch) = (parts.next().unwrap_or("{}"), parts.next().unwrap_or(document));
    let merged = json::merge_patch(target, patch);
    assert!(is_checked(&merged) && merged.len() <= target.len() + patch.len());
    assert_eq!(*json::merge_patch(&merged, patch), *merged);
}
