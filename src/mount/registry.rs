use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Class, Record, Upgrade};
use crate::{
    auth::token::TokenMethod,
    barrier::SpaceId,
    engines::{
        cubbyhole::Cubbyhole,
        kv1::{Kv1, Stage, Switch},
        kv2::Kv2,
        transit::{self, Transit},
    },
    gate::{Mounted, Place},
    route::Mount,
    token,
};

/// The types of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Kv1,
    Kv2,
    Cubbyhole,
    Transit,
    Token,
}

impl Kind {
    /// The wing for a type and its `version` option.
    pub(super) fn of(class: Class, kind: &str, version: Option<&str>) -> Option<Self> {
        match (class, kind, version) {
            (Class::Secret, "kv", None | Some("1")) => Some(Self::Kv1),
            (Class::Secret, "kv", Some("2")) => Some(Self::Kv2),
            (Class::Secret, "cubbyhole", _) => Some(Self::Cubbyhole),
            (Class::Secret, "transit", _) => Some(Self::Transit),
            (Class::Auth, "token", _) => Some(Self::Token),
            _ => None,
        }
    }

    pub(super) fn of_record(record: &Record) -> Option<Self> {
        Self::of(record.class, &record.kind, record.options.get("version").map(String::as_str))
    }

    /// Whether a store has one of it, and only one.
    pub(super) fn is_single(self) -> bool {
        match self {
            Self::Cubbyhole | Self::Token => true,
            Self::Kv1 | Self::Kv2 | Self::Transit => false,
        }
    }
}

/// What wings are built of.
pub(super) struct Wings {
    tokens: Arc<token::Store>,
    /// Of mounts of KV version 1, by their spaces: one for each, however often the wing is built.
    switches: Mutex<HashMap<[u8; 16], Arc<Switch>>>,
    /// The same of transit mounts.
    keys: Mutex<HashMap<[u8; 16], Arc<transit::Keys>>>,
}

impl Wings {
    pub(super) fn new(tokens: Arc<token::Store>) -> Self {
        Self { tokens, switches: Mutex::default(), keys: Mutex::default() }
    }

    /// Puts the wing that a record names at its place; none when this version of Kista lacks it.
    pub(super) fn build(&self, record: &Record) -> Option<Arc<dyn Mounted>> {
        let kind = Kind::of_record(record)?;
        let place = |kind| Place {
            path: record.full_path(),
            kind,
            accessor: record.accessor.clone(),
            class: record.class.word(),
            space: SpaceId(record.space),
        };
        Some(match kind {
            Kind::Kv1 => {
                let kv1 = Kv1::new(record.default_lease_ttl, self.switch(record));
                Arc::new(Mount::new(place("kv"), kv1))
            }
            Kind::Kv2 => Arc::new(Mount::new(place("kv"), Kv2)),
            Kind::Cubbyhole => Arc::new(Mount::new(place("cubbyhole"), Cubbyhole)),
            Kind::Transit => Arc::new(Mount::new(place("transit"), self.transit(record))),
            Kind::Token => {
                let method = TokenMethod::new(Arc::clone(&self.tokens));
                Arc::new(Mount::new(place("token"), method))
            }
        })
    }

    /// Lets go of what is kept for a mount that is no more.
    pub(super) fn forget(&self, record: &Record) {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner).remove(&record.space);
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&record.space);
    }

    /// The engine of a transit mount.
    pub(super) fn transit(&self, record: &Record) -> Transit {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        Transit::new(Arc::clone(keys.entry(record.space).or_default()))
    }

    /// The switch of a mount of KV version 1.
    pub(super) fn switch(&self, record: &Record) -> Arc<Switch> {
        let mut switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        let switch = switches.entry(record.space).or_insert_with(|| {
            Arc::new(Switch::at(match record.upgrade {
                Upgrade::None => Stage::Alone,
                Upgrade::Copying => Stage::Mirrored,
                Upgrade::Clearing => Stage::Over,
            }))
        });
        Arc::clone(switch)
    }
}
