use std::{fmt, time::Duration};

use serde::Deserialize;

use crate::clock::format_duration;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The token is good, and its policies do not allow this.
    #[error("permission denied")]
    Denied {
        /// API path after `/v1/`.
        path: String,
        /// What a policy would have to grant on it.
        needed: Capability,
    },
    /// The token is missing, unknown, expired, revoked or used up; the server does not say which.
    #[error("the token is missing, unknown or expired")]
    InvalidToken,
    /// There is nothing at this path.
    #[error("nothing there")]
    NotFound,
    /// The server runs and is sealed, or was never initialised.
    #[error("the vault is sealed")]
    Sealed,
    /// No server answers at this address.
    #[error("no server answers at {address}")]
    Unreachable {
        /// The address given.
        address: String,
        /// What the network said.
        #[source]
        cause: reqwest::Error,
    },
    /// A server answers, and its certificate is not one that this client trusts.
    #[error("the certificate of {address} is not trusted: {reason}")]
    Untrusted {
        /// The address given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server serves another store than the one that the client was made for.
    #[error("the store at {address} is {found}, not {expected}")]
    OtherStore {
        /// The address given.
        address: String,
        /// The name that the client was given.
        expected: String,
        /// The name that the server tells.
        found: String,
    },
    /// The secret has changed since the version that the write names.
    #[error("the secret has another current version than the one given")]
    CasConflict,
    /// The vault was waited for, and is not ready yet.
    #[error("the vault at {address} is not ready after {}: {why}", format_duration(*waited))]
    NotReady {
        /// The address given.
        address: String,
        /// How long it was waited for.
        waited: Duration,
        /// What it lacked last.
        why: Unready,
    },
    /// What was read or is to be written does not have the shape that the program says. Neither
    /// this nor its text tells a value.
    #[error("{path} does not fit: {reason}")]
    Misfit {
        /// API path after `/v1/`.
        path: String,
        /// Which key it is about, and what is wrong.
        reason: String,
    },
    /// The path cannot be sent: it is empty or holds an empty, `.` or `..` segment.
    #[error("{0:?} is not a path: segments may not be empty, '.' or '..'")]
    BadPath(String),
    /// The answer is not what the API promises.
    #[error("the server's answer is not understood: {0}")]
    Unexpected(&'static str),
    /// Any other answer.
    #[error("status {status}{}", join(messages))]
    Other {
        /// HTTP status.
        status: u16,
        /// What the server says, as it says it.
        messages: Vec<String>,
    },
}

/// What keeps a vault from serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unready {
    /// No server answers.
    #[error("no server answers")]
    NoAnswer,
    /// The server answers with a failing status, which it names.
    #[error("it answers with status {0}")]
    Failing(u16),
    /// It has no store yet.
    #[error("it has no store yet; kista operator init makes one")]
    Uninitialised,
    /// It is sealed.
    #[error("it is sealed; kista operator unseal opens it")]
    Sealed,
}

/// What a policy grants on a path; the word that stands in `capabilities = […]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Reading.
    Read,
    /// Creating what is not there and updating what is.
    Write,
    /// Updating what is there.
    Update,
    /// Changing a part of what is there.
    Patch,
    /// Deleting.
    Delete,
    /// Listing.
    List,
    /// Listing all that is below.
    Scan,
    /// Updating a root-protected path.
    Sudo,
}

impl Capability {
    /// The words of the policy language.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["read"],
            Self::Write => &["create", "update"],
            Self::Update => &["update"],
            Self::Patch => &["patch"],
            Self::Delete => &["delete"],
            Self::List => &["list"],
            Self::Scan => &["scan"],
            Self::Sudo => &["update", "sudo"],
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(", "))
    }
}

impl Error {
    /// Whether what is in the way may pass by itself, so that a later call may succeed: no answer, a
    /// sealed or overloaded server. A refusal stands, and so does a certificate that is not trusted.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Sealed | Self::NotReady { .. } => true,
            Self::Other { status, .. } => matches!(status, 408 | 412 | 429 | 500..),
            Self::Denied { .. }
            | Self::InvalidToken
            | Self::NotFound
            | Self::Untrusted { .. }
            | Self::OtherStore { .. }
            | Self::CasConflict
            | Self::Misfit { .. }
            | Self::BadPath(_)
            | Self::Unexpected(_) => false,
        }
    }

    /// Whether the server has turned the call away because of the others that it works on.
    pub(super) fn says_too_many(&self) -> bool {
        let Self::Other { status: 503, messages } = self else { return false };
        messages.iter().any(|message| message.contains("too many requests at once"))
    }

    /// Reads what an answer with a failing status means.
    pub(super) fn of_answer(status: u16, body: &[u8], path: &str, needed: Capability) -> Self {
        let messages = messages(body);
        let says = |text: &str| messages.iter().any(|message| message.contains(text));
        match status {
            403 if is_about_the_token(&messages) => Self::InvalidToken,
            403 => Self::Denied { path: path.to_owned(), needed },
            404 if messages.is_empty() => Self::NotFound,
            503 if says("sealed") => Self::Sealed,
            400 if says("check-and-set parameter did not match") => Self::CasConflict,
            status => Self::Other { status, messages },
        }
    }
}

/// Whether a 403 is the answer to a token that is not known.
///
/// A refusal by policy comes wrapped (`1 error occurred: …`), one of the token itself does not;
/// Vault since 1.14 wraps both and says `invalid token` in the second.
fn is_about_the_token(messages: &[String]) -> bool {
    messages.iter().any(|message| {
        message == "permission denied"
            || ["invalid token", "bad token", "missing client token"]
                .iter()
                .any(|text| message.contains(text))
    })
}

/// The messages of an error body; a body that is not JSON is one message, shortened.
fn messages(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct ErrorBody {
        errors: Vec<String>,
    }
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { errors }) => errors,
        Err(_) if body.is_empty() => Vec::new(),
        Err(_) => vec![String::from_utf8_lossy(body).chars().take(RAW_MESSAGE_CHARS).collect()],
    }
}

fn join(messages: &[String]) -> String {
    messages.iter().map(|message| format!(": {}", flatten(message))).collect()
}

/// One line of a message that Go's multierror spread over several.
fn flatten(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Characters kept of an answer that is not JSON, such as a proxy's error page.
const RAW_MESSAGE_CHARS: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Error {
        Error::of_answer(status, body.as_bytes(), "secret/data/a", Capability::Read)
    }

    #[test]
    fn a_plain_refusal_is_about_the_token_and_a_wrapped_one_about_the_policy() {
        let plain = r#"{"errors":["permission denied"]}"#;
        let wrapped = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
        let both =
            r#"{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}"#;
        assert!(matches!(read(403, plain), Error::InvalidToken));
        assert!(
            matches!(read(403, wrapped), Error::Denied { path, .. } if path == "secret/data/a")
        );
        assert!(matches!(read(403, both), Error::InvalidToken));
    }

    #[test]
    fn the_texts_that_clients_match_are_typed() {
        assert!(matches!(read(503, r#"{"errors":["Vault is sealed"]}"#), Error::Sealed));
        assert!(
            read(503, r#"{"errors":["too many requests at once; try again"]}"#).says_too_many()
        );
        assert!(!read(503, r#"{"errors":["took too long"]}"#).says_too_many());
        assert!(matches!(read(404, r#"{"errors":[]}"#), Error::NotFound));
        let cas = r#"{"errors":["check-and-set parameter did not match the current version"]}"#;
        assert!(matches!(read(400, cas), Error::CasConflict));
    }

    #[test]
    fn a_body_that_is_not_json_is_shown_short() {
        let page = "<html>".repeat(1000);
        let Error::Other { status: 502, messages } = read(502, &page) else { panic!() };
        assert_eq!(messages[0].len(), RAW_MESSAGE_CHARS);
    }

    #[test]
    fn what_may_pass_is_told_from_what_stands() {
        let busy = r#"{"errors":["busy"]}"#;
        for status in [412, 429, 500, 502, 503] {
            assert!(read(status, busy).is_passing(), "{status}");
        }
        assert!(read(503, r#"{"errors":["Vault is sealed"]}"#).is_passing());
        for status in [400, 403, 404, 405] {
            assert!(!read(status, busy).is_passing(), "{status}");
        }
    }

    #[test]
    fn several_lines_of_a_message_print_as_one() {
        let error = read(500, r#"{"errors":["1 error occurred:\n\t* no space\n\n"]}"#);
        assert_eq!(error.to_string(), "status 500: 1 error occurred: * no space");
    }
}
