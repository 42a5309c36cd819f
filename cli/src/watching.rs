//! Looking again and again, until a signal ends it.

use std::{future::poll_fn, task::Poll, time::Duration};

use rustix::process::Signal;
use tokio::{
    signal::unix::{self, SignalKind},
    time,
};

use crate::{failure::Failure, output};

/// Signals that no longer do by themselves what they do.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(crate) fn catch(signals: &[Signal]) -> Result<Self, Failure> {
        let catch = |signal: &Signal| {
            unix::signal(SignalKind::from_raw(signal.as_raw()))
                .map(|caught| (*signal, caught))
                .map_err(|error| Failure::io("catch signals", &error))
        };
        signals.iter().map(catch).collect::<Result<_, _>>().map(Self)
    }

    /// The next one that comes. One that comes while nobody waits is kept.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (signal, caught) in &mut self.0 {
                if caught.poll_recv(context).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Looks again after a pause each time. From its start on a signal no longer ends the process by
/// itself, so that nothing is left half done.
#[derive(Debug)]
pub(crate) struct Watch {
    interval: Duration,
    signals: Signals,
    troubles: Troubles,
}

/// Why a pause is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It is time to look, or somebody asks for it (SIGHUP).
    Over,
    /// Somebody ends the watch.
    Ended,
}

impl Watch {
    pub(crate) fn new(interval: Duration) -> Result<Self, Failure> {
        let signals = Signals::catch(&[Signal::INT, Signal::TERM, Signal::HUP])?;
        Ok(Self { interval: pause(interval), signals, troubles: Troubles::default() })
    }

    /// Waits until it is time, or a signal comes.
    pub(crate) async fn pause(&mut self) -> Pause {
        tokio::select! {
            () = time::sleep(self.interval) => Pause::Over,
            signal = self.signals.next() => match signal {
                Signal::HUP => Pause::Over,
                _ => Pause::Ended,
            },
        }
    }

    /// Tells what failed, once while it lasts, and when it is over. `meanwhile` is what holds then.
    pub(crate) fn tell(&mut self, failure: Option<Failure>, meanwhile: &str) {
        self.troubles.tell(failure, meanwhile);
    }
}

/// What fails again and again is told once.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Option<String>);

impl Troubles {
    /// Tells what failed, once while it lasts, and when it is over. `meanwhile` is what holds then.
    pub(crate) fn tell(&mut self, failure: Option<Failure>, meanwhile: &str) {
        let message = failure.map(|failure| failure.message);
        if message == self.0 {
            return;
        }
        match &message {
            Some(message) => output::warn(&format!("{message}; {meanwhile}")),
            None => output::note("it works again"),
        }
        self.0 = message;
    }
}

/// A pause that is one: without, it would ask without end.
pub(crate) fn pause(interval: Duration) -> Duration {
    interval.max(SHORTEST)
}

const SHORTEST: Duration = Duration::from_millis(200);
