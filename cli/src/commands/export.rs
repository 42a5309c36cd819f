use clap::{Args, ValueEnum};
use data_encoding::BASE64;
use kista::{
    client::{Fields, JsonValue},
    secret::SecretString,
};

use crate::{
    arguments::ServerArguments,
    failure::{Exit, Failure},
    fetching::{Chosen, FetchArguments, Fetcher},
    output::{self, Output},
    quoting,
    variables::{Rules, Variables, Wanted},
};

/// Print secrets in the form that another program reads.
///
/// env and dotenv-export name variables as `kista run` does: db-password becomes DB_PASSWORD. The
/// others keep the keys. PATH#KEY=NAME names a value otherwise in each. Of several values of one
/// name the last one wins.
///
/// `kista run` gives a program its secrets without a file in between.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista export secret/app/db -o json\n  \
                         eval \"$(kista export secret/app/db -o dotenv-export)\"\n  \
                         kista export secret/app/db -o k8s-secret --name db | kubectl apply -f -")]
pub(crate) struct Export {
    /// A secret, a value of it (PATH#KEY), or one under another name (PATH#KEY=NAME)
    #[arg(value_name = "REF", required = true)]
    wanted: Vec<Wanted>,
    /// The form
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Form::Env)]
    #[arg(conflicts_with = "json")]
    output: Form,
    /// metadata.name of a k8s-secret; without it the last name of the first path
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    fetch: FetchArguments,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Lines NAME=value, as dotenv loaders and `kista run --env-file` read them
    #[value(alias = "dotenv")]
    Env,
    /// Lines export NAME='value', for eval in a POSIX shell
    #[value(alias = "shell")]
    DotenvExport,
    /// One JSON object; values keep their types
    Json,
    /// One YAML mapping; values keep their types
    Yaml,
    /// A manifest of a Kubernetes secret
    K8sSecret,
}

impl Export {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let form = if self.server.json { Form::Json } else { self.output };
        if self.name.is_some() && form != Form::K8sSecret {
            return Err(Failure::usage("--name is for -o k8s-secret"));
        }
        let output = Output::new(self.server.json);
        match form {
            Form::Env => output.lines(&self.variables("", quoting::dotenv).await?)?,
            Form::DotenvExport => {
                output.lines(&self.variables("export ", quoting::shell).await?)?
            }
            Form::Json => output.object(&self.values().await?)?,
            Form::Yaml => output.lines(&mapping(&self.values().await?))?,
            Form::K8sSecret => {
                output.lines(&manifest(&self.k8s_name()?, &self.values().await?)?)?
            }
        }
        Ok(Exit::Done)
    }

    /// A line for each variable.
    async fn variables(
        &self,
        before: &str,
        quote: fn(&str) -> String,
    ) -> Result<Vec<SecretString>, Failure> {
        let mut fetcher = Fetcher::new(&self.server, &self.fetch);
        let mut variables = Variables::new(Rules::default());
        for wanted in &self.wanted {
            fetcher.add_to(&mut variables, wanted, Chosen::OnCommandLine).await?;
        }
        for (name, origin) in variables.left_out() {
            output::warn(&format!(
                "{origin} is left out, since {name} steers how programs run; {origin}={name} \
                 names it all the same"
            ));
        }
        let line = |name: &str, value: &str| {
            SecretString::from_string(format!("{before}{name}={}", quote(value)))
        };
        let variables = variables.finish()?;
        Ok(variables.iter().map(|v| v.value.expose(|value| line(&v.name, value))).collect())
    }

    /// Keys, or the names given, and values.
    async fn values(&self) -> Result<Fields, Failure> {
        let mut fetcher = Fetcher::new(&self.server, &self.fetch);
        let mut values = Fields::new();
        for Wanted { reference, name } in &self.wanted {
            match &reference.key {
                Some(key) => {
                    let value = fetcher.value(reference, key).await?;
                    values.set(name.as_ref().unwrap_or(key), value);
                }
                None => {
                    for (key, value) in fetcher.secret(reference).await?.iter() {
                        values.set(key, value.copy());
                    }
                }
            }
        }
        Ok(values)
    }

    fn k8s_name(&self) -> Result<String, Failure> {
        let from_path = || {
            let path = self.wanted.first().map(|wanted| &*wanted.reference.place);
            let last = path.and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            last.to_ascii_lowercase().replace('_', "-")
        };
        let name = self.name.clone().unwrap_or_else(from_path);
        if is_subdomain(&name) {
            return Ok(name);
        }
        Err(Failure::usage(format!("{name:?} is no name of a Kubernetes secret")).hint(
            "--name NAME: lower-case letters, digits, '-' and '.', a letter or digit at both ends",
        ))
    }
}

/// A YAML mapping, a line for each key.
fn mapping(values: &Fields) -> Vec<SecretString> {
    if values.is_empty() {
        return vec![SecretString::copy_of("{}")];
    }
    let line = |(key, value): (&str, &JsonValue)| {
        let key = quoting::yaml(&JsonValue::string(&SecretString::copy_of(key)));
        let value = quoting::yaml(value);
        let line = key.expose(|key| value.expose(|value| format!("{key}: {value}")));
        SecretString::from_string(line)
    };
    values.iter().map(line).collect()
}

/// A manifest, its values in base64, which takes any.
fn manifest(name: &str, values: &Fields) -> Result<Vec<SecretString>, Failure> {
    let mut lines: Vec<SecretString> =
        ["apiVersion: v1", "kind: Secret", "metadata:"].map(SecretString::copy_of).into();
    lines.push(SecretString::from_string(format!("  name: \"{name}\"")));
    lines.push(SecretString::copy_of("type: Opaque"));
    lines.push(SecretString::copy_of(if values.is_empty() { "data: {}" } else { "data:" }));
    for (key, value) in values.iter() {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if key.is_empty() || key.len() > 253 || !key.bytes().all(is_plain) {
            return Err(Failure::new(format!("{key:?} is no key of a Kubernetes secret"))
                .hint("name it otherwise: PATH#KEY=NAME"));
        }
        let value = value.plain().expose(|value| BASE64.encode(value.as_bytes()));
        lines.push(SecretString::from_string(format!("  \"{key}\": {value}")));
    }
    Ok(lines)
}

/// A DNS subdomain (RFC 1123 §2.1), as names of Kubernetes are.
fn is_subdomain(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let ends = [label.bytes().next(), label.bytes().next_back()];
        ends.iter().all(|end| end.is_some_and(inner))
            && label.bytes().all(|byte| inner(byte) || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[SecretString]) -> String {
        lines.iter().map(|line| line.expose(|line| format!("{line}\n"))).collect()
    }

    fn fields(json: &str) -> Fields {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn yaml_quotes_every_key_and_keeps_types() {
        let yaml = text(&mapping(&fields(r#"{"no":"yes","a: b":1.10,"n":null,"o":{"k":[]}}"#)));
        assert_eq!(yaml, "\"no\": \"yes\"\n\"a: b\": 1.10\n\"n\": null\n\"o\": {\"k\":[]}\n");
        assert_eq!(text(&mapping(&Fields::new())), "{}\n");
    }

    #[test]
    fn a_manifest_holds_base64_and_refuses_keys_that_kubernetes_does() {
        let lines = manifest("db", &fields(r#"{"tls.key":"a\u0000'\n"}"#)).unwrap();
        assert_eq!(
            text(&lines),
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: \"db\"\ntype: Opaque\ndata:\n  \
             \"tls.key\": YQAnCg==\n"
        );
        for key in ["a b", "å", ""] {
            let failure = manifest("db", &fields(&format!(r#"{{"{key}":"x"}}"#))).unwrap_err();
            assert!(failure.hint.is_some(), "{key}");
        }
    }

    #[test]
    fn names_of_kubernetes_are_dns_names() {
        for (name, good) in [
            ("db", true),
            ("a-1.b", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("A", false),
            ("a..b", false),
        ] {
            assert_eq!(is_subdomain(name), good, "{name}");
        }
    }
}
