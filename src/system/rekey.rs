//! `sys/rekey/*`, bare as in Vault, and the same as `sys/rotate/root/*` in the envelope, as in
//! OpenBao. Differs from both: a wrong nonce is not told the right one, and what the caller got
//! wrong is always a 400.
//!
//! Kista's own members: `keep` and `drop` (ids of slots) of `init`, `passphrase` and `keyfile` of
//! `update`; in answers `slots_dropped`, when slots are to go or have gone.

use std::future::Future;

use serde::Serialize;

use super::{
    System,
    slots::{SlotOutput, base64, hex, keyfile, refusal, slot_id, texts},
};
use crate::{
    gate::{ApiError, Permit},
    route::{Fields, FromFields, Reply},
    seal::{RekeyPlan, RekeyStatus, Secret, ShareCounts, VerifyStatus, parse_share},
    secret::{SecretBytes, SecretString},
    vault::{RekeyAnswer, Shown, Vault},
};

/// One of the calls, whichever way it came.
pub(super) trait Ask: FromFields {
    /// Does it.
    fn answer(self, vault: &Vault) -> impl Future<Output = Result<Answer, ApiError>> + Send;
}

/// What a call leads to.
#[derive(Debug)]
pub(super) enum Answer {
    Nothing,
    /// None is under way, and one would need so many secrets.
    Idle {
        required: usize,
    },
    Status(RekeyStatus),
    Complete(RekeyStatus, Vec<SecretBytes>),
    Verify(VerifyStatus),
    Verified {
        nonce: String,
    },
}

/// `GET …/init`.
pub(super) struct Status;
/// `POST …/init`.
pub(super) struct Begin(RekeyPlan);
/// `DELETE …/init`.
pub(super) struct Cancel(Option<String>);
/// `POST …/update`.
pub(super) struct Update {
    nonce: String,
    shown: Shown,
}
/// `GET …/verify`.
pub(super) struct VerifyState;
/// `POST …/verify`.
pub(super) struct Verify {
    nonce: String,
    share: SecretBytes,
}
/// `DELETE …/verify`.
pub(super) struct RestartVerify(Option<String>);
/// `GET …/backup`.
pub(super) struct Backup;
/// `DELETE …/backup`.
pub(super) struct DropBackup;

impl System {
    /// `sys/rekey/*`.
    pub(super) async fn rekey<A: Ask>(
        &self,
        _: &Permit<'_>,
        ask: A,
    ) -> Result<Reply<Wire>, ApiError> {
        Ok(ask.answer(&self.vault).await?.bare())
    }

    /// `sys/rotate/root/*`.
    pub(super) async fn rotate_root<A: Ask>(
        &self,
        _: &Permit<'_>,
        ask: A,
    ) -> Result<Reply<Wire>, ApiError> {
        Ok(ask.answer(&self.vault).await?.enveloped())
    }

    /// `POST sys/rotate/root`. Differs from OpenBao: a new root key must be wrapped for each slot
    /// again, which takes the secrets of their holders.
    pub(super) async fn rotate_root_alone(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<Wire>, ApiError> {
        Err(ApiError::bad_request(
            "a new root key needs the secrets of the slots that shall open it: begin with \
             sys/rotate/root/init, or kista operator rekey",
        ))
    }

    /// `GET sys/rekey-recovery-key/init`.
    pub(super) async fn rekey_recovery(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<Wire>, ApiError> {
        Err(ApiError::bad_request("recovery rekeying not supported"))
    }
}

impl FromFields for Status {
    fn from_fields(_: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self)
    }
}

impl Ask for Status {
    async fn answer(self, vault: &Vault) -> Result<Answer, ApiError> {
        Ok(match vault.rekey_status().await.map_err(refusal)? {
            Ok(status) => Answer::Status(status),
            Err(required) => Answer::Idle { required },
        })
    }
}

impl FromFields for Begin {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        if fields.raw("pgp_keys").is_some_and(|raw| !matches!(raw, "\"\"" | "[]")) {
            return Err(ApiError::bad_request(
                "\"pgp_keys\" is not supported; take the shares over TLS and hand them out",
            ));
        }
        if fields.boolean("backup")?.unwrap_or(false) {
            return Err(ApiError::bad_request(
                "cannot request a backup of the new keys without providing PGP keys for encryption",
            ));
        }
        let stored = fields.integer("stored_shares")?.unwrap_or(0);
        if stored != 0 {
            return Err(ApiError::bad_request(
                "parameters stored_shares not applicable to seal type shamir",
            ));
        }
        let ids = |name| -> Result<Option<Vec<[u8; 16]>>, ApiError> {
            fields.list(name)?.map(|ids| ids.iter().map(|id| slot_id(id)).collect()).transpose()
        };
        let keep = ids("keep")?;
        let shares = fields.integer("secret_shares")?.unwrap_or(0);
        let threshold = fields.integer("secret_threshold")?.unwrap_or(0);
        // Who names the slots to keep may do without new shares.
        let counts = (keep.is_none() || shares != 0 || threshold != 0).then(|| {
            ShareCounts::new(threshold, shares).map_err(|error| {
                ApiError::bad_request(format!("invalid rekey seal configuration: {error}"))
            })
        });
        Ok(Self(RekeyPlan {
            shares: counts.transpose()?,
            keep,
            drop: ids("drop")?.unwrap_or_default(),
            require_verification: fields.boolean("require_verification")?.unwrap_or(false),
        }))
    }
}

impl Ask for Begin {
    async fn answer(self, vault: &Vault) -> Result<Answer, ApiError> {
        vault.begin_rekey(self.0).await.map(Answer::Status).map_err(refusal)
    }
}

impl FromFields for Cancel {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self(fields.text("nonce")?.filter(|nonce| !nonce.is_empty())))
    }
}

impl Ask for Cancel {
    async fn answer(self, vault: &Vault) -> Result<Answer, ApiError> {
        vault.cancel_rekey(self.0.as_deref()).await.map_err(refusal)?;
        Ok(Answer::Nothing)
    }
}

impl FromFields for Update {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let shown = if let Some(passphrase) = fields.text("passphrase")? {
            Shown::Secret(Secret::Passphrase(SecretString::from_string(passphrase)))
        } else if fields.raw("keyfile").is_some() {
            Shown::Secret(Secret::Keyfile(keyfile(fields, "keyfile")?))
        } else {
            Shown::Share(share(fields)?)
        };
        Ok(Self { nonce: nonce(fields)?, shown })
    }
}

impl Ask for Update {
    async fn answer(self, vault: &Vault) -> Result<Answer, ApiError> {
        let stretches = matches!(self.shown, Shown::Secret(Secret::Passphrase(_)));
        let _place = stretches.then(|| vault.stretching()).transpose()?;
        let shown = vault.show_to_rekey(&self.nonce, self.shown).await;
        Ok(match shown.map_err(refusal)? {
            RekeyAnswer::More(status) => Answer::Status(status),
            RekeyAnswer::MustVerify(status, shares) | RekeyAnswer::Done(status, shares) => {
                Answer::Complete(status, shares)
            }
        })
    }
}

impl FromFields for VerifyState {
    fn from_fields(_: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self)
    }
}

impl Ask for VerifyState {
    async fn answer(self, vault: &Vault) -> Result<Answer, ApiError> {
        vault.rekey_verification().await.map(Answer::Verify).map_err(refusal)
    }
}

impl FromFields for Verify {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self { share: share(fields)?, nonce: nonce(fields)? })
    }
}

impl Ask for Verify {
    async fn answer(self, vault: &Vault) -> Result<Answer, ApiError> {
        let Self { nonce, share } = self;
        Ok(match vault.verify_rekey(&nonce, share).await.map_err(refusal)? {
            Some(status) => Answer::Verify(status),
            None => Answer::Verified { nonce },
        })
    }
}

impl FromFields for RestartVerify {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self(fields.text("nonce")?.filter(|nonce| !nonce.is_empty())))
    }
}

impl Ask for RestartVerify {
    async fn answer(self, vault: &Vault) -> Result<Answer, ApiError> {
        vault
            .restart_rekey_verification(self.0.as_deref())
            .await
            .map(Answer::Verify)
            .map_err(refusal)
    }
}

impl FromFields for Backup {
    fn from_fields(_: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self)
    }
}

/// Only shares encrypted to PGP keys are ever backed up, and those are not supported.
impl Ask for Backup {
    async fn answer(self, _: &Vault) -> Result<Answer, ApiError> {
        Err(ApiError::bad_request("no backed-up keys found"))
    }
}

impl FromFields for DropBackup {
    fn from_fields(_: &Fields<'_>) -> Result<Self, ApiError> {
        Ok(Self)
    }
}

impl Ask for DropBackup {
    async fn answer(self, _: &Vault) -> Result<Answer, ApiError> {
        Ok(Answer::Nothing)
    }
}

/// The body of every answer; what an answer does not have is left out.
#[derive(Debug, Default, Serialize)]
pub(super) struct Wire {
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_base64: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    /// Always `null` where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pgp_fingerprints: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_nonce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_required: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    slots_dropped: Vec<SlotOutput>,
}

impl Answer {
    /// As `sys/rekey/*` answers.
    fn bare(self) -> Reply<Wire> {
        let Some(mut wire) = self.wire() else { return Reply::nothing() };
        // What Vault leaves out when it is empty.
        wire.verification_nonce.take_if(|nonce| nonce.is_empty());
        if wire.required.is_some() || wire.keys.is_some() {
            (wire.backup, wire.pgp_fingerprints) = (Some(false), Some(()));
        }
        if wire.started == Some(false) {
            (wire.nonce, wire.progress) = (Some(String::new()), Some(0));
            wire.verification_required = Some(false);
        }
        Reply::of(wire).bare()
    }

    /// As `sys/rotate/root/*` answers.
    fn enveloped(self) -> Reply<Wire> {
        let Some(mut wire) = self.wire() else { return Reply::nothing() };
        if wire.keys.is_some() {
            (wire.backup, wire.pgp_fingerprints) = (Some(false), Some(()));
        }
        Reply::of(wire)
    }

    fn wire(self) -> Option<Wire> {
        Some(match self {
            Self::Nothing => return None,
            Self::Idle { required } => Wire {
                started: Some(false),
                required: Some(required),
                n: Some(0),
                t: Some(0),
                ..Wire::default()
            },
            Self::Status(status) => Wire {
                n: Some(status.counts.map_or(0, ShareCounts::shares)),
                t: Some(status.counts.map_or(0, ShareCounts::threshold)),
                nonce: Some(status.nonce),
                progress: Some(status.progress),
                required: Some(status.required),
                started: Some(true),
                verification_nonce: Some(status.verification_nonce),
                verification_required: Some(status.require_verification),
                slots_dropped: status.drops.iter().map(SlotOutput::of_summary).collect(),
                ..Wire::default()
            },
            Self::Complete(status, shares) => Wire {
                complete: Some(true),
                keys: Some(texts(&shares, hex)),
                keys_base64: Some(texts(&shares, base64)),
                nonce: Some(status.nonce),
                verification_nonce: Some(match status.require_verification {
                    true => status.verification_nonce,
                    false => String::new(),
                }),
                verification_required: Some(status.require_verification),
                slots_dropped: status.drops.iter().map(SlotOutput::of_summary).collect(),
                ..Wire::default()
            },
            Self::Verify(status) => Wire {
                n: Some(status.counts.shares()),
                t: Some(status.counts.threshold()),
                nonce: Some(status.nonce),
                progress: Some(status.progress),
                started: Some(true),
                ..Wire::default()
            },
            Self::Verified { nonce } => {
                Wire { complete: Some(true), nonce: Some(nonce), ..Wire::default() }
            }
        })
    }
}

fn share(fields: &Fields<'_>) -> Result<SecretBytes, ApiError> {
    let text = SecretString::from_string(fields.text("key")?.unwrap_or_default());
    if text.is_empty() {
        return Err(ApiError::bad_request("'key' must be specified in request body as JSON"));
    }
    let share = text.expose(parse_share);
    share.map_err(|error| ApiError::bad_request(error.to_string()))
}

fn nonce(fields: &Fields<'_>) -> Result<String, ApiError> {
    Ok(fields.text("nonce")?.unwrap_or_default())
}
