//! Policies, HCL and JSON: none breaks the parser, and what is granted was asked for.
//!
//! Input: a path on the first line, the policy's text after it.
#![no_main]

use std::sync::Arc;

use kista::{
    clock::Timestamp,
    policy::{Acl, Ask, Capability, parse},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let Some((path, text)) = input.split_once('\n') else { return };
    let policy = match parse("p", text) {
        Ok(policy) => Arc::new(policy),
        Err(error) => {
            assert!(error.line <= text.matches('\n').count() + 1);
            assert!(error.to_string().len() < 2048, "the message repeats the text");
            return;
        }
    };
    let now = Timestamp::from_millis(1_700_000_000_000);
    // The same rules twice are the same rules.
    let acl = Acl::compile(&[Arc::clone(&policy)]);
    let twice = Acl::compile(&[Arc::clone(&policy), policy]);
    let names = acl.capabilities(path, now);
    assert_eq!(names, twice.capabilities(path, now));
    assert!(names.is_sorted() && !names.is_empty());
    let field = |visit: &mut dyn FnMut(&str, &str)| visit("a", "\"b\"");
    for capability in Capability::ALL {
        let ask = Ask { path, capability, fields: Some(&field), wrap_ttl: None, now };
        let decision = acl.check(&ask);
        assert_eq!(decision.allowed, twice.check(&ask).allowed);
        assert_eq!(decision.allowed, decision.granting() == ["p"]);
        assert!(!decision.is_root);
        let is_list = matches!(capability, Capability::List | Capability::Scan);
        // `capabilities` looks up a path that ends in a slash as a list does.
        if decision.allowed && is_list == path.ends_with('/') {
            assert!(names.contains(&capability.name()));
        }
    }
    let folder = format!("{}/", path.trim_end_matches('/'));
    if acl.capabilities(&folder, now) != ["deny"] {
        assert!(acl.any_under(&folder, now));
    }
});
