use clap::Args;

use super::Shown;
use crate::{
    arguments::ConnectionArguments,
    commands::login::Meeting,
    context,
    failure::{Exit, Failure},
    folders::Folders,
    output::{self, Output},
};

/// Keep the address of a server and its certificate, without a token.
///
/// It suits a machine whose token comes from elsewhere, such as KISTA_TOKEN. `kista login` adds a
/// token to it.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista context add prod --address https://vault.example:8200\n  \
                   kista context add lab --address https://10.1.2.3:8200 --ca-cert ca.pem",
    after_help = "Exit codes: 0 kept, 1 error, 2 usage, 5 unreachable or not trusted."
)]
pub(crate) struct Add {
    /// Name of the context
    name: String,
    /// Address of the server, https://HOST:PORT
    #[arg(long, value_name = "URL")]
    address: String,
    /// PEM file of the only CA to trust
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<std::path::PathBuf>,
    #[command(flatten)]
    meeting: Meeting,
    /// Print JSON, one object
    #[arg(long)]
    json: bool,
}

impl Add {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        context::check_name(&self.name)?;
        if context::exists(&self.name) {
            return Err(Failure::usage(format!("there is a context {:?} already", self.name))
                .hint(format!("kista context show {0}, or: kista context rm {0}", self.name)));
        }
        let folders = Folders::of_user()?;
        let arguments = ConnectionArguments {
            address: Some(self.address),
            ca_cert: self.ca_cert,
            context: Some(self.name),
        };
        let context = self.meeting.context(&folders, &arguments).await?;
        context.save(&folders)?;
        let output = Output::new(self.json);
        if output.wants_json() {
            output.serialized(&Shown::of(&context, &context::current(&folders)?))?;
        } else {
            output::note(&format!(
                "kept: the context {0:?}, {1}\nnext:  kista login --context {0}",
                context.name, context.address
            ));
        }
        Ok(Exit::Done)
    }
}
