use std::{borrow::Cow, sync::Arc};

use super::{
    acl::Ask,
    capability::{Capabilities, Capability},
    rule::{Policy, Rule, Terms},
};
use crate::{clock::Timestamp, json};

/// What all policies of a token together say about one pattern.
#[derive(Debug)]
pub(super) struct Grant {
    sources: Vec<Source>,
    /// The sources' terms taken together, when none of them can expire.
    terms: Option<Terms>,
}

/// A rule and the policy it is from.
#[derive(Debug)]
pub(super) struct Source {
    policy: Arc<str>,
    rule: Arc<Rule>,
}

impl Source {
    pub(super) fn new(policy: &Policy, rule: &Arc<Rule>) -> Self {
        Self { policy: Arc::clone(&policy.name), rule: Arc::clone(rule) }
    }

    fn is_live(&self, now: Timestamp) -> bool {
        self.rule.expiration.is_none_or(|end| now < end)
    }
}

impl Grant {
    pub(super) fn new(sources: Vec<Source>) -> Self {
        let expires = sources.iter().any(|source| source.rule.expiration.is_some());
        let terms = (!expires).then(|| sum(sources.iter()));
        Self { sources, terms }
    }

    /// Whether any of its rules still counts.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.terms.is_some() || self.sources.iter().any(|source| source.is_live(now))
    }

    /// What its rules say together.
    pub(super) fn terms(&self, now: Timestamp) -> Cow<'_, Terms> {
        match &self.terms {
            Some(terms) => Cow::Borrowed(terms),
            None => Cow::Owned(sum(self.sources.iter().filter(|source| source.is_live(now)))),
        }
    }

    pub(super) fn denies(&self, now: Timestamp) -> bool {
        self.terms(now).capabilities == Capabilities::DENY
    }

    /// The policies whose rules grant `capability`, each once.
    pub(super) fn granting(&self, capability: Capability, now: Timestamp) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .sources
            .iter()
            .filter(|source| source.is_live(now))
            .filter(|source| source.rule.terms.capabilities.contains(capability))
            .map(|source| &*source.policy)
            .collect();
        names.dedup();
        names
    }
}

fn sum<'a>(sources: impl Iterator<Item = &'a Source>) -> Terms {
    let mut terms = Terms::default();
    for source in sources {
        terms.add(&source.rule.terms);
    }
    terms
}

impl Terms {
    /// Whether a request on a fitting path may go on.
    pub(super) fn permit(&self, ask: &Ask<'_>) -> bool {
        ask.capability != Capability::Deny
            && self.capabilities.contains(ask.capability)
            && self.permit_wrapping(ask)
            && self.permit_page(ask)
            && self.has_required(ask)
            && self.permit_fields(ask)
    }

    /// A bound makes wrapping mandatory.
    fn permit_wrapping(&self, ask: &Ask<'_>) -> bool {
        self.max_wrapping_ttl.is_none_or(|max| ask.wrap_ttl.is_some_and(|ttl| ttl <= max))
            && self.min_wrapping_ttl.is_none_or(|min| ask.wrap_ttl.is_some_and(|ttl| ttl >= min))
    }

    /// Lists must ask for a page that is not larger than allowed.
    fn permit_page(&self, ask: &Ask<'_>) -> bool {
        let Some(most) = self.pagination_limit.filter(|_| ask.is_list()) else { return true };
        let (mut given, mut fits) = (false, true);
        ask.each_field(&mut |name, raw| {
            if name == LIMIT {
                let text = json::text(raw);
                let limit = text.as_deref().unwrap_or(raw).parse::<u64>();
                given = true;
                fits &= limit.is_ok_and(|limit| (1..=most.get()).contains(&limit));
            }
        });
        given && fits
    }

    /// As in Vault, names are required in lower case, and of operations that carry data. Of a list
    /// only its own parameters can be required.
    fn has_required(&self, ask: &Ask<'_>) -> bool {
        let binds = |name: &str| match ask.capability {
            Capability::Create | Capability::Patch | Capability::Read | Capability::Update => true,
            Capability::List | Capability::Scan => [AFTER, LIMIT].contains(&name),
            Capability::Delete | Capability::Deny | Capability::Sudo => false,
        };
        self.required.iter().filter(|name| binds(name)).all(|name| {
            let mut given = false;
            ask.each_field(&mut |field, _| given |= field == name);
            given
        })
    }

    /// Differs from Vault: the conditions bind every operation, also deletes and lists with fields.
    fn permit_fields(&self, ask: &Ask<'_>) -> bool {
        if self.allowed.is_empty() && self.denied.is_empty() {
            return true;
        }
        let mut fits = true;
        ask.each_field(&mut |name, raw| {
            // These words of a query are the operation itself.
            let is_operation = ask.is_list() && LIST_WORDS.contains(&name);
            fits = fits
                && (is_operation || !self.denied.deny(name, raw) && self.allowed.allow(name, raw));
        });
        fits
    }
}

impl Ask<'_> {
    /// Whether it is about names below the path.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.capability, Capability::List | Capability::Scan)
    }

    fn each_field(&self, visit: &mut dyn FnMut(&str, &str)) {
        if let Some(fields) = self.fields {
            fields(visit);
        }
    }
}

/// The parameter of lists that bounds their length.
const LIMIT: &str = "limit";
/// The parameter of lists that says where they begin.
const AFTER: &str = "after";
/// What makes a GET a list.
const LIST_WORDS: [&str; 2] = ["list", "scan"];
