use clap::Args;
use clap_complete::Shell;

use crate::{
    arguments::Arguments,
    failure::{Exit, Failure},
    output::Output,
};

/// Print the script that completes commands and options in a shell.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  \
                   kista completion bash > ~/.local/share/bash-completion/completions/kista\n  \
                   kista completion zsh > ~/.zfunc/_kista     # a folder that $fpath names\n  \
                   kista completion fish > ~/.config/fish/completions/kista.fish",
    after_help = "Exit codes: 0 printed, 1 error, 2 usage."
)]
pub(crate) struct Completion {
    /// Shell that reads it
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        Output::new(false).part(&script(self.shell)?)?;
        Ok(Exit::Done)
    }
}

fn script(shell: Shell) -> Result<String, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::definition(), "kista", &mut script);
    String::from_utf8(script).map_err(|error| Failure::of(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_names_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell).unwrap();
            for command in Arguments::definition().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} {}", command.get_name());
            }
        }
    }
}
