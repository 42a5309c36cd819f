//! What the process does before it holds a secret.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    panic,
    path::{Path, PathBuf},
};

use kista::{
    config::{Config, MemoryLock},
    secret::{self, LockRefused},
};
use rustix::{
    fs::Mode,
    process::{
        DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
    },
    thread::set_no_new_privs,
};

use crate::{
    failure::{Exit, Failure},
    output,
};

/// What a process had before it was prepared, for the program that takes its place.
#[derive(Debug)]
pub(crate) struct Before {
    umask: Mode,
    core: Rlimit,
}

/// Keeps secrets out of core dumps, other processes' reach, other users' files and panic messages.
pub(crate) fn prepare() -> Before {
    // New files and folders are the owner's alone.
    let umask = umask(Mode::RWXG | Mode::RWXO);
    // None of these can fail: a limit may always be lowered, and the flags are in any Linux. A test
    // reads all of them back from a running server.
    let core = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), ..core }).unwrap_or_default();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap_or_default();
    panic::set_hook(Box::new(|panic| {
        // The payload may quote what was being worked on; the place never does.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        output::internal_error(&place);
    }));
    Before { umask, core }
}

/// The variables that hold the vault's own token: no program gets it that was not meant to.
pub(crate) const TOKENS: [&str; 3] = ["KISTA_TOKEN", "BAO_TOKEN", "VAULT_TOKEN"];

/// What cannot be taken back, for every process that starts no program of the user's: such a
/// program may need rights of its own, as `sudo` does, and may want its core dumps.
pub(crate) fn give_up_rights() {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap_or_default();
    // Whatever runs in this process, and whatever it should ever start, gains no rights.
    set_no_new_privs(true).unwrap_or_default();
}

impl Before {
    /// Puts it back. Whether the process may be dumped, the system itself puts back as it starts
    /// the program.
    pub(crate) fn restore(&self) {
        umask(self.umask);
        setrlimit(Resource::Core, self.core).unwrap_or_default();
    }

    /// Starts a program, which gets what this process had; it itself stays prepared.
    pub(crate) fn lend<R>(&self, start: impl FnOnce() -> R) -> R {
        self.restore();
        let started = start();
        umask(Mode::RWXG | Mode::RWXO);
        setrlimit(Resource::Core, Rlimit { current: Some(0), ..self.core }).unwrap_or_default();
        started
    }
}

/// What a server looks at before it opens a store: whether its files are its own, and whether its
/// keys would stay in memory.
pub(crate) fn guard(config: &Config) -> Result<(), Failure> {
    refuse_open_to_others(&config.data)?;
    if let Some(audit) = &config.audit_file
        && let Some(mode) = mode_of(&audit.path)?
        && mode & 0o007 != 0
    {
        tracing::warn!(
            file = %audit.path.display(),
            "every user of this machine can read the audit file: run chmod o= on it"
        );
    }
    allow_open_files();
    lock_memory(config.memory_lock)
}

/// Each connection is an open file, and the soft limit of 1,024 that most systems set is for
/// programs that call `select`. What this fails to raise, the listener lives with.
fn allow_open_files() {
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap_or_default();
}

/// A configuration that others may change is theirs: it names the data folder and the keyfile.
pub(crate) fn guard_configuration(file: &Path) -> Result<(), Failure> {
    match mode_of(file)? {
        Some(mode) if mode & 0o022 != 0 => Err(Failure::new(format!(
            "others than its owner may change the configuration file {}",
            file.display()
        ))
        .hint(format!("chmod go-w {}", file.display()))
        .exit(Exit::Usage)),
        Some(_) | None => Ok(()),
    }
}

/// Refuses a data folder, or a seal file in it, that others than the owner may use. What is not
/// there yet is made for the owner alone.
pub(crate) fn refuse_open_to_others(data: &Path) -> Result<(), Failure> {
    let seal = SEAL_FILES.map(|name| data.join(name));
    for (path, right) in [(data.to_owned(), "700")].into_iter().chain(seal.map(|p| (p, "600"))) {
        if let Some(mode) = mode_of(&path)?
            && mode & 0o077 != 0
        {
            return Err(Failure::new(format!(
                "others than its owner may use {} (mode {mode:04o})",
                path.display()
            ))
            .hint(format!("chmod {right} {}", path.display())));
        }
    }
    Ok(())
}

/// Permission bits; `None` when it is not there.
fn mode_of(path: &Path) -> Result<Option<u32>, Failure> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.mode() & 0o7777)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io(format!("look at {}", path.display()), &error)),
    }
}

/// Finds out whether keys can be kept from swap, and does what the configuration says if not.
fn lock_memory(policy: MemoryLock) -> Result<(), Failure> {
    let swap = swap_areas();
    if policy == MemoryLock::Off {
        secret::switch_off();
        if !swap.is_empty() {
            tracing::warn!(swap = ?swap, "memory_lock is off and this machine swaps: keys may be written to disk");
        }
        return Ok(());
    }
    let Err(refused) = secret::try_locking() else { return Ok(()) };
    if policy == MemoryLock::Required {
        return Err(refused_lock(&refused));
    }
    let limit = lock_limit();
    if swap.is_empty() {
        tracing::warn!(
            limit,
            "the memory of keys cannot be locked; no swap is on now. {LOCK_HINT}"
        );
    } else {
        tracing::warn!(
            limit, swap = ?swap,
            "the memory of keys cannot be locked and this machine swaps: keys may be written to disk. {LOCK_HINT}"
        );
    }
    Ok(())
}

fn refused_lock(refused: &LockRefused) -> Failure {
    Failure::new(format!(
        "memory_lock = \"required\", but {refused} (its limit is {})",
        lock_limit()
    ))
    .hint(format!("{LOCK_HINT}; or set memory_lock = \"warn\""))
}

/// The limit on locked memory, as `ulimit -l` shows it.
pub(crate) fn lock_limit() -> String {
    match getrlimit(Resource::Memlock).current {
        Some(bytes) => format!("{} KiB", bytes / 1024),
        None => "unlimited".to_owned(),
    }
}

/// The files and devices that memory may be written to.
pub(crate) fn swap_areas() -> Vec<PathBuf> {
    listed(&fs::read_to_string("/proc/swaps").unwrap_or_default())
}

/// What follows the heading of a list of them.
fn listed(swaps: &str) -> Vec<PathBuf> {
    let first = |line: &str| line.split_whitespace().next().map(PathBuf::from);
    swaps.lines().skip(1).filter_map(first).collect()
}

/// The two copies of the seal file.
const SEAL_FILES: [&str; 2] = ["seal.0", "seal.1"];
/// 8 MiB is what the system gives by default today, and room for two thousand keys.
pub(crate) const LOCK_HINT: &str =
    "Raise the limit to 8 MiB: ulimit -l 8192, or LimitMEMLOCK=8M in the unit";

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    fn with_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_data_folder_or_seal_file_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        refuse_open_to_others(&data).unwrap();
        fs::create_dir(&data).unwrap();
        let seal = data.join("seal.1");
        fs::write(&seal, "").unwrap();
        for (folder_mode, file_mode, named) in
            [(0o750, 0o600, "chmod 700"), (0o701, 0o600, "chmod 700"), (0o700, 0o640, "chmod 600")]
        {
            with_mode(&data, folder_mode);
            with_mode(&seal, file_mode);
            let failure = refuse_open_to_others(&data).unwrap_err();
            assert!(failure.hint.unwrap().starts_with(named), "{folder_mode:o} {file_mode:o}");
        }
        with_mode(&data, 0o700);
        with_mode(&seal, 0o600);
        refuse_open_to_others(&data).unwrap();
    }

    #[test]
    fn a_configuration_that_others_may_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kista.toml");
        fs::write(&file, "").unwrap();
        with_mode(&file, 0o644);
        guard_configuration(&file).unwrap();
        with_mode(&file, 0o664);
        assert_eq!(guard_configuration(&file).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn swap_is_what_follows_the_heading() {
        let text = "Filename\t\t\t\tType\t\tSize\n/dev/sda2 partition 1 0 -2\n/swap file 1 0 -3\n";
        assert_eq!(listed(text), [PathBuf::from("/dev/sda2"), PathBuf::from("/swap")]);
        assert!(listed("Filename\n").is_empty());
    }
}
