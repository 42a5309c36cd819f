use std::{error::Error, fmt::Display, io};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// Any failure without a number of its own.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// There is nothing at the path.
    NotFound,
    /// The token is not good, or its policies do not allow this.
    Denied,
    /// Sealed, or no server that can be trusted answers.
    Unavailable,
    /// The secret has changed since the version given.
    Conflict,
    /// Some of it was done.
    Partial,
    /// It was looked for, and something was found.
    Found,
    /// The program to run is there and cannot be run.
    NotExecutable,
    /// The program to run is not there.
    NoProgram,
    /// As the program did that it ran.
    Program(u8),
    /// A signal ended it, before anything was half done.
    Signal(u8),
}

impl Exit {
    /// By Ctrl-C.
    pub(crate) const INTERRUPTED: Self = Self::Signal(2);

    /// The number that the process ends with.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Denied => 4,
            Self::Unavailable => 5,
            Self::Conflict => 6,
            Self::Partial => 7,
            Self::Found => 10,
            Self::NotExecutable => 126,
            Self::NoProgram => 127,
            Self::Program(code) => code,
            // As a shell tells it.
            Self::Signal(number) => number.saturating_add(128),
        }
    }
}

/// Why a command did not do what it was asked: what happened, what to do next, how to end.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What cannot be done, and why.
    pub(crate) message: String,
    /// The next command or step.
    pub(crate) hint: Option<String>,
    /// How to end.
    pub(crate) exit: Exit,
    /// Whether it may pass by itself: no answer, an answer of 500 and above, a sealed vault. Never
    /// because of a refusal.
    pub(crate) is_passing: bool,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit: Exit::Failed, is_passing: false }
    }

    /// The command line makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(message).exit(Exit::Usage)
    }

    /// Ctrl-C was typed.
    pub(crate) fn interrupted() -> Self {
        Self::new("interrupted").exit(Exit::INTERRUPTED)
    }

    /// What the library could not do, with the causes under it.
    pub(crate) fn of(error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut under = error.source();
        while let Some(cause) = under {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            under = cause.source();
        }
        Self::new(message)
    }

    /// A file or a stream cannot be used.
    pub(crate) fn io(doing: impl Display, error: &io::Error) -> Self {
        Self::new(format!("cannot {doing}: {error}"))
    }

    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    #[must_use]
    pub(crate) fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }
}
