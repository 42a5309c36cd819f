//! Asking a person, when there is one.

use std::io::{self, Read};

use kista::secret::{SecretBytes, SecretString};

use crate::{failure::Failure, hidden, output};

/// Whether a person can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Person {
    Present,
    Absent,
}

impl Person {
    /// A person is there when stdin and stderr are terminals and neither `--no-input` nor `CI`
    /// says otherwise.
    pub(crate) fn look(no_input: bool) -> Self {
        let present = !no_input && !output::is_automated() && output::is_conversation();
        if present { Self::Present } else { Self::Absent }
    }

    /// Asks for text that is not shown while it is typed.
    pub(crate) fn hidden(self, label: &str, instead: &str) -> Result<SecretString, Failure> {
        self.ask_hidden(&format!("{label} (hidden): "), label, instead)
    }

    /// The same, saying that an empty answer has a value made; `None` then.
    pub(crate) fn hidden_or_made(
        self,
        label: &str,
        instead: &str,
    ) -> Result<Option<SecretString>, Failure> {
        let typed =
            self.ask_hidden(&format!("{label} (hidden, empty = generate): "), label, instead)?;
        Ok(Some(typed).filter(|typed| !typed.is_empty()))
    }

    fn ask_hidden(
        self,
        question: &str,
        label: &str,
        instead: &str,
    ) -> Result<SecretString, Failure> {
        self.must_be_present(label, instead)?;
        output::ask(question);
        let typed = hidden::line();
        output::end_line();
        typed
    }

    /// Asks for a line that may be seen; an empty one ends the asking.
    pub(crate) fn line(self, label: &str, instead: &str) -> Result<String, Failure> {
        self.must_be_present(label, instead)?;
        output::ask(&format!("{label} (empty to end): "));
        let mut line = String::new();
        io::stdin()
            .read_line(&mut line)
            .map_err(|error| Failure::io("read from the terminal", &error))?;
        Ok(line.trim().to_owned())
    }

    /// Asks whether to go on; anything but yes is a failure.
    pub(crate) fn agree(self, question: &str, instead: &str) -> Result<(), Failure> {
        self.must_be_present("answer", instead)?;
        if self.says_yes(question)? {
            return Ok(());
        }
        Err(Failure::new("nothing was done: the answer was not yes"))
    }

    /// Asks a question; all but yes is no.
    pub(crate) fn says_yes(self, question: &str) -> Result<bool, Failure> {
        output::ask(&format!("{question}? [y/N] "));
        let mut line = String::new();
        io::stdin()
            .read_line(&mut line)
            .map_err(|error| Failure::io("read from the terminal", &error))?;
        Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    fn must_be_present(self, label: &str, instead: &str) -> Result<(), Failure> {
        match self {
            Self::Present => Ok(()),
            Self::Absent => {
                Err(Failure::usage(format!("nobody is there to be asked for the {label}"))
                    .hint(instead))
            }
        }
    }
}

/// Reads all of stdin as text, less one line break at its end, as `echo` and here-documents leave.
pub(crate) fn stdin_text() -> Result<SecretString, Failure> {
    let mut bytes = Vec::with_capacity(STDIN_ROOM);
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io("read stdin", &error))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    text(SecretBytes::from_vec(bytes), "stdin")
}

/// Reads all of stdin to the last byte.
pub(crate) fn stdin_whole() -> Result<SecretBytes, Failure> {
    let mut bytes = Vec::with_capacity(STDIN_ROOM);
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io("read stdin", &error))?;
    Ok(SecretBytes::from_vec(bytes))
}

/// Reads stdin as lines, without the empty ones.
pub(crate) fn stdin_lines() -> Result<Vec<SecretString>, Failure> {
    Ok(stdin_text()?.expose(|text| {
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(SecretString::copy_of).collect()
    }))
}

/// Asks twice, since a mistyped passphrase would shut its own maker out.
pub(crate) fn new_passphrase(person: Person) -> Result<SecretString, Failure> {
    let passphrase = match person {
        Person::Absent => stdin_text()?,
        Person::Present => {
            let first = person.hidden("passphrase", "")?;
            let again = person.hidden("the same again", "")?;
            if first.expose(|first| again.expose(|again| first != again)) {
                return Err(Failure::usage("the two passphrases differ").hint("try again"));
            }
            first
        }
    };
    if passphrase.is_empty() {
        return Err(Failure::usage("the passphrase is empty"));
    }
    Ok(passphrase)
}

/// Bytes as text, or a failure that names where they are from and shows none of them.
pub(crate) fn text(bytes: SecretBytes, origin: &str) -> Result<SecretString, Failure> {
    bytes.expose(|bytes| std::str::from_utf8(bytes).map(SecretString::copy_of)).map_err(|_| {
        Failure::new(format!("what {origin} holds is not UTF-8 text"))
            .hint("values are text: give bytes as base64")
    })
}

/// Room for what is typically piped in. A longer text grows its buffer, which leaves copies behind.
const STDIN_ROOM: usize = 64 * 1024;
