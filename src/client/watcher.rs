//! Watching a secret for change.

use std::{marker::PhantomData, time::Duration};

use serde::de::DeserializeOwned;
use tokio::time::{self, Instant};

use super::{Backoff, Client, Error, Kv2, SecretMetadata, VersionMetadata, Versioned, retry};

/// Watches one secret, and gives each new version; made by [`Kv2::watch`].
#[derive(Debug)]
pub struct SecretWatcher<T> {
    client: Client,
    mount: String,
    path: String,
    interval: Duration,
    seen: Seen,
    /// When it looks next.
    due: Instant,
    backoff: Backoff,
    asks: Asks,
    value: PhantomData<fn() -> T>,
}

/// What was given last.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// That there is no secret.
    Absence,
    Version(Mark),
}

/// What tells a version from any other. A secret that is destroyed and written anew begins at
/// version 1 again, at another time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    version: u64,
    created_time: String,
    deletion_time: String,
    destroyed: bool,
    has_value: bool,
}

/// How it looks for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// By the metadata, and reads the secret when they differ.
    Metadata,
    /// By the secret: the token may not read metadata.
    Secret,
}

impl Kv2<'_> {
    /// Watches the secret at `path`, looking each `interval` (a tenth more or less by chance, and
    /// at least 200 ms). It asks for the metadata, which hold no value, where the token may read
    /// them, else for the secret. The watcher owns what it needs, and stops when it is dropped.
    pub fn watch<T: DeserializeOwned>(&self, path: &str, interval: Duration) -> SecretWatcher<T> {
        let interval = interval.max(SHORTEST);
        SecretWatcher {
            client: self.client.clone(),
            mount: self.mount.to_owned(),
            path: path.to_owned(),
            interval,
            seen: Seen::Nothing,
            due: Instant::now(),
            backoff: backoff(interval),
            asks: Asks::Metadata,
            value: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> SecretWatcher<T> {
    /// Waits for the next version: the first call gives the current one at once, a later one
    /// returns when there is another one than was given last. Versions in between are passed over.
    /// What may pass ([`Error::is_passing`]) is waited out without a word.
    ///
    /// Cancel-safe, and a call that is cancelled does not begin its interval anew.
    ///
    /// # Errors
    /// Each of them once for a change: [`Error::NotFound`] when there is no secret or it is
    /// deleted, [`Error::Misfit`] when the new version has another shape. [`Error::Denied`],
    /// [`Error::InvalidToken`] and what else does not pass, each time that it looks. It may be
    /// called again after any of them.
    pub async fn next(&mut self) -> Result<Versioned<T>, Error> {
        loop {
            time::sleep_until(self.due).await;
            let looked = self.look().await;
            if let Err(error) = &looked
                && error.is_passing()
            {
                self.due = Instant::now() + self.backoff.pause();
                continue;
            }
            self.backoff = backoff(self.interval);
            self.due = Instant::now() + retry::about(self.interval);
            if let Some(changed) = looked.transpose() {
                return changed;
            }
        }
    }

    /// Looks once; `None` when nothing has changed.
    async fn look(&mut self) -> Result<Option<Versioned<T>>, Error> {
        let client = self.client.clone();
        let kv2 = client.kv2(&self.mount);
        if self.asks_for_metadata() {
            match kv2.metadata(&self.path).await {
                Ok(metadata) if self.is_seen(&metadata) => return Ok(None),
                Ok(_) | Err(Error::NotFound) => {}
                Err(Error::Denied { .. }) => self.asks = Asks::Secret,
                Err(error) => return Err(error),
            }
        }
        let secret = match kv2.read(&self.path).await {
            Err(Error::NotFound) => return self.gone(Seen::Absence),
            secret => secret?,
        };
        let mark = Mark::of(&secret.metadata, secret.fields.is_some());
        let Some(fields) = secret.fields else { return self.gone(Seen::Version(mark)) };
        if self.seen == Seen::Version(mark.clone()) {
            return Ok(None);
        }
        self.seen = Seen::Version(mark);
        let value = kv2.fit(&self.path, &fields)?;
        Ok(Some(Versioned { value, metadata: secret.metadata }))
    }

    /// Whether metadata can tell of a change. A version whose end is set ends without one.
    fn asks_for_metadata(&self) -> bool {
        let tells = match &self.seen {
            Seen::Nothing => false,
            Seen::Absence => true,
            Seen::Version(mark) => mark.deletion_time.is_empty() || !mark.has_value,
        };
        self.asks == Asks::Metadata && tells
    }

    fn is_seen(&self, metadata: &SecretMetadata) -> bool {
        let Seen::Version(mark) = &self.seen else { return false };
        let state = metadata.versions.get(&metadata.current_version);
        metadata.current_version == mark.version
            && state.is_some_and(|state| {
                state.created_time == mark.created_time
                    && state.deletion_time == mark.deletion_time
                    && state.destroyed == mark.destroyed
            })
    }

    /// That there is no value is told once.
    fn gone(&mut self, seen: Seen) -> Result<Option<Versioned<T>>, Error> {
        if self.seen == seen {
            return Ok(None);
        }
        self.seen = seen;
        Err(Error::NotFound)
    }
}

impl Mark {
    fn of(metadata: &VersionMetadata, has_value: bool) -> Self {
        Self {
            version: metadata.version,
            created_time: metadata.created_time.clone(),
            deletion_time: metadata.deletion_time.clone(),
            destroyed: metadata.destroyed,
            has_value,
        }
    }
}

/// The pauses while the server does not answer: from half a second on, no longer than a minute or
/// the interval.
fn backoff(interval: Duration) -> Backoff {
    Backoff::new(FIRST_PAUSE.min(interval), interval.max(LONGEST_PAUSE))
}

/// Looking more often asks without end.
const SHORTEST: Duration = Duration::from_millis(200);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::client::fake::{Fake, Scripted};

    #[derive(Debug, Deserialize, PartialEq, Eq)]
    struct Value {
        n: u32,
    }

    fn version(version: u64, data: &str) -> Scripted {
        let status = if data == "null" { 404 } else { 200 };
        let deletion = if data == "null" { "2026-01-02T00:00:00Z" } else { "" };
        let text = format!(
            r#"{{"data":{{"data":{data},"metadata":{{"version":{version},"created_time":"t{version}","deletion_time":"{deletion}","destroyed":false,"custom_metadata":null}}}}}}"#
        );
        Scripted::Answer(status, "", text.leak())
    }

    fn metadata(version: u64, deletion: &str) -> Scripted {
        let text = format!(
            r#"{{"data":{{"current_version":{version},"oldest_version":0,"max_versions":0,"cas_required":false,"delete_version_after":"0s","created_time":"t1","updated_time":"t2","custom_metadata":null,"versions":{{"{version}":{{"created_time":"t{version}","deletion_time":"{deletion}","destroyed":false}}}}}}}}"#
        );
        Scripted::Answer(200, "", text.leak())
    }

    const DENIED: Scripted =
        Scripted::Answer(403, "", r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#);
    const NONE: Scripted = Scripted::Answer(404, "", r#"{"errors":[]}"#);
    const BUSY: Scripted = Scripted::Answer(500, "", r#"{"errors":["busy"]}"#);

    async fn watched(script: Vec<Scripted>) -> (Fake, SecretWatcher<Value>) {
        let fake = Fake::start(script).await;
        let watcher = fake.client().kv2("secret").watch("app/db", Duration::ZERO);
        (fake, watcher)
    }

    fn paths(fake: &Fake) -> Vec<String> {
        let path = |request: &String| request.split(' ').nth(1).unwrap().to_owned();
        fake.requests().iter().map(path).collect()
    }

    #[tokio::test]
    async fn a_new_version_is_found_by_its_metadata() {
        let (fake, mut watcher) = watched(vec![
            version(1, r#"{"n":1}"#),
            metadata(1, ""),
            BUSY,
            metadata(2, ""),
            version(2, r#"{"n":2}"#),
        ])
        .await;
        assert_eq!(watcher.next().await.unwrap().value, Value { n: 1 });
        let second = watcher.next().await.unwrap();
        assert_eq!((second.value, second.metadata.version), (Value { n: 2 }, 2));
        let (data, metadata) = ("/v1/secret/data/app/db", "/v1/secret/metadata/app/db");
        assert_eq!(paths(&fake), [data, metadata, metadata, metadata, data]);
    }

    #[tokio::test]
    async fn without_metadata_the_secret_itself_is_asked_for() {
        let (fake, mut watcher) = watched(vec![
            version(1, r#"{"n":1}"#),
            DENIED,
            version(1, r#"{"n":1}"#),
            version(3, r#"{"n":3}"#),
        ])
        .await;
        watcher.next().await.unwrap();
        assert_eq!(watcher.next().await.unwrap().value, Value { n: 3 });
        assert_eq!(fake.requests().len(), 4);
    }

    #[tokio::test]
    async fn absence_and_another_shape_are_told_once_each() {
        let (_fake, mut watcher) = watched(vec![
            NONE,
            NONE,
            NONE,
            metadata(1, ""),
            version(1, r#"{"n":"hunter2"}"#),
            metadata(1, ""),
            metadata(1, "2026-01-02T00:00:00Z"),
            version(1, "null"),
            metadata(1, "2026-01-02T00:00:00Z"),
            metadata(2, ""),
            version(2, r#"{"n":2}"#),
        ])
        .await;
        assert!(matches!(watcher.next().await, Err(Error::NotFound)));
        let misfit = watcher.next().await.unwrap_err();
        assert_eq!(
            misfit.to_string(),
            r#"secret/data/app/db does not fit: the value of "n" is not of the type that is wanted"#
        );
        assert!(matches!(watcher.next().await, Err(Error::NotFound)));
        assert_eq!(watcher.next().await.unwrap().value, Value { n: 2 });
    }

    #[tokio::test]
    async fn a_token_that_is_gone_is_told_and_not_asked_with_without_end() {
        let refused = Scripted::Answer(403, "", r#"{"errors":["permission denied"]}"#);
        let (fake, mut watcher) = watched(vec![version(1, r#"{"n":1}"#), refused, refused]).await;
        watcher.next().await.unwrap();
        let began = std::time::Instant::now();
        for _ in 0..2 {
            assert!(matches!(watcher.next().await, Err(Error::InvalidToken)));
        }
        assert!(began.elapsed() >= SHORTEST);
        assert_eq!(fake.requests().len(), 3);
    }
}
