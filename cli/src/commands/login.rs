use clap::Args;
use kista::{client::TokenInfo, secret::SecretString};
use serde::Serialize;

use crate::{
    arguments::{ConnectionArguments, ServerArguments},
    context::{self, Context},
    failure::{Exit, Failure},
    folders::Folders,
    output::{self, Output},
    prompt::{self, Person},
    server::{self, Server},
    trust::{Approval, Trust},
};

/// Keep a token for a server, under the name of a context.
///
/// The token is asked for, hidden, or read from stdin; the server must know it. It is kept in a
/// file for you alone, with the address, the server's certificate or its CA, and the store's name:
/// another server or store behind the address is refused from then on. The context is in use
/// afterwards.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista login --address https://vault.example:8200\n  \
                   printf %s \"$TOKEN\" | kista login --context prod --address https://10.1.2.3:8200 \
                   --ca-cert ca.pem",
    after_help = "Exit codes: 0 logged in, 1 error, 2 usage, 4 the server does not know the token, \
                  5 sealed, unreachable or not trusted."
)]
pub(crate) struct Login {
    #[command(flatten)]
    meeting: Meeting,
    #[command(flatten)]
    server: ServerArguments,
}

/// How a server may be met that is not known yet.
#[derive(Debug, Args)]
pub(crate) struct Meeting {
    /// SHA-256 of the server's certificate; trusts it, in place of what was trusted before
    #[arg(long, value_name = "SHA256")]
    fingerprint: Option<String>,
    /// Ask for nothing: the token comes from stdin
    #[arg(long)]
    no_input: bool,
}

#[derive(Serialize)]
struct LoggedIn<'a> {
    context: &'a str,
    address: &'a str,
    #[serde(flatten)]
    token: &'a TokenInfo,
}

impl Login {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let folders = Folders::of_user()?;
        let mut context = self.meeting.context(&folders, &self.server).await?;
        let token = ask(Person::look(self.meeting.no_input))?;
        let server = Server::of_context(&context, Some(&token))?;
        let info = match server.client.own_token().look_up().await {
            Ok(info) => info,
            Err(error) => return Err(server.explain("log in", error).await),
        };
        context.store = match server.client.sys().health().await {
            Ok(health) => health.cluster_id,
            Err(error) => return Err(server.explain("ask for the store's name", error).await),
        };
        context.token = Some(token);
        context.save(&folders)?;
        context::set_current(&folders, &context.name)?;
        tell(&context, &info, Output::new(self.server.json))?;
        Ok(Exit::Done)
    }
}

impl Meeting {
    /// The context to keep, trusting the server; without a token and not written yet.
    pub(crate) async fn context(
        &self,
        folders: &Folders,
        arguments: &ConnectionArguments,
    ) -> Result<Context, Failure> {
        let named = match &arguments.context {
            Some(name) => Context::load(folders, name)?,
            None => server::context(None)?,
        };
        let address = server::address(arguments, named.as_ref())?;
        let name = match (&arguments.context, &named) {
            (Some(name), _) => name.clone(),
            (None, Some(context)) if context.is_at(&address) => context.name.clone(),
            (None, _) => name_of(&address)?,
        };
        context::check_name(&name)?;
        let known = match named {
            Some(context) if context.name == name => Some(context),
            Some(_) | None => Context::load(folders, &name)?,
        };
        if let Some(known) = known.as_ref().filter(|known| !known.is_at(&address)) {
            return Err(Failure::usage(format!(
                "the context {name:?} is that of another server, {}",
                known.address
            ))
            .hint("--context NAME gives this one a name of its own"));
        }
        let trust = match (&arguments.ca_cert, &self.fingerprint, &known) {
            (Some(file), _, _) => Trust {
                ca_file: Some(
                    std::path::absolute(file)
                        .map_err(|e| Failure::io(format!("use {}", file.display()), &e))?,
                ),
                certificate_file: None,
            },
            (None, None, Some(known)) => known.trust.clone(),
            (None, fingerprint, _) => {
                let person = Person::look(self.no_input);
                let approval = Approval { fingerprint: fingerprint.as_deref(), person };
                Trust::meet(folders, &name, &address, &approval).await?
            }
        };
        let (store, data) = known.map_or((None, None), |known| (known.store, known.data));
        Ok(Context { name, address, token: None, trust, store, data })
    }
}

fn ask(person: Person) -> Result<SecretString, Failure> {
    let token = match person {
        Person::Present => person.hidden("token", "")?,
        Person::Absent => prompt::stdin_text()?,
    };
    let token = token.expose(|token| SecretString::copy_of(token.trim()));
    if token.is_empty() {
        return Err(Failure::usage("no token was given")
            .hint("type it when asked, or: printf %s \"$TOKEN\" | kista login …"));
    }
    Ok(token)
}

/// A name for the context of a server: its host.
fn name_of(address: &str) -> Result<String, Failure> {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    let is_this_machine = host.is_empty() || host == "localhost" || host.starts_with("127.");
    let name = if is_this_machine { context::LOCAL } else { host };
    context::check_name(name)
        .map_err(|_| Failure::usage("the context needs a name").hint("give --context NAME"))?;
    Ok(name.to_owned())
}

fn tell(context: &Context, info: &TokenInfo, output: Output) -> Result<(), Failure> {
    let Context { name, address, .. } = context;
    if output.wants_json() {
        return output.serialized(&LoggedIn { context: name, address, token: info });
    }
    output::note(&format!("logged in to {address}; the context {name:?} is in use now"));
    let end = info.expire_time.as_ref().map_or("never".to_owned(), ToString::to_string);
    output::note(&format!("policies: {}   expires: {end}", info.policies.join(", ")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_named_for_its_host() {
        for (address, name) in [
            ("https://vault.example:8200", "vault.example"),
            ("https://10.1.2.3", "10.1.2.3"),
            ("https://127.0.0.1:8300", "local"),
            ("https://localhost:8200/x", "local"),
        ] {
            assert_eq!(name_of(address).unwrap(), name);
        }
        assert!(name_of("https://[2001:db8::1]:8200").is_err());
    }
}
