use std::sync::Arc;

use super::{Class, Record};
use crate::{
    auth::token::TokenMethod,
    barrier::SpaceId,
    engines::{kv1::Kv1, kv2::Kv2},
    gate::{Mounted, Place},
    route::Mount,
    token,
};

/// Types that may be enabled by request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Kv1,
    Kv2,
    Token,
}

impl Kind {
    /// The wing for a type and its `version` option.
    pub(super) fn of(class: Class, kind: &str, version: Option<&str>) -> Option<Self> {
        match (class, kind, version) {
            (Class::Secret, "kv", None | Some("1")) => Some(Self::Kv1),
            (Class::Secret, "kv", Some("2")) => Some(Self::Kv2),
            (Class::Auth, "token", _) => Some(Self::Token),
            _ => None,
        }
    }

    fn of_record(record: &Record) -> Option<Self> {
        Self::of(record.class, &record.kind, record.options.get("version").map(String::as_str))
    }
}

/// Puts the wing that a record names at its place; none when this version of Kista lacks it.
pub(super) fn build(record: &Record, tokens: &Arc<token::Store>) -> Option<Arc<dyn Mounted>> {
    let kind = Kind::of_record(record)?;
    let place = |kind| Place {
        path: record.full_path(),
        kind,
        accessor: record.accessor.clone(),
        class: record.class.word(),
        space: SpaceId(record.space),
    };
    Some(match kind {
        Kind::Kv1 => Arc::new(Mount::new(place("kv"), Kv1::new(record.default_lease_ttl))),
        Kind::Kv2 => Arc::new(Mount::new(place("kv"), Kv2)),
        Kind::Token => Arc::new(Mount::new(place("token"), TokenMethod::new(Arc::clone(tokens)))),
    })
}
