use std::{env, ffi::OsString, path::PathBuf};

use super::BuildError;
use crate::secret::SecretString;

/// What the environment says about the server: `KISTA_*`, else `BAO_*`, else `VAULT_*`, each
/// variable by itself. An empty variable counts as absent.
#[derive(Debug)]
pub struct Environment {
    /// `…_ADDR`
    pub address: Option<Setting<String>>,
    /// `…_TOKEN`
    pub token: Option<Setting<SecretString>>,
    /// `…_CACERT`, a PEM file.
    pub ca_file: Option<Setting<PathBuf>>,
    /// `…_NAMESPACE`
    pub namespace: Option<Setting<String>>,
}

/// A value, and the variable that it came from.
#[derive(Debug)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Such as `VAULT_ADDR`.
    pub variable: String,
}

impl Environment {
    /// Reads the variables of this process.
    ///
    /// # Errors
    /// [`BuildError::SkipVerify`] when one of them asks not to verify certificates, and
    /// [`BuildError::NotText`] when one that is needed is not Unicode.
    pub fn read() -> Result<Self, BuildError> {
        Self::from(|name| env::var_os(name))
    }

    fn from(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, BuildError> {
        let first = |suffix: &str| {
            PREFIXES.iter().find_map(|prefix| {
                let variable = format!("{prefix}{suffix}");
                let value = lookup(&variable).filter(|value| !value.is_empty())?;
                Some(Setting { value, variable })
            })
        };
        if let Some(skip) = first("SKIP_VERIFY")
            && !FALSE.iter().any(|word| skip.value.eq_ignore_ascii_case(word))
        {
            return Err(BuildError::SkipVerify { variable: skip.variable });
        }
        Ok(Self {
            address: first("ADDR").map(text).transpose()?,
            token: first("TOKEN").map(text).transpose()?.map(|token| Setting {
                value: SecretString::from_string(token.value),
                variable: token.variable,
            }),
            ca_file: first("CACERT")
                .map(|ca| Setting { value: PathBuf::from(ca.value), variable: ca.variable }),
            namespace: first("NAMESPACE").map(text).transpose()?,
        })
    }
}

fn text(setting: Setting<OsString>) -> Result<Setting<String>, BuildError> {
    match setting.value.into_string() {
        Ok(value) => Ok(Setting { value, variable: setting.variable }),
        Err(_) => Err(BuildError::NotText { variable: setting.variable }),
    }
}

/// In order of precedence.
const PREFIXES: [&str; 3] = ["KISTA_", "BAO_", "VAULT_"];

/// What Go's `strconv.ParseBool`, by which Vault's clients read the variable, takes for false.
const FALSE: [&str; 3] = ["0", "f", "false"];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Environment, BuildError> {
        Environment::from(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_nearer_name_wins_for_each_variable() {
        let environment = of(&[
            ("VAULT_ADDR", "https://v:8200"),
            ("BAO_ADDR", "https://b:8200"),
            ("VAULT_TOKEN", "hvs.v"),
            ("KISTA_TOKEN", ""),
        ])
        .unwrap();
        let address = environment.address.unwrap();
        assert_eq!((&*address.value, &*address.variable), ("https://b:8200", "BAO_ADDR"));
        assert_eq!(environment.token.unwrap().variable, "VAULT_TOKEN");
        assert!(environment.ca_file.is_none());
    }

    #[test]
    fn skipping_verification_is_refused_by_name() {
        let refused = of(&[("VAULT_SKIP_VERIFY", "true")]).unwrap_err();
        assert!(refused.to_string().contains("VAULT_SKIP_VERIFY"), "{refused}");
        assert!(of(&[("VAULT_SKIP_VERIFY", "false")]).is_ok());
        assert!(of(&[("BAO_SKIP_VERIFY", "0")]).is_ok());
    }

    #[test]
    fn debug_shows_no_token() {
        let environment = of(&[("KISTA_TOKEN", "hvs.planted")]).unwrap();
        assert!(!format!("{environment:?}").contains("planted"));
    }
}
