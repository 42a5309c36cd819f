//! What the machine of a server shows to one who may look: its files, its memory, its disks.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use kista::{
    config::{Config, MemoryLock, Transport},
    disk::Disk,
    seal::keyfile,
    secret,
};

use super::Check;
use crate::{failure::Failure, files, hygiene};

/// All that a configuration names.
pub(crate) fn checks(config: &Config) -> Vec<Check> {
    let mut checks = vec![data(config), private_files(config), memory(config), seal(config)];
    checks.push(audit(config));
    checks.extend(config.anchors.iter().map(|anchor| self::anchor(anchor)));
    checks.extend(disks(config));
    checks
}

fn data(config: &Config) -> Check {
    let folder = config.data.display();
    match hygiene::refuse_open_to_others(&config.data) {
        Err(failure) => Check::failed("data", failure),
        Ok(()) if !config.data.exists() => {
            Check::ok("data", format!("{folder} is not there yet; the server makes it"))
        }
        Ok(()) => Check::ok("data", format!("{folder}, for its owner alone")),
    }
}

/// Whoever reads one of these can be the server, or open the store.
fn private_files(config: &Config) -> Check {
    let mut files: Vec<PathBuf> = config.seal_keyfile.iter().cloned().collect();
    if let Transport::Tls(tls) = &config.listener.transport {
        files.push(tls.key.clone());
    }
    for file in &files {
        match mode_of(file) {
            Ok(Some(mode)) if mode & 0o077 != 0 => {
                return Check::fail(
                    "permissions",
                    format!("others than its owner may use {} (mode {mode:04o})", file.display()),
                    format!("chmod 600 {}", file.display()),
                );
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                return Check::fail(
                    "permissions",
                    format!("{} is not there", file.display()),
                    "put it there, or name another one in the configuration",
                );
            }
            Err(error) => return unreadable("permissions", file, &error),
        }
    }
    Check::ok("permissions", "keys are for their owner alone")
}

/// Whether this user's limit lets keys be kept from swap.
fn memory(config: &Config) -> Check {
    let swap = hygiene::swap_areas();
    if config.memory_lock == MemoryLock::Off {
        return match swap.is_empty() {
            true => Check::ok("memory limit", "memory_lock is off, and this machine does not swap"),
            false => Check::fail(
                "memory limit",
                "memory_lock is off and this machine swaps: keys may be written to disk",
                "memory_lock = \"warn\" or \"required\" in the configuration",
            ),
        };
    }
    let limit = hygiene::lock_limit();
    match secret::try_locking() {
        Ok(()) => Check::ok("memory limit", format!("keys can be locked (limit {limit})")),
        Err(refused) if config.memory_lock == MemoryLock::Required || !swap.is_empty() => {
            Check::fail("memory limit", format!("{refused} (limit {limit})"), hygiene::LOCK_HINT)
        }
        Err(refused) => {
            Check::warn("memory limit", format!("{refused} (limit {limit})"), hygiene::LOCK_HINT)
        }
    }
}

fn seal(config: &Config) -> Check {
    let Some(file) = &config.seal_keyfile else {
        return Check::ok("keyfile", "none: a person opens the vault after each start");
    };
    match keyfile::read(file) {
        Ok(_) if file.starts_with(&config.data) => Check::warn(
            "keyfile",
            format!("{} lies in the data folder: who has a copy of it has both", file.display()),
            "move it out of there, and name its new place in the configuration",
        ),
        Ok(_) => Check::ok("keyfile", format!("{}", file.display())),
        Err(error) => Check::fail(
            "keyfile",
            Failure::of(&error).message,
            "it is a file of 32 bytes, for the user of the server alone: kista operator slot add keyfile",
        ),
    }
}

fn audit(config: &Config) -> Check {
    let Some(audit) = &config.audit_file else {
        return Check::warn(
            "audit file",
            "there is none: nobody will know who read what",
            "[audit.file] path = \"/var/log/kista/audit.log\" in the configuration",
        );
    };
    let shown = audit.path.display();
    match mode_of(&audit.path) {
        Ok(Some(mode)) if mode & 0o007 != 0 => Check::warn(
            "audit file",
            format!("every user of this machine can read {shown}"),
            format!("chmod o= {shown}"),
        ),
        Ok(Some(_)) => Check::ok("audit file", format!("{shown}")),
        Ok(None) => match audit.path.parent() {
            Some(folder) if folder.is_dir() => {
                Check::ok("audit file", format!("{shown} is not there yet; the server makes it"))
            }
            Some(_) | None => Check::fail(
                "audit file",
                format!("the folder of {shown} is not there"),
                "make it, for the user of the server",
            ),
        },
        Err(error) => unreadable("audit file", &audit.path, &error),
    }
}

fn anchor(anchor: &Path) -> Check {
    let shown = anchor.display();
    match anchor.parent() {
        Some(folder) if folder.is_dir() => Check::ok("anchor", format!("{shown}")),
        Some(_) | None => Check::fail(
            "anchor",
            format!("the folder of {shown} is not there"),
            "mount it, or make it, for the user of the server",
        ),
    }
}

fn disks(config: &Config) -> Vec<Check> {
    let mut folders = vec![config.data.as_path()];
    folders.extend(config.audit_file.as_ref().and_then(|audit| audit.path.parent()));
    folders.into_iter().map(free_space).collect()
}

fn free_space(folder: &Path) -> Check {
    // The nearest folder that is there is on the same disk, most likely.
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let free = match Disk::real().free_bytes(there) {
        Ok(bytes) => bytes,
        Err(error) => return unreadable("disk space", there, &error),
    };
    let found = format!("{} MiB free for {}", free >> 20, folder.display());
    match free {
        ..TOO_LITTLE => {
            Check::fail("disk space", found, "make room: the server will refuse to write")
        }
        TOO_LITTLE..LITTLE => Check::warn("disk space", found, "make room before it is needed"),
        LITTLE.. => Check::ok("disk space", found),
    }
}

fn unreadable(check: &'static str, file: &Path, error: &io::Error) -> Check {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Check::skip(check, format!("{} is not for this user to look at", file.display()));
    }
    Check::failed(check, Failure::io(format!("look at {}", file.display()), error))
}

/// Permission bits; `None` when it is not there.
fn mode_of(path: &Path) -> io::Result<Option<u32>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.mode() & 0o7777)),
        Err(error) if files::is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A compaction writes the store a second time, and journals take 64 MiB before one.
const TOO_LITTLE: u64 = 128 << 20;
const LITTLE: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use kista::config::Overrides;

    use super::{super::State, *};

    fn config(folder: &Path) -> Config {
        let overrides = Overrides {
            data: Some(folder.join("data")),
            insecure_http: true,
            audit_file: Some(folder.join("audit.log")),
            seal_keyfile: Some(folder.join("seal.key")),
            ..Overrides::default()
        };
        Config::load(None, overrides).unwrap()
    }

    fn state(checks: &[Check], name: &str) -> State {
        checks.iter().find(|check| check.check == name).unwrap().state
    }

    #[test]
    fn files_of_others_fail_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let key = folder.path().join("seal.key");
        assert_eq!(state(&checks(&config), "permissions"), State::Fail);
        keyfile::create(&key).unwrap();
        let good = checks(&config);
        assert_eq!(state(&good, "permissions"), State::Ok);
        assert_eq!(state(&good, "keyfile"), State::Ok);
        assert_eq!(state(&good, "data"), State::Ok);
        assert_eq!(state(&good, "audit file"), State::Ok);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        fs::create_dir(&config.data).unwrap();
        fs::set_permissions(&config.data, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("audit.log"), "").unwrap();
        let audit = folder.path().join("audit.log");
        fs::set_permissions(audit, fs::Permissions::from_mode(0o644)).unwrap();
        let bad = checks(&config);
        assert_eq!(state(&bad, "permissions"), State::Fail);
        assert_eq!(state(&bad, "data"), State::Fail);
        assert_eq!(state(&bad, "audit file"), State::Warn);
        assert!(bad.iter().all(|check| matches!(check.state, State::Ok | State::Skip) == check.next.is_none()));
    }
}
