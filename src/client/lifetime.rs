//! Keeping a token alive in the background.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{self, Instant},
};

use super::{Backoff, Error, OwnToken, Renewed, retry};

/// Renews a client's token in the background until it is dropped; made by
/// [`OwnToken::keep_alive`].
#[derive(Debug)]
pub struct LifetimeWatcher {
    lifetime: watch::Receiver<Lifetime>,
    /// None where there is nothing to renew.
    task: Option<AbortHandle>,
}

/// What is known of a token's life.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lifetime {
    /// It does not expire, so it is not renewed.
    Unbounded,
    /// It lives, and is renewed in time.
    Renewed {
        /// When it ends if nothing else happens.
        until: Instant,
    },
    /// The last renewal failed for a reason that may pass: it is tried again, until the token ends.
    Delayed {
        /// When it ends if nothing else happens.
        until: Instant,
        /// Why it failed, such as that the vault is sealed.
        reason: String,
    },
    /// It is not renewed any more: another token is needed, or a new login.
    Ended {
        /// When the token itself ends; past when it has.
        until: Instant,
        /// Why.
        why: LifetimeEnd,
    },
}

/// Why a token is not renewed any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LifetimeEnd {
    /// It was made so.
    #[error("the token is not renewable, and ends by itself")]
    NotRenewable,
    /// It is about as old as it may get, by its own maximum or the server's.
    #[error("the token is as old as its maximum allows")]
    MaxReached,
    /// The server does not know it any more.
    #[error("the token was revoked, or has expired")]
    Revoked,
    /// Its policies do not allow it.
    #[error("no policy of the token grants \"update\" on auth/token/renew-self")]
    Denied,
    /// No renewal went through before it ended.
    #[error("the token has expired, since it could not be renewed in time")]
    Expired,
    /// Another refusal.
    #[error("the server does not renew the token: {0}")]
    Refused(String),
    /// The renewing itself was stopped: its [`LifetimeWatcher`] is gone, or the runtime is.
    #[error("the renewing of the token was stopped")]
    Stopped,
}

impl Lifetime {
    /// How long the token lives on, as far as is known; `None` when it does not expire.
    pub fn left(&self) -> Option<Duration> {
        match self {
            Self::Unbounded => None,
            Self::Renewed { until } | Self::Delayed { until, .. } | Self::Ended { until, .. } => {
                Some(until.saturating_duration_since(Instant::now()))
            }
        }
    }
}

impl OwnToken<'_> {
    /// Looks the token up, then renews it in the background: at about two thirds of its life each
    /// time, a little more or less by chance, and after a failure that may pass again and again
    /// until it ends. A token that does not expire is left alone. One with a limited number of uses
    /// loses a use each time.
    ///
    /// Dropping the watcher stops it. It runs on the tokio runtime that this is called on.
    ///
    /// # Errors
    /// [`Error::InvalidToken`] when the server knows none such, and what any call may answer; later
    /// failures are told by the watcher.
    pub async fn keep_alive(&self) -> Result<LifetimeWatcher, Error> {
        let asked = Instant::now();
        let info = self.look_up().await?;
        if info.expire_time.is_none() {
            return Ok(LifetimeWatcher::idle(Lifetime::Unbounded));
        }
        let ttl = Duration::from_secs(info.ttl);
        if !info.renewable {
            let ended = Lifetime::Ended { until: asked + ttl, why: LifetimeEnd::NotRenewable };
            return Ok(LifetimeWatcher::idle(ended));
        }
        let (tell, lifetime) = watch::channel(Lifetime::Renewed { until: asked + ttl });
        let client = self.client.clone();
        let renew = move || {
            let client = client.clone();
            async move { client.own_token().renew(None).await }
        };
        let task = tokio::spawn(tend(asked, ttl, renew, tell)).abort_handle();
        Ok(LifetimeWatcher { lifetime, task: Some(task) })
    }
}

impl LifetimeWatcher {
    fn idle(lifetime: Lifetime) -> Self {
        Self { lifetime: watch::channel(lifetime).1, task: None }
    }

    /// What is known of the token's life now.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime.borrow().clone()
    }

    /// A channel that tells of each change; the last one that was not seen, when there were
    /// several. It closes after [`Lifetime::Ended`], and when the watcher is dropped.
    pub fn subscribe(&self) -> watch::Receiver<Lifetime> {
        self.lifetime.clone()
    }

    /// Waits until the token is not renewed any more; for ever where it does not expire. It may
    /// still live for a while: [`lifetime`](Self::lifetime) says how long. Cancel-safe.
    pub async fn ended(&self) -> LifetimeEnd {
        let mut lifetime = self.lifetime.clone();
        loop {
            match &*lifetime.borrow_and_update() {
                Lifetime::Ended { why, .. } => return why.clone(),
                Lifetime::Unbounded => break,
                Lifetime::Renewed { .. } | Lifetime::Delayed { .. } => {}
            }
            if lifetime.changed().await.is_err() {
                return LifetimeEnd::Stopped;
            }
        }
        std::future::pending().await
    }
}

impl Drop for LifetimeWatcher {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Renews a token that had `ttl` at `since`, and tells, until there is no use in going on.
async fn tend<Renewing: Future<Output = Result<Renewed, Error>>>(
    mut since: Instant,
    mut ttl: Duration,
    mut renew: impl FnMut() -> Renewing,
    tell: watch::Sender<Lifetime>,
) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut next = since + retry::about(ttl * 2 / 3);
    loop {
        let until = since + ttl;
        let end = |why| Lifetime::Ended { until, why };
        time::sleep_until(next).await;
        let asked = Instant::now();
        if asked >= until {
            tell.send_replace(end(LifetimeEnd::Expired));
            return;
        }
        let told = match time::timeout_at(until, renew()).await {
            Ok(Ok(renewed)) => {
                let left = until.saturating_duration_since(asked);
                (since, ttl) = (asked, Duration::from_secs(renewed.ttl));
                let until = since + ttl;
                backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
                next = since + retry::about(ttl * 2 / 3);
                match (renewed.renewable, has_grown(left, ttl)) {
                    (false, _) => Lifetime::Ended { until, why: LifetimeEnd::NotRenewable },
                    (true, false) => Lifetime::Ended { until, why: LifetimeEnd::MaxReached },
                    (true, true) => Lifetime::Renewed { until },
                }
            }
            Ok(Err(error)) => match LifetimeEnd::of(&error) {
                Some(why) => end(why),
                None => {
                    next = (Instant::now() + backoff.pause()).min(until);
                    Lifetime::Delayed { until, reason: error.to_string() }
                }
            },
            Err(_) => end(LifetimeEnd::Expired),
        };
        let is_over = matches!(told, Lifetime::Ended { .. });
        tell.send_replace(told);
        if is_over {
            return;
        }
    }
}

/// Whether a renewal has brought anything: once a maximum is near, it gives what there was. Servers
/// count whole seconds, so one more or less says nothing.
fn has_grown(left: Duration, granted: Duration) -> bool {
    granted > left + (granted / 4).min(Duration::from_secs(1))
}

impl LifetimeEnd {
    /// What a failed renewal says for good, if it does. The texts are Vault's.
    fn of(error: &Error) -> Option<Self> {
        match error {
            Error::InvalidToken => Some(Self::Revoked),
            Error::Denied { .. } => Some(Self::Denied),
            Error::Other { messages, .. } if !error.is_passing() => {
                let says = |text: &str| messages.iter().any(|message| message.contains(text));
                Some(if says("past the max TTL") {
                    Self::MaxReached
                } else if says("not renewable") {
                    Self::NotRenewable
                } else {
                    Self::Refused(error.to_string())
                })
            }
            // The server, or what stands before it, may be mended before the token ends.
            Error::Other { .. }
            | Error::NotFound
            | Error::Sealed
            | Error::Unreachable { .. }
            | Error::Untrusted { .. }
            | Error::OtherStore { .. }
            | Error::CasConflict
            | Error::NotReady { .. }
            | Error::Misfit { .. }
            | Error::BadPath(_)
            | Error::Unexpected(_) => None,
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::VecDeque,
        future::ready,
    };

    use super::*;
    use crate::client::{
        Capability,
        fake::{Fake, Scripted},
    };

    type Outcome = Result<Renewed, Error>;

    fn granted(ttl: u64) -> Outcome {
        Ok(Renewed { ttl, renewable: true })
    }

    fn refused(status: u16, message: &str) -> Outcome {
        Err(Error::Other { status, messages: vec![message.to_owned()] })
    }

    /// What is told last of a token of 90 s, and at which seconds it was renewed.
    async fn tended(script: Vec<Outcome>) -> (Lifetime, Vec<u64>) {
        let start = Instant::now();
        let script = RefCell::new(VecDeque::from(script));
        let asked = RefCell::new(Vec::new());
        let renew = || {
            asked.borrow_mut().push(start.elapsed().as_secs());
            ready(script.borrow_mut().pop_front().unwrap_or(Err(Error::InvalidToken)))
        };
        let (tell, told) = watch::channel(Lifetime::Unbounded);
        tend(start, Duration::from_secs(90), renew, tell).await;
        (told.borrow().clone(), asked.into_inner())
    }

    fn why(lifetime: Lifetime) -> LifetimeEnd {
        let Lifetime::Ended { why, .. } = lifetime else { panic!("{lifetime:?}") };
        why
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_renewed_at_about_two_thirds_of_each_life() {
        let (told, asked) = tended(vec![granted(90), granted(900)]).await;
        assert_eq!(why(told), LifetimeEnd::Revoked);
        let [first, second, third] = asked[..] else { panic!("{asked:?}") };
        assert!((54..=66).contains(&first), "{asked:?}");
        assert!((54..=66).contains(&(second - first)), "{asked:?}");
        assert!((540..=660).contains(&(third - second)), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_failure_is_tried_again_until_it_passes() {
        let failing = vec![Err(Error::Sealed), refused(502, "busy"), refused(429, ""), granted(90)];
        let (told, asked) = tended(failing).await;
        assert_eq!(why(told), LifetimeEnd::Revoked);
        assert_eq!(asked.len(), 5);
        assert!(asked[3] - asked[0] <= 4, "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_does_not_pass_ends_with_the_token() {
        let start = Instant::now();
        let (told, asked) = tended((0..1000).map(|_| Err(Error::Sealed)).collect()).await;
        assert_eq!(told.left(), Some(Duration::ZERO));
        assert_eq!(why(told), LifetimeEnd::Expired);
        assert_eq!(start.elapsed().as_secs(), 90);
        assert!((3..12).contains(&asked.len()), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_by_its_reason() {
        let denied = Err(Error::Denied { path: String::new(), needed: Capability::Update });
        for (refusal, expected) in [
            (refused(400, "past the max TTL, cannot renew"), LifetimeEnd::MaxReached),
            (refused(400, "lease is not renewable"), LifetimeEnd::NotRenewable),
            (Ok(Renewed { ttl: 9, renewable: false }), LifetimeEnd::NotRenewable),
            (Err(Error::InvalidToken), LifetimeEnd::Revoked),
            (denied, LifetimeEnd::Denied),
            (refused(400, "no"), LifetimeEnd::Refused("status 400: no".to_owned())),
        ] {
            let (told, asked) = tended(vec![refusal]).await;
            assert_eq!(why(told), expected);
            assert_eq!(asked.len(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_maximum_is_told_once_a_renewal_brings_nothing() {
        // A server gives a minute each time, and none beyond the maximum.
        let (start, maximum) = (Instant::now(), Duration::from_secs(150));
        let asked = Cell::new(0);
        let renew = || {
            asked.set(asked.get() + 1);
            let left = maximum.saturating_sub(start.elapsed()).as_secs();
            ready(granted(left.min(60)))
        };
        let (tell, told) = watch::channel(Lifetime::Unbounded);
        tend(start, Duration::from_secs(90), renew, tell).await;
        let told = told.borrow().clone();
        assert_eq!(asked.get(), 3, "the third one brings nothing");
        assert!(told.left().unwrap() > Duration::ZERO);
        assert_eq!(why(told), LifetimeEnd::MaxReached);
        let seconds = Duration::from_secs;
        assert!(has_grown(Duration::from_millis(333), seconds(1)));
        assert!(!has_grown(seconds(800), seconds(800)) && !has_grown(seconds(1), seconds(0)));
    }

    const LOOKED_UP: &str = r#"{"data":{"accessor":"a","display_name":"token","expire_time":"2026-01-01T00:00:00Z","policies":["default"],"ttl":3,"renewable":true}}"#;

    #[tokio::test]
    async fn what_is_sent_is_a_look_up_and_renewals_until_it_is_dropped() {
        const RENEWED: Scripted = Scripted::Answer(
            200,
            "",
            r#"{"data":null,"auth":{"client_token":"hvs.planted","lease_duration":3,"renewable":true}}"#,
        );
        let fake = Fake::start(vec![Scripted::Answer(200, "", LOOKED_UP), RENEWED]).await;
        let watcher = fake.client().own_token().keep_alive().await.unwrap();
        let mut lifetime = watcher.subscribe();
        lifetime.changed().await.unwrap();
        assert!(matches!(watcher.lifetime(), Lifetime::Renewed { .. }), "{watcher:?}");
        assert!(!format!("{watcher:?}").contains("planted"));
        drop(watcher);
        // The channel closes as the task goes.
        while lifetime.changed().await.is_ok() {}
        let requests = fake.requests();
        assert!(requests[0].starts_with("GET /v1/auth/token/lookup-self "), "{requests:?}");
        assert!(requests[1].starts_with("PUT /v1/auth/token/renew-self "), "{requests:?}");
        assert!(requests[1].ends_with("\r\n\r\n{}"), "{requests:?}");
        assert_eq!(requests.len(), 2, "{requests:?}");
    }

    #[tokio::test]
    async fn a_token_that_needs_no_renewal_or_takes_none_is_left_alone() {
        const ROOT: &str = r#"{"data":{"accessor":"a","display_name":"root","expire_time":null,"policies":["root"],"ttl":0,"renewable":null}}"#;
        let fixed = LOOKED_UP.replace("true", "false").leak();
        let script = vec![Scripted::Answer(200, "", ROOT), Scripted::Answer(200, "", fixed)];
        let fake = Fake::start(script).await;
        let root = fake.client().own_token().keep_alive().await.unwrap();
        assert_eq!((root.lifetime(), root.lifetime().left()), (Lifetime::Unbounded, None));
        let never = time::timeout(Duration::from_millis(10), root.ended()).await;
        assert!(never.is_err(), "{never:?}");
        let fixed = fake.client().own_token().keep_alive().await.unwrap();
        assert_eq!(fixed.ended().await, LifetimeEnd::NotRenewable);
        assert!(fixed.lifetime().left().unwrap() > Duration::ZERO);
        assert_eq!(fake.requests().len(), 2);
    }
}
