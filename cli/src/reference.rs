//! How a secret, or one value of it, is named wherever a path may stand:
//! `mount/path[#key]` or `kista://[context/]mount/path[#key][?version=N&default=TEXT]`.
//!
//! The first name of the long form is a context where there is one of that name and a mount and a
//! path follow; `kista:///mount/path` means the usual context whatever there is. `#` begins the key
//! in both forms. In the long form names are percent-encoded as in a URL, so `%23` is a `#`.

use std::{
    fmt::{self, Display},
    ops::Deref,
    str::FromStr,
    sync::Arc,
};

use kista::secret::SecretString;
use zeroize::Zeroizing;

use crate::context;

/// A secret, or one value of it, as the user names it.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) place: Place,
    /// The one value that is meant.
    pub(crate) key: Option<String>,
    /// An earlier version.
    pub(crate) version: Option<u64>,
    /// The value where there is no such secret or key.
    pub(crate) default: Option<Arc<SecretString>>,
}

/// Where a secret or a folder is: a reference without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The context to look in; `None` for the usual one.
    pub(crate) context: Option<String>,
    /// Mount and path, such as `secret/app/db`.
    path: String,
}

/// Why a text names no secret. Nothing of a default is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReferenceError {
    #[error("a default is for one value: kista://mount/path#key?default=TEXT")]
    DefaultOfAll,
    #[error("it names nothing: a reference is mount/path or kista://mount/path#key")]
    Empty,
    #[error("after '#' comes a key, and there is none")]
    NoKey,
    #[error("the key comes before '?': kista://mount/path#key?version=N")]
    KeyAfterQuery,
    #[error("a '%' is not followed by two hexadecimal digits (write %25 for '%')")]
    Encoding,
    #[error("what its %XX spell is not UTF-8 text")]
    NotText,
    #[error("there is no setting {0:?}: after '?' come version=N and default=TEXT")]
    Setting(String),
    #[error("{0} is given twice")]
    Twice(&'static str),
    #[error("a version is a number from 1")]
    Version,
    #[error(
        "'#' begins a key, and this is about a whole secret or folder (kista:// and %23: a '#')"
    )]
    Key,
    #[error("version and default are for reading a value")]
    Settings,
    #[error("{0}:// is another program's reference; Kista's is kista://mount/path#key")]
    Foreign(String),
}

impl Reference {
    /// Reads a reference. `is_context` tells whether there is a context of a name.
    pub(crate) fn parse(
        text: &str,
        is_context: impl Fn(&str) -> bool,
    ) -> Result<Self, ReferenceError> {
        match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => long(rest, is_context),
            Some((scheme, _)) if !scheme.contains(['/', '#']) => {
                Err(ReferenceError::Foreign(scheme.to_owned()))
            }
            Some(_) | None => short(text),
        }
    }

    /// Whether a text is meant as a reference in the long form, as in a file of other values.
    pub(crate) fn is_long(text: &str) -> bool {
        text.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// Reads a reference; the contexts are the user's.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, context::exists)
    }
}

impl Place {
    /// Another path in the same context.
    pub(crate) fn with_path(&self, path: &str) -> Self {
        Self { context: self.context.clone(), path: path.to_owned() }
    }

    /// The same path in another context.
    pub(crate) fn in_context(&self, context: &str) -> Self {
        Self { context: Some(context.to_owned()), path: self.path.clone() }
    }
}

impl FromStr for Place {
    type Err = ReferenceError;

    /// Reads a reference that names a whole secret or folder.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Reference { place, key, version, default } = text.parse()?;
        match (key, version, default) {
            (None, None, None) => Ok(place),
            (Some(_), _, _) => Err(ReferenceError::Key),
            (None, _, _) => Err(ReferenceError::Settings),
        }
    }
}

impl Deref for Place {
    type Target = str;

    /// Mount and path.
    fn deref(&self) -> &str {
        &self.path
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

fn short(text: &str) -> Result<Reference, ReferenceError> {
    let (path, key) = with_key(text)?;
    let place = Place { context: None, path: path.to_owned() };
    if place.path.trim_matches('/').is_empty() {
        return Err(ReferenceError::Empty);
    }
    Ok(Reference { place, key: key.map(str::to_owned), version: None, default: None })
}

fn long(rest: &str, is_context: impl Fn(&str) -> bool) -> Result<Reference, ReferenceError> {
    let (named, query) = match rest.split_once('?') {
        Some((named, query)) => (named, Some(query)),
        None => (rest, None),
    };
    let (path, key) = with_key(named)?;
    let place = place(path, is_context)?;
    let key = key.map(decoded).transpose()?;
    let mut reference = Reference { place, key, version: None, default: None };
    if let Some(query) = query {
        reference.read_settings(query)?;
    }
    if reference.default.is_some() && reference.key.is_none() {
        return Err(ReferenceError::DefaultOfAll);
    }
    Ok(reference)
}

impl Reference {
    fn read_settings(&mut self, query: &str) -> Result<(), ReferenceError> {
        for setting in query.split('&') {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            match name {
                _ if setting.contains('#') => return Err(ReferenceError::KeyAfterQuery),
                "version" if self.version.is_some() => {
                    return Err(ReferenceError::Twice("version"));
                }
                "version" => {
                    let version = value.parse().ok().filter(|version| *version > 0);
                    self.version = Some(version.ok_or(ReferenceError::Version)?);
                }
                "default" if self.default.is_some() => {
                    return Err(ReferenceError::Twice("default"));
                }
                "default" => {
                    self.default = Some(Arc::new(SecretString::from_string(decoded(value)?)));
                }
                other => return Err(ReferenceError::Setting(other.to_owned())),
            }
        }
        Ok(())
    }
}

/// Cuts the key off.
fn with_key(text: &str) -> Result<(&str, Option<&str>), ReferenceError> {
    match text.split_once('#') {
        Some((_, "")) => Err(ReferenceError::NoKey),
        Some((path, key)) => Ok((path, Some(key))),
        None => Ok((text, None)),
    }
}

/// Cuts the context off, and decodes the rest.
fn place(path: &str, is_context: impl Fn(&str) -> bool) -> Result<Place, ReferenceError> {
    let (context, path) = match path.split_once('/') {
        Some(("", path)) => (None, path),
        // A mount and a path must be left.
        Some((first, rest)) if rest.trim_end_matches('/').contains('/') && is_context(first) => {
            (Some(first.to_owned()), rest)
        }
        Some(_) | None => (None, path),
    };
    let path = decoded(path)?;
    if path.trim_matches('/').is_empty() {
        return Err(ReferenceError::Empty);
    }
    Ok(Place { context, path })
}

/// Percent-decoding (RFC 3986 §2.1).
fn decoded(text: &str) -> Result<String, ReferenceError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(ReferenceError::Encoding);
        };
        // INVARIANT: two hexadecimal digits are less than 256.
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    str::from_utf8(&bytes).map(str::to_owned).map_err(|_| ReferenceError::NotText)
}

const SCHEME: &str = "kista";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(text, |name| name == "prod")
    }

    fn parts(text: &str) -> (Option<String>, String, Option<String>, Option<u64>, Option<String>) {
        let Reference { place, key, version, default } = parse(text).unwrap();
        let default = default.map(|default| default.expose(str::to_owned));
        (place.context, place.path, key, version, default)
    }

    fn of(
        context: Option<&str>,
        path: &str,
        key: Option<&str>,
    ) -> (Option<String>, String, Option<String>, Option<u64>, Option<String>) {
        (context.map(str::to_owned), path.to_owned(), key.map(str::to_owned), None, None)
    }

    #[test]
    fn a_path_alone_is_a_reference_and_may_name_a_key() {
        assert_eq!(parts("secret/app/db"), of(None, "secret/app/db", None));
        assert_eq!(parts("secret/app/db#password"), of(None, "secret/app/db", Some("password")));
        assert_eq!(parts("secret/50%/a?b"), of(None, "secret/50%/a?b", None));
        assert_eq!(parts("secret/"), of(None, "secret/", None));
        assert_eq!(parts("prod/secret/a"), of(None, "prod/secret/a", None));
    }

    #[test]
    fn the_first_name_is_a_context_where_there_is_one() {
        assert_eq!(parts("kista://secret/a"), of(None, "secret/a", None));
        assert_eq!(parts("kista://prod/secret/a#k"), of(Some("prod"), "secret/a", Some("k")));
        assert_eq!(parts("kista://prod/a"), of(None, "prod/a", None));
        assert_eq!(parts("kista:///prod/secret/a"), of(None, "prod/secret/a", None));
        assert_eq!(parts("KISTA://secret/a"), of(None, "secret/a", None));
    }

    #[test]
    fn names_of_the_long_form_are_percent_encoded() {
        assert_eq!(parts("kista://secret/a%23b#k%3F"), of(None, "secret/a#b", Some("k?")));
        assert_eq!(parts("kista://secret/%C3%A5"), of(None, "secret/å", None));
        for (text, error) in [
            ("kista://secret/%", ReferenceError::Encoding),
            ("kista://secret/%2", ReferenceError::Encoding),
            ("kista://secret/%+1", ReferenceError::Encoding),
            ("kista://secret/%ff", ReferenceError::NotText),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn settings_come_behind_the_key() {
        let (_, path, key, version, default) =
            parts("kista://secret/a#k?version=3&default=a%26b=c");
        assert_eq!((path.as_str(), key.as_deref(), version), ("secret/a", Some("k"), Some(3)));
        assert_eq!(default.as_deref(), Some("a&b=c"));
        assert_eq!(parts("kista://secret/a?version=3").3, Some(3));
        assert_eq!(parts("kista://secret/a#k?default=").4.as_deref(), Some(""));
        for (text, error) in [
            ("kista://secret/a?version=3#k", ReferenceError::KeyAfterQuery),
            ("kista://secret/a?version=0", ReferenceError::Version),
            ("kista://secret/a?version=x", ReferenceError::Version),
            ("kista://secret/a?version=1&version=2", ReferenceError::Twice("version")),
            ("kista://secret/a?default=1&default=2", ReferenceError::Twice("default")),
            ("kista://secret/a?default=1", ReferenceError::DefaultOfAll),
            ("kista://secret/a?", ReferenceError::Setting(String::new())),
            ("kista://secret/a?attribute=x", ReferenceError::Setting("attribute".to_owned())),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["", "/", "kista://", "kista:///", "#k"] {
            assert_eq!(parse(text).unwrap_err(), ReferenceError::Empty, "{text:?}");
        }
        assert_eq!(parse("secret/a#").unwrap_err(), ReferenceError::NoKey);
        let foreign = parse("op://vault/item/field").unwrap_err();
        assert_eq!(foreign, ReferenceError::Foreign("op".to_owned()));
        assert!(Reference::is_long("kista://secret/a") && !Reference::is_long("secret/a"));
    }

    #[test]
    fn a_place_has_no_key_and_no_settings() {
        assert_eq!(&*"secret/app/".parse::<Place>().unwrap(), "secret/app/");
        assert_eq!("secret/a#k".parse::<Place>(), Err(ReferenceError::Key));
        assert_eq!("kista://secret/a?version=1".parse::<Place>(), Err(ReferenceError::Settings));
    }

    #[test]
    fn a_default_is_shown_nowhere() {
        let shown = format!("{:?}", parse("kista://secret/a#k?default=planted").unwrap());
        assert!(!shown.contains("planted"), "{shown}");
    }
}
