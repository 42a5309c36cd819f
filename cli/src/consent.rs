//! Asking before something is lost.

use clap::Args;

use crate::{failure::Failure, prompt::Person};

/// Whether a person is to be asked, as it is typed.
#[derive(Debug, Args)]
pub(crate) struct Consent {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Ask for nothing, and refuse without --yes where it would ask
    #[arg(long)]
    no_input: bool,
}

impl Consent {
    /// Whether it was given beforehand.
    pub(crate) fn is_given(&self) -> bool {
        self.yes
    }

    /// Has the name of what goes typed, unless consent was given beforehand. `what` says of what kind
    /// the name is.
    pub(crate) fn typed(&self, what: &str, name: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        let typed = Person::look(self.no_input).line(&format!("{what} of what goes"), INSTEAD)?;
        if typed.trim_end_matches('/') == name.trim_end_matches('/') {
            return Ok(());
        }
        Err(Failure::usage(format!("that is another {what}: nothing was done")))
    }

    /// Has a question answered with yes, unless consent was given beforehand.
    pub(crate) fn agreed(&self, question: &str) -> Result<(), Failure> {
        if self.yes { Ok(()) } else { Person::look(self.no_input).agree(question, INSTEAD) }
    }
}

const INSTEAD: &str = "give --yes to do it without being asked";
