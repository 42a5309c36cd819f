use std::{error::Error, fmt};

use crate::{
    barrier::{CommitError, ReadError},
    policy, storage, token,
};

/// An answer that is not a success: `public` goes to the caller, `cause` only to the log.
#[derive(Debug)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// What the caller reads, one text an entry; empty where Vault sends an empty list.
    pub public: Vec<String>,
    /// What the log reads.
    pub cause: Option<Box<dyn Error + Send + Sync>>,
    /// What was sent is nothing that could have been asked for: no JSON, or not what its route needs.
    pub is_of_input: bool,
}

impl ApiError {
    /// An error with one text for the caller.
    pub fn new(status: u16, public: impl Into<String>) -> Self {
        Self { status, public: vec![public.into()], cause: None, is_of_input: false }
    }

    /// An error without a text: Vault's `{"errors":[]}`.
    pub fn bare(status: u16) -> Self {
        Self { status, public: Vec::new(), cause: None, is_of_input: false }
    }

    /// 400: the caller's mistake.
    pub fn bad_request(public: impl Into<String>) -> Self {
        Self::new(400, public)
    }

    /// 403 in the frame of Vault's policy and router refusals: absent and forbidden look the same.
    pub fn denied() -> Self {
        Self::new(403, framed("permission denied"))
    }

    /// 403 for a missing, unknown, expired or used-up token: one text for all four.
    pub fn bad_token() -> Self {
        Self::new(403, "permission denied")
    }

    /// 404 without a text.
    pub fn not_found() -> Self {
        Self::bare(404)
    }

    /// 404 for a path that no route of its mount has.
    pub fn unsupported_path() -> Self {
        Self::new(404, framed("unsupported path"))
    }

    /// 405 for an operation that the route does not offer.
    pub fn unsupported_operation() -> Self {
        Self::new(405, framed("unsupported operation"))
    }

    /// 503 with the text that clients match.
    pub fn sealed() -> Self {
        Self::new(503, "Vault is sealed")
    }

    /// 500: ours. The caller learns nothing but that.
    pub fn internal(cause: impl Error + Send + Sync + 'static) -> Self {
        Self {
            status: 500,
            public: vec!["internal error".to_owned()],
            cause: Some(Box::new(cause)),
            is_of_input: false,
        }
    }

    /// The same error, of what was sent: nothing that could have been asked for.
    #[must_use]
    pub fn of_input(mut self) -> Self {
        self.is_of_input = true;
        self
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Path(path) => Self::bad_request(path.to_string()),
            ReadError::Storage(storage::ReadError::Closed) => Self::sealed(),
            // Whoever may read here is told that it is no bug: somebody must look at the disk.
            ReadError::Damaged | ReadError::Stale => {
                Self { public: vec![error.to_string()], ..Self::internal(error) }
            }
            ReadError::Layout { .. } | ReadError::Storage(_) => Self::internal(error),
        }
    }
}

impl From<token::LoadError> for ApiError {
    fn from(error: token::LoadError) -> Self {
        match error {
            token::LoadError::Read(error) => error.into(),
            token::LoadError::Policy(policy::LoadError::Read(error)) => error.into(),
            token::LoadError::Policy(_) => Self::internal(error),
        }
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Path(path) => Self::bad_request(path.to_string()),
            CommitError::TooLarge(large) => Self::new(413, large.to_string()),
            CommitError::Conflict => {
                Self::new(409, "another request has changed the same thing; try again")
            }
            CommitError::Read(error) => error.into(),
            CommitError::Storage(storage::CommitError::Closed) => Self::sealed(),
            CommitError::Storage(storage::CommitError::NoSpace { .. }) => Self::new(
                507,
                "the server's disk is nearly full: nothing can be written until there is space",
            ),
            CommitError::Unencodable | CommitError::StateMismatch | CommitError::Storage(_) => {
                Self::internal(error)
            }
        }
    }
}

/// The frame of the peers' error lists; clients look for the text inside.
fn framed(text: &str) -> String {
    format!("1 error occurred:\n\t* {text}\n\n")
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}: {}", self.status, self.public.join("; "))
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}
