//! What targets share: a whole vault that is asked through its API, as the HTTP layer would, and
//! ways to change bytes.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kista::{
    clock::SystemClock,
    gate::{Connection, Head, Media, Operation, Query, RequestPath},
    pipeline::Kista,
    seal::{NewSlot, ShareCounts},
    secret::{SecretBytes, SecretString},
    storage::Options,
    token::TtlLimits,
    vault::{Settings, Vault},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// An open vault.
pub struct Server {
    runtime: Runtime,
    kista: Kista,
    token: String,
    share: String,
    folder: tempfile::TempDir,
}

/// What is asked of a vault.
#[derive(Clone)]
pub struct Asked<'a> {
    pub operation: Operation,
    /// Below `/v1/`, as it comes.
    pub path: &'a str,
    pub query: &'a str,
    pub token: Option<&'a str>,
    pub media: Media,
    pub body: &'a [u8],
}

impl Server {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (kista, token, share) = runtime.block_on(async {
            let ttl = TtlLimits {
                default: Duration::from_secs(768 * 3600),
                max: Duration::from_secs(768 * 3600),
            };
            let storage = Options { segment_bytes: 128 * 1024, ..Options::default() };
            let settings = Settings { storage, ..Settings::new(folder.path().join("data"), ttl) };
            let vault = Vault::start(settings, Arc::new(SystemClock)).expect("a new vault");
            let slot = NewSlot::Shares(ShareCounts::new(1, 1).expect("one share"));
            let made = vault.initialize(vec![slot]).await.expect("the vault is made");
            let share = made.shares[0].expose(|bytes| data_encoding::HEXLOWER.encode(bytes));
            vault.submit_share(&share).await.expect("its share opens it");
            (Kista::new(vault), made.root_token.expose(str::to_owned), share)
        });
        Self { runtime, kista, token, share, folder }
    }

    /// The token that may do anything.
    pub fn root(&self) -> &str {
        &self.token
    }

    /// The one share that opens it.
    pub fn share(&self) -> &str {
        &self.share
    }

    pub fn kista(&self) -> &Kista {
        &self.kista
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Closes the vault; its files stay with what is returned.
    pub fn close(self) -> tempfile::TempDir {
        self.runtime.block_on(self.kista.shutdown());
        self.folder
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Status and answer; `None` when path or query are none, or the body is longer than the HTTP
    /// layer would take.
    pub fn call(&self, asked: &Asked<'_>) -> Option<(u16, Vec<u8>)> {
        let head = Head {
            id: "00000000-0000-4000-8000-000000000000".to_owned(),
            operation: asked.operation,
            path: RequestPath::parse(asked.path).ok()?,
            query: Query::parse(asked.query).ok()?,
            token: asked.token.map(SecretString::copy_of),
            namespace: None,
            wrap_ttl: None,
            media: asked.media.clone(),
            connection: Connection {
                remote: SocketAddr::from(([127, 0, 0, 1], 40_000)),
                client_certificate: None,
            },
        };
        let released = self.block_on(async {
            match self.kista.begin(Box::new(head)).await {
                Ok(begun) if asked.body.len() > begun.body_limit() => None,
                Ok(begun) => Some(begun.call(SecretBytes::copy_of(asked.body)).await),
                Err(released) => Some(released),
            }
        });
        let (status, _, answer) = released?.into_parts();
        Some((status, answer.to_vec()))
    }

    /// A request of the one who may do anything.
    pub fn ask(&self, operation: Operation, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (token, media) = (Some(self.root()), Media::Json);
        let asked = Asked { operation, path, query: "", token, media, body: body.as_bytes() };
        let (status, answer) = self.call(&asked).expect("a path");
        (status, serde_json::from_slice(&answer).unwrap_or_default())
    }

    /// The same, and it goes well.
    pub fn done(&self, operation: Operation, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(operation, path, body);
        assert!(matches!(status, 200 | 204), "{path}: {status} {answer}");
        answer
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

/// An open vault with a mount at `transit/`.
pub struct Transit(Server);

impl Transit {
    pub fn new() -> Self {
        let server = Server::new();
        server.done(Operation::Write, "sys/mounts/transit", &json!({"type": "transit"}));
        Self(server)
    }

    /// A write below the mount: its status and its answer. No input is the server's own mistake.
    pub fn write(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, answer) = self.0.ask(Operation::Write, &format!("transit/{path}"), body);
        assert!(matches!(status, 200 | 204 | 400), "{path} {body}: {status} {answer}");
        (status, answer)
    }

    pub fn read(&self, path: &str) -> Value {
        self.0.done(Operation::Read, &format!("transit/{path}"), &Value::Null)
    }

    pub fn delete(&self, path: &str) {
        self.0.done(Operation::Delete, &format!("transit/{path}"), &Value::Null);
    }
}

impl Default for Transit {
    fn default() -> Self {
        Self::new()
    }
}

/// Other bytes than these, and where the first change is; None when they came out the same. `how`
/// picks a bit, a cut, bytes behind, or two pieces of `unit` bytes that change places.
pub fn change(bytes: &[u8], how: u8, place: usize, unit: usize) -> Option<(Vec<u8>, usize)> {
    let mut changed = bytes.to_vec();
    let place = place % bytes.len();
    match how % 4 {
        0 => changed[place] ^= 1 << (how >> 5),
        1 => changed.truncate(place),
        2 => changed.extend_from_slice(&bytes[place..]),
        _ => {
            let middle = (place + unit).min(bytes.len());
            let end = (middle + unit).min(bytes.len());
            changed[place..end].rotate_left(middle - place);
        }
    }
    let first = bytes.iter().zip(&changed).position(|(a, b)| a != b);
    let first = first.unwrap_or(bytes.len().min(changed.len()));
    (changed != bytes).then_some((changed, first))
}

/// The files below a folder with this extension, sorted.
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("its entries too").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
