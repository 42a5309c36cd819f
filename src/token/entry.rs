use std::{collections::BTreeMap, fmt, time::Duration};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::{barrier::Record, clock::Timestamp, policy::ROOT};

/// The keyed hash of a token: what is stored of it, and what it is found by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenDigest(pub(super) [u8; 32]);

impl TokenDigest {
    /// The digest as one path segment.
    pub fn segment(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// Reads a path segment.
    pub(super) fn of_segment(segment: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(segment.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segment())
    }
}

/// What is kept of a service token. Durations of zero mean that there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Another name of the token, which does not open anything.
    pub accessor: String,
    /// Names of its policies: sorted, lower case.
    pub policies: Vec<String>,
    /// What its creator noted.
    pub meta: BTreeMap<String, String>,
    /// Its name in audit lines.
    pub display_name: String,
    /// The path of the request that made it.
    pub path: String,
    /// The token that it dies with; an orphan has none.
    pub parent: Option<TokenDigest>,
    /// How many tokens are above it.
    pub depth: u32,
    /// When it was made.
    pub created: Timestamp,
    /// How long it was given at its creation, in whole seconds; zero for one that never expires.
    pub ttl: Duration,
    /// The age that no renewal takes it beyond.
    pub explicit_max_ttl: Duration,
    /// How long each renewal gives a periodic token.
    pub period: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// When it expires.
    pub expires: Option<Timestamp>,
    /// When it was last renewed.
    pub last_renewal: Option<Timestamp>,
    /// How many requests it is still good for; `None` for any number.
    pub uses_left: Option<u32>,
}

impl Record for Entry {
    const VERSION: u8 = 1;
}

impl Entry {
    /// Whether it holds the policy that allows everything.
    pub fn is_root(&self) -> bool {
        self.policies.iter().any(|policy| policy == ROOT)
    }

    /// Whether it dies with no other token.
    pub fn is_orphan(&self) -> bool {
        self.parent.is_none()
    }

    /// How long it still lives; `None` for one that never expires.
    pub fn ttl_left(&self, now: Timestamp) -> Option<Duration> {
        self.expires.map(|expires| expires.since(now))
    }

    /// Whether it has neither expired nor been used up.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires) && self.uses_left != Some(0)
    }
}

/// Lower-cases, trims, sorts and dedupes names of policies; `root` stands alone.
pub(super) fn sanitized(policies: &[String]) -> Vec<String> {
    let mut names: Vec<String> = policies
        .iter()
        .map(|name| name.trim().to_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    if names.iter().any(|name| name == ROOT) {
        return vec![ROOT.to_owned()];
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// What an accessor leads to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Accessed {
    pub(super) digest: TokenDigest,
}

impl Record for Accessed {
    const VERSION: u8 = 1;
}

/// What is left to do with the children of a token that was revoked, kept until it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Sweep {
    /// They are revoked as well.
    Revoke,
    /// They become orphans.
    Orphan,
}

impl Record for Sweep {
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sanitize(policies: &[&str]) -> Vec<String> {
        sanitized(&policies.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_of_policies_are_lower_case_sorted_and_unique() {
        assert_eq!(sanitize(&["web", " App ", "", "WEB", "app"]), ["app", "web"]);
        assert_eq!(sanitize(&[]), [""; 0]);
    }

    #[test]
    fn root_stands_alone() {
        assert_eq!(sanitize(&["app", "Root", "default"]), ["root"]);
    }

    #[test]
    fn a_digest_is_its_segment() {
        let digest = TokenDigest(std::array::from_fn(|n| u8::try_from(n * 7).unwrap()));
        assert_eq!(TokenDigest::of_segment(&digest.segment()), Some(digest));
        assert_eq!(TokenDigest::of_segment("short"), None);
    }
}
