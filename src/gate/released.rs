use std::fmt;

use serde_json::value::RawValue;

use super::{ApiError, AuthReply, JsonText, RawReply, Shape};
use crate::{
    quota::Standing,
    secret::{SecretBuffer, WipedBytes},
};

/// An answer that may leave: its audit line is written, or it is of a kind that needs none.
///
/// Only the gate makes one (private fields, no constructor outside), and the HTTP layer takes
/// nothing else, so an answer without a line has no type.
pub struct Released {
    status: u16,
    notes: Notes,
    body: WipedBytes,
    is_of_useless_input: bool,
}

/// What an answer's headers tell of rates.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Notes {
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u64>,
    /// For the three headers that begin with `X-Ratelimit-`.
    pub standing: Option<Standing>,
}

impl Released {
    /// Status, what headers tell, and the body, empty for a 204.
    pub fn into_parts(self) -> (u16, Notes, WipedBytes) {
        (self.status, self.notes, self.body)
    }

    /// The same answer, telling what is left to its caller where that is known.
    #[must_use]
    pub fn telling(mut self, standing: Option<Standing>) -> Self {
        self.notes.standing = standing.or(self.notes.standing);
        self
    }

    /// The same answer, telling to come again after so many seconds.
    #[must_use]
    pub(super) fn retried_after(mut self, seconds: u64) -> Self {
        self.notes.retry_after = Some(seconds);
        self
    }

    /// Whether it answers what was nothing that could have been asked for.
    pub fn is_of_useless_input(&self) -> bool {
        self.is_of_useless_input
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    fn new(status: u16, body: WipedBytes) -> Self {
        Self { status, notes: Notes::default(), body, is_of_useless_input: false }
    }

    pub(super) fn of_error(error: &ApiError) -> Self {
        let mut body = SecretBuffer::with_capacity(128);
        body.extend_from_slice(b"{\"errors\":");
        write_json(&mut body, &error.public);
        body.extend_from_slice(b"}\n");
        let retry_after = matches!(error.status, 429 | 503).then_some(1);
        let notes = Notes { retry_after, standing: None };
        let is_of_useless_input = error.is_of_input;
        Self { notes, is_of_useless_input, ..Self::new(error.status, body.into_wiped()) }
    }

    pub(super) fn of_reply(request_id: &str, reply: &RawReply, auth: Option<&AuthReply>) -> Self {
        if reply.data.is_none() && auth.is_none() && reply.warnings.is_empty() {
            let status = reply.status.unwrap_or(204);
            let body = WipedBytes::default();
            return Self::new(status, body);
        }
        let status = reply.status.unwrap_or(200);
        let data = reply.data.as_ref().map_or(b"null".as_slice(), JsonText::as_bytes);
        let copies = if reply.shape == Shape::EnvelopeWithCopy { 2 } else { 1 };
        let mut body = SecretBuffer::with_capacity(data.len() * copies + ENVELOPE_BYTES);
        if reply.shape == Shape::Bare {
            body.extend_from_slice(data);
        } else {
            write_envelope(&mut body, request_id, reply, data, auth);
        }
        body.extend_from_slice(b"\n");
        Self::new(status, body.into_wiped())
    }
}

impl fmt::Debug for Released {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Released({})", self.status)
    }
}

/// Room for what stands around data: the keys, the request's name, and a short warning.
const ENVELOPE_BYTES: usize = 256;

/// Vault's envelope, keys always present.
fn write_envelope(
    body: &mut SecretBuffer,
    request_id: &str,
    reply: &RawReply,
    data: &[u8],
    auth: Option<&AuthReply>,
) {
    body.extend_from_slice(b"{\"request_id\":");
    write_json(body, request_id);
    body.extend_from_slice(b",\"lease_id\":\"\",\"renewable\":false,\"lease_duration\":");
    write_json(body, &reply.lease_duration);
    body.extend_from_slice(b",\"data\":");
    body.extend_from_slice(data);
    body.extend_from_slice(b",\"wrap_info\":null,\"warnings\":");
    write_json(body, &(!reply.warnings.is_empty()).then_some(&reply.warnings));
    body.extend_from_slice(b",\"auth\":");
    write_json(body, &auth);
    if reply.shape == Shape::EnvelopeWithCopy
        && let Some(members) = members_of(data)
    {
        body.extend_from_slice(b",");
        body.extend_from_slice(members);
    }
    body.extend_from_slice(b"}");
}

/// What stands between the braces of a non-empty object.
fn members_of(data: &[u8]) -> Option<&[u8]> {
    let members = data.strip_prefix(b"{")?.strip_suffix(b"}")?;
    (!members.is_empty()).then_some(members)
}

fn write_json(body: &mut SecretBuffer, value: &(impl serde::Serialize + ?Sized)) {
    // Writing to memory cannot fail, and none of the types written here can refuse to serialise.
    if serde_json::to_writer(&mut *body, value).is_err() {
        body.extend_from_slice(RawValue::NULL.get().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(released: Released) -> serde_json::Value {
        serde_json::from_slice(&released.into_parts().2).unwrap()
    }

    #[test]
    fn an_empty_reply_is_a_204_without_a_body() {
        let (status, _, body) = Released::of_reply("id", &RawReply::empty(), None).into_parts();
        assert_eq!((status, body.len()), (204, 0));
    }

    #[test]
    fn a_warning_turns_it_into_a_200() {
        let reply = RawReply { warnings: vec!["w".to_owned()], ..RawReply::empty() };
        let released = Released::of_reply("id", &reply, None);
        assert_eq!(released.status(), 200);
        let body = body(released);
        assert_eq!(body["warnings"][0], "w");
        assert!(body["data"].is_null() && body["auth"].is_null() && body["wrap_info"].is_null());
        assert_eq!(body["lease_duration"], 0);
    }

    #[test]
    fn the_copy_holds_the_members_of_data() {
        let data = JsonText::of(&serde_json::json!({"keys": ["a"]})).unwrap();
        let reply =
            RawReply { shape: Shape::EnvelopeWithCopy, data: Some(data), ..RawReply::empty() };
        let body = body(Released::of_reply("id", &reply, None));
        assert_eq!(body["keys"][0], "a");
        assert_eq!(body["data"]["keys"][0], "a");
    }

    #[test]
    fn an_error_shows_its_public_text_only() {
        let error = ApiError::internal(std::io::Error::other("the disk's name"));
        let released = Released::of_error(&error);
        assert_eq!(released.status(), 500);
        assert_eq!(body(released), serde_json::json!({"errors": ["internal error"]}));
    }
}
