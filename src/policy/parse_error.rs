use std::fmt;

use super::document::MAX_TEXT_BYTES;
use super::hcl::MAX_DEPTH;
use crate::{clock::DurationError, json};

/// A policy's text is refused, with the place. It may hold names from the text: not a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
    /// The path whose rule is wrong, when it is a rule; not more than its beginning.
    pub path: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

impl ParseError {
    /// `problem` at the byte `offset` of `text`.
    pub(super) fn at(text: &str, offset: usize, problem: Problem) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let last_line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: last_line.chars().count() + 1,
            path: None,
            problem,
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}:{}: ", self.line, self.column)?;
        if let Some(path) = &self.path {
            write!(f, "path {path:?}: ")?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for ParseError {}

/// What is wrong with a policy's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The text is too long.
    #[error("the policy is larger than {MAX_TEXT_BYTES} bytes; split it")]
    TooLarge,
    /// Blocks and lists nested too deep.
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// A text that begins with a brace is JSON, and this one is not valid.
    #[error("invalid JSON: {0}")]
    Json(json::Reason),
    /// Something else was expected here.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What could stand here.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A quoted text without its closing quote on the same line.
    #[error("the quoted text does not end on this line")]
    UnclosedText,
    /// A comment without its end.
    #[error("the comment has no end")]
    UnclosedComment,
    /// A heredoc without its closing line, or without a name.
    #[error("the heredoc has no closing line")]
    UnclosedHeredoc,
    /// A backslash that begins no escape.
    #[error("unknown escape; write `\\\\` for a backslash")]
    Escape,
    /// A key that policies do not have.
    #[error("invalid key {0:?}")]
    UnknownKey(String),
    /// A key that would restrict, but that Kista cannot enforce.
    #[error("the key {0:?} is not supported, and a restriction is not ignored; remove it")]
    Unsupported(&'static str),
    /// A key that the same rule has already.
    #[error("the key {0:?} stands there twice")]
    Duplicate(&'static str),
    /// A value of another kind than its key needs.
    #[error("{key:?} must be {expected}")]
    WrongKind {
        /// The key.
        key: String,
        /// What its value must be.
        expected: &'static str,
    },
    /// A capability that does not exist.
    #[error("invalid capability {0:?}")]
    UnknownCapability(String),
    /// A word of the old `policy` key that does not exist.
    #[error("invalid policy {0:?}; write capabilities, or read, write, sudo or deny")]
    UnknownPolicyWord(String),
    /// `+*`, which would be neither a segment nor a prefix.
    #[error("invalid use of wildcards ('+*' is forbidden)")]
    PlusStar,
    /// Values for the parameter `*`, which can only have none.
    #[error("the parameter \"*\" can only have an empty list")]
    StarWithValues,
    /// A TTL that is no duration.
    #[error(transparent)]
    Duration(#[from] DurationError),
    /// A maximum below the minimum.
    #[error("max_wrapping_ttl cannot be less than min_wrapping_ttl")]
    WrappingTtlOrder,
}

/// The beginning of a text, short enough for a message.
pub(super) fn excerpt(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_EXCERPT_CHARS).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}

const MAX_EXCERPT_CHARS: usize = 64;
