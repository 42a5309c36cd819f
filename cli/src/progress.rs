//! How far long work has come, for a person who watches.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// A bar on stderr with rate and time left. Nothing is drawn where nobody watches, nor for work
/// that is over within a second. Dropping it takes the bar away.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    begun: Instant,
}

impl Progress {
    /// For work on records.
    pub(crate) fn records(label: &'static str) -> Self {
        Self::new(label, RECORDS)
    }

    /// For work on bytes.
    pub(crate) fn bytes(label: &'static str) -> Self {
        Self::new(label, BYTES)
    }

    /// For work whose end is not known.
    pub(crate) fn names(label: &'static str) -> Self {
        Self::new(label, NAMES)
    }

    /// Shows how much is done.
    pub(crate) fn count(&self, done: u64) {
        self.bar.set_position(done);
        self.draw_for_the_patient();
    }

    /// Prints while nothing is drawn.
    pub(crate) fn aside<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }

    fn new(label: &'static str, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        // The templates are constants, and a test reads each.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(label);
        Self { bar, begun: Instant::now() }
    }

    /// Shows how much is done, and of how much.
    pub(crate) fn show(&self, done: u64, total: u64) {
        self.bar.set_length(total.max(done));
        self.bar.set_position(done);
        self.draw_for_the_patient();
    }

    fn draw_for_the_patient(&self) {
        if self.bar.is_hidden() && self.begun.elapsed() > PATIENCE && output::is_watched() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWN_A_SECOND));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

const BYTES: &str = "{msg} [{bar:30}] {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
const RECORDS: &str = "{msg} [{bar:30}] {human_pos} of {human_len}  {per_sec}  {eta} left";
const NAMES: &str = "{msg} {spinner} {human_pos} names  {per_sec}";
/// How long a command waits before it asks again how far the server has come.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(300);

/// What takes no longer needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);
const REDRAWN_A_SECOND: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_one() {
        for template in [BYTES, RECORDS, NAMES] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
