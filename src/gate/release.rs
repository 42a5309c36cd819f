use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    ApiError, AuthReply, Body, Granted, Ground, Head, JsonText, Operation, PathRefused, Place,
    RawReply, Released, Shape,
};
use crate::{
    audit::{
        Admitted, AuditError, AuthPart, Entry, Kind, MountPart, PolicyResults, RequestPart,
        ResponsePart,
    },
    clock::Timestamp,
    policy::Decision,
    quota::OverQuota,
    token::{self, Session},
};

/// Where the line of a request that changes nothing waits for its answer's: both are then written
/// at once, before the answer leaves. Should the process end between, there was neither a change
/// nor an answer.
///
/// It belongs to who lets the answer go, so that a handler that panics does not take it along.
#[derive(Debug, Default)]
pub struct Slot(Mutex<Option<Held>>);

/// What a line tells that is known only when the request is judged.
#[derive(Debug)]
struct Held {
    time: Timestamp,
    granting: Vec<String>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the audit line of an answer to a request that was admitted, behind the request's own if
/// that waits in `slot`, and lets it go. Without a line there is no answer but a 500.
pub async fn release(
    ground: &Ground,
    session: &Session,
    place: &Place,
    head: &Head,
    slot: &Slot,
    answer: Result<Granted, ApiError>,
) -> Released {
    let lines = Lines { ground, head, place: Some(place), session: Some(session) };
    let held = slot.lock().take();
    lines.release(answer, held).await
}

/// Lets a refusal go that came before there was a caller or a mount: both of its lines are written
/// here.
pub async fn refuse(
    ground: &Ground,
    session: Option<&Session>,
    head: &Head,
    error: ApiError,
) -> Released {
    let lines = Lines { ground, head, place: None, session };
    // Both have their places before anything is waited for, so that a client which leaves meanwhile
    // takes neither along.
    let request = lines.write_request(None, None, Some(&error));
    let released = lines.release(Err(error), None);
    match request.await {
        Ok(()) => released.await,
        Err(unwritten) => Released::of_error(&unwritten),
    }
}

/// Lets the refusal of a request go that is over its quota. It carries nothing of the store, and a
/// flood would fill the disk with lines, so that it has them only where the configuration says so.
pub async fn refuse_over_quota(ground: &Ground, head: &Head, over: &OverQuota) -> Released {
    let path = head.path.as_str();
    let text = format!("request path {path:?}: rate limit quota exceeded");
    let error = ApiError::new(429, text);
    let released = match over.is_audited {
        true => refuse(ground, None, head, error).await,
        false => Released::of_error(&error),
    };
    match released.status() {
        429 => released.retried_after(over.retry_after).telling(over.standing),
        // No device could write its line.
        _ => released,
    }
}

/// Answers that need no line, since sealed there is no audit key: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Public {
    /// `sys/init`.
    Init,
    /// `sys/seal-status`.
    SealStatus,
    /// `sys/unseal`; attempts are counted, and told in the first line after unseal.
    Unseal,
    /// `sys/health`.
    Health,
    /// `sys/leader`.
    Leader,
}

impl Public {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 5] =
        [Self::Init, Self::SealStatus, Self::Unseal, Self::Health, Self::Leader];

    /// The path that it answers.
    pub fn path(self) -> &'static str {
        match self {
            Self::Init => "sys/init",
            Self::SealStatus => "sys/seal-status",
            Self::Unseal => "sys/unseal",
            Self::Health => "sys/health",
            Self::Leader => "sys/leader",
        }
    }

    /// The one that answers `path`.
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|public| public.path() == path)
    }
}

/// Lets the answer of a public route go, bare as Vault's handlers below the router answer.
pub fn release_public(_: Public, answer: Result<(u16, JsonText), ApiError>) -> Released {
    match answer {
        Ok((status, data)) => {
            let reply = RawReply {
                status: Some(status),
                shape: Shape::Bare,
                data: Some(data),
                ..RawReply::empty()
            };
            Released::of_reply("", &reply, None)
        }
        Err(error) => {
            log(&error, "");
            Released::of_error(&error)
        }
    }
}

/// Answers given before the gate: they carry nothing of the store, so they need no line.
#[derive(Debug)]
pub enum Rejection {
    /// The path is not one.
    BadPath(PathRefused),
    /// The query does not decode, or `list` or `scan` is not a boolean.
    BadQuery(&'static str),
    /// A header is there that cannot be read.
    BadHeader(&'static str),
    /// No route has this method.
    MethodNotAllowed,
    /// Outside `/v1/`.
    NotFound,
    /// `X-Vault-Namespace` names one that is not there.
    NamespaceNotFound,
    /// More bytes than the route takes.
    BodyTooLarge,
    /// The body did not come in time, or broke off.
    BodyIncomplete,
    /// The caller asks for wrapping, which is not there yet: answering in the clear would leak.
    WrappingUnsupported,
    /// More requests at once than the server takes; nothing was done for this one.
    TooBusy,
    /// It was not done in time; what it has begun goes on.
    TookTooLong,
    /// Shares or passphrases were shown too often; they are taken again after so many seconds.
    TooManyAttempts(u64),
    /// The vault is sealed or not initialised.
    Sealed,
}

/// Lets such an answer go.
pub fn reject(rejection: &Rejection) -> Released {
    let error = match rejection {
        Rejection::BadPath(refused) => ApiError::bad_request(refused.to_string()),
        Rejection::BadQuery(text) | Rejection::BadHeader(text) => ApiError::bad_request(*text),
        Rejection::MethodNotAllowed => ApiError::bare(405),
        Rejection::NotFound => ApiError::not_found(),
        Rejection::NamespaceNotFound => ApiError::new(404, "namespace not found"),
        Rejection::BodyTooLarge => ApiError::new(413, "http: request body too large"),
        Rejection::BodyIncomplete => {
            ApiError::new(408, "the request's body did not arrive in time")
        }
        Rejection::WrappingUnsupported => ApiError::bad_request(
            "response wrapping is not supported yet; send the request without X-Vault-Wrap-TTL",
        ),
        Rejection::TooBusy => ApiError::new(503, "too many requests at once; try again"),
        Rejection::TookTooLong => {
            ApiError::new(503, "the request took too long; what it has begun is still being done")
        }
        Rejection::TooManyAttempts(seconds) => {
            let text = format!("too many attempts to open the vault; try again in {seconds} s");
            return Released::of_error(&ApiError::new(429, text)).retried_after(*seconds);
        }
        Rejection::Sealed => ApiError::sealed(),
    };
    Released::of_error(&error)
}

/// The audit lines of one request.
pub(super) struct Lines<'a> {
    pub(super) ground: &'a Ground,
    pub(super) head: &'a Head,
    pub(super) place: Option<&'a Place>,
    pub(super) session: Option<&'a Session>,
}

impl Lines<'_> {
    /// The line of a request that has been judged.
    pub(super) async fn request(
        &self,
        body: &Body,
        judged: (bool, &Decision<'_>),
        error: Option<&ApiError>,
    ) -> Result<(), ApiError> {
        if !self.ground.audit.is_enabled() {
            return Ok(());
        }
        let (allowed, decision) = judged;
        let granting = granting(decision);
        let results = PolicyResults { allowed, granting_policies: &granting };
        let written = body.expose_bytes(|data| self.write_request(data, Some(results), error));
        written.await
    }

    /// Has the line of a request that is let in wait for its answer's.
    pub(super) fn hold(&self, decision: &Decision<'_>, slot: &Slot) {
        if self.ground.audit.is_enabled() {
            let held = Held { time: self.ground.clock.now(), granting: granting(decision) };
            *slot.lock() = Some(held);
        }
    }

    /// The line has its place when this returns; the future is done when it is written.
    fn write_request<'b>(
        &'b self,
        data: Option<&[u8]>,
        results: Option<PolicyResults<'_>>,
        error: Option<&ApiError>,
    ) -> impl Future<Output = Result<(), ApiError>> + Send + use<'b> {
        let error = error.map(text_of);
        let entry = Entry {
            error: error.as_deref(),
            request: self.request_part(data),
            ..self.entry(Kind::Request, self.ground.clock.now(), results)
        };
        let written = self.ground.audit.lines(&entry, None);
        async move { written.await.map_err(ApiError::internal) }
    }

    /// The line of the answer, behind that of a request that waited, and then the answer. The lines
    /// have their place when this returns; the future is done when they are written.
    fn release<'b>(
        &'b self,
        answer: Result<Granted, ApiError>,
        held: Option<Held>,
    ) -> impl Future<Output = Released> + Send + use<'b> {
        if let Err(error) = &answer {
            log(error, &self.head.id);
        }
        let written = self.ground.audit.is_enabled().then(|| self.response(&answer, held));
        async move {
            if let Some(written) = written
                && let Err(unwritten) = written.await
            {
                let unwritten = ApiError::internal(unwritten);
                log(&unwritten, &self.head.id);
                return Released::of_error(&unwritten);
            }
            match answer {
                Ok((reply, auth)) => Released::of_reply(&self.head.id, &reply, auth.as_deref()),
                Err(error) => Released::of_error(&error),
            }
        }
    }

    fn response<'b>(
        &'b self,
        answer: &Result<Granted, ApiError>,
        held: Option<Held>,
    ) -> impl Future<Output = Result<(), AuditError>> + Send + use<'b> {
        let error = answer.as_ref().err().map(text_of);
        let response = answer.as_ref().ok().map(|(reply, auth)| ResponsePart {
            auth: auth.as_deref().map(auth_of_reply),
            data: reply.data.as_ref().map(JsonText::as_bytes),
            warnings: &reply.warnings,
        });
        let entry = self.entry(Kind::Response, self.ground.clock.now(), None);
        let entry = Entry { response, error: error.as_deref(), ..entry };
        let before = held.as_ref().map(|Held { time, granting }| Admitted {
            time: *time,
            policy_results: PolicyResults { allowed: true, granting_policies: granting },
        });
        self.ground.audit.lines(&entry, before)
    }

    /// What both lines of a request have in common.
    fn entry<'b>(
        &'b self,
        kind: Kind,
        time: Timestamp,
        policy_results: Option<PolicyResults<'b>>,
    ) -> Entry<'b> {
        Entry {
            time,
            kind,
            auth: self.session.map(|session| AuthPart {
                client_token: self.head.token.as_ref(),
                policy_results,
                ..auth_of_entry(&session.entry)
            }),
            request: self.request_part(None),
            response: None,
            error: None,
        }
    }

    fn request_part<'b>(&'b self, data: Option<&'b [u8]>) -> RequestPart<'b> {
        let head = self.head;
        RequestPart {
            id: &head.id,
            operation: operation_word(head.operation),
            mount: self.place.map(|place| MountPart {
                point: &place.path,
                mount_type: place.kind,
                accessor: &place.accessor,
                class: place.class,
            }),
            client_token: head.token.as_ref(),
            client_token_accessor: self.session.map(Session::accessor),
            path: head.path.as_str(),
            data,
            remote: Some(head.connection.remote),
            wrap_ttl: None,
        }
    }
}

fn granting(decision: &Decision<'_>) -> Vec<String> {
    decision.granting().into_iter().map(str::to_owned).collect()
}

fn text_of(error: &ApiError) -> String {
    error.public.join("; ")
}

fn auth_of_entry(entry: &token::Entry) -> AuthPart<'_> {
    AuthPart {
        client_token: None,
        accessor: Some(&entry.accessor),
        display_name: &entry.display_name,
        policies: &entry.policies,
        token_policies: &entry.policies,
        metadata: (!entry.meta.is_empty()).then_some(&entry.meta),
        entity_id: "",
        token_type: "service",
        token_ttl: entry.ttl,
        token_issue_time: Some(entry.created),
        remaining_uses: entry.uses_left.map(u64::from),
        policy_results: None,
    }
}

fn auth_of_reply(auth: &AuthReply) -> AuthPart<'_> {
    AuthPart {
        client_token: Some(&auth.client_token),
        accessor: Some(&auth.accessor),
        display_name: &auth.display_name,
        policies: &auth.policies,
        token_policies: &auth.policies,
        metadata: (!auth.metadata.is_empty()).then_some(&auth.metadata),
        entity_id: "",
        token_type: "service",
        token_ttl: Duration::from_secs(auth.lease_duration),
        token_issue_time: None,
        remaining_uses: (auth.num_uses != 0).then_some(auth.num_uses.into()),
        policy_results: None,
    }
}

/// Vault's word for an operation in audit lines.
fn operation_word(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read",
        Operation::Write => "update",
        Operation::Patch => "patch",
        Operation::Delete => "delete",
        Operation::List => "list",
        Operation::Scan => "scan",
    }
}

/// What went wrong on our side goes to the log, under the id that the caller was given.
fn log(error: &ApiError, request_id: &str) {
    if let Some(cause) = &error.cause {
        tracing::error!(
            request_id,
            status = error.status,
            cause = chain(cause.as_ref()),
            "request failed"
        );
    }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the record cannot be read")]
    struct Outer(#[source] io::Error);

    #[test]
    fn the_log_tells_a_cause_with_all_that_led_to_it() {
        let cause = Outer(io::Error::other("the disk is gone"));
        assert_eq!(chain(&cause), "the record cannot be read: the disk is gone");
    }
}
