use std::{num::NonZeroU64, sync::Arc, time::Duration};

use super::{capability::Capabilities, parameters::Parameters, pattern::Pattern};
use crate::clock::Timestamp;

/// A policy: a name and rules.
#[derive(Debug)]
pub struct Policy {
    pub(super) name: Arc<str>,
    pub(super) rules: Vec<Arc<Rule>>,
}

impl Policy {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What a policy says about the paths of one pattern.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// `None` for a path with a template: it grants nothing while nobody has an identity.
    pub(super) pattern: Option<Pattern>,
    pub(super) expiration: Option<Timestamp>,
    pub(super) terms: Terms,
}

/// What is granted, and under which conditions.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    pub(super) capabilities: Capabilities,
    pub(super) allowed: Parameters,
    pub(super) denied: Parameters,
    /// In lower case.
    pub(super) required: Vec<String>,
    pub(super) min_wrapping_ttl: Option<Duration>,
    pub(super) max_wrapping_ttl: Option<Duration>,
    pub(super) pagination_limit: Option<NonZeroU64>,
}

impl Terms {
    /// Adds what another rule says of the same pattern: capabilities add up and deny wins;
    /// conditions of both count, of limits the lower one (Vault's preference for short lives).
    pub(super) fn add(&mut self, other: &Self) {
        self.capabilities = self.capabilities.union(other.capabilities);
        self.allowed.add_all(&other.allowed);
        self.denied.add_all(&other.denied);
        for name in &other.required {
            if !self.required.contains(name) {
                self.required.push(name.clone());
            }
        }
        self.min_wrapping_ttl = lower(self.min_wrapping_ttl, other.min_wrapping_ttl);
        self.max_wrapping_ttl = lower(self.max_wrapping_ttl, other.max_wrapping_ttl);
        self.pagination_limit = lower(self.pagination_limit, other.pagination_limit);
    }
}

fn lower<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
