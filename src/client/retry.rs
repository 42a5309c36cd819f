use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

/// What sending a call again may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that the first one did not.
    Read,
    /// Something twice, unless the first one cannot have run.
    Write,
}

/// How one attempt ended, as far as retrying goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The connection was never made, so the request was never sent.
    NotSent,
    /// The connection broke or went silent after the request may have been sent.
    Lost,
    /// An answer came.
    Answered {
        /// HTTP status.
        status: u16,
        /// Whether it is a 503 that says that nothing was done: the vault is sealed, or too much is
        /// being done already.
        nothing_ran: bool,
        /// Of the header `Retry-After`, when it has one in seconds.
        retry_after: Option<Duration>,
    },
}

/// How long to wait before sending again, or `None` when the outcome stands.
///
/// `attempt` counts from 0. Reads are repeated on connection errors, 503, 429 and 412; writes only
/// when nothing can have run.
pub(super) fn wait(
    effect: Effect,
    outcome: Outcome,
    attempt: u32,
    retries: u32,
) -> Option<Duration> {
    if attempt >= retries {
        return None;
    }
    match outcome {
        Outcome::NotSent => Some(backoff(attempt)),
        Outcome::Lost if effect == Effect::Read => Some(backoff(attempt)),
        Outcome::Lost => None,
        Outcome::Answered { status: 429, retry_after, .. } => match retry_after {
            Some(wait) if wait > LONGEST_RETRY_AFTER => None,
            Some(wait) => Some(wait + jitter(BASE)),
            None => Some(backoff(attempt)),
        },
        Outcome::Answered { status: 412, .. } => Some(backoff(attempt)),
        Outcome::Answered { status: 503, nothing_ran, .. } => {
            (effect == Effect::Read || nothing_ran).then(|| backoff(attempt))
        }
        Outcome::Answered { .. } => None,
    }
}

/// Pauses between attempts, each twice as long as the one before, up to the longest. Chance makes
/// each of them shorter by up to a half, so that programs which started together do not ask
/// together.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Begins with `first`, and does not grow beyond `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first.min(longest), longest }
    }

    /// How long to wait before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause / 2 + jitter(pause / 2)
    }
}

/// About as long as `interval`: up to a tenth more or less.
pub(super) fn about(interval: Duration) -> Duration {
    interval * 9 / 10 + jitter(interval / 5)
}

/// Twice as long each time, between one half and three halves of that.
fn backoff(attempt: u32) -> Duration {
    let middle = BASE * 2_u32.pow(attempt.min(6));
    middle / 2 + jitter(middle)
}

/// A random part of `most`. Many clients wake at once when a server returns; this spreads them.
fn jitter(most: Duration) -> Duration {
    // The seed of a hash map is random enough here; nothing secret hangs on it.
    let random = RandomState::new().build_hasher().finish();
    most.mul_f64(f64::from((random >> 32) as u32) / f64::from(u32::MAX))
}

/// The middle of the first wait.
const BASE: Duration = Duration::from_millis(200);

/// A server that asks for more is not waited for: the caller decides.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, nothing_ran: bool) -> Outcome {
        Outcome::Answered { status, nothing_ran, retry_after: None }
    }

    fn repeats(effect: Effect, outcome: Outcome) -> bool {
        wait(effect, outcome, 0, 2).is_some()
    }

    #[test]
    fn reads_are_repeated_on_lost_connections_and_busy_answers() {
        for outcome in [
            Outcome::NotSent,
            Outcome::Lost,
            answered(503, false),
            answered(503, true),
            answered(429, false),
            answered(412, false),
        ] {
            assert!(repeats(Effect::Read, outcome), "{outcome:?}");
        }
        for status in [200, 400, 403, 404, 500, 502] {
            assert!(!repeats(Effect::Read, answered(status, false)), "{status}");
        }
    }

    #[test]
    fn writes_are_repeated_only_when_nothing_can_have_run() {
        for outcome in
            [Outcome::NotSent, answered(503, true), answered(429, false), answered(412, false)]
        {
            assert!(repeats(Effect::Write, outcome), "{outcome:?}");
        }
        for outcome in [Outcome::Lost, answered(503, false), answered(500, false)] {
            assert!(!repeats(Effect::Write, outcome), "{outcome:?}");
        }
    }

    #[test]
    fn retry_after_is_kept_unless_it_is_too_long() {
        let after = |seconds| Outcome::Answered {
            status: 429,
            nothing_ran: false,
            retry_after: Some(Duration::from_secs(seconds)),
        };
        assert!(wait(Effect::Write, after(3), 0, 2).unwrap() >= Duration::from_secs(3));
        assert_eq!(wait(Effect::Write, after(31), 0, 2), None);
    }

    #[test]
    fn the_last_attempt_stands() {
        assert_eq!(wait(Effect::Read, Outcome::NotSent, 2, 2), None);
        assert_eq!(wait(Effect::Read, Outcome::NotSent, 0, 0), None);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_vary_by_a_half() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(3));
        for whole in [1, 2, 3, 3].map(seconds) {
            let pause = backoff.pause();
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
        }
        let about = about(seconds(10));
        assert!(about >= seconds(9) && about <= seconds(11), "{about:?}");
    }

    #[test]
    fn waits_grow_and_vary_within_bounds() {
        for attempt in 0..4 {
            let middle = BASE * 2_u32.pow(attempt);
            for _ in 0..20 {
                let wait = backoff(attempt);
                assert!(wait >= middle / 2 && wait <= middle * 3 / 2, "{wait:?}");
            }
        }
    }
}
