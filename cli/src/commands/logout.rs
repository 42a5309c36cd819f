use clap::Args;
use kista::client::Error;
use serde::Serialize;

use crate::{
    failure::{Exit, Failure},
    folders::Folders,
    output::{self, Output},
    server::{self, Server},
};

/// Revoke the token of a context, and forget it.
///
/// Address and certificate stay, so that `kista login` needs only a token.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista logout\n  kista logout --context prod --keep",
    after_help = "Exit codes: 0 logged out (also when no token was kept), 1 error, 2 usage, 3 no \
                  such context, 4 permission denied, 5 sealed, unreachable or not trusted."
)]
pub(crate) struct Logout {
    /// Context to log out of [default: the one in use]
    #[arg(long, value_name = "NAME", env = "KISTA_CONTEXT")]
    context: Option<String>,
    /// Forget the token without revoking it
    #[arg(long)]
    keep: bool,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct LoggedOut<'a> {
    context: &'a str,
    revoked: bool,
}

impl Logout {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let folders = Folders::of_user()?;
        let mut context = server::known_context(self.context.as_deref())?;
        let token = context.token.take();
        let had_token = token.is_some();
        let mut revoked = false;
        if let Some(token) = token.filter(|_| !self.keep) {
            let server = Server::of_context(&context, Some(&token))?;
            match server.client.own_token().revoke().await {
                Ok(()) => revoked = true,
                // It has ended by itself.
                Err(Error::InvalidToken) => {}
                Err(error) => {
                    let failure = server.explain("revoke the token", error).await;
                    let first = failure.hint.as_deref().unwrap_or_default();
                    let hint = format!("{first}\n--keep forgets it without revoking it");
                    return Err(failure.hint(hint.trim_start()));
                }
            }
        }
        context.save(&folders)?;
        let (name, output) = (&context.name, Output::new(self.json));
        if output.wants_json() {
            output.serialized(&LoggedOut { context: name, revoked })?;
        } else if !had_token {
            output::note(&format!("the context {name:?} held no token"));
        } else if revoked {
            output::note(&format!("the token of the context {name:?} is revoked and forgotten"));
        } else {
            output::note(&format!("the token of the context {name:?} is forgotten"));
        }
        if context.data.is_some() && revoked {
            output::note("next:  the next start of `kista up` gives the context a new one");
        }
        Ok(Exit::Done)
    }
}
