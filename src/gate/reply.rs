use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use super::ApiError;
use crate::{
    secret::{SecretBuffer, SecretString, WipedBytes},
    token::{Entry, TokenSpec},
};

/// JSON text that may hold secrets: wiped on drop, never printed.
pub struct JsonText(WipedBytes);

impl JsonText {
    /// Serialises a wire type.
    ///
    /// # Errors
    /// 500 when it does not serialise, which no type of ours does.
    pub fn of(value: &impl Serialize) -> Result<Self, ApiError> {
        let mut text = SecretBuffer::with_capacity(512);
        serde_json::to_writer(&mut text, value).map_err(ApiError::internal)?;
        Ok(Self(text.into_wiped()))
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[json]")
    }
}

/// How an answer's body is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Vault's envelope around `data`.
    Envelope,
    /// The envelope, and `data`'s members at its top level once more, for old clients.
    EnvelopeWithCopy,
    /// The data alone, as Vault's handlers below the router answer.
    Bare,
}

/// What a handler answers, before leases, tokens and the audit line.
#[derive(Debug)]
pub struct RawReply {
    /// HTTP status, where it is not 200 (with a body) or 204 (without).
    pub status: Option<u16>,
    /// How the body is laid out.
    pub shape: Shape,
    /// The data, none for an empty answer.
    pub data: Option<JsonText>,
    /// Seconds after which a reader should look again, 0 where nothing is said of it.
    pub lease_duration: u64,
    /// Lines for `warnings`.
    pub warnings: Vec<String>,
    /// A token to make or to show.
    pub auth: Option<AuthWish>,
    /// Whether the vault is sealed once the answer's line is written.
    pub seals: bool,
}

impl RawReply {
    /// An answer with nothing in it.
    pub fn empty() -> Self {
        Self {
            status: None,
            shape: Shape::Envelope,
            data: None,
            lease_duration: 0,
            warnings: Vec::new(),
            auth: None,
            seals: false,
        }
    }

    /// Whether it becomes a 204.
    pub fn is_empty(&self) -> bool {
        self.data.is_none()
            && self.auth.is_none()
            && self.warnings.is_empty()
            && self.status.is_none()
    }
}

/// What a handler wants of `auth` in its answer.
#[derive(Debug)]
pub enum AuthWish {
    /// A new token: only the pipeline mints it.
    Mint(Box<TokenSpec>),
    /// What became of a token that is there.
    Show(Box<AuthReply>),
}

/// What a handler answered, and what was made of its wish.
pub type Granted = (RawReply, Option<Box<AuthReply>>);

/// `auth` of Vault's envelope; every key but `identity_policies` is always there.
#[derive(Debug)]
pub struct AuthReply {
    /// The token; empty where it is known by its accessor only.
    pub client_token: SecretString,
    /// Its accessor.
    pub accessor: String,
    /// Its policies, sorted.
    pub policies: Vec<String>,
    /// What it is called in audit lines; not on the wire.
    pub display_name: String,
    /// What its creator noted.
    pub metadata: BTreeMap<String, String>,
    /// Seconds it lives on.
    pub lease_duration: u64,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Whether it has no parent.
    pub orphan: bool,
    /// Uses left, 0 for no limit.
    pub num_uses: u32,
}

impl AuthReply {
    /// What is told of a token that has just been given `ttl`, zero for ever.
    pub fn of_entry(client_token: SecretString, entry: &Entry, ttl: Duration) -> Self {
        Self {
            client_token,
            accessor: entry.accessor.clone(),
            policies: entry.policies.clone(),
            display_name: entry.display_name.clone(),
            metadata: entry.meta.clone(),
            lease_duration: ttl.as_secs(),
            renewable: entry.renewable,
            orphan: entry.is_orphan(),
            num_uses: entry.uses_left.unwrap_or(0),
        }
    }
}

impl Serialize for AuthReply {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a> {
            client_token: &'a str,
            accessor: &'a str,
            policies: &'a [String],
            token_policies: &'a [String],
            metadata: Option<&'a BTreeMap<String, String>>,
            lease_duration: u64,
            renewable: bool,
            entity_id: &'static str,
            token_type: &'static str,
            orphan: bool,
            mfa_requirement: Option<()>,
            num_uses: u32,
        }
        self.client_token.expose(|client_token| {
            Wire {
                client_token,
                accessor: &self.accessor,
                policies: &self.policies,
                token_policies: &self.policies,
                metadata: (!self.metadata.is_empty()).then_some(&self.metadata),
                lease_duration: self.lease_duration,
                renewable: self.renewable,
                entity_id: "",
                token_type: "service",
                orphan: self.orphan,
                mfa_requirement: None,
                num_uses: self.num_uses,
            }
            .serialize(serializer)
        })
    }
}
