use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, Command};

use crate::{
    arguments::Arguments,
    failure::{Exit, Failure},
    output::{self, Output},
};

/// Print the manual page, or write those of all commands into a folder.
#[derive(Debug, Args)]
#[command(
    before_help = "Example:\n  kista man | man -l -\n  \
                   kista man --dir ~/.local/share/man/man1",
    after_help = "Exit codes: 0 done, 1 error, 2 usage."
)]
pub(crate) struct Man {
    /// Folder to write the page of each command into; it is made where it is not there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        let pages = pages().map_err(|error| Failure::io("make the manual", &error))?;
        let Some(folder) = &self.dir else {
            if let Some((_, page)) = pages.first() {
                Output::new(false).part(page)?;
            }
            return Ok(Exit::Done);
        };
        fs::create_dir_all(folder).map_err(|error| {
            Failure::io(format!("make the folder {}", folder.display()), &error)
        })?;
        for (name, page) in &pages {
            let file = folder.join(name);
            write(&file, page)
                .map_err(|error| Failure::io(format!("write {}", file.display()), &error))?;
        }
        output::note(&format!("{} pages in {}", pages.len(), folder.display()));
        Ok(Exit::Done)
    }
}

/// The name of each page's file and its text, that of the program first.
fn pages() -> io::Result<Vec<(String, String)>> {
    let mut command = Arguments::definition();
    command.build();
    let mut pages = Vec::new();
    add(&command, "kista", &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, name: &str, pages: &mut Vec<(String, String)>) -> io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name).render(&mut page)?;
    let mut page = String::from_utf8(page).map_err(io::Error::other)?;
    if let Some(example) = command.get_before_help() {
        page.push_str(&examples(&example.to_string()));
    }
    pages.push((format!("{name}.1"), page));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add(below, &format!("{name}-{}", below.get_name()), pages)?;
    }
    Ok(())
}

/// The examples of the help, which the generator leaves out, line by line as they stand.
fn examples(help: &str) -> String {
    let lines = help.lines().skip(1).map(|line| line.trim_start());
    // `\&` keeps a line that begins with a dot or a quote from being a request of roff's.
    let lines: Vec<String> = lines
        .map(|line| {
            format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq"))
        })
        .collect();
    format!(".SH EXAMPLES\n.nf\n{}.fi\n", lines.concat())
}

/// A page is for everybody, unlike all else that this program writes.
fn write(file: &Path, page: &str) -> io::Result<()> {
    fs::write(file, page)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_that_others_may_read() {
        let pages = pages().unwrap();
        assert_eq!(pages.first().unwrap().0, "kista.1");
        for name in ["kista-put.1", "kista-operator-rotate.1", "kista-context-ls.1"] {
            assert!(pages.iter().any(|(page, _)| page == name), "{name}");
        }
        assert!(pages.iter().all(|(_, page)| page.contains(".SH SYNOPSIS")));
        let (_, first) = pages.first().unwrap();
        assert!(first.contains(".nf\n\\&kista up "), "{first}");
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("share/man1");
        Man { dir: Some(dir.clone()) }.run().unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), pages.len());
        let mode = fs::metadata(dir.join("kista.1")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }
}
