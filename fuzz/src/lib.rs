//! A whole vault for targets that ask through its API, as the HTTP layer would.

use std::{net::SocketAddr, sync::Arc, time::Duration};

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

/// An open vault with a mount at `transit/`.
pub struct Transit {
    runtime: Runtime,
    kista: Kista,
    token: String,
    _folder: tempfile::TempDir,
}

impl Transit {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (kista, token) = runtime.block_on(async {
            let ttl = TtlLimits {
                default: Duration::from_secs(768 * 3600),
                max: Duration::from_secs(768 * 3600),
            };
            let storage = Options { segment_bytes: 1024 * 1024, ..Options::default() };
            let settings = Settings { storage, ..Settings::new(data, ttl) };
            let vault = Vault::start(settings, Arc::new(SystemClock)).expect("a new vault");
            let slot = NewSlot::Shares(ShareCounts::new(1, 1).expect("one share"));
            let made = vault.initialize(vec![slot]).await.expect("the vault is made");
            let share = made.shares[0].expose(|bytes| data_encoding::HEXLOWER.encode(bytes));
            vault.submit_share(&share).await.expect("its share opens it");
            (Kista::new(vault), made.root_token.expose(str::to_owned))
        });
        let transit = Self { runtime, kista, token, _folder: folder };
        let mounted =
            transit.ask(Operation::Write, "sys/mounts/transit", &json!({"type": "transit"}));
        assert_eq!(mounted.0, 204, "{mounted:?}");
        transit
    }

    /// A write below the mount: its status and its answer. No input is the server's own mistake.
    pub fn write(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, answer) = self.ask(Operation::Write, &format!("transit/{path}"), body);
        assert!(matches!(status, 200 | 204 | 400), "{path} {body}: {status} {answer}");
        (status, answer)
    }

    pub fn read(&self, path: &str) -> Value {
        let (status, answer) = self.ask(Operation::Read, &format!("transit/{path}"), &Value::Null);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub fn delete(&self, path: &str) {
        let (status, answer) =
            self.ask(Operation::Delete, &format!("transit/{path}"), &Value::Null);
        assert_eq!(status, 204, "{path}: {answer}");
    }

    fn ask(&self, operation: Operation, path: &str, body: &Value) -> (u16, Value) {
        let head = Head {
            id: "00000000-0000-4000-8000-000000000000".to_owned(),
            operation,
            path: RequestPath::parse(path).expect("a path"),
            query: Query::default(),
            token: Some(SecretString::copy_of(&self.token)),
            namespace: None,
            wrap_ttl: None,
            media: Media::Json,
            connection: Connection {
                remote: SocketAddr::from(([127, 0, 0, 1], 40_000)),
                client_certificate: None,
            },
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let released = self.runtime.block_on(async {
            match self.kista.begin(head).await {
                Ok(begun) => begun.call(SecretBytes::copy_of(body.as_bytes())).await,
                Err(released) => released,
            }
        });
        let (status, _, answer) = released.into_parts();
        (status, serde_json::from_slice(&answer).unwrap_or_default())
    }
}

impl Default for Transit {
    fn default() -> Self {
        Self::new()
    }
}
