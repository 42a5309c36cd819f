//! Which server a command talks to, as whom, and what its refusals mean.

use std::{error::Error as _, fmt, path::PathBuf};

use data_encoding::HEXLOWER;
use kista::{
    client::{BuildError, Client, Environment, Error, Pin, Setting, encode_text},
    crypto::mac,
    secret::SecretString,
};
use serde::Serialize;

use crate::{
    arguments::ConnectionArguments,
    context::{self, Context},
    failure::{Exit, Failure},
    folders::Folders,
    offline::Entry,
    reference::Place,
    trust::Trust,
};

/// A server to talk to.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) client: Client,
    address: Origin,
    token: Option<Origin>,
    /// The token itself, and address and namespace: what copies are kept for.
    token_text: Option<SecretString>,
    scope: String,
    ca_file: Option<PathBuf>,
    namespace: Option<String>,
}

/// Where a setting was found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Default,
    Flag,
    Variable(String),
    Context(String),
    Typed,
}

/// A setting that a command would work with.
#[derive(Debug, Serialize)]
pub(crate) struct Effective {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    /// What the user would change.
    pub(crate) origin: String,
}

/// What was found for each setting.
#[derive(Debug)]
struct Found {
    address: (String, Origin),
    token: Option<(SecretString, Origin)>,
    trust: Trust,
    /// The store that the context is of.
    store: Option<String>,
    namespace: Option<String>,
}

impl Server {
    /// Finds the server: flags, else the environment, else the context.
    pub(crate) fn find(arguments: &ConnectionArguments) -> Result<Self, Failure> {
        let environment = Environment::read().map_err(|error| unusable(&error))?;
        let found = find(arguments, environment, context(arguments.context.as_deref())?);
        Self::new(found)
    }

    /// The server of a context, with this token and regardless of the environment.
    pub(crate) fn of_context(
        context: &Context,
        token: Option<&SecretString>,
    ) -> Result<Self, Failure> {
        let copy = |token: &SecretString| token.expose(SecretString::copy_of);
        Self::new(Found {
            address: (context.address.clone(), Origin::Context(context.name.clone())),
            token: token.map(|token| (copy(token), Origin::Typed)),
            trust: context.trust.clone(),
            store: context.store.clone(),
            namespace: None,
        })
    }

    /// A server whose address was just given, met without a token.
    pub(crate) fn typed(client: Client) -> Self {
        let scope = client.address().to_owned();
        Self {
            client,
            address: Origin::Typed,
            token: None,
            token_text: None,
            scope,
            ca_file: None,
            namespace: None,
        }
    }

    fn new(found: Found) -> Result<Self, Failure> {
        let (address, address_origin) = found.address;
        let mut builder = Client::builder(address);
        if let Some(file) = &found.trust.ca_file {
            builder = builder.ca_file(file);
        } else if let Some(file) = &found.trust.certificate_file {
            builder = builder.pin(&Pin::of_file(file).map_err(|error| unusable(&error))?);
        }
        if let Some(store) = found.store {
            builder = builder.store(store);
        }
        if let Some(namespace) = &found.namespace {
            builder = builder.namespace(namespace);
        }
        let (token, token_origin) = found.token.unzip();
        let token_text = token.as_ref().map(|token| token.expose(SecretString::copy_of));
        if let Some(token) = token {
            builder = builder.token(token);
        }
        let client = builder.build().map_err(|error| unusable(&error))?;
        let scope =
            format!("{} {}", client.address(), found.namespace.as_deref().unwrap_or_default());
        Ok(Self {
            client,
            address: address_origin,
            token: token_origin,
            token_text,
            scope,
            ca_file: found.trust.file().cloned(),
            namespace: found.namespace,
        })
    }

    /// Finds the server that a reference leads to: that of the context that it names, else the
    /// usual one.
    pub(crate) fn find_for(
        arguments: &ConnectionArguments,
        place: &Place,
    ) -> Result<Self, Failure> {
        match &place.context {
            None => Self::find(arguments),
            Some(name) => Self::find(&ConnectionArguments {
                context: Some(name.clone()),
                ..arguments.clone()
            }),
        }
    }

    /// What a copy of a secret is kept under; `None` without a token.
    pub(crate) fn entry<'a>(&'a self, place: &'a Place, version: Option<u64>) -> Option<Entry<'a>> {
        let token = self.token_text.as_ref()?;
        Some(Entry { scope: &self.scope, token, path: place, version })
    }

    /// What names that this caller may see are kept under for a moment; `None` without a token.
    pub(crate) fn cache_key(&self, folder: &str) -> Option<String> {
        let token = self.token_text.as_ref()?;
        let digest = token.expose(|token| {
            mac::sha256(&[self.scope.as_bytes(), b"\0", token.as_bytes(), b"\0", folder.as_bytes()])
        });
        Some(HEXLOWER.encode(&digest))
    }

    /// The id of the store behind the server; empty when it tells none.
    pub(crate) async fn store_id(&self) -> String {
        let health = self.client.sys().health().await;
        health.ok().and_then(|health| health.cluster_id).unwrap_or_default()
    }

    /// The curl command of a call; the shell puts the token in, and a body comes on stdin.
    pub(crate) fn curl(&self, method: &str, path: &str, has_body: bool) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let mut words = vec!["curl".to_owned()];
        if let Some(file) = &self.ca_file {
            words.extend(["--cacert".to_owned(), quoted(&file.to_string_lossy())]);
        }
        words.extend(["--request".to_owned(), method.to_owned()]);
        words.push(r#"--header "X-Vault-Token: $VAULT_TOKEN""#.to_owned());
        if let Some(namespace) = &self.namespace {
            words.extend([
                "--header".to_owned(),
                quoted(&format!("X-Vault-Namespace: {namespace}")),
            ]);
        }
        if has_body {
            let media = match method {
                "PATCH" => "application/merge-patch+json",
                _ => "application/json",
            };
            words.extend(["--header".to_owned(), quoted(&format!("Content-Type: {media}"))]);
            words.push("--data-binary @-".to_owned());
        }
        let (bare, query) = path.split_once('?').unwrap_or((path, ""));
        let bare: Vec<String> = bare.split('/').map(encode_text).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        words.push(quoted(&format!(
            "{}/v1/{}{mark}{query}",
            self.client.address(),
            bare.join("/")
        )));
        words.join(" ")
    }

    /// Says what cannot be done, why, and what to do next.
    pub(crate) async fn explain(&self, doing: &str, error: Error) -> Failure {
        let is_passing = error.is_passing();
        Failure { is_passing, ..self.explain_error(doing, error).await }
    }

    async fn explain_error(&self, doing: &str, error: Error) -> Failure {
        let address = self.client.address();
        let failure = |why: &str| Failure::new(format!("cannot {doing}: {why}"));
        match error {
            Error::Denied { path, needed } => {
                let words: Vec<String> =
                    needed.words().iter().map(|word| format!("\"{word}\"")).collect();
                failure("permission denied")
                    .hint(format!(
                        "a policy of the token must hold\n\npath \"{path}\" {{\n  capabilities = \
                         [{}]\n}}",
                        words.join(", ")
                    ))
                    .exit(Exit::Denied)
            }
            Error::InvalidToken => self.explain_token(doing),
            Error::Sealed => self.explain_sealed(doing).await,
            Error::NotFound => failure("nothing is there").exit(Exit::NotFound),
            Error::Unreachable { cause, .. } => failure(&format!(
                "no server answers at {address}, which {} ({})",
                self.address,
                innermost(&cause)
            ))
            .hint(after_silence(&innermost(&cause)))
            .exit(Exit::Unavailable),
            Error::Untrusted { reason, .. } => {
                let trusted = self.ca_file.as_ref().map_or(String::new(), |file| {
                    format!("; only {} was to be trusted", file.display())
                });
                failure(&format!("the certificate of {address} is not trusted: {reason}{trusted}"))
                    .hint(
                        "name the CA of that server with --ca-cert FILE or KISTA_CACERT; or, once \
                         you have its fingerprint from whoever runs it: kista login --address URL \
                         --fingerprint SHA256",
                    )
                    .exit(Exit::Unavailable)
            }
            Error::OtherStore { expected, found, .. } => failure(&format!(
                "another store answers at {address}: it is {found}, and the context is that of \
                 {expected}"
            ))
            .hint(
                "no token was sent to it; if the store was replaced on purpose: kista context rm \
                 NAME, then kista login",
            )
            .exit(Exit::Unavailable),
            Error::CasConflict => failure(&error.to_string()).exit(Exit::Conflict),
            Error::BadPath(_) => failure(&error.to_string()).exit(Exit::Usage),
            Error::Other { status, messages } if !messages.is_empty() => {
                let words = messages.join("; ");
                let failure = failure(&words.split_whitespace().collect::<Vec<_>>().join(" "));
                match status {
                    429 => failure.hint(
                        "this client has asked too often; it was tried again in vain, so wait \
                         before the next try. Who may see the rates: kista quota ls",
                    ),
                    _ => failure,
                }
            }
            error @ (Error::Unexpected(_) | Error::Other { .. } | _) => failure(&error.to_string()),
        }
    }

    fn explain_token(&self, doing: &str) -> Failure {
        let (why, next) = match &self.token {
            None => (
                "no token was given".to_owned(),
                "kista login keeps one; or: read -rs KISTA_TOKEN && export KISTA_TOKEN".to_owned(),
            ),
            Some(Origin::Variable(name)) => (
                format!("the server does not know the token of {name}"),
                format!(
                    "it may have expired or be another server's; unset {name} to use the \
                         context's, or set it to a good one"
                ),
            ),
            Some(origin) => (
                format!("the server does not know the token, which {origin}"),
                "it may have expired or be another store's; give a good one: kista login"
                    .to_owned(),
            ),
        };
        Failure::new(format!("cannot {doing}: {why}")).hint(next).exit(Exit::Denied)
    }

    async fn explain_sealed(&self, doing: &str) -> Failure {
        // The refusal is the same for both, so the state is asked for.
        let (why, next) = match self.client.sys().seal_status().await {
            Ok(status) if !status.initialized => {
                ("the vault is not initialised", "kista operator init".to_owned())
            }
            Ok(status) if status.threshold > 0 => (
                "the vault is sealed",
                format!(
                    "kista operator unseal   ({} of {} shares given)",
                    status.progress, status.threshold
                ),
            ),
            Ok(_) | Err(_) => ("the vault is sealed", "kista operator unseal".to_owned()),
        };
        Failure::new(format!("cannot {doing}: {why}")).hint(next).exit(Exit::Unavailable)
    }
}

impl Origin {
    /// What the user would change.
    fn source(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::Flag => "--address".to_owned(),
            Self::Variable(name) => name.clone(),
            Self::Context(name) => format!("context {name}"),
            Self::Typed => "typed".to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    /// Reads after "which".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("is where servers usually are"),
            Self::Flag => f.write_str("the command line names"),
            Self::Variable(name) => write!(f, "{name} holds"),
            Self::Context(name) => write!(f, "the context {name:?} holds"),
            Self::Typed => f.write_str("was just given"),
        }
    }
}

/// What [`Server::find`] would work with, and where each is from.
pub(crate) fn settings(arguments: &ConnectionArguments) -> Result<Vec<Effective>, Failure> {
    let environment = Environment::read().map_err(|error| unusable(&error))?;
    let ca_variable = environment.ca_file.as_ref().map(|setting| setting.variable.clone());
    let namespace_variable = environment.namespace.as_ref().map(|setting| setting.variable.clone());
    let context = context(arguments.context.as_deref())?;
    let context_name = context.as_ref().map(|context| context.name.clone());
    let found = find(arguments, environment, context);
    let mut settings = Vec::new();
    let mut push = |name, value: String, origin: String| {
        settings.push(Effective { name, value, origin });
    };
    push(
        "context",
        context_name.clone().unwrap_or_else(|| "none".to_owned()),
        match &arguments.context {
            Some(_) => "--context or KISTA_CONTEXT".to_owned(),
            None => "the one in use".to_owned(),
        },
    );
    push("address", found.address.0, found.address.1.source());
    let (token, token_origin) = match &found.token {
        Some((_, origin)) => ("there is one", origin.source()),
        None => ("none", Origin::Default.source()),
    };
    push("token", token.to_owned(), token_origin);
    let of_context = || {
        context_name
            .as_ref()
            .map_or_else(|| Origin::Default.source(), |name| Origin::Context(name.clone()).source())
    };
    let (trust, trust_origin) = match (found.trust.file(), &arguments.ca_cert, ca_variable) {
        (None, _, _) => ("the CAs of the system".to_owned(), Origin::Default.source()),
        (Some(file), Some(_), _) => (file.display().to_string(), "--ca-cert".to_owned()),
        (Some(file), None, Some(variable))
            if arguments.context.is_none() || variable.starts_with("KISTA_") =>
        {
            (file.display().to_string(), variable)
        }
        (Some(file), None, _) => (file.display().to_string(), of_context()),
    };
    push("trust", trust, trust_origin);
    if let Some(store) = found.store {
        push("store", store, of_context());
    }
    if let Some(namespace) = found.namespace {
        push("namespace", namespace, namespace_variable.unwrap_or_default());
    }
    Ok(settings)
}

/// The address to use: the flag's, else the environment's, else the context's.
pub(crate) fn address(
    arguments: &ConnectionArguments,
    context: Option<&Context>,
) -> Result<String, Failure> {
    let environment = Environment::read().map_err(|error| unusable(&error))?;
    Ok(find_address(arguments, environment.address, context).0)
}

/// The context to use: the one named, which must be there, else the one in use, which need not be
/// there when that is `local`.
pub(crate) fn context(name: Option<&str>) -> Result<Option<Context>, Failure> {
    let Some(name) = name else {
        // Without a home there are no contexts, and none is needed.
        let Ok(folders) = Folders::of_user() else { return Ok(None) };
        let current = context::current(&folders)?;
        return match Context::load(&folders, &current)? {
            None if current != context::LOCAL => Err(no_context(&current)),
            found => Ok(found),
        };
    };
    Context::load(&Folders::of_user()?, name)?.map(Some).ok_or_else(|| no_context(name))
}

/// The same, where there must be one.
pub(crate) fn known_context(name: Option<&str>) -> Result<Context, Failure> {
    context(name)?.ok_or_else(|| no_context(context::LOCAL))
}

/// There is no context of this name.
pub(crate) fn no_context(name: &str) -> Failure {
    let hint = if name == context::LOCAL {
        "`kista up` makes it; `kista login --address URL` makes that of another server"
    } else {
        "kista context ls shows those that there are; kista login --context NAME --address URL \
         makes one"
    };
    Failure::new(format!("there is no context {name:?}")).hint(hint).exit(Exit::NotFound)
}

/// Flags win over the environment, and that over the context; a context named outright wins over
/// what is not Kista's own in the environment.
///
/// The token and the CA of a context go to the address of that context and to no other.
fn find(
    arguments: &ConnectionArguments,
    environment: Environment,
    context: Option<Context>,
) -> Found {
    let is_named = arguments.context.is_some();
    let address = find_address(arguments, environment.address, context.as_ref());
    let context = context.filter(|context| context.is_at(&address.0));
    let (context_token, context_trust, store) = match context {
        Some(Context { name, token, trust, store, .. }) => {
            (token.map(|token| (token, Origin::Context(name))), trust, store)
        }
        None => (None, Trust::default(), None),
    };
    let token = kept(environment.token, is_named)
        .map(|setting| (setting.value, Origin::Variable(setting.variable)))
        .or(context_token);
    let ca_file = arguments
        .ca_cert
        .clone()
        .or(kept(environment.ca_file, is_named).map(|setting| setting.value));
    let trust = match ca_file {
        Some(file) => Trust { ca_file: Some(file), certificate_file: None },
        None => context_trust,
    };
    let namespace = kept(environment.namespace, is_named).map(|setting| setting.value);
    Found { address, token, trust, store, namespace }
}

fn find_address(
    arguments: &ConnectionArguments,
    environment: Option<Setting<String>>,
    context: Option<&Context>,
) -> (String, Origin) {
    match (&arguments.address, kept(environment, arguments.context.is_some()), context) {
        (Some(address), _, _) => (address.clone(), Origin::Flag),
        (None, Some(setting), _) => (setting.value, Origin::Variable(setting.variable)),
        (None, None, Some(context)) => {
            (context.address.clone(), Origin::Context(context.name.clone()))
        }
        (None, None, None) => (DEFAULT_ADDRESS.to_owned(), Origin::Default),
    }
}

fn kept<T>(setting: Option<Setting<T>>, context_is_named: bool) -> Option<Setting<T>> {
    setting.filter(|setting| !context_is_named || setting.variable.starts_with("KISTA_"))
}

/// A client cannot be made of what was given.
pub(crate) fn unusable(error: &BuildError) -> Failure {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    let failure = Failure::new(format!("cannot reach a server: {error}{cause}")).exit(Exit::Usage);
    if let BuildError::Address(given) = error
        && !given.contains("://")
    {
        return failure.hint(format!("with what it speaks before it: https://{given}"));
    }
    if matches!(error, BuildError::CaFile { .. }) {
        return failure.hint(
            "--ca-cert, KISTA_CACERT or the context names it: kista config show --origin tells which",
        );
    }
    failure
}

/// What the network itself said, under the layers of the client.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

fn after_silence(cause: &str) -> &'static str {
    if cause.contains("corrupt message") {
        "the server there does not speak TLS; is its address http://…, or another port?"
    } else if cause.contains("invalid HTTP version") {
        "the server there speaks TLS, or is no web server; is its address https://…, or another port?"
    } else if cause.contains("lookup address") {
        "no machine of that name is known here; is it spelled right?"
    } else {
        "start one with `kista up`, or name another with --address or KISTA_ADDR"
    }
}

/// Where `up` and `server` listen when nothing is said.
const DEFAULT_ADDRESS: &str = "https://127.0.0.1:8200";

#[cfg(test)]
mod tests {
    use super::*;

    fn setting<T>(variable: &str, value: T) -> Option<Setting<T>> {
        Some(Setting { value, variable: variable.to_owned() })
    }

    fn nothing() -> Environment {
        Environment { address: None, token: None, ca_file: None, namespace: None }
    }

    fn local() -> Option<Context> {
        Some(Context {
            name: context::LOCAL.to_owned(),
            address: "https://127.0.0.1:8200".to_owned(),
            token: Some(SecretString::copy_of("hvs.local")),
            trust: Trust { ca_file: Some("/ca.pem".into()), certificate_file: None },
            store: Some("5b1c".to_owned()),
            data: None,
        })
    }

    fn arguments(address: Option<&str>, context: Option<&str>) -> ConnectionArguments {
        ConnectionArguments {
            address: address.map(str::to_owned),
            ca_cert: None,
            context: context.map(str::to_owned),
        }
    }

    #[test]
    fn a_contexts_token_goes_to_its_own_address_only() {
        let found = find(&arguments(None, None), nothing(), local());
        assert!(found.token.is_some() && found.trust.ca_file.is_some() && found.store.is_some());
        let found = find(&arguments(Some("https://127.0.0.1:8200/"), None), nothing(), local());
        assert!(found.token.is_some());
        let found = find(&arguments(Some("https://elsewhere"), None), nothing(), local());
        assert!(found.token.is_none() && found.trust == Trust::default() && found.store.is_none());
        let elsewhere = Environment {
            address: setting("VAULT_ADDR", "https://elsewhere".to_owned()),
            ..nothing()
        };
        assert!(find(&arguments(None, None), elsewhere, local()).token.is_none());
    }

    #[test]
    fn the_environment_wins_over_a_context_that_was_not_named() {
        let with_token = |variable: &str| Environment {
            token: setting(variable, SecretString::copy_of("hvs.other")),
            ..nothing()
        };
        let origin = |name: Option<&str>, variable: &str| {
            find(&arguments(None, name), with_token(variable), local()).token.unwrap().1
        };
        assert_eq!(origin(None, "VAULT_TOKEN"), Origin::Variable("VAULT_TOKEN".to_owned()));
        assert_eq!(
            origin(Some(context::LOCAL), "VAULT_TOKEN"),
            Origin::Context(context::LOCAL.to_owned())
        );
        assert_eq!(
            origin(Some(context::LOCAL), "KISTA_TOKEN"),
            Origin::Variable("KISTA_TOKEN".to_owned())
        );
    }

    #[test]
    fn silence_has_its_reasons() {
        let next = after_silence("failed to lookup address information: Name or service not known");
        assert!(next.contains("spelled"), "{next}");
        assert!(after_silence("invalid HTTP version parsed").contains("https://"));
        assert!(after_silence("Connection refused (os error 111)").contains("kista up"));
    }

    #[test]
    fn without_anything_it_is_the_usual_address() {
        let found = find(&arguments(None, None), nothing(), None);
        assert_eq!(found.address, (DEFAULT_ADDRESS.to_owned(), Origin::Default));
    }
}
