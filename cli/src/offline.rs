//! What was read before, sealed on this machine, for the time in which no vault answers.
//!
//! One file for each secret in `$XDG_STATE_HOME/kista/offline`, for its owner alone. Name and key
//! of a file are derived from the token (HKDF, RFC 5869), so without the token it tells neither
//! what it holds nor of which secret, and another token's copies are not found. A file is
//!
//! ```text
//! "kista offline 1\n" | salt 16 | nonce 24 | seconds since 1970, u64 | store id, u16 length | sealed JSON
//! ```
//!
//! Numbers are big-endian. The sealed part is bound to all before it, and to the server's address
//! and namespace, the path and the version: what is moved or renamed does not open.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::ValueEnum;
use data_encoding::HEXLOWER;
use kista::{
    client::Fields,
    clock,
    crypto::{Cipher, HmacSha256, Mac, Sealer, kdf, random},
    secret::{Algorithm, Key, SecretBytes, SecretString},
};

use crate::{failure::Failure, files, folders::Folders};

/// Whether copies of what was read before are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Offline {
    /// Never, and none are kept
    Off,
    /// When no vault answers, it is sealed or fails; never after a refusal
    Fallback,
    /// Always: the vault is not asked
    Only,
}

/// The copies of one user.
#[derive(Debug)]
pub(crate) struct Copies {
    folder: PathBuf,
    max_age: Duration,
}

/// Which secret, read where and as whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// The server's address and namespace.
    pub(crate) scope: &'a str,
    pub(crate) token: &'a SecretString,
    /// Mount and path.
    pub(crate) path: &'a str,
    pub(crate) version: Option<u64>,
}

/// A copy.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) fields: Fields,
    pub(crate) age: Duration,
}

/// Why there is no copy to use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoCopy {
    #[error("no copy of it is kept for this token")]
    None,
    #[error("its copy is {} old, and the most is {}", clock::format_duration(*age), clock::format_duration(*most))]
    TooOld { age: Duration, most: Duration },
    #[error("its copy is of a time to come; is this machine's clock right?")]
    Ahead,
    #[error("its copy is damaged, or another's file in its place")]
    Damaged,
    #[error("its copy cannot be read: {0}")]
    Unreadable(String),
}

impl Copies {
    /// Those of the user who runs this.
    pub(crate) fn of_user(max_age: Duration) -> Result<Self, Failure> {
        Ok(Self { folder: Folders::of_user()?.state.join("offline"), max_age })
    }

    /// Keeps a copy of what was just read, and drops the ones that are too old.
    pub(crate) fn keep(
        &self,
        entry: Entry<'_>,
        store: &str,
        fields: &Fields,
    ) -> Result<(), Failure> {
        self.keep_at(entry, store, fields, now())
    }

    /// The copy of a secret.
    pub(crate) fn find(&self, entry: Entry<'_>) -> Result<Copied, NoCopy> {
        self.find_at(entry, now())
    }

    /// Removes the copy of a secret that the vault refuses.
    pub(crate) fn forget(&self, entry: Entry<'_>) -> Result<(), Failure> {
        files::remove(&self.file(entry))
    }

    fn keep_at(
        &self,
        entry: Entry<'_>,
        store: &str,
        fields: &Fields,
        seconds: u64,
    ) -> Result<(), Failure> {
        files::make_folder(&self.folder)?;
        self.drop_old();
        let salt: [u8; SALT_BYTES] = random::array();
        let nonce: [u8; NONCE_BYTES] = random::array();
        let store = store.as_bytes();
        // INVARIANT: a store's id is a UUID.
        let length = u16::try_from(store.len()).unwrap_or_default();
        let head = [
            MAGIC,
            &salt,
            &nonce,
            &seconds.to_be_bytes(),
            &length.to_be_bytes(),
            store.get(..usize::from(length)).unwrap_or_default(),
        ]
        .concat();
        let sealer = Sealer::new(Cipher::Xaes256Gcm, &derived(&salt, entry.token, b"key"));
        let aad = bound(&head, entry);
        let sealed = fields.to_json().expose(|json| sealer.seal(&nonce, &aad, json));
        // Programs that start together keep the same copy together: each writes a file of its own.
        let file = self.file(entry);
        let mut own = file.clone().into_os_string();
        own.push(format!(".{}", HEXLOWER.encode(&random::array::<8>())));
        let own = PathBuf::from(own);
        files::create(&own, &SecretBytes::from_vec([head, sealed].concat()))?;
        files::rename(&own, &file)
    }

    fn find_at(&self, entry: Entry<'_>, seconds: u64) -> Result<Copied, NoCopy> {
        let bytes = files::read_private(&self.file(entry))
            .map_err(|failure| NoCopy::Unreadable(failure.message))?
            .ok_or(NoCopy::None)?;
        let (written, fields) = bytes.expose(|bytes| open(bytes, entry)).ok_or(NoCopy::Damaged)?;
        if written > seconds.saturating_add(SKEW_SECONDS) {
            return Err(NoCopy::Ahead);
        }
        let age = Duration::from_secs(seconds.saturating_sub(written));
        if age > self.max_age {
            return Err(NoCopy::TooOld { age, most: self.max_age });
        }
        Ok(Copied { fields, age })
    }

    fn file(&self, entry: Entry<'_>) -> PathBuf {
        let key: Key<HmacSha256> = derived(b"", entry.token, b"name");
        self.folder.join(HEXLOWER.encode(&Mac::new(&key).tag(&[&bound(b"", entry)])))
    }

    /// Best effort: what stays is refused for its age anyway.
    fn drop_old(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| modified.elapsed().ok());
            if age.is_some_and(|age| age > self.max_age) {
                fs::remove_file(entry.path()).unwrap_or_default();
            }
        }
    }
}

/// When it was written, and what it holds.
fn open(bytes: &[u8], entry: Entry<'_>) -> Option<(u64, Fields)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (salt, rest) = rest.split_first_chunk::<SALT_BYTES>()?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
    let (seconds, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (_, sealed) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let head = bytes.get(..bytes.len() - sealed.len())?;
    let sealer = Sealer::new(Cipher::Xaes256Gcm, &derived(salt, entry.token, b"key"));
    let json = sealer.open(nonce, &bound(head, entry), sealed).ok()?;
    let fields = json.expose(|json| serde_json::from_slice(json)).ok()?;
    Some((u64::from_be_bytes(*seconds), fields))
}

/// What a copy is bound to, each part with its length before it.
fn bound(head: &[u8], entry: Entry<'_>) -> Vec<u8> {
    let version = entry.version.unwrap_or_default().to_be_bytes();
    let mut bound = Vec::new();
    for part in [head, entry.scope.as_bytes(), entry.path.as_bytes(), &version] {
        bound.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bound.extend_from_slice(part);
    }
    bound
}

fn derived<A: Algorithm>(salt: &[u8], token: &SecretString, purpose: &[u8]) -> Key<A> {
    let info = [b"kista/v1/offline/", purpose].concat();
    token.expose(|token| Key::build(|key| kdf::hkdf_sha256(salt, token.as_bytes(), &info, key)))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

const MAGIC: &[u8] = b"kista offline 1\n";
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
/// Clocks are set back a little now and then.
const SKEW_SECONDS: u64 = 300;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    fn copies(folder: &tempfile::TempDir) -> Copies {
        Copies { folder: folder.path().join("offline"), max_age: Duration::from_secs(DAY) }
    }

    fn fields() -> Fields {
        serde_json::from_str(r#"{"password":"planted","n":1.10}"#).unwrap()
    }

    fn entry<'a>(token: &'a SecretString, path: &'a str) -> Entry<'a> {
        Entry { scope: "https://a:8200", token, path, version: None }
    }

    #[test]
    fn a_copy_comes_back_with_its_age_and_no_file_shows_it() {
        let folder = tempfile::tempdir().unwrap();
        let token = SecretString::copy_of("hvs.token");
        let copies = copies(&folder);
        for _ in 0..2 {
            copies.keep_at(entry(&token, "secret/app"), "id", &fields(), 1000).unwrap();
        }
        let copied = copies.find_at(entry(&token, "secret/app"), 1060).unwrap();
        assert_eq!(copied.age, Duration::from_secs(60));
        assert!(
            copied.fields.to_json().expose(|json| json == br#"{"password":"planted","n":1.10}"#)
        );
        let files: Vec<_> = fs::read_dir(&copies.folder).unwrap().map(Result::unwrap).collect();
        let [file] = &files[..] else { panic!("{files:?}") };
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        let bytes = fs::read(file.path()).unwrap();
        for plain in [&b"planted"[..], b"secret/app", b"hvs.", b"password"] {
            assert!(memchr::memmem::find(&bytes, plain).is_none());
        }
    }

    #[test]
    fn another_token_path_server_or_version_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let (token, other) =
            (SecretString::copy_of("hvs.token"), SecretString::copy_of("hvs.other"));
        let copies = copies(&folder);
        let kept = entry(&token, "secret/app");
        copies.keep_at(kept, "id", &fields(), 1000).unwrap();
        for asked in [
            entry(&other, "secret/app"),
            entry(&token, "secret/ap"),
            Entry { scope: "https://b:8200", ..kept },
            Entry { version: Some(1), ..kept },
        ] {
            assert_eq!(copies.find_at(asked, 1000).unwrap_err(), NoCopy::None);
            // Nor does the file open under the name that it would have.
            fs::copy(copies.file(kept), copies.file(asked)).unwrap();
            assert_eq!(copies.find_at(asked, 1000).unwrap_err(), NoCopy::Damaged);
        }
    }

    #[test]
    fn any_flipped_byte_and_any_cut_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let token = SecretString::copy_of("hvs.token");
        let copies = copies(&folder);
        let entry = entry(&token, "secret/app");
        copies.keep_at(entry, "id", &fields(), 1000).unwrap();
        let good = fs::read(copies.file(entry)).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            assert!(open(&bad, entry).is_none(), "{place}");
            assert!(open(&good[..place], entry).is_none(), "{place}");
        }
        assert!(open(&good, entry).is_some());
    }

    #[test]
    fn what_is_too_old_or_of_the_future_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let token = SecretString::copy_of("hvs.token");
        let copies = copies(&folder);
        let entry = entry(&token, "secret/app");
        copies.keep_at(entry, "id", &fields(), 1000).unwrap();
        assert!(copies.find_at(entry, 1000 + DAY).is_ok());
        let old = copies.find_at(entry, 1001 + DAY).unwrap_err();
        assert!(old.to_string().contains("24h0m1s old"), "{old}");
        assert!(copies.find_at(entry, 700).is_ok());
        assert_eq!(copies.find_at(entry, 699).unwrap_err(), NoCopy::Ahead);
    }

    #[test]
    fn what_is_forgotten_is_gone_and_old_files_go_too() {
        let folder = tempfile::tempdir().unwrap();
        let token = SecretString::copy_of("hvs.token");
        let copies = copies(&folder);
        let (one, two) = (entry(&token, "secret/one"), entry(&token, "secret/two"));
        copies.keep_at(one, "id", &fields(), 1000).unwrap();
        copies.forget(one).unwrap();
        copies.forget(one).unwrap();
        assert_eq!(copies.find_at(one, 1000).unwrap_err(), NoCopy::None);
        copies.keep_at(one, "id", &fields(), 1000).unwrap();
        let file = fs::File::options().write(true).open(copies.file(one)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(DAY + 60)).unwrap();
        copies.keep_at(two, "id", &fields(), 1000).unwrap();
        assert_eq!(copies.find_at(one, 1000).unwrap_err(), NoCopy::None);
    }
}
