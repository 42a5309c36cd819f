//! The command line of Kista: server and client in one binary.
//!
//! - `arguments.rs`: the command line as it is typed
//! - `commands/`: what each command does
//! - `completing.rs`: what a shell is told that completes a line
//! - `server.rs`: which server a command talks to, and what its refusals mean
//! - `trust.rs`: the first meeting with a server
//! - `context.rs`, `folders.rs`, `files.rs`: what is kept on this machine
//! - `reference.rs`: how a secret is named
//! - `values.rs`, `prompt.rs`, `hidden.rs`, `consent.rs`: what is asked for; `generate/`: what is made instead
//! - `fetching.rs`: reading what a program starts with; `variables.rs`: which variables it becomes
//! - `quoting.rs`: values as other languages write them
//! - `offline.rs`: sealed copies of what was read, for when no vault answers
//! - `yaml.rs`: YAML as the JSON that a secret holds
//! - `dotenv.rs`, `project.rs`: files that say what a program starts with
//! - `watching.rs`: looking again until a signal ends it
//! - `progress.rs`: how far long work has come
//! - `clipboard.rs`: where a value may be put for a while
//! - `output.rs`: the only printer; `failure.rs`: how the program ends
//! - `hygiene.rs`: what the process does before it holds a secret; `logging.rs`: the server's log

mod arguments;
mod clipboard;
mod commands;
mod completing;
mod consent;
mod context;
mod dotenv;
mod failure;
mod fetching;
mod files;
mod folders;
mod generate;
mod hidden;
mod hygiene;
mod logging;
mod offline;
mod output;
mod progress;
mod project;
mod prompt;
mod quoting;
mod reference;
mod server;
mod trust;
mod values;
mod variables;
mod watching;
mod yaml;

use std::{alloc::System, process::ExitCode};

use tokio::runtime::Builder;
use zeroizing_alloc::ZeroAlloc;

use crate::{
    arguments::{Arguments, Command},
    failure::{Exit, Failure},
    hygiene::Before,
};

/// Wipes what is freed. Bodies and plaintext pass through buffers of libraries (HTTP, TLS, JSON)
/// that know of no secret; this reaches those too.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let before = hygiene::prepare();
    if let Some(answered) = completing::answer() {
        // A shell shows what is said between the words that somebody types, so nothing is.
        return if answered.is_ok() { Exit::Done.into() } else { Exit::Failed.into() };
    }
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => return told(output::arguments(error)),
    };
    output::set_colour(arguments.color);
    if !matches!(arguments.command, Command::Run(_) | Command::Render(_)) {
        hygiene::give_up_rights();
    }
    told(run(arguments.command, before))
}

/// How the process ends; a failure is told before.
fn told(ended: Result<Exit, Failure>) -> ExitCode {
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::failure(&failure);
            failure.exit.into()
        }
    }
}

fn run(command: Command, before: Before) -> Result<Exit, Failure> {
    let mut builder = match command {
        Command::Up(_) | Command::Server(_) | Command::Backup(_) => Builder::new_multi_thread(),
        Command::Put(_)
        | Command::Patch(_)
        | Command::Edit(_)
        | Command::Get(_)
        | Command::Ls(_)
        | Command::Tree(_)
        | Command::Find(_)
        | Command::Log(_)
        | Command::Diff(_)
        | Command::Rollback(_)
        | Command::Run(_)
        | Command::Export(_)
        | Command::Import(_)
        | Command::Render(_)
        | Command::Delete(_)
        | Command::Undelete(_)
        | Command::Rm(_)
        | Command::Cp(_)
        | Command::Mv(_)
        | Command::Destroy(_)
        | Command::Status(_)
        | Command::Doctor(_)
        | Command::Read(_)
        | Command::Write(_)
        | Command::List(_)
        | Command::Api(_)
        | Command::Policy(_)
        | Command::Quota(_)
        | Command::Token(_)
        | Command::Encrypt(_)
        | Command::Decrypt(_)
        | Command::Rewrap(_)
        | Command::Key(_)
        | Command::Secrets(_)
        | Command::Operator(_)
        | Command::ClearClipboard(_)
        | Command::Context(_)
        | Command::Config(_)
        | Command::Login(_)
        | Command::Completion(_)
        | Command::Man(_)
        | Command::Logout(_) => Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build().map_err(|error| Failure::io("start", &error))?;
    runtime.block_on(async {
        match command {
            Command::Up(up) => up.run().await,
            Command::Server(server) => server.run().await,
            Command::Put(put) => put.run().await,
            Command::Patch(patch) => patch.run().await,
            Command::Edit(edit) => edit.run().await,
            Command::Get(get) => get.run().await,
            Command::Ls(ls) => ls.run().await,
            Command::Tree(tree) => tree.run().await,
            Command::Find(find) => find.run().await,
            Command::Log(log) => log.run().await,
            Command::Diff(diff) => diff.run().await,
            Command::Rollback(rollback) => rollback.run().await,
            Command::Run(run) => run.run(&before).await,
            Command::Export(export) => export.run().await,
            Command::Import(import) => import.run().await,
            Command::Render(render) => render.run(&before).await,
            Command::Delete(delete) => delete.run().await,
            Command::Undelete(undelete) => undelete.run().await,
            Command::Rm(rm) => rm.run().await,
            Command::Cp(cp) => cp.run().await,
            Command::Mv(mv) => mv.run().await,
            Command::Destroy(destroy) => destroy.run().await,
            Command::Status(status) => status.run().await,
            Command::Doctor(doctor) => doctor.run().await,
            Command::Read(read) => read.run().await,
            Command::Write(write) => write.run().await,
            Command::List(list) => list.run().await,
            Command::Api(api) => api.run().await,
            Command::Policy(policy) => policy.run().await,
            Command::Quota(quota) => quota.run().await,
            Command::Token(token) => token.run().await,
            Command::Encrypt(encrypt) => encrypt.run().await,
            Command::Decrypt(decrypt) => decrypt.run().await,
            Command::Rewrap(rewrap) => rewrap.run().await,
            Command::Key(key) => key.run().await,
            Command::Secrets(secrets) => secrets.run().await,
            Command::Operator(operator) => operator.run().await,
            Command::Backup(backup) => backup.run().await,
            Command::ClearClipboard(clear) => clear.run().await,
            Command::Context(context) => context.run().await,
            Command::Config(config) => config.run(),
            Command::Completion(completion) => completion.run(),
            Command::Man(man) => man.run(),
            Command::Login(login) => login.run().await,
            Command::Logout(logout) => logout.run().await,
        }
    })
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
