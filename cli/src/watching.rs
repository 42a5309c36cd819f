//! Looking again and again, until a signal ends it.

use std::time::Duration;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time,
};

use crate::{failure::Failure, output};

/// Looks again after a pause each time. From the start of the watch a signal no longer ends the
/// process by itself, so that nothing is left half done.
#[derive(Debug)]
pub(crate) struct Watch {
    interval: Duration,
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    /// What was told last, so that it is told once.
    told: Option<String>,
}

/// Why a pause is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is time to look.
    Due,
    /// SIGHUP: look now.
    Asked,
    /// This signal ends it.
    Ended(i32),
}

impl Watch {
    pub(crate) fn new(interval: Duration) -> Result<Self, Failure> {
        let catch = |kind| signal(kind).map_err(|error| Failure::io("catch signals", &error));
        Ok(Self {
            // Without a pause it would ask without end.
            interval: interval.max(SHORTEST),
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hang_up: catch(SignalKind::hangup())?,
            told: None,
        })
    }

    /// Waits until it is time, or a signal comes.
    pub(crate) async fn pause(&mut self) -> Stop {
        tokio::select! {
            () = time::sleep(self.interval) => Stop::Due,
            _ = self.hang_up.recv() => Stop::Asked,
            _ = self.interrupt.recv() => Stop::Ended(SignalKind::interrupt().as_raw_value()),
            _ = self.terminate.recv() => Stop::Ended(SignalKind::terminate().as_raw_value()),
        }
    }

    /// Tells what failed, once while it lasts, and when it is over. `meanwhile` is what holds then.
    pub(crate) fn tell(&mut self, failure: Option<Failure>, meanwhile: &str) {
        let message = failure.map(|failure| failure.message);
        if message == self.told {
            return;
        }
        match &message {
            Some(message) => output::warn(&format!("{message}; {meanwhile}")),
            None => output::note("it works again"),
        }
        self.told = message;
    }
}

const SHORTEST: Duration = Duration::from_millis(200);
