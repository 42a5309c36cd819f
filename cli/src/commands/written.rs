//! What `put` and `patch` say of the version that they have made, or could not make.

use kista::{
    client::{Error, Fields, JsonValue, VersionMetadata},
    secret::SecretString,
};

use super::target::Target;
use crate::{
    failure::{Exit, Failure},
    output::{self, Output},
    server::Server,
};

/// Prints the new version, and the keys that were named.
pub(crate) fn print(
    output: &Output,
    target: &Target,
    fields: &Fields,
    written: &VersionMetadata,
) -> Result<Exit, Failure> {
    print_patched(output, target, fields, &[], written)
}

/// The same of a patch: which keys it has set and which it has taken away.
pub(crate) fn print_patched(
    output: &Output,
    target: &Target,
    fields: &Fields,
    removed: &[String],
    written: &VersionMetadata,
) -> Result<Exit, Failure> {
    let keys = fields.iter().map(|(key, _)| key);
    let keys: Vec<&str> = keys.filter(|key| !removed.iter().any(|gone| gone == key)).collect();
    if output.wants_json() {
        let mut object = Fields::new();
        object.set("path", JsonValue::string(&SecretString::copy_of(&target.whole())));
        object.set("keys", output::json(&keys)?);
        if !removed.is_empty() {
            object.set("removed", output::json(&removed)?);
        }
        object.set("metadata", output::json(written)?);
        output.object(&object)?;
    } else {
        let (path, version) = (target.whole(), written.version);
        let list = |what: &str, keys: &[&str]| match keys {
            [] => String::new(),
            keys => format!("  {what}: {}", keys.join(", ")),
        };
        let gone: Vec<&str> = removed.iter().map(String::as_str).collect();
        let (keys, gone) = (list("keys", &keys), list("removed", &gone));
        output.line(&format!("{path}  version {version}{keys}{gone}"))?;
    }
    Ok(Exit::Done)
}

/// The same of a mount that keeps no versions.
pub(crate) fn print_plain(
    output: &Output,
    target: &Target,
    fields: &Fields,
) -> Result<Exit, Failure> {
    let keys: Vec<&str> = fields.iter().map(|(key, _)| key).collect();
    if output.wants_json() {
        let mut object = Fields::new();
        object.set("path", JsonValue::string(&SecretString::copy_of(&target.whole())));
        object.set("keys", output::json(&keys)?);
        output.object(&object)?;
    } else {
        output.line(&format!("{}  keys: {}", target.whole(), keys.join(", ")))?;
    }
    Ok(Exit::Done)
}

/// Why nothing was written, and for a conflict where the current version stands.
pub(crate) async fn failure(server: &Server, verb: &str, path: &str, error: Error) -> Failure {
    let is_conflict = matches!(error, Error::CasConflict);
    let failure = server.explain(&format!("{verb} {path}"), error).await;
    if is_conflict {
        failure.hint(format!("metadata.version of: kista get {path} --json"))
    } else {
        failure
    }
}
