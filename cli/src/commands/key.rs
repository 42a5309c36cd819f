use std::path::PathBuf;

use clap::Args;
use kista::{
    backup::Key,
    seal::{Secret, keyfile},
    secret::SecretString,
};

use crate::{
    failure::Failure,
    output,
    prompt::{self, Person},
};

/// What opens a store without a server. Never on the command line itself, which the process list
/// shows.
#[derive(Debug, Args)]
#[command(next_help_heading = "What opens it")]
pub(crate) struct KeyArguments {
    /// The keyfile of a slot
    #[arg(long, value_name = "FILE", group = "opener")]
    keyfile: Option<PathBuf>,
    /// The passphrase of a slot; asked for, or read from stdin
    #[arg(long, group = "opener")]
    passphrase: bool,
    /// Shares; asked for, or read from stdin, one on each line
    #[arg(long, group = "opener")]
    shares: bool,
    /// Ask for nothing: read stdin
    #[arg(long)]
    no_input: bool,
}

impl KeyArguments {
    /// Whether anything was named.
    pub(crate) fn is_named(&self) -> bool {
        self.keyfile.is_some() || self.passphrase || self.shares
    }

    /// Reads or asks for what was named; `None` when nothing was.
    pub(crate) fn read(&self) -> Result<Option<Key>, Failure> {
        if let Some(file) = &self.keyfile {
            let key = keyfile::read(file).map_err(|error| Failure::of(&error))?;
            return Ok(Some(Key::Secret(Secret::Keyfile(key))));
        }
        let person = Person::look(self.no_input);
        if self.passphrase {
            let passphrase = match person {
                Person::Present => person.hidden("passphrase", "")?,
                Person::Absent => prompt::stdin_text()?,
            };
            return Ok(Some(Key::Secret(Secret::Passphrase(passphrase))));
        }
        if self.shares {
            return shares(person).map(|shares| Some(Key::Shares(shares)));
        }
        Ok(None)
    }
}

fn shares(person: Person) -> Result<Vec<SecretString>, Failure> {
    let mut shares = Vec::new();
    match person {
        Person::Present => {
            output::note("one share after the other; an empty one ends the asking");
            loop {
                let share = person.hidden(&format!("share {}", shares.len() + 1), "")?;
                if share.is_empty() {
                    break;
                }
                shares.push(share);
            }
        }
        Person::Absent => prompt::stdin_text()?.expose(|text| {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            shares.extend(lines.map(SecretString::copy_of));
        }),
    }
    if shares.is_empty() {
        return Err(Failure::usage("no share was given"));
    }
    Ok(shares)
}
