//! What a shell is told when somebody asks it to complete a line: commands and options, and what only a
//! server knows, which is names and never values.
//!
//! The script that `kista completion` prints calls this program with the words so far. It answers
//! within the blink of an eye or not at all, and says nothing when something is wrong.

use std::{
    any::TypeId,
    env,
    ffi::{OsStr, OsString},
    fs, io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{Arg, Command};
use clap_complete::{
    engine::{ArgValueCompleter, CompletionCandidate, ValueCompleter},
    env::{EnvCompleter, Shells},
};
use kista::secret::SecretBytes;
use tokio::{runtime::Builder, time};

use crate::{
    arguments::{Arguments, ConnectionArguments},
    commands::{diff::Version, names},
    context,
    failure::Failure,
    files,
    folders::Folders,
    output::Output,
    reference::{Place, Reference},
    server::Server,
    variables::Wanted,
};

/// The script that has a shell ask this program.
pub(crate) fn script(shell: &str) -> Result<String, Failure> {
    let shells = Shells::builtins();
    let shell = find(&shells, shell)?;
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "kista", "kista", "kista", &mut script)
        .map_err(|error| Failure::io("write the script", &error))?;
    String::from_utf8(script).map_err(|error| Failure::of(&error))
}

/// Answers a shell, if that is what this process was started for.
pub(crate) fn answer() -> Option<Result<(), Failure>> {
    let shell = env::var(VARIABLE).ok().filter(|shell| !shell.is_empty())?;
    Some(answer_to(&shell))
}

fn answer_to(shell: &str) -> Result<(), Failure> {
    let shells = Shells::builtins();
    let shell = find(&shells, shell)?;
    // This program's name, `--`, and the words of the line.
    let words: Vec<OsString> = env::args_os().skip(2).collect();
    let mut answer = Vec::new();
    shell
        .write_complete(&mut definition(), words, env::current_dir().ok().as_deref(), &mut answer)
        .map_err(|error| Failure::io("complete the line", &error))?;
    Output::new(false).part(&String::from_utf8_lossy(&answer))?;
    Ok(())
}

fn find<'a>(shells: &'a Shells<'_>, name: &str) -> Result<&'a dyn EnvCompleter, Failure> {
    shells.completer(name).ok_or_else(|| {
        Failure::usage(format!("there is no shell {name:?} that is known here"))
            .hint(format!("one of {}", shells.names().collect::<Vec<_>>().join(", ")))
    })
}

/// The command line, with what completes the values that name something.
fn definition() -> Command {
    fn completed(command: Command) -> Command {
        command.mut_args(completed_argument).mut_subcommands(completed)
    }
    completed(Arguments::definition()).mut_subcommand("context", |context| {
        context.mut_subcommands(|command| match command.get_name() {
            "use" | "rm" | "show" => {
                command.mut_arg("name", |name| name.add(ArgValueCompleter::new(contexts)))
            }
            _ => command,
        })
    })
}

fn completed_argument(argument: Arg) -> Arg {
    let kind = argument.get_value_parser().type_id();
    let names_key = [TypeId::of::<Reference>(), TypeId::of::<Wanted>()];
    if argument.get_id() == "context" {
        argument.add(ArgValueCompleter::new(contexts))
    } else if names_key.iter().any(|known| kind == *known) {
        argument.add(ArgValueCompleter::new(Paths { with_keys: true }))
    } else if kind == TypeId::of::<Place>() || kind == TypeId::of::<Version>() {
        argument.add(ArgValueCompleter::new(Paths { with_keys: false }))
    } else {
        argument
    }
}

fn contexts(current: &OsStr) -> Vec<CompletionCandidate> {
    let names = Folders::of_user().and_then(|folders| context::names(&folders));
    let current = current.to_str().unwrap_or_default();
    let names = names.unwrap_or_default().into_iter();
    names.filter(|name| name.starts_with(current)).map(CompletionCandidate::new).collect()
}

/// Mounts, folders, secrets and, behind `#`, keys.
struct Paths {
    with_keys: bool,
}

impl ValueCompleter for Paths {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let Some(current) = current.to_str() else { return Vec::new() };
        if current.contains('#') && !self.with_keys {
            return Vec::new();
        }
        let names = candidates(current).unwrap_or_default();
        names.into_iter().map(CompletionCandidate::new).collect()
    }
}

/// What a word may become; `None` where that cannot be known in time.
fn candidates(current: &str) -> Option<Vec<String>> {
    // Up to here it is known, and what follows is asked for.
    let known = current.rfind(['/', '#']).map_or("", |at| current.get(..=at).unwrap_or_default());
    let server = Server::find(&ConnectionArguments::default()).ok()?;
    let key = server.cache_key(known)?;
    let names = match cached(&key) {
        Some(names) => names,
        None => {
            let runtime = Builder::new_current_thread().enable_all().build().ok()?;
            let asked = async { time::timeout(PATIENCE, names::below(&server, known)).await };
            let names = runtime.block_on(asked).ok()??;
            keep(&key, &names);
            names
        }
    };
    let whole = names.into_iter().map(|name| format!("{known}{name}"));
    Some(whole.filter(|name| name.starts_with(current) && is_harmless(name)).collect())
}

/// Whether a shell takes it for one word, and for nothing else: names come from whoever may write
/// secrets, and a line that was completed is run.
fn is_harmless(name: &str) -> bool {
    name.chars().all(|char| char.is_alphanumeric() || "/#._-+:@,%=".contains(char))
}

/// The names that were asked for last, if that was just now.
fn cached(key: &str) -> Option<Vec<String>> {
    let file = cache()?;
    let age = SystemTime::now().duration_since(fs::metadata(&file).ok()?.modified().ok()?).ok()?;
    if age > KEPT {
        return None;
    }
    let content = files::read_private(&file).ok()??;
    content.expose(|content| {
        let mut lines = std::str::from_utf8(content).ok()?.lines();
        (lines.next() == Some(key)).then(|| lines.map(str::to_owned).collect())
    })
}

/// Keeps names for the next key that is pressed. Without a folder in memory they are kept nowhere:
/// names are not to come to lie on a disk.
fn keep(key: &str, names: &[String]) {
    let Some(file) = cache() else { return };
    let content = format!("{key}\n{}", names.join("\n")).into_bytes();
    // Not to have it only takes longer.
    files::replace(&file, &SecretBytes::from_vec(content)).unwrap_or_default();
}

fn cache() -> Option<PathBuf> {
    let folder = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
    let is_there = || -> io::Result<bool> { Ok(fs::metadata(&folder)?.is_dir()) };
    (folder.is_absolute() && is_there().unwrap_or(false)).then(|| folder.join("kista/names"))
}

/// Says which shell asks. Its own, since others mean their programs by COMPLETE.
const VARIABLE: &str = "KISTA_COMPLETE";
const PATIENCE: Duration = Duration::from_millis(300);
const KEPT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_run_is_no_candidate() {
        for name in
            ["secret/a b", "secret/$(id)", "secret/a;b", "secret/`x`", "a'b", "a\"b", "a\\b", "a*"]
        {
            assert!(!is_harmless(name), "{name}");
        }
        assert!(is_harmless("secret/app/db-1.0_å#key"));
    }

    #[test]
    fn every_argument_that_names_a_secret_is_completed() {
        fn named(command: &Command, found: &mut Vec<String>) {
            for argument in command.get_arguments() {
                if argument.get::<ArgValueCompleter>().is_some() {
                    found.push(format!("{} {}", command.get_name(), argument.get_id()));
                }
            }
            command.get_subcommands().for_each(|command| named(command, found));
        }
        let mut found = Vec::new();
        named(&definition(), &mut found);
        for expected in [
            "get references",
            "put path",
            "ls path",
            "rm path",
            "cp from",
            "cp to",
            "run env",
            "export wanted",
            "edit path",
            "import destination",
            "get context",
            "diff from",
            "use name",
        ] {
            assert!(found.iter().any(|found| found == expected), "{expected}: {found:?}");
        }
    }
}
