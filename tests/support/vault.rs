use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kista::{
    barrier::Batch,
    clock::{Clock, ManualClock, Timestamp},
    config::Background,
    gate::{Connection, Head, Media, Notes, Operation, Query, Released, RequestPath},
    jobs,
    pipeline::Kista,
    seal::{NewSlot, ShareCounts},
    secret::{SecretBytes, SecretString},
    storage::Options,
    token::TtlLimits,
    vault::{Settings, Vault},
};
use tempfile::TempDir;

use super::Answer;

/// An open vault with `secret/` mounted (KV version 2) and `plain/` (version 1), a root token, and
/// a clock turned by hand.
pub(crate) struct TestVault {
    pub(crate) root: String,
    pub(crate) clock: Arc<ManualClock>,
    kista: Kista,
    share: String,
    folder: TempDir,
}

impl TestVault {
    pub(crate) async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_767_225_600_000)));
        let settings = settings(&folder.path().join("data"));
        let vault = Vault::start(settings, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let slot = NewSlot::Shares(ShareCounts::new(1, 1).unwrap());
        let made = vault.initialize(vec![slot]).await.unwrap();
        let share = made.shares[0].expose(|bytes| data_encoding::HEXLOWER.encode(bytes));
        let root = made.root_token.expose(str::to_owned);
        let opened = Self { root, clock, kista: Kista::new(vault), share, folder };
        opened.unseal().await;
        for (path, mount) in [
            ("sys/mounts/secret", r#"{"type":"kv","options":{"version":"2"}}"#),
            ("sys/mounts/plain", r#"{"type":"kv"}"#),
        ] {
            let answer = opened.as_root(Operation::Write, path, mount).await;
            assert_eq!(answer.status, 204, "{answer:?}");
        }
        opened
    }

    /// The one share that opens it, in hexadecimal.
    pub(crate) fn share(&self) -> String {
        self.share.clone()
    }

    /// The vault below the pipeline.
    pub(crate) fn vault(&self) -> &Arc<Vault> {
        self.kista.vault()
    }

    pub(crate) async fn unseal(&self) {
        self.kista.vault().submit_share(&self.share).await.unwrap();
        assert!(!self.kista.vault().status().is_sealed);
    }

    /// Whether the share opens another data folder.
    pub(crate) async fn opens(&self, data: &Path) -> bool {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let Ok(vault) = Vault::start(settings(data), clock) else { return false };
        let opened = vault.submit_share(&self.share).await;
        vault.seal().await;
        opened.is_ok()
    }

    /// Every file of the data folder, with what it holds.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files_under(&self.folder.path().join("data"))
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) async fn seal(&self) {
        self.kista.vault().seal().await;
    }

    pub(crate) async fn as_root(&self, operation: Operation, path: &str, body: &str) -> Answer {
        self.call(Some(&self.root), operation, path, body).await
    }

    /// One request, as the HTTP layer would hand it on; the path may have a query.
    pub(crate) async fn call(
        &self,
        token: Option<&str>,
        operation: Operation,
        path: &str,
        body: &str,
    ) -> Answer {
        self.call_from([127, 0, 0, 1], token, operation, path, body).await.0
    }

    /// The same from another machine, with what the answer's headers tell of rates.
    pub(crate) async fn call_from(
        &self,
        from: impl Into<IpAddr>,
        token: Option<&str>,
        operation: Operation,
        path: &str,
        body: &str,
    ) -> (Answer, Notes) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let media = if operation == Operation::Patch { Media::MergePatch } else { Media::Json };
        let head = Head {
            id: "00000000-0000-4000-8000-000000000000".to_owned(),
            operation,
            path: RequestPath::parse(path).unwrap(),
            query: Query::parse(query).unwrap(),
            token: token.map(SecretString::copy_of),
            namespace: None,
            wrap_ttl: None,
            media,
            connection: Connection {
                remote: SocketAddr::new(from.into(), 40_000),
                client_certificate: None,
            },
        };
        match self.kista.begin(Box::new(head)).await {
            Ok(begun) => answer(begun.call(SecretBytes::copy_of(body.as_bytes())).await),
            Err(released) => answer(released),
        }
    }

    /// One round of the background's work.
    pub(crate) async fn round(&self) {
        jobs::round(&self.kista.vault().unsealed().unwrap()).await;
    }

    /// Puts a record into a mount's space, as work that broke off may have left it.
    pub(crate) async fn leave(&self, mount: &str, path: &[&str], value: &[u8]) {
        let open = self.kista.vault().unsealed().unwrap();
        let view = open.mounts.table().find(mount).unwrap().view.clone();
        let mut batch = Batch::default();
        batch.put(&view, path, value);
        view.commit(batch).await.unwrap();
    }

    /// How many names lie at the root of a folder of a mount's space.
    pub(crate) async fn names(&self, mount: &str, folder: &[&str]) -> usize {
        let open = self.kista.vault().unsealed().unwrap();
        let view = open.mounts.table().find(mount).unwrap().view.clone();
        view.list(folder, None, usize::MAX).await.unwrap().len()
    }

    /// A token with these policies and no other.
    pub(crate) async fn token(&self, policies: &[&str]) -> String {
        let body = serde_json::json!({"policies": policies, "no_default_policy": true});
        let made = self.as_root(Operation::Write, "auth/token/create", &body.to_string()).await;
        made.json()["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn policy(&self, name: &str, text: &str) {
        let body = serde_json::json!({ "policy": text }).to_string();
        let path = format!("sys/policies/acl/{name}");
        let answer = self.as_root(Operation::Write, &path, &body).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
}

fn settings(data: &Path) -> Settings {
    let month = Duration::from_secs(768 * 3600);
    let ttl = TtlLimits { default: month, max: month };
    Settings {
        storage: Options { segment_bytes: 1024 * 1024, ..Options::default() },
        background: Background { rewrap_per_second: 0, ..Background::default() },
        ..Settings::new(data.to_owned(), ttl)
    }
}

/// Every file below a folder. One that goes while it is looked for is not there.
pub(crate) fn files_under(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match fs::read(&path) {
            Ok(bytes) => found.push((path, bytes)),
            Err(_) => found.extend(files_under(&path)),
        }
    }
    found
}

fn answer(released: Released) -> (Answer, Notes) {
    let (status, notes, body) = released.into_parts();
    (Answer { status, text: String::from_utf8(body.to_vec()).unwrap() }, notes)
}
