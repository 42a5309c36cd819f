//! Every route there is, asked by those who may not: with no token, with a token that may do
//! nothing, without sudo, and while sealed.

use std::collections::BTreeSet;

use kista::{
    auth::token::TokenMethod,
    engines::{cubbyhole::Cubbyhole, kv1::Kv1, kv2::Kv2, transit::Transit},
    gate::{Access, Operation, Public},
    route::Engine,
    system::System,
};

use crate::{
    source,
    support::{Answer, TestVault},
};

struct Route {
    operation: Operation,
    path: String,
    access: Access,
    wing: &'static str,
}

/// Every route of every wing, with something in the place of its parameters.
fn routes() -> Vec<Route> {
    let mut all = of::<System>("System", "sys/");
    all.extend(of::<TokenMethod>("TokenMethod", "auth/token/"));
    all.extend(of::<Cubbyhole>("Cubbyhole", "cubbyhole/"));
    all.extend(of::<Kv1>("Kv1", "plain/"));
    all.extend(of::<Kv2>("Kv2", "secret/"));
    all.extend(of::<Transit>("Transit", "transit/"));
    all
}

fn of<E: Engine>(wing: &'static str, mount: &str) -> Vec<Route> {
    let concrete = |pattern: &str| {
        let parts = pattern.split('/').map(|part| match part {
            "{*path}" => "a/b",
            part if part.starts_with('{') => "a",
            part => part,
        });
        parts.collect::<Vec<_>>().join("/")
    };
    let routes = E::routes().all().iter();
    routes
        .map(|route| Route {
            operation: route.operation,
            path: format!("{mount}{}", concrete(route.pattern)),
            access: route.needs.access,
            wing,
        })
        .collect()
}

#[test]
fn every_wing_is_in_the_table() {
    let listed: BTreeSet<_> = routes().iter().map(|route| route.wing.to_owned()).collect();
    assert_eq!(source::implementors("Engine"), listed);
}

#[test]
fn these_and_no_others_are_public() {
    let public: Vec<_> = Public::ALL.iter().map(|public| public.path()).collect();
    assert_eq!(public, ["sys/init", "sys/seal-status", "sys/unseal", "sys/health", "sys/leader"]);
}

#[test]
fn these_and_no_others_need_sudo() {
    assert_eq!(
        with(Access::Sudo),
        [
            "Delete sys/auth/a/b",
            "Delete sys/rekey/backup",
            "Delete sys/rekey/init",
            "Delete sys/rekey/verify",
            "Delete sys/rotate/root/backup",
            "Delete sys/rotate/root/init",
            "Delete sys/rotate/root/verify",
            "Delete sys/slots/a",
            "List auth/token/accessors",
            "List auth/token/accessors/",
            "Read sys/compact",
            "Read sys/rekey-recovery-key/init",
            "Read sys/rekey/backup",
            "Read sys/rekey/init",
            "Read sys/rekey/verify",
            "Read sys/rotate/root/backup",
            "Read sys/rotate/root/init",
            "Read sys/rotate/root/verify",
            "Read sys/slots",
            "Read sys/verify",
            "Write auth/token/revoke-orphan",
            "Write sys/auth/a/b",
            "Write sys/compact",
            "Write sys/rekey/init",
            "Write sys/rekey/update",
            "Write sys/rekey/verify",
            "Write sys/remount",
            "Write sys/rotate",
            "Write sys/rotate/keyring",
            "Write sys/rotate/names",
            "Write sys/rotate/root",
            "Write sys/rotate/root/init",
            "Write sys/rotate/root/update",
            "Write sys/rotate/root/verify",
            "Write sys/seal",
            "Write sys/slots",
            "Write sys/verify",
        ]
    );
}

#[test]
fn these_and_no_others_judge_their_callers_themselves() {
    assert_eq!(
        with(Access::Holder),
        [
            "Read sys/internal/ui/mounts",
            "Read sys/internal/ui/mounts/a/b",
            "Write secret/tree/copy/",
            "Write secret/tree/copy/a/b",
            "Write secret/tree/delete/",
            "Write secret/tree/delete/a/b",
            "Write secret/tree/destroy/",
            "Write secret/tree/destroy/a/b",
            "Write secret/tree/move/",
            "Write secret/tree/move/a/b",
        ]
    );
}

fn with(access: Access) -> Vec<String> {
    let routes = routes();
    let found = routes.iter().filter(|route| route.access == access);
    let mut found: Vec<_> =
        found.map(|route| format!("{:?} {}", route.operation, route.path)).collect();
    found.sort();
    found
}

#[tokio::test]
async fn no_route_answers_without_a_token() {
    let vault = TestVault::open().await;
    for token in [None, Some(""), Some("hvs.unknown"), Some(vault.root.trim_start_matches("hvs."))]
    {
        for route in routes() {
            let answer = vault.call(token, route.operation, &route.path, "{}").await;
            assert_eq!(answer.status, 403, "{:?} {}: {answer:?}", route.operation, route.path);
            assert_eq!(answer.json(), serde_json::json!({"errors": ["permission denied"]}));
        }
    }
}

#[tokio::test]
async fn no_route_answers_a_token_whose_policy_says_nothing() {
    let vault = TestVault::open().await;
    vault.policy("elsewhere", r#"path "other/*" { capabilities = ["read"] }"#).await;
    for route in routes() {
        let token = vault.token(&["elsewhere"]).await;
        let answer = vault.call(Some(&token), route.operation, &route.path, "{}").await;
        if route.path == "sys/internal/ui/mounts" {
            // It answers everyone what they may know, which is nothing here.
            let nothing = serde_json::json!({"auth": {}, "secret": {}});
            assert_eq!((answer.status, &answer.json()["data"]), (200, &nothing));
            continue;
        }
        assert_eq!(answer.status, 403, "{:?} {}: {answer:?}", route.operation, route.path);
        assert!(answer.json()["data"].is_null(), "{answer:?}");
    }
    assert!(!sealed(&vault).await);
}

#[tokio::test]
async fn sudo_is_asked_for_where_the_table_says() {
    let vault = TestVault::open().await;
    let all = r#"path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "scan"] }"#;
    vault.policy("no-sudo", all).await;
    for route in routes() {
        // A token of its own for each: some of them end the one they are called with.
        let token = vault.token(&["no-sudo"]).await;
        let answer = vault.call(Some(&token), route.operation, &route.path, "{}").await;
        let denied = answer.status == 403 && answer.text.contains("permission denied");
        let name = format!("{:?} {}: {answer:?}", route.operation, route.path);
        match route.access {
            Access::Sudo => assert!(denied, "{name}"),
            Access::Token | Access::Holder => assert!(!denied && answer.status != 405, "{name}"),
        }
    }
    assert!(!sealed(&vault).await);
}

#[tokio::test]
async fn a_route_that_asks_for_sudo_itself_hears_whether_its_caller_has_it() {
    let vault = TestVault::open().await;
    for (name, also, status) in [("plain", "", 400), ("sudo", r#", "sudo""#, 200)] {
        let text =
            format!(r#"path "auth/token/create" {{ capabilities = ["create", "update"{also}] }}"#);
        vault.policy(name, &text).await;
        let token = vault.token(&[name]).await;
        let body = r#"{"no_parent":true}"#;
        let answer = vault.call(Some(&token), Operation::Write, "auth/token/create", body).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn members_that_no_route_knows_are_told_wherever_something_is_answered() {
    let vault = TestVault::open().await;
    let answer = vault.as_root(Operation::Write, "auth/token/create", r#"{"colour":"red"}"#).await;
    assert_eq!(answer.status, 200);
    assert!(answer.json()["warnings"].to_string().contains("[colour]"), "{answer:?}");
    let body = r#"{"policy":"path \"a\" {}","colour":"red"}"#;
    let nothing = vault.as_root(Operation::Write, "sys/policies/acl/a", body).await;
    assert_eq!((nothing.status, nothing.text.as_str()), (204, ""));
}

#[tokio::test]
async fn the_status_of_health_is_another_one_while_sealed() {
    let vault = TestVault::open().await;
    let health = async || vault.call(None, Operation::Read, "sys/health", "").await.status;
    assert_eq!(health().await, 200);
    vault.seal().await;
    assert_eq!(health().await, 503);
}

#[tokio::test]
async fn while_sealed_only_public_routes_answer() {
    let vault = TestVault::open().await;
    vault.seal().await;
    for token in [None, Some(vault.root.as_str())] {
        for route in routes() {
            let answer = vault.call(token, route.operation, &route.path, "{}").await;
            assert_eq!(answer.status, 503, "{:?} {}: {answer:?}", route.operation, route.path);
            assert_eq!(answer.json(), serde_json::json!({"errors": ["Vault is sealed"]}));
        }
    }
    assert!(sealed(&vault).await);
    vault.unseal().await;
    assert_eq!(vault.as_root(Operation::Read, "sys/mounts", "").await.status, 200);
}

#[tokio::test]
async fn absent_and_forbidden_look_the_same() {
    let vault = TestVault::open().await;
    vault.as_root(Operation::Write, "secret/data/there", r#"{"data":{"a":1}}"#).await;
    vault.policy("elsewhere", r#"path "other/*" { capabilities = ["read"] }"#).await;
    let token = vault.token(&["elsewhere"]).await;
    let ask =
        async |path: &str| -> Answer { vault.call(Some(&token), Operation::Read, path, "").await };
    let there = ask("secret/data/there").await;
    for path in ["secret/data/absent", "nowhere/at/all", "sys/mounts", "sys/no/such/route"] {
        let absent = ask(path).await;
        assert_eq!((absent.status, absent.text), (there.status, there.text.clone()), "{path}");
    }
}

#[tokio::test]
async fn a_token_ends_when_its_time_is_up() {
    let vault = TestVault::open().await;
    vault.policy("reader", r#"path "secret/*" { capabilities = ["read"] }"#).await;
    let body = r#"{"policies":["reader"],"ttl":"10m"}"#;
    let made = vault.as_root(Operation::Write, "auth/token/create", body).await.json();
    let token = made["auth"]["client_token"].as_str().unwrap();
    let ask = || vault.call(Some(token), Operation::Read, "secret/data/x", "");
    vault.clock.advance(std::time::Duration::from_secs(599));
    assert_eq!(ask().await.status, 404);
    vault.clock.advance(std::time::Duration::from_secs(2));
    assert_eq!(ask().await.status, 403);
}

async fn sealed(vault: &TestVault) -> bool {
    let status = vault.call(None, Operation::Read, "sys/seal-status", "").await.json();
    status["sealed"].as_bool().unwrap()
}
