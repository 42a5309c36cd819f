//! Where the text of a secret lies while it is edited: in memory, in a folder of the owner's, wiped
//! however the editing ends.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Seek, Write},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt},
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::Duration,
};

use kista::{
    crypto::random,
    secret::{SecretBytes, SecretString},
};
use rustix::process::{Pid, kill_process};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

use crate::{
    failure::{Exit, Failure},
    files, folders, output,
    prompt::{self, Person},
};

/// A folder with one file, and the signals that would end the program without wiping it.
#[derive(Debug)]
pub(super) struct Workshop {
    folder: PathBuf,
    file: PathBuf,
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    quit: Signal,
}

impl Workshop {
    /// Makes the folder, for the text of the secret at `path`.
    pub(super) fn open(path: &str, ending: &str) -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::io("listen for signals", &error));
        let base = memory_folder()?;
        let folder = base.join(format!("kista-edit-{}", random::uuid()));
        let name: String =
            path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let workshop = Self {
            file: folder.join(format!("{name}.{ending}")),
            folder,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
        };
        fs::DirBuilder::new().mode(0o700).create(&workshop.folder).map_err(|error| {
            Failure::io(format!("make the folder {}", workshop.folder.display()), &error)
        })?;
        Ok(workshop)
    }

    /// Writes the text.
    pub(super) fn put(&self, text: &SecretString) -> Result<(), Failure> {
        let written = || {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&self.file)?;
            text.expose(|text| file.write_all(text.as_bytes()))
        };
        written().map_err(|error| Failure::io(format!("write {}", self.file.display()), &error))
    }

    /// Opens the editor on the text, and reads what it has left.
    pub(super) async fn edit(&mut self) -> Result<SecretString, Failure> {
        let editor = Editor::of_user();
        let child = editor
            .start(&self.file)
            .map_err(|error| Failure::io(format!("start the editor {}", editor.0), &error))?;
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let mut ended = wait(child);
        let status = loop {
            tokio::select! {
                status = &mut ended => break status,
                // It is for the editor, which has it from the terminal too.
                _ = self.interrupt.recv() => {}
                _ = self.quit.recv() => {}
                end = end(&mut self.terminate, &mut self.hang_up) => {
                    if let Some(id) = id {
                        // It may have gone already.
                        kill_process(id, rustix::process::Signal::TERM).unwrap_or_default();
                    }
                    // What it writes while it ends is wiped too.
                    timeout(PATIENCE, &mut ended).await.map(|_| ()).unwrap_or_default();
                    return Err(end);
                }
            }
        };
        let status = status.map_err(|_| Failure::new("the editor was lost"))?;
        let status = status.map_err(|error| Failure::io("wait for the editor", &error))?;
        if status.signal() == Some(SignalKind::interrupt().as_raw_value()) {
            return Err(interrupted());
        }
        if !status.success() {
            return Err(Failure::new(format!("the editor {} ended with {status}", editor.0))
                .hint("nothing was written; set VISUAL or EDITOR to another editor"));
        }
        let bytes = fs::read(&self.file)
            .map_err(|error| Failure::io(format!("read {}", self.file.display()), &error))?;
        prompt::text(SecretBytes::from_vec(bytes), "the edited file")
    }

    /// Asks a person; a signal ends it.
    pub(super) async fn ask(&mut self, person: Person, question: &str) -> Result<bool, Failure> {
        let (send, answer) = oneshot::channel();
        let question = question.to_owned();
        // A thread of its own, which may go on waiting for a line when the program ends.
        thread::spawn(move || send.send(person.says_yes(&question)));
        tokio::select! {
            answer = answer => answer.map_err(|_| Failure::new("nobody has answered"))?,
            _ = self.interrupt.recv() => Err(interrupted()),
            _ = self.quit.recv() => Err(interrupted()),
            end = end(&mut self.terminate, &mut self.hang_up) => Err(end),
        }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // Editors leave copies beside it, such as swap files.
        let wiped = wipe(&self.folder).and_then(|()| fs::remove_dir_all(&self.folder));
        if let Err(error) = wiped
            && !files::is_absent(&error)
        {
            output::warn(&format!("remove {} yourself: {error}", self.folder.display()));
        }
    }
}

/// The user's editor, as a shell runs it.
struct Editor(String);

impl Editor {
    fn of_user() -> Self {
        let set = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self(set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned()))
    }

    fn start(&self, file: &Path) -> io::Result<Child> {
        let mut command = Command::new("/bin/sh");
        // The variable may hold arguments, as `code --wait` does.
        command.args(["-c", &format!("exec {} \"$@\"", self.0), "sh"]);
        command.args(self.private_arguments()).arg(file);
        for variable in ["KISTA_TOKEN", "BAO_TOKEN", "VAULT_TOKEN"] {
            command.env_remove(variable);
        }
        command.spawn()
    }

    /// Vim keeps what was yanked, undone and backed up in the user's home, on the disk.
    fn private_arguments(&self) -> &'static [&'static str] {
        let program = self.0.split_whitespace().next().unwrap_or_default();
        match program.rsplit('/').next().unwrap_or_default() {
            "vim" | "nvim" => {
                &["-n", "-i", "NONE", "--cmd", "set noundofile nobackup nowritebackup"]
            }
            _ => &[],
        }
    }
}

/// Waits for the editor without holding up the listening for signals.
fn wait(mut child: Child) -> oneshot::Receiver<io::Result<ExitStatus>> {
    let (send, ended) = oneshot::channel();
    thread::spawn(move || send.send(child.wait()));
    ended
}

/// Waits for a signal that ends the program.
async fn end(terminate: &mut Signal, hang_up: &mut Signal) -> Failure {
    let signal = tokio::select! {
        _ = terminate.recv() => SignalKind::terminate(),
        _ = hang_up.recv() => SignalKind::hangup(),
    };
    let number = u8::try_from(signal.as_raw_value()).unwrap_or_default();
    Failure::new("ended by a signal: nothing was written").exit(Exit::Signal(number))
}

fn interrupted() -> Failure {
    Failure::new("interrupted: nothing was written").exit(Exit::INTERRUPTED)
}

/// Overwrites every file of a folder; links are not followed.
fn wipe(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            wipe(&entry.path())?;
        } else if kind.is_file() {
            let mut file = OpenOptions::new().write(true).open(entry.path())?;
            let mut left = file.seek(io::SeekFrom::End(0))?;
            file.rewind()?;
            while left > 0 {
                let part = left.min(ZEROS.len() as u64);
                file.write_all(ZEROS.get(..usize::try_from(part).unwrap_or(0)).unwrap_or(&ZEROS))?;
                left -= part;
            }
        }
    }
    Ok(())
}

/// A folder whose files are in memory alone.
fn memory_folder() -> Result<PathBuf, Failure> {
    folders::in_memory().ok_or_else(|| {
        Failure::new("no folder keeps files in memory alone, and the text must not touch the disk")
            .hint("set XDG_RUNTIME_DIR to a folder on a tmpfs, or change keys with: kista patch")
    })
}

/// How long an editor may take to end that was told to.
const PATIENCE: Duration = Duration::from_secs(2);

static ZEROS: [u8; 4096] = [0; 4096];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_folder_is_the_owners_and_gone_afterwards() {
        use std::os::unix::fs::MetadataExt;

        let workshop = Workshop::open("secret/app/db", "json").unwrap();
        workshop.put(&SecretString::copy_of("{}")).unwrap();
        assert!(folders::is_in_memory(&workshop.folder));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&workshop.folder), mode(&workshop.file)), (0o700, 0o600));
        assert!(workshop.file.ends_with("secret-app-db.json"));
        let folder = workshop.folder.clone();
        drop(workshop);
        assert!(!folder.exists());
    }

    #[test]
    fn wiping_overwrites_all_files_and_follows_no_link() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let outside = other.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        std::os::unix::fs::symlink(&outside, folder.path().join("link")).unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        let long = folder.path().join("inner/swap");
        fs::write(&long, vec![b'x'; 10_000]).unwrap();
        wipe(folder.path()).unwrap();
        assert!(fs::read(&long).unwrap() == vec![0; 10_000]);
        assert_eq!(fs::read(&outside).unwrap(), b"kept");
    }
}
