//! Waiting for a vault that starts or is sealed.

use std::time::Duration;

use tokio::time::{self, Instant};

use super::{Backoff, Client, Error, Health, error::Unready};

impl Client {
    /// Waits until the vault serves: a service that starts with it calls this first. It asks for
    /// the server's health, without need of a token, at once and then every two seconds at most.
    ///
    /// # Errors
    /// [`Error::NotReady`] when it does not serve after `patience`. What waiting does not mend is
    /// told at once: [`Error::Untrusted`], [`Error::OtherStore`].
    pub async fn wait_until_ready(&self, patience: Duration) -> Result<Health, Error> {
        let give_up = Instant::now() + patience;
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut why = Unready::NoAnswer;
        loop {
            match time::timeout_at(give_up, self.sys().health()).await {
                Ok(Ok(health)) if !health.initialized => why = Unready::Uninitialised,
                Ok(Ok(health)) if health.sealed => why = Unready::Sealed,
                Ok(Ok(health)) => return Ok(health),
                Ok(Err(error)) if error.is_passing() => why = Unready::of(&error),
                Ok(Err(error)) => return Err(error),
                // It keeps what was told by the answer before.
                Err(_) => {}
            }
            let next = Instant::now() + backoff.pause();
            if next >= give_up {
                let address = self.address().to_owned();
                return Err(Error::NotReady { address, waited: patience, why });
            }
            time::sleep_until(next).await;
        }
    }
}

impl Unready {
    fn of(error: &Error) -> Self {
        match *error {
            Error::Other { status, .. } => Self::Failing(status),
            Error::Sealed => Self::Sealed,
            Error::Denied { .. }
            | Error::InvalidToken
            | Error::NotFound
            | Error::Unreachable { .. }
            | Error::Untrusted { .. }
            | Error::OtherStore { .. }
            | Error::CasConflict
            | Error::NotReady { .. }
            | Error::Misfit { .. }
            | Error::BadPath(_)
            | Error::Unexpected(_) => Self::NoAnswer,
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::{Fake, Scripted};

    const EMPTY: Scripted = health(
        r#"{"initialized":false,"sealed":true,"standby":false,"server_time_utc":1,"version":"2"}"#,
    );
    const SEALED: Scripted = health(
        r#"{"initialized":true,"sealed":true,"standby":false,"server_time_utc":1,"version":"2"}"#,
    );
    const OPEN: Scripted = health(
        r#"{"initialized":true,"sealed":false,"standby":false,"server_time_utc":1,"version":"2"}"#,
    );

    const fn health(body: &'static str) -> Scripted {
        Scripted::Answer(200, "", body)
    }

    #[tokio::test]
    async fn a_vault_is_waited_for_until_it_is_open() {
        let busy = Scripted::Answer(502, "", "upstream busy");
        let fake = Fake::start(vec![EMPTY, busy, Scripted::HangUp, SEALED, OPEN]).await;
        let health = fake.client().wait_until_ready(Duration::from_secs(60)).await.unwrap();
        assert!(!health.sealed);
        let requests = fake.requests();
        assert_eq!(requests.len(), 5);
        assert!(requests.iter().all(|request| request.starts_with("GET /v1/sys/health?")));
    }

    #[tokio::test]
    async fn a_vault_that_stays_sealed_is_told_after_the_time_given() {
        let fake = Fake::start(vec![SEALED; 10]).await;
        let error = fake.client().wait_until_ready(Duration::from_millis(300)).await.unwrap_err();
        let Error::NotReady { why, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*why, Unready::Sealed);
        assert!(error.to_string().ends_with("it is sealed; kista operator unseal opens it"));
        assert!(error.is_passing());
    }

    #[tokio::test]
    async fn a_server_that_is_not_trusted_is_not_waited_for() {
        let fake = Fake::start(vec![OPEN]).await;
        let other = Fake::start(vec![]).await;
        let client = fake.builder().ca_file(other.ca_file()).build().unwrap();
        let error = client.wait_until_ready(Duration::from_secs(3600)).await.unwrap_err();
        assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
    }
}
