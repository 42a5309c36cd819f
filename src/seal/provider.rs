//! What opens an automatic slot without a person: today, a credential that systemd gives the
//! service.

use std::{
    env,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{
    crypto::Kek,
    secret::{Algorithm, Key, SecretBytes},
};

/// What an automatic slot is opened by, as the seal file names it (FORMAT.md 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// The credential of this name in `$CREDENTIALS_DIRECTORY`, 32 bytes.
    SystemdCredential(CredentialName),
}

/// The name of a systemd credential: what a file may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialName(String);

/// Text that names no credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a credential's name is 1 to 255 of the characters a-z, A-Z, 0-9, '.', '_', '-', and no '.' or '..'"
)]
pub struct BadCredentialName;

/// Where this process may ask the providers.
#[derive(Debug, Clone, Default)]
pub struct Providers {
    credentials: Option<PathBuf>,
}

/// Why a provider gives no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// systemd gives this process nothing.
    #[error(
        "CREDENTIALS_DIRECTORY is not set: give the service the credential with \
         LoadCredentialEncrypted={0}:FILE"
    )]
    NoCredentials(String),
    /// The system does not give the credential.
    #[error("cannot read the credential {}", .path.display())]
    Read {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Not 32 bytes. A passphrase in a credential would be guessed without the cost of Argon2.
    #[error(
        "the credential {} does not hold exactly 32 bytes; make one: head -c 32 /dev/urandom | \
         systemd-creds encrypt --name={name} - FILE",
        .path.display()
    )]
    WrongLength {
        /// Its file.
        path: PathBuf,
        /// Its name.
        name: String,
    },
}

impl Provider {
    /// What may be told of it.
    pub fn name(&self) -> &str {
        match self {
            Self::SystemdCredential(CredentialName(name)) => name,
        }
    }

    pub(super) fn code(&self) -> u16 {
        match self {
            Self::SystemdCredential(_) => SYSTEMD_CREDENTIAL,
        }
    }

    pub(super) fn blob(&self) -> &[u8] {
        self.name().as_bytes()
    }

    /// `None` when this version does not know it.
    pub(super) fn parse(code: u16, blob: &[u8]) -> Option<Self> {
        let name = str::from_utf8(blob).ok()?;
        (code == SYSTEMD_CREDENTIAL)
            .then(|| CredentialName::new(name).ok().map(Self::SystemdCredential))?
    }
}

impl CredentialName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`BadCredentialName`] for what is no plain file name.
    pub fn new(name: &str) -> Result<Self, BadCredentialName> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=255).contains(&name.len()) && name.bytes().all(is_plain);
        // A name of dots would lead out of the folder.
        if fits && !matches!(name, "." | "..") {
            Ok(Self(name.to_owned()))
        } else {
            Err(BadCredentialName)
        }
    }
}

impl Providers {
    /// Those that the environment names.
    pub fn from_environment() -> Self {
        Self { credentials: env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) }
    }

    /// Credentials that lie in a folder.
    pub fn in_folder(credentials: &Path) -> Self {
        Self { credentials: Some(credentials.to_owned()) }
    }

    /// The key that a provider gives now.
    ///
    /// # Errors
    /// [`ProviderError`], which says what to do.
    pub fn key(&self, provider: &Provider) -> Result<Key<Kek>, ProviderError> {
        match provider {
            Provider::SystemdCredential(CredentialName(name)) => self.credential(name),
        }
    }

    fn credential(&self, name: &str) -> Result<Key<Kek>, ProviderError> {
        let none = || ProviderError::NoCredentials(name.to_owned());
        let path = self.credentials.as_deref().ok_or_else(none)?.join(name);
        let read = |path: &Path| {
            let mut file = File::open(path)?;
            let is_right = file.metadata()?.len() == u64::try_from(Kek::KEY_BYTES).unwrap_or(0);
            let mut result = Ok(());
            let bytes = SecretBytes::build(if is_right { Kek::KEY_BYTES } else { 0 }, |bytes| {
                result = file.read_exact(bytes);
            });
            result.map(|()| bytes)
        };
        match read(&path) {
            Ok(bytes) => bytes.expose(Key::copy_of).map_err(|_length| ProviderError::WrongLength {
                path: path.clone(),
                name: name.to_owned(),
            }),
            Err(cause) => Err(ProviderError::Read { path, cause }),
        }
    }
}

const SYSTEMD_CREDENTIAL: u16 = 1;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn provider(name: &str) -> Provider {
        Provider::SystemdCredential(CredentialName::new(name).unwrap())
    }

    #[test]
    fn a_credential_of_32_bytes_is_the_key() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("kista.root"), [7; 32]).unwrap();
        let key = Providers::in_folder(dir.path()).key(&provider("kista.root")).unwrap();
        assert!(key.expose(|key| key == [7; 32]));
    }

    #[test]
    fn anything_else_is_refused_with_the_next_step() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("short"), [7; 31]).unwrap();
        let providers = Providers::in_folder(dir.path());
        let text =
            |providers: &Providers, name| providers.key(&provider(name)).unwrap_err().to_string();
        assert!(text(&providers, "short").contains("exactly 32 bytes"));
        assert!(text(&providers, "absent").contains("cannot read the credential"));
        let none = text(&Providers::default(), "root");
        assert!(none.contains("LoadCredentialEncrypted=root:FILE"), "{none}");
    }

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for name in ["", ".", "..", "a/b", "/etc/passwd", "a\0b", "ä", &"a".repeat(256)] {
            assert!(CredentialName::new(name).is_err(), "{name}");
        }
        for name in ["a", "...", "kista-root_1.key", &"a".repeat(255)] {
            assert!(CredentialName::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_seal_files_form_comes_back_and_unknown_providers_do_not() {
        let provider = provider("root");
        assert_eq!(Provider::parse(provider.code(), provider.blob()), Some(provider));
        assert_eq!(Provider::parse(2, b"root"), None);
        assert_eq!(Provider::parse(1, b"../root"), None);
        assert_eq!(Provider::parse(1, &[0xff]), None);
    }
}
