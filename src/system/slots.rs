use serde::Serialize;

use super::System;
use crate::{
    crypto::{Argon2Params, Kek},
    gate::{ApiError, Permit},
    route::{Fields, FromFields, Nothing, Reply},
    seal::{
        CredentialName, NewSlot, OpensBy, Provider, RekeyRefused, ShareCounts, SlotDetails,
        SlotError, SlotSummary, SlotType, SlotsError,
    },
    secret::{Key, SecretBytes, SecretString},
    vault::SlotChangeError,
};

/// `POST sys/slots`, which is Kista's own and strict.
pub(super) struct AddSlot(Wish);

enum Wish {
    Shares(ShareCounts),
    Passphrase(SecretString),
    Keyfile(Key<Kek>),
    Credential(CredentialName),
}

impl FromFields for AddSlot {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let kind = fields.text("type")?.unwrap_or_default();
        let wish = match kind.as_str() {
            "shares" => {
                let number = |name| Ok::<_, ApiError>(fields.integer(name)?.unwrap_or(0));
                let counts = ShareCounts::new(number("threshold")?, number("shares")?);
                Wish::Shares(counts.map_err(|error| ApiError::bad_request(error.to_string()))?)
            }
            "passphrase" => {
                let text = fields.text("passphrase")?.unwrap_or_default();
                Wish::Passphrase(SecretString::from_string(text))
            }
            "keyfile" => Wish::Keyfile(keyfile(fields, "key")?),
            "systemd-credential" => {
                let name = fields.text("name")?.unwrap_or_default();
                let name = CredentialName::new(&name);
                Wish::Credential(name.map_err(|bad| ApiError::bad_request(bad.to_string()))?)
            }
            _ => {
                return Err(ApiError::bad_request(
                    "type must be shares, passphrase, keyfile or systemd-credential",
                ));
            }
        };
        refuse_unknown(fields)?;
        Ok(Self(wish))
    }
}

/// `DELETE sys/slots/:id`.
pub(super) struct DropSlot {
    id: [u8; 16],
    keeps_root: bool,
}

impl FromFields for DropSlot {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let given = fields.query("keep_root").unwrap_or("false");
        let keeps_root = match given {
            "true" => true,
            "false" => false,
            _ => return Err(ApiError::bad_request("keep_root must be true or false")),
        };
        refuse_unknown(fields)?;
        Ok(Self { id: slot_id(fields.parameter("id"))?, keeps_root })
    }
}

/// A slot, as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct SlotOutput {
    id: String,
    r#type: &'static str,
    /// Whether a person can open it.
    human: bool,
    created_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<u8>,
    /// MiB, passes and lanes of Argon2id.
    #[serde(skip_serializing_if = "Option::is_none")]
    argon2id: Option<[u32; 3]>,
    /// Of a credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl SlotOutput {
    fn of(slot: &SlotDetails) -> Self {
        let mut output = Self::of_summary(&slot.summary);
        match &slot.opens_by {
            OpensBy::Shares { threshold, shares } => {
                (output.threshold, output.shares) = (Some(*threshold), Some(*shares));
            }
            OpensBy::Passphrase(Argon2Params { m_kib, t, p }) => {
                output.argon2id = Some([m_kib / 1024, *t, u32::from(*p)]);
            }
            OpensBy::Keyfile => {}
            OpensBy::Automatic(provider) => output.name = Some(provider.name().to_owned()),
        }
        output
    }

    pub(super) fn of_summary(summary: &SlotSummary) -> Self {
        Self {
            id: data_encoding::HEXLOWER.encode(&summary.id),
            r#type: match summary.slot_type {
                SlotType::Passphrase => "passphrase",
                SlotType::Shares => "shares",
                SlotType::Keyfile => "keyfile",
                SlotType::Automatic => "systemd-credential",
            },
            human: summary.human,
            created_time: summary.created.rfc3339(),
            threshold: None,
            shares: None,
            argon2id: None,
            name: None,
        }
    }
}

/// `data` of `GET sys/slots`.
#[derive(Debug, Serialize)]
pub(super) struct SlotList {
    /// Counts writings of the seal file.
    epoch: u64,
    slots: Vec<SlotOutput>,
}

/// `data` of `POST sys/slots`.
#[derive(Debug, Serialize)]
pub(super) struct SlotAdded {
    slot: SlotOutput,
    /// The shares that were made, shown once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys_base64: Vec<String>,
}

impl System {
    /// `GET sys/slots`.
    pub(super) async fn list_slots(
        &self,
        _: &Permit<'_>,
        (): (),
    ) -> Result<Reply<SlotList>, ApiError> {
        let (epoch, slots) = self.vault.slots().await.map_err(refusal)?;
        Ok(Reply::of(SlotList { epoch, slots: slots.iter().map(SlotOutput::of).collect() }))
    }

    /// `POST sys/slots`.
    pub(super) async fn add_slot(
        &self,
        _: &Permit<'_>,
        AddSlot(wish): AddSlot,
    ) -> Result<Reply<SlotAdded>, ApiError> {
        let stretches = matches!(wish, Wish::Passphrase(_));
        let _place = stretches.then(|| self.vault.stretching()).transpose()?;
        let slot = match wish {
            Wish::Shares(counts) => NewSlot::Shares(counts),
            Wish::Keyfile(key) => NewSlot::Keyfile(key),
            Wish::Passphrase(passphrase) => {
                let params = tokio::task::spawn_blocking(Argon2Params::calibrate).await;
                NewSlot::Passphrase(passphrase, params.map_err(ApiError::internal)?)
            }
            Wish::Credential(name) => {
                let provider = Provider::SystemdCredential(name);
                let key = self.vault.provider_key(&provider);
                let key = key.map_err(|error| ApiError::bad_request(error.to_string()))?;
                NewSlot::Automatic(provider, key)
            }
        };
        let (slot, shares) = self.vault.add_slot(slot).await.map_err(refusal)?;
        let (keys, keys_base64) = (texts(&shares, hex), texts(&shares, base64));
        Ok(Reply::of(SlotAdded { slot: SlotOutput::of(&slot), keys, keys_base64 }))
    }

    /// `DELETE sys/slots/:id`.
    pub(super) async fn drop_slot(
        &self,
        _: &Permit<'_>,
        DropSlot { id, keeps_root }: DropSlot,
    ) -> Result<Reply<Nothing>, ApiError> {
        if !keeps_root {
            return Err(ApiError::bad_request(
                "without another root key an old copy of the seal file and the slot's secret still \
                 open the store: drop it with a rekey (kista operator slot drop). keep_root=true \
                 stops honest use only",
            ));
        }
        self.vault.drop_slot_keeping_root(id).await.map_err(refusal)?;
        Ok(Reply::nothing())
    }
}

/// What the caller got wrong, apart from what is ours.
pub(super) fn refusal(error: SlotChangeError) -> ApiError {
    let text = error.to_string();
    match error {
        SlotChangeError::Sealed => ApiError::sealed(),
        SlotChangeError::Commit(error) => error.into(),
        SlotChangeError::Slots(SlotsError::NoSuchSlot) => ApiError::new(404, text),
        SlotChangeError::Slots(
            SlotsError::Write(_) | SlotsError::Slot(SlotError::Stretch(_) | SlotError::Split(_)),
        )
        | SlotChangeError::Rekey(RekeyRefused::Stretch(_) | RekeyRefused::Slot(_))
        | SlotChangeError::Write(_) => ApiError { public: vec![text], ..ApiError::internal(error) },
        SlotChangeError::Task(_) => ApiError::internal(error),
        SlotChangeError::Slots(_)
        | SlotChangeError::Rekey(_)
        | SlotChangeError::RekeyUnderWay
        | SlotChangeError::AlreadyBegun
        | SlotChangeError::NotBegun
        | SlotChangeError::NothingToVerify
        | SlotChangeError::Nonce => ApiError::bad_request(text),
    }
}

/// A member that is 32 bytes in base64.
pub(super) fn keyfile(fields: &Fields<'_>, name: &str) -> Result<Key<Kek>, ApiError> {
    let text = SecretString::from_string(fields.text(name)?.unwrap_or_default());
    let bytes = text.expose(crate::seal::parse_share);
    bytes.ok().and_then(|bytes| bytes.expose(Key::copy_of).ok()).ok_or_else(|| {
        ApiError::bad_request(format!("{name:?} must be the 32 bytes of a keyfile, in base64"))
    })
}

pub(super) fn slot_id(text: &str) -> Result<[u8; 16], ApiError> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap_or_default();
    bytes.try_into().map_err(|_| {
        ApiError::bad_request("a slot's id is 32 hexadecimal digits; GET sys/slots lists them")
    })
}

/// Shares as the wire shows them.
pub(super) fn texts(shares: &[SecretBytes], encoding: fn(&[u8]) -> String) -> Vec<String> {
    shares.iter().map(|share| share.expose(encoding)).collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

pub(super) fn base64(bytes: &[u8]) -> String {
    data_encoding::BASE64.encode(bytes)
}

fn refuse_unknown(fields: &Fields<'_>) -> Result<(), ApiError> {
    match fields.unknown().as_slice() {
        [] => Ok(()),
        unknown => {
            Err(ApiError::bad_request(format!("these are not known here: {}", unknown.join(", "))))
        }
    }
}
