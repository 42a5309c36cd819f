use clap::Args;
use kista::{
    client::{Fields, JsonValue},
    secret::SecretString,
};

use crate::{
    context::Context,
    failure::{Exit, Failure},
    output::{self, Output},
    quoting, server,
};

/// Print the variables that make any Vault client use the context's server.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  eval \"$(kista context env)\"",
    after_help = "Exit codes: 0 printed, 1 error, 2 usage, 3 no such context."
)]
pub(crate) struct Env {
    /// Context to print [default: the one in use]
    #[arg(long, value_name = "NAME", env = "KISTA_CONTEXT")]
    context: Option<String>,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

impl Env {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        let context = server::known_context(self.context.as_deref())?;
        let output = Output::new(self.json);
        if output.wants_json() {
            output.object(&object(&context))?;
        } else if output.is_to_terminal() {
            output.lines(&lines(&context, Reader::Person))?;
            output::note("the token is set, and not shown, by: eval \"$(kista context env)\"");
        } else {
            output.lines(&lines(&context, Reader::Shell))?;
        }
        Ok(Exit::Done)
    }
}

/// Who reads the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Person,
    Shell,
}

/// Lines for a POSIX shell. What the context has not is unset, so that no other server's stays.
fn lines(context: &Context, reader: Reader) -> Vec<SecretString> {
    let set = |name: &str, value: &str| {
        SecretString::from_string(format!("export {name}={}", quoting::shell(value)))
    };
    let unset = |name: &str| SecretString::from_string(format!("unset {name}"));
    let token = match &context.token {
        Some(_) if reader == Reader::Person => SecretString::copy_of("# VAULT_TOKEN is hidden"),
        Some(token) => token.expose(|token| set("VAULT_TOKEN", token)),
        None => unset("VAULT_TOKEN"),
    };
    // Other clients trust a certificate that is its own issuer when they are given it as a CA.
    let ca = match context.trust.file() {
        Some(file) => set("VAULT_CACERT", &file.to_string_lossy()),
        None => unset("VAULT_CACERT"),
    };
    vec![set("VAULT_ADDR", &context.address), ca, token]
}

fn object(context: &Context) -> Fields {
    let mut object = Fields::new();
    object.set("VAULT_ADDR", JsonValue::string(&SecretString::copy_of(&context.address)));
    if let Some(file) = context.trust.file() {
        let file = SecretString::copy_of(&file.to_string_lossy());
        object.set("VAULT_CACERT", JsonValue::string(&file));
    }
    if let Some(token) = &context.token {
        object.set("VAULT_TOKEN", JsonValue::string(token));
    }
    object
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::trust::Trust;

    fn context(token: Option<&str>) -> Context {
        Context {
            name: "local".to_owned(),
            address: "https://127.0.0.1:8200".to_owned(),
            token: token.map(SecretString::copy_of),
            trust: Trust { ca_file: Some(PathBuf::from("/it's/ca.pem")), certificate_file: None },
            store: None,
            data: None,
        }
    }

    fn text(context: &Context, reader: Reader) -> String {
        let lines = lines(context, reader);
        lines.iter().map(|line| line.expose(|text| format!("{text}\n"))).collect()
    }

    #[test]
    fn a_shell_gets_quoted_variables() {
        assert_eq!(
            text(&context(Some("hvs.x")), Reader::Shell),
            "export VAULT_ADDR='https://127.0.0.1:8200'\nexport \
             VAULT_CACERT='/it'\\''s/ca.pem'\nexport VAULT_TOKEN='hvs.x'\n"
        );
        assert!(text(&context(None), Reader::Shell).ends_with("unset VAULT_TOKEN\n"));
    }

    #[test]
    fn a_person_does_not_see_the_token() {
        assert!(!text(&context(Some("hvs.x")), Reader::Person).contains("hvs.x"));
    }
}
