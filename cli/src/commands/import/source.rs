//! What a file holds, and which secrets that makes. What is wrong with it is told by its line, and
//! never quoted.

use std::path::Path;

use clap::ValueEnum;
use kista::{
    client::{Fields, JsonValue},
    secret::SecretString,
};
use serde_json::error::Category;

use crate::{dotenv, failure::Failure, files, prompt, yaml};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// Lines NAME=value
    #[value(alias = "env")]
    Dotenv,
    /// One JSON object
    Json,
    /// One YAML mapping
    Yaml,
}

/// A secret that a file makes.
#[derive(Debug)]
pub(super) struct Imported {
    /// Mount and path.
    pub(super) path: String,
    pub(super) fields: Fields,
}

/// The whole of a file, or of stdin for `-`.
pub(super) fn text(file: &Path) -> Result<SecretString, Failure> {
    if file.as_os_str() == "-" {
        return prompt::text(prompt::stdin_whole()?, "stdin");
    }
    prompt::text(files::read(file)?, &shown(file))
}

/// The file as messages name it.
pub(super) fn shown(file: &Path) -> String {
    if file.as_os_str() == "-" { "stdin".to_owned() } else { file.display().to_string() }
}

impl Form {
    /// The secrets of a file, in its order. `to` is where they go.
    pub(super) fn secrets(
        self,
        text: &SecretString,
        shown: &str,
        to: Option<&str>,
        one: bool,
    ) -> Result<Vec<Imported>, Failure> {
        let not_understood =
            |why: String| Failure::usage(format!("{shown} is not understood: {why}"));
        let fields = match self {
            Self::Dotenv => text.expose(lines),
            Self::Json => text.expose(object),
            Self::Yaml => text
                .expose(yaml::parse)
                .map_err(|error| error.to_string())
                .and_then(|value| value.expose_json(object).map_err(|_| NO_OBJECT.to_owned())),
        };
        let fields = fields.map_err(not_understood)?;
        if fields.is_empty() {
            return Err(Failure::usage(format!("{shown} holds no value")));
        }
        let to = to.map(|to| to.trim_end_matches('/'));
        let mut secrets = Vec::new();
        if one || self == Self::Dotenv || !is_folder(&fields) {
            let Some(to) = to else {
                return Err(Failure::usage(format!("where is {shown} to go? it is one secret"))
                    .hint("name its path behind the file, such as secret/app/dev"));
            };
            secrets.push(Imported { path: to.to_owned(), fields });
            return Ok(secrets);
        }
        collect(to.unwrap_or_default(), &fields, 0, &mut secrets)?;
        Ok(secrets)
    }
}

/// The variables of a dotenv file.
fn lines(text: &str) -> Result<Fields, String> {
    let mut fields = Fields::new();
    for variable in dotenv::parse(text).map_err(|error| error.to_string())? {
        if fields.get(&variable.name).is_some() {
            return Err(format!("line {}: {} is there twice", variable.line, variable.name));
        }
        fields.set(&variable.name, JsonValue::string(&variable.value));
    }
    Ok(fields)
}

/// A JSON object whose keys are there once.
fn object(text: &str) -> Result<Fields, String> {
    let fields: Fields = serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Eof => "it ends before its time".to_owned(),
        Category::Syntax => {
            format!("line {}, column {}: this is not JSON", error.line(), error.column())
        }
        Category::Data | Category::Io => NO_OBJECT.to_owned(),
    })?;
    let mut seen = Vec::with_capacity(fields.len());
    for (key, _) in fields.iter() {
        if seen.contains(&key) {
            return Err(format!("the key {key:?} is there twice"));
        }
        seen.push(key);
    }
    Ok(fields)
}

/// Goes into folders, down to the secrets.
fn collect(
    folder: &str,
    fields: &Fields,
    depth: usize,
    secrets: &mut Vec<Imported>,
) -> Result<(), Failure> {
    for (name, value) in fields.iter() {
        let name = name.trim_matches('/');
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        if name.is_empty() || depth == DEEPEST {
            return Err(Failure::usage(format!("{path:?} is no path of a secret")));
        }
        let inner = value
            .expose_json(object)
            .map_err(|why| Failure::usage(format!("what stands for {path}: {why}")))?;
        if is_folder(&inner) {
            collect(&path, &inner, depth + 1, secrets)?;
            continue;
        }
        if inner.is_empty() {
            return Err(Failure::usage(format!("{path} is an empty map: a secret has a key")));
        }
        if secrets.iter().any(|earlier| earlier.path == path) {
            return Err(Failure::usage(format!("{path} is there twice")));
        }
        secrets.push(Imported { path, fields: inner });
    }
    Ok(())
}

/// Whether a map is a folder: all of its values are maps.
fn is_folder(fields: &Fields) -> bool {
    !fields.is_empty()
        && fields.iter().all(|(_, value)| value.expose_json(|json| json.starts_with('{')))
}

const NO_OBJECT: &str = "it is not one map of keys and values";
/// Names that a path has at most.
const DEEPEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn secrets(form: Form, text: &str, to: Option<&str>) -> Result<Vec<(String, String)>, Failure> {
        let secrets = form.secrets(&SecretString::copy_of(text), "file", to, false)?;
        let plain =
            |fields: &Fields| fields.to_json().expose(|j| String::from_utf8_lossy(j).into());
        Ok(secrets.iter().map(|secret| (secret.path.clone(), plain(&secret.fields))).collect())
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(path, json)| (path.to_owned(), json.to_owned())).to_vec()
    }

    #[test]
    fn a_dotenv_file_is_one_secret() {
        let text = "A=1\nB='kista://secret/x#y'\n";
        assert_eq!(
            secrets(Form::Dotenv, text, Some("secret/app/")).unwrap(),
            pairs([("secret/app", r#"{"A":"1","B":"kista://secret/x#y"}"#)])
        );
        assert_eq!(secrets(Form::Dotenv, text, None).unwrap_err().exit, Exit::Usage);
        let twice = secrets(Form::Dotenv, "A=1\nA=planted", Some("secret/a")).unwrap_err();
        assert!(twice.message.contains("line 2") && !twice.message.contains("planted"));
    }

    #[test]
    fn maps_of_maps_are_folders() {
        let text = r#"{"app/db":{"n":1.10,"o":{"k":1}},"team":{"a":{"x":"1"},"b":{"y":[]}}}"#;
        let expected = |before: &str| {
            pairs([
                (&*format!("{before}app/db"), r#"{"n":1.10,"o":{"k":1}}"#),
                (&*format!("{before}team/a"), r#"{"x":"1"}"#),
                (&*format!("{before}team/b"), r#"{"y":[]}"#),
            ])
        };
        assert_eq!(secrets(Form::Json, text, Some("secret")).unwrap(), expected("secret/"));
        assert_eq!(secrets(Form::Yaml, text, None).unwrap(), expected(""));
        let one = Form::Json.secrets(&SecretString::copy_of(text), "f", Some("secret/a"), true);
        assert_eq!(one.unwrap().len(), 1);
    }

    #[test]
    fn what_makes_no_secret_is_refused() {
        for (form, text) in [
            (Form::Json, "{}"),
            (Form::Json, "[1]"),
            (Form::Json, r#"{"a":"planted""#),
            (Form::Json, r#"{"a":1,"a":2}"#),
            (Form::Json, r#"{"a":{}}"#),
            (Form::Json, r#"{"":{"k":1}}"#),
            (Form::Json, r#"{"a/b":{"k":1},"a":{"b":{"k":1}}}"#),
            (Form::Yaml, "- a"),
            (Form::Yaml, "planted"),
            (Form::Dotenv, "# nothing"),
            (Form::Dotenv, "A='planted"),
        ] {
            let failure = secrets(form, text, Some("secret/x")).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{text}");
            assert!(!failure.message.contains("planted"), "{}", failure.message);
        }
        let deep = format!("{}{}{}", r#"{"a":"#.repeat(40), r#"{"k":1}"#, "}".repeat(40));
        assert!(secrets(Form::Json, &deep, None).is_err());
    }
}
