//! A server for tests: everything in memory, gone with the process.
//!
//! The store and the certificates lie in a folder of a file system in memory, since clients read the
//! CA from a file. The share that opens the store is in no file.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process,
};

use data_encoding::HEXLOWER;
use kista::{
    client::{Fields, JsonValue},
    clock::{Clock, SystemClock},
    config::{Config, Overrides},
    crypto::random,
    http::Certificates,
    pipeline::Kista,
    seal::{NewSlot, ShareCounts},
    secret::SecretString,
    storage::Options,
};

use super::{address_for_clients, first, names_of};
use crate::{
    commands::serve::{self, Stop},
    failure::{Exit, Failure},
    folders, logging,
    output::{self, Output},
    quoting,
};

/// What a client needs, and the share that opens the store after a seal.
struct Made {
    address: String,
    authority: PathBuf,
    token: SecretString,
    share: SecretString,
}

/// Makes a store in memory, prints how to reach it, and serves it until a signal comes.
pub(super) async fn run(
    listen: Option<String>,
    log_level: Option<String>,
    json: bool,
) -> Result<Exit, Failure> {
    // From before there is anything to leave behind.
    let stop = Stop::listen()?;
    let memory = Memory::take()?;
    let certificates = memory.folder.join("tls");
    let pem = certificates.join("server.pem");
    let overrides = Overrides {
        data: Some(memory.folder.join("data")),
        // Tests run side by side, so the system chooses the port.
        listen: Some(listen.unwrap_or_else(|| "127.0.0.1:0".to_owned())),
        tls_cert: Some(pem.clone()),
        tls_key: Some(pem),
        log_level: Some(log_level.unwrap_or_else(|| "warn".to_owned())),
        ..Overrides::default()
    };
    let config =
        Config::load(None, overrides).map_err(|error| Failure::of(&error).exit(Exit::Usage))?;
    logging::start(config.log_level);
    let names = names_of(config.listener.address);
    let made = Certificates::ensure(&certificates, &names, SystemClock.now())
        .map_err(|error| Failure::of(&error))?;
    let (server, kista) = serve::start_with(&config, storage()).await?;
    let (token, share) = open(&kista).await?;
    let address = address_for_clients(server.local_addr());
    Made { address, authority: made.authority, token, share }.print(Output::new(json))?;
    let ended = serve::run_until(stop, server, kista).await;
    memory.give_back()?;
    ended
}

/// Makes the store with one share, opens it, and mounts `secret/`: the root token, and the share.
async fn open(kista: &Kista) -> Result<(SecretString, SecretString), Failure> {
    let counts = ShareCounts::new(1, 1).map_err(|error| Failure::of(&error))?;
    let made = kista.vault().initialize(vec![NewSlot::Shares(counts)]).await;
    let made = made.map_err(|error| Failure::of(&error))?;
    let Some(share) = made.shares.first() else {
        return Err(Failure::new("the new store has no share"));
    };
    let share = share.expose(|share| SecretString::from_string(HEXLOWER.encode(share)));
    let given = share.expose(str::to_owned);
    kista.vault().submit_share(&given).await.map_err(|error| Failure::of(&error))?;
    first::mount_secrets(kista).await?;
    Ok((made.root_token, share))
}

/// Small files: memory is dearer than disk, and tests write little.
fn storage() -> Options {
    Options {
        segment_bytes: 1 << 20,
        reserve_bytes: 1 << 20,
        compact_above_bytes: 8 << 20,
        ..Options::default()
    }
}

impl Made {
    fn print(&self, output: Output) -> Result<(), Failure> {
        let output = output.once();
        let authority = self.authority.to_string_lossy();
        if output.wants_json() {
            let text = |text: &str| JsonValue::string(&SecretString::copy_of(text));
            let mut object = Fields::new();
            object.set("VAULT_ADDR", text(&self.address));
            object.set("VAULT_CACERT", text(&authority));
            object.set("VAULT_TOKEN", JsonValue::string(&self.token));
            object.set("share", JsonValue::string(&self.share));
            output.object(&object)?;
        } else {
            let set = |name: &str, value: &str| {
                SecretString::from_string(format!("export {name}={}", quoting::shell(value)))
            };
            output.lines(&[
                set("VAULT_ADDR", &self.address),
                set("VAULT_CACERT", &authority),
                self.token.expose(|token| set("VAULT_TOKEN", token)),
                self.share.expose(|share| {
                    SecretString::from_string(format!(
                        "# after a seal, this share opens it: {share}"
                    ))
                }),
            ])?;
        }
        output::note("in memory alone, for tests: it is gone when this ends");
        Ok(())
    }
}

/// A folder in memory, which goes with this.
struct Memory {
    folder: PathBuf,
}

impl Memory {
    fn take() -> Result<Self, Failure> {
        let base = folders::in_memory().ok_or_else(|| {
            Failure::new("no folder keeps files in memory alone")
                .hint("set XDG_RUNTIME_DIR to a folder on a tmpfs; or: kista up --data DIR")
        })?;
        remove_left(&base);
        let folder = base.join(format!("{BEGIN}{}-{}", process::id(), random::uuid()));
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| {
            Failure::io(format!("make the folder {}", folder.display()), &error)
        })?;
        Ok(Self { folder })
    }

    fn give_back(self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::io(format!("remove {}", self.folder.display()), &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // It is gone already, unless something has failed before; that is what will be told then.
        fs::remove_dir_all(&self.folder).unwrap_or_default();
    }
}

/// Removes what processes have left that were killed. A folder of another user's stays.
fn remove_left(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.strip_prefix(BEGIN)) else {
            continue;
        };
        let process = process.split('-').next().unwrap_or_default();
        let is_number = process.bytes().all(|byte| byte.is_ascii_digit()) && !process.is_empty();
        if is_number && !Path::new("/proc").join(process).exists() {
            fs::remove_dir_all(entry.path()).unwrap_or_default();
        }
    }
}

const BEGIN: &str = "kista-dev-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_goes_and_what_is_in_use_stays() {
        let base = tempfile::tempdir().unwrap();
        let own = format!("{BEGIN}{}-x", process::id());
        // No process has this number: the kernel's highest is 2^22.
        for name in [&own, "kista-dev-99999999-x", "kista-dev-x", "other"] {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        remove_left(base.path());
        assert!(base.path().join(own).exists() && base.path().join("other").exists());
        assert!(base.path().join("kista-dev-x").exists());
        assert!(!base.path().join("kista-dev-99999999-x").exists());
    }
}
