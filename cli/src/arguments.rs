//! The command line as it is typed.

use std::{env, ops::Deref, path::PathBuf};

use clap::{Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::clipboard::ClearClipboard;
use crate::commands::{
    api::Api,
    backup::BackupCommand,
    completion::Completion,
    config::ConfigCommand,
    context::ContextCommand,
    delete::Delete,
    destroy::Destroy,
    diff::Diff,
    doctor::Doctor,
    edit::Edit,
    encryption::{Decrypt, Encrypt, Rewrap},
    export::Export,
    find::Find,
    get::Get,
    import::Import,
    keys::KeyCommand,
    log::Log,
    login::Login,
    logout::Logout,
    ls::Ls,
    man::Man,
    operator::OperatorCommand,
    patch::Patch,
    policy::PolicyCommand,
    put::Put,
    quota::QuotaCommand,
    render::Render,
    rm::Rm,
    rollback::Rollback,
    route::{List, Read, Write},
    run::Run,
    secrets::SecretsCommand,
    server::Serve,
    status::Status,
    token::TokenCommand,
    transfer::{Cp, Mv},
    tree::Tree,
    undelete::Undelete,
    up::Up,
};
use crate::output::Colour;

/// A vault for secrets and keys: server and command line in one.
#[derive(Debug, Parser)]
#[command(
    name = "kista",
    version,
    before_help = "Example:\n  kista up                                   # from nothing to a server\n  \
                   kista put secret/app/db password=-         # asks for the value\n  \
                   kista get secret/app/db -k password | cat",
    after_help = EXIT_CODES,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// When to use colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    pub(crate) color: Colour,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Up),
    Server(Serve),
    Put(Put),
    Patch(Patch),
    Edit(Edit),
    Get(Get),
    Ls(Ls),
    Tree(Tree),
    Find(Find),
    Log(Log),
    Diff(Diff),
    Rollback(Rollback),
    Run(Run),
    Export(Export),
    Import(Import),
    Render(Render),
    Delete(Delete),
    Undelete(Undelete),
    Rm(Rm),
    Cp(Cp),
    Mv(Mv),
    Destroy(Destroy),
    Status(Status),
    Doctor(Doctor),
    Read(Read),
    Write(Write),
    List(List),
    Api(Api),
    /// What tokens may do: list, print, write, test and remove policies.
    #[command(subcommand, disable_help_subcommand = true)]
    Policy(PolicyCommand),
    /// How often a client may ask: list, show, set and remove quotas.
    #[command(subcommand, disable_help_subcommand = true)]
    Quota(QuotaCommand),
    /// Tokens: make, show, renew, revoke.
    #[command(subcommand, disable_help_subcommand = true)]
    Token(TokenCommand),
    Encrypt(Box<Encrypt>),
    Decrypt(Box<Decrypt>),
    Rewrap(Box<Rewrap>),
    /// Keys that encrypt values for programs: make, show, rotate, retire.
    #[command(subcommand, disable_help_subcommand = true)]
    Key(KeyCommand),
    /// The mounts of secrets: list, enable, disable.
    #[command(subcommand, disable_help_subcommand = true)]
    Secrets(SecretsCommand),
    /// Initialise, unseal and seal a server.
    #[command(subcommand, disable_help_subcommand = true)]
    Operator(OperatorCommand),
    /// Copies of a store: make, verify, restore.
    #[command(subcommand, disable_help_subcommand = true)]
    Backup(BackupCommand),
    Completion(Completion),
    Man(Man),
    Login(Login),
    Logout(Logout),
    /// What is known of servers, by name: address, CA, token.
    #[command(subcommand, disable_help_subcommand = true)]
    Context(ContextCommand),
    /// The settings that a command works with, and where they come from.
    #[command(subcommand, disable_help_subcommand = true)]
    Config(ConfigCommand),
    ClearClipboard(ClearClipboard),
}

/// Which server, and how to print.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArguments {
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
    /// Print JSON, one object
    #[arg(long)]
    pub(crate) json: bool,
}

impl Deref for ServerArguments {
    type Target = ConnectionArguments;

    fn deref(&self) -> &ConnectionArguments {
        &self.connection
    }
}

/// Which server.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ConnectionArguments {
    /// Address of the server, https://HOST:PORT [also: KISTA_ADDR, BAO_ADDR, VAULT_ADDR]
    #[arg(long, value_name = "URL")]
    pub(crate) address: Option<String>,
    /// PEM file of the only CA to trust [also: KISTA_CACERT, BAO_CACERT, VAULT_CACERT]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Context to use, before the one in use and BAO_* and VAULT_* variables
    #[arg(long, value_name = "NAME", env = "KISTA_CONTEXT")]
    pub(crate) context: Option<String>,
}

impl Arguments {
    /// What was typed.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let colour = if is_colourless() { ColorChoice::Never } else { ColorChoice::Auto };
        Self::from_arg_matches(&Self::definition().color(colour).try_get_matches()?)
    }

    /// The command line as it may be typed; each help tells how the command ends.
    pub(crate) fn definition() -> clap::Command {
        fn told(command: clap::Command) -> clap::Command {
            // One with an example does something by itself too.
            let acts = !command.has_subcommands() || command.get_before_help().is_some();
            if !acts || command.get_after_help().is_some() {
                return command.mut_subcommands(told);
            }
            command.mut_subcommands(told).after_help(EXIT_CODES)
        }
        told(Self::command())
    }
}

/// What is not a command here, and what does the same: words of Vault's, and such as come to mind.
pub(crate) fn meant(word: &str) -> Option<&'static str> {
    Some(match word {
        "kv" => "without kv: kista put, get, patch, ls, log, delete, undelete, destroy, rollback",
        "init" => "kista operator init; or, from nothing to a server: kista up",
        "unseal" => "kista operator unseal",
        "seal" => "kista operator seal",
        "rekey" => "kista operator rekey",
        "start" | "dev" => "kista up; for tests: kista up --dev",
        "set" | "add" | "create" => "kista put secret/app/db KEY=-",
        "show" | "cat" => "kista get secret/app/db",
        "exec" | "env" => "kista run -e secret/app/db -- CMD",
        "remove" | "del" => "kista rm, which leaves the versions; for good: kista destroy",
        "search" | "grep" => "kista find PATTERN",
        "history" | "versions" => "kista log secret/app/db",
        "engine" | "engines" | "mount" | "mounts" => "kista secrets ls",
        "transit" => "kista key, kista encrypt and kista decrypt",
        "help" => "kista --help; of one command: kista COMMAND --help",
        "version" => "kista --version",
        _ => return None,
    })
}

/// Whether `--color never` is said: what the parser itself prints must obey it too.
fn is_colourless() -> bool {
    let words: Vec<_> = env::args_os().skip(1).take_while(|word| word != "--").collect();
    words.iter().any(|word| word == "--color=never")
        || words.windows(2).any(|pair| pair == ["--color", "never"])
}

/// What the numbers mean with which the program ends.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 permission denied, \
                          5 sealed or unreachable, 6 conflict, 7 done in part, 10 found or \
                          different.\nThe token is taken from \
                          KISTA_TOKEN, BAO_TOKEN or VAULT_TOKEN, else from the context; never \
                          from the command line.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Arguments::definition().debug_assert();
    }

    #[test]
    fn every_help_begins_with_an_example_and_ends_with_the_exit_codes() {
        fn check(command: &clap::Command) {
            if command.has_subcommands() {
                command.get_subcommands().for_each(check);
            } else {
                let before = command.get_before_help().map(ToString::to_string).unwrap_or_default();
                assert!(before.starts_with("Example"), "{}", command.get_name());
                let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.contains("Exit codes:"), "{}", command.get_name());
            }
        }
        check(&Arguments::definition());
    }

    #[test]
    fn no_command_takes_a_token_or_a_share_as_an_argument() {
        for arguments in [
            &["kista", "get", "--token", "hvs.x", "secret/a"][..],
            &["kista", "operator", "unseal", "0a1b"],
            &["kista", "operator", "unseal", "--passphrase", "x"],
        ] {
            assert!(Arguments::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
