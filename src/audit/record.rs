use std::{collections::BTreeMap, io::Write as _, mem, net::SocketAddr, time::Duration};

use crate::{clock::Timestamp, secret::SecretString};

use super::{
    digest::{Digester, Names, Scratch},
    json::{Object, push_text},
};

/// What one line tells: a request, or the answer to one. The members are Vault's, in Vault's order.
#[derive(Debug)]
pub struct Entry<'a> {
    /// When.
    pub time: Timestamp,
    /// Before the work or after it.
    pub kind: Kind,
    /// Who; `None` when nobody could be told from the request.
    pub auth: Option<AuthPart<'a>>,
    /// What was asked.
    pub request: RequestPart<'a>,
    /// What is answered, on the second line.
    pub response: Option<ResponsePart<'a>>,
    /// Why it was refused or failed.
    pub error: Option<&'a str>,
}

/// A request that was let in, whose line waited for its answer's. The answer's line tells the rest.
#[derive(Debug, Clone, Copy)]
pub struct Admitted<'a> {
    /// When.
    pub time: Timestamp,
    /// What the policies said.
    pub policy_results: PolicyResults<'a>,
}

/// Which of a request's two lines this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Before anything is done.
    Request,
    /// Before the answer leaves.
    Response,
}

/// The token behind a request, or the one that an answer hands out.
#[derive(Debug)]
pub struct AuthPart<'a> {
    /// The token; the line shows its digest.
    pub client_token: Option<&'a SecretString>,
    /// Its accessor; the line shows its digest.
    pub accessor: Option<&'a str>,
    /// Where it came from, `root` or `token` for example.
    pub display_name: &'a str,
    /// All policies that hold.
    pub policies: &'a [String],
    /// Those of the token itself.
    pub token_policies: &'a [String],
    /// What its maker noted about it.
    pub metadata: Option<&'a BTreeMap<String, String>>,
    /// The entity, empty without one.
    pub entity_id: &'a str,
    /// `service` or `batch`.
    pub token_type: &'a str,
    /// Its time to live when it was made; zero is for ever.
    pub token_ttl: Duration,
    /// When it was made.
    pub token_issue_time: Option<Timestamp>,
    /// Uses left, of a token that has a limit.
    pub remaining_uses: Option<u64>,
    /// What the policies said, once they were asked.
    pub policy_results: Option<PolicyResults<'a>>,
}

/// What the policies said about a request.
#[derive(Debug, Clone, Copy)]
pub struct PolicyResults<'a> {
    /// Whether it may be done.
    pub allowed: bool,
    /// Names of the policies that grant it.
    pub granting_policies: &'a [String],
}

/// The mount that a request is for.
#[derive(Debug, Clone, Copy)]
pub struct MountPart<'a> {
    /// Its path, `secret/` for example.
    pub point: &'a str,
    /// Its type, `kv` for example.
    pub mount_type: &'a str,
    /// Its accessor; empty when the request did not get that far.
    pub accessor: &'a str,
    /// `secret` or `auth`.
    pub class: &'a str,
}

/// What was asked.
#[derive(Debug)]
pub struct RequestPart<'a> {
    /// Name of the request, the same in both lines and in the answer.
    pub id: &'a str,
    /// Vault's word: `create`, `update`, `read`, `delete`, `list`, `patch`, …
    pub operation: &'a str,
    /// Where it goes, if anything is mounted there.
    pub mount: Option<MountPart<'a>>,
    /// The token that came with it; the line shows its digest.
    pub client_token: Option<&'a SecretString>,
    /// The accessor of that token; the line shows its digest.
    pub client_token_accessor: Option<&'a str>,
    /// The whole path below `/v1/`.
    pub path: &'a str,
    /// The body, as JSON; every leaf is digested.
    pub data: Option<&'a [u8]>,
    /// Where it came from.
    pub remote: Option<SocketAddr>,
    /// For how long the answer shall be wrapped.
    pub wrap_ttl: Option<Duration>,
}

/// What is answered.
#[derive(Debug)]
pub struct ResponsePart<'a> {
    /// The token handed out.
    pub auth: Option<AuthPart<'a>>,
    /// The `data` of the answer, as JSON; every leaf is digested.
    pub data: Option<&'a [u8]>,
    /// Warnings to the caller.
    pub warnings: &'a [String],
}

/// Writes entries as one device wants them.
pub(super) struct Renderer<'a> {
    pub(super) digester: &'a Digester,
    pub(super) hash_paths: bool,
    pub(super) scratch: &'a mut Scratch,
}

impl Renderer<'_> {
    /// Appends the body of a line: the object without its closing brace, so that the chain can add
    /// its two members.
    pub(super) fn body(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        self.scratch.forget();
        let common = self.common(entry);
        let results = entry.auth.as_ref().and_then(|auth| auth.policy_results);
        let mut line = common.open(entry.time, entry.kind, results, out);
        self.rest(entry, &common, &mut line);
        self.scratch.common = common.trimmed();
    }

    /// Appends the bodies of both lines of a request: what they have in common is made once.
    pub(super) fn bodies(
        &mut self,
        request: Admitted<'_>,
        answer: &Entry<'_>,
        [first, second]: &mut [Vec<u8>; 2],
    ) {
        self.scratch.forget();
        let common = self.common(answer);
        common.open(request.time, Kind::Request, Some(request.policy_results), first);
        let mut line = common.open(answer.time, answer.kind, None, second);
        self.rest(answer, &common, &mut line);
        self.scratch.common = common.trimmed();
    }

    fn common(&mut self, entry: &Entry<'_>) -> Common {
        let mut common = mem::take(&mut self.scratch.common);
        let Common { auth, auth_end, mount, request } = &mut common;
        [&mut *auth, auth_end, mount, request].into_iter().for_each(Vec::clear);
        match &entry.auth {
            Some(part) => {
                self.auth_before_results(part, &mut Object::bare(auth));
                auth_behind_results(part, &mut Object::bare(auth_end));
            }
            None => Object::bare(auth).text("token_type", "default"),
        }
        if let Some(part) = &entry.request.mount {
            self.mount(part, &mut Object::bare(mount));
        }
        self.request(&entry.request, mount, &mut Object::bare(request));
        common
    }

    /// What stands behind what both lines of a request have.
    fn rest(&mut self, entry: &Entry<'_>, common: &Common, line: &mut Object<'_>) {
        if let Some(part) = &entry.response {
            let mut response = line.object("response");
            self.response(part, &common.mount, &mut response);
            response.close();
        }
        if let Some(error) = entry.error {
            self.prose(error, line.value("error"));
        }
    }

    fn auth(&mut self, part: &AuthPart<'_>, auth: &mut Object<'_>) {
        self.auth_before_results(part, auth);
        if let Some(results) = &part.policy_results {
            policy_results(results, auth);
        }
        auth_behind_results(part, auth);
    }

    fn auth_before_results(&mut self, part: &AuthPart<'_>, auth: &mut Object<'_>) {
        self.token("client_token", part.client_token, auth);
        self.digested("accessor", part.accessor, auth);
        auth.text_if_any("display_name", part.display_name);
        auth.array("policies", part.policies, |out, name| push_text(out, name));
        auth.array("token_policies", part.token_policies, |out, name| push_text(out, name));
    }

    fn request(&mut self, part: &RequestPart<'_>, mount: &[u8], request: &mut Object<'_>) {
        request.text("id", part.id);
        request.text("operation", part.operation);
        request.members(mount);
        self.token("client_token", part.client_token, request);
        self.digested("client_token_accessor", part.client_token_accessor, request);
        let mut namespace = request.object("namespace");
        namespace.text("id", "root");
        namespace.close();
        self.path(part.path, request.value("path"));
        if let Some(data) = part.data {
            self.data(data, request.value("data"));
        }
        if let Some(remote) = part.remote {
            // Nothing in an address is to be escaped, and memory takes all that is written.
            write!(request.value("remote_address"), "\"{}\"", remote.ip()).ok();
            request.number("remote_port", u64::from(remote.port()));
        }
        if let Some(ttl) = part.wrap_ttl {
            request.number("wrap_ttl", ttl.as_secs());
        }
    }

    fn response(&mut self, part: &ResponsePart<'_>, mount: &[u8], response: &mut Object<'_>) {
        if let Some(handed_out) = &part.auth {
            let mut auth = response.object("auth");
            self.auth(handed_out, &mut auth);
            auth.close();
        }
        response.members(mount);
        if let Some(data) = part.data {
            self.data(data, response.value("data"));
        }
        response.array("warnings", part.warnings, |out, text| self.prose(text, out));
    }

    fn mount(&self, mount: &MountPart<'_>, object: &mut Object<'_>) {
        self.path(mount.point, object.value("mount_point"));
        object.text("mount_type", mount.mount_type);
        object.text_if_any("mount_accessor", mount.accessor);
        object.text("mount_class", mount.class);
    }

    fn token(&mut self, name: &'static str, token: Option<&SecretString>, object: &mut Object<'_>) {
        if let Some(token) = token {
            token.expose(|token| self.digested(name, Some(token), object));
        }
    }

    fn digested(&mut self, name: &'static str, value: Option<&str>, object: &mut Object<'_>) {
        if let Some(value) = value {
            self.digester.push_again(object.value(name), value, self.scratch);
        }
    }

    fn data(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let names = if self.hash_paths { Names::Digested } else { Names::Clear };
        self.digester.push_json(out, raw, names, self.scratch);
    }

    fn path(&self, path: &str, out: &mut Vec<u8>) {
        if !self.hash_paths {
            return push_text(out, path);
        }
        out.push(b'"');
        for (place, segment) in path.split('/').enumerate() {
            if place > 0 {
                out.push(b'/');
            }
            if !segment.is_empty() {
                self.digester.push_bare(out, segment.as_bytes());
            }
        }
        out.push(b'"');
    }

    /// Errors and warnings are for people and stay clear, as in Vault. They may quote a path or a
    /// name from the body, so `hash_paths` makes them values too.
    fn prose(&self, text: &str, out: &mut Vec<u8>) {
        if self.hash_paths {
            self.digester.push_text(out, text.as_bytes());
        } else {
            push_text(out, text);
        }
    }
}

/// What both lines of a request have, as it stands in them: members, without the braces.
#[derive(Debug, Default)]
pub(super) struct Common {
    /// Of the caller, up to what the policies said.
    auth: Vec<u8>,
    /// Of the caller, behind what the policies said.
    auth_end: Vec<u8>,
    mount: Vec<u8>,
    request: Vec<u8>,
}

impl Common {
    /// One huge body does not stay for the life of the thread.
    fn trimmed(mut self) -> Self {
        self.request.truncate(ROOM_BYTES);
        self.request.shrink_to(ROOM_BYTES);
        self
    }

    /// Begins a line.
    fn open<'a>(
        &self,
        time: Timestamp,
        kind: Kind,
        results: Option<PolicyResults<'_>>,
        out: &'a mut Vec<u8>,
    ) -> Object<'a> {
        let mut line = Object::open(out);
        line.text("time", &time.rfc3339());
        line.text(
            "type",
            match kind {
                Kind::Request => "request",
                Kind::Response => "response",
            },
        );
        let mut auth = line.object("auth");
        auth.members(&self.auth);
        if let Some(results) = &results {
            policy_results(results, &mut auth);
        }
        auth.members(&self.auth_end);
        auth.close();
        let mut request = line.object("request");
        request.members(&self.request);
        request.close();
        line
    }
}

fn auth_behind_results(part: &AuthPart<'_>, auth: &mut Object<'_>) {
    if let Some(metadata) = part.metadata.filter(|metadata| !metadata.is_empty()) {
        let mut object = auth.object("metadata");
        for (name, value) in metadata {
            object.foreign(name, value);
        }
        object.close();
    }
    auth.text_if_any("entity_id", part.entity_id);
    auth.text_if_any("token_type", part.token_type);
    if !part.token_ttl.is_zero() {
        auth.number("token_ttl", part.token_ttl.as_secs());
    }
    if let Some(time) = part.token_issue_time {
        auth.text("token_issue_time", &time.rfc3339());
    }
    if let Some(uses) = part.remaining_uses {
        auth.number("remaining_uses", uses);
    }
}

fn policy_results(results: &PolicyResults<'_>, auth: &mut Object<'_>) {
    let mut object = auth.object("policy_results");
    object.boolean("allowed", results.allowed);
    object.array("granting_policies", results.granting_policies, |out, name| {
        let mut policy = Object::open(out);
        policy.text("name", name);
        policy.text("namespace_id", "root");
        policy.text("type", "acl");
        policy.close();
    });
    object.close();
}

/// Bytes of a buffer that a thread keeps.
pub(super) const ROOM_BYTES: usize = 64 * 1024;
