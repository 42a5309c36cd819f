use crate::{
    clock,
    engines::{path::SecretPath, plain},
    gate::{ApiError, Object},
    route::{Fields, FromFields},
    secret::SecretBytes,
};

/// `POST :path`: the whole body is the secret.
pub(super) struct WriteInput {
    pub(super) path: String,
    pub(super) record: SecretBytes,
}

impl FromFields for WriteInput {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let SecretPath(path) = SecretPath::of_write(fields)?;
        Ok(Self { path, record: plain::record_in(fields)? })
    }
}

/// Seconds that a secret itself says its reader may keep it, under `ttl` or, as in old times,
/// `lease`. What does not read as a duration says nothing.
pub(super) fn lease_of(secret: &[u8]) -> Option<u64> {
    let object = Object::of_checked(secret);
    let said = object.get("ttl").or_else(|| object.get("lease"))?.get();
    let text = serde_json::from_str::<String>(said).unwrap_or_else(|_| said.to_owned());
    clock::parse_duration(&text).ok().map(|duration| duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_may_say_how_long_it_holds() {
        for (secret, seconds) in [
            (r#"{"ttl":"1h","v":"x"}"#, Some(3_600)),
            (r#"{"ttl":90}"#, Some(90)),
            (r#"{"ttl":"45"}"#, Some(45)),
            (r#"{"lease":"2m"}"#, Some(120)),
            (r#"{"ttl":"soon"}"#, None),
            (r#"{"ttl":null}"#, None),
            (r#"{"ttl":{"a":1}}"#, None),
            (r#"{"v":1}"#, None),
        ] {
            assert_eq!(lease_of(secret.as_bytes()), seconds, "{secret}");
        }
    }
}
