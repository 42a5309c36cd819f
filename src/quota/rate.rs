use std::time::Duration;

use crate::clock::Timestamp;

/// So many requests in such a time.
///
/// A bucket of it is one number, the moment at which it is full again (the "generic cell rate
/// algorithm"): each request moves it on by a step, and one that would move it further than the
/// span from now is refused. There is nothing to be refilled, and a fresh bucket is a full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds until one more may come.
    step: u64,
    /// Nanoseconds until an empty bucket is full.
    span: u64,
    /// Nanoseconds for which nothing passes after a refusal.
    block: u64,
    /// Requests that a full bucket holds.
    limit: u64,
}

/// Not a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number greater than zero, of requests in an interval of a second or more")]
pub struct BadRate;

/// What is left to a source, in whole numbers for the headers of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Requests that a full bucket holds.
    pub limit: u64,
    /// Requests that may come at once.
    pub remaining: u64,
    /// Seconds until the bucket is full.
    pub reset: u64,
}

/// A request is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// What is left.
    pub standing: Standing,
    /// Seconds until it may come again, one at least.
    pub retry_after: u64,
}

/// One source's bucket under one rate.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Bucket {
    /// When it is full again.
    pub(super) full_at: Timestamp,
    /// When something passes again.
    pub(super) blocked_until: Timestamp,
}

impl Rate {
    /// `rate` requests in each `interval`, all of them at once if need be; a source that was
    /// refused waits for `block`, if that is longer.
    ///
    /// # Errors
    /// [`BadRate`] for a rate that is not above zero or not finite, and for no interval.
    pub fn new(rate: f64, interval: Duration, block: Duration) -> Result<Self, BadRate> {
        let interval = nanos(interval);
        if !rate.is_finite() || rate <= 0.0 || interval == 0 {
            return Err(BadRate);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "both are positive, a cast saturates, and the 53rd bit of a rate is no matter"
        )]
        let (step, limit) = ((interval as f64 / rate) as u64, rate as u64);
        // Less than one in an interval is one in a longer time.
        let step = step.max(1);
        Ok(Self { step, span: interval.max(step), block: nanos(block), limit: limit.max(1) })
    }

    /// Takes one out of a bucket.
    pub(super) fn take(&self, bucket: &mut Bucket, now: Timestamp) -> Result<Standing, Refused> {
        // A clock that was set back must not leave anyone waiting for longer than an empty bucket
        // or a block would.
        let latest = now.plus(Duration::from_nanos(self.span));
        let full_at = bucket.full_at.clamp(now, latest);
        let blocked_until = bucket.blocked_until.min(now.plus(Duration::from_nanos(self.block)));
        if blocked_until > now {
            *bucket = Bucket { full_at, blocked_until };
            return Err(self.refused(full_at, blocked_until, now));
        }
        let next = full_at.plus(Duration::from_nanos(self.step));
        if next <= latest {
            *bucket = Bucket { full_at: next, blocked_until };
            return Ok(self.standing(next, now));
        }
        let blocked_until = now.plus(Duration::from_nanos(self.block));
        *bucket = Bucket { full_at, blocked_until };
        let free_at = now.plus(next.since(latest));
        Err(self.refused(full_at, blocked_until.max(free_at), now))
    }

    fn refused(&self, full_at: Timestamp, free_at: Timestamp, now: Timestamp) -> Refused {
        let standing = Standing { remaining: 0, ..self.standing(full_at, now) };
        Refused { standing, retry_after: seconds_up(free_at.since(now)).max(1) }
    }

    fn standing(&self, full_at: Timestamp, now: Timestamp) -> Standing {
        let until_full = full_at.since(now);
        let left = self.span.saturating_sub(nanos(until_full));
        let remaining = (left.checked_div(self.step).unwrap_or_default()).min(self.limit);
        Standing { limit: self.limit, remaining, reset: seconds_up(until_full) }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whole seconds, rounded up.
fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    /// A bucket and a clock.
    struct Site {
        rate: Rate,
        bucket: Bucket,
        now: Timestamp,
    }

    impl Site {
        fn new(rate: f64, interval: u64, block: u64) -> Self {
            let rate =
                Rate::new(rate, Duration::from_secs(interval), Duration::from_secs(block)).unwrap();
            Self { rate, bucket: Bucket::default(), now: START }
        }

        fn take(&mut self) -> Result<Standing, Refused> {
            self.rate.take(&mut self.bucket, self.now)
        }

        fn taken(&mut self, tries: usize) -> usize {
            (0..tries).take_while(|_| self.take().is_ok()).count()
        }

        fn wait(&mut self, millis: u64) {
            self.now = self.now.plus(Duration::from_millis(millis));
        }
    }

    #[test]
    fn a_full_bucket_holds_the_rate_and_fills_evenly() {
        let mut site = Site::new(10.0, 60, 0);
        assert_eq!(site.taken(50), 10);
        site.wait(5_999);
        assert_eq!(site.taken(50), 0);
        site.wait(1);
        assert_eq!(site.taken(50), 1);
        site.wait(30_000);
        assert_eq!(site.taken(50), 5);
        site.wait(3_600_000);
        assert_eq!(site.taken(50), 10, "it never holds more than the rate");
    }

    #[test]
    fn over_a_long_time_no_more_than_the_rate_passes() {
        for (rate, interval) in [(7.0, 1), (2.5, 60), (0.25, 1), (1_000.0, 1), (3.0, 7)] {
            let mut site = Site::new(rate, interval, 0);
            site.taken(10_000);
            let passed: usize = (0..70_000)
                .map(|_| {
                    site.wait(100);
                    site.taken(200)
                })
                .sum();
            let expected = rate * 7_000.0 / interval as f64;
            assert!((passed as f64 - expected).abs() <= 1.0, "{passed} of {expected}");
        }
    }

    #[test]
    fn what_is_left_is_told_in_whole_numbers() {
        let mut site = Site::new(2.5, 60, 0);
        assert_eq!(site.take(), Ok(Standing { limit: 2, remaining: 1, reset: 24 }));
        assert_eq!(site.take(), Ok(Standing { limit: 2, remaining: 0, reset: 48 }));
        let refused = site.take().unwrap_err();
        assert_eq!(refused.standing, Standing { limit: 2, remaining: 0, reset: 48 });
        assert_eq!(refused.retry_after, 12);
        site.wait(12_000);
        assert_eq!(site.take().unwrap().remaining, 0);
    }

    #[test]
    fn whoever_comes_when_told_to_is_served() {
        for (rate, interval, block) in [(1.0, 1, 0), (3.0, 1, 0), (0.3, 7, 0), (5.0, 1, 90)] {
            let mut site = Site::new(rate, interval, block);
            site.taken(20);
            let after = site.take().unwrap_err().retry_after;
            site.wait(after * 1_000);
            assert!(site.take().is_ok(), "{rate} in {interval} s, blocked for {block} s");
        }
    }

    #[test]
    fn a_block_begins_with_the_refusal_and_is_not_made_longer_by_asking() {
        let mut site = Site::new(2.0, 1, 30);
        assert_eq!(site.taken(2), 2);
        assert_eq!(site.take().unwrap_err().retry_after, 30);
        site.wait(10_000);
        assert_eq!(site.take().unwrap_err().retry_after, 20);
        site.wait(19_999);
        assert_eq!(site.take().unwrap_err().retry_after, 1);
        site.wait(1);
        assert_eq!(site.taken(5), 2);
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nobody_out_for_long() {
        let mut site = Site::new(2.0, 10, 20);
        assert_eq!(site.taken(3), 2);
        site.now = Timestamp::from_millis(START.millis() - 86_400_000);
        assert_eq!(site.take().unwrap_err().retry_after, 20);
        site.wait(20_000);
        assert!(site.take().is_ok());
    }

    #[test]
    fn extreme_rates_neither_divide_by_zero_nor_overflow() {
        for rate in [f64::MIN_POSITIVE, 1e-300, 1e300, f64::MAX] {
            for interval in [1, u64::MAX] {
                let mut site = Site::new(rate, interval, u64::MAX);
                assert!(site.take().is_ok(), "{rate} in {interval} s");
            }
        }
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Rate::new(rate, Duration::from_secs(1), Duration::ZERO), Err(BadRate));
        }
        assert_eq!(Rate::new(1.0, Duration::ZERO, Duration::ZERO), Err(BadRate));
    }
}
