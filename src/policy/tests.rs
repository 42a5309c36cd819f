//! Policies from their text to decisions. Cases marked "recorded" are a peer's real answers.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn acl(policies: &[&str]) -> Acl {
    let named =
        |(index, text): (usize, &&str)| Arc::new(parse(&format!("p{index}"), text).unwrap());
    Acl::compile(&policies.iter().enumerate().map(named).collect::<Vec<_>>())
}

fn ask(path: &str, capability: Capability) -> Ask<'_> {
    Ask { path, capability, fields: None, wrap_ttl: None, now: NOW }
}

fn allows(acl: &Acl, capability: Capability, path: &str) -> bool {
    acl.check(&ask(path, capability)).allowed
}

fn reads(acl: &Acl, path: &str) -> bool {
    allows(acl, Capability::Read, path)
}

fn lists(acl: &Acl, path: &str) -> bool {
    let scan = format!("{path}/");
    let slashed = allows(acl, Capability::List, &scan);
    assert_eq!(slashed, allows(acl, Capability::List, path), "a slash makes a difference: {path}");
    slashed
}

fn capabilities(acl: &Acl, path: &str) -> String {
    acl.capabilities(path, NOW).join(",")
}

fn writes(acl: &Acl, path: &str, fields: &[(&str, &str)]) -> bool {
    let each = |visit: &mut dyn FnMut(&str, &str)| {
        for (name, raw) in fields {
            visit(name, raw);
        }
    };
    acl.check(&Ask { fields: Some(&each), ..ask(path, Capability::Update) }).allowed
}

fn refusal(text: &str) -> String {
    parse("p", text).unwrap_err().to_string()
}

mod syntax {
    use super::*;

    /// The same rule in all spellings that HCL 1 has for it.
    #[test]
    fn every_spelling_of_a_rule_is_read() {
        for text in [
            r#"path "x" { capabilities = ["read", "list"] }"#,
            r#""path" "x" { "capabilities" = ["read", "list",], }"#,
            "path \"x\"\n{\n  capabilities=[\"read\"\n,\"list\"\n]\n}\n",
            "# one\n// two\n/* three\n*/ path /* here */ \"x\" { # there\r\n capabilities = [\"read\", \"list\"] }",
            r#"name = "p" path "x" { comment = "two on a line" capabilities = ["list", "read"] }"#,
            r#"path "x" { capabilities = ["read"] capabilities = ["list"] }"#,
            r#"path "x" { capabilities = ["read"] } path "x" { capabilities = ["list"] }"#,
            r#"path "x" { policy = "read" }"#,
            r#"path { "x" { capabilities = ["read", "list"] } }"#,
            "path \"x\" {\n  capabilities = [\"read\", \"list\"]\n  comment = <<EOT\nhello \"}\nEOT\n}\n",
            "path \"x\" {\n  comment = <<-E\n  a\n  E\n capabilities = [\"read\", \"list\"]\n}",
            r#"path "\u0078" { capabilities = ["re\u0061d", "list"] }"#,
            r#"path "/x" { capabilities = ["read", "list"] }"#,
            r#"{"path":{"x":{"capabilities":["read","list"]}}}"#,
            " {\"path\": [{\"x\": {\"capabilities\": [\"read\"]}},\n{\"\\u0078\": {\"policy\": \"read\"}}]} ",
        ] {
            assert_eq!(capabilities(&acl(&[text]), "x"), "list,read", "{text}");
        }
    }

    #[test]
    fn every_escape_is_read_as_hcl_and_json_mean_it() {
        for (escape, character) in [
            (r#"\""#, '"'),
            (r"\\", '\\'),
            (r"\/", '/'),
            (r"\n", '\n'),
            (r"\t", '\t'),
            (r"\r", '\r'),
            (r"\b", '\u{8}'),
            (r"\f", '\u{c}'),
            (r"\u00e9", 'é'),
            (r"\U0001f511", '🔑'),
            (r"\ud83d\udd11", '🔑'),
        ] {
            for text in [
                format!(r#"path "a{escape}b" {{ capabilities = ["read"] }}"#),
                format!(r#"{{"path":{{"a{escape}b":{{"capabilities":["read"]}}}}}}"#),
            ] {
                // JSON has no such form.
                if text.starts_with('{') && escape.starts_with(r"\U") {
                    continue;
                }
                assert!(reads(&acl(&[&text]), &format!("a{character}b")), "{text}");
            }
        }
    }

    #[test]
    fn dollar_braces_are_plain_text() {
        let acl = acl(&[r#"path "a/${b}" { capabilities = ["read"] comment = "${x" }"#]);
        assert!(reads(&acl, "a/${b}"));
        assert!(!reads(&acl, "a/b"));
    }

    #[test]
    fn parameters_are_read_with_and_without_the_equals_sign() {
        for joint in ["=", ""] {
            let text = format!(
                r#"path "x" {{ capabilities = ["update"] allowed_parameters {joint} {{ "a" = [] }} }}"#
            );
            let acl = acl(&[&text]);
            assert!(writes(&acl, "x", &[("a", "1")]));
            assert!(!writes(&acl, "x", &[("b", "1")]));
        }
    }

    #[test]
    fn the_old_words_of_policy_mean_what_they_meant() {
        let capabilities = |word: &str| {
            capabilities(&acl(&[&format!(r#"path "x" {{ policy = "{word}" }}"#)]), "x")
        };
        assert_eq!(capabilities("read"), "list,read");
        assert_eq!(capabilities("write"), "create,delete,list,read,update");
        assert_eq!(capabilities("sudo"), "create,delete,list,read,sudo,update");
        assert_eq!(capabilities("deny"), "deny");
    }

    #[test]
    fn a_text_without_rules_grants_nothing() {
        for text in ["", "  \n", "# only a comment", "{}", "path {}", r#"path "x" {}"#] {
            assert_eq!(capabilities(&acl(&[text]), "x"), "deny", "{text}");
        }
    }

    #[test]
    fn errors_show_the_place_and_what_is_wrong() {
        for (text, expected) in [
            ("5", "at 1:1: expected a key, found `5`"),
            ("path \"x\" {", "at 1:11: expected a key or `}`, found the end"),
            ("path \"x\"", "at 1:9: expected `{`, found the end"),
            ("path", "at 1:5: expected `=`, `{` or a quoted path, found the end"),
            ("path \"x\" = {}", "at 1:10: expected `{`, found `=`"),
            ("path \"é\" {}\n}", "at 2:1: expected a key, found `}`"),
            ("path \"é\" { ? }", "at 1:12: expected a key, a value or a bracket, found '?'"),
            ("path \"x", "at 1:6: the quoted text does not end on this line"),
            ("path \"x\n\" {}", "at 1:6: the quoted text does not end on this line"),
            ("path \"\\q\" {}", "at 1:7: unknown escape; write `\\\\` for a backslash"),
            ("path \"\\ud800\" {}", "at 1:7: unknown escape; write `\\\\` for a backslash"),
            ("\n /* x", "at 2:2: the comment has no end"),
            ("path \"x\" { comment = <<EOT\nx\n}", "at 1:22: the heredoc has no closing line"),
            ("path \"x\" { comment = <<\nx\n\n}", "at 1:22: the heredoc has no closing line"),
            (
                "path \"x\" { pagination_limit = 0x10 }",
                "at 1:31: expected a decimal number, found `0x10`",
            ),
            (
                "path \"x\" { capabilities = [\"read\" \"list\"] }",
                "at 1:35: expected `,` or `]`, found \"list\"",
            ),
            ("path \"x\" { capabilities = }", "at 1:27: expected a value, found `}`"),
            ("paths \"x\" { capabilities = [\"read\"] }", "at 1:1: invalid key \"paths\""),
            (
                "path \"x\" {\n  capabilities = [\"read\"]\n  colour = \"red\"\n}",
                "at 3:3: path \"x\": invalid key \"colour\"",
            ),
            (
                "path \"x\" { capabilities = [\"fly\"] }",
                "at 1:28: path \"x\": invalid capability \"fly\"",
            ),
            (
                "path \"x\" { capabilities = \"read\" }",
                "at 1:27: path \"x\": \"capabilities\" must be a list of texts in double quotes",
            ),
            (
                "path \"x\" { policy = \"own\" }",
                "at 1:21: path \"x\": invalid policy \"own\"; write capabilities, or read, write, sudo or deny",
            ),
            ("path = 1", "at 1:8: \"path\" must be a path in quotes and its block"),
            (
                "path { capabilities = [\"read\"] }",
                "at 1:23: path \"capabilities\": \"path\" must be a block in braces",
            ),
            (
                "path \"a/+*\" {}",
                "at 1:6: path \"a/+*\": invalid use of wildcards ('+*' is forbidden)",
            ),
            (
                "path \"x\" { min_wrapping_ttl = \"2h\" max_wrapping_ttl = \"1h\" }",
                "at 1:6: path \"x\": max_wrapping_ttl cannot be less than min_wrapping_ttl",
            ),
            (
                "path \"x\" { min_wrapping_ttl = \"soon\" }",
                "at 1:31: path \"x\": time: invalid duration \"soon\"",
            ),
            (
                "path \"x\" { comment = \"a\" comment = \"b\" }",
                "at 1:26: path \"x\": the key \"comment\" stands there twice",
            ),
            (
                "path \"x\" { allowed_parameters = { \"*\" = [\"a\"] } }",
                "at 1:41: path \"x\": the parameter \"*\" can only have an empty list",
            ),
            (
                "path \"x\" { pagination_limit = -1 }",
                "at 1:31: path \"x\": \"pagination_limit\" must be a whole number",
            ),
            (
                "path \"x\" { expiration = \"tomorrow\" }",
                "at 1:25: path \"x\": \"expiration\" must be a time such as \"2030-12-31T23:59:59Z\"",
            ),
            (
                "path \"x\" { mfa_methods = [\"a\"] }",
                "at 1:12: path \"x\": the key \"mfa_methods\" is not supported, and a restriction is not ignored; remove it",
            ),
            (
                "{\"path\":{\"x\":{\"capabilities\":[\"fly\"]}}}",
                "at 1:31: path \"x\": invalid capability \"fly\"",
            ),
            ("{\n\"path\":{,}}", "at 2:9: invalid JSON: a key in double quotes was expected"),
            ("{\"path\":{\"x\":{},\"x\":{}}}", "at 1:17: invalid JSON: duplicate key"),
            ("{\"policy\":1}", "at 1:2: invalid key \"policy\""),
            ("{\"path\":{\"x\":null}}", "at 1:14: expected a value, found `null`"),
        ] {
            assert_eq!(refusal(text), expected, "{text}");
        }
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let large = format!("# {}", "x".repeat(MAX_TEXT_BYTES));
        assert!(refusal(&large).ends_with("is larger than 524288 bytes; split it"));
        parse("p", &large[..MAX_TEXT_BYTES]).unwrap();
        for unit in ["[", "{a=", "{\"a\":"] {
            let deep = format!("path \"x\" {{ allowed_parameters = {}", unit.repeat(1000));
            assert!(parse("p", &deep).is_err());
        }
        let deep = format!(
            "path \"x\" {{ denied_parameters = {{ a = {}{} }} }}",
            "[".repeat(20),
            "]".repeat(20)
        );
        assert_eq!(refusal(&deep), "at 1:52: nested deeper than 16");
        let long = format!("path \"x\" {{ {} = 1 }}", "k".repeat(1000));
        assert!(refusal(&long).len() < 120);
    }

    #[test]
    fn the_default_policy_is_read_and_helps_a_token_with_itself() {
        let acl = acl(&[DEFAULT_POLICY]);
        assert!(reads(&acl, "auth/token/lookup-self"));
        assert!(allows(&acl, Capability::Update, "sys/capabilities-self"));
        assert!(allows(&acl, Capability::Delete, "cubbyhole/response"));
        assert!(reads(&acl, "identity/oidc/provider/x/authorize"));
        assert_eq!(capabilities(&acl, "secret/data/x"), "deny");
        assert!(!acl.any_under("secret/", NOW));
    }

    #[test]
    fn templates_grant_nothing_while_nobody_has_an_identity() {
        let acl = acl(&[r#"path "own/{{identity.entity.id}}/*" { capabilities = ["read"] }
               path "own/{{identity.nosuch.thing}}" { capabilities = ["read"] }
               path "*" { capabilities = ["list"] }"#]);
        assert_eq!(capabilities(&acl, "own/{{identity.entity.id}}/x"), "list");
        assert_eq!(capabilities(&acl, "own//x"), "list");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_with_a_place_inside_it(text in "[ \\n\"\\\\{}\\[\\],=#/*<a-z0-9.+-]{0,60}") {
            if let Err(error) = parse("p", &text) {
                prop_assert!(error.line <= text.matches('\n').count() + 1);
                prop_assert!(error.column <= text.chars().count() + 1);
            }
        }

        #[test]
        fn hcl_and_json_mean_the_same(
            path in "[a-c/+]{1,5}[*]?",
            capability in prop::sample::select(&Capability::ALL[..]),
            value in "[a-z\\PC]{0,4}",
        ) {
            let quoted = serde_json::to_string(&value).unwrap();
            let (path, name) = (serde_json::to_string(&path).unwrap(), capability.name());
            let body = format!(r#"["{name}"]"#);
            let hcl = format!("path {path} {{ capabilities = {body} denied_parameters = {{ a = [{quoted}] }} }}");
            let json = format!(r#"{{"path":{{{path}:{{"capabilities":{body},"denied_parameters":{{"a":[{quoted}]}}}}}}}}"#);
            match (parse("p", &hcl), parse("p", &json)) {
                (Ok(hcl), Ok(json)) => prop_assert_eq!(
                    format!("{:?}", hcl.rules), format!("{:?}", json.rules)
                ),
                (Err(_), Err(_)) => {}
                (hcl, json) => prop_assert!(false, "{:?} but {:?}", hcl, json),
            }
        }
    }
}

mod matching {
    use super::*;

    /// Recorded: `policies/cap/*`.
    #[test]
    fn capabilities_are_the_peers() {
        let acl = acl(&[
            r#"path "a/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }
               path "a/deny" { capabilities = ["deny"] }
               path "a/+/mid" { capabilities = ["read"] }
               path "b/sudo" { capabilities = ["sudo", "read"] }
               path "auth/token/create" { capabilities = ["update"] }"#,
        ]);
        let all = "create,delete,list,patch,read,update";
        for (path, expected) in [
            ("a/x", all),
            ("/a/x", all),
            ("a/deny", "deny"),
            ("a/q/mid", "read"),
            ("b/sudo", "read,sudo"),
            ("c", "deny"),
            ("", "deny"),
        ] {
            assert_eq!(capabilities(&acl, path), expected, "{path}");
        }
        assert_eq!(Acl::root().capabilities("anything", NOW), ["root"]);
        assert_eq!(capabilities(&Acl::compile(&[]), "a/x"), "deny");
    }

    /// Recorded: `policies/rules/*`.
    #[test]
    fn the_rule_that_decides_is_the_peers() {
        let acl = acl(&[
            r#"path "kv/app/*" { capabilities = ["read", "list"] }
               path "kv/app/db" { capabilities = ["deny"] }
               path "kv/team/+/cfg" { capabilities = ["read"] }
               path "kv/team/y/*" { capabilities = ["list"] }
               path "kv/open*" { capabilities = ["read"] }"#,
            r#"path "kv/app/*" { capabilities = ["update"] }
               path "kv/app/db" { capabilities = ["read"] }"#,
        ]);
        assert!(reads(&acl, "kv/app/web/port"));
        assert!(!reads(&acl, "kv/app/db"), "deny in one policy beats read in another");
        assert!(allows(&acl, Capability::Update, "kv/app/web/port"), "two policies add up");
        assert!(lists(&acl, "kv/app"));
        assert!(reads(&acl, "kv/team/x/cfg"));
        assert!(!reads(&acl, "kv/team/y/cfg"), "the first wildcard of kv/team/y/* comes later");
        assert!(reads(&acl, "kv/open/one") && reads(&acl, "kv/openx"));
        assert!(!reads(&acl, "kv/other"));
        for (path, expected) in [
            ("kv/app/db", "deny"),
            ("kv/app/x", "list,read,update"),
            ("kv/team/x/cfg", "read"),
            ("kv/team/y/cfg", "list"),
            ("kv/openx", "read"),
        ] {
            assert_eq!(capabilities(&acl, path), expected, "{path}");
        }
    }

    /// Recorded: `policies/sudo/*`.
    #[test]
    fn sudo_comes_from_the_rule_that_decides() {
        let without = acl(&[r#"path "sys/audit" { capabilities = ["read"] }"#]);
        assert!(!without.check(&ask("sys/audit", Capability::Read)).has_sudo);
        let with = acl(&[r#"path "sys/audit" { capabilities = ["read", "sudo"] }
               path "sys/*" { capabilities = ["sudo"] }
               path "sys/raw*" { capabilities = ["read"] }
               path "sys/leases/lookup/*" { capabilities = ["list", "sudo"] }"#]);
        let decision = with.check(&ask("sys/audit", Capability::Read));
        assert!(decision.allowed && decision.has_sudo && !decision.is_root);
        assert!(with.has_sudo("sys/audit", NOW) && with.has_sudo("sys/other", NOW));
        assert!(!with.has_sudo("sys/raw/x", NOW));
        let decision = with.check(&ask("sys/leases/lookup", Capability::List));
        assert!(decision.allowed && decision.has_sudo);
        let root = Acl::root();
        let decision = root.check(&ask("anything", Capability::Delete));
        assert!(decision.allowed && decision.has_sudo && decision.is_root);
        assert!(root.has_sudo("anything", NOW) && root.any_under("anything/", NOW));
    }

    #[test]
    fn a_more_specific_pattern_hides_the_others_even_when_it_grants_less() {
        let acl = acl(&[r#"path "*" { capabilities = ["read", "delete"] }
               path "a/*" { capabilities = ["read"] }
               path "a/b" { capabilities = [] }
               path "a/+/c" { capabilities = ["list"] }
               path "a/x*" { capabilities = ["update"] }"#]);
        assert_eq!(capabilities(&acl, "z"), "delete,read");
        assert_eq!(capabilities(&acl, "a/z"), "read");
        assert_eq!(capabilities(&acl, "a/b"), "deny");
        assert_eq!(capabilities(&acl, "a/z/c"), "list", "`+` beats the `*` in the same place");
        assert_eq!(capabilities(&acl, "a/x/c"), "update", "`a/x*` is longer before its wildcard");
    }

    #[test]
    fn deny_wins_whatever_else_the_pattern_grants_and_in_whatever_order() {
        let grant = r#"path "a/+" { capabilities = ["read", "sudo"] }"#;
        let deny = r#"path "a/+" { capabilities = ["deny", "read"] }"#;
        for policies in [[grant, deny], [deny, grant]] {
            let acl = acl(&policies);
            assert_eq!(capabilities(&acl, "a/x"), "deny");
            assert!(!acl.has_sudo("a/x", NOW));
            assert!(!allows(&acl, Capability::Deny, "a/x"));
        }
    }

    #[test]
    fn a_list_is_granted_with_and_without_the_slash() {
        for path in ["foo", "foo/", "foo*", "foo/*", "+", "+/", "fo*"] {
            let acl = acl(&[&format!(r#"path "{path}" {{ capabilities = ["list", "scan"] }}"#)]);
            assert!(lists(&acl, "foo"), "{path}");
            assert!(allows(&acl, Capability::Scan, "foo"), "{path}");
        }
        for path in ["fo", "foo/x", "foo/x*", "foo/+/"] {
            let acl = acl(&[&format!(r#"path "{path}" {{ capabilities = ["list"] }}"#)]);
            assert!(!lists(&acl, "foo"), "{path}");
        }
    }

    #[test]
    fn only_a_list_looks_past_the_slash() {
        let acl = acl(&[r#"path "foo/" { capabilities = ["read", "update"] }"#]);
        assert!(!reads(&acl, "foo"));
        assert!(reads(&acl, "foo/"));
    }

    /// GHSA-xp3c-3jw3-4vcr.
    #[test]
    fn a_list_does_not_slip_past_the_deny_of_a_more_specific_wildcard() {
        for (grant, deny) in [
            ("foo/metadata/*", "foo/metadata/private/*"),
            ("foo/metadata/*", "foo/metadata/private*"),
            ("foo/metadata/*", "foo/metadata/+"),
            ("foo/*", "foo/+/private"),
            ("foo/*", "foo/+/private/"),
            ("foo/*", "foo/metadata/private"),
            ("foo/*", "foo/metadata/private/"),
        ] {
            let acl = acl(&[&format!(
                r#"path "{grant}" {{ capabilities = ["list", "scan"] }}
                   path "{deny}" {{ capabilities = ["deny"] }}"#
            )]);
            assert!(!lists(&acl, "foo/metadata/private"), "{deny}");
            assert!(!allows(&acl, Capability::Scan, "foo/metadata/private"), "{deny}");
        }
    }

    #[test]
    fn a_list_is_granted_beside_rules_for_what_is_read() {
        let acl = acl(&[r#"path "kv/*" { capabilities = ["deny"] }
               path "kv/metadata/*" { capabilities = ["list"] }
               path "kv/metadata/+" { capabilities = ["read"] }"#]);
        assert!(lists(&acl, "kv/metadata/x"), "as in Vault, the pattern with the slash decides");
        assert!(!lists(&acl, "kv/metadata"), "as in Vault, `+` is for the empty segment too");
        assert!(!lists(&acl, "kv"));
    }

    #[test]
    fn granting_names_the_policies_that_grant() {
        let acl = acl(&[
            r#"path "a/*" { capabilities = ["read"] } path "a/*" { capabilities = ["read"] }"#,
            r#"path "a/*" { capabilities = ["list"] }"#,
            r#"path "a/*" { capabilities = ["read", "delete"] }"#,
            r#"path "*" { capabilities = ["read"] }"#,
        ]);
        assert_eq!(acl.check(&ask("a/x", Capability::Read)).granting(), ["p0", "p2"]);
        assert!(acl.check(&ask("a/x", Capability::Update)).granting().is_empty());
        assert!(acl.check(&ask("a/x", Capability::Scan)).granting().is_empty());
        assert_eq!(Acl::root().check(&ask("a", Capability::Read)).granting(), ["root"]);
    }

    /// Recorded: `mounts/ui/*`: any right below the mount is enough for its page.
    #[test]
    fn any_right_below_a_mount_is_found() {
        for path in [
            "team/kv/data/deep/inside/*",
            "team/kv/x",
            "team/kv/",
            "team/kv",
            "team/*",
            "*",
            "+/kv/data/x",
            "team/+/*",
            "team/k*",
        ] {
            let acl = acl(&[&format!(r#"path "{path}" {{ capabilities = ["read"] }}"#)]);
            assert!(acl.any_under("team/kv/", NOW), "{path}");
        }
        for text in [
            r#"path "team/other/x" { capabilities = ["read"] }"#,
            r#"path "team/kvx" { capabilities = ["read"] }"#,
            r#"path "team" { capabilities = ["read"] }"#,
            r#"path "team/kv/x" { capabilities = ["deny"] }"#,
            r#"path "team/kv/x" { capabilities = [] }"#,
            r#"path "+/other/*" { capabilities = ["read"] }"#,
            r#"path "team/*" { capabilities = ["read"] } path "team/kv/*" { capabilities = ["deny"] }"#,
            "",
        ] {
            assert!(!acl(&[text]).any_under("team/kv/", NOW), "{text}");
        }
    }

    #[test]
    fn an_expired_rule_leaves_its_place_to_the_next() {
        let acl = acl(&[
            r#"path "a/x" { capabilities = ["read", "delete"] expiration = "2023-11-14T22:13:21Z" }
               path "a/+" { capabilities = ["deny"] expiration = "2023-11-14T22:13:22Z" }
               path "a/*" { capabilities = ["list"] }"#,
            r#"path "a/*" { capabilities = ["update"] expiration = "2023-11-14T22:13:23Z" }"#,
        ]);
        let after = |seconds| NOW.plus(Duration::from_secs(seconds));
        let at = |seconds| acl.capabilities("a/x", after(seconds)).join(",");
        assert_eq!(at(0), "delete,read");
        assert_eq!(at(1), "deny", "at the very moment it is over");
        assert_eq!(at(2), "list,update");
        assert_eq!(at(3), "list");
        let update = Ask { now: after(2), ..ask("a/x", Capability::Update) };
        assert_eq!(acl.check(&update).granting(), ["p1"]);
        let update = Ask { now: after(3), ..update };
        assert!(!acl.check(&update).allowed);
    }

    /// What the tables answer, said slowly: all patterns that fit, by Vault's five rules.
    fn slow(patterns: &[String], path: &str) -> Option<usize> {
        let fits = |pattern: &str| {
            let (own, is_prefix) = match pattern.strip_suffix('*') {
                Some(own) => (own, true),
                None => (pattern, false),
            };
            let (own, given): (Vec<_>, Vec<_>) =
                (own.split('/').collect(), path.split('/').collect());
            let last = own.len() - 1;
            let count = if is_prefix { given.len() >= own.len() } else { given.len() == own.len() };
            count
                && own.iter().zip(&given).enumerate().all(|(index, (own, given))| {
                    *own == "+"
                        || own == given
                        || is_prefix && index == last && given.starts_with(own)
                })
        };
        let rank = |pattern: &str| {
            let own = pattern.strip_suffix('*').unwrap_or(pattern);
            let plus = own.split('/').filter(|segment| *segment == "+").count();
            let first = own
                .split('/')
                .position(|segment| segment == "+")
                .map(|index| own.split('/').take(index).map(|segment| segment.len() + 1).sum());
            let first =
                first.unwrap_or(if pattern.ends_with('*') { own.len() } else { usize::MAX });
            (first, !pattern.ends_with('*'), usize::MAX - plus, own.len(), own.to_owned())
        };
        (0..patterns.len()).filter(|&at| fits(&patterns[at])).max_by_key(|&at| rank(&patterns[at]))
    }

    proptest! {
        #[test]
        fn the_tables_agree_with_vaults_rules(
            patterns in proptest::collection::btree_set("((a|b|ab|\\+)/){0,3}(a|b|ab|\\+|a\\*|\\*)", 0..10),
            path in "((a|b|ab)/){0,3}(a|b|ab)",
        ) {
            let patterns: Vec<String> = patterns.into_iter().collect();
            let texts: Vec<String> = patterns
                .iter()
                .map(|pattern| format!(r#"path "{pattern}" {{ capabilities = ["read"] }}"#))
                .collect();
            let acl = acl(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            let expected: Vec<_> =
                slow(&patterns, &path).map(|at| format!("p{at}")).into_iter().collect();
            prop_assert_eq!(acl.check(&ask(&path, Capability::Read)).granting(), expected);
        }
    }
}

mod conditions {
    use super::*;

    /// Recorded: `policies/params/*`.
    #[test]
    fn parameters_are_the_peers() {
        let acl = acl(&[
            r#"path "kv/p/allowed" { capabilities = ["create", "update"] allowed_parameters = { "a" = ["1", "x*"] "b" = [] } }
               path "kv/p/denied" { capabilities = ["create", "update"] denied_parameters = { "a" = ["bad"] "secret" = [] } }
               path "kv/p/required" { capabilities = ["create", "update"] required_parameters = ["a"] }
               path "kv/p/star" { capabilities = ["create", "update"] denied_parameters = { "*" = [] } }"#,
        ]);
        for (path, name, value, expected) in [
            ("allowed", "a", "1", true),
            ("allowed", "a", "xyz", true),
            ("allowed", "b", "anything", true),
            ("allowed", "a", "2", false),
            ("allowed", "c", "1", false),
            ("denied", "a", "bad", false),
            ("denied", "a", "good", true),
            ("denied", "secret", "x", false),
            ("denied", "SECRET", "x", false),
            ("required", "b", "1", false),
            ("required", "a", "1", true),
            ("star", "a", "1", false),
        ] {
            let raw = format!("{value:?}");
            let path = format!("kv/p/{path}");
            assert_eq!(writes(&acl, &path, &[(name, &raw)]), expected, "{path} {name}={value}");
        }
        for path in ["kv/p/allowed", "kv/p/denied", "kv/p/star"] {
            assert!(writes(&acl, path, &[]), "no fields, nothing to refuse: {path}");
            assert!(allows(&acl, Capability::Create, path));
        }
        assert!(!allows(&acl, Capability::Update, "kv/p/required"));
    }

    #[test]
    fn denied_parameters_win_over_allowed_ones_and_every_field_counts() {
        let acl = acl(&[r#"path "x" { capabilities = ["update"]
                 allowed_parameters = { "*" = [] "a" = ["1"] } denied_parameters = { "d" = [] } }"#]);
        assert!(writes(&acl, "x", &[("a", "\"1\""), ("b", "2")]));
        assert!(!writes(&acl, "x", &[("b", "2"), ("a", "\"2\"")]));
        assert!(!writes(&acl, "x", &[("d", "null"), ("b", "2")]));
    }

    #[test]
    fn conditions_of_several_policies_add_up() {
        let acl = acl(&[
            r#"path "x" { capabilities = ["update"] allowed_parameters = { "a" = ["1"] } required_parameters = ["A"] }"#,
            r#"path "x" { capabilities = ["read"] allowed_parameters = { "a" = ["2"] "b" = [] } required_parameters = ["b"] }"#,
        ]);
        assert!(writes(&acl, "x", &[("a", "\"1\""), ("b", "1")]));
        assert!(writes(&acl, "x", &[("a", "\"2\""), ("b", "1")]));
        assert!(!writes(&acl, "x", &[("a", "\"3\""), ("b", "1")]));
        assert!(!writes(&acl, "x", &[("a", "\"1\"")]));
    }

    #[test]
    fn conditions_bind_deletes_and_lists_that_carry_fields() {
        let acl = acl(&[
            r#"path "x" { capabilities = ["delete", "list"] denied_parameters = { "versions" = [] } required_parameters = ["a"] }"#,
        ]);
        let each = |visit: &mut dyn FnMut(&str, &str)| visit("versions", "[1]");
        assert!(allows(&acl, Capability::Delete, "x") && allows(&acl, Capability::List, "x"));
        assert!(!acl.check(&Ask { fields: Some(&each), ..ask("x", Capability::Delete) }).allowed);
        assert!(!acl.check(&Ask { fields: Some(&each), ..ask("x", Capability::List) }).allowed);
    }

    #[test]
    fn the_query_that_makes_a_get_a_list_is_no_parameter() {
        let acl = acl(&[
            r#"path "x/" { capabilities = ["list", "read"] allowed_parameters = { "a" = [] } denied_parameters = { "b" = [] } }"#,
        ]);
        let each = |visit: &mut dyn FnMut(&str, &str)| visit("list", "\"true\"");
        assert!(acl.check(&Ask { fields: Some(&each), ..ask("x/", Capability::List) }).allowed);
        assert!(!acl.check(&Ask { fields: Some(&each), ..ask("x/", Capability::Read) }).allowed);
    }

    /// Recorded: `wrapping/policy/*`.
    #[test]
    fn wrapping_bounds_are_the_peers_and_make_wrapping_mandatory() {
        let acl = acl(&[
            r#"path "sys/policies/acl/p1" { capabilities = ["read"] min_wrapping_ttl = "1m" max_wrapping_ttl = "1h" }"#,
        ]);
        let wrapped = |seconds: Option<u64>| {
            let wrap_ttl = seconds.map(Duration::from_secs);
            acl.check(&Ask { wrap_ttl, ..ask("sys/policies/acl/p1", Capability::Read) }).allowed
        };
        assert!(!wrapped(None));
        assert!(!wrapped(Some(10)));
        assert!(!wrapped(Some(7200)));
        assert!(wrapped(Some(300)) && wrapped(Some(60)) && wrapped(Some(3600)));
    }

    #[test]
    fn of_two_wrapping_bounds_the_lower_one_counts() {
        let acl = acl(&[
            r#"path "x" { capabilities = ["read"] min_wrapping_ttl = 60 max_wrapping_ttl = "1h" }"#,
            r#"path "x" { capabilities = ["read"] min_wrapping_ttl = "10s" max_wrapping_ttl = "5m" }"#,
        ]);
        let wrapped = |seconds| {
            let wrap_ttl = Some(Duration::from_secs(seconds));
            acl.check(&Ask { wrap_ttl, ..ask("x", Capability::Read) }).allowed
        };
        assert!(wrapped(10) && wrapped(300));
        assert!(!wrapped(9) && !wrapped(301));
    }

    #[test]
    fn a_pagination_limit_wants_a_page_that_fits() {
        let acl = acl(&[
            r#"path "x/" { capabilities = ["list", "read"] pagination_limit = 100 }"#,
            r#"path "x/" { capabilities = ["scan"] pagination_limit = 50 }"#,
        ]);
        let list = |fields: &[(&str, &str)]| {
            let each = |visit: &mut dyn FnMut(&str, &str)| {
                for (name, raw) in fields {
                    visit(name, raw);
                }
            };
            acl.check(&Ask { fields: Some(&each), ..ask("x", Capability::List) }).allowed
        };
        assert!(list(&[("limit", "\"50\"")]) && list(&[("limit", "1"), ("after", "\"a\"")]));
        for raw in ["51", "0", "-1", "\"\"", "1.5", "null"] {
            assert!(!list(&[("limit", raw)]), "{raw}");
        }
        assert!(!list(&[]) && !list(&[("limit", "1"), ("limit", "1000")]));
        assert!(!allows(&acl, Capability::Scan, "x"));
        assert!(allows(&acl, Capability::Read, "x/"));
    }

    #[test]
    fn a_list_can_be_required_to_name_a_limit() {
        let acl =
            acl(&[r#"path "x/" { capabilities = ["list"] required_parameters = ["limit"] }"#]);
        let each = |visit: &mut dyn FnMut(&str, &str)| visit("limit", "5");
        assert!(!allows(&acl, Capability::List, "x"));
        assert!(acl.check(&Ask { fields: Some(&each), ..ask("x", Capability::List) }).allowed);
    }
}
