//! A request's path and query: what is taken has one reading.
//!
//! Input: the target behind `/v1/`, with its query.
#![no_main]

use kista::gate::{MAX_PATH_BYTES, Query, RequestPath};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|target: &str| {
    let (raw, query) = target.split_once('?').unwrap_or((target, ""));
    if let Ok(path) = RequestPath::parse(raw) {
        let text = path.as_str();
        assert!(!text.chars().any(char::is_control));
        assert!(!text.starts_with('/') && !text.contains("//"));
        assert!(text.split('/').all(|segment| segment != "." && segment != ".."));
        // Encoding every byte anew must lead to the same path, and so must nothing else.
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert!(RequestPath::parse(&encoded).is_ok_and(|again| again == path));
        if !text.contains('%') {
            assert!(RequestPath::parse(text).is_ok_and(|again| again == path));
        }
        let folder = path.clone().into_folder();
        assert!(folder.is_folder() || text.is_empty());
        // Only a path of the greatest length has no room for the slash.
        if folder.as_str().len() <= MAX_PATH_BYTES {
            let escaped = folder.as_str().replace('%', "%25");
            assert!(RequestPath::parse(&escaped).is_ok_and(|again| again == folder));
        }
    }
    if let Ok(query) = Query::parse(query) {
        for (name, _) in query.pairs() {
            assert!(query.first(name).is_some());
        }
    }
});
