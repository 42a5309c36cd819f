//! A program that lives beside this process, and hears of changes.

use std::{
    io::{self, IsTerminal},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time,
};

use crate::{
    failure::{Exit, Failure},
    hygiene::Before,
    output,
    variables::{self, Variable},
    watching::{self, Signals, Troubles},
};

/// How a program hears of a change.
#[derive(Debug, Clone, Copy)]
pub(super) enum OnChange {
    /// It is ended, and started anew. What has not ended after this time is killed.
    Restart(Duration),
    /// It gets a signal.
    Signal(Signal),
}

/// A program, and how it is looked after.
pub(super) struct Supervisor<'a, Start> {
    pub(super) start: Start,
    pub(super) on_change: OnChange,
    pub(super) interval: Duration,
    pub(super) before: &'a Before,
}

/// How a program came to its end.
enum End {
    /// By itself, or by a signal that was meant for it.
    Own(ExitStatus),
    /// Since it is to be started anew.
    ForRestart,
}

impl<Start: Fn(&[Variable]) -> Result<Command, Failure>> Supervisor<'_, Start> {
    /// Runs the program until it ends by itself, and ends as it does. `look` fetches what it is to
    /// have. Signals to this process go to the program.
    pub(super) async fn run(
        &self,
        mut variables: Vec<Variable>,
        mut look: impl AsyncFnMut() -> Result<Vec<Variable>, Failure>,
        failed: impl Fn(&io::Error) -> Failure,
    ) -> Result<Exit, Failure> {
        let mut signals = Signals::catch(&CAUGHT)?;
        let mut troubles = Troubles::default();
        let mut child = self.spawn(&variables, &failed)?;
        loop {
            let looked = async {
                time::sleep(watching::pause(self.interval)).await;
                look().await
            };
            let looked = tokio::select! {
                ended = child.wait() => return end_as(&ended),
                signal = signals.next() => {
                    forward(&child, signal);
                    continue;
                }
                looked = looked => looked,
            };
            let fresh = match looked {
                Ok(fresh) => fresh,
                Err(failure) => {
                    troubles.tell(Some(failure), "the program goes on with what it has");
                    continue;
                }
            };
            troubles.tell(None, "");
            if variables::are_same(&variables, &fresh) {
                continue;
            }
            variables = fresh;
            match self.on_change {
                OnChange::Signal(signal) => {
                    output::note("its secrets have changed: the program gets the signal");
                    send(&child, signal);
                }
                OnChange::Restart(grace) => {
                    output::note("its secrets have changed: the program is started anew");
                    match stop(&mut child, &mut signals, grace).await? {
                        End::Own(status) => return end_as(&Ok(status)),
                        End::ForRestart => child = self.spawn(&variables, &failed)?,
                    }
                }
            }
        }
    }

    fn spawn(
        &self,
        variables: &[Variable],
        failed: impl Fn(&io::Error) -> Failure,
    ) -> Result<Child, Failure> {
        let mut command = (self.start)(variables)?;
        command.kill_on_drop(true);
        self.before.lend(|| command.spawn()).map_err(|error| failed(&error))
    }
}

/// Ends a program that is to be started anew. One who ends this process meanwhile means the program
/// too.
async fn stop(child: &mut Child, signals: &mut Signals, grace: Duration) -> Result<End, Failure> {
    let failed = |error: io::Error| Failure::io("wait for the program", &error);
    send(child, Signal::TERM);
    let deadline = time::sleep(grace);
    tokio::pin!(deadline);
    let mut is_for_restart = true;
    let status = loop {
        tokio::select! {
            ended = child.wait() => break ended.map_err(failed)?,
            () = &mut deadline => {
                child.kill().await.map_err(failed)?;
                break child.wait().await.map_err(failed)?;
            }
            signal = signals.next() => {
                is_for_restart &= !matches!(signal, Signal::INT | Signal::TERM | Signal::QUIT);
                forward(child, signal);
            }
        }
    };
    Ok(if is_for_restart { End::ForRestart } else { End::Own(status) })
}

/// Hands a signal on. What is typed at a terminal has reached the program already, since it is in the
/// same group of processes.
fn forward(child: &Child, signal: Signal) {
    if matches!(signal, Signal::INT | Signal::QUIT) && io::stdin().is_terminal() {
        return;
    }
    send(child, signal);
}

/// Sends a signal; a program that has just ended needs none.
fn send(child: &Child, signal: Signal) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(id) = id {
        kill_process(id, signal).unwrap_or_default();
    }
}

/// The program's own code, or 128 and its signal's number, as shells have it.
fn end_as(ended: &io::Result<ExitStatus>) -> Result<Exit, Failure> {
    let status = ended.as_ref().map_err(|error| Failure::io("wait for the program", error))?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(Exit::Program(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)))
}

/// A signal by its name, with or without SIG before it.
pub(super) fn signal(text: &str) -> Result<Signal, String> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let found = NAMED.iter().find(|(known, _)| *known == name);
    found.map(|(_, signal)| *signal).ok_or_else(|| {
        let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
        format!("it is one of {}", names.join(", "))
    })
}

/// What goes to the program instead of ending this process.
const CAUGHT: [Signal; 7] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
];

const NAMED: [(&str, Signal); 7] = [
    ("HUP", Signal::HUP),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("INT", Signal::INT),
    ("TERM", Signal::TERM),
    ("QUIT", Signal::QUIT),
    ("WINCH", Signal::WINCH),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_named_as_kill_does() {
        assert_eq!(signal("HUP"), Ok(Signal::HUP));
        assert_eq!(signal("sigusr1"), Ok(Signal::USR1));
        assert!(signal("KILL").unwrap_err().contains("HUP"));
        assert!(signal("").is_err());
    }

    #[test]
    fn it_ends_as_the_program_does() {
        let code = |status: i32| end_as(&Ok(ExitStatus::from_raw(status))).unwrap().code();
        assert_eq!((code(0), code(42 << 8), code(15)), (0, 42, 143));
    }
}
