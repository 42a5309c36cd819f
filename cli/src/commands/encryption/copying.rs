use std::{
    fs::File,
    io::{self, BufRead, Read},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kista::crypto::OpenFailed;
use rustix::process::Signal;
use tokio::task::JoinError;

use crate::{
    failure::{Exit, Failure},
    files::{self, Unfinished},
    output,
    progress::Progress,
    watching::Signals,
};

/// Where bytes come from.
pub(super) enum Source {
    Stdin(io::Stdin),
    File(File, String),
}

/// Where they go.
pub(super) enum Sink {
    Stdout(File),
    File(Unfinished),
}

impl Source {
    pub(super) fn open(file: Option<&Path>) -> Result<Self, Failure> {
        match file {
            Some(file) if file != Path::new("-") => {
                let name = file.display().to_string();
                let opened = File::open(file).map_err(|error| files::unreadable(file, &error))?;
                Ok(Self::File(opened, name))
            }
            Some(_) | None => Ok(Self::Stdin(io::stdin())),
        }
    }

    /// As a person is told.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Stdin(_) => "stdin".to_owned(),
            Self::File(_, name) => name.clone(),
        }
    }

    /// With the number of its bytes; 0 where that is not known.
    pub(super) fn with_length(self) -> (Self, u64) {
        let length = match &self {
            Self::Stdin(_) => 0,
            Self::File(file, _) => file.metadata().map_or(0, |metadata| metadata.len()),
        };
        (self, length)
    }
}

impl Read for Source {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stdin(stdin) => stdin.read(room),
            Self::File(file, _) => file.read(room),
        }
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

impl Sink {
    /// What is there before all of it is.
    pub(super) fn leftover(&self) -> Option<PathBuf> {
        match self {
            Self::Stdout(_) => None,
            Self::File(file) => Some(file.path().to_owned()),
        }
    }

    /// Says that all of it is there.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout(_) => Ok(()),
            Self::File(file) => file.finish(),
        }
    }
}

/// Catches what [`run`] hears. To be called before there is a file that it would leave behind.
pub(super) fn signals() -> Result<Signals, Failure> {
    Signals::catch(&[Signal::INT, Signal::TERM, Signal::HUP])
}

/// Does blocking work on a thread of its own. Ctrl-C, and the signals by which a service manager and
/// a closed terminal end a program, have it end as a failure, so that it leaves no file behind:
/// `leftover` goes too if the thread waits for input and does not hear of it.
pub(super) async fn run<T: Send + 'static>(
    mut signals: Signals,
    leftover: Option<PathBuf>,
    work: impl FnOnce(&AtomicBool) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let mut working = tokio::task::spawn_blocking(move || work(&seen));
    let signal = tokio::select! {
        ended = &mut working => return ended.map_err(lost)?,
        signal = signals.next() => signal,
    };
    stop.store(true, Ordering::Relaxed);
    match tokio::time::timeout(PATIENCE, working).await {
        // It may have come to its end all the same.
        Ok(ended) => ended.map_err(lost)?.map_err(|_stopped| ended_by(signal)),
        Err(_waits_for_input) => {
            leftover.map_or(Ok(()), |leftover| files::remove(&leftover))?;
            let ended = ended_by(signal);
            output::failure(&ended);
            // The thread would hold the program up.
            process::exit(i32::from(ended.exit.code()));
        }
    }
}

fn lost(_panic: JoinError) -> Failure {
    Failure::new("the work ended in an internal error")
}

fn ended_by(signal: Signal) -> Failure {
    let number = u8::try_from(signal.as_raw()).unwrap_or_default();
    interrupted().exit(Exit::Signal(number))
}

/// Copies to the end, in constant memory.
pub(super) fn copy(
    from: &mut impl BufRead,
    to: &mut impl io::Write,
    stop: &AtomicBool,
    progress: &Progress,
    total: u64,
) -> Result<u64, Failure> {
    let mut done = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(interrupted());
        }
        let bytes = match from.fill_buf() {
            Ok([]) => return Ok(done),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(&error)),
        };
        to.write_all(bytes).map_err(|error| Failure::io("write", &error))?;
        let length = bytes.len();
        from.consume(length);
        done += u64::try_from(length).unwrap_or(u64::MAX);
        progress.show(done, total);
    }
}

/// What reading failed with: a payload that does not open, or the disk.
pub(super) fn unreadable(error: &io::Error) -> Failure {
    let is_payload = error.get_ref().is_some_and(|inner| inner.is::<OpenFailed>());
    if is_payload {
        return Failure::new(
            "the file does not open: it was changed, cut off, or is another key's",
        )
        .hint("what was printed of it before is not to be used");
    }
    Failure::io("read", error)
}

fn interrupted() -> Failure {
    Failure::new("interrupted: no file was kept").exit(Exit::INTERRUPTED)
}

/// How long work that was told to stop may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is read of a plaintext at once: some chunks of a file.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;
