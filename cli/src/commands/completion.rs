use clap::{Args, ValueEnum};

use crate::{
    completing,
    failure::{Exit, Failure},
    output::Output,
};

/// Print the script that completes commands, options, contexts, paths and keys in a shell.
///
/// The script asks this program, which asks the server for the names that the token may see: within 300
/// milliseconds, or it offers none. Names that a shell would take for more than one word are left out.
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
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Elvish,
    Powershell,
}

impl Completion {
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        Output::new(false).part(&completing::script(self.shell.name())?)?;
        Ok(Exit::Done)
    }
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Elvish => "elvish",
            Self::Powershell => "powershell",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_has_a_script_that_asks_this_program() {
        for shell in Shell::value_variants() {
            let script = completing::script(shell.name()).unwrap();
            assert!(script.contains("KISTA_COMPLETE"), "{shell:?}");
        }
    }
}
