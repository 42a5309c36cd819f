//! What is looked at before something goes wrong: one line for each thing, and what to do.
//!
//! - `asked.rs`: what a server tells
//! - `machine.rs`: what the machine of a server shows

pub(super) mod asked;
pub(super) mod machine;

use kista::client::{Fields, JsonValue};
use serde::Serialize;

use crate::{
    failure::{Exit, Failure},
    output::{self, Output, Tone},
};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    check: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// It works, and something may go wrong.
    Warn,
    /// It does not work, or somebody else may get in.
    Fail,
    /// It cannot be seen from here.
    Skip,
}

impl Check {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), next: None }
    }

    pub(super) fn warn(
        check: &'static str,
        found: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { check, state: State::Warn, found: found.into(), next: Some(next.into()) }
    }

    pub(super) fn fail(
        check: &'static str,
        found: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { check, state: State::Fail, found: found.into(), next: Some(next.into()) }
    }

    pub(super) fn skip(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Skip, found: found.into(), next: None }
    }

    /// What could not be done, with the next step that its failure names.
    pub(super) fn failed(check: &'static str, failure: Failure) -> Self {
        Self { check, state: State::Fail, found: failure.message, next: failure.hint }
    }
}

/// Prints all of them; it ends with 10 where one has failed.
pub(super) fn report(checks: &[Check], output: Output) -> Result<Exit, Failure> {
    let is_good = checks.iter().all(|check| check.state != State::Fail);
    if output.wants_json() {
        let mut object = Fields::new();
        object.set("good", output::json(&is_good)?);
        object.set("checks", output::json(&checks)?);
        output.json(&JsonValue::from(&object))?;
    } else {
        for check in checks {
            let (word, tone) = check.word();
            output.line_in(
                tone,
                &format!("{word:<4}"),
                &format!("  {:<12}  {}", check.check, check.found),
            )?;
            for line in check.next.iter().flat_map(|next| next.lines()) {
                output.line_in(Tone::Next, &format!("{:20}next: ", ""), line)?;
            }
        }
    }
    Ok(if is_good { Exit::Done } else { Exit::Found })
}

impl Check {
    fn word(&self) -> (&'static str, Tone) {
        match self.state {
            State::Ok => ("ok", Tone::Good),
            State::Warn => ("warn", Tone::Doubtful),
            State::Fail => ("fail", Tone::Bad),
            State::Skip => ("skip", Tone::Plain),
        }
    }
}
