use std::time::Duration;

use crate::{
    engines::transit::{
        keys,
        kind::Kind,
        record::{Derivation, Settings},
    },
    gate::ApiError,
    route::Fields,
};

/// What is asked of a new key.
#[derive(Debug, Clone)]
pub(in crate::engines::transit) struct NewKey {
    pub(in crate::engines::transit) kind: Kind,
    pub(in crate::engines::transit) derived: bool,
    pub(in crate::engines::transit) convergent: bool,
    pub(in crate::engines::transit) exportable: bool,
    pub(in crate::engines::transit) allow_plaintext_backup: bool,
    pub(in crate::engines::transit) auto_rotate: Duration,
    /// Bytes, of `hmac` alone.
    pub(in crate::engines::transit) key_size: u32,
}

impl NewKey {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let kind = kind(fields)?;
        Ok(Self {
            kind,
            derived: fields.boolean("derived")?.unwrap_or(false),
            convergent: fields.boolean("convergent_encryption")?.unwrap_or(false),
            exportable: fields.boolean("exportable")?.unwrap_or(false),
            allow_plaintext_backup: fields.boolean("allow_plaintext_backup")?.unwrap_or(false),
            auto_rotate: auto_rotate(fields)?.unwrap_or_default(),
            key_size: key_size(fields, kind)?,
        })
    }

    /// Of `encrypt/:name`, which makes keys that encrypt.
    pub(in crate::engines::transit) fn of_upsert(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let kind = kind(fields)?;
        Ok(Self {
            kind,
            derived: false,
            convergent: fields.boolean("convergent_encryption")?.unwrap_or(false),
            exportable: false,
            allow_plaintext_backup: false,
            auto_rotate: Duration::ZERO,
            key_size: 0,
        })
    }

    /// A key that is made by a request with a context is derived.
    pub(in crate::engines::transit) fn with_context(self, has_context: bool) -> Self {
        Self { derived: has_context, ..self }
    }

    /// Refuses what does not go together.
    pub(in crate::engines::transit) fn check(&self) -> Result<(), ApiError> {
        let Self { kind, derived, convergent, key_size, .. } = *self;
        let refuse = |text: String| Err(ApiError::bad_request(text));
        if convergent && !derived {
            return refuse("convergent encryption requires derivation to be enabled".to_owned());
        }
        if derived && !kind.derives() {
            return refuse(format!(
                "key derivation and convergent encryption not supported for keys of type {}",
                kind.word()
            ));
        }
        if convergent && !kind.converges() {
            return refuse(format!(
                "convergent encryption not supported for keys of type {}",
                kind.word()
            ));
        }
        if kind == Kind::Hmac && key_size == 0 {
            return refuse(
                "invalid key size for HMAC key, must be between 32 and 512 bytes".to_owned(),
            );
        }
        Ok(())
    }

    pub(in crate::engines::transit) fn settings(&self) -> Settings {
        Settings {
            derived: self.derived,
            kdf: Derivation::Hkdf,
            convergent: self.convergent,
            exportable: self.exportable,
            allow_plaintext_backup: self.allow_plaintext_backup,
            auto_rotate: self.auto_rotate,
            key_size: self.key_size,
            ..Settings::new(keys::new_id(), self.kind)
        }
    }
}

fn kind(fields: &Fields<'_>) -> Result<Kind, ApiError> {
    let word = fields.text("type")?.filter(|word| !word.is_empty());
    let word = word.as_deref().unwrap_or("aes256-gcm96");
    Kind::of_word(word).ok_or_else(|| ApiError::bad_request(format!("unknown key type {word}")))
}

fn key_size(fields: &Fields<'_>, kind: Kind) -> Result<u32, ApiError> {
    let Some(asked) = fields.integer("key_size")?.filter(|size| *size != 0) else { return Ok(0) };
    if kind != Kind::Hmac {
        return Err(ApiError::bad_request(format!(
            "key_size is not valid for algorithm {}",
            kind.word()
        )));
    }
    u32::try_from(asked)
        .ok()
        .filter(|size| HMAC_KEY_BYTES.contains(size))
        .ok_or_else(|| ApiError::bad_request(format!("invalid key_size {asked}")))
}

/// Lengths of a key of type `hmac`, in bytes.
pub(in crate::engines::transit) const HMAC_KEY_BYTES: std::ops::RangeInclusive<u32> = 32..=512;

pub(in crate::engines::transit) fn auto_rotate(
    fields: &Fields<'_>,
) -> Result<Option<Duration>, ApiError> {
    let period = fields.duration("auto_rotate_period")?;
    if period.is_some_and(|period| !period.is_zero() && period < Duration::from_secs(3_600)) {
        return Err(ApiError::bad_request(
            "auto rotate period must be 0 to disable or at least an hour",
        ));
    }
    Ok(period)
}
