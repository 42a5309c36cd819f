use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use clap::{Args, ValueEnum};
use kista::{clock, secret::SecretBytes};
use rustix::process::Signal;

use super::supervise::{self, OnChange, Supervisor};
use crate::{
    arguments::ConnectionArguments,
    dotenv,
    failure::{Exit, Failure},
    fetching::{Chosen, FetchArguments, Fetcher},
    files,
    hygiene::{Before, TOKENS},
    output,
    project::Project,
    prompt,
    reference::{Reference, ReferenceError},
    variables::{Rules, Variable, Variables, Wanted},
};

/// Run a program with secrets in its environment.
///
/// The program takes this process's place: same process id, signals, terminal and exit code. A key
/// such as db-password becomes DB_PASSWORD; PATH#KEY=NAME names a variable otherwise, and only so
/// does one come about that steers how programs run, such as LD_PRELOAD or PATH. Of several sources
/// of a variable the last one wins.
///
/// Without -e and --env-file, [run] env of the nearest .kista.toml says what to fetch. The vault's
/// own token (KISTA_TOKEN, BAO_TOKEN, VAULT_TOKEN) is not handed on.
///
/// With --watch it stays beside the program, looks every 10 seconds (--interval), and starts it anew
/// when a variable has changed, or sends it a signal (--signal HUP): for programs that then read what
/// `kista render` or they themselves fetch, since nothing changes the environment of one that runs.
/// Signals go on to the program; what fails meanwhile is told, and the program goes on. The token
/// that it reads with is renewed as long as it may be.
///
/// It ends with the program's own code; 127 when there is no such program, 126 when it cannot be
/// run.
#[derive(Debug, Args)]
#[command(before_help = "Example:\n  kista run -e secret/app/db -- ./api\n  \
                         kista run -e secret/app/mail#api_key=MAIL_KEY --env-file .env -- npm start\n  \
                         kista run -e secret/app/db --wait 60s -- /usr/bin/api --port 80\n  \
                         kista run -e secret/app/db --watch -- ./worker")]
pub(crate) struct Run {
    /// A secret, a value of it (PATH#KEY), or one under another name (PATH#KEY=NAME); repeatable
    #[arg(short, long = "env", value_name = "REF")]
    env: Vec<Wanted>,
    /// File of NAME=value lines, where a value may be kista://MOUNT/PATH#KEY; repeatable
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Set these variables and no others
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    only: Vec<String>,
    /// Put this before each name that is made from a key
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Hand on nothing of this environment but PATH, HOME, USER, SHELL, TERM, TZ, language and the
    /// like
    #[arg(long)]
    pristine: bool,
    /// Which value stays where a variable is set already
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = Prefer::Kista)]
    prefer: Prefer,
    /// Fail where two sources make one variable, or one would steer how programs run
    #[arg(long)]
    strict: bool,
    /// Hand KISTA_TOKEN, BAO_TOKEN and VAULT_TOKEN on to the program
    #[arg(long)]
    keep_token: bool,
    /// Stay, and start the program anew when a variable has changed
    #[arg(long)]
    watch: bool,
    /// Send this signal instead of starting it anew: HUP, USR1, USR2, INT, TERM, QUIT or WINCH
    #[arg(long, value_name = "SIG", requires = "watch", value_parser = supervise::signal)]
    signal: Option<Signal>,
    /// How often --watch looks
    #[arg(long, value_name = "DURATION", requires = "watch", default_value = "10s",
          value_parser = clock::parse_duration)]
    interval: Duration,
    /// How long a program that is to start anew may take to end, before it is killed
    #[arg(long, value_name = "DURATION", requires = "watch", default_value = "10s",
          value_parser = clock::parse_duration)]
    grace: Duration,
    #[command(flatten)]
    fetch: FetchArguments,
    #[command(flatten)]
    connection: ConnectionArguments,
    /// The program and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Whose value of a variable stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Prefer {
    /// The one that is set already
    Env,
    /// The vault's
    Kista,
}

impl Run {
    pub(crate) async fn run(self, before: &Before) -> Result<Exit, Failure> {
        if self.watch {
            self.fetch.refuse_only_copies()?;
        }
        let mut fetcher = Fetcher::new(&self.connection, &self.fetch);
        let variables = self.collect(&mut fetcher).await?;
        for (name, origin) in variables.left_out() {
            output::warn(&format!(
                "{origin} is left out, since {name} steers how programs run; -e '{origin}={name}' \
                 sets it all the same"
            ));
        }
        let variables = variables.finish()?;
        if self.watch {
            return self.supervise(variables, &mut fetcher, before).await;
        }
        Err(self.become_program(&variables, before))
    }

    /// Stays beside the program, and tells it of changes.
    async fn supervise(
        &self,
        variables: Vec<Variable>,
        fetcher: &mut Fetcher<'_>,
        before: &Before,
    ) -> Result<Exit, Failure> {
        let supervisor = Supervisor {
            start: |variables: &[Variable]| self.program(variables).map(Into::into),
            on_change: self.signal.map_or(OnChange::Restart(self.grace), OnChange::Signal),
            interval: self.interval,
            before,
        };
        fetcher.keep_tokens().await;
        let look = async || {
            fetcher.begin_again();
            let found = self.collect(fetcher).await;
            fetcher.keep_tokens().await;
            found?.finish()
        };
        let name = self.command.first().map(OsString::as_os_str).unwrap_or_default();
        supervisor.run(variables, look, |error| not_run(name, error)).await
    }

    /// Fetches what the command line names, else what the project's file names.
    async fn collect(&self, fetcher: &mut Fetcher<'_>) -> Result<Variables<'_>, Failure> {
        let mut variables =
            Variables::new(Rules { prefix: &self.prefix, only: &self.only, strict: self.strict });
        if self.env.is_empty() && self.env_file.is_empty() {
            let project = Project::find()?.filter(|project| !project.env.is_empty());
            let Some(project) = project else { return Err(nothing_named()) };
            for wanted in &project.env {
                fetcher.add_to(&mut variables, wanted, Chosen::InFoundFile).await?;
            }
        }
        // Files first: what is named one by one is meant to win.
        for file in &self.env_file {
            add_file(&mut variables, fetcher, file).await?;
        }
        for wanted in &self.env {
            fetcher.add_to(&mut variables, wanted, Chosen::OnCommandLine).await?;
        }
        Ok(variables)
    }

    /// Replaces this process by the program (execve(2)), and returns only if that fails.
    fn become_program(&self, variables: &[Variable], before: &Before) -> Failure {
        let mut command = match self.program(variables) {
            Ok(command) => command,
            Err(failure) => return failure,
        };
        before.restore();
        let error = command.exec();
        not_run(command.get_program(), &error)
    }

    /// The program with its arguments and environment.
    fn program(&self, variables: &[Variable]) -> Result<process::Command, Failure> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(Failure::usage("no program is named"));
        };
        let mut command = process::Command::new(program);
        command.args(arguments);
        if self.pristine {
            command.env_clear().envs(env::vars_os().filter(|(name, _)| is_harmless(name)));
        } else if !self.keep_token {
            TOKENS.iter().for_each(|name| {
                command.env_remove(name);
            });
        }
        if self.pristine && self.keep_token {
            command.envs(env::vars_os().filter(|(name, _)| TOKENS.iter().any(|n| name == n)));
        }
        for Variable { name, value, .. } in variables {
            if !self.stays(name) {
                value.expose(|value| command.env(name, value));
            }
        }
        Ok(command)
    }

    /// Whether the program gets a variable of this environment, and it is to win.
    fn stays(&self, name: &str) -> bool {
        let is_handed_on = match TOKENS.contains(&name) {
            true => self.keep_token,
            false => !self.pristine || is_harmless(OsStr::new(name)),
        };
        self.prefer == Prefer::Env && is_handed_on && env::var_os(name).is_some()
    }
}

async fn add_file(
    variables: &mut Variables<'_>,
    fetcher: &mut Fetcher<'_>,
    file: &Path,
) -> Result<(), Failure> {
    let shown = file.display().to_string();
    let bytes = fs::read(file).map_err(|error| files::unreadable(file, &error))?;
    let text = prompt::text(SecretBytes::from_vec(bytes), &shown)?;
    let lines = text
        .expose(dotenv::parse)
        .map_err(|error| Failure::usage(format!("{shown} is not understood: {error}")))?;
    for dotenv::Variable { name, value, line } in lines {
        let place = format!("{shown}:{line}");
        let value = match value.expose(reference) {
            None => value,
            Some(Err(error)) => return Err(Failure::usage(format!("{place}: {name}: {error}"))),
            Some(Ok(reference)) => {
                let Some(key) = &reference.key else {
                    return Err(Failure::usage(format!("{place}: {name}: which key is meant?"))
                        .hint(format!("{name}=kista://{}#KEY", reference.place)));
                };
                let value = fetcher.value(&reference, key).await;
                value.map_err(|failure| at(&format!("{place}: {name}"), failure))?.plain()
            }
        };
        variables.add_named(&name, value, place)?;
    }
    Ok(())
}

/// The failure, with the place in a file that leads to it.
fn at(place: &str, failure: Failure) -> Failure {
    Failure { message: format!("{place}: {}", failure.message), ..failure }
}

/// The reference that a value of a file is, if it is one.
fn reference(value: &str) -> Option<Result<Reference, ReferenceError>> {
    Reference::is_long(value).then(|| value.parse())
}

fn nothing_named() -> Failure {
    Failure::usage("nothing says which secrets the program is to get")
        .hint("name them: kista run -e secret/app/db -- CMD; or [run] env = [\"secret/app/db\"] in .kista.toml")
}

/// Why the program does not run, with the codes that shells have for it.
fn not_run(program: &OsStr, error: &io::Error) -> Failure {
    let program = program.to_string_lossy();
    #[expect(clippy::wildcard_enum_match_arm, reason = "the system's own text says the rest")]
    match error.kind() {
        io::ErrorKind::NotFound => {
            let failure = Failure::new(format!("cannot run {program}: there is no such program"))
                .exit(Exit::NoProgram);
            match program.contains('/') && !program.contains(' ') {
                true => failure.hint(
                    "is the path right? of a script, the interpreter in its first line must be there",
                ),
                false => failure.hint(
                    "it is looked for in PATH; a line of shell runs as: kista run … -- sh -c 'LINE'",
                ),
            }
        }
        io::ErrorKind::PermissionDenied => Failure::io(format!("run {program}"), error)
            .hint("is it a file, and executable? chmod +x")
            .exit(Exit::NotExecutable),
        io::ErrorKind::ArgumentListTooLong => Failure::io(format!("run {program}"), error)
            .hint("variables and arguments are too long together: fetch less, see --only")
            .exit(Exit::NotExecutable),
        _ => Failure::io(format!("run {program}"), error).exit(Exit::NotExecutable),
    }
}

/// What a pristine environment still has: what programs need to find themselves, and no secret.
fn is_harmless(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| HARMLESS.contains(&name) || name.starts_with("LC_"))
}

const HARMLESS: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_shells() {
        let code = |error: io::Error| not_run(OsStr::new("x"), &error).exit.code();
        assert_eq!(code(io::ErrorKind::NotFound.into()), 127);
        assert_eq!(code(io::ErrorKind::PermissionDenied.into()), 126);
        assert_eq!(code(io::ErrorKind::ArgumentListTooLong.into()), 126);
    }

    #[test]
    fn only_the_long_form_is_a_reference_in_a_file() {
        assert!(reference("secret/app/db#password").is_none());
        assert!(reference("https://host/#x").is_none());
        assert!(reference("kista://secret/app/db#password").unwrap().is_ok());
        assert!(reference("kista://secret/app/db#").unwrap().is_err());
    }
}
