use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    barrier::{self, SpaceId},
    crypto::random,
};

/// A mount as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Its path, ending in a slash; auth methods without their leading `auth/`.
    pub path: String,
    /// A secret engine or an auth method.
    pub class: Class,
    /// Vault's type: `kv`, `token`.
    pub kind: String,
    /// What its operator noted.
    pub description: String,
    /// Its accessor: the type and eight hexadecimal digits.
    pub accessor: String,
    /// Its identifier on the wire.
    pub uuid: String,
    /// The space that holds its names.
    pub space: [u8; 16],
    /// Options of the engine, such as `version`.
    pub options: BTreeMap<String, String>,
    /// Lease times in seconds, 0 for the server's.
    pub default_lease_ttl: u64,
    /// Likewise.
    pub max_lease_ttl: u64,
    /// Set once it is disabled: it is gone from the table, and a sweep takes its data away.
    pub is_removed: bool,
}

/// The two families of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// Mounted at its path.
    Secret,
    /// Mounted at `auth/` and its path.
    Auth,
}

impl Class {
    /// The word of audit lines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Auth => "auth",
        }
    }
}

impl barrier::Record for Record {
    const VERSION: u8 = 1;
}

impl Record {
    /// A new mount with an accessor, an identifier and a space of its own.
    pub fn new(class: Class, kind: &str, path: &str) -> Self {
        Self {
            path: path.to_owned(),
            class,
            kind: kind.to_owned(),
            description: String::new(),
            accessor: new_accessor(class, kind),
            uuid: random::uuid(),
            space: SpaceId::random().0,
            options: BTreeMap::new(),
            default_lease_ttl: 0,
            max_lease_ttl: 0,
            is_removed: false,
        }
    }

    /// The path under which requests find it.
    pub fn full_path(&self) -> String {
        match self.class {
            Class::Secret => self.path.clone(),
            Class::Auth => format!("auth/{}", self.path),
        }
    }
}

fn new_accessor(class: Class, kind: &str) -> String {
    let digits = data_encoding::HEXLOWER.encode(&random::array::<4>());
    match class {
        Class::Secret => format!("{kind}_{digits}"),
        Class::Auth => format!("auth_{kind}_{digits}"),
    }
}
