//! Which variables of a program's environment secrets become.

use std::str::FromStr;

use kista::{client::Fields, secret::SecretString};

use crate::{
    dotenv,
    failure::{Exit, Failure},
    reference::{Reference, ReferenceError},
};

/// A secret or one value of it, and the variable that the value becomes: `REF`, `PATH#KEY=NAME`.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) reference: Reference,
    /// `None`: the name is made from the key.
    pub(crate) name: Option<String>,
}

/// Why a text is no [`Wanted`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum WantedError {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("{0:?} is not a variable's name: letters, digits and '_', and no digit first")]
    Name(String),
    #[error("the name stands behind the key: {reference}={name}")]
    NameFirst { name: String, reference: String },
}

impl FromStr for Wanted {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((name, reference)) = text.split_once('=')
            && dotenv::is_name(name)
            && reference.contains(['/', '#'])
        {
            let (name, reference) = (name.to_owned(), reference.to_owned());
            return Err(WantedError::NameFirst { name, reference });
        }
        // The name stands behind the key and before the settings, so that a default may hold a '='.
        let key = text.find('#').map_or(text.len(), |at| at + 1);
        let (before, behind) = text.split_at(key);
        let settings = match Reference::is_long(text) {
            true => behind.find('?').unwrap_or(behind.len()),
            false => behind.len(),
        };
        let (key, settings) = behind.split_at(settings);
        let Some((key, name)) = key.rsplit_once('=') else {
            return Ok(Self { reference: text.parse()?, name: None });
        };
        if !dotenv::is_name(name) {
            return Err(WantedError::Name(name.to_owned()));
        }
        let reference = format!("{before}{key}{settings}").parse()?;
        Ok(Self { reference, name: Some(name.to_owned()) })
    }
}

/// One variable.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: SecretString,
    /// What it is from, such as `secret/app/db#password`.
    origin: String,
}

/// How names are made, and which are taken.
#[derive(Debug, Default)]
pub(crate) struct Rules<'a> {
    /// Stands before each name that is made from a key.
    pub(crate) prefix: &'a str,
    /// The only ones to take; all when it is empty.
    pub(crate) only: &'a [String],
    /// Whether two sources of one variable, and one that is left out, are failures.
    pub(crate) strict: bool,
}

/// The variables of one program, each once.
#[derive(Debug)]
pub(crate) struct Variables<'a> {
    rules: Rules<'a>,
    list: Vec<Variable>,
    /// Names that were left out, and their origins.
    left_out: Vec<(String, String)>,
}

impl<'a> Variables<'a> {
    pub(crate) fn new(rules: Rules<'a>) -> Self {
        Self { rules, list: Vec::new(), left_out: Vec::new() }
    }

    /// Takes all the values of a secret, each under the name that its key makes.
    pub(crate) fn add_secret(&mut self, path: &str, fields: &Fields) -> Result<(), Failure> {
        for (key, value) in fields.iter() {
            self.add_key(path, key, value.plain())?;
        }
        Ok(())
    }

    /// Takes one value under the name that its key makes.
    pub(crate) fn add_key(
        &mut self,
        path: &str,
        key: &str,
        value: SecretString,
    ) -> Result<(), Failure> {
        let origin = format!("{path}#{key}");
        let name = name_of(self.rules.prefix, key);
        if !self.is_wanted(&name) {
            return Ok(());
        }
        if !dotenv::is_name(&name) {
            return Err(Failure::new(format!(
                "the key {key:?} of {path} makes {name:?}, which is no variable's name"
            ))
            .hint(format!(
                "name it, {path}#KEY=NAME, and the others that you want; or --only, or --prefix P_"
            )));
        }
        if is_reserved(&name) {
            if self.rules.strict {
                return Err(reserved(&name, &origin));
            }
            self.left_out.push((name, origin));
            return Ok(());
        }
        self.set(name, value, origin)
    }

    /// Takes one value under a name that somebody has chosen.
    pub(crate) fn add_named(
        &mut self,
        name: &str,
        value: SecretString,
        origin: String,
    ) -> Result<(), Failure> {
        if self.is_wanted(name) { self.set(name.to_owned(), value, origin) } else { Ok(()) }
    }

    /// Takes one value under a name that a file chose which nobody named on the command line.
    pub(crate) fn add_found(
        &mut self,
        name: &str,
        value: SecretString,
        origin: String,
    ) -> Result<(), Failure> {
        if is_reserved(name) {
            return Err(reserved(name, &origin));
        }
        self.add_named(name, value, origin)
    }

    /// Names and origins of what was left out, since it steers how programs run.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = (&str, &str)> {
        self.left_out.iter().map(|(name, origin)| (name.as_str(), origin.as_str()))
    }

    /// All of them.
    pub(crate) fn finish(self) -> Result<Vec<Variable>, Failure> {
        let Self { rules, list, .. } = self;
        let is_there = |name: &&String| !list.iter().any(|variable| variable.name == **name);
        let missing: Vec<&str> = rules.only.iter().filter(is_there).map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(list);
        }
        Err(Failure::new(format!("--only names {}, and nothing sets it", missing.join(", ")))
            .hint("--only takes names of variables, as they are made: DB_PASSWORD of db-password")
            .exit(Exit::NotFound))
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.rules.only.is_empty() || self.rules.only.iter().any(|only| only == name)
    }

    /// A later source of a variable takes the place of an earlier one.
    fn set(&mut self, name: String, value: SecretString, origin: String) -> Result<(), Failure> {
        if value.expose(|text| text.contains('\0')) {
            return Err(Failure::new(format!(
                "the value of {origin} holds a NUL, which no variable can hold"
            ))
            .hint(
                "leave it out with --only, and let the program read it: kista get … --out FILE",
            ));
        }
        let variable = Variable { name, value, origin };
        match self.list.iter_mut().find(|earlier| earlier.name == variable.name) {
            Some(earlier) if self.rules.strict => Err(Failure::new(format!(
                "{} and {} both make {}",
                earlier.origin, variable.origin, variable.name
            ))
            .hint("name one of them otherwise, PATH#KEY=NAME; without --strict the later wins")
            .exit(Exit::Conflict)),
            Some(earlier) => {
                *earlier = variable;
                Ok(())
            }
            None => {
                self.list.push(variable);
                Ok(())
            }
        }
    }
}

/// Whether two lists have the same variables with the same values.
pub(crate) fn are_same(one: &[Variable], other: &[Variable]) -> bool {
    let is_same = |one: &Variable, other: &Variable| {
        one.name == other.name && one.value.expose(|one| other.value.expose(|other| one == other))
    };
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
}

/// The name that a key makes.
fn name_of(prefix: &str, key: &str) -> String {
    let key = key.to_ascii_uppercase().replace(['-', '.'], "_");
    format!("{prefix}{key}")
}

/// Whether a variable steers the loader, a shell, an interpreter or another program that the
/// started one may start. Who can write a secret should not thereby run code where it is used.
fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || RESERVED_BEGINNINGS.iter().any(|begin| name.starts_with(begin))
}

fn reserved(name: &str, origin: &str) -> Failure {
    Failure::new(format!("{origin} would set {name}, which steers how programs run"))
        .hint(format!("if that is what you want, say so: -e '{origin}={name}'"))
}

const RESERVED_BEGINNINGS: [&str; 6] =
    ["LD_", "DYLD_", "BASH_FUNC_", "GIT_CONFIG", "GLIBC_", "MALLOC_"];

const RESERVED: [&str; 62] = [
    "_JAVA_OPTIONS",
    "BASHOPTS",
    "BASH_ENV",
    "BASH_XTRACEFD",
    "BROWSER",
    "CDPATH",
    "CLASSPATH",
    "CORECLR_PROFILER",
    "CORECLR_PROFILER_PATH",
    "DOTNET_STARTUP_HOOKS",
    "EDITOR",
    "ENV",
    "GCONV_PATH",
    "GETCONF_DIR",
    "GIT_ASKPASS",
    "GIT_EDITOR",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_PROXY_COMMAND",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_TEMPLATE_DIR",
    "HISTFILE",
    "HOME",
    "HOSTALIASES",
    "IFS",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LESSOPEN",
    "LOCALDOMAIN",
    "LOCPATH",
    "LUA_INIT",
    "MANPAGER",
    "NIS_PATH",
    "NLSPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "PAGER",
    "PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONWARNINGS",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "RUBYLIB",
    "RUBYOPT",
    "SHELL",
    "SHELLOPTS",
    "SSH_ASKPASS",
    "TMPDIR",
    "VISUAL",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::copy_of(text)
    }

    fn fields(json: &str) -> Fields {
        serde_json::from_str(json).unwrap()
    }

    fn taken(rules: Rules<'_>, json: &str) -> Result<Vec<(String, String)>, Failure> {
        let mut variables = Variables::new(rules);
        variables.add_secret("secret/a", &fields(json))?;
        let plain = |v: &Variable| (v.name.clone(), v.value.expose(str::to_owned));
        variables.finish().map(|list| list.iter().map(plain).collect())
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    #[test]
    fn names_are_made_from_keys() {
        let json = r#"{"db-password":"x","api.key":"y","n":1.10,"o":{"a":[]}}"#;
        let expected =
            [("DB_PASSWORD", "x"), ("API_KEY", "y"), ("N", "1.10"), ("O", r#"{"a":[]}"#)];
        assert_eq!(taken(Rules::default(), json).unwrap(), pairs(expected));
        let prefix = Rules { prefix: "P_", ..Rules::default() };
        assert_eq!(taken(prefix, r#"{"9a":"x"}"#).unwrap(), pairs([("P_9A", "x")]));
    }

    #[test]
    fn a_key_that_makes_no_name_is_named() {
        for json in
            [r#"{"9a":"x"}"#, r#"{"a b":"x"}"#, r#"{"å":"x"}"#, r#"{"":"x"}"#, r#"{"a=b":""}"#]
        {
            let failure = taken(Rules::default(), json).unwrap_err();
            assert!(failure.message.contains("secret/a"), "{json}");
        }
        let only = ["B".to_owned()];
        let only = Rules { only: &only, ..Rules::default() };
        assert_eq!(taken(only, r#"{"9a":"x","b":"y"}"#).unwrap(), pairs([("B", "y")]));
    }

    #[test]
    fn what_steers_programs_is_left_out_unless_it_is_named() {
        for key in ["ld_preload", "LD.LIBRARY-PATH", "path", "BASH_ENV", "node-options", "ifs"] {
            let json = format!(r#"{{"{key}":"x"}}"#);
            assert!(taken(Rules::default(), &json).unwrap().is_empty(), "{key}");
            let strict = Rules { strict: true, ..Rules::default() };
            assert!(taken(strict, &json).is_err(), "{key}");
        }
        let mut variables = Variables::new(Rules::default());
        variables.add_named("PATH", secret("/bin"), "secret/a#p".to_owned()).unwrap();
        assert!(variables.add_found("PATH", secret("/bin"), "secret/a#p".to_owned()).is_err());
        assert_eq!(variables.finish().unwrap().len(), 1);
    }

    #[test]
    fn a_later_source_wins_unless_it_is_strict() {
        let json = r#"{"a-b":"1","a.b":"2"}"#;
        assert_eq!(taken(Rules::default(), json).unwrap(), pairs([("A_B", "2")]));
        let failure = taken(Rules { strict: true, ..Rules::default() }, json).unwrap_err();
        assert!(failure.message.contains("secret/a#a-b and secret/a#a.b"), "{}", failure.message);
        assert_eq!(failure.exit, Exit::Conflict);
    }

    #[test]
    fn only_names_what_must_be_there() {
        let only = ["A".to_owned(), "C".to_owned()];
        let rules = || Rules { only: &only, ..Rules::default() };
        let failure = taken(rules(), r#"{"a":"1","b":"2"}"#).unwrap_err();
        assert!(failure.message.contains("--only names C,"), "{}", failure.message);
        assert_eq!(taken(rules(), r#"{"a":"1","c":"2","d":"\u0000"}"#).unwrap().len(), 2);
    }

    #[test]
    fn a_nul_is_refused_and_not_shown() {
        let failure = taken(Rules::default(), r#"{"a":"hunter2\u0000"}"#).unwrap_err();
        assert!(failure.message.contains("secret/a#a"), "{failure:?}");
        assert!(!format!("{failure:?}").contains("hunter2"));
    }

    #[test]
    fn a_name_stands_behind_the_key() {
        let parse = |text: &str| text.parse::<Wanted>();
        let wanted = parse("secret/app/db#pass=word=DB_PASS").unwrap();
        assert_eq!(wanted.reference.key.as_deref(), Some("pass=word"));
        assert_eq!(wanted.name.as_deref(), Some("DB_PASS"));
        let wanted = parse("kista://secret/a#k=NAME?default=x=Y").unwrap();
        assert_eq!(
            (wanted.reference.key.as_deref(), wanted.name.as_deref()),
            (Some("k"), Some("NAME"))
        );
        let default = wanted.reference.default.unwrap();
        assert!(default.expose(|text| text == "x=Y"));
        assert!(parse("secret/a=b").unwrap().name.is_none());
        assert!(parse("kista://secret/a#k?default=x=Y").unwrap().name.is_none());
        assert!(matches!(parse("secret/a#k=9"), Err(WantedError::Name(_))));
        let first = parse("PW=secret/a#k").unwrap_err().to_string();
        assert!(first.ends_with(": secret/a#k=PW"), "{first}");
        assert!(matches!(parse("secret/a#=N"), Err(WantedError::Reference(_))));
    }
}
