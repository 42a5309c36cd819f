//! Bodies by route: anything asked of a whole vault gets an answer that is not the server's own
//! mistake; who may not read a secret is not told it and does not change it, and a token that was
//! changed is none.
//!
//! Input: who asks (the lowest two bits: the root token, a guest's, none, a changed one; the others
//! pick the change and the media type), the operation, the route; then a line with what stands for
//! the stars of the route, joined by spaces, and the query; then the body. A route beyond the list is
//! the line itself.
#![no_main]

use std::cell::RefCell;

use kista::gate::{Media, Operation, Public};
use kista_fuzz::{Asked, Server};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const ROUTES: &[&str] = &[
    "*",
    "kv/data/*",
    "kv/metadata/*",
    "kv/subkeys/*",
    "kv/delete/*",
    "kv/undelete/*",
    "kv/destroy/*",
    "kv/detailed-metadata/*",
    "kv/tree/copy/*",
    "kv/tree/move/*",
    "kv/tree/delete/*",
    "kv/tree/destroy/*",
    "kv/config",
    "old/*",
    "cubbyhole/*",
    "transit/keys/*",
    "transit/keys/*/config",
    "transit/keys/*/rotate",
    "transit/keys/*/trim",
    "transit/keys/*/import",
    "transit/keys/*/import_version",
    "transit/keys/*/usage",
    "transit/encrypt/*",
    "transit/decrypt/*",
    "transit/rewrap/*",
    "transit/describe/*",
    "transit/datakey/*/*",
    "transit/sign/*",
    "transit/verify/*",
    "transit/hmac/*",
    "transit/export/*/*",
    "transit/byok-export/*/*",
    "transit/backup/*",
    "transit/restore/*",
    "transit/hash",
    "transit/hash/*",
    "transit/random/*",
    "transit/random/*/*",
    "transit/wrapping_key",
    "auth/token/create",
    "auth/token/create-orphan",
    "auth/token/lookup",
    "auth/token/lookup-accessor",
    "auth/token/lookup-self",
    "auth/token/renew",
    "auth/token/renew-self",
    "auth/token/revoke",
    "auth/token/revoke-accessor",
    "auth/token/revoke-orphan",
    "auth/token/revoke-self",
    "auth/token/accessors",
    "sys/capabilities",
    "sys/capabilities-self",
    "sys/capabilities-accessor",
    "sys/policies/acl/*",
    "sys/policy/*",
    "sys/mounts/*",
    "sys/mounts/*/tune",
    "sys/auth/*",
    "sys/remount",
    "sys/internal/ui/mounts",
    "sys/internal/ui/mounts/*",
    "sys/quotas/config",
    "sys/quotas/rate-limit/*",
    "sys/slots",
    "sys/slots/*",
    "sys/rekey/init",
    "sys/rekey/update",
    "sys/rekey/verify",
    "sys/rotate",
    "sys/rotate/config",
    "sys/rotate/names",
    "sys/rotate/root/init",
    "sys/rotate/status",
    "sys/compact",
    "sys/verify",
    "sys/key-status",
    "sys/seal",
    "sys/unseal",
    "sys/init",
    "sys/health",
    "sys/seal-status",
    "sys/leader",
];

const GUEST: &str = r#"
path "kv/+/mine/*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "scan"] }
path "kv/tree/+/mine/*" { capabilities = ["update"] }
path "kv/metadata/" { capabilities = ["list", "scan"] }
path "kv/config" { capabilities = ["read"] }
path "old/mine/*" { capabilities = ["create", "read", "update", "delete", "list", "scan"] }
path "transit/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "auth/token/*" { capabilities = ["create", "read", "update", "list"] }
path "sys/*" { capabilities = ["read", "list", "sudo"] }
path "sys/capabilities*" { capabilities = ["update"] }
"#;

/// A vault with secrets that the guest may not read.
struct Ground {
    server: Server,
    guest: String,
    /// Stands in every value that the guest may not see.
    planted: String,
    writes: u32,
}

impl Ground {
    fn new() -> Self {
        let server = Server::new();
        let write = |path: &str, body: Value| server.done(Operation::Write, path, &body);
        write("sys/mounts/kv", json!({"type": "kv", "options": {"version": "2"}}));
        write("sys/mounts/old", json!({"type": "kv"}));
        write("sys/mounts/transit", json!({"type": "transit"}));
        write("sys/policies/acl/guest", json!({"policy": GUEST}));
        write("transit/keys/aes", json!({}));
        // Of this run alone: the fuzzer cannot bring it along.
        let random = write("transit/random/16", json!({"format": "hex"}));
        let planted = format!("planted-{}", random["data"]["random_bytes"].as_str().expect("hex"));
        write("kv/data/hidden/a", json!({"data": {"value": planted, "list": [planted]}}));
        write("kv/data/hidden/a", json!({"data": {"value": planted}}));
        write("kv/metadata/hidden/a", json!({"custom_metadata": {"owner": planted}}));
        write("kv/data/mine/a", json!({"data": {"value": "a", "map": {"b": [1, null, true]}}}));
        write("old/hidden/a", json!({"value": planted}));
        write("old/mine/a", json!({"value": "a"}));
        write("cubbyhole/a", json!({"value": planted}));
        let made = write("auth/token/create", json!({"policies": ["guest"], "period": "700h"}));
        let guest = made["auth"]["client_token"].as_str().expect("a token").to_owned();
        Self { server, guest, planted, writes: 0 }
    }

    fn asks(&self, token: &str, path: &str) -> Option<(u16, Vec<u8>)> {
        let (operation, media) = (Operation::Read, Media::Absent);
        let token = Some(token);
        self.server.call(&Asked { operation, path, query: "", token, media, body: b"" })
    }

    /// What a guest must not have changed.
    fn check_hidden(&self) {
        for (path, version) in [("kv/data/hidden/a", Some(2)), ("old/hidden/a", None)] {
            let answer = self.server.done(Operation::Read, path, &Value::Null);
            let data = &answer["data"];
            let (data, found) = match version {
                Some(_) => (&data["data"], data["metadata"]["version"].as_u64()),
                None => (data, None),
            };
            assert_eq!((data["value"].as_str(), found), (Some(&*self.planted), version), "{path}");
        }
    }

    /// Whether it can go on: open, with its tokens, and not too full.
    fn is_usable(&self) -> bool {
        let path = "auth/token/lookup-self";
        let holds = |token: &str| self.asks(token, path).is_some_and(|(status, _)| status == 200);
        self.writes < 20_000 && holds(self.server.root()) && holds(&self.guest)
    }
}

thread_local! {
    /// One whose state the guest alone has changed, and one for the root token.
    static GROUNDS: RefCell<[Option<Ground>; 2]> = const { RefCell::new([None, None]) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    Guest,
    Nobody,
    Changed,
}

fn ask(ground: &mut Ground, who: Who, how: u8, operation: u8, route: u8, line: &str, body: &[u8]) {
    let (line, query) = line.split_once('?').unwrap_or((line, ""));
    let path = path_of(route, line);
    let changed = changed(&ground.guest, how);
    let token = match who {
        Who::Root => Some(ground.server.root()),
        Who::Guest => Some(&*ground.guest),
        Who::Nobody => None,
        Who::Changed => Some(&*changed),
    };
    let operation = Operation::ALL[usize::from(operation) % Operation::ALL.len()];
    let media = match how % 4 {
        0 => Media::Json,
        1 => Media::Absent,
        2 => Media::MergePatch,
        _ => Media::Form,
    };
    let asked = Asked { operation, path: &path, query, token, media, body };
    let Some((status, answer)) = ground.server.call(&asked) else { return };
    let text = String::from_utf8_lossy(&answer);
    assert_ne!(status, 500, "{operation:?} {path}?{query}: {text}");
    if !answer.is_empty() {
        assert!(kista::json::check(&answer).is_ok(), "{operation:?} {path}: {text}");
    }
    if who != Who::Root {
        assert!(!text.contains(&ground.planted), "{operation:?} {path}?{query}: {text}");
        assert!(!text.contains(ground.server.root()) && !text.contains(ground.server.share()));
    }
    if matches!(who, Who::Nobody | Who::Changed) && Public::at(path.trim_end_matches('/')).is_none()
    {
        assert!(status >= 400, "{operation:?} {path}: {status} {text}");
    }
    let is_read = matches!(operation, Operation::Read | Operation::List | Operation::Scan);
    if status < 300 && !is_read {
        ground.writes += 1;
        if who != Who::Root {
            ground.check_hidden();
        }
    }
}

/// The route with names in the place of its stars.
fn path_of(route: u8, line: &str) -> String {
    let Some(route) = ROUTES.get(usize::from(route)).filter(|route| **route != "*") else {
        return line.to_owned();
    };
    let mut names = line.split(' ');
    let mut path = String::new();
    for (n, part) in route.split('*').enumerate() {
        if n > 0 {
            path.push_str(names.next().unwrap_or_default());
        }
        path.push_str(part);
    }
    path
}

/// The token with one of its letters changed, cut or doubled.
fn changed(token: &str, how: u8) -> String {
    let place = usize::from(how >> 2) % token.len();
    let (front, back) = token.split_at(place);
    match how % 3 {
        0 => format!("{front}{}{}", if back.starts_with('A') { 'B' } else { 'A' }, &back[1..]),
        1 => front.to_owned(),
        _ => format!("{front}{}{back}", &back[..1]),
    }
}

fuzz_target!(|input: &[u8]| {
    let [who, operation, route, rest @ ..] = input else { return };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (line, body) = rest.split_at(end);
    let Ok(line) = std::str::from_utf8(line) else { return };
    let body = body.get(1..).unwrap_or_default();
    let how = who >> 2;
    let who = [Who::Root, Who::Guest, Who::Nobody, Who::Changed][usize::from(who % 4)];
    GROUNDS.with_borrow_mut(|grounds| {
        let ground = &mut grounds[usize::from(who == Who::Root)];
        let open = ground.get_or_insert_with(Ground::new);
        let before = open.writes;
        ask(open, who, how, *operation, *route, line, body);
        if open.writes != before && !open.is_usable() {
            *ground = None;
        }
    });
});
