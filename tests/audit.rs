//! What the audit file of the real binary tells of a request: who asked, and what let it in or did not.

use std::fs;

use serde_json::Value;

use crate::support::Process;

#[test]
fn a_line_says_who_asked_and_which_policies_let_it_in() {
    let folder = tempfile::tempdir().unwrap();
    let (process, kept) = Process::init(folder.path());
    let post = |path: &str, body: &str| process.call("POST", path, &kept.root, body);
    let policy = r#"{"policy":"path \"secret/data/a\" { capabilities = [\"read\"] }"}"#;
    assert_eq!(post("sys/policies/acl/reads", policy).status, 204);
    let made = post("auth/token/create", r#"{"policies":["reads"],"no_default_policy":true}"#);
    let made = made.json();
    let token = made["auth"]["client_token"].as_str().unwrap();
    for (path, status, is_allowed) in [("secret/data/a", 404, true), ("secret/data/b", 403, false)]
    {
        assert_eq!(process.call("GET", path, token, "").status, status);
        let text = fs::read_to_string(folder.path().join("audit.log")).unwrap();
        // Names are digested in this file, so they are the last two lines.
        let lines: Vec<&str> = text.lines().rev().take(2).collect();
        let [response, request] = [0, 1].map(|n| serde_json::from_str::<Value>(lines[n]).unwrap());
        assert_eq!((&request["type"], &response["type"]), (&"request".into(), &"response".into()));
        assert_eq!(request["request"]["id"], response["request"]["id"]);
        let auth = &request["auth"];
        assert!(auth["client_token"].as_str().unwrap().starts_with("hmac-sha256:"), "{auth}");
        assert!(auth["accessor"].is_string(), "{auth}");
        assert_eq!(auth["policy_results"]["allowed"], is_allowed, "{auth}");
        let granting = auth["policy_results"]["granting_policies"].to_string();
        assert_eq!(granting.contains("reads"), is_allowed, "{auth}");
    }
}
