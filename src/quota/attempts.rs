use std::{net::IpAddr, time::Duration};

use super::{Buckets, Rate, Source};
use crate::clock::Timestamp;

/// How often shares and passphrases may be shown to a vault by whoever has no token.
///
/// Neither can be guessed at the rate of a network, but each one is work, and a passphrase takes
/// seconds and memory. The rates lie in the code: what is set in the store cannot be read before it
/// is open. Whoever sits at the machine is counted alone, so that no crowd elsewhere keeps an
/// operator with a shell out.
#[derive(Debug)]
pub struct Attempts {
    buckets: Buckets,
    of_one: Rate,
    of_all: Rate,
}

impl Attempts {
    /// Nobody has tried yet.
    #[expect(clippy::expect_used, reason = "the rates are constants")]
    pub fn new() -> Self {
        let rate = |rate, interval| {
            Rate::new(rate, interval, Duration::ZERO).expect("a constant rate above zero")
        };
        Self {
            buckets: Buckets::new(SOURCES),
            of_one: rate(OF_ONE.0, OF_ONE.1),
            of_all: rate(OF_ALL.0, OF_ALL.1),
        }
    }

    /// Counts one.
    ///
    /// # Errors
    /// Seconds to wait, when there were too many.
    pub fn count(&self, from: IpAddr, now: Timestamp) -> Result<(), u64> {
        let taken = self.buckets.take(ONE, Source::of(from), &self.of_one, now);
        taken.map_err(|refused| refused.retry_after)?;
        if from.to_canonical().is_loopback() {
            return Ok(());
        }
        let taken = self.buckets.take(ALL, Source::Everyone, &self.of_all, now);
        taken.map(|_| ()).map_err(|refused| refused.retry_after)
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new()
    }
}

/// Numbers of the two rates.
const ONE: u64 = 1;
const ALL: u64 = 2;

/// From one source: the shares of any store that people open, several times over, and then one each
/// second, half of the passphrases that can be stretched.
const OF_ONE: (f64, Duration) = (60.0, Duration::from_secs(60));
/// From all but the machine itself: as fast as passphrases can be stretched.
const OF_ALL: (f64, Duration) = (240.0, Duration::from_secs(120));
/// Sources that are told apart: half a megabyte.
const SOURCES: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    fn passed(attempts: &Attempts, from: &str, tries: usize) -> usize {
        let from = from.parse().unwrap();
        (0..tries).filter(|_| attempts.count(from, NOW).is_ok()).count()
    }

    #[test]
    fn an_operator_passes_and_a_flood_does_not() {
        let attempts = Attempts::new();
        assert_eq!(passed(&attempts, "192.0.2.1", 5), 5);
        assert_eq!(passed(&attempts, "192.0.2.66", 10_000), 60);
        let wait = attempts.count("192.0.2.66".parse().unwrap(), NOW).unwrap_err();
        assert_eq!(wait, 1);
        assert_eq!(passed(&attempts, "192.0.2.1", 5), 5);
    }

    #[test]
    fn many_sources_are_counted_together_and_the_machine_itself_alone() {
        let attempts = Attempts::new();
        let from_all: usize =
            (0..200).map(|host| passed(&attempts, &format!("2001:db8:0:{host:x}::1"), 10)).sum();
        assert_eq!(from_all, 240);
        assert_eq!(passed(&attempts, "192.0.2.1", 5), 0);
        for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(passed(&attempts, local, 5), 5, "{local}");
        }
    }
}
