//! The body of a call to any route.

use std::path::Path;

use kista::{
    client::{Fields, JsonValue},
    secret::{SecretBytes, SecretString},
};

use crate::{
    failure::Failure,
    files, prompt,
    values::{self, SourceArguments},
};

/// Reads the body: JSON from stdin (`-`) or a file (`@FILE`), else an object of the keys given.
pub(crate) fn read(
    arguments: &[String],
    sources: &SourceArguments,
) -> Result<SecretBytes, Failure> {
    match arguments {
        [one] if one == "-" => object(prompt::stdin_text()?, "stdin"),
        [one] if one.starts_with('@') => {
            let file = Path::new(one.trim_start_matches('@'));
            let name = file.display().to_string();
            object(prompt::text(files::read(file)?, &name)?, &name)
        }
        keys => {
            let assignments = sources.assignments(keys)?;
            let fields = values::fetch(&assignments, sources.look())?;
            Ok(fields.to_json())
        }
    }
}

/// Takes a JSON object as it is.
fn object(text: SecretString, origin: &str) -> Result<SecretBytes, Failure> {
    let is_object = text.expose(|text| serde_json::from_str::<Fields>(text).is_ok());
    if !is_object {
        return Err(Failure::usage(format!("what {origin} holds is not one JSON object")));
    }
    let json =
        JsonValue::parse(text).map_err(|error| Failure::usage(format!("{origin}: {error}")))?;
    Ok(json.expose_json(|json| SecretBytes::copy_of(json.as_bytes())))
}
