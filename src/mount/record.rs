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
    /// How far KV is on its way from version 1 to 2.
    pub upgrade: Upgrade,
    /// Who is told of it by `internal/ui/mounts`.
    pub listing: Listing,
    /// Taken for the sake of clients, which look whether it stays: Kista keeps nothing of a mount's
    /// in a cache that could be stale.
    pub force_no_cache: bool,
    /// Lists that clients set and read back; no engine gets or sets headers, and each value of an
    /// audit line is digested.
    pub kept: KeptLists,
}

/// How far KV is on its way from version 1 to 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upgrade {
    /// It is on none.
    None,
    /// Secrets are copied while version 1 goes on; each write is written for version 2 too.
    Copying,
    /// It is version 2, and the records of version 1 are being removed.
    Clearing,
}

/// Who is told of a mount beside those who may do something in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listing {
    /// As [`Self::Hidden`], and shown as not set.
    Unset,
    /// Nobody.
    Hidden,
    /// Every caller.
    Unauth,
}

/// Lists that are kept for clients and change nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLists {
    /// `audit_non_hmac_request_keys`.
    pub audit_request_keys: Vec<String>,
    /// `audit_non_hmac_response_keys`.
    pub audit_response_keys: Vec<String>,
    /// `passthrough_request_headers`.
    pub request_headers: Vec<String>,
    /// `allowed_response_headers`.
    pub response_headers: Vec<String>,
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
    const VERSION: u8 = 2;

    /// Version 1 ended with `is_removed`.
    fn missing(version: u8) -> Option<usize> {
        match version {
            1 => Some(7),
            2 => Some(0),
            _ => None,
        }
    }
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
            upgrade: Upgrade::None,
            listing: Listing::Unset,
            force_no_cache: false,
            kept: KeptLists::default(),
        }
    }

    /// The one cubbyhole, which every store has and no record tells of.
    pub fn cubbyhole() -> Self {
        Self {
            description: "per-token private secret storage".to_owned(),
            accessor: "cubbyhole_00000000".to_owned(),
            uuid: "00000000-0000-4000-8000-000000000001".to_owned(),
            space: SpaceId::CUBBYHOLE.0,
            ..Self::new(Class::Secret, "cubbyhole", "cubbyhole/")
        }
    }

    /// `sys/` itself, which every store has and no record tells of either.
    pub fn system(accessor: &str) -> Self {
        Self {
            description: "system endpoints used for control, policy and debugging".to_owned(),
            accessor: accessor.to_owned(),
            uuid: SYSTEM_UUID.to_owned(),
            ..Self::new(Class::Secret, "system", "sys/")
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

/// The identifier of `sys/`.
pub const SYSTEM_UUID: &str = "00000000-0000-4000-8000-000000000000";

fn new_accessor(class: Class, kind: &str) -> String {
    let digits = data_encoding::HEXLOWER.encode(&random::array::<4>());
    match class {
        Class::Secret => format!("{kind}_{digits}"),
        Class::Auth => format!("auth_{kind}_{digits}"),
    }
}
