use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use super::{
    capability::{Capabilities, Capability},
    grant::{Grant, Source},
    pattern::{Pattern, Prefixes, Rank, SegmentPattern, prefix_rank},
    rule::Policy,
};
use crate::clock::Timestamp;

/// The compiled rules of a token's policies. It never changes; a rule that expires is passed over
/// from then on.
#[derive(Debug)]
pub struct Acl(Rights);

#[derive(Debug)]
enum Rights {
    All,
    Granted(Tables),
}

/// A request, as far as policies look at it.
pub struct Ask<'a> {
    /// The canonical path without `/v1/`. For a list it may end in a slash or not.
    pub path: &'a str,
    /// What the operation needs.
    pub capability: Capability,
    /// The fields of the body and the query; `None` when it has none.
    pub fields: Option<Fields<'a>>,
    /// The TTL for a wrapped answer; `None` when the answer is not to be wrapped.
    pub wrap_ttl: Option<Duration>,
    /// The present moment.
    pub now: Timestamp,
}

/// Shows each field of a request: its name and its value, raw JSON that has passed
/// [`json::check`](crate::json::check). Asked only when a rule restricts fields.
pub type Fields<'a> = &'a dyn Fn(&mut dyn FnMut(&str, &str));

impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("path", &self.path)
            .field("capability", &self.capability)
            .field("wrap_ttl", &self.wrap_ttl)
            .finish_non_exhaustive()
    }
}

/// The answer to an [`Ask`].
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// Whether the request may go on. A root-protected path needs [`Self::has_sudo`] as well.
    pub allowed: bool,
    /// Whether the token is a root token.
    pub is_root: bool,
    /// Whether the rule that decides also grants `sudo`. A root token has it everywhere.
    pub has_sudo: bool,
    decided_by: Option<(&'a Grant, Capability, Timestamp)>,
}

impl<'a> Decision<'a> {
    const DENIED: Self = Self { allowed: false, is_root: false, has_sudo: false, decided_by: None };
    const ROOT: Self = Self { allowed: true, is_root: true, has_sudo: true, decided_by: None };

    /// The names of the policies that grant what is allowed, for the audit log; none when it is
    /// not.
    pub fn granting(&self) -> Vec<&'a str> {
        if self.is_root {
            return vec![ROOT_POLICY];
        }
        let Some((grant, capability, now)) = self.decided_by.filter(|_| self.allowed) else {
            return Vec::new();
        };
        grant.granting(capability, now)
    }
}

impl Acl {
    /// The rules of a root token: everything is allowed.
    pub const fn root() -> Self {
        Self(Rights::All)
    }

    /// Compiles the rules of `policies`; none of them grants nothing.
    pub fn compile(policies: &[Arc<Policy>]) -> Self {
        Self(Rights::Granted(Tables::compile(policies)))
    }

    /// Decides on a request. Allocates nothing but for a list whose path has no slash at its end,
    /// and for rules that can expire or restrict fields.
    pub fn check<'a>(&'a self, ask: &Ask<'_>) -> Decision<'a> {
        let Rights::Granted(tables) = &self.0 else { return Decision::ROOT };
        let found = if ask.is_list() {
            tables.find_for_list(ask.path, ask.now)
        } else {
            tables.find(ask.path, ask.now)
        };
        let Some(grant) = found else { return Decision::DENIED };
        let terms = grant.terms(ask.now);
        Decision {
            allowed: terms.permit(ask),
            is_root: false,
            has_sudo: terms.capabilities.contains(Capability::Sudo),
            decided_by: Some((grant, ask.capability, ask.now)),
        }
    }

    /// Whether the token has `sudo` on `path`, for what needs it in special cases (an orphan
    /// token).
    pub fn has_sudo(&self, path: &str, now: Timestamp) -> bool {
        match &self.0 {
            Rights::All => true,
            Rights::Granted(tables) => tables.capabilities(path, now).contains(Capability::Sudo),
        }
    }

    /// The names of the capabilities on `path`, sorted: `["root"]` for a root token, `["deny"]`
    /// when there are none.
    pub fn capabilities(&self, path: &str, now: Timestamp) -> Vec<&'static str> {
        let capabilities = match &self.0 {
            Rights::All => return vec![ROOT_POLICY],
            Rights::Granted(tables) => tables.capabilities(path, now),
        };
        if capabilities.is_empty() {
            return vec![Capability::Deny.name()];
        }
        capabilities.iter().map(Capability::name).collect()
    }

    /// Whether anything is granted on `folder`, which ends in a slash, or somewhere below it.
    pub fn any_under(&self, folder: &str, now: Timestamp) -> bool {
        match &self.0 {
            Rights::All => true,
            Rights::Granted(tables) => tables.any_under(folder, now),
        }
    }
}

/// All rules of a token by their patterns.
#[derive(Debug)]
struct Tables {
    exact: HashMap<String, Grant>,
    prefixes: Prefixes<Grant>,
    /// The most specific first.
    segments: Vec<(SegmentPattern, Grant)>,
}

impl Tables {
    fn compile(policies: &[Arc<Policy>]) -> Self {
        let mut sources: HashMap<&Pattern, Vec<Source>> = HashMap::new();
        for policy in policies {
            for rule in &policy.rules {
                if let Some(pattern) = &rule.pattern {
                    sources.entry(pattern).or_default().push(Source::new(policy, rule));
                }
            }
        }
        let (mut exact, mut prefixes, mut segments) = (HashMap::new(), Vec::new(), Vec::new());
        for (pattern, sources) in sources {
            let grant = Grant::new(sources);
            match pattern {
                Pattern::Exact(path) => {
                    exact.insert(path.clone(), grant);
                }
                Pattern::Prefix(prefix) => prefixes.push((prefix.clone(), grant)),
                Pattern::Segments(pattern) => segments.push((pattern.clone(), grant)),
            }
        }
        segments.sort_unstable_by(|(a, _), (b, _)| b.rank().cmp(&a.rank()));
        Self { exact, prefixes: Prefixes::new(prefixes), segments }
    }

    /// The one pattern that counts for `path`.
    fn find(&self, path: &str, now: Timestamp) -> Option<&Grant> {
        let path = path.trim_start_matches('/');
        self.find_exact(path, now).or_else(|| Some(self.find_wildcard(path, now)?.1))
    }

    /// The one pattern that counts for a list of `path`. A list is asked for with a slash at the
    /// end, and rules are written with it and without.
    fn find_for_list(&self, path: &str, now: Timestamp) -> Option<&Grant> {
        let path = path.trim_start_matches('/');
        let bare = path.strip_suffix('/').unwrap_or(path);
        let buffer;
        let slashed = if path.ends_with('/') {
            path
        } else {
            buffer = format!("{path}/");
            &buffer
        };
        if let Some(grant) = self.find_exact(slashed, now).or_else(|| self.find_exact(bare, now)) {
            return Some(grant);
        }
        match (self.find_wildcard(slashed, now), self.find_wildcard(bare, now)) {
            // Differs from Vault, which asks without the slash only when nothing fits with it:
            // there a list of `a/x` would slip past a deny on `a/+` through a grant on `a/*` (the
            // class of GHSA-xp3c-3jw3-4vcr).
            (Some((rank, _)), Some((bare_rank, denying)))
                if bare_rank > rank && denying.denies(now) =>
            {
                Some(denying)
            }
            (Some((_, grant)), _) | (None, Some((_, grant))) => Some(grant),
            (None, None) => None,
        }
    }

    fn find_exact(&self, path: &str, now: Timestamp) -> Option<&Grant> {
        self.exact.get(path).filter(|grant| grant.is_live(now))
    }

    /// The most specific pattern with a wildcard that fits.
    fn find_wildcard(&self, path: &str, now: Timestamp) -> Option<(Rank<'_>, &Grant)> {
        let prefix = self
            .prefixes
            .of(path)
            .find(|(_, grant)| grant.is_live(now))
            .map(|(text, grant)| (prefix_rank(text), grant));
        let least = prefix.map(|(rank, _)| rank);
        self.segments
            .iter()
            .map(|(pattern, grant)| (pattern, pattern.rank(), grant))
            .take_while(|(_, rank, _)| least.is_none_or(|least| *rank > least))
            .find(|(pattern, _, grant)| pattern.matches(path) && grant.is_live(now))
            .map(|(_, rank, grant)| (rank, grant))
            .or(prefix)
    }

    /// What is granted on `path`. One that ends in a slash is looked up as a list is, as in Vault.
    fn capabilities(&self, path: &str, now: Timestamp) -> Capabilities {
        let found =
            if path.ends_with('/') { self.find_for_list(path, now) } else { self.find(path, now) };
        found.map_or(Capabilities::NONE, |grant| grant.terms(now).capabilities)
    }

    fn any_under(&self, folder: &str, now: Timestamp) -> bool {
        let below = folder.trim_start_matches('/');
        let grants =
            |grant: &Grant| grant.is_live(now) && grant.terms(now).capabilities.grants_any();
        self.capabilities(folder, now).grants_any()
            || self.exact.iter().any(|(path, grant)| path.starts_with(below) && grants(grant))
            || self.prefixes.below(below).any(grants)
            || self
                .segments
                .iter()
                .any(|(pattern, grant)| pattern.reaches_below(below) && grants(grant))
    }
}

/// The policy, and the capability that `sys/capabilities` shows, of a root token.
const ROOT_POLICY: &str = "root";
