use std::{
    fs::File,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Command},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

/// A terminal with one command in its foreground.
pub(crate) struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// The end that the command has, held open to look at it afterwards.
    line: File,
    child: Child,
    shown: Vec<u8>,
}

impl Terminal {
    /// Starts a command of `Site::command` in a session whose terminal this is.
    pub(crate) fn start(command: &Command) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let line = File::options().read(true).write(true).open(name).unwrap();
        // Whoever started the tests in the background may have had them ignore Ctrl-C, which their
        // children would take over.
        let mut at_terminal = Command::new("env");
        at_terminal
            .args(["--default-signal=INT,QUIT", "setsid", "--ctty"])
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(command.get_current_dir().unwrap())
            .env_clear()
            .env("TERM", "xterm")
            .stdin(line.try_clone().unwrap())
            .stdout(line.try_clone().unwrap())
            .stderr(line.try_clone().unwrap());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                at_terminal.env(name, value);
            }
        }
        let child = at_terminal.spawn().unwrap();
        let keyboard = File::from(keyboard);
        let mut screen = keyboard.try_clone().unwrap();
        let (send, receive) = channel();
        thread::spawn(move || {
            let mut room = [0; 4096];
            while let Ok(count) = screen.read(&mut room) {
                if count == 0 || send.send(room[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keyboard, screen: receive, line, child, shown: Vec::new() }
    }

    /// Waits until this stands on the screen, after what was waited for before; what stands between.
    pub(crate) fn until(&mut self, text: &str) -> String {
        loop {
            let at = self.shown.windows(text.len()).position(|shown| shown == text.as_bytes());
            if let Some(at) = at {
                let before: Vec<u8> = self.shown.drain(..at + text.len()).take(at).collect();
                return String::from_utf8_lossy(&before).into_owned();
            }
            let seen = String::from_utf8_lossy(&self.shown).into_owned();
            let more = self.screen.recv_timeout(PATIENCE);
            assert!(more.is_ok(), "{text:?} does not come after {seen:?}");
            self.shown.extend(more.unwrap());
        }
    }

    /// Waits until what is typed is not shown.
    pub(crate) fn until_hidden(&self) {
        let deadline = Instant::now() + PATIENCE;
        while tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO) {
            assert!(Instant::now() < deadline, "what is typed is still shown");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// How the command ends, as a shell tells it, and what it has shown since the last waiting.
    pub(crate) fn end(mut self) -> (i32, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(Duration::from_millis(5));
        };
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        let usual = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        assert!(modes.contains(usual), "the terminal is left with {modes:?}");
        // All that was shown stands before this, which a late Ctrl-C may take off the line again.
        let shown = loop {
            let shown = String::from_utf8_lossy(&self.shown);
            if let Some((shown, _)) = shown.split_once(END) {
                break shown.to_owned();
            }
            assert!(Instant::now() < deadline, "the terminal shows nothing more");
            self.line.write_all(END.as_bytes()).unwrap();
            self.shown.extend(self.screen.recv_timeout(Duration::from_secs(1)).unwrap_or_default());
        };
        (status.code().or(status.signal().map(|signal| 128 + signal)).unwrap(), shown)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already where the test has come to its end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Ctrl-C.
pub(crate) const INTERRUPT: &str = "\u{3}";
const END: &str = "<the end>";
const PATIENCE: Duration = Duration::from_secs(30);
