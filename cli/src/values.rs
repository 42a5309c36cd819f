//! The keys and values of `put` and `patch`: where each value comes from, and fetching it.

use std::{
    env, io,
    path::{Path, PathBuf},
};

use clap::Args;
use kista::{
    client::{Fields, JsonValue},
    secret::SecretString,
};

use crate::{
    failure::{Exit, Failure},
    files,
    generate::{Generated, Policy},
    output,
    prompt::{self, Person},
};

/// One key of the command line, and where its value is.
#[derive(Debug)]
pub(crate) struct Assignment {
    key: String,
    source: Source,
}

/// Where a value is.
#[derive(Debug)]
enum Source {
    /// On the command line itself.
    Argument(SecretString),
    /// Typed by a person, else read from stdin.
    Asked,
    /// In a file, to the last byte.
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
    /// Nowhere yet: it is made.
    Made(Policy),
}

/// Where values may come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources {
    pub(crate) person: Person,
    /// Whether values on the command line are the user's wish.
    pub(crate) argv_ok: bool,
}

/// How values may come in, as it is typed.
#[derive(Debug, Args)]
pub(crate) struct SourceArguments {
    /// Make a value: KEY[:LENGTH][:CLASSES], such as password:32, pin:6:digits, phrase:5:words;
    /// classes are letters, lower, upper, digits, symbols, hex or words; may be given again
    #[arg(long, value_name = "KEY[:POLICY]")]
    generate: Vec<Generated>,
    /// Do not warn of values on the command line
    #[arg(long)]
    argv_ok: bool,
    /// Ask for nothing
    #[arg(long)]
    no_input: bool,
}

impl SourceArguments {
    pub(crate) fn look(&self) -> Sources {
        Sources { person: Person::look(self.no_input), argv_ok: self.argv_ok }
    }

    /// Whether any value is to be made.
    pub(crate) fn makes(&self) -> bool {
        !self.generate.is_empty()
    }

    /// The keys of the command line, with those whose values are made.
    pub(crate) fn assignments(&self, keys: &[String]) -> Result<Vec<Assignment>, Failure> {
        let named = keys.iter().map(|key| Assignment::parse(key));
        let made = self.generate.iter().map(|Generated { key, policy }| {
            Ok(Assignment { key: key.clone(), source: Source::Made(policy.clone()) })
        });
        named.chain(made).collect()
    }
}

impl Assignment {
    /// Reads `KEY`, `KEY=-`, `KEY=@FILE`, `KEY=env:NAME` or `KEY=VALUE`.
    fn parse(argument: &str) -> Result<Self, Failure> {
        let (key, value) = match argument.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (argument, None),
        };
        if key.is_empty() {
            // The argument itself is not quoted: it may be a value whose key was forgotten.
            return Err(Failure::usage("an argument begins with '=': its key is missing"));
        }
        let source = match value {
            None | Some("-") => Source::Asked,
            Some(value) => {
                if let Some(file) = value.strip_prefix('@') {
                    Source::File(PathBuf::from(file))
                } else if let Some(variable) = value.strip_prefix("env:") {
                    Source::Variable(variable.to_owned())
                } else {
                    Source::Argument(SecretString::copy_of(value))
                }
            }
        };
        Ok(Self { key: key.to_owned(), source })
    }
}

/// Fetches every value.
pub(crate) fn fetch(assignments: &[Assignment], sources: Sources) -> Result<Fields, Failure> {
    refuse_contradictions(assignments, sources)?;
    warn_of_arguments(assignments, sources);
    let mut fields = Fields::new();
    for Assignment { key, source } in assignments {
        let value = match source {
            Source::Argument(value) => JsonValue::string(value),
            Source::File(file) => JsonValue::string(&read_file(key, file)?),
            Source::Variable(name) => JsonValue::string(&read_variable(key, name)?),
            Source::Made(policy) => JsonValue::string(&make(key, policy)),
            Source::Asked => JsonValue::string(&match sources.person {
                Person::Present => typed_or_made(sources.person, key, "")?,
                Person::Absent => prompt::stdin_text()?,
            }),
        };
        fields.set(key, value);
    }
    Ok(fields)
}

/// Asks a person for keys and values until an empty key.
pub(crate) fn ask(person: Person) -> Result<Fields, Failure> {
    let instead = "name the keys: kista put PATH KEY=- (reads stdin), KEY=@FILE or KEY=env:NAME";
    let mut fields = Fields::new();
    loop {
        let key = person.line("key", instead)?;
        if key.is_empty() {
            break;
        }
        fields.set(&key, JsonValue::string(&typed_or_made(person, &key, instead)?));
    }
    if fields.is_empty() {
        return Err(Failure::usage("nothing to write: no key was given"));
    }
    Ok(fields)
}

/// Asks for a value; an empty answer has one made.
fn typed_or_made(person: Person, key: &str, instead: &str) -> Result<SecretString, Failure> {
    let typed = person.hidden_or_made(&format!("value of {key}"), instead)?;
    Ok(typed.unwrap_or_else(|| make(key, &Policy::default())))
}

/// Makes a value, and tells how strong it is.
fn make(key: &str, policy: &Policy) -> SecretString {
    output::note(&format!("{key}: generated {policy}"));
    if policy.bits() < WEAK_BITS {
        output::warn(&format!("{key} is good only where guesses are counted or slow"));
    }
    policy.generate()
}

fn refuse_contradictions(assignments: &[Assignment], sources: Sources) -> Result<(), Failure> {
    for (n, assignment) in assignments.iter().enumerate() {
        if assignments.iter().take(n).any(|earlier| earlier.key == assignment.key) {
            return Err(Failure::usage(format!("the key {} is given twice", assignment.key)));
        }
    }
    let asked = assignments.iter().filter(|a| matches!(a.source, Source::Asked)).count();
    if asked > 1 && sources.person == Person::Absent {
        return Err(Failure::usage("stdin holds one value, and several keys ask for it").hint(
            "a value stands in one word with its key: KEY=@FILE, KEY=env:NAME; in a terminal each \
                 KEY is asked for",
        ));
    }
    Ok(())
}

fn warn_of_arguments(assignments: &[Assignment], sources: Sources) {
    let keys: Vec<&str> = assignments
        .iter()
        .filter(|assignment| matches!(assignment.source, Source::Argument(_)))
        .map(|assignment| assignment.key.as_str())
        .collect();
    if !keys.is_empty() && !sources.argv_ok {
        output::warn(&format!(
            "the value of {} is on the command line, which the process list and the shell's \
             history show; KEY=- asks for it (--argv-ok: no warning)",
            keys.join(", ")
        ));
    }
}

fn read_file(key: &str, file: &Path) -> Result<SecretString, Failure> {
    let bytes = files::read(file).map_err(|failure| Failure {
        message: format!("{}, for the key {key}", failure.message),
        ..failure
    })?;
    prompt::text(bytes, &file.display().to_string())
}

fn read_variable(key: &str, name: &str) -> Result<SecretString, Failure> {
    match env::var(name) {
        Ok(value) => Ok(SecretString::from_string(value)),
        Err(env::VarError::NotPresent) => Err(Failure::io(
            format!("take {key} from the variable {name:?}"),
            &io::Error::other("it is not set"),
        )
        .hint(format!("a variable of the shell must be exported: export {name}"))
        .exit(Exit::Usage)),
        Err(env::VarError::NotUnicode(_)) => {
            Err(Failure::new(format!("the variable {name:?} is not UTF-8 text")))
        }
    }
}

/// Fewer than these are guessed by one who may try without end.
const WEAK_BITS: f64 = 64.0;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NOBODY: Sources = Sources { person: Person::Absent, argv_ok: true };

    fn parse(arguments: &[&str]) -> Vec<Assignment> {
        arguments.iter().map(|argument| Assignment::parse(argument).unwrap()).collect()
    }

    #[test]
    fn each_form_names_its_source() {
        let [a, b, c, d, e, f] =
            parse(&["a=x=y", "b=-", "c", "d=@/f", "e=env:E", "f=-x"]).try_into().unwrap();
        assert!(matches!(a.source, Source::Argument(text) if text.expose(|t| t == "x=y")));
        assert!(matches!((&*b.key, b.source), ("b", Source::Asked)));
        assert!(matches!((&*c.key, c.source), ("c", Source::Asked)));
        assert!(matches!(d.source, Source::File(file) if file.as_os_str() == "/f"));
        assert!(matches!(e.source, Source::Variable(name) if name == "E"));
        assert!(matches!(f.source, Source::Argument(text) if text.expose(|t| t == "-x")));
        assert!(Assignment::parse("=x").is_err());
    }

    #[test]
    fn a_key_may_end_in_a_dash() {
        assert_eq!(Assignment::parse("key-").unwrap().key, "key-");
    }

    #[test]
    fn a_file_is_taken_to_the_last_byte() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        fs::write(&file, "-----BEGIN\n\n").unwrap();
        let fields = fetch(&parse(&[&format!("pem=@{}", file.display())]), NOBODY).unwrap();
        assert!(fields.to_json().expose(|json| json == br#"{"pem":"-----BEGIN\n\n"}"#));
    }

    #[test]
    fn stdin_is_one_value_and_a_key_is_given_once() {
        assert_eq!(fetch(&parse(&["a=-", "b=-"]), NOBODY).unwrap_err().exit, Exit::Usage);
        assert_eq!(fetch(&parse(&["a=1", "a=2"]), NOBODY).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_variable_that_is_not_set_is_a_failure() {
        assert!(fetch(&parse(&["a=env:KISTA_TEST_NOT_SET"]), NOBODY).is_err());
    }
}
