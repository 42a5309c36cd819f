//! What answers without a token, sealed or not: init, seal-status, unseal, health, leader.

use serde::Serialize;

use crate::{
    crypto::Argon2Params,
    gate::{ApiError, Body, Head, JsonText, Object, Operation, Public, Query},
    route::{Fields, parse_boolean},
    seal::{NewSlot, Secret, ShareCounts},
    secret::{SecretBytes, SecretString},
    vault::{InitError, Status, UnsealError, Vault},
};

/// Largest body in bytes that these take: a share or a passphrase.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// What `sys/health` and `sys/seal-status` report: a level that clients gate features on, and ours.
pub const VERSION: &str = concat!("2.0.0+kista.", env!("CARGO_PKG_VERSION"));

/// Answers one of them.
///
/// # Errors
/// 405 for an operation it does not offer, 400 for what the caller got wrong.
pub async fn answer(
    vault: &Vault,
    public: Public,
    head: &Head,
    body: SecretBytes,
) -> Result<(u16, JsonText), ApiError> {
    match (public, head.operation) {
        (Public::Init, Operation::Read) => Ok((200, init_state(vault)?)),
        (Public::Init, Operation::Write) => {
            let wish = read(head, body, init_wish)?;
            // Checked before the passphrase is stretched; the vault checks it again.
            if vault.status().is_initialized {
                return Err(already_initialized());
            }
            let _place = wish.passphrase.is_some().then(|| vault.stretching()).transpose()?;
            Ok((200, init(vault, wish.slots().await?).await?))
        }
        (Public::SealStatus, Operation::Read) => Ok((200, seal_status(vault)?)),
        (Public::Unseal, Operation::Write) => {
            let wish = read(head, body, unseal_wish)?;
            unseal(vault, wish).await?;
            Ok((200, seal_status(vault)?))
        }
        (Public::Health, Operation::Read) => health(vault, head),
        (Public::Leader, Operation::Read) => Ok((200, leader()?)),
        (
            Public::Init | Public::SealStatus | Public::Unseal | Public::Health | Public::Leader,
            Operation::Read
            | Operation::Write
            | Operation::Patch
            | Operation::Delete
            | Operation::List
            | Operation::Scan,
        ) => Err(ApiError::bare(405)),
    }
}

fn read<R>(
    head: &Head,
    body: SecretBytes,
    read: impl FnOnce(&Fields<'_>) -> Result<R, ApiError>,
) -> Result<R, ApiError> {
    let body = Body::check(head.operation, &head.media, body)?;
    let query = Query::default();
    body.expose(|object: &Object<'_>| read(&Fields::inside(object, &query)))
}

fn init_state(vault: &Vault) -> Result<JsonText, ApiError> {
    #[derive(Serialize)]
    struct Wire {
        initialized: bool,
    }
    JsonText::of(&Wire { initialized: vault.status().is_initialized })
}

fn init_wish(fields: &Fields<'_>) -> Result<InitWish, ApiError> {
    for unsupported in ["pgp_keys", "root_token_pgp_key", "recovery_pgp_keys"] {
        if fields.raw(unsupported).is_some_and(|raw| !matches!(raw, "\"\"" | "[]")) {
            return Err(ApiError::bad_request(format!(
                "{unsupported:?} is not supported; take the shares over TLS and hand them out"
            )));
        }
    }
    for other in ["recovery_shares", "recovery_threshold", "stored_shares"] {
        if fields.integer(other)?.is_some_and(|number| number != 0) {
            return Err(ApiError::bad_request(format!(
                "parameters {other} not applicable to seal type shamir"
            )));
        }
    }
    let shares = fields.integer("secret_shares")?.unwrap_or(0);
    let threshold = fields.integer("secret_threshold")?.unwrap_or(0);
    // Differs from Vault: a passphrase may take the place of shares, or stand beside them.
    let passphrase = fields.text("passphrase")?.filter(|passphrase| !passphrase.is_empty());
    let mut wish = InitWish { shares: None, passphrase: passphrase.map(SecretString::from_string) };
    if wish.passphrase.is_none() || shares != 0 {
        let counts = ShareCounts::new(threshold, shares).map_err(|error| {
            ApiError::bad_request(format!("invalid seal configuration: {error}"))
        })?;
        wish.shares = Some(counts);
    }
    Ok(wish)
}

/// The ways in that a new store is to have.
struct InitWish {
    shares: Option<ShareCounts>,
    passphrase: Option<SecretString>,
}

impl InitWish {
    /// Takes a second or two for a passphrase: what this machine can stretch it by is measured.
    async fn slots(self) -> Result<Vec<NewSlot>, ApiError> {
        let mut slots: Vec<_> = self.shares.map(NewSlot::Shares).into_iter().collect();
        if let Some(passphrase) = self.passphrase {
            let params = tokio::task::spawn_blocking(Argon2Params::calibrate).await;
            let params = params.map_err(ApiError::internal)?;
            slots.push(NewSlot::Passphrase(passphrase, params));
        }
        Ok(slots)
    }
}

async fn init(vault: &Vault, slots: Vec<NewSlot>) -> Result<JsonText, ApiError> {
    #[derive(Serialize)]
    struct Wire<'a> {
        keys: Vec<String>,
        keys_base64: Vec<String>,
        root_token: &'a str,
    }
    let made = vault.initialize(slots).await.map_err(|error| match error {
        InitError::AlreadyInitialized => already_initialized(),
        InitError::Seal(_)
        | InitError::Folder(_)
        | InitError::Storage(_)
        | InitError::Open(_)
        | InitError::Keyring(_)
        | InitError::Commit(_)
        | InitError::Token(_)
        | InitError::Close(_)
        | InitError::Task(_) => ApiError::internal(error),
    })?;
    let encode = |encoding: fn(&[u8]) -> String| {
        made.shares.iter().map(|share| share.expose(encoding)).collect::<Vec<_>>()
    };
    let (keys, keys_base64) = (encode(hex), encode(base64));
    made.root_token.expose(|root_token| JsonText::of(&Wire { keys, keys_base64, root_token }))
}

fn already_initialized() -> ApiError {
    ApiError::bad_request(InitError::AlreadyInitialized.to_string())
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

enum UnsealWish {
    Reset,
    Share { share: SecretString, accepts: bool },
    Passphrase { passphrase: SecretString, accepts: bool },
}

fn unseal_wish(fields: &Fields<'_>) -> Result<UnsealWish, ApiError> {
    // Vault's migration between seals has nothing to act on here.
    let _ = fields.boolean("migrate")?;
    if fields.boolean("reset")?.unwrap_or(false) {
        return Ok(UnsealWish::Reset);
    }
    // Kista's own: opens a store that stays sealed because an anchor is ahead of it.
    let accepts = fields.boolean("accept_rollback")?.unwrap_or(false);
    if let Some(passphrase) = fields.text("passphrase")? {
        let passphrase = SecretString::from_string(passphrase);
        return Ok(UnsealWish::Passphrase { passphrase, accepts });
    }
    let share = SecretString::from_string(fields.text("key")?.unwrap_or_default());
    Ok(UnsealWish::Share { share, accepts })
}

async fn unseal(vault: &Vault, wish: UnsealWish) -> Result<(), ApiError> {
    // While unsealed nothing is stretched.
    let stretches = matches!(wish, UnsealWish::Passphrase { .. }) && vault.unsealed().is_none();
    let _place = stretches.then(|| vault.stretching()).transpose()?;
    let done = match wish {
        UnsealWish::Reset => vault.reset_shares(),
        UnsealWish::Passphrase { passphrase, accepts: true } => {
            vault.accept_rollback(passphrase).await
        }
        UnsealWish::Passphrase { passphrase, accepts: false } => {
            vault.unseal(Secret::Passphrase(passphrase)).await
        }
        UnsealWish::Share { share, accepts } => {
            let share = share.expose(str::to_owned);
            match accepts {
                true => vault.submit_share_to_accept(&share).await,
                false => vault.submit_share(&share).await,
            }
        }
    };
    done.map_err(|error| match error {
        UnsealError::NotInitialized
        | UnsealError::Unsealed
        | UnsealError::NoShares
        | UnsealError::ShareText(_)
        | UnsealError::Share(_)
        | UnsealError::RollbackDetected { .. }
        | UnsealError::NoRollback
        | UnsealError::Failed => ApiError::bad_request(error.to_string()),
        UnsealError::SealFile(_)
        | UnsealError::Seal(_)
        | UnsealError::Storage(_)
        | UnsealError::Barrier(_)
        | UnsealError::Mounts(_)
        | UnsealError::Read(_)
        | UnsealError::Commit(_)
        | UnsealError::Rotation(_)
        | UnsealError::Audit(_)
        | UnsealError::AuditLine(_)
        | UnsealError::Folder(_)
        | UnsealError::Unverified
        | UnsealError::AnchorRequired(_)
        | UnsealError::Task(_) => ApiError {
            public: vec!["the store does not open; the server's log says why".to_owned()],
            ..ApiError::internal(error)
        },
    })
}

fn seal_status(vault: &Vault) -> Result<JsonText, ApiError> {
    #[derive(Serialize)]
    struct Wire {
        r#type: &'static str,
        initialized: bool,
        sealed: bool,
        t: u8,
        n: u8,
        progress: usize,
        nonce: String,
        version: &'static str,
        build_date: &'static str,
        commit_date: &'static str,
        migration: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cluster_name: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cluster_id: Option<String>,
        recovery_seal: bool,
        storage_type: &'static str,
        /// Kista's own: what needs an operator's look.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    }
    let status = vault.status();
    JsonText::of(&Wire {
        r#type: "shamir",
        initialized: status.is_initialized,
        sealed: status.is_sealed,
        t: status.threshold,
        n: status.shares,
        progress: status.progress,
        nonce: status.nonce,
        version: VERSION,
        build_date: "",
        commit_date: "",
        migration: false,
        cluster_name: status.cluster_id.is_some().then_some(CLUSTER_NAME),
        cluster_id: status.cluster_id,
        recovery_seal: false,
        storage_type: "file",
        warnings: vault.warnings(),
    })
}

fn health(vault: &Vault, head: &Head) -> Result<(u16, JsonText), ApiError> {
    #[derive(Serialize)]
    struct Wire {
        initialized: bool,
        sealed: bool,
        standby: bool,
        performance_standby: bool,
        replication_performance_mode: &'static str,
        replication_dr_mode: &'static str,
        server_time_utc: u64,
        version: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        cluster_name: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cluster_id: Option<String>,
        /// Kista's own: what needs an operator's look.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    }
    let codes = HealthCodes::of(&head.query)?;
    let Status { is_initialized, is_sealed, cluster_id, .. } = vault.status();
    let mode = if is_sealed { "unknown" } else { "disabled" };
    let body = JsonText::of(&Wire {
        initialized: is_initialized,
        sealed: is_sealed,
        standby: is_sealed,
        performance_standby: false,
        replication_performance_mode: mode,
        replication_dr_mode: mode,
        server_time_utc: vault.clock().now().seconds(),
        version: VERSION,
        cluster_name: cluster_id.is_some().then_some(CLUSTER_NAME),
        cluster_id,
        warnings: vault.warnings(),
    })?;
    let status = match (is_initialized, is_sealed) {
        (false, _) => codes.uninitialized,
        (true, true) => codes.sealed,
        (true, false) => codes.active,
    };
    Ok((status, body))
}

/// The statuses that a health check may ask for.
struct HealthCodes {
    active: u16,
    sealed: u16,
    uninitialized: u16,
}

impl HealthCodes {
    fn of(query: &Query) -> Result<Self, ApiError> {
        let code = |name: &str, default: u16| match query.first(name) {
            None | Some("") => Ok(default),
            Some(text) => match text.parse() {
                Ok(code) if (100..600).contains(&code) => Ok(code),
                Ok(_) | Err(_) => Err(ApiError::bare(400)),
            },
        };
        // There is no standby here; what is asked of one is checked and has nothing to act on.
        let _ = code("standbycode", 429)?;
        if let Some(given) = query.first("standbyok") {
            parse_boolean(given).ok_or_else(|| ApiError::bare(400))?;
        }
        Ok(Self {
            active: code("activecode", 200)?,
            sealed: code("sealedcode", 503)?,
            uninitialized: code("uninitcode", 501)?,
        })
    }
}

fn leader() -> Result<JsonText, ApiError> {
    #[derive(Serialize)]
    struct Wire {
        ha_enabled: bool,
        is_self: bool,
        leader_address: &'static str,
        leader_cluster_address: &'static str,
        performance_standby: bool,
        performance_standby_last_remote_wal: u64,
    }
    JsonText::of(&Wire {
        ha_enabled: false,
        is_self: false,
        leader_address: "",
        leader_cluster_address: "",
        performance_standby: false,
        performance_standby_last_remote_wal: 0,
    })
}

const CLUSTER_NAME: &str = "kista";
