//! The clipboard: a value put there through the desktop's own program, and taken away again.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write},
    process::{Command, Stdio},
    time::Duration,
};

use clap::Args;
use data_encoding::BASE64;
use kista::{
    clock,
    secret::{SecretBytes, SecretString},
};
use rustix::process::setsid;
use zeroize::Zeroizing;

use crate::{
    failure::{Exit, Failure},
    hygiene::TOKENS,
    output, prompt,
};

/// Programs that copy from stdin, paste to stdout, and clear.
#[derive(Debug, Clone, Copy)]
struct Programs {
    /// A variable without which they have no desktop to talk to.
    needs: Option<&'static str>,
    copy: &'static [&'static str],
    paste: &'static [&'static str],
}

/// Takes a value off the clipboard after a time. Started by `kista get --copy`.
///
/// The value comes on stdin, and only if the clipboard still holds it is it cleared.
#[derive(Debug, Args)]
#[command(
    hide = true,
    before_help = "Example:\n  kista get secret/app/db#password --copy --clear 45s"
)]
pub(crate) struct ClearClipboard {
    /// How long to wait
    #[arg(long, value_name = "TIME", value_parser = duration)]
    after: Duration,
}

impl ClearClipboard {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        // Out of the terminal's session, whose end would end this before its time. It fails only
        // for the leader of a session, who is out of it already.
        setsid().map(|_| ()).unwrap_or_default();
        let value = prompt::stdin_whole()?;
        tokio::time::sleep(self.after).await;
        let Some(programs) = programs() else { return Ok(Exit::Done) };
        let held = paste(programs).map_err(|error| Failure::io("read the clipboard", &error))?;
        if value.expose(|value| held.expose(|held| value == held)) {
            give(programs.copy, &SecretBytes::copy_of(b""))
                .map_err(|error| Failure::io("clear the clipboard", &error))?;
        }
        Ok(Exit::Done)
    }
}

/// Puts a value on the clipboard, for a time where that is not nothing.
pub(crate) fn copy(value: &SecretString, clear: Duration) -> Result<(), Failure> {
    let value = value.expose(|text| SecretBytes::copy_of(text.as_bytes()));
    let Some(programs) = programs() else { return copy_by_terminal(&value, clear) };
    let name = programs.copy.first().copied().unwrap_or_default();
    give(programs.copy, &value)
        .map_err(|error| Failure::io(format!("copy with {name}"), &error))?;
    if clear.is_zero() {
        output::note("copied; it stays on the clipboard");
        return Ok(());
    }
    let time = clock::format_duration(clear);
    match clear_later(&value, &time) {
        Ok(()) => output::note(&format!("copied; cleared in {time} if it is still there")),
        Err(error) => output::warn(&format!("copied, and it will not be cleared: {error}")),
    }
    Ok(())
}

/// Reads a time such as `45s`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    clock::parse_duration(text).map_err(|_| "not a time such as 45s or 2m".to_owned())
}

/// The programs of this desktop that are installed.
fn programs() -> Option<Programs> {
    ALL.iter().copied().find(|programs| {
        let has_desktop = programs
            .needs
            .is_none_or(|variable| env::var_os(variable).is_some_and(|value| !value.is_empty()));
        has_desktop && [programs.copy, programs.paste].iter().all(|program| is_installed(program))
    })
}

fn is_installed(program: &[&str]) -> bool {
    let paths = env::var_os("PATH").unwrap_or_default();
    let name = program.first().copied().unwrap_or_default();
    env::split_paths(&paths).any(|folder| folder.is_absolute() && folder.join(name).is_file())
}

/// Runs a program with the value as its stdin: nothing of it is on a command line.
fn give(program: &[&str], value: &SecretBytes) -> io::Result<()> {
    let mut child = command(program)?.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let written = match child.stdin.take() {
        Some(mut stdin) => value.expose(|bytes| stdin.write_all(bytes)),
        None => Ok(()),
    };
    let status = child.wait()?;
    written?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}

fn paste(programs: Programs) -> io::Result<SecretBytes> {
    // An empty clipboard is a failure to some of them.
    let output = command(programs.paste)?.stdin(Stdio::null()).stdout(Stdio::piped()).output()?;
    Ok(SecretBytes::from_vec(output.stdout))
}

fn command(program: &[&str]) -> io::Result<Command> {
    let [name, arguments @ ..] = program else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let mut command = Command::new(name);
    command.args(arguments).stderr(Stdio::null());
    // The token is none of its business.
    for (variable, _) in env::vars_os() {
        if variable.to_str().is_some_and(|name| TOKENS.contains(&name)) {
            command.env_remove(variable);
        }
    }
    Ok(command)
}

/// Starts what clears the clipboard, and leaves it to itself.
fn clear_later(value: &SecretBytes, time: &str) -> io::Result<()> {
    let program = env::current_exe()?;
    let Some(program) = program.to_str() else { return Err(io::ErrorKind::NotFound.into()) };
    let mut child = command(&[program, "clear-clipboard", "--after", time])?
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .current_dir("/")
        .spawn()?;
    match child.stdin.take() {
        Some(mut stdin) => value.expose(|bytes| stdin.write_all(bytes)),
        None => Ok(()),
    }
}

/// Asks the terminal itself (OSC 52 of xterm's control sequences), as over ssh.
fn copy_by_terminal(value: &SecretBytes, clear: Duration) -> Result<(), Failure> {
    let none = || {
        Failure::new("there is no clipboard: neither a desktop's program nor a terminal")
            .hint("install wl-clipboard, xclip or xsel, or print the value: kista get REF#KEY | …")
    };
    if !output::is_conversation() {
        return Err(none());
    }
    let encoded = value.expose(|bytes| Zeroizing::new(BASE64.encode(bytes)));
    let sequence = Zeroizing::new(format!("\u{1b}]52;c;{}\u{7}", *encoded));
    let mut terminal = OpenOptions::new().write(true).open("/dev/tty").map_err(|_| none())?;
    terminal
        .write_all(sequence.as_bytes())
        .map_err(|error| Failure::io("write to the terminal", &error))?;
    output::note("copied by the terminal, if it allows that");
    if !clear.is_zero() {
        output::warn("a terminal's clipboard cannot be looked at, so it is not cleared by itself");
    }
    Ok(())
}

const ALL: [Programs; 4] = [
    Programs {
        needs: Some("WAYLAND_DISPLAY"),
        copy: &["wl-copy"],
        paste: &["wl-paste", "--no-newline"],
    },
    Programs {
        needs: Some("DISPLAY"),
        copy: &["xclip", "-selection", "clipboard"],
        paste: &["xclip", "-selection", "clipboard", "-out"],
    },
    Programs {
        needs: Some("DISPLAY"),
        copy: &["xsel", "--clipboard", "--input"],
        paste: &["xsel", "--clipboard", "--output"],
    },
    Programs { needs: None, copy: &["pbcopy"], paste: &["pbpaste"] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_seconds() {
        assert_eq!(duration("45s"), Ok(Duration::from_secs(45)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("soon").is_err());
    }

    #[test]
    fn a_value_goes_to_a_program_on_its_stdin() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clipboard");
        let script = format!("cat > {}", file.display());
        give(&["sh", "-c", &script], &SecretBytes::copy_of(b"x y\n")).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"x y\n");
        assert!(give(&["false"], &SecretBytes::copy_of(b"")).is_err());
        assert!(give(&["/nonexistent"], &SecretBytes::copy_of(b"")).is_err());
    }
}
