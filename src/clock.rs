//! Time: timestamps, durations and the clock.
//!
//! Nothing in the library asks the system for the time but [`SystemClock`], so that a test turns
//! the clock by hand. Durations on the wire are Vault's, which are Go's.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A moment in nanoseconds since 1970-01-01T00:00:00Z, up to the year 2554. Serialized as that
/// number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The moment `millis` milliseconds after the epoch; the last representable one beyond the
    /// range.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(NANOS_PER_MILLI))
    }

    /// Reads an RFC 3339 time with any offset; `None` for another form and for moments out of
    /// range.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        u64::try_from(moment.unix_timestamp_nanos()).ok().map(Self)
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch.
    pub const fn millis(self) -> u64 {
        self.0 / NANOS_PER_MILLI
    }

    /// Whole seconds since the epoch.
    pub const fn seconds(self) -> u64 {
        self.0 / NANOS_PER_SECOND
    }

    /// The moment `duration` later; the last representable one beyond the range.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// The time that has passed since `earlier`; zero when that lies in the future.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339 in UTC, the fraction without trailing zeros, as Go's `RFC3339Nano` has it.
    pub fn rfc3339(self) -> String {
        let moment = OffsetDateTime::UNIX_EPOCH + Duration::from_nanos(self.0);
        let mut text = Vec::with_capacity(RFC3339_BYTES);
        // The year has four digits, and memory takes all that is written: it cannot fail.
        moment.format_into(&mut text, &Rfc3339).ok();
        String::from_utf8(text).unwrap_or_default()
    }
}

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// The present moment; the epoch itself if the system's clock stands before it.
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Timestamp::default().plus(since_epoch.unwrap_or_default())
    }
}

/// A clock that stands still until it is turned by hand.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `start`.
    pub const fn new(start: Timestamp) -> Self {
        Self(AtomicU64::new(start.0))
    }

    /// Turns the clock forward.
    pub fn advance(&self, duration: Duration) {
        let later = self.now().plus(duration);
        self.0.store(later.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A text that is no duration. It prints in Go's words, which Vault's clients know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// Not a number with units, or more than 292 years.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number is followed by something that is no unit.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// What stands in the unit's place.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// A fraction without a unit; only whole seconds may stand alone.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// Less than zero.
    #[error("cannot provide negative value '{0}'")]
    Negative(String),
}

/// Reads a duration in Vault's forms: whole seconds (`3600`), whole days (`2d`), or Go's
/// (`1h30m`, `1.5h`, `500ms`). An empty text is zero, as in Vault.
///
/// # Errors
/// [`DurationError`] for anything else, for negative durations and for those over 2^63-1
/// nanoseconds.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err(DurationError::Negative(shown(text)));
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let (whole, nanos_each) = match unsigned.strip_suffix('d') {
        Some(days) => (days, NANOS_PER_DAY),
        None => (unsigned, NANOS_PER_SECOND),
    };
    let nanos = if !whole.is_empty() && whole.bytes().all(|byte| byte.is_ascii_digit()) {
        whole.parse::<u64>().ok().and_then(|count| count.checked_mul(nanos_each))
    } else {
        parse_go(unsigned, text)?
    };
    match nanos {
        Some(nanos) if nanos <= MAX_NANOS => Ok(Duration::from_nanos(nanos)),
        Some(_) | None => Err(DurationError::Invalid(shown(text))),
    }
}

/// Writes a duration as Go does: `0s`, `1.5s`, `3h25m19s`.
pub fn format_duration(duration: Duration) -> String {
    let nanos = u64::from(duration.subsec_nanos());
    let seconds = duration.as_secs();
    if seconds == 0 {
        let (unit_nanos, digits, unit) = match nanos {
            0 => return "0s".to_owned(),
            1..1_000 => (1, 0, "ns"),
            1_000..NANOS_PER_MILLI => (1_000, 3, "µs"),
            _ => (NANOS_PER_MILLI, 6, "ms"),
        };
        let mut text = (nanos / unit_nanos).to_string();
        push_fraction(&mut text, nanos % unit_nanos, digits);
        text.push_str(unit);
        return text;
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut text = match (hours, minutes) {
        (0, 0) => String::new(),
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    };
    text.push_str(&(seconds % 60).to_string());
    push_fraction(&mut text, nanos, 9);
    text.push('s');
    text
}

/// Reads Go's form: numbers with units, one after another. `None` when the sum is too large.
fn parse_go(unsigned: &str, whole_text: &str) -> Result<Option<u64>, DurationError> {
    let invalid = || DurationError::Invalid(shown(whole_text));
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut total = Some(0u64);
    let mut rest = unsigned;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after_point) => split_digits(after_point),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let nanos_each = match unit {
            "" => return Err(DurationError::MissingUnit(shown(whole_text))),
            "ns" => 1,
            // The micro sign and the Greek letter: Go takes both.
            "us" | "µs" | "μs" => 1_000,
            "ms" => NANOS_PER_MILLI,
            "s" => NANOS_PER_SECOND,
            "m" => 60 * NANOS_PER_SECOND,
            "h" => 3600 * NANOS_PER_SECOND,
            _ => {
                return Err(DurationError::UnknownUnit {
                    unit: shown(unit),
                    text: shown(whole_text),
                });
            }
        };
        let count = if whole.is_empty() { Some(0) } else { whole.parse::<u64>().ok() };
        total = total
            .zip(count.and_then(|count| count.checked_mul(nanos_each)))
            .and_then(|(sum, nanos)| sum.checked_add(nanos))
            .and_then(|sum| sum.checked_add(fraction_nanos(fraction, nanos_each)));
        rest = next;
    }
    Ok(total)
}

/// The nanoseconds of a decimal fraction of a unit, rounded down.
fn fraction_nanos(digits: &str, nanos_each: u64) -> u64 {
    let (mut scaled, mut scale) = (0u64, 1u64);
    // An hour has 13 digits of nanoseconds; later digits of the fraction change nothing.
    for digit in digits.bytes().take(13) {
        scaled = scaled * 10 + u64::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(u128::from(scaled) * u128::from(nanos_each) / u128::from(scale))
        .unwrap_or(nanos_each)
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Appends `.` and the `digits`-digit fraction without trailing zeros; nothing when it is zero.
fn push_fraction(text: &mut String, fraction: u64, digits: usize) {
    if fraction != 0 {
        text.push('.');
        text.push_str(format!("{fraction:0digits$}").trim_end_matches('0'));
    }
}

/// The text as an error shows it: not more than its beginning.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

/// The longest moment in text, with nine digits of a second.
const RFC3339_BYTES: usize = 30;
const NANOS_PER_MILLI: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_DAY: u64 = 24 * 3600 * NANOS_PER_SECOND;
/// Go's durations are signed 64-bit nanoseconds.
const MAX_NANOS: u64 = i64::MAX as u64;
const MAX_SHOWN_CHARS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Duration {
        parse_duration(text).unwrap()
    }

    fn refused(text: &str) -> String {
        parse_duration(text).unwrap_err().to_string()
    }

    #[test]
    fn durations_are_read_in_all_of_vaults_forms() {
        assert_eq!(parsed(""), Duration::ZERO);
        assert_eq!(parsed("0"), Duration::ZERO);
        assert_eq!(parsed("3600"), Duration::from_secs(3600));
        assert_eq!(parsed("+90"), Duration::from_secs(90));
        assert_eq!(parsed("30m"), Duration::from_secs(1800));
        assert_eq!(parsed("1h30m"), Duration::from_secs(5400));
        assert_eq!(parsed("1.5h"), Duration::from_secs(5400));
        assert_eq!(parsed(".5s"), Duration::from_millis(500));
        assert_eq!(parsed("5.s"), Duration::from_secs(5));
        assert_eq!(parsed("2d"), Duration::from_secs(172_800));
        assert_eq!(parsed("500ms"), Duration::from_millis(500));
        assert_eq!(parsed("3us"), Duration::from_micros(3));
        assert_eq!(parsed("3µs"), parsed("3μs"));
        assert_eq!(parsed("1.000000001s"), Duration::new(1, 1));
        assert_eq!(parsed("0.33333333333333333333h"), Duration::from_nanos(1_199_999_999_999));
        assert_eq!(parsed("9223372036854775807ns"), Duration::from_nanos(MAX_NANOS));
    }

    #[test]
    fn what_is_no_duration_is_refused_in_gos_words() {
        assert_eq!(refused(" 90s "), r#"time: invalid duration " 90s ""#);
        assert_eq!(refused("x"), r#"time: invalid duration "x""#);
        assert_eq!(refused("."), r#"time: invalid duration ".""#);
        assert_eq!(refused("+"), r#"time: invalid duration "+""#);
        assert_eq!(refused("d"), r#"time: invalid duration "d""#);
        assert_eq!(refused("1d1h"), r#"time: unknown unit "d" in duration "1d1h""#);
        assert_eq!(refused("1.5d"), r#"time: unknown unit "d" in duration "1.5d""#);
        assert_eq!(refused("1H"), r#"time: unknown unit "H" in duration "1H""#);
        assert_eq!(refused("1h 30m"), r#"time: unknown unit "h " in duration "1h 30m""#);
        assert_eq!(refused("1.5"), r#"time: missing unit in duration "1.5""#);
        assert_eq!(refused("-5"), "cannot provide negative value '-5'");
    }

    #[test]
    fn durations_beyond_gos_range_are_refused() {
        for text in ["99999999999h", "9223372036854775808ns", "99999999999999999999", "106752d"] {
            assert_eq!(parse_duration(text), Err(DurationError::Invalid(text.to_owned())));
        }
    }

    #[test]
    fn an_error_shows_no_more_than_the_beginning() {
        assert!(refused(&"9".repeat(10_000)).len() < 120);
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let cases = [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(7), "7ns"),
            (Duration::from_nanos(1_500), "1.5µs"),
            (Duration::from_millis(20), "20ms"),
            (Duration::from_micros(20_500), "20.5ms"),
            (Duration::from_millis(1_500), "1.5s"),
            (Duration::from_secs(60), "1m0s"),
            (Duration::from_secs(3600), "1h0m0s"),
            (Duration::from_secs(12_319), "3h25m19s"),
            (Duration::from_secs(768 * 3600), "768h0m0s"),
        ];
        for (duration, text) in cases {
            assert_eq!(format_duration(duration), text);
            assert_eq!(parsed(text), duration);
        }
    }

    #[test]
    fn timestamps_print_as_rfc3339nano() {
        assert_eq!(Timestamp::default().rfc3339(), "1970-01-01T00:00:00Z");
        let moment = Timestamp::from_nanos(1_700_000_000_120_000_000);
        assert_eq!(moment.rfc3339(), "2023-11-14T22:13:20.12Z");
        assert_eq!(Timestamp::from_rfc3339("2023-11-14T23:13:20.12+01:00"), Some(moment));
        assert_eq!(Timestamp::from_nanos(u64::MAX).rfc3339(), "2554-07-21T23:34:33.709551615Z");
        assert_eq!(Timestamp::from_rfc3339("1969-12-31T23:59:59Z"), None);
        assert_eq!(Timestamp::from_rfc3339("2023-11-14"), None);
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let end = Timestamp::from_millis(u64::MAX);
        assert_eq!(end.plus(Duration::from_secs(1)), end);
        assert_eq!(Timestamp::default().since(end), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(1_234).seconds(), 1);
        assert_eq!(Timestamp::from_millis(1_234).millis(), 1_234);
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = ManualClock::new(Timestamp::from_millis(5));
        assert_eq!(clock.now(), Timestamp::from_millis(5));
        clock.advance(Duration::from_millis(2));
        assert_eq!(clock.now(), Timestamp::from_millis(7));
        assert!(SystemClock.now() > clock.now());
    }
}
