use std::{fmt, time::Duration};

use crate::{
    clock::{Timestamp, format_duration},
    config::DEFAULT_TTL,
};

/// What the mount of a token or lease allows, and gives when nothing is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlLimits {
    /// Given when nothing is asked for.
    pub default: Duration,
    /// The age that nothing but a periodic token goes beyond.
    pub max: Duration,
}

impl Default for TtlLimits {
    /// 32 days of each, as Vault has it.
    fn default() -> Self {
        Self { default: DEFAULT_TTL, max: DEFAULT_TTL }
    }
}

/// What is asked for, and since when it counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Zero for the default.
    pub(super) ttl: Duration,
    /// Zero for none.
    pub(super) period: Duration,
    /// Zero for none.
    pub(super) explicit_max: Duration,
    /// When the token was made.
    pub(super) since: Timestamp,
}

/// Something granted other than it was asked for; `Display` is Vault's text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The period was cut to the maximum.
    PeriodCapped {
        /// Asked for.
        asked: Duration,
        /// Granted.
        max: Duration,
    },
    /// The time to live was cut to what the maximum leaves.
    TtlCapped {
        /// Asked for.
        asked: Duration,
        /// Granted.
        left: Duration,
    },
    /// The explicit maximum was cut to the mount's.
    ExplicitMaxCapped {
        /// Asked for.
        asked: Duration,
        /// Granted.
        max: Duration,
    },
    /// A policy of the token does not exist (yet).
    NoSuchPolicy(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let go = |duration: &Duration| format_duration(*duration);
        match self {
            Self::PeriodCapped { asked, max } => write!(
                f,
                "period of \"{}\" exceeded the effective max_ttl of \"{}\"; period value is capped \
                 accordingly",
                go(asked),
                go(max)
            ),
            Self::TtlCapped { asked, left } => write!(
                f,
                "TTL of \"{}\" exceeded the effective max_ttl of \"{}\"; TTL value is capped \
                 accordingly",
                go(asked),
                go(left)
            ),
            Self::ExplicitMaxCapped { asked, max } => write!(
                f,
                "Explicit max TTL of {} seconds is greater than system/mount allowed value; value \
                 is being capped at {} seconds",
                asked.as_secs(),
                max.as_secs()
            ),
            Self::NoSuchPolicy(name) => write!(f, "Policy \"{name}\" does not exist"),
        }
    }
}

/// The token is older than its maximum allows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PastMax;

/// How long a token lives from now on, as Vault reckons it: in whole seconds, a periodic token by
/// its period and bound by its explicit maximum only, another one within every maximum.
pub(super) fn granted(
    asked: Asked,
    limits: TtlLimits,
    now: Timestamp,
    warnings: &mut Vec<Warning>,
) -> Result<Duration, PastMax> {
    let max = match asked.explicit_max {
        Duration::ZERO => limits.max,
        explicit => explicit.min(limits.max),
    };
    let (ttl, oldest) = if asked.period > Duration::ZERO {
        if asked.period > max {
            warnings.push(Warning::PeriodCapped { asked: asked.period, max });
        }
        let bound = (asked.explicit_max > Duration::ZERO).then_some(asked.explicit_max);
        (asked.period.min(max), bound)
    } else {
        let ttl = if asked.ttl > Duration::ZERO { asked.ttl } else { limits.default };
        (ttl, Some(max))
    };
    let Some(oldest) = oldest else { return Ok(ttl) };
    let age = Duration::from_secs(now.seconds().saturating_sub(asked.since.seconds()));
    let left = oldest.checked_sub(age).ok_or(PastMax)?;
    if ttl > left {
        warnings.push(Warning::TtlCapped { asked: ttl, left });
    }
    Ok(ttl.min(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TtlLimits =
        TtlLimits { default: Duration::from_secs(100), max: Duration::from_secs(1_000) };

    /// Asks for a token of this age in seconds; returns seconds and how many warnings there were.
    fn grant(ttl: u64, period: u64, explicit_max: u64, age: u64) -> Option<(u64, usize)> {
        let since = Timestamp::from_millis(5_000_500);
        let asked = Asked {
            ttl: Duration::from_secs(ttl),
            period: Duration::from_secs(period),
            explicit_max: Duration::from_secs(explicit_max),
            since,
        };
        let mut warnings = Vec::new();
        let now = since.plus(Duration::from_secs(age));
        let ttl = granted(asked, LIMITS, now, &mut warnings).ok()?;
        Some((ttl.as_secs(), warnings.len()))
    }

    #[test]
    fn what_is_asked_for_is_granted_within_every_maximum() {
        assert_eq!(grant(0, 0, 0, 0), Some((100, 0)));
        assert_eq!(grant(500, 0, 0, 0), Some((500, 0)));
        assert_eq!(grant(5_000, 0, 0, 0), Some((1_000, 1)));
        assert_eq!(grant(500, 0, 200, 0), Some((200, 1)));
        assert_eq!(grant(0, 0, 20, 0), Some((20, 1)));
    }

    #[test]
    fn age_counts_against_the_maximum() {
        assert_eq!(grant(500, 0, 0, 400), Some((500, 0)));
        assert_eq!(grant(500, 0, 0, 600), Some((400, 1)));
        assert_eq!(grant(500, 0, 0, 1_000), Some((0, 1)));
        assert_eq!(grant(500, 0, 0, 1_001), None);
        assert_eq!(grant(500, 0, 300, 200), Some((100, 1)));
    }

    #[test]
    fn a_period_is_bound_by_an_explicit_maximum_only() {
        assert_eq!(grant(1, 300, 0, 50_000), Some((300, 0)));
        assert_eq!(grant(1, 3_000, 0, 50_000), Some((1_000, 1)));
        assert_eq!(grant(1, 300, 400, 200), Some((200, 1)));
        assert_eq!(grant(1, 300, 400, 401), None);
    }

    #[test]
    fn warnings_are_vaults_words() {
        let seconds = Duration::from_secs;
        let capped = Warning::TtlCapped { asked: seconds(3_600_000), left: seconds(2_764_800) };
        let text = "TTL of \"1000h0m0s\" exceeded the effective max_ttl of \"768h0m0s\"; TTL value is \
                    capped accordingly";
        assert_eq!(capped.to_string(), text);
        let missing = Warning::NoSuchPolicy("app".into());
        assert_eq!(missing.to_string(), "Policy \"app\" does not exist");
    }
}
