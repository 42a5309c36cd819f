use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
};

use clap::Args;
use kista::{
    client::{Fields, JsonValue},
    config::{Config, Overrides},
    secret::{SecretBytes, SecretString},
};

use crate::{
    failure::{Exit, Failure},
    files::{self, Existing},
    output::{self, Output},
};

/// Print a hardened systemd unit that runs the server, or write it with --write.
///
/// It runs as a user of its own, sees the system read-only, and writes where the configuration has
/// its data, audit file and anchors. Without a configuration file yet, the folders are those of the
/// example: /var/lib/kista and /var/log/kista.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista server install\n  \
                         kista server install --config /etc/kista/kista.toml > kista.service\n  \
                         sudo kista server install --write")]
pub(crate) struct Install {
    /// Configuration file of the server
    #[arg(long, value_name = "FILE", default_value = "/etc/kista/kista.toml")]
    config: PathBuf,
    /// User and group that it runs as
    #[arg(long, value_name = "NAME", default_value = "kista")]
    user: String,
    /// The program [default: this one]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Print the unit; that is what happens anyway
    #[arg(long, conflicts_with = "write")]
    print: bool,
    /// Write the unit to this file, which may be replaced with --force
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "/etc/systemd/system/kista.service")]
    write: Option<PathBuf>,
    /// Replace the file of --write if it is there
    #[arg(long, requires = "write")]
    force: bool,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

impl Install {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let unit = self.unit()?;
        let output = Output::new(self.json);
        if let Some(file) = &self.write {
            let existing = if self.force { Existing::Replaced } else { Existing::Kept };
            files::place_for(file, &SecretBytes::copy_of(unit.as_bytes()), existing, 0o644)?;
        }
        if output.wants_json() {
            let text = |text: &str| JsonValue::string(&SecretString::copy_of(text));
            let mut object = Fields::new();
            object.set("unit", text(&unit));
            if let Some(file) = &self.write {
                object.set("file", text(&file.display().to_string()));
            }
            output.object(&object)?;
        } else if self.write.is_none() {
            output.text(&SecretString::copy_of(&unit))?;
        }
        self.tell();
        Ok(Exit::Done)
    }

    /// What is left to do.
    fn tell(&self) {
        let (user, config) = (&self.user, self.config.display());
        if let Some(file) = &self.write {
            output::note(&format!("{}: written", file.display()));
        }
        output::note(&format!(
            "next:  sudo useradd --system --home /var/lib/kista --shell /usr/sbin/nologin {user}\n\
             \x20      write {config} (kista server --help shows one), for root and {user}: chmod 640\n\
             \x20      sudo -u {user} kista server check --config {config}\n\
             \x20      sudo systemctl daemon-reload && sudo systemctl enable --now kista"
        ));
    }

    fn unit(&self) -> Result<String, Failure> {
        let program = match &self.program {
            Some(program) => absolute(program)?,
            None => env::current_exe().map_err(|error| Failure::io("find this program", &error))?,
        };
        if program.starts_with("/home") || program.starts_with("/root") {
            output::warn(&format!(
                "the unit may not read homes, and {} lies in one: install it, such as to \
                 /usr/local/bin, and name it with --program",
                program.display()
            ));
        }
        if !is_name(&self.user) {
            return Err(Failure::usage(format!("{:?} is no name of a user", self.user)));
        }
        let config = absolute(&self.config)?;
        let found = match config.try_exists() {
            Ok(true) => Some(
                Config::load(Some(&config), Overrides::default())
                    .map_err(|error| Failure::of(&error).exit(Exit::Usage))?,
            ),
            Ok(false) | Err(_) => None,
        };
        Unit { program: &program, config: &config, user: &self.user, found: found.as_ref() }.text()
    }
}

/// What makes a unit.
struct Unit<'a> {
    program: &'a Path,
    config: &'a Path,
    user: &'a str,
    found: Option<&'a Config>,
}

impl Unit<'_> {
    fn text(&self) -> Result<String, Failure> {
        let (program, config) = (word(self.program)?, word(self.config)?);
        let mut writable = BTreeSet::new();
        for folder in self.folders() {
            writable.insert(word(&folder)?);
        }
        let mut own = String::new();
        for (setting, base) in
            [("StateDirectory", "/var/lib/kista"), ("LogsDirectory", "/var/log/kista")]
        {
            // systemd makes these for the user of the unit.
            if writable.remove(base) {
                own.push_str(&format!("{setting}=kista\n{setting}Mode=0700\n"));
            }
        }
        let others: Vec<String> = writable.into_iter().collect();
        if !others.is_empty() {
            own.push_str(&format!("ReadWritePaths={}\n", others.join(" ")));
        }
        let is_low_port =
            self.found.is_some_and(|config| (1..1024).contains(&config.listener.address.port()));
        let capability = if is_low_port { "CAP_NET_BIND_SERVICE" } else { "" };
        Ok(UNIT
            .replace("{program}", &program)
            .replace("{config}", &config)
            .replace("{user}", self.user)
            .replace("{folders}", own.trim_end())
            .replace("{capability}", capability))
    }

    /// Where the server writes.
    fn folders(&self) -> Vec<PathBuf> {
        let Some(config) = self.found else {
            return vec!["/var/lib/kista".into(), "/var/log/kista".into()];
        };
        let mut folders = vec![config.data.clone()];
        let audit = config.audit_file.as_ref().map(|audit| audit.path.clone());
        let files = audit.into_iter().chain(config.anchors.iter().cloned());
        folders.extend(files.filter_map(|file| file.parent().map(Path::to_owned)));
        folders
    }
}

/// A path as units write it. Those that would need quoting are refused: they are rare, and systemd
/// quotes differently from one setting to the next.
fn word(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@,=".contains(&byte);
    if text.starts_with('/') && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(Failure::usage(format!("{path:?} cannot stand in a unit"))
        .hint("use an absolute path of letters, digits and /._-+:@,="))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::io(format!("find {}", path.display()), &error))
}

/// As useradd takes them.
fn is_name(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    text.bytes().next().is_some_and(first)
        && text.bytes().all(|byte| first(byte) || byte.is_ascii_digit() || byte == b'-')
}

const UNIT: &str = "\
[Unit]
Description=Kista, a vault for secrets
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
ExecStart={program} server --config {config}
User={user}
Group={user}
UMask=0077
Restart=on-failure
RestartSec=2
# It lets running requests end, then seals.
TimeoutStopSec=60
{folders}

# Keys: never in swap, never in a core dump.
LimitMEMLOCK=64M
LimitCORE=0
MemorySwapMax=0
LimitNOFILE=65536

# What it does not need, whoever gets into it does not have.
CapabilityBoundingSet={capability}
AmbientCapabilities={capability}
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
";

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(found: Option<&Config>) -> String {
        let (program, config) = (Path::new("/usr/bin/kista"), Path::new("/etc/kista/kista.toml"));
        Unit { program, config, user: "kista", found }.text().unwrap()
    }

    #[test]
    fn the_usual_folders_are_made_by_systemd() {
        let text = unit(None);
        assert!(text.contains("ExecStart=/usr/bin/kista server --config /etc/kista/kista.toml\n"));
        assert!(text.contains("\nStateDirectory=kista\nStateDirectoryMode=0700\nLogsDirectory="));
        assert!(!text.contains("ReadWritePaths") && !text.contains('{'), "{text}");
        assert!(text.contains("\nCapabilityBoundingSet=\n"));
    }

    #[test]
    fn a_configuration_says_where_it_writes_and_which_port_it_takes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kista.toml");
        let text = "data = \"/srv/kista\"\nanchor = [{ path = \"/mnt/a/kista.anchor\" }]\n[listener]\n\
                    address = \"0.0.0.0:443\"\ntls_cert = \"/c\"\ntls_key = \"/k\"\n[audit.file]\n\
                    path = \"/var/log/kista/audit.log\"\n";
        std::fs::write(&file, text).unwrap();
        let config = Config::load(Some(&file), Overrides::default()).unwrap();
        let text = unit(Some(&config));
        assert!(text.contains("\nReadWritePaths=/mnt/a /srv/kista\n"), "{text}");
        assert!(text.contains("LogsDirectory=kista") && !text.contains("StateDirectory"));
        assert!(text.contains("\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n"));
    }

    #[test]
    fn what_a_unit_would_read_otherwise_is_refused() {
        for path in ["relative", "/a b", "/a%n", "/a\"b", "/a\nExecStart=/bin/sh", "/a$b", "/å"] {
            assert!(word(Path::new(path)).is_err(), "{path}");
        }
        for name in ["", "Root", "1a", "a b", "a\nb", "-a"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("kista") && is_name("_k-1"));
    }
}
